//! Float matrices of the blocks, made into quantised ones when a model is loaded.
//!
//! The tables of tokens and positions, of which single rows are read, the output matrix, the router of a mixture and all
//! vectors stay as they are; so does a matrix whose rows are no whole number of blocks, one without elements, and one that holds
//! NaN or infinity, which `take` reports. Matrices become quantised one after another, and those of a mapped file leave memory behind it.

use super::{Stored, Tensor, Weights};
use crate::quant::{self, Dtype};
use crate::{Error, Result};

/// What becomes quantised; what is quantised already stays as it is.
const FLOATS: [Dtype; 3] = [Dtype::F32, Dtype::F16, Dtype::BF16];

impl Weights {
    /// Makes the blocks' float matrices into `dtype`, and says how many there were.
    ///
    /// # Errors
    /// [`Error::Unsupported`] for another type than Q8_0.
    pub fn requantise(&mut self, dtype: Dtype) -> Result<usize> {
        if dtype != Dtype::Q8_0 {
            return Err(Error::unsupported(format!("weights that are made {dtype} at load"), "q8_0; GGUF files of any type"));
        }
        let mut count = 0;
        for (name, (_, entry)) in &mut self.tensors {
            let in_block = name.starts_with("blk.") && name.ends_with(".weight") && !name.contains("ffn_gate_inp");
            let stored = match entry {
                Tensor::Stored(stored) | Tensor::Transposed(stored) if in_block => stored,
                Tensor::Stored(_) | Tensor::Transposed(_) | Tensor::Foreign { .. } => continue,
            };
            let is_sound = quant::first_non_finite(stored.dtype, &stored.data).is_none();
            if stored.shape.len() != 2 || stored.elements() == 0 || !FLOATS.contains(&stored.dtype) || !is_sound {
                continue;
            }
            let plain = match &*entry {
                Tensor::Transposed(stored) => stored.clone().transposed()?,
                Tensor::Stored(stored) => stored.clone(),
                Tensor::Foreign { .. } => continue,
            };
            if !plain.shape[1].is_multiple_of(dtype.block()) {
                continue;
            }
            *entry = Tensor::Stored(q8_0(plain)?);
            count += 1;
        }
        Ok(count)
    }
}

fn q8_0(stored: Stored) -> Result<Stored> {
    let (rows, cols) = stored.matrix()?;
    let mut row = vec![0.0; cols];
    let mut data = Vec::with_capacity(rows * cols / Dtype::Q8_0.block() * Dtype::Q8_0.block_bytes());
    for i in 0..rows {
        stored.row_to_f32(i, &mut row);
        quant::quantise_q8_0(&row, &mut data);
    }
    stored.data.release();
    Ok(Stored { dtype: Dtype::Q8_0, data: data.into(), ..stored })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn floats(values: &[f32]) -> Vec<u8> {
        values.iter().flat_map(|v| v.to_le_bytes()).collect()
    }

    fn weights(tensors: &[(&str, &[usize], Vec<f32>)]) -> Weights {
        let mut weights = Weights::new("m");
        for (name, shape, values) in tensors {
            let (name, shape, data) = ((*name).to_owned(), shape.to_vec(), floats(values).into());
            weights.insert(Stored { name, dtype: Dtype::F32, shape, data }).unwrap();
        }
        weights
    }

    #[test]
    fn matrices_of_blocks_become_q8_0_and_nothing_else_does() {
        let values = |n: usize| (0..n).map(|i| (i as f32 * 0.37).sin()).collect::<Vec<f32>>();
        let mut bad = values(64);
        bad[40] = f32::NAN;
        let mut all = weights(&[
            ("blk.0.attn_q.weight", &[2, 64], values(128)),
            ("blk.0.attn_q.bias", &[64], values(64)),
            ("blk.0.attn_norm.weight", &[64], values(64)),
            ("blk.0.ffn_gate_inp.weight", &[2, 32], values(64)),
            ("blk.0.ffn_up.weight", &[2, 48], values(96)),
            ("blk.0.ffn_down.weight", &[2, 32], bad),
            ("blk.1.attn_q.weight", &[1 << 60, 0], Vec::new()),
            ("blk.1.attn_k.weight", &[0, 64], Vec::new()),
            ("token_embd.weight", &[2, 32], values(64)),
        ]);
        assert_eq!(all.requantise(Dtype::Q8_0).unwrap(), 1);
        let dtype = |weights: &Weights, name: &str| weights.get(name).unwrap().dtype;
        assert_eq!(dtype(&all, "blk.0.attn_q.weight"), Dtype::Q8_0);
        for name in ["blk.0.attn_q.bias", "blk.0.attn_norm.weight", "blk.0.ffn_gate_inp.weight", "blk.0.ffn_up.weight"] {
            assert_eq!(dtype(&all, name), Dtype::F32, "{name}");
        }
        assert!(all.take("blk.0.ffn_down.weight", &[2, 32]).unwrap_err().to_string().contains("NaN"));
        let got = all.take("blk.0.attn_q.weight", &[2, 64]).unwrap().to_f32();
        // Half a step of the block's scale, and what f16 rounds off the scale.
        assert!(got.iter().zip(values(128)).all(|(a, b)| (a - b).abs() < 0.55 / 127.0));
        assert!(matches!(all.requantise(Dtype::Q4_0), Err(Error::Unsupported { .. })));
    }

    #[test]
    fn a_transposed_matrix_is_turned_before_it_is_quantised() {
        let values: Vec<f32> = (0..64).map(|i| i as f32 - 20.0).collect();
        let mut all = weights(&[("w", &[32, 2], values.clone())]);
        let (_, (file, tensor)) = all.tensors.pop_first().unwrap();
        let Tensor::Stored(stored) = tensor else { panic!("it was stored plain") };
        all.tensors.insert("blk.0.attn_qkv.weight".into(), (file, Tensor::Transposed(stored)));
        assert_eq!(all.requantise(Dtype::Q8_0).unwrap(), 1);
        let got = all.take("blk.0.attn_qkv.weight", &[2, 32]).unwrap().to_f32();
        for row in 0..2 {
            for col in 0..32 {
                assert!((got[row * 32 + col] - values[col * 2 + row]).abs() < 0.2);
            }
        }
    }
}
