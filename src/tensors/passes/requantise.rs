//! Float matrices of the blocks, made into quantised ones.
//!
//! The tables of tokens and positions, of which single rows are read, the output matrix, the router of a mixture and all
//! vectors stay as they are; so does a matrix whose rows are no whole number of blocks, and one without elements. The
//! experts that a file holds as one tensor are matrices below each other.

use super::Pass;
use crate::quant::{self, Dtype};
use crate::tensors::{Form, Stored};
use crate::{Error, Result};

/// What becomes quantised; what is quantised already stays as it is.
const FLOATS: [Dtype; 3] = [Dtype::F32, Dtype::F16, Dtype::BF16];

/// Quantises the blocks' float matrices.
#[derive(Debug)]
pub struct Requantise {
    dtype: Dtype,
}

impl Requantise {
    /// To `dtype`.
    ///
    /// # Errors
    /// [`Error::Unsupported`] for another type than Q8_0.
    pub fn to(dtype: Dtype) -> Result<Requantise> {
        match dtype {
            Dtype::Q8_0 => Ok(Requantise { dtype }),
            _ => Err(Error::unsupported(format!("weights that are made {dtype} at load"), "q8_0; GGUF files of any type")),
        }
    }

    fn is_wanted(&self, name: &str, form: &Form) -> bool {
        let in_block = name.starts_with("blk.") && name.ends_with(".weight") && !name.contains("ffn_gate_inp");
        let [.., _, columns] = *form.shape else { return false };
        let is_empty = form.shape.contains(&0);
        in_block && !is_empty && FLOATS.contains(&form.dtype) && columns.is_multiple_of(self.dtype.block())
    }
}

impl Pass for Requantise {
    fn form(&self, name: &str, _stored: &Stored, form: Form) -> Form {
        if self.is_wanted(name, &form) { Form { dtype: self.dtype, ..form } } else { form }
    }

    fn apply(&self, name: &str, tensor: Stored) -> Result<Stored> {
        Ok(if self.is_wanted(name, &tensor.form()) { q8_0(tensor) } else { tensor })
    }
}

/// The same tensor in Q8_0; its rows are whole blocks.
fn q8_0(tensor: Stored) -> Stored {
    let columns = tensor.shape.last().copied().unwrap_or_default();
    let (rows, bytes) = (tensor.elements() / columns, columns * tensor.dtype.block_bytes());
    let mut row = vec![0.0; columns];
    let mut data = Vec::with_capacity(rows * columns / Dtype::Q8_0.block() * Dtype::Q8_0.block_bytes());
    for stored in tensor.data.chunks_exact(bytes) {
        quant::dequantise(tensor.dtype, stored, &mut row);
        quant::quantise_q8_0(&row, &mut data);
    }
    tensor.data.release();
    Stored { dtype: Dtype::Q8_0, data: data.into(), ..tensor }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tensors::Weights;
    use crate::tensors::names::GPT2;

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

    fn values(n: usize) -> Vec<f32> {
        (0..n).map(|i| (i as f32 * 0.37).sin()).collect()
    }

    /// Half a step of the block's scale, and what f16 rounds off the scale.
    fn is_near(got: &[f32], expected: &[f32]) -> bool {
        got.len() == expected.len() && got.iter().zip(expected).all(|(a, b)| (a - b).abs() < 0.55 / 127.0)
    }

    #[test]
    fn matrices_of_blocks_become_q8_0_and_nothing_else_does() {
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
        let changed = ["blk.0.attn_q.weight", "blk.0.ffn_down.weight"];
        assert_eq!(all.through(Requantise::to(Dtype::Q8_0).unwrap()), changed.len());
        for (stored, form) in all.forms() {
            let expected = if changed.contains(&stored.name.as_str()) { Dtype::Q8_0 } else { Dtype::F32 };
            assert_eq!((form.dtype, &form.shape), (expected, &stored.shape), "{}", stored.name);
        }
        assert!(all.take("blk.0.ffn_down.weight", &[2, 32]).unwrap_err().to_string().contains("NaN"));
        let taken = all.take("blk.0.attn_q.weight", &[2, 64]).unwrap();
        assert_eq!(taken.dtype, Dtype::Q8_0);
        assert!(is_near(&taken.to_f32(), &values(128)));
        assert_eq!(all.take("blk.0.attn_norm.weight", &[64]).unwrap().dtype, Dtype::F32);
        assert!(matches!(Requantise::to(Dtype::Q4_0), Err(Error::Unsupported { .. })));
    }

    #[test]
    fn experts_become_q8_0_whether_a_file_holds_them_as_one_tensor_or_as_several() {
        let expert = |i: usize| values(128)[i * 64..][..64].to_vec();
        let mut stacked = weights(&[("blk.0.ffn_up_exps.weight", &[2, 2, 32], values(128))]);
        let mut single =
            weights(&[("blk.0.ffn_up.0.weight", &[2, 32], expert(0)), ("blk.0.ffn_up.1.weight", &[2, 32], expert(1))]);
        assert_eq!(stacked.through(Requantise::to(Dtype::Q8_0).unwrap()), 1);
        assert_eq!(single.through(Requantise::to(Dtype::Q8_0).unwrap()), 2);
        for (i, name) in ["blk.0.ffn_up.0.weight", "blk.0.ffn_up.1.weight"].into_iter().enumerate() {
            let (a, b) = (stacked.take(name, &[2, 32]).unwrap(), single.take(name, &[2, 32]).unwrap());
            assert_eq!((a.dtype, b.dtype), (Dtype::Q8_0, Dtype::Q8_0));
            assert_eq!(*a.data, *b.data);
            assert!(is_near(&a.to_f32(), &expert(i)));
        }
    }

    #[test]
    fn a_transposed_matrix_is_turned_before_it_is_quantised() {
        let stored: Vec<f32> = (0..64).map(|i| i as f32 - 20.0).collect();
        let mut all = weights(&[("h.0.attn.c_attn.weight", &[32, 2], stored.clone())]).renamed(GPT2).unwrap();
        assert_eq!(all.through(Requantise::to(Dtype::Q8_0).unwrap()), 1);
        let got = all.take("blk.0.attn_qkv.weight", &[2, 32]).unwrap();
        assert_eq!(got.dtype, Dtype::Q8_0);
        let got = got.to_f32();
        for row in 0..2 {
            for col in 0..32 {
                assert!((got[row * 32 + col] - stored[col * 2 + row]).abs() < 0.2);
            }
        }
    }
}
