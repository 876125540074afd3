//! The two products of attention, scores and weighted values, for every instruction set: written once over [`Lanes`].
//!
//! Both go over the lines in tiles: some lines times some *sixteens*, which are 16 positions of the keys or 16 numbers of a
//! row of values, each in the registers of one [`Lanes`]. An output is one chain of fused multiply-adds, over the
//! dimensions or over the positions in order, and a number of the cache is widened, then scaled, before it enters: so the
//! size of the tiles does not show in the bits. How large they are is a matter of how many registers a set has.

use crate::cpu::attention::{Cached, Numbers, POSITIONS, Scores, Visible, Weigh};
use crate::cpu::float::Lanes;
use crate::cpu::prefetch::fetch;
use crate::cpu::rows::{GROUP as SIXTEEN, SCALED, blocks};
use half::f16;
use std::ops::Range;

/// A number of the cache, as it is stored.
pub trait CacheNumber: Copy {
    /// Whether there are scales beside the numbers.
    const SCALES: bool = false;

    /// Sixteen numbers, widened.
    ///
    /// # Safety
    /// The CPU has the instructions of `L`; `from` points to sixteen numbers.
    unsafe fn load<L: Lanes>(from: *const Self) -> L;
}

impl CacheNumber for f32 {
    #[inline(always)]
    unsafe fn load<L: Lanes>(from: *const f32) -> L {
        // SAFETY: what this function asks of its caller.
        unsafe { L::load(from.cast()) }
    }
}

impl CacheNumber for f16 {
    #[inline(always)]
    unsafe fn load<L: Lanes>(from: *const f16) -> L {
        // SAFETY: what this function asks of its caller.
        unsafe { L::load_f16(from.cast()) }
    }
}

impl CacheNumber for i8 {
    const SCALES: bool = true;

    #[inline(always)]
    unsafe fn load<L: Lanes>(from: *const i8) -> L {
        // SAFETY: what this function asks of its caller.
        unsafe { L::load_i8(from) }
    }
}

/// Sixteen numbers times a scale each.
///
/// # Safety
/// As [`CacheNumber::load`]; if there are scales, `scales` points to sixteen.
#[inline(always)]
pub unsafe fn load_each<L: Lanes, T: CacheNumber>(from: *const T, scales: *const f32) -> L {
    // SAFETY: what this function asks of its caller.
    unsafe { if T::SCALES { T::load::<L>(from).mul(L::load(scales.cast())) } else { T::load(from) } }
}

/// Sixteen numbers times one scale.
///
/// # Safety
/// As [`CacheNumber::load`]; if there are scales, `scale` points to one.
#[inline(always)]
pub unsafe fn load_all<L: Lanes, T: CacheNumber>(from: *const T, scale: *const f32) -> L {
    // SAFETY: what this function asks of its caller.
    unsafe { if T::SCALES { T::load::<L>(from).mul(L::splat(scale)) } else { T::load(from) } }
}

/// From the first position that any of the lines sees to behind the last.
pub fn span(visible: &[Visible]) -> Range<usize> {
    let seen = visible.iter().filter(|seen| !seen.is_empty());
    let start = seen.clone().map(|seen| seen.start).min().unwrap_or(0);
    start..seen.map(|seen| seen.end).max().unwrap_or(0)
}

/// Calls a tile function with the numbers of lines and of sixteens as constants. No code is made for larger tiles than the
/// set has.
macro_rules! tile {
    ($lines:expr, $sixteens:expr, $function:ident($($argument:expr),*)) => {
        match $lines {
            1 => tile!(1; $sixteens, $function($($argument),*)),
            2 if const { M > 2 } => tile!(2; $sixteens, $function($($argument),*)),
            3 if const { M > 3 } => tile!(3; $sixteens, $function($($argument),*)),
            4 if const { M > 4 } => tile!(4; $sixteens, $function($($argument),*)),
            5 if const { M > 5 } => tile!(5; $sixteens, $function($($argument),*)),
            _ => tile!(M; $sixteens, $function($($argument),*)),
        }
    };
    ($m:tt; $sixteens:expr, $function:ident($($argument:expr),*)) => {
        match $sixteens {
            1 if const { N > 1 } => $function::<L, T, $m, 1, N>($($argument),*),
            2 if const { N > 2 } => $function::<L, T, $m, 2, N>($($argument),*),
            3 if const { N > 3 } => $function::<L, T, $m, 3, N>($($argument),*),
            _ => $function::<L, T, $m, N, N>($($argument),*),
        }
    };
}

/// Scores of `task`, whose keys are `keys`, in tiles of up to `M` lines, at most 6, and `N` sixteens, at most 4. If there are
/// fewer lines than `FEW`, the last tile has the next block of the cache fetched, once for all of them.
///
/// # Safety
/// The CPU has the instructions of `L`.
///
/// # Panics
/// If a part of the task is shorter than [`Scores`] states.
#[inline(always)]
pub unsafe fn scores_of<L: Lanes, T: CacheNumber, const M: usize, const N: usize, const FEW: usize>(
    task: &mut Scores,
    keys: Numbers<T>,
) {
    const { assert!(M <= 6 && N <= 4) };
    let lines = task.visible.len();
    assert!(task.q.len() >= lines * task.dim && task.out.len() >= lines * POSITIONS);
    for line in (0..lines).step_by(M) {
        let count = (lines - line).min(M);
        let seen = span(&task.visible[line..line + count]);
        let groups = seen.start / SIXTEEN..seen.end.div_ceil(SIXTEEN);
        assert!(groups.end * SIXTEEN <= POSITIONS && keys.stored.len() >= groups.end * SIXTEEN * task.dim);
        assert!(!T::SCALES || keys.scales.len() >= groups.end * SIXTEEN * blocks(task.dim));
        let ahead = line + count == lines && lines < FEW;
        for group in groups.clone().step_by(N) {
            // SAFETY: lines and groups are there, as just checked.
            unsafe { tile!(count, (groups.end - group).min(N), scores_tile(task, keys, line, group, ahead)) }
        }
    }
}

/// Scores of `M` lines from `line` on against `N` groups of keys from `group` on.
///
/// # Safety
/// The CPU has the instructions of `L`; there are such lines and such groups.
#[inline(always)]
unsafe fn scores_tile<L: Lanes, T: CacheNumber, const M: usize, const N: usize, const WIDEST: usize>(
    task: &mut Scores,
    keys: Numbers<T>,
    line: usize,
    group: usize,
    ahead: bool,
) {
    let dim = task.dim;
    // SAFETY: lines and groups are there, as the caller says; fetching ahead is harmless.
    unsafe {
        let mut sums = [[L::zero(); N]; M];
        let q = task.q.as_ptr().add(line * dim);
        let scales = keys.scales.as_ptr().wrapping_add(group * blocks(dim) * SIXTEEN);
        let next = keys.next.as_ptr().wrapping_add(group * dim * SIXTEEN);
        let keys = keys.stored.as_ptr().add(group * dim * SIXTEEN);
        for d in 0..dim {
            if ahead {
                fetch(next.wrapping_add(d * N * SIXTEEN), N * SIXTEEN);
            }
            let mut k = [L::zero(); N];
            for n in 0..N {
                let scales = scales.wrapping_add((n * blocks(dim) + d / SCALED) * SIXTEEN);
                k[n] = load_each(keys.add((n * dim + d) * SIXTEEN), scales);
            }
            for m in 0..M {
                let q = L::splat(q.add(m * dim + d));
                for n in 0..N {
                    sums[m][n] = q.mul_add(k[n], sums[m][n]);
                }
            }
        }
        for (m, sums) in sums.into_iter().enumerate() {
            for (n, sum) in sums.into_iter().enumerate() {
                sum.store(task.out.as_mut_ptr().add((line + m) * POSITIONS + (group + n) * SIXTEEN));
            }
        }
    }
}

/// Adds the weighted values of `task`, which are `values`, in tiles as those of [`scores_of`].
///
/// # Safety
/// The CPU has the instructions of `L`.
///
/// # Panics
/// If a part of the task is shorter than [`Weigh`] states.
#[inline(always)]
pub unsafe fn weigh_of<L: Lanes, T: CacheNumber, const M: usize, const N: usize, const FEW: usize>(
    task: &mut Weigh,
    values: Numbers<T>,
) {
    const { assert!(M <= 6 && N <= 4) };
    let (lines, padded) = (task.visible.len(), task.padded);
    assert!(task.weights.len() >= lines * POSITIONS && task.sums.len() >= lines * padded && task.correction.len() >= lines);
    for line in (0..lines).step_by(M) {
        let count = (lines - line).min(M);
        let seen = span(&task.visible[line..line + count]);
        // Nothing seen is nothing to add, and nothing to correct.
        if seen.is_empty() {
            continue;
        }
        assert!(padded.is_multiple_of(SIXTEEN) && seen.end <= POSITIONS && values.stored.len() >= seen.end * padded);
        assert!(!T::SCALES || values.scales.len() >= seen.end * blocks(padded));
        let ahead = line + count == lines && lines < FEW;
        for first in (0..padded).step_by(N * SIXTEEN) {
            let sixteens = ((padded - first) / SIXTEEN).min(N);
            // SAFETY: lines and positions are there, as just checked.
            unsafe { tile!(count, sixteens, weigh_tile(task, values, line, seen.clone(), first, ahead)) }
        }
    }
}

/// Adds what `M` lines from `line` on see of `N` sixteens from number `first` of each row on.
///
/// # Safety
/// The CPU has the instructions of `L`; there are such lines, values for all positions `seen`, and such sixteens.
#[inline(always)]
unsafe fn weigh_tile<L: Lanes, T: CacheNumber, const M: usize, const N: usize, const WIDEST: usize>(
    task: &mut Weigh,
    values: Numbers<T>,
    line: usize,
    seen: Range<usize>,
    first: usize,
    ahead: bool,
) {
    let padded = task.padded;
    // SAFETY: lines, positions and sixteens are there, as the caller says; fetching ahead is harmless.
    unsafe {
        let mut sums = [[L::zero(); N]; M];
        let out = task.sums.as_mut_ptr().add(line * padded + first);
        for m in 0..M {
            let correction = L::splat(task.correction.as_ptr().add(line + m));
            for n in 0..N {
                sums[m][n] = L::load(out.add(m * padded + n * SIXTEEN).cast_const().cast()).mul(correction);
            }
        }
        let weights = task.weights.as_ptr().add(line * POSITIONS);
        // Where a tile is narrower than a line of memory, the first one has whole rows fetched.
        let fetched = if WIDEST > 1 { N * SIXTEEN } else { padded };
        let ahead = ahead && (WIDEST > 1 || first == 0);
        for position in seen {
            let at = position * padded + first;
            if ahead {
                fetch(values.next.as_ptr().wrapping_add(at), fetched);
            }
            let scales = values.scales.as_ptr().wrapping_add(position * blocks(padded));
            let values = values.stored.as_ptr().add(at);
            let mut v = [L::zero(); N];
            for n in 0..N {
                v[n] = load_all(values.add(n * SIXTEEN), scales.wrapping_add((first + n * SIXTEEN) / SCALED));
            }
            for m in 0..M {
                let weight = L::splat(weights.add(m * POSITIONS + position));
                for n in 0..N {
                    sums[m][n] = weight.mul_add(v[n], sums[m][n]);
                }
            }
        }
        for (m, sums) in sums.into_iter().enumerate() {
            for (n, sum) in sums.into_iter().enumerate() {
                sum.store(out.add(m * padded + n * SIXTEEN));
            }
        }
    }
}

/// Scores of `task`, whatever its keys are stored as.
///
/// # Safety
/// As [`scores_of`].
#[inline(always)]
pub unsafe fn scores<L: Lanes, const M: usize, const N: usize, const FEW: usize>(task: &mut Scores) {
    // SAFETY: what this function asks of its caller.
    unsafe {
        match task.keys {
            Cached::F32(keys) => scores_of::<L, _, M, N, FEW>(task, keys),
            Cached::F16(keys) => scores_of::<L, _, M, N, FEW>(task, keys),
            Cached::Q8_0(keys) => scores_of::<L, _, M, N, FEW>(task, keys),
        }
    }
}

/// Adds the weighted values of `task`, whatever they are stored as.
///
/// # Safety
/// As [`weigh_of`].
#[inline(always)]
pub unsafe fn weigh<L: Lanes, const M: usize, const N: usize, const FEW: usize>(task: &mut Weigh) {
    // SAFETY: what this function asks of its caller.
    unsafe {
        match task.values {
            Cached::F32(values) => weigh_of::<L, _, M, N, FEW>(task, values),
            Cached::F16(values) => weigh_of::<L, _, M, N, FEW>(task, values),
            Cached::Q8_0(values) => weigh_of::<L, _, M, N, FEW>(task, values),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cpu::isa::scalar::Sixteen;

    /// Numbers between -1 and 1, the same in every run.
    fn numbers(count: usize) -> Vec<f32> {
        (0..count as u32).map(|i| (i.wrapping_mul(2_654_435_761) >> 8) as f32 / (1 << 23) as f32 - 1.0).collect()
    }

    /// What some lines see of a block: nothing, parts and all of it.
    fn visible(lines: usize) -> Vec<Visible> {
        [0..64, 5..37, 3..3, 0..1, 17..64, 48..64].into_iter().cycle().take(lines).collect()
    }

    fn bits(x: &[f32]) -> Vec<u32> {
        x.iter().map(|x| x.to_bits()).collect()
    }

    /// As many registers as AVX-512 has, as AVX2 and as NEON.
    const SHAPES: [(unsafe fn(&mut Scores), unsafe fn(&mut Weigh)); 3] = [
        (scores::<Sixteen, 6, 4, 18>, weigh::<Sixteen, 6, 4, 18>),
        (scores::<Sixteen, 6, 1, 18>, weigh::<Sixteen, 6, 1, 18>),
        (scores::<Sixteen, 4, 1, 0>, weigh::<Sixteen, 4, 1, 0>),
    ];
    /// A number of a block by its place.
    type Number<'a> = &'a dyn Fn(usize, usize) -> f32;

    /// The numbers of a block and their scales, stored as floats, halves and bytes.
    fn stored(count: usize, scales: usize) -> (Vec<f32>, Vec<f16>, Vec<i8>, Vec<f32>) {
        let x = numbers(count);
        let halves = x.iter().map(|x| f16::from_f32(*x)).collect();
        let bytes = x.iter().map(|x| (x * 127.0) as i8).collect();
        (x, halves, bytes, numbers(scales).iter().map(|x| x / 100.0).collect())
    }

    #[test]
    fn scores_are_one_chain_over_the_dimensions_in_tiles_of_any_size() {
        for (dim, lines) in [(6, 1), (24, 5), (64, 7), (80, 20), (40, 13)] {
            let (x, halves, bytes, scales) = stored(POSITIONS * dim, POSITIONS * blocks(dim));
            let (q, visible) = (numbers(lines * dim), visible(lines));
            let at = |d: usize, position: usize| (position / SIXTEEN * dim + d) * SIXTEEN + position % SIXTEEN;
            let scale = |d: usize, position: usize| {
                scales[(position / SIXTEEN * blocks(dim) + d / SCALED) * SIXTEEN + position % SIXTEEN]
            };
            let kinds: [(Cached, Number); 3] = [
                (Cached::F32(Numbers { stored: &x, next: &[], scales: &[] }), &|d, p| x[at(d, p)]),
                (Cached::F16(Numbers { stored: &halves, next: &[], scales: &[] }), &|d, p| halves[at(d, p)].to_f32()),
                (Cached::Q8_0(Numbers { stored: &bytes, next: &[], scales: &scales }), &|d, p| {
                    f32::from(bytes[at(d, p)]) * scale(d, p)
                }),
            ];
            for (keys, number) in kinds {
                for (walk, _) in SHAPES {
                    let out = &mut vec![f32::NAN; lines * POSITIONS];
                    let mut task = Scores { q: &q, dim, keys, visible: &visible, out };
                    // SAFETY: `Sixteen` needs no instructions, and the parts are as long as they have to be.
                    unsafe { walk(&mut task) };
                    for (line, seen) in visible.iter().enumerate() {
                        for p in seen.clone() {
                            let expected = (0..dim).fold(0.0, |sum, d| q[line * dim + d].mul_add(number(d, p), sum));
                            assert_eq!(
                                task.out[line * POSITIONS + p].to_bits(),
                                expected.to_bits(),
                                "{dim} {lines}: {line} {p}"
                            );
                        }
                    }
                }
            }
        }
    }

    #[test]
    fn weighted_values_are_one_chain_over_the_positions_in_tiles_of_any_size() {
        for (padded, lines) in [(16, 1), (32, 5), (64, 7), (80, 20), (48, 13)] {
            let (x, halves, bytes, scales) = stored(POSITIONS * padded, POSITIONS * blocks(padded));
            let visible = visible(lines);
            // What a line does not see has no weight; a line that sees nothing is not corrected.
            let weight = |line: usize, p: usize| if visible[line].contains(&p) { numbers(99)[(line + p) % 99] } else { 0.0 };
            let weights: Vec<f32> = (0..lines * POSITIONS).map(|i| weight(i / POSITIONS, i % POSITIONS)).collect();
            let correction: Vec<f32> = visible.iter().map(|seen| if seen.is_empty() { 1.0 } else { 0.75 }).collect();
            let before = numbers(lines * padded);
            let scale = |p: usize, d: usize| scales[p * blocks(padded) + d / SCALED];
            let kinds: [(Cached, Number); 3] = [
                (Cached::F32(Numbers { stored: &x, next: &[], scales: &[] }), &|p, d| x[p * padded + d]),
                (Cached::F16(Numbers { stored: &halves, next: &[], scales: &[] }), &|p, d| halves[p * padded + d].to_f32()),
                (Cached::Q8_0(Numbers { stored: &bytes, next: &[], scales: &scales }), &|p, d| {
                    f32::from(bytes[p * padded + d]) * scale(p, d)
                }),
            ];
            for (values, number) in kinds {
                let expected = |line: usize, d: usize| {
                    let sum = before[line * padded + d] * correction[line];
                    visible[line].clone().fold(sum, |sum, p| weights[line * POSITIONS + p].mul_add(number(p, d), sum))
                };
                let expected: Vec<f32> = (0..lines * padded).map(|i| expected(i / padded, i % padded)).collect();
                for (_, walk) in SHAPES {
                    let sums = &mut before.clone();
                    let (weights, visible, correction) = (&weights, &visible, &correction);
                    let mut task = Weigh { weights, visible, correction, values, padded, sums };
                    // SAFETY: `Sixteen` needs no instructions, and the parts are as long as they have to be.
                    unsafe { walk(&mut task) };
                    assert_eq!(bits(task.sums), bits(&expected), "{padded} {lines}");
                }
            }
        }
    }
}
