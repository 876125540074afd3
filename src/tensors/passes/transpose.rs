//! Matrices that a checkpoint stores with rows for columns, as GPT-2's `Conv1D` does, turned around.

use super::Pass;
use crate::tensors::names::{Names, Orientation, gguf_name};
use crate::tensors::{Form, Stored, float_types};
use crate::{Error, Result};

/// Turns the matrices that a table of names marks as transposed.
#[derive(Debug)]
pub struct Transpose {
    names: Names,
}

impl Transpose {
    /// The marks of `names`.
    pub fn marked_in(names: Names) -> Transpose {
        Transpose { names }
    }

    /// Whether the file's tensor of this name is stored with rows for columns.
    fn is_marked(&self, stored: &str) -> bool {
        gguf_name(self.names, stored).is_some_and(|(_, orientation)| orientation == Orientation::Transposed)
    }
}

impl Pass for Transpose {
    fn form(&self, _name: &str, stored: &Stored, mut form: Form) -> Form {
        if self.is_marked(&stored.name) {
            form.shape.reverse();
        }
        form
    }

    fn apply(&self, _name: &str, tensor: Stored) -> Result<Stored> {
        if self.is_marked(&tensor.name) { transposed(tensor) } else { Ok(tensor) }
    }
}

/// Rows for columns. Only float matrices are ever stored so.
fn transposed(tensor: Stored) -> Result<Stored> {
    let (rows, cols) = tensor.matrix()?;
    if tensor.dtype.is_quantised() {
        return Err(Error::unsupported(format!("tensor {}: a transposed {} matrix", tensor.name, tensor.dtype), float_types()));
    }
    let size = tensor.dtype.block_bytes();
    let mut data = vec![0; tensor.data.len()];
    for (col, out) in data.chunks_exact_mut((rows * size).max(1)).enumerate() {
        for (row, out) in out.chunks_exact_mut(size).enumerate() {
            out.copy_from_slice(&tensor.data[(row * cols + col) * size..][..size]);
        }
    }
    tensor.data.release();
    Ok(Stored { shape: vec![cols, rows], data: data.into(), ..tensor })
}
