//! The inner steps of attention: tiles of up to 6 lines times 64 positions, or times 64 dimensions of the values.

use super::{LANES, element::exp, total};
use crate::kernels::attention::{BLOCK, Cached, Scores, Softmax, Visible, Weigh};
use std::arch::x86_64::*;
use std::ops::Range;

/// Lines in a tile.
const TILE: usize = 6;
/// Registers across a tile.
const WIDTH: usize = BLOCK / LANES;

/// Numbers of a cache in either width.
trait Stored: Copy {
    /// Sixteen numbers, widened.
    ///
    /// # Safety
    /// The CPU has the instructions of this folder; `from` points to sixteen numbers.
    unsafe fn load(from: *const Self) -> __m512;
}

impl Stored for f32 {
    #[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx512vnni,fma,f16c")]
    #[inline]
    unsafe fn load(from: *const f32) -> __m512 {
        // SAFETY: the caller's word.
        unsafe { _mm512_loadu_ps(from) }
    }
}

impl Stored for half::f16 {
    #[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx512vnni,fma,f16c")]
    #[inline]
    unsafe fn load(from: *const half::f16) -> __m512 {
        // SAFETY: the caller's word.
        unsafe { _mm512_cvtph_ps(_mm256_loadu_si256(from.cast())) }
    }
}

/// From the first position that any of the lines sees to behind the last.
fn span(visible: &[Visible]) -> Range<usize> {
    let seen = visible.iter().filter(|seen| !seen.is_empty());
    let start = seen.clone().map(|seen| seen.start).min().unwrap_or(0);
    start..seen.map(|seen| seen.end).max().unwrap_or(0)
}

/// # Safety
/// The CPU has the instructions of this folder; the task's parts have the lengths that [`Scores`] states.
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx512vnni,fma,f16c")]
pub unsafe fn scores(task: &mut Scores) {
    // SAFETY: the caller's word.
    unsafe {
        match task.keys {
            Cached::F32(keys) => scores_of(task, keys),
            Cached::F16(keys) => scores_of(task, keys),
        }
    }
}

/// # Safety
/// As [`scores`].
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx512vnni,fma,f16c")]
unsafe fn scores_of<T: Stored>(task: &mut Scores, keys: &[T]) {
    let lines = task.visible.len();
    assert!(task.q.len() >= lines * task.dim && task.out.len() >= lines * BLOCK);
    for line in (0..lines).step_by(TILE) {
        let count = (lines - line).min(TILE);
        let seen = span(&task.visible[line..line + count]);
        let groups = seen.start / LANES..seen.end.div_ceil(LANES);
        assert!(keys.len() >= groups.end * LANES * task.dim);
        // SAFETY: lines and groups are there, as just checked.
        unsafe {
            match count {
                1 => scores_wide::<T, 1>(task, keys, line, groups),
                2 => scores_wide::<T, 2>(task, keys, line, groups),
                3 => scores_wide::<T, 3>(task, keys, line, groups),
                4 => scores_wide::<T, 4>(task, keys, line, groups),
                5 => scores_wide::<T, 5>(task, keys, line, groups),
                _ => scores_wide::<T, TILE>(task, keys, line, groups),
            }
        }
    }
}

/// # Safety
/// The CPU has the instructions; there are `M` lines from `line` on, and keys for all `groups`.
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx512vnni,fma,f16c")]
#[inline]
unsafe fn scores_wide<T: Stored, const M: usize>(task: &mut Scores, keys: &[T], line: usize, groups: Range<usize>) {
    // SAFETY: the caller's word.
    unsafe {
        match groups.len() {
            0 => {}
            1 => scores_tile::<T, M, 1>(task, keys, line, groups.start),
            2 => scores_tile::<T, M, 2>(task, keys, line, groups.start),
            3 => scores_tile::<T, M, 3>(task, keys, line, groups.start),
            _ => scores_tile::<T, M, WIDTH>(task, keys, line, groups.start),
        }
    }
}

/// # Safety
/// As [`scores_wide`], with `N` groups from `group` on.
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx512vnni,fma,f16c")]
#[inline]
unsafe fn scores_tile<T: Stored, const M: usize, const N: usize>(task: &mut Scores, keys: &[T], line: usize, group: usize) {
    let dim = task.dim;
    let mut sums = [[_mm512_setzero_ps(); N]; M];
    // SAFETY: the caller's word.
    unsafe {
        let q = task.q.as_ptr().add(line * dim);
        let keys = keys.as_ptr().add(group * dim * LANES);
        for d in 0..dim {
            let mut k = [_mm512_setzero_ps(); N];
            for (n, k) in k.iter_mut().enumerate() {
                *k = T::load(keys.add((n * dim + d) * LANES));
            }
            for (m, sums) in sums.iter_mut().enumerate() {
                let q = _mm512_set1_ps(*q.add(m * dim + d));
                for (sum, k) in sums.iter_mut().zip(k) {
                    *sum = _mm512_fmadd_ps(q, k, *sum);
                }
            }
        }
        for (m, sums) in sums.into_iter().enumerate() {
            for (n, sum) in sums.into_iter().enumerate() {
                _mm512_storeu_ps(task.out.as_mut_ptr().add((line + m) * BLOCK + (group + n) * LANES), sum);
            }
        }
    }
}

/// # Safety
/// The CPU has the instructions of this folder; the task's parts have the lengths that [`Softmax`] states.
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx512vnni,fma,f16c")]
pub unsafe fn softmax(task: &mut Softmax) {
    let lowest = _mm512_set1_ps(f32::NEG_INFINITY);
    for (line, scores) in task.scores.as_chunks_mut::<BLOCK>().0.iter_mut().enumerate() {
        let seen = &task.visible[line];
        // Bits of the positions that are seen.
        let upto = |n: usize| if n >= BLOCK { !0 } else { (1u64 << n) - 1 };
        let bits = upto(seen.end) & !upto(seen.start);
        let mask = |n: usize| (bits >> (n * LANES)) as __mmask16;
        let mut x = [lowest; WIDTH];
        for (n, x) in x.iter_mut().enumerate() {
            // SAFETY: a line has 64 scores.
            *x = unsafe { _mm512_mask_loadu_ps(lowest, mask(n), scores.as_ptr().add(n * LANES)) };
        }
        let old = task.max[line];
        let highest = _mm512_max_ps(_mm512_max_ps(x[0], x[1]), _mm512_max_ps(x[2], x[3]));
        let max = old.max(_mm512_reduce_max_ps(highest));
        // Nothing seen so far: any finite reference does.
        let reference = _mm512_set1_ps(if max == f32::NEG_INFINITY { 0.0 } else { max });
        for (n, x) in x.iter_mut().enumerate() {
            *x = _mm512_maskz_mov_ps(mask(n), exp(_mm512_sub_ps(*x, reference)));
            // SAFETY: as above.
            unsafe { _mm512_storeu_ps(scores.as_mut_ptr().add(n * LANES), *x) };
        }
        let correction = _mm512_cvtss_f32(exp(_mm512_sub_ps(_mm512_set1_ps(old), reference)));
        let sum = total(_mm512_add_ps(_mm512_add_ps(x[0], x[1]), _mm512_add_ps(x[2], x[3])));
        task.sum[line] = task.sum[line].mul_add(correction, sum);
        task.max[line] = max;
        task.correction[line] = correction;
    }
}

/// # Safety
/// The CPU has the instructions of this folder; the task's parts have the lengths that [`Weigh`] states.
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx512vnni,fma,f16c")]
pub unsafe fn weigh(task: &mut Weigh) {
    // SAFETY: the caller's word.
    unsafe {
        match task.values {
            Cached::F32(values) => weigh_of(task, values),
            Cached::F16(values) => weigh_of(task, values),
        }
    }
}

/// # Safety
/// As [`weigh`].
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx512vnni,fma,f16c")]
unsafe fn weigh_of<T: Stored>(task: &mut Weigh, values: &[T]) {
    let (lines, padded) = (task.visible.len(), task.padded);
    assert!(task.weights.len() >= lines * BLOCK && task.sums.len() >= lines * padded && task.correction.len() >= lines);
    for line in (0..lines).step_by(TILE) {
        let count = (lines - line).min(TILE);
        let seen = span(&task.visible[line..line + count]);
        if seen.is_empty() {
            continue;
        }
        assert!(values.len() >= seen.end * padded);
        // SAFETY: lines and positions are there, as just checked.
        unsafe {
            match count {
                1 => weigh_wide::<T, 1>(task, values, line, seen),
                2 => weigh_wide::<T, 2>(task, values, line, seen),
                3 => weigh_wide::<T, 3>(task, values, line, seen),
                4 => weigh_wide::<T, 4>(task, values, line, seen),
                5 => weigh_wide::<T, 5>(task, values, line, seen),
                _ => weigh_wide::<T, TILE>(task, values, line, seen),
            }
        }
    }
}

/// # Safety
/// The CPU has the instructions; there are `M` lines from `line` on, and values for all positions `seen`.
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx512vnni,fma,f16c")]
#[inline]
unsafe fn weigh_wide<T: Stored, const M: usize>(task: &mut Weigh, values: &[T], line: usize, seen: Range<usize>) {
    let registers = task.padded / LANES;
    for first in (0..registers).step_by(WIDTH) {
        // SAFETY: the caller's word.
        unsafe {
            match registers - first {
                1 => weigh_tile::<T, M, 1>(task, values, line, seen.clone(), first),
                2 => weigh_tile::<T, M, 2>(task, values, line, seen.clone(), first),
                3 => weigh_tile::<T, M, 3>(task, values, line, seen.clone(), first),
                _ => weigh_tile::<T, M, WIDTH>(task, values, line, seen.clone(), first),
            }
        }
    }
}

/// # Safety
/// As [`weigh_wide`], with `N` registers of a row from `first` on.
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx512vnni,fma,f16c")]
#[inline]
unsafe fn weigh_tile<T: Stored, const M: usize, const N: usize>(
    task: &mut Weigh,
    values: &[T],
    line: usize,
    seen: Range<usize>,
    first: usize,
) {
    let padded = task.padded;
    let mut sums = [[_mm512_setzero_ps(); N]; M];
    // SAFETY: the caller's word.
    unsafe {
        let out = task.sums.as_mut_ptr().add(line * padded + first * LANES);
        for (m, sums) in sums.iter_mut().enumerate() {
            let correction = _mm512_set1_ps(task.correction[line + m]);
            for (n, sum) in sums.iter_mut().enumerate() {
                *sum = _mm512_mul_ps(_mm512_loadu_ps(out.add(m * padded + n * LANES)), correction);
            }
        }
        let weights = task.weights.as_ptr().add(line * BLOCK);
        for position in seen {
            let values = values.as_ptr().add(position * padded + first * LANES);
            let mut v = [_mm512_setzero_ps(); N];
            for (n, v) in v.iter_mut().enumerate() {
                *v = T::load(values.add(n * LANES));
            }
            for (m, sums) in sums.iter_mut().enumerate() {
                let weight = _mm512_set1_ps(*weights.add(m * BLOCK + position));
                for (sum, v) in sums.iter_mut().zip(v) {
                    *sum = _mm512_fmadd_ps(weight, v, *sum);
                }
            }
        }
        for (m, sums) in sums.into_iter().enumerate() {
            for (n, sum) in sums.into_iter().enumerate() {
                _mm512_storeu_ps(out.add(m * padded + n * LANES), sum);
            }
        }
    }
}
