//! Products with float matrices as they lie: eight columns at a time, each output in one register of partial sums.
//!
//! Lane `l` of an output's register is the chain over columns `l`, `l + 8`, ...; the lanes are added pairwise at the end. A tile is
//! 3 outputs times up to 4 rows.

use super::{LANES, total};
use crate::kernels::matmul::FloatTask;
use crate::kernels::matrix;
use crate::quant::Dtype;
use std::arch::x86_64::*;

/// Outputs in a tile.
const OUTPUTS: usize = 3;
/// Rows in a tile.
const TILE: usize = 4;

/// # Safety
/// The CPU has the instructions of this folder; the task's parts are as [`FloatTask`] says.
#[target_feature(enable = "avx2,fma,f16c")]
pub unsafe fn floats(task: &FloatTask) {
    // SAFETY: the caller's word.
    unsafe {
        match task.dtype {
            Dtype::F16 => run::<{ Dtype::F16 as u8 }>(task),
            Dtype::BF16 => run::<{ Dtype::BF16 as u8 }>(task),
            _ => run::<{ Dtype::F32 as u8 }>(task),
        }
    }
}

/// # Safety
/// As [`floats`]; `TYPE` is the task's.
#[target_feature(enable = "avx2,fma,f16c")]
unsafe fn run<const TYPE: u8>(task: &FloatTask) {
    for output in (0..task.outputs).step_by(OUTPUTS) {
        for row in (0..task.rows).step_by(TILE) {
            // SAFETY: outputs and rows are the task's.
            unsafe {
                match task.outputs - output {
                    1 => rows::<TYPE, 1>(task, output, row),
                    2 => rows::<TYPE, 2>(task, output, row),
                    _ => rows::<TYPE, OUTPUTS>(task, output, row),
                }
            }
        }
    }
}

/// # Safety
/// As [`floats`]; there are `N` outputs from `output` on, and a row at `row`.
#[target_feature(enable = "avx2,fma,f16c")]
#[inline]
unsafe fn rows<const TYPE: u8, const N: usize>(task: &FloatTask, output: usize, row: usize) {
    // SAFETY: the caller's word.
    unsafe {
        match task.rows - row {
            1 => tile::<TYPE, N, 1>(task, output, row),
            2 => tile::<TYPE, N, 2>(task, output, row),
            3 => tile::<TYPE, N, 3>(task, output, row),
            _ => tile::<TYPE, N, TILE>(task, output, row),
        }
    }
}

/// # Safety
/// As [`rows`], with `M` rows from `row` on.
#[target_feature(enable = "avx2,fma,f16c")]
#[inline]
unsafe fn tile<const TYPE: u8, const N: usize, const M: usize>(task: &FloatTask, output: usize, row: usize) {
    let width = task.dtype.block_bytes();
    let cols = task.cols;
    let whole = cols - cols % LANES;
    let mut sums = [[_mm256_setzero_ps(); N]; M];
    let mut step = |w: [__m256; N], x: [__m256; M]| {
        for (sums, x) in sums.iter_mut().zip(x) {
            for (sum, w) in sums.iter_mut().zip(w) {
                *sum = _mm256_fmadd_ps(w, x, *sum);
            }
        }
    };
    // SAFETY: rows, outputs and columns are within the task.
    unsafe {
        let weights = task.weights.as_ptr().add(output * cols * width);
        let x = task.x.as_ptr().add(row * cols);
        for at in (0..whole).step_by(LANES) {
            let mut w = [_mm256_setzero_ps(); N];
            for (n, w) in w.iter_mut().enumerate() {
                *w = load::<TYPE>(weights.add((n * cols + at) * width));
            }
            let mut activations = [_mm256_setzero_ps(); M];
            for (m, activation) in activations.iter_mut().enumerate() {
                *activation = _mm256_loadu_ps(x.add(m * cols + at));
            }
            step(w, activations);
        }
        if whole < cols {
            // The rest of the columns, filled up with zeroes.
            let mut w = [_mm256_setzero_ps(); N];
            for (n, w) in w.iter_mut().enumerate() {
                let mut numbers = [0.0; LANES];
                let at = ((output + n) * cols + whole) * width;
                let bytes = &task.weights[at..at + (cols - whole) * width];
                matrix::floats(task.dtype, bytes, &mut numbers[..cols - whole]);
                *w = _mm256_loadu_ps(numbers.as_ptr());
            }
            let mut activations = [_mm256_setzero_ps(); M];
            for (m, activation) in activations.iter_mut().enumerate() {
                let mut numbers = [0.0; LANES];
                numbers[..cols - whole].copy_from_slice(&task.x[(row + m) * cols + whole..(row + m + 1) * cols]);
                *activation = _mm256_loadu_ps(numbers.as_ptr());
            }
            step(w, activations);
        }
        for (m, sums) in sums.into_iter().enumerate() {
            for (n, sum) in sums.into_iter().enumerate() {
                let bias = task.bias.map_or(0.0, |bias| bias[output + n]);
                *task.out.add((row + m) * task.stride + output + n) = total(sum) + bias;
            }
        }
    }
}

/// Eight weights, widened.
///
/// # Safety
/// `from` points to eight numbers of `TYPE`, at any alignment.
#[target_feature(enable = "avx2,fma,f16c")]
#[inline]
unsafe fn load<const TYPE: u8>(from: *const u8) -> __m256 {
    // SAFETY: the caller's word.
    unsafe {
        if TYPE == Dtype::F32 as u8 {
            _mm256_loadu_ps(from.cast())
        } else if TYPE == Dtype::F16 as u8 {
            _mm256_cvtph_ps(_mm_loadu_si128(from.cast()))
        } else {
            let words = _mm256_cvtepu16_epi32(_mm_loadu_si128(from.cast()));
            _mm256_castsi256_ps(_mm256_slli_epi32::<16>(words))
        }
    }
}
