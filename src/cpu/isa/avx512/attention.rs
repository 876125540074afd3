//! The inner steps of attention: tiles of up to 6 lines times 64 positions, or times 64 dimensions of the values.

use super::{LANES, element::exp, total};
use crate::cpu::attention::{Cached, Numbers, POSITIONS, Scores, Softmax, Visible, Weigh};
use crate::cpu::isa::tiles::{self, CacheNumber, load_all, load_each, span};
use crate::cpu::rows::{SCALED, blocks};
use std::arch::x86_64::*;
use std::mem::MaybeUninit;

/// Lines in a tile.
const LINES: usize = 6;
/// Registers across a tile.
const WIDTH: usize = POSITIONS / LANES;

/// Lines from which it pays to widen a block of the cache once, rather than in every tile. Fewer fetch the next block ahead.
const FEW: usize = 3 * LINES;
/// Numbers of a block that are widened at most: 32 KiB.
const WIDENED: usize = POSITIONS * 128;

/// Room for the numbers of a block, widened.
type Widened = [MaybeUninit<f32>; WIDENED];

/// The first groups of some keys, widened into `out`.
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx512vnni,fma,f16c")]
fn widen_keys<'a, T: CacheNumber>(keys: Numbers<T>, groups: usize, dim: usize, out: &'a mut Widened) -> Numbers<'a, f32> {
    let count = groups * dim * LANES;
    assert!(count <= keys.stored.len() && count <= WIDENED);
    assert!(!T::SCALES || keys.scales.len() >= groups * blocks(dim) * LANES);
    for group in 0..groups {
        for d in 0..dim {
            let (at, scales) = ((group * dim + d) * LANES, (group * blocks(dim) + d / SCALED) * LANES);
            // SAFETY: sixteen numbers, and scales if there are any, are there, as just checked.
            unsafe {
                let x: __m512 = load_each(keys.stored.as_ptr().add(at), keys.scales.as_ptr().wrapping_add(scales));
                _mm512_storeu_ps(out.as_mut_ptr().add(at).cast(), x);
            }
        }
    }
    // SAFETY: the first `count` have just been written.
    Numbers { stored: unsafe { std::slice::from_raw_parts(out.as_ptr().cast(), count) }, next: &[], scales: &[] }
}

/// The first rows of some values, widened into `out`.
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx512vnni,fma,f16c")]
fn widen_values<'a, T: CacheNumber>(values: Numbers<T>, rows: usize, padded: usize, out: &'a mut Widened) -> Numbers<'a, f32> {
    let count = rows * padded;
    assert!(count <= values.stored.len() && count <= WIDENED && padded.is_multiple_of(LANES));
    assert!(!T::SCALES || values.scales.len() >= rows * blocks(padded));
    for row in 0..rows {
        for d in (0..padded).step_by(LANES) {
            let (at, scale) = (row * padded + d, row * blocks(padded) + d / SCALED);
            // SAFETY: sixteen numbers, and a scale if there is one, are there, as just checked.
            unsafe {
                let x: __m512 = load_all(values.stored.as_ptr().add(at), values.scales.as_ptr().wrapping_add(scale));
                _mm512_storeu_ps(out.as_mut_ptr().add(at).cast(), x);
            }
        }
    }
    // SAFETY: the first `count` have just been written.
    Numbers { stored: unsafe { std::slice::from_raw_parts(out.as_ptr().cast(), count) }, next: &[], scales: &[] }
}

/// # Safety
/// The CPU has the instructions of this folder. The lengths of the task's parts are checked.
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx512vnni,fma,f16c")]
pub unsafe fn scores(task: &mut Scores) {
    // SAFETY: this function has the same instructions.
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
unsafe fn scores_widened<T: CacheNumber>(task: &mut Scores, keys: Numbers<T>) {
    let many = task.visible.len() >= FEW && task.dim * POSITIONS <= WIDENED;
    // SAFETY: this function has the same instructions.
    unsafe { if many { scores_of_many(task, keys) } else { scores_of(task, keys) } }
}

/// Not inlined: for so much room on the stack each of its pages is touched first, which is a long time for a few lines.
///
/// # Safety
/// As [`scores`].
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx512vnni,fma,f16c")]
#[inline(never)]
unsafe fn scores_of_many<T: CacheNumber>(task: &mut Scores, keys: Numbers<T>) {
    let groups = span(task.visible).end.div_ceil(LANES);
    let mut numbers = [const { MaybeUninit::uninit() }; WIDENED];
    // SAFETY: this function has the same instructions.
    unsafe { scores_of(task, widen_keys(keys, groups, task.dim, &mut numbers)) }
}

/// # Safety
/// As [`scores`].
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx512vnni,fma,f16c")]
unsafe fn scores_of<T: CacheNumber>(task: &mut Scores, keys: Numbers<T>) {
    // SAFETY: the instructions of `__m512` are among those of this folder.
    unsafe { tiles::scores_of::<__m512, T, LINES, WIDTH, FEW>(task, keys) }
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
    let scores = &mut scores.as_chunks_mut::<POSITIONS>().0[..lines];
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
            // SAFETY: a line has 64 scores.
            unsafe { _mm512_storeu_ps(scores.as_mut_ptr().add(n * LANES), *x) };
        }
        let block = total(_mm512_add_ps(_mm512_add_ps(x[0], x[1]), _mm512_add_ps(x[2], x[3])));
        sum[line] = sum[line].mul_add(correction[line], block);
    }
}

/// A bit for each position of a block: whether it is seen.
#[inline(always)]
fn bits(seen: &Visible) -> u64 {
    let upto = |end: usize| if end >= POSITIONS { !0 } else { (1u64 << end) - 1 };
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
/// The CPU has the instructions of this folder. The lengths of the task's parts are checked.
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx512vnni,fma,f16c")]
pub unsafe fn weigh(task: &mut Weigh) {
    // SAFETY: this function has the same instructions.
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
unsafe fn weigh_widened<T: CacheNumber>(task: &mut Weigh, values: Numbers<T>) {
    let many = task.visible.len() >= FEW && task.padded * POSITIONS <= WIDENED;
    // SAFETY: this function has the same instructions.
    unsafe { if many { weigh_of_many(task, values) } else { weigh_of(task, values) } }
}

/// Not inlined, as [`scores_of_many`].
///
/// # Safety
/// As [`weigh`].
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx512vnni,fma,f16c")]
#[inline(never)]
unsafe fn weigh_of_many<T: CacheNumber>(task: &mut Weigh, values: Numbers<T>) {
    let mut numbers = [const { MaybeUninit::uninit() }; WIDENED];
    // SAFETY: this function has the same instructions.
    unsafe { weigh_of(task, widen_values(values, span(task.visible).end, task.padded, &mut numbers)) }
}

/// # Safety
/// As [`weigh`].
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx512vnni,fma,f16c")]
unsafe fn weigh_of<T: CacheNumber>(task: &mut Weigh, values: Numbers<T>) {
    // SAFETY: the instructions of `__m512` are among those of this folder.
    unsafe { tiles::weigh_of::<__m512, T, LINES, WIDTH, FEW>(task, values) }
}
