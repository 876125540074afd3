//! Tensors as they lie in a model's files, whichever the format: looked up by name, checked, handed over one at a time.
//!
//! [`Gguf`] and [`safetensors`] read the structure of a file and never its tensors: those stay [`Bytes`](crate::Bytes) of
//! the mapping until somebody converts them. [`Weights`] hands a tensor over for good, through the [`passes`] that convert
//! it, so that a loader which takes and drops them in turn holds the weights once. Every count, length and offset that a
//! file states is checked before it is used.

mod gguf;
pub mod names;
pub mod passes;
pub mod safetensors;
mod stored;
#[cfg(test)]
mod test_folder;
mod vocab;
mod weights;

pub use gguf::{Array, Gguf, Metadata, Value, header_len as gguf_header_len};
pub use passes::{Pass, Requantise, Transpose};
pub use stored::{Form, Stored};
pub use vocab::vocab;
pub use weights::Weights;

use crate::quant::Dtype;

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
