//! Products with float matrices as they lie: sixteen columns at a time, each output in one register of partial sums.
//!
//! Lane `l` of an output's register is the chain over columns `l`, `l + 16`, ...; the lanes are added pairwise at the end, always the
//! same way, so that the tile an output is computed in does not show. A tile is 4 outputs times up to 6 rows.

use super::{LANES, mask, total};
use crate::kernels::matmul::FloatTask;
use crate::quant::Dtype;
use std::arch::x86_64::*;

/// Outputs in a tile.
const OUTPUTS: usize = 4;
/// Rows in a tile.
const TILE: usize = 6;
/// Bytes that decoding fetches ahead in each row of weights.
const AHEAD: usize = 1024;

/// # Safety
/// The CPU has the instructions of this folder; the task's parts are as [`FloatTask`] says.
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx512vnni,fma,f16c")]
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
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx512vnni,fma,f16c")]
unsafe fn run<const TYPE: u8>(task: &FloatTask) {
    for output in (0..task.outputs).step_by(OUTPUTS) {
        for row in (0..task.rows).step_by(TILE) {
            // SAFETY: outputs and rows are the task's.
            unsafe {
                if task.outputs - output >= OUTPUTS {
                    rows::<TYPE, OUTPUTS>(task, output, row);
                } else {
                    (output..task.outputs).for_each(|output| rows::<TYPE, 1>(task, output, row));
                }
            }
        }
    }
}

/// # Safety
/// As [`floats`]; there are `N` outputs from `output` on, and a row at `row`.
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx512vnni,fma,f16c")]
#[inline]
unsafe fn rows<const TYPE: u8, const N: usize>(task: &FloatTask, output: usize, row: usize) {
    // SAFETY: the caller's word.
    unsafe {
        match task.rows - row {
            1 => tile::<TYPE, N, 1>(task, output, row),
            2 => tile::<TYPE, N, 2>(task, output, row),
            3 => tile::<TYPE, N, 3>(task, output, row),
            4 => tile::<TYPE, N, 4>(task, output, row),
            5 => tile::<TYPE, N, 5>(task, output, row),
            _ => tile::<TYPE, N, TILE>(task, output, row),
        }
    }
}

/// # Safety
/// As [`rows`], with `M` rows from `row` on.
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx512vnni,fma,f16c")]
#[inline]
unsafe fn tile<const TYPE: u8, const N: usize, const M: usize>(task: &FloatTask, output: usize, row: usize) {
    let width = if TYPE == Dtype::F32 as u8 { 4 } else { 2 };
    let cols = task.cols;
    let mut sums = [[_mm512_setzero_ps(); N]; M];
    // SAFETY: rows, outputs and columns are within the task; masked tails do not touch what lies behind; fetching ahead is harmless.
    unsafe {
        let weights = task.weights.as_ptr().add(output * cols * width);
        let x = task.x.as_ptr().add(row * cols);
        let mut at = 0;
        while at + LANES <= cols {
            let mut w = [_mm512_setzero_ps(); N];
            for (n, w) in w.iter_mut().enumerate() {
                let from = weights.add((n * cols + at) * width);
                _mm_prefetch::<_MM_HINT_T0>(from.wrapping_add(AHEAD).cast());
                *w = load::<TYPE>(from);
            }
            for (m, sums) in sums.iter_mut().enumerate() {
                let x = _mm512_loadu_ps(x.add(m * cols + at));
                for (sum, w) in sums.iter_mut().zip(w) {
                    *sum = _mm512_fmadd_ps(w, x, *sum);
                }
            }
            at += LANES;
        }
        if at < cols {
            let mask = mask(cols - at);
            let mut w = [_mm512_setzero_ps(); N];
            for (n, w) in w.iter_mut().enumerate() {
                *w = load_tail::<TYPE>(weights.add((n * cols + at) * width), mask);
            }
            for (m, sums) in sums.iter_mut().enumerate() {
                let x = _mm512_maskz_loadu_ps(mask, x.add(m * cols + at));
                for (sum, w) in sums.iter_mut().zip(w) {
                    *sum = _mm512_fmadd_ps(w, x, *sum);
                }
            }
        }
        for (m, sums) in sums.into_iter().enumerate() {
            let out = task.out.add((row + m) * task.stride + output);
            if N == OUTPUTS {
                let four = totals([sums[0], sums[1 % N], sums[2 % N], sums[3 % N]]);
                let bias = match task.bias {
                    Some(bias) => _mm_loadu_ps(bias.as_ptr().add(output)),
                    None => _mm_setzero_ps(),
                };
                _mm_storeu_ps(out, _mm_add_ps(four, bias));
            } else {
                *out = total(sums[0]) + task.bias.map_or(0.0, |bias| bias[output]);
            }
        }
    }
}

/// [`total`] of four registers, with the same order of additions.
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx512vnni,fma,f16c")]
#[inline]
fn totals(x: [__m512; 4]) -> __m128 {
    // Halves of two registers beside each other: lanes 0-7 of a, 0-7 of b; and 8-15 likewise.
    let fold = |a, b| _mm512_add_ps(_mm512_shuffle_f32x4::<0b01_00_01_00>(a, b), _mm512_shuffle_f32x4::<0b11_10_11_10>(a, b));
    let (ab, cd) = (fold(x[0], x[1]), fold(x[2], x[3]));
    // Quarters: a, b, c, d, each the sum of two.
    let four = _mm512_add_ps(_mm512_shuffle_f32x4::<0b10_00_10_00>(ab, cd), _mm512_shuffle_f32x4::<0b11_01_11_01>(ab, cd));
    let two = _mm512_add_ps(four, _mm512_permute_ps::<0b00_00_11_10>(four));
    let one = _mm512_add_ps(two, _mm512_permute_ps::<0b00_00_00_01>(two));
    // The first lane of each quarter.
    let pick = _mm512_setr_epi32(0, 4, 8, 12, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0);
    _mm512_castps512_ps128(_mm512_permutexvar_ps(pick, one))
}

/// Sixteen weights, widened.
///
/// # Safety
/// `from` points to sixteen numbers of `TYPE`, at any alignment.
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx512vnni,fma,f16c")]
#[inline]
unsafe fn load<const TYPE: u8>(from: *const u8) -> __m512 {
    // SAFETY: the caller's word.
    unsafe {
        if TYPE == Dtype::F32 as u8 { _mm512_loadu_ps(from.cast()) } else { widen::<TYPE>(_mm256_loadu_si256(from.cast())) }
    }
}

/// The weights in `mask`, widened, and zeroes.
///
/// # Safety
/// `from` points to as many numbers of `TYPE` as `mask` has bits.
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx512vnni,fma,f16c")]
#[inline]
unsafe fn load_tail<const TYPE: u8>(from: *const u8, mask: __mmask16) -> __m512 {
    // SAFETY: the caller's word.
    unsafe {
        if TYPE == Dtype::F32 as u8 {
            _mm512_maskz_loadu_ps(mask, from.cast())
        } else {
            widen::<TYPE>(_mm256_maskz_loadu_epi16(mask, from.cast()))
        }
    }
}

#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx512vnni,fma,f16c")]
#[inline]
fn widen<const TYPE: u8>(x: __m256i) -> __m512 {
    if TYPE == Dtype::F16 as u8 {
        _mm512_cvtph_ps(x)
    } else {
        _mm512_castsi512_ps(_mm512_slli_epi32::<16>(_mm512_cvtepu16_epi32(x)))
    }
}
