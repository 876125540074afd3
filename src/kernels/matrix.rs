//! A weight matrix, ready to multiply: quantised ones in [panels](super::panel), float ones as they lie in the file.

use super::buffer::Buffer;
use super::panel::{self, Format, ROWS};
use super::{Kernels, Pool};
use crate::quant::Dtype;
use crate::{Bytes, Error, Result};
use half::{bf16, f16};

/// A weight matrix of shape (rows, cols): one row for each output.
pub struct Matrix {
    dtype: Dtype,
    rows: usize,
    cols: usize,
    pub(super) data: Data,
}

pub(super) enum Data {
    /// Rows of little-endian floats, at any alignment.
    Floats(Bytes),
    Panels {
        format: Format,
        panels: Buffer,
    },
}

impl Matrix {
    /// Takes over a stored matrix. Quantised data are rearranged without loss, on all threads of `pool`, and `data` is not needed
    /// afterwards; floats are used where they are.
    ///
    /// # Errors
    /// [`Error::Corrupt`] if the columns are no whole number of blocks, or `data` has another length than the shape asks for.
    pub fn new(
        _kernels: &'static Kernels,
        pool: &Pool,
        dtype: Dtype,
        rows: usize,
        cols: usize,
        data: &Bytes,
    ) -> Result<Matrix> {
        let row_bytes = dtype.bytes(cols).ok_or_else(|| {
            let why = format!("{cols} columns are no whole number of {dtype} blocks of {}", dtype.block());
            Error::corrupt(format_args!("{rows}×{cols} matrix"), why)
        })?;
        if row_bytes.checked_mul(rows) != Some(data.len()) {
            let why = format!("has {} bytes, expected {rows} rows of {row_bytes}", data.len());
            return Err(Error::corrupt(format_args!("{rows}×{cols} {dtype} matrix"), why));
        }
        let data = match Format::of(dtype) {
            None => Data::Floats(data.clone()),
            Some(format) => Data::Panels { format, panels: packed(pool, dtype, &format, row_bytes, cols, data) },
        };
        Ok(Matrix { dtype, rows, cols, data })
    }

    /// Number of outputs.
    pub fn rows(&self) -> usize {
        self.rows
    }

    /// Number of inputs.
    pub fn cols(&self) -> usize {
        self.cols
    }

    /// How the elements are stored.
    pub fn dtype(&self) -> Dtype {
        self.dtype
    }

    /// Bytes that a multiplication reads; for quantised matrices also the memory that they take.
    pub fn bytes(&self) -> usize {
        match &self.data {
            Data::Floats(bytes) => bytes.len(),
            Data::Panels { panels, .. } => panels.len(),
        }
    }

    /// Row `index`, dequantised exactly, into `out` (cols).
    ///
    /// # Panics
    /// If there is no such row, or `out` has another length.
    pub fn row(&self, index: usize, out: &mut [f32]) {
        assert!(index < self.rows && out.len() == self.cols, "row {index} of {}x{}", self.rows, self.cols);
        match &self.data {
            Data::Floats(bytes) => {
                let width = self.dtype.block_bytes();
                floats(self.dtype, &bytes[index * self.cols * width..][..self.cols * width], out);
            }
            Data::Panels { format, panels } => {
                let bytes = format.panel_bytes(self.cols);
                panel::row(format, &panels[index / ROWS * bytes..][..bytes], index % ROWS, out);
            }
        }
    }
}

impl std::fmt::Debug for Matrix {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Matrix({}x{} {})", self.rows, self.cols, self.dtype)
    }
}

/// Widens little-endian floats of any alignment. Block formats do not come here.
pub(super) fn floats(dtype: Dtype, bytes: &[u8], out: &mut [f32]) {
    let halves = || bytes.as_chunks().0.iter();
    match dtype {
        Dtype::F16 => out.iter_mut().zip(halves()).for_each(|(out, b)| *out = f16::from_le_bytes(*b).to_f32()),
        Dtype::BF16 => out.iter_mut().zip(halves()).for_each(|(out, b)| *out = bf16::from_le_bytes(*b).to_f32()),
        _ => out.iter_mut().zip(bytes.as_chunks().0).for_each(|(out, b)| *out = f32::from_le_bytes(*b)),
    }
}

fn packed(pool: &Pool, dtype: Dtype, format: &Format, row_bytes: usize, cols: usize, data: &[u8]) -> Buffer {
    let panel_bytes = format.panel_bytes(cols);
    if row_bytes == 0 || data.is_empty() {
        return Buffer::zeroed(0);
    }
    let sources: Vec<&[u8]> = data.chunks(row_bytes * ROWS).collect();
    let mut buffer = Buffer::zeroed(sources.len() * panel_bytes);
    let panels: Vec<_> = buffer.chunks_exact_mut(panel_bytes).map(std::sync::Mutex::new).collect();
    pool.run(panels.len(), &|index| {
        // Each panel has one task, so the lock is free; if a task panicked, the pool carries the panic on.
        if let Ok(mut panel) = panels[index].lock() {
            panel::pack(dtype, sources[index], cols, &mut panel);
        }
    });
    drop(panels);
    buffer
}
