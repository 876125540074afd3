//! A weight matrix, ready to multiply: quantised ones in [panels](super::panel), float ones in [panels](super::float) of their own kind.

use super::Pool;
use super::buffer::AlignedBytes;
use super::panel::{self, PanelFormat, ROWS};
use crate::quant::{Dtype, dequantise};
use crate::{Bytes, Error, Result};
use half::{bf16, f16};

/// A weight matrix of shape (rows, cols): one row for each output.
pub struct Matrix {
    dtype: Dtype,
    rows: usize,
    cols: usize,
    pub(super) data: MatrixData,
}

pub(super) enum MatrixData {
    /// Little-endian floats, (rows / 16, cols, 16); rows that the last panel lacks are zeroes.
    Floats(AlignedBytes),
    Panels {
        format: PanelFormat,
        panels: AlignedBytes,
    },
    /// Rows as they are stored, to look up and not to multiply.
    Table(Bytes),
}

impl Matrix {
    /// Takes over a stored matrix: rearranged without loss, on all threads of `pool`. `data` is not needed afterwards, and what is rearranged
    /// is [released](Bytes::release), so that the weights are in memory once, but for a small part.
    ///
    /// # Errors
    /// [`Error::Corrupt`] if the columns are no whole number of blocks, or `data` has another length than the shape asks for.
    pub fn new(pool: &Pool, dtype: Dtype, rows: usize, cols: usize, data: &Bytes) -> Result<Matrix> {
        let row_bytes = row_bytes(dtype, rows, cols, data)?;
        let data = match PanelFormat::of(dtype) {
            None => MatrixData::Floats(packed(pool, row_bytes * ROWS, row_bytes, data, &|source, panel| {
                transpose(dtype.block_bytes(), source, row_bytes, panel);
            })),
            Some(format) => {
                let pack = |source: &[u8], panel: &mut [u8]| panel::pack(&format, source, cols, panel);
                MatrixData::Panels { format, panels: packed(pool, format.panel_bytes(cols), row_bytes, data, &pack) }
            }
        };
        Ok(Matrix { dtype, rows, cols, data })
    }

    /// A matrix of which only rows are read: it stays where it is stored.
    ///
    /// # Errors
    /// As [`Matrix::new`].
    pub fn table(dtype: Dtype, rows: usize, cols: usize, data: Bytes) -> Result<Matrix> {
        row_bytes(dtype, rows, cols, &data)?;
        Ok(Matrix { dtype, rows, cols, data: MatrixData::Table(data) })
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

    /// Bytes that a multiplication reads, and the memory that the matrix takes.
    pub fn bytes(&self) -> usize {
        match &self.data {
            MatrixData::Floats(panels) | MatrixData::Panels { panels, .. } => panels.len(),
            MatrixData::Table(bytes) => bytes.len(),
        }
    }

    /// Row `index`, dequantised exactly, into `out` (cols).
    ///
    /// # Panics
    /// If there is no such row, or `out` has another length.
    pub fn row(&self, index: usize, out: &mut [f32]) {
        assert!(index < self.rows && out.len() == self.cols, "row {index} of {}x{}", self.rows, self.cols);
        match &self.data {
            MatrixData::Floats(panels) => {
                let width = self.dtype.block_bytes();
                let panel = &panels[index / ROWS * self.cols * ROWS * width..][..self.cols * ROWS * width];
                for (out, column) in out.iter_mut().zip(panel.chunks_exact(ROWS * width)) {
                    floats(self.dtype, &column[index % ROWS * width..][..width], std::slice::from_mut(out));
                }
            }
            MatrixData::Panels { format, panels } => {
                let bytes = format.panel_bytes(self.cols);
                panel::row(format, &panels[index / ROWS * bytes..][..bytes], index % ROWS, out);
            }
            MatrixData::Table(bytes) => {
                let row_bytes = bytes.len() / self.rows;
                dequantise(self.dtype, &bytes[index * row_bytes..][..row_bytes], out);
            }
        }
    }
}

impl std::fmt::Debug for Matrix {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Matrix({}x{} {})", self.rows, self.cols, self.dtype)
    }
}

/// Bytes of a row, where `data` is as long as the shape asks for.
fn row_bytes(dtype: Dtype, rows: usize, cols: usize, data: &[u8]) -> Result<usize> {
    let row_bytes = dtype.bytes(cols).ok_or_else(|| {
        let why = format!("{cols} columns are no whole number of {dtype} blocks of {}", dtype.block());
        Error::corrupt(format_args!("{rows}×{cols} matrix"), why)
    })?;
    if row_bytes.checked_mul(rows) != Some(data.len()) {
        let why = format!("has {} bytes, expected {rows} rows of {row_bytes}", data.len());
        return Err(Error::corrupt(format_args!("{rows}×{cols} {dtype} matrix"), why));
    }
    Ok(row_bytes)
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

/// Bytes of a stored matrix that may be in memory twice.
const AT_ONCE: usize = 16 << 20;

/// Panels of `panel_bytes`, each packed from its rows of `row_bytes`.
fn packed(
    pool: &Pool,
    panel_bytes: usize,
    row_bytes: usize,
    data: &Bytes,
    pack: &(dyn Fn(&[u8], &mut [u8]) + Sync),
) -> AlignedBytes {
    let source = row_bytes * ROWS;
    if source == 0 || data.is_empty() {
        return AlignedBytes::zeroed(0);
    }
    let mut buffer = AlignedBytes::zeroed(data.len().div_ceil(source) * panel_bytes);
    let panels: Vec<_> = buffer.chunks_exact_mut(panel_bytes).map(std::sync::Mutex::new).collect();
    let step = (AT_ONCE / source).max(1);
    for first in (0..panels.len()).step_by(step) {
        let part = first * source..data.len().min((first + step) * source);
        let sources: Vec<&[u8]> = data[part.clone()].chunks(source).collect();
        pool.run(sources.len(), &|index| {
            // Each panel has one task, so the lock is free; if a task panicked, the pool carries the panic on.
            if let Ok(mut panel) = panels[first + index].lock() {
                pack(sources[index], &mut panel);
            }
        });
        // From the start: pages that parts share go with the later one.
        if let Some(read) = data.slice(0..part.end) {
            read.release();
        }
    }
    drop(panels);
    buffer
}

/// Writes rows of numbers of `width` bytes column after column, sixteen numbers each.
fn transpose(width: usize, rows: &[u8], row_bytes: usize, panel: &mut [u8]) {
    fn numbers<const W: usize>(rows: &[u8], row_bytes: usize, panel: &mut [u8]) {
        let columns = panel.as_chunks_mut::<W>().0;
        // Some columns of all rows at a time, so that both sides stay in the first-level cache.
        for first in (0..row_bytes / W).step_by(64) {
            for (r, row) in rows.chunks_exact(row_bytes).enumerate() {
                for (k, number) in row.as_chunks::<W>().0.iter().enumerate().skip(first).take(64) {
                    columns[k * ROWS + r] = *number;
                }
            }
        }
    }
    if width == 4 { numbers::<4>(rows, row_bytes, panel) } else { numbers::<2>(rows, row_bytes, panel) }
}
