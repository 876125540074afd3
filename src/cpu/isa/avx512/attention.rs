//! The inner steps of attention: tiles of up to 6 lines times 64 positions, or times 64 dimensions of the values.

use super::{LANES, element::exp, total};
use crate::cpu::attention::{BLOCK, Cached, Numbers, Scores, Softmax, Visible, Weigh};
use crate::cpu::prefetch::fetch;
use crate::cpu::rows::{BLOCK as SCALED, blocks};
use std::arch::x86_64::*;
use std::mem::MaybeUninit;
use std::ops::Range;

/// Lines in a tile.
const TILE: usize = 6;
/// Registers across a tile.
const WIDTH: usize = BLOCK / LANES;

/// Lines from which it pays to widen a block of the cache once, rather than in every tile.
const MANY: usize = 3 * TILE;
/// Numbers of a block that are widened at most: 32 KiB.
const WIDENED: usize = BLOCK * 128;

/// Room for the numbers of a block, widened.
type Widened = [MaybeUninit<f32>; WIDENED];

/// The first groups of some keys, widened into `out`.
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx512vnni,fma,f16c")]
fn widen_keys<'a, T: Stored>(keys: Numbers<T>, groups: usize, dim: usize, out: &'a mut Widened) -> Numbers<'a, f32> {
    let count = groups * dim * LANES;
    assert!(count <= keys.stored.len() && count <= WIDENED);
    assert!(!T::SCALES || keys.scales.len() >= groups * blocks(dim) * LANES);
    for group in 0..groups {
        for d in 0..dim {
            let (at, scales) = ((group * dim + d) * LANES, (group * blocks(dim) + d / SCALED) * LANES);
            // SAFETY: sixteen numbers, and scales if there are any, are there, as just checked.
            unsafe {
                let x = load_each(keys.stored.as_ptr().add(at), keys.scales.as_ptr().wrapping_add(scales));
                _mm512_storeu_ps(out.as_mut_ptr().add(at).cast(), x);
            }
        }
    }
    // SAFETY: the first `count` have just been written.
    Numbers { stored: unsafe { std::slice::from_raw_parts(out.as_ptr().cast(), count) }, next: &[], scales: &[] }
}

/// The first rows of some values, widened into `out`.
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx512vnni,fma,f16c")]
fn widen_values<'a, T: Stored>(values: Numbers<T>, rows: usize, padded: usize, out: &'a mut Widened) -> Numbers<'a, f32> {
    let count = rows * padded;
    assert!(count <= values.stored.len() && count <= WIDENED && padded.is_multiple_of(LANES));
    assert!(!T::SCALES || values.scales.len() >= rows * blocks(padded));
    for row in 0..rows {
        for d in (0..padded).step_by(LANES) {
            let (at, scale) = (row * padded + d, row * blocks(padded) + d / SCALED);
            // SAFETY: sixteen numbers, and a scale if there is one, are there, as just checked.
            unsafe {
                let x = load_all(values.stored.as_ptr().add(at), values.scales.as_ptr().wrapping_add(scale));
                _mm512_storeu_ps(out.as_mut_ptr().add(at).cast(), x);
            }
        }
    }
    // SAFETY: the first `count` have just been written.
    Numbers { stored: unsafe { std::slice::from_raw_parts(out.as_ptr().cast(), count) }, next: &[], scales: &[] }
}

/// Numbers of a cache in any width.
trait Stored: Copy {
    /// Whether they have scales.
    const SCALES: bool = false;

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

impl Stored for i8 {
    const SCALES: bool = true;

    #[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx512vnni,fma,f16c")]
    #[inline]
    unsafe fn load(from: *const i8) -> __m512 {
        // SAFETY: the caller's word.
        unsafe { _mm512_cvtepi32_ps(_mm512_cvtepi8_epi32(_mm_loadu_si128(from.cast()))) }
    }
}

/// Whether a tile that ends at line `end` of `lines` fetches the next block: of few lines the last tile does, once for all.
#[inline(always)]
fn ahead(end: usize, lines: usize) -> bool {
    end == lines && lines < MANY
}

/// Sixteen numbers times a scale each.
///
/// # Safety
/// As [`Stored::load`]; if there are scales, `scales` points to sixteen.
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx512vnni,fma,f16c")]
#[inline]
unsafe fn load_each<T: Stored>(from: *const T, scales: *const f32) -> __m512 {
    // SAFETY: the caller's word.
    unsafe { if T::SCALES { _mm512_mul_ps(T::load(from), _mm512_loadu_ps(scales)) } else { T::load(from) } }
}

/// Sixteen numbers times one scale.
///
/// # Safety
/// As [`Stored::load`]; if there are scales, `scale` points to one.
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx512vnni,fma,f16c")]
#[inline]
unsafe fn load_all<T: Stored>(from: *const T, scale: *const f32) -> __m512 {
    // SAFETY: the caller's word.
    unsafe { if T::SCALES { _mm512_mul_ps(T::load(from), _mm512_set1_ps(*scale)) } else { T::load(from) } }
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
            Cached::F16(keys) => scores_widened(task, keys),
            Cached::Q8_0(keys) => scores_widened(task, keys),
        }
    }
}

/// The same, of keys that are widened first where it pays.
///
/// # Safety
/// As [`scores`].
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx512vnni,fma,f16c")]
unsafe fn scores_widened<T: Stored>(task: &mut Scores, keys: Numbers<T>) {
    let many = task.visible.len() >= MANY && task.dim * BLOCK <= WIDENED;
    // SAFETY: the caller's word.
    unsafe { if many { scores_of_many(task, keys) } else { scores_of(task, keys) } }
}

/// Not inlined: for so much room on the stack each of its pages is touched first, which is a long time for a few lines.
///
/// # Safety
/// As [`scores`].
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx512vnni,fma,f16c")]
#[inline(never)]
unsafe fn scores_of_many<T: Stored>(task: &mut Scores, keys: Numbers<T>) {
    let groups = span(task.visible).end.div_ceil(LANES);
    let mut numbers = [const { MaybeUninit::uninit() }; WIDENED];
    // SAFETY: the caller's word.
    unsafe { scores_of(task, widen_keys(keys, groups, task.dim, &mut numbers)) }
}

/// # Safety
/// As [`scores`].
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx512vnni,fma,f16c")]
unsafe fn scores_of<T: Stored>(task: &mut Scores, keys: Numbers<T>) {
    let lines = task.visible.len();
    assert!(task.q.len() >= lines * task.dim && task.out.len() >= lines * BLOCK);
    for line in (0..lines).step_by(TILE) {
        let count = (lines - line).min(TILE);
        let seen = span(&task.visible[line..line + count]);
        let groups = seen.start / LANES..seen.end.div_ceil(LANES);
        assert!(keys.stored.len() >= groups.end * LANES * task.dim);
        assert!(!T::SCALES || keys.scales.len() >= groups.end * LANES * blocks(task.dim));
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
unsafe fn scores_wide<T: Stored, const M: usize>(task: &mut Scores, keys: Numbers<T>, line: usize, groups: Range<usize>) {
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
unsafe fn scores_tile<T: Stored, const M: usize, const N: usize>(
    task: &mut Scores,
    keys: Numbers<T>,
    line: usize,
    group: usize,
) {
    let dim = task.dim;
    let mut sums = [[_mm512_setzero_ps(); N]; M];
    // SAFETY: the caller's word.
    unsafe {
        let q = task.q.as_ptr().add(line * dim);
        let scales = keys.scales.as_ptr().wrapping_add(group * blocks(dim) * LANES);
        let next = keys.next.as_ptr().wrapping_add(group * dim * LANES);
        let keys = keys.stored.as_ptr().add(group * dim * LANES);
        let ahead = ahead(line + M, task.visible.len());
        for d in 0..dim {
            if ahead {
                fetch(next.wrapping_add(d * N * LANES), N * LANES);
            }
            let mut k = [_mm512_setzero_ps(); N];
            for (n, k) in k.iter_mut().enumerate() {
                let scales = scales.wrapping_add((n * blocks(dim) + d / SCALED) * LANES);
                *k = load_each(keys.add((n * dim + d) * LANES), scales);
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

/// In three passes over the lines, so that none waits for what the line before it computes last.
///
/// # Safety
/// The CPU has the instructions of this folder; the task's parts have the lengths that [`Softmax`] states.
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx512vnni,fma,f16c")]
pub unsafe fn softmax(task: &mut Softmax) {
    let lowest = _mm512_set1_ps(f32::NEG_INFINITY);
    let lines = task.visible.len();
    let Softmax { scores, visible, max, sum, correction } = task;
    let scores = &mut scores.as_chunks_mut::<BLOCK>().0[..lines];
    let (max, sum, correction) = (&mut max[..lines], &mut sum[..lines], &mut correction[..lines]);

    // What was the largest so far goes where its correction will be.
    correction.copy_from_slice(max);
    for ((scores, seen), max) in scores.iter().zip(*visible).zip(max.iter_mut()) {
        let (mut highest, bits) = (lowest, bits(seen));
        for n in 0..WIDTH {
            let mask = (bits >> (n * LANES)) as __mmask16;
            // SAFETY: a line has 64 scores.
            let x = unsafe { _mm512_mask_loadu_ps(lowest, mask, scores.as_ptr().add(n * LANES)) };
            highest = _mm512_max_ps(highest, x);
        }
        let highest = highest_lane(highest);
        *max = if highest > *max { highest } else { *max };
    }
    for (max, correction) in max.chunks(LANES).zip(correction.chunks_mut(LANES)) {
        let mask = super::mask(max.len());
        // SAFETY: the mask keeps to the chunks.
        unsafe {
            let old = _mm512_maskz_loadu_ps(mask, correction.as_ptr());
            let reference = reference(_mm512_maskz_loadu_ps(mask, max.as_ptr()));
            _mm512_mask_storeu_ps(correction.as_mut_ptr(), mask, exp(_mm512_sub_ps(old, reference)));
        }
    }
    for (line, scores) in scores.iter_mut().enumerate() {
        let reference = reference(_mm512_set1_ps(max[line]));
        let (mut x, bits) = ([lowest; WIDTH], bits(&visible[line]));
        for (n, x) in x.iter_mut().enumerate() {
            let mask = (bits >> (n * LANES)) as __mmask16;
            // SAFETY: a line has 64 scores.
            let score = unsafe { _mm512_maskz_loadu_ps(mask, scores.as_ptr().add(n * LANES)) };
            *x = if mask == 0 { _mm512_setzero_ps() } else { _mm512_maskz_mov_ps(mask, exp(_mm512_sub_ps(score, reference))) };
            // SAFETY: as above.
            unsafe { _mm512_storeu_ps(scores.as_mut_ptr().add(n * LANES), *x) };
        }
        let block = total(_mm512_add_ps(_mm512_add_ps(x[0], x[1]), _mm512_add_ps(x[2], x[3])));
        sum[line] = sum[line].mul_add(correction[line], block);
    }
}

/// A bit for each position of a block: whether it is seen.
#[inline(always)]
fn bits(seen: &Visible) -> u64 {
    let upto = |end: usize| if end >= BLOCK { !0 } else { (1u64 << end) - 1 };
    upto(seen.end) & !upto(seen.start)
}

/// What scores are compared with: their maximum, or any finite number if nothing has been seen so far.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx512vnni,fma,f16c")]
fn reference(max: __m512) -> __m512 {
    _mm512_maskz_mov_ps(_mm512_cmp_ps_mask::<_CMP_NEQ_UQ>(max, _mm512_set1_ps(f32::NEG_INFINITY)), max)
}

#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx512vnni,fma,f16c")]
fn highest_lane(x: __m512) -> f32 {
    let eight = _mm256_max_ps(_mm512_castps512_ps256(x), _mm512_extractf32x8_ps::<1>(x));
    let four = _mm_max_ps(_mm256_castps256_ps128(eight), _mm256_extractf128_ps::<1>(eight));
    let two = _mm_max_ps(four, _mm_movehl_ps(four, four));
    _mm_cvtss_f32(_mm_max_ss(two, _mm_movehdup_ps(two)))
}

/// # Safety
/// The CPU has the instructions of this folder; the task's parts have the lengths that [`Weigh`] states.
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx512vnni,fma,f16c")]
pub unsafe fn weigh(task: &mut Weigh) {
    // SAFETY: the caller's word.
    unsafe {
        match task.values {
            Cached::F32(values) => weigh_of(task, values),
            Cached::F16(values) => weigh_widened(task, values),
            Cached::Q8_0(values) => weigh_widened(task, values),
        }
    }
}

/// The same, of values that are widened first where it pays.
///
/// # Safety
/// As [`weigh`].
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx512vnni,fma,f16c")]
unsafe fn weigh_widened<T: Stored>(task: &mut Weigh, values: Numbers<T>) {
    let many = task.visible.len() >= MANY && task.padded * BLOCK <= WIDENED;
    // SAFETY: the caller's word.
    unsafe { if many { weigh_of_many(task, values) } else { weigh_of(task, values) } }
}

/// Not inlined, as [`scores_of_many`].
///
/// # Safety
/// As [`weigh`].
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx512vnni,fma,f16c")]
#[inline(never)]
unsafe fn weigh_of_many<T: Stored>(task: &mut Weigh, values: Numbers<T>) {
    let mut numbers = [const { MaybeUninit::uninit() }; WIDENED];
    // SAFETY: the caller's word.
    unsafe { weigh_of(task, widen_values(values, span(task.visible).end, task.padded, &mut numbers)) }
}

/// # Safety
/// As [`weigh`].
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx512vnni,fma,f16c")]
unsafe fn weigh_of<T: Stored>(task: &mut Weigh, values: Numbers<T>) {
    let (lines, padded) = (task.visible.len(), task.padded);
    assert!(task.weights.len() >= lines * BLOCK && task.sums.len() >= lines * padded && task.correction.len() >= lines);
    for line in (0..lines).step_by(TILE) {
        let count = (lines - line).min(TILE);
        let seen = span(&task.visible[line..line + count]);
        if seen.is_empty() {
            continue;
        }
        assert!(values.stored.len() >= seen.end * padded);
        assert!(!T::SCALES || values.scales.len() >= seen.end * blocks(padded));
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
unsafe fn weigh_wide<T: Stored, const M: usize>(task: &mut Weigh, values: Numbers<T>, line: usize, seen: Range<usize>) {
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
    values: Numbers<T>,
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
        let ahead = ahead(line + M, task.visible.len());
        for position in seen {
            let scales = values.scales.as_ptr().wrapping_add(position * blocks(padded));
            let at = position * padded + first * LANES;
            if ahead {
                fetch(values.next.as_ptr().wrapping_add(at), N * LANES);
            }
            let values = values.stored.as_ptr().add(at);
            let mut v = [_mm512_setzero_ps(); N];
            for (n, v) in v.iter_mut().enumerate() {
                *v = load_all(values.add(n * LANES), scales.wrapping_add((first + n) * LANES / SCALED));
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
