//! Tensors as they lie in a model's files, whichever the format: looked up by name, checked, handed over one at a time.
//!
//! [`Gguf`] and [`safetensors`] read the structure of a file and never its tensors: those stay [`Bytes`] of the mapping until
//! somebody converts them. [`Weights::take`] hands a tensor over for good, so that a loader which converts and drops them in
//! turn holds the weights once. Every count, length and offset that a file states is checked before it is used.

mod gguf;
pub mod names;
mod requantise;
pub mod safetensors;
#[cfg(test)]
mod scratch;
mod vocab;

pub use gguf::{Array, Gguf, Metadata, Value, header_len as gguf_header_len};
pub use vocab::vocab;

use crate::cancel::Cancel;
use crate::quant::{self, Dtype};
use crate::{Bytes, Error, Result};
use names::{Layout, Names};
use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::sync::Arc;

/// A tensor as a file holds it.
#[derive(Debug, Clone)]
pub struct Stored {
    /// The name in the file.
    pub name: String,
    /// How the elements are encoded.
    pub dtype: Dtype,
    /// Outermost dimension first: `(rows, cols)` for a matrix whose rows are contiguous. The reverse of GGUF's order.
    pub shape: Vec<usize>,
    /// The elements; exactly as many bytes as `shape` and `dtype` need.
    pub data: Bytes,
}

impl Stored {
    /// Number of elements.
    pub fn elements(&self) -> usize {
        self.shape.iter().product()
    }

    /// All elements, in the order of `shape`.
    pub fn to_f32(&self) -> Vec<f32> {
        let mut out = vec![0.0; self.elements()];
        quant::dequantise(self.dtype, &self.data, &mut out);
        out
    }

    /// Row `row` of a matrix, into as many values as it has columns.
    pub fn row_to_f32(&self, row: usize, out: &mut [f32]) {
        let bytes = self.data.len() / self.shape[0];
        quant::dequantise(self.dtype, &self.data[row * bytes..(row + 1) * bytes], out);
    }

    /// Rows and columns.
    pub fn matrix(&self) -> Result<(usize, usize)> {
        match *self.shape {
            [rows, cols] => Ok((rows, cols)),
            _ => Err(Error::corrupt(&self.name, format!("is {}, expected a matrix", by(&self.shape)))),
        }
    }

    /// Rows for columns. Only float matrices are ever stored so.
    fn transposed(self) -> Result<Stored> {
        let (rows, cols) = self.matrix()?;
        if self.dtype.is_quantised() {
            return Err(Error::unsupported(format!("tensor {}: a transposed {} matrix", self.name, self.dtype), float_types()));
        }
        let size = self.dtype.block_bytes();
        let mut data = vec![0; self.data.len()];
        for (col, out) in data.chunks_exact_mut(rows * size).enumerate() {
            for (row, out) in out.chunks_exact_mut(size).enumerate() {
                out.copy_from_slice(&self.data[(row * cols + col) * size..][..size]);
            }
        }
        Ok(Stored { shape: vec![cols, rows], data: data.into(), ..self })
    }
}

/// The tensors of a model.
#[derive(Debug)]
pub struct Weights {
    file: Arc<str>,
    tensors: BTreeMap<String, (Arc<str>, Tensor)>,
    /// How the names above came about, where they are not the file's own.
    names: Option<Names>,
    /// Ends the taking of tensors.
    cancel: Option<Cancel>,
}

#[derive(Debug)]
enum Tensor {
    Stored(Stored),
    /// Stored with rows for columns.
    Transposed(Stored),
    /// Of a type that no weight has. Such buffers (masks, position ids) do no harm unless somebody wants their values.
    Foreign {
        dtype: String,
        shape: Vec<usize>,
    },
}

impl Weights {
    /// No tensors yet, of the file or folder `file`.
    pub fn new(file: &str) -> Self {
        Weights { file: file.into(), tensors: BTreeMap::new(), names: None, cancel: None }
    }

    /// Lets `cancel` end a load: once it is cancelled, [`Weights::take`] is [`Error::Cancelled`].
    pub(crate) fn end_with(&mut self, cancel: Cancel) {
        self.cancel = Some(cancel);
    }

    /// Adds a tensor; a second one of the same name is an error.
    pub fn insert(&mut self, tensor: Stored) -> Result<()> {
        let file = self.file.clone();
        self.add(file, tensor.name.clone(), Tensor::Stored(tensor))
    }

    fn add(&mut self, file: Arc<str>, name: String, tensor: Tensor) -> Result<()> {
        match self.tensors.entry(name) {
            Entry::Vacant(vacant) => vacant.insert((file, tensor)),
            Entry::Occupied(entry) => return Err(Error::corrupt(file, format!("tensor {} occurs twice", entry.key()))),
        };
        Ok(())
    }

    /// Adds the tensors of another part of the same model.
    fn join(&mut self, part: Weights) -> Result<()> {
        part.tensors.into_iter().try_for_each(|(name, (file, tensor))| self.add(file, name, tensor))
    }

    /// The same tensors under GGUF's names. Those that `names` does not know keep theirs.
    pub fn renamed(self, names: Names) -> Result<Weights> {
        let mut renamed = Weights { tensors: BTreeMap::new(), names: Some(names), ..Weights::new(&self.file) };
        for (name, (file, tensor)) in self.tensors {
            let (name, layout) = names::gguf_name(names, &name).unwrap_or((name, Layout::Plain));
            let tensor = match (tensor, layout) {
                (Tensor::Stored(stored), Layout::Transposed) => Tensor::Transposed(stored),
                (tensor, _) => tensor,
            };
            renamed.add(file, name, tensor)?;
        }
        Ok(renamed)
    }

    /// How the file spells one of our names, for messages.
    fn spelling(&self, name: &str) -> String {
        self.names.and_then(|names| names::stored_name(names, name)).unwrap_or_else(|| name.to_owned())
    }

    /// The file or folder, for messages.
    pub fn file(&self) -> &str {
        &self.file
    }

    /// Number of tensors that have not been taken.
    pub fn len(&self) -> usize {
        self.tensors.len()
    }

    /// Whether there are none, or all have been taken.
    pub fn is_empty(&self) -> bool {
        self.tensors.is_empty()
    }

    /// The names of the tensors that have not been taken, sorted.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.tensors.keys().map(String::as_str)
    }

    /// Whether there is such a tensor, of whatever type.
    pub fn contains(&self, name: &str) -> bool {
        self.tensors.contains_key(name)
    }

    /// The shape of a tensor of whatever type as the file has it, outermost dimension first.
    pub fn shape(&self, name: &str) -> Option<&[usize]> {
        match &self.tensors.get(name)?.1 {
            Tensor::Stored(stored) | Tensor::Transposed(stored) => Some(&stored.shape),
            Tensor::Foreign { shape, .. } => Some(shape),
        }
    }

    /// Every tensor that can be read, as the file has it.
    pub fn stored(&self) -> impl Iterator<Item = &Stored> {
        self.tensors.values().filter_map(|(_, tensor)| match tensor {
            Tensor::Stored(stored) | Tensor::Transposed(stored) => Some(stored),
            Tensor::Foreign { .. } => None,
        })
    }

    /// A tensor, as it lies; `None` also if it is of a type that can not be read, which [`Weights::contains`] tells apart.
    pub fn get(&self, name: &str) -> Option<&Stored> {
        match &self.tensors.get(name)?.1 {
            Tensor::Stored(stored) => Some(stored),
            Tensor::Transposed(_) | Tensor::Foreign { .. } => None,
        }
    }

    /// Hands over the tensor `name`, which must have `shape` (outermost dimension first) and hold numbers only.
    ///
    /// The search for NaN and infinity reads all values of a float tensor, but only the scales of a quantised one: with
    /// finite scales every value is finite. Whoever takes a tensor is about to read it, so this mostly warms the cache.
    pub fn take(&mut self, name: &str, shape: &[usize]) -> Result<Stored> {
        self.cancel.as_ref().map_or(Ok(()), Cancel::check)?;
        let spelling = self.spelling(name);
        if let Some(tensor) = self.expert(name, shape)? {
            self.tensors.insert(name.to_owned(), (self.file.clone(), Tensor::Stored(tensor)));
        }
        let Some((file, tensor)) = self.tensors.get(name) else {
            return Err(Error::corrupt(&self.file, format!("tensor {spelling} is missing")));
        };
        let (found, transposed) = match tensor {
            Tensor::Stored(stored) => (&stored.shape, false),
            Tensor::Transposed(stored) => (&stored.shape, true),
            Tensor::Foreign { shape, .. } => (shape, false),
        };
        let expected: Vec<usize> = if transposed { shape.iter().rev().copied().collect() } else { shape.to_vec() };
        if *found != expected {
            let why = format!("tensor {spelling} is {}, expected {}", by(found), by(&expected));
            return Err(Error::corrupt(file, why));
        }
        match tensor {
            Tensor::Foreign { dtype, .. } => {
                return Err(Error::unsupported(format!("{file}: tensor {spelling} of type {dtype}"), float_types()));
            }
            Tensor::Stored(stored) | Tensor::Transposed(stored) => {
                if let Some(element) = quant::first_non_finite(stored.dtype, &stored.data) {
                    let place = if stored.dtype.is_quantised() { "in the block at" } else { "at" };
                    let why = format!("tensor {spelling} holds NaN or infinity {place} element {element}");
                    return Err(Error::corrupt(file, why));
                }
            }
        }
        match self.tensors.remove(name) {
            Some((_, Tensor::Stored(stored))) => Ok(stored),
            Some((_, Tensor::Transposed(stored))) => stored.transposed(),
            _ => unreachable!("the tensor was found above"),
        }
    }

    /// A tensor of one expert, `blk.0.ffn_up.3.weight`, where the file has those of all experts as one, `blk.0.ffn_up_exps.weight`.
    fn expert(&self, name: &str, shape: &[usize]) -> Result<Option<Stored>> {
        let number = |part: &str| part.parse::<usize>().ok();
        let parts = name.strip_suffix(".weight").and_then(|stem| stem.rsplit_once('.'));
        let Some((stem, expert)) = parts.and_then(|(stem, last)| Some((stem, number(last)?))) else { return Ok(None) };
        let Some(all) = self.get(&format!("{stem}_exps.weight")) else { return Ok(None) };
        if all.shape.len() != 3 || all.shape[1..] != *shape || expert >= all.shape[0] {
            let why = format!("tensor {} is {}, expected experts of {}", all.name, by(&all.shape), by(shape));
            return Err(Error::corrupt(&self.file, why));
        }
        let bytes = all.data.len() / all.shape[0];
        let data = all.data.slice(expert * bytes..(expert + 1) * bytes).expect("the range lies within the tensor's bytes");
        Ok(Some(Stored { name: name.to_owned(), dtype: all.dtype, shape: shape.to_vec(), data }))
    }

    /// Hands over a vector of `len` values, widened.
    pub fn take_vector(&mut self, name: &str, len: usize) -> Result<Vec<f32>> {
        Ok(self.take(name, &[len])?.to_f32())
    }
}

/// `576x1536`.
fn by(shape: &[usize]) -> String {
    if shape.is_empty() {
        return "a single value".into();
    }
    shape.iter().map(usize::to_string).collect::<Vec<_>>().join("x")
}

fn float_types() -> String {
    Dtype::all().filter(|dtype| !dtype.is_quantised()).map(Dtype::name).collect::<Vec<_>>().join(", ")
}

/// What a file that is no model file of ours begins with, and what it then is.
fn other_kind(bytes: &[u8]) -> Option<&'static str> {
    const KINDS: [(&[u8], &str); 8] = [
        (b"GGUF", "a GGUF file"),
        (b"version https://git-lfs", "a Git LFS pointer, not the file itself (`git lfs pull` fetches it)"),
        (b"PK\x03\x04", "a zip archive, as PyTorch writes them; tallow does not run the Python pickle inside"),
        (b"\x80\x02", "a Python pickle, which tallow does not run"),
        (b"<!DOCTYPE", "a web page"),
        (b"<!doctype", "a web page"),
        (b"<html", "a web page"),
        (b"{", "JSON"),
    ];
    let kind = KINDS.iter().find(|(magic, _)| bytes.starts_with(magic)).map(|(_, kind)| *kind);
    kind.or_else(|| (bytes.get(8) == Some(&b'{')).then_some("a safetensors file"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn stored(name: &str, dtype: Dtype, shape: &[usize], data: Vec<u8>) -> Stored {
        Stored { name: name.into(), dtype, shape: shape.into(), data: data.into() }
    }

    fn floats(values: &[f32]) -> Vec<u8> {
        values.iter().flat_map(|v| v.to_le_bytes()).collect()
    }

    fn weights(tensors: impl IntoIterator<Item = Stored>) -> Weights {
        let mut weights = Weights::new("model.gguf");
        tensors.into_iter().for_each(|t| weights.insert(t).unwrap());
        weights
    }

    #[test]
    fn a_taken_tensor_is_gone_and_its_neighbours_are_not() {
        let mut weights =
            weights([stored("a", Dtype::F32, &[2, 1], floats(&[1.0, -2.0])), stored("b", Dtype::F32, &[1], floats(&[3.0]))]);
        let a = weights.take("a", &[2, 1]).unwrap();
        assert_eq!(a.to_f32(), [1.0, -2.0]);
        assert_eq!(weights.names().collect::<Vec<_>>(), ["b"]);
        assert_eq!(weights.take("a", &[2, 1]).unwrap_err().to_string(), "model.gguf: tensor a is missing");
    }

    #[test]
    fn a_cancelled_load_ends_before_the_next_tensor() {
        let mut weights = weights(["a", "b"].map(|name| stored(name, Dtype::F32, &[1], floats(&[1.0]))));
        let cancel = Cancel::default();
        weights.end_with(cancel.clone());
        assert!(weights.take("a", &[1]).is_ok());
        cancel.cancel();
        assert!(matches!(weights.take("b", &[1]), Err(Error::Cancelled)));
    }

    #[test]
    fn a_misshapen_tensor_is_an_error_and_stays() {
        let mut weights = weights([stored("blk.0.attn_q.weight", Dtype::F32, &[2, 2], floats(&[0.0; 4]))]);
        let error = weights.take("blk.0.attn_q.weight", &[2, 3]).unwrap_err();
        assert_eq!(error.to_string(), "model.gguf: tensor blk.0.attn_q.weight is 2x2, expected 2x3");
        assert!(weights.contains("blk.0.attn_q.weight"));
    }

    #[test]
    fn nan_and_infinite_weights_are_errors_that_name_the_tensor() {
        for bad in [f32::NAN, f32::INFINITY, f32::NEG_INFINITY] {
            let mut values = vec![1.0; 5000];
            values[4321] = bad;
            let mut weights = weights([stored("norm", Dtype::F32, &[5000], floats(&values))]);
            let error = weights.take("norm", &[5000]).unwrap_err();
            assert_eq!(error.to_string(), "model.gguf: tensor norm holds NaN or infinity at element 4321");
        }
        let mut block = vec![0u8; 3 * 20];
        block[43] = 0x7E; // the high byte of the third block's minimum
        let mut weights = weights([stored("w", Dtype::Q4_1, &[96], block)]);
        let error = weights.take("w", &[96]).unwrap_err();
        assert_eq!(error.to_string(), "model.gguf: tensor w holds NaN or infinity in the block at element 64");
    }

    #[test]
    fn a_second_tensor_of_the_same_name_is_an_error() {
        let mut weights = weights([stored("a", Dtype::F32, &[1], floats(&[1.0]))]);
        let error = weights.insert(stored("a", Dtype::F32, &[1], floats(&[1.0]))).unwrap_err();
        assert_eq!(error.to_string(), "model.gguf: tensor a occurs twice");
    }
}
