//! The inner steps of attention: tiles of up to 4 lines times 16 positions, or times 16 dimensions of the values.

use super::{LANES, halves};
use crate::cpu::attention::{BLOCK, Cached, Numbers, Scores, Visible, Weigh};
use crate::cpu::rows::{BLOCK as SCALED, LANES as GROUP, blocks};
use std::arch::aarch64::*;
use std::ops::Range;

/// Lines in a tile.
const TILE: usize = 4;
/// Registers across a tile.
const WIDTH: usize = GROUP / LANES;

/// Sixteen numbers.
type Wide = [float32x4_t; WIDTH];

/// Numbers of a cache in any width.
trait Stored: Copy {
    /// Whether they have scales.
    const SCALES: bool = false;

    /// Sixteen numbers, widened.
    ///
    /// # Safety
    /// The CPU has NEON; `from` points to sixteen numbers.
    unsafe fn load(from: *const Self) -> Wide;
}

impl Stored for f32 {
    #[target_feature(enable = "neon")]
    #[inline]
    unsafe fn load(from: *const f32) -> Wide {
        // SAFETY: the caller's word.
        unsafe { [0, 1, 2, 3].map(|i| vld1q_f32(from.add(i * LANES))) }
    }
}

impl Stored for half::f16 {
    #[target_feature(enable = "neon")]
    #[inline]
    unsafe fn load(from: *const half::f16) -> Wide {
        // SAFETY: the caller's word.
        let ([a, b], [c, d]) = unsafe { (halves(from.cast()), halves(from.add(2 * LANES).cast())) };
        [a, b, c, d]
    }
}

impl Stored for i8 {
    const SCALES: bool = true;

    #[target_feature(enable = "neon")]
    #[inline]
    unsafe fn load(from: *const i8) -> Wide {
        // SAFETY: the caller's word.
        let bytes = unsafe { vld1q_s8(from) };
        let (low, high) = (vmovl_s8(vget_low_s8(bytes)), vmovl_high_s8(bytes));
        [
            vcvtq_f32_s32(vmovl_s16(vget_low_s16(low))),
            vcvtq_f32_s32(vmovl_high_s16(low)),
            vcvtq_f32_s32(vmovl_s16(vget_low_s16(high))),
            vcvtq_f32_s32(vmovl_high_s16(high)),
        ]
    }
}

/// Sixteen numbers times a scale each.
///
/// # Safety
/// As [`Stored::load`]; if there are scales, `scales` points to sixteen.
#[target_feature(enable = "neon")]
#[inline]
unsafe fn load_each<T: Stored>(from: *const T, scales: *const f32) -> Wide {
    // SAFETY: the caller's word.
    unsafe {
        let x = T::load(from);
        if T::SCALES { [0, 1, 2, 3].map(|i| vmulq_f32(x[i], vld1q_f32(scales.add(i * LANES)))) } else { x }
    }
}

/// Sixteen numbers times one scale.
///
/// # Safety
/// As [`Stored::load`]; if there are scales, `scale` points to one.
#[target_feature(enable = "neon")]
#[inline]
unsafe fn load_all<T: Stored>(from: *const T, scale: *const f32) -> Wide {
    // SAFETY: the caller's word.
    unsafe {
        let x = T::load(from);
        if T::SCALES { x.map(|x| vmulq_n_f32(x, *scale)) } else { x }
    }
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
            _ => $function::<$type, TILE>($($argument),*),
        }
    };
}

/// # Safety
/// The CPU has NEON; the task's parts have the lengths that [`Scores`] states.
#[target_feature(enable = "neon")]
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
#[target_feature(enable = "neon")]
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
/// The CPU has NEON; there are `M` lines from `line` on, and keys for `group`.
#[target_feature(enable = "neon")]
#[inline]
unsafe fn scores_tile<T: Stored, const M: usize>(task: &mut Scores, keys: Numbers<T>, line: usize, group: usize) {
    let dim = task.dim;
    let mut sums = [[vdupq_n_f32(0.0); WIDTH]; M];
    // SAFETY: the caller's word.
    unsafe {
        let q = task.q.as_ptr().add(line * dim);
        let scales = keys.scales.as_ptr().wrapping_add(group * blocks(dim) * GROUP);
        let keys = keys.stored.as_ptr().add(group * dim * GROUP);
        for d in 0..dim {
            let k = load_each(keys.add(d * GROUP), scales.wrapping_add(d / SCALED * GROUP));
            for (m, sums) in sums.iter_mut().enumerate() {
                let q = *q.add(m * dim + d);
                for (sum, k) in sums.iter_mut().zip(k) {
                    *sum = vfmaq_n_f32(*sum, k, q);
                }
            }
        }
        for (m, sums) in sums.into_iter().enumerate() {
            for (n, sum) in sums.into_iter().enumerate() {
                vst1q_f32(task.out.as_mut_ptr().add((line + m) * BLOCK + group * GROUP + n * LANES), sum);
            }
        }
    }
}

/// # Safety
/// The CPU has NEON; the task's parts have the lengths that [`Weigh`] states.
#[target_feature(enable = "neon")]
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
#[target_feature(enable = "neon")]
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
/// The CPU has NEON; there are `M` lines from `line` on, values for all positions `seen`, and 16 numbers from `first` on.
#[target_feature(enable = "neon")]
#[inline]
unsafe fn weigh_tile<T: Stored, const M: usize>(
    task: &mut Weigh,
    values: Numbers<T>,
    line: usize,
    seen: Range<usize>,
    first: usize,
) {
    let padded = task.padded;
    let mut sums = [[vdupq_n_f32(0.0); WIDTH]; M];
    // SAFETY: the caller's word.
    unsafe {
        let out = task.sums.as_mut_ptr().add(line * padded + first);
        for (m, sums) in sums.iter_mut().enumerate() {
            for (n, sum) in sums.iter_mut().enumerate() {
                *sum = vmulq_n_f32(vld1q_f32(out.add(m * padded + n * LANES)), task.correction[line + m]);
            }
        }
        let weights = task.weights.as_ptr().add(line * BLOCK);
        for position in seen {
            let scale = values.scales.as_ptr().wrapping_add(position * blocks(padded) + first / SCALED);
            let v = load_all(values.stored.as_ptr().add(position * padded + first), scale);
            for (m, sums) in sums.iter_mut().enumerate() {
                let weight = *weights.add(m * BLOCK + position);
                for (sum, v) in sums.iter_mut().zip(v) {
                    *sum = vfmaq_n_f32(*sum, v, weight);
                }
            }
        }
        for (m, sums) in sums.into_iter().enumerate() {
            for (n, sum) in sums.into_iter().enumerate() {
                vst1q_f32(out.add(m * padded + n * LANES), sum);
            }
        }
    }
}
