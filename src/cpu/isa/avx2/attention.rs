//! The inner steps of attention: tiles of up to 6 lines times sixteen positions, or sixteen numbers of the values.

use super::{LANES, float::Two};
use crate::cpu::attention::{POSITIONS, Scores, Softmax, Weigh};
use crate::cpu::isa::tiles;
use crate::cpu::math;
use std::arch::x86_64::*;
use std::ops::Range;

/// Lines in a tile, and below how many in all the last tile fetches ahead.
const LINES: usize = 6;
const FEW: usize = 3 * LINES;

/// # Safety
/// The CPU has the instructions of this folder.
#[target_feature(enable = "avx2,fma,f16c")]
pub unsafe fn scores(task: &mut Scores) {
    // SAFETY: the instructions of `Two` are those of this folder.
    unsafe { tiles::scores::<Two, LINES, 1, FEW>(task) }
}

/// # Safety
/// The CPU has the instructions of this folder.
#[target_feature(enable = "avx2,fma,f16c")]
pub unsafe fn weigh(task: &mut Weigh) {
    // SAFETY: the instructions of `Two` are those of this folder.
    unsafe { tiles::weigh::<Two, LINES, 1, FEW>(task) }
}

/// # Safety
/// The CPU has the instructions of this folder; the task's parts have the lengths that [`Softmax`] states.
#[target_feature(enable = "avx2,fma,f16c")]
pub unsafe fn softmax(task: &mut Softmax) {
    let lowest = _mm256_set1_ps(f32::NEG_INFINITY);
    for (line, scores) in task.scores.as_chunks_mut::<POSITIONS>().0.iter_mut().enumerate().take(task.visible.len()) {
        let Range { start, end } = task.visible[line];
        let (first, last) = (_mm256_set1_epi32(start as i32 - 1), _mm256_set1_epi32(end as i32));
        let (mut x, mut seen) = ([lowest; POSITIONS / LANES], [lowest; POSITIONS / LANES]);
        let mut highest = lowest;
        for n in 0..POSITIONS / LANES {
            let position = _mm256_add_epi32(_mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7), _mm256_set1_epi32((n * LANES) as i32));
            let inside = _mm256_and_si256(_mm256_cmpgt_epi32(position, first), _mm256_cmpgt_epi32(last, position));
            seen[n] = _mm256_castsi256_ps(inside);
            // SAFETY: a line has 64 scores.
            x[n] = unsafe { _mm256_loadu_ps(scores.as_ptr().add(n * LANES)) };
            // The second operand is the outcome if the first is no number.
            highest = _mm256_max_ps(_mm256_blendv_ps(lowest, x[n], seen[n]), highest);
        }
        let old = task.max[line];
        let max = lanes(highest).into_iter().fold(old, f32::max);
        // Nothing seen so far: any finite reference does.
        let reference = if max == f32::NEG_INFINITY { 0.0 } else { max };
        for (n, x) in x.iter_mut().enumerate() {
            let some = start < (n + 1) * LANES && n * LANES < end;
            let weight = if some { exp(_mm256_sub_ps(*x, _mm256_set1_ps(reference))) } else { lowest };
            *x = _mm256_and_ps(weight, seen[n]);
            // SAFETY: a line has 64 scores.
            unsafe { _mm256_storeu_ps(scores.as_mut_ptr().add(n * LANES), *x) };
        }
        let pair = |n: usize| _mm256_add_ps(_mm256_add_ps(x[n], x[n + 1]), _mm256_add_ps(x[n + 2], x[n + 3]));
        let [a, b, c, d, e, f, g, h] = lanes(_mm256_add_ps(pair(0), pair(4)));
        let correction = math::exp::<false>(old - reference);
        task.sum[line] = task.sum[line] * correction + (((a + e) + (c + g)) + ((b + f) + (d + h)));
        task.max[line] = max;
        task.correction[line] = correction;
    }
}

#[target_feature(enable = "avx2,fma,f16c")]
#[inline]
fn lanes(x: __m256) -> [f32; LANES] {
    let mut lanes = [0.0; LANES];
    // SAFETY: the array has eight numbers.
    unsafe { _mm256_storeu_ps(lanes.as_mut_ptr(), x) };
    lanes
}

/// [`math::exp`] of what is at most 0.
#[target_feature(enable = "avx2,fma,f16c")]
#[inline]
fn exp(x: __m256) -> __m256 {
    let set = |x: f32| _mm256_set1_ps(x);
    // Where one operand is NaN, this returns the second.
    let x = _mm256_max_ps(set(math::EXP_FLOOR), x);
    let shifted = _mm256_fmadd_ps(x, set(math::LOG2_E), set(math::ROUND));
    let whole = _mm256_sub_ps(shifted, set(math::ROUND));
    let r = _mm256_fnmadd_ps(whole, set(math::LN2[1]), _mm256_fnmadd_ps(whole, set(math::LN2[0]), x));
    let [rest @ .., last] = &math::EXP;
    let polynomial = rest.iter().rev().fold(set(*last), |sum, &c| _mm256_fmadd_ps(sum, r, set(c)));
    let power = _mm256_slli_epi32::<23>(_mm256_add_epi32(_mm256_castps_si256(shifted), _mm256_set1_epi32(127)));
    _mm256_mul_ps(polynomial, _mm256_castsi256_ps(power))
}
