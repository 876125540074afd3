//! From the hidden states of one text's tokens to its vector: pooling, dense layers, the first dimensions, the length.
//!
//! Sums are made in f64, token after token, so that a mean over many tokens is as exact as its terms. A vector of zeros stays
//! what it is, as in sentence-transformers, which divides by no less than 1e-12.

use super::recipe::{Norm, Recipe};
use crate::checkpoint::DenseLayer;
use crate::cpu::Kernels;
use crate::error::Result;
use crate::options::Pooling;
use std::ops::Range;

/// Buffers that are used again for each text.
#[derive(Default)]
pub(super) struct PoolScratch {
    sums: Vec<f64>,
    a: Vec<f32>,
    b: Vec<f32>,
}

/// Which rows of a text of `len` tokens are pooled. A prompt that is not pooled leaves at least one.
pub(super) fn wanted(recipe: &Recipe, len: usize) -> Range<usize> {
    let first = recipe.skip.min(len.saturating_sub(1));
    match recipe.pooling {
        Pooling::None => 0..len,
        Pooling::Mean | Pooling::Max => first..len,
        Pooling::Cls => first..(first + 1).min(len),
        Pooling::Last => len.saturating_sub(1)..len,
    }
}

/// The vector of a text from the hidden states of its [`wanted`] rows; without a pooling a vector for each of them.
pub(super) fn vectors(
    recipe: &Recipe,
    dense: &[DenseLayer],
    hidden: &[f32],
    scratch: &mut PoolScratch,
    out: &mut [f32],
) -> Result<()> {
    if recipe.pooling == Pooling::None {
        for (hidden, out) in hidden.chunks_exact(recipe.width).zip(out.chunks_exact_mut(recipe.dim)) {
            finish(recipe, hidden, out);
        }
        return Ok(());
    }
    let width = dense.first().map_or(recipe.width, |dense| dense.inputs);
    scratch.a.clear();
    scratch.a.resize(width, 0.0);
    pooled(recipe.pooling, hidden, &mut scratch.sums, &mut scratch.a);
    for dense in dense {
        apply(dense, &scratch.a, &mut scratch.b)?;
        std::mem::swap(&mut scratch.a, &mut scratch.b);
    }
    finish(recipe, &scratch.a, out);
    Ok(())
}

fn pooled(pooling: Pooling, hidden: &[f32], sums: &mut Vec<f64>, out: &mut [f32]) {
    let rows = hidden.chunks_exact(out.len());
    match pooling {
        Pooling::Mean => {
            let count = rows.len().max(1) as f64;
            sums.clear();
            sums.resize(out.len(), 0.0);
            for row in rows {
                sums.iter_mut().zip(row).for_each(|(sum, x)| *sum += f64::from(*x));
            }
            out.iter_mut().zip(sums).for_each(|(out, sum)| *out = (*sum / count) as f32);
        }
        Pooling::Max => {
            out.fill(f32::NEG_INFINITY);
            for row in rows {
                out.iter_mut().zip(row).for_each(|(out, x)| *out = out.max(*x));
            }
        }
        // The one row that was wanted.
        Pooling::Cls | Pooling::Last | Pooling::None => out.copy_from_slice(&hidden[..out.len()]),
    }
}

fn apply(dense: &DenseLayer, x: &[f32], out: &mut Vec<f32>) -> Result<()> {
    let dot = |row: &[f32]| row.iter().zip(x).map(|(w, x)| f64::from(*w) * f64::from(*x)).sum::<f64>();
    out.clear();
    out.extend(dense.weight.chunks_exact(dense.inputs).map(|row| dot(row) as f32));
    if let Some(bias) = &dense.bias {
        out.iter_mut().zip(bias).for_each(|(out, bias)| *out += bias);
    }
    if let Some(act) = dense.act {
        Kernels::get()?.activate(act, out);
    }
    Ok(())
}

/// Keeps the first dimensions, and divides them by a length where that is wanted.
fn finish(recipe: &Recipe, x: &[f32], out: &mut [f32]) {
    out.copy_from_slice(&x[..out.len()]);
    if let Some(norm) = recipe.norm {
        let counted = match norm {
            Norm::Whole => x,
            Norm::Kept => &x[..out.len()],
        };
        let length = counted.iter().map(|x| f64::from(*x) * f64::from(*x)).sum::<f64>().sqrt().max(1e-12);
        out.iter_mut().for_each(|x| *x = (f64::from(*x) / length) as f32);
    }
}
