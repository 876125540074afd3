//! The way of texts through the network.
//!
//! Texts go through in windows of several forwards, so that the tokens of a million texts are never in memory at once, and what
//! comes out of a stream comes every few seconds. Within a window they are sorted by length, longest first, and packed up to
//! the budget of a forward. Nothing is padded, so a larger window would gain nothing.

use super::pool;
use super::recipe::{EmbedModel, Embeddings, Recipe, Truncated};
use super::tokenise::tokenised;
use crate::backend::Batch;
use crate::error::Result;
use crate::options::Pooling;
use ndarray::Array2;

/// A window ends behind this number of texts, or of bytes of text.
pub(super) const WINDOW_TEXTS: usize = 1024;
pub(super) const WINDOW_BYTES: usize = 1 << 15;

/// Rows of `dim` values.
pub(super) fn rows(values: Vec<f32>, rows: usize, dim: usize) -> Array2<f32> {
    Array2::from_shape_vec((rows, dim), values).expect("there are `dim` values for each row")
}

/// How many of the first texts make a window.
pub(super) fn window<S: AsRef<str>>(texts: &[S]) -> usize {
    let mut bytes = 0;
    let mut within = |text: &S| {
        bytes += text.as_ref().len();
        bytes <= WINDOW_BYTES
    };
    texts.iter().take(WINDOW_TEXTS).take_while(|text| within(text)).count().max(1).min(texts.len())
}

/// All texts, with a warning for those that were cut.
pub(super) fn run<S: AsRef<str>>(model: &EmbedModel, recipe: &Recipe, texts: &[S]) -> Result<Embeddings> {
    let (mut tokens, mut truncated) = (Vec::with_capacity(texts.len()), Vec::new());
    let mut out = Vec::new();
    if recipe.pooling == Pooling::None {
        let mut rest = texts;
        while !rest.is_empty() {
            let (window, after) = rest.split_at(window(rest));
            let ids = tokenised(model, recipe, window, texts.len() - rest.len(), &mut truncated)?;
            let start = out.len();
            out.resize(start + ids.iter().map(Vec::len).sum::<usize>() * recipe.dim, 0.0);
            compute(model, recipe, &ids, &mut out[start..])?;
            tokens.extend(ids.iter().map(Vec::len));
            rest = after;
        }
    } else {
        out = vec![0.0; texts.len() * recipe.dim];
        fill(model, recipe, texts, &mut out, &mut tokens, &mut truncated)?;
    }
    recipe.warn(truncated.first(), truncated.len(), texts.len());
    let count = out.len() / recipe.dim;
    Ok(Embeddings { vectors: rows(out, count, recipe.dim), tokens, truncated })
}

/// A vector for each text into `out`, window by window.
pub(super) fn fill<S: AsRef<str>>(
    model: &EmbedModel,
    recipe: &Recipe,
    texts: &[S],
    out: &mut [f32],
    tokens: &mut Vec<usize>,
    truncated: &mut Vec<Truncated>,
) -> Result<()> {
    let (mut rest, mut out) = (texts, out);
    while !rest.is_empty() {
        let (window, after) = rest.split_at(window(rest));
        let (part, out_after) = out.split_at_mut(window.len() * recipe.dim);
        let ids = tokenised(model, recipe, window, texts.len() - rest.len(), truncated)?;
        compute(model, recipe, &ids, part)?;
        tokens.extend(ids.iter().map(Vec::len));
        (rest, out) = (after, out_after);
    }
    Ok(())
}

/// The vectors of tokenised texts into `out`: a row for each, or, without a pooling, one for each token.
pub(super) fn compute<T: AsRef<[u32]>>(model: &EmbedModel, recipe: &Recipe, texts: &[T], out: &mut [f32]) -> Result<()> {
    let lens: Vec<usize> = texts.iter().map(|ids| ids.as_ref().len()).collect();
    let firsts = match recipe.pooling {
        Pooling::None => lens.iter().scan(0, |at, len| Some(std::mem::replace(at, *at + len))).collect(),
        _ => (0..texts.len()).collect::<Vec<_>>(),
    };
    let mut order: Vec<usize> = (0..texts.len()).filter(|i| lens[*i] > 0).collect();
    order.sort_by_key(|i| std::cmp::Reverse(lens[*i]));
    let (mut batch, mut hidden, mut dense) = (Batch::default(), Vec::new(), pool::PoolScratch::default());
    let mut order = order.as_slice();
    while !order.is_empty() {
        recipe.check_cancelled()?;
        let (now, later) = order.split_at(packed(order, &lens, recipe.options.batch_tokens));
        order = later;
        batch.clear();
        for &i in now {
            let start = batch.tokens.len();
            batch.starts.push(start);
            batch.tokens.extend_from_slice(texts[i].as_ref());
            batch.outputs.extend(pool::wanted(recipe, lens[i]).map(|row| start + row));
        }
        let network = &model.loaded.network;
        network.hidden(&batch, &mut [], &mut hidden)?;
        let mut rest = hidden.as_slice();
        for &i in now {
            let count = pool::wanted(recipe, lens[i]).len();
            let (rows, after) = rest.split_at(count * network.spec().dim);
            rest = after;
            let out_rows = if recipe.pooling == Pooling::None { lens[i] } else { 1 };
            let out = &mut out[firsts[i] * recipe.dim..][..out_rows * recipe.dim];
            pool::vectors(recipe, &model.spec.dense, rows, &mut dense, out)?;
        }
    }
    Ok(())
}

/// How many of the first texts of `order` fit into one forward; at least one.
fn packed(order: &[usize], lens: &[usize], budget: usize) -> usize {
    let mut tokens = 0;
    let mut fits = |i: &usize| {
        tokens += lens[*i];
        tokens <= budget
    };
    order.iter().copied().take_while(|i| fits(i)).count().max(1)
}
