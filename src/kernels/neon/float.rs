//! Products with float matrices as they lie: eight columns at a time, each output in two registers of partial sums.
//!
//! Lane `l` of an output's registers is the chain over columns `l`, `l + 8`, ...; the lanes are added pairwise at the end. A tile is 2 outputs
//! times 4 rows, or 4 outputs times one.

use super::{LANES, halves};
use crate::kernels::matmul::FloatTask;
use crate::kernels::matrix;
use crate::quant::Dtype;
use std::arch::aarch64::*;

/// Columns of a step.
const STEP: usize = 2 * LANES;
/// Outputs whose weights stay in the first-level cache while the rows go by, and outputs in a tile of one row.
const OUTPUTS: usize = 4;
/// Rows in a tile of several.
const TILE: usize = 4;

/// Eight numbers, of consecutive columns.
type Pair = [float32x4_t; 2];

/// # Safety
/// The CPU has NEON; the task's parts are as [`FloatTask`] says.
#[target_feature(enable = "neon")]
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
#[target_feature(enable = "neon")]
unsafe fn run<const TYPE: u8>(task: &FloatTask) {
    for output in (0..task.outputs).step_by(OUTPUTS) {
        let outputs = output..task.outputs.min(output + OUTPUTS);
        let whole = task.rows - task.rows % TILE;
        // SAFETY: outputs and rows are the task's.
        unsafe {
            for row in (0..whole).step_by(TILE) {
                if outputs.len() == OUTPUTS {
                    tile::<TYPE, 2, TILE>(task, output, row);
                    tile::<TYPE, 2, TILE>(task, output + 2, row);
                } else {
                    outputs.clone().for_each(|output| tile::<TYPE, 1, TILE>(task, output, row));
                }
            }
            for row in whole..task.rows {
                if outputs.len() == OUTPUTS {
                    tile::<TYPE, OUTPUTS, 1>(task, output, row);
                } else {
                    outputs.clone().for_each(|output| tile::<TYPE, 1, 1>(task, output, row));
                }
            }
        }
    }
}

/// # Safety
/// As [`run`]; there are `N` outputs from `output` on, and `M` rows from `row` on.
#[target_feature(enable = "neon")]
#[inline]
unsafe fn tile<const TYPE: u8, const N: usize, const M: usize>(task: &FloatTask, output: usize, row: usize) {
    let width = task.dtype.block_bytes();
    let cols = task.cols;
    let whole = cols - cols % STEP;
    let zero = [vdupq_n_f32(0.0); 2];
    let mut sums = [[zero; N]; M];
    let mut step = |w: [Pair; N], x: [Pair; M]| {
        for (sums, x) in sums.iter_mut().zip(x) {
            for (sum, w) in sums.iter_mut().zip(w) {
                *sum = [vfmaq_f32(sum[0], w[0], x[0]), vfmaq_f32(sum[1], w[1], x[1])];
            }
        }
    };
    // SAFETY: rows, outputs and columns are within the task.
    unsafe {
        let weights = task.weights.as_ptr().add(output * cols * width);
        let x = task.x.as_ptr().add(row * cols);
        for at in (0..whole).step_by(STEP) {
            let mut w = [zero; N];
            for (n, w) in w.iter_mut().enumerate() {
                *w = load::<TYPE>(weights.add((n * cols + at) * width));
            }
            let mut activations = [zero; M];
            for (m, activation) in activations.iter_mut().enumerate() {
                *activation = pair(x.add(m * cols + at));
            }
            step(w, activations);
        }
        if whole < cols {
            // The rest of the columns, filled up with zeroes.
            let mut w = [zero; N];
            for (n, w) in w.iter_mut().enumerate() {
                let mut numbers = [0.0; STEP];
                let at = ((output + n) * cols + whole) * width;
                let bytes = &task.weights[at..at + (cols - whole) * width];
                matrix::floats(task.dtype, bytes, &mut numbers[..cols - whole]);
                *w = pair(numbers.as_ptr());
            }
            let mut activations = [zero; M];
            for (m, activation) in activations.iter_mut().enumerate() {
                let mut numbers = [0.0; STEP];
                numbers[..cols - whole].copy_from_slice(&task.x[(row + m) * cols + whole..(row + m + 1) * cols]);
                *activation = pair(numbers.as_ptr());
            }
            step(w, activations);
        }
        for (m, sums) in sums.into_iter().enumerate() {
            for (n, sum) in sums.into_iter().enumerate() {
                let bias = task.bias.map_or(0.0, |bias| bias[output + n]);
                *task.out.add((row + m) * task.stride + output + n) = vaddvq_f32(vaddq_f32(sum[0], sum[1])) + bias;
            }
        }
    }
}

/// Eight floats.
///
/// # Safety
/// `from` points to eight floats.
#[target_feature(enable = "neon")]
#[inline]
unsafe fn pair(from: *const f32) -> Pair {
    // SAFETY: the caller's word.
    unsafe { [vld1q_f32(from), vld1q_f32(from.add(LANES))] }
}

/// Eight weights, widened.
///
/// # Safety
/// `from` points to eight numbers of `TYPE`, at any alignment.
#[target_feature(enable = "neon")]
#[inline]
unsafe fn load<const TYPE: u8>(from: *const u8) -> Pair {
    // SAFETY: the caller's word.
    unsafe {
        if TYPE == Dtype::F32 as u8 {
            [vreinterpretq_f32_u8(vld1q_u8(from)), vreinterpretq_f32_u8(vld1q_u8(from.add(16)))]
        } else if TYPE == Dtype::F16 as u8 {
            halves(from)
        } else {
            let words = vreinterpretq_u16_u8(vld1q_u8(from));
            [vshll_n_u16::<16>(vget_low_u16(words)), vshll_high_n_u16::<16>(words)].map(|x| vreinterpretq_f32_u32(x))
        }
    }
}
