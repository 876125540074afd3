//! One tensor as a file holds it: its name there, its type and shape, its bytes.

use super::by;
use crate::quant::{self, Dtype};
use crate::{Bytes, Error, Result};

/// The type and the shape of a tensor: what is known of it without reading its elements.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Form {
    /// How the elements are encoded.
    pub dtype: Dtype,
    /// Outermost dimension first.
    pub shape: Vec<usize>,
}

impl Form {
    /// Bytes of the elements; `None` if they are no whole number of blocks, or more than fit in a number.
    pub fn bytes(&self) -> Option<usize> {
        let elements = self.shape.iter().try_fold(1usize, |product, dim| product.checked_mul(*dim))?;
        self.dtype.bytes(elements)
    }
}

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
    /// Type and shape.
    pub fn form(&self) -> Form {
        Form { dtype: self.dtype, shape: self.shape.clone() }
    }

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
    ///
    /// # Errors
    /// [`Error::Corrupt`] for a tensor of more or fewer than two dimensions.
    pub fn matrix(&self) -> Result<(usize, usize)> {
        match *self.shape {
            [rows, cols] => Ok((rows, cols)),
            _ => Err(Error::corrupt(&self.name, format!("is {}, expected a matrix", by(&self.shape)))),
        }
    }
}
