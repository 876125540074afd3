//! The inner steps of attention: tiles of up to 6 lines times 16 positions, or times 16 dimensions of the values.

use super::LANES;
use crate::cpu::attention::{BLOCK, Cached, Numbers, Scores, Softmax, Visible, Weigh};
use crate::cpu::math;
use crate::cpu::prefetch::fetch;
use crate::cpu::rows::{BLOCK as SCALED, LANES as GROUP, blocks};
use std::arch::x86_64::*;
use std::ops::Range;

/// Lines in a tile.
const TILE: usize = 6;
/// Registers across a tile.
const WIDTH: usize = GROUP / LANES;

/// Numbers of a cache in any width.
trait Stored: Copy {
    /// Whether they have scales.
    const SCALES: bool = false;

    /// Eight numbers, widened.
    ///
    /// # Safety
    /// The CPU has the instructions of this folder; `from` points to eight numbers.
    unsafe fn load(from: *const Self) -> __m256;
}

impl Stored for f32 {
    #[target_feature(enable = "avx2,fma,f16c")]
    #[inline]
    unsafe fn load(from: *const f32) -> __m256 {
        // SAFETY: the caller's word.
        unsafe { _mm256_loadu_ps(from) }
    }
}

impl Stored for half::f16 {
    #[target_feature(enable = "avx2,fma,f16c")]
    #[inline]
    unsafe fn load(from: *const half::f16) -> __m256 {
        // SAFETY: the caller's word.
        unsafe { _mm256_cvtph_ps(_mm_loadu_si128(from.cast())) }
    }
}

impl Stored for i8 {
    const SCALES: bool = true;

    #[target_feature(enable = "avx2,fma,f16c")]
    #[inline]
    unsafe fn load(from: *const i8) -> __m256 {
        // SAFETY: the caller's word.
        unsafe { _mm256_cvtepi32_ps(_mm256_cvtepi8_epi32(_mm_loadl_epi64(from.cast()))) }
    }
}

/// Eight numbers times a scale each.
///
/// # Safety
/// As [`Stored::load`]; if there are scales, `scales` points to eight.
#[target_feature(enable = "avx2,fma,f16c")]
#[inline]
unsafe fn load_each<T: Stored>(from: *const T, scales: *const f32) -> __m256 {
    // SAFETY: the caller's word.
    unsafe { if T::SCALES { _mm256_mul_ps(T::load(from), _mm256_loadu_ps(scales)) } else { T::load(from) } }
}

/// Eight numbers times one scale.
///
/// # Safety
/// As [`Stored::load`]; if there are scales, `scale` points to one.
#[target_feature(enable = "avx2,fma,f16c")]
#[inline]
unsafe fn load_all<T: Stored>(from: *const T, scale: *const f32) -> __m256 {
    // SAFETY: the caller's word.
    unsafe { if T::SCALES { _mm256_mul_ps(T::load(from), _mm256_set1_ps(*scale)) } else { T::load(from) } }
}

/// From the first position that any of the lines sees to behind the last.
fn span(visible: &[Visible]) -> Range<usize> {
    let seen = visible.iter().filter(|seen| !seen.is_empty());
    let start = seen.clone().map(|seen| seen.start).min().unwrap_or(0);
    start..seen.map(|seen| seen.end).max().unwrap_or(0)
}

/// Calls the tile function with the number of lines as a constant.
macro_rules! tiles {
    ($count:expr, $function:ident, $type:ty, $($argument:expr),*) => {
        match $count {
            1 => $function::<$type, 1>($($argument),*),
            2 => $function::<$type, 2>($($argument),*),
            3 => $function::<$type, 3>($($argument),*),
            4 => $function::<$type, 4>($($argument),*),
            5 => $function::<$type, 5>($($argument),*),
            _ => $function::<$type, TILE>($($argument),*),
        }
    };
}

/// # Safety
/// The CPU has the instructions of this folder; the task's parts have the lengths that [`Scores`] states.
#[target_feature(enable = "avx2,fma,f16c")]
pub unsafe fn scores(task: &mut Scores) {
    // SAFETY: the caller's word.
    unsafe {
        match task.keys {
            Cached::F32(keys) => scores_of(task, keys),
            Cached::F16(keys) => scores_of(task, keys),
            Cached::Q8_0(keys) => scores_of(task, keys),
        }
    }
}

/// # Safety
/// As [`scores`].
#[target_feature(enable = "avx2,fma,f16c")]
unsafe fn scores_of<T: Stored>(task: &mut Scores, keys: Numbers<T>) {
    let lines = task.visible.len();
    assert!(task.q.len() >= lines * task.dim && task.out.len() >= lines * BLOCK);
    for line in (0..lines).step_by(TILE) {
        let count = (lines - line).min(TILE);
        let seen = span(&task.visible[line..line + count]);
        let groups = seen.start / GROUP..seen.end.div_ceil(GROUP);
        assert!(keys.stored.len() >= groups.end * GROUP * task.dim);
        assert!(!T::SCALES || keys.scales.len() >= groups.end * GROUP * blocks(task.dim));
        for group in groups {
            // SAFETY: lines and groups are there, as just checked.
            unsafe { tiles!(count, scores_tile, T, task, keys, line, group) }
        }
    }
}

/// # Safety
/// The CPU has the instructions; there are `M` lines from `line` on, and keys for `group`.
#[target_feature(enable = "avx2,fma,f16c")]
#[inline]
unsafe fn scores_tile<T: Stored, const M: usize>(task: &mut Scores, keys: Numbers<T>, line: usize, group: usize) {
    let dim = task.dim;
    let mut sums = [[_mm256_setzero_ps(); WIDTH]; M];
    // SAFETY: the caller's word.
    unsafe {
        let q = task.q.as_ptr().add(line * dim);
        let scales = keys.scales.as_ptr().wrapping_add(group * blocks(dim) * GROUP);
        let next = keys.next.as_ptr().wrapping_add(group * dim * GROUP);
        let keys = keys.stored.as_ptr().add(group * dim * GROUP);
        for d in 0..dim {
            if M < TILE {
                fetch(next.wrapping_add(d * GROUP), GROUP);
            }
            let (keys, scales) = (keys.add(d * GROUP), scales.wrapping_add(d / SCALED * GROUP));
            let k = [load_each(keys, scales), load_each(keys.add(LANES), scales.wrapping_add(LANES))];
            for (m, sums) in sums.iter_mut().enumerate() {
                let q = _mm256_set1_ps(*q.add(m * dim + d));
                for (sum, k) in sums.iter_mut().zip(k) {
                    *sum = _mm256_fmadd_ps(q, k, *sum);
                }
            }
        }
        for (m, sums) in sums.into_iter().enumerate() {
            for (n, sum) in sums.into_iter().enumerate() {
                _mm256_storeu_ps(task.out.as_mut_ptr().add((line + m) * BLOCK + group * GROUP + n * LANES), sum);
            }
        }
    }
}

/// # Safety
/// The CPU has the instructions of this folder; the task's parts have the lengths that [`Softmax`] states.
#[target_feature(enable = "avx2,fma,f16c")]
pub unsafe fn softmax(task: &mut Softmax) {
    let lowest = _mm256_set1_ps(f32::NEG_INFINITY);
    for (line, scores) in task.scores.as_chunks_mut::<BLOCK>().0.iter_mut().enumerate().take(task.visible.len()) {
        let Range { start, end } = task.visible[line];
        let (first, last) = (_mm256_set1_epi32(start as i32 - 1), _mm256_set1_epi32(end as i32));
        let (mut x, mut seen) = ([lowest; BLOCK / LANES], [lowest; BLOCK / LANES]);
        let mut highest = lowest;
        for n in 0..BLOCK / LANES {
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
            // SAFETY: as above.
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

/// # Safety
/// The CPU has the instructions of this folder; the task's parts have the lengths that [`Weigh`] states.
#[target_feature(enable = "avx2,fma,f16c")]
pub unsafe fn weigh(task: &mut Weigh) {
    // SAFETY: the caller's word.
    unsafe {
        match task.values {
            Cached::F32(values) => weigh_of(task, values),
            Cached::F16(values) => weigh_of(task, values),
            Cached::Q8_0(values) => weigh_of(task, values),
        }
    }
}

/// # Safety
/// As [`weigh`].
#[target_feature(enable = "avx2,fma,f16c")]
unsafe fn weigh_of<T: Stored>(task: &mut Weigh, values: Numbers<T>) {
    let (lines, padded) = (task.visible.len(), task.padded);
    assert!(task.weights.len() >= lines * BLOCK && task.sums.len() >= lines * padded && task.correction.len() >= lines);
    for line in (0..lines).step_by(TILE) {
        let count = (lines - line).min(TILE);
        let seen = span(&task.visible[line..line + count]);
        assert!(values.stored.len() >= seen.end * padded);
        assert!(!T::SCALES || values.scales.len() >= seen.end * blocks(padded));
        for first in (0..padded).step_by(GROUP) {
            // SAFETY: lines and positions are there, as just checked.
            unsafe { tiles!(count, weigh_tile, T, task, values, line, seen.clone(), first) }
        }
    }
}

/// # Safety
/// The CPU has the instructions; there are `M` lines from `line` on, values for all positions `seen`, and 16 numbers from `first` on.
#[target_feature(enable = "avx2,fma,f16c")]
#[inline]
unsafe fn weigh_tile<T: Stored, const M: usize>(
    task: &mut Weigh,
    values: Numbers<T>,
    line: usize,
    seen: Range<usize>,
    first: usize,
) {
    let padded = task.padded;
    let mut sums = [[_mm256_setzero_ps(); WIDTH]; M];
    // SAFETY: the caller's word.
    unsafe {
        let out = task.sums.as_mut_ptr().add(line * padded + first);
        for (m, sums) in sums.iter_mut().enumerate() {
            let correction = _mm256_set1_ps(task.correction[line + m]);
            for (n, sum) in sums.iter_mut().enumerate() {
                *sum = _mm256_mul_ps(_mm256_loadu_ps(out.add(m * padded + n * LANES)), correction);
            }
        }
        let weights = task.weights.as_ptr().add(line * BLOCK);
        for position in seen {
            let scale = values.scales.as_ptr().wrapping_add(position * blocks(padded) + first / SCALED);
            if M < TILE && first == 0 {
                fetch(values.next.as_ptr().wrapping_add(position * padded), padded);
            }
            let values = values.stored.as_ptr().add(position * padded + first);
            let v = [load_all(values, scale), load_all(values.add(LANES), scale)];
            for (m, sums) in sums.iter_mut().enumerate() {
                let weight = _mm256_set1_ps(*weights.add(m * BLOCK + position));
                for (sum, v) in sums.iter_mut().zip(v) {
                    *sum = _mm256_fmadd_ps(weight, v, *sum);
                }
            }
        }
        for (m, sums) in sums.into_iter().enumerate() {
            for (n, sum) in sums.into_iter().enumerate() {
                _mm256_storeu_ps(out.add(m * padded + n * LANES), sum);
            }
        }
    }
}
