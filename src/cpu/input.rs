//! The activations of a group of quantised matrices that share them: int8, made once. Float matrices read the activations as they are.
//!
//! Each row is cut into blocks of 32 elements with a scale of their own, `absmax / 127`, and rounded to nearest, ties to even. What
//! absorbs the weights' zero point or minimum is stored beside them: with `w = s (u - z) + m`,
//! `sum(w a) = s da (sum(u q) - z sum(q)) + m da sum(q)`, so `-z sum(q)` is where the integer sum starts. A block with these is one
//! [`InputRecord`], one cache line. Weights with a scale for 16 columns need the sums of both halves: another flavour of record, made only if
//! such a weight is among the group.
//!
//! InputRecords lie slice by slice: [`SLICE`] blocks of the first row, of the second, and so on, then the next slice. A product of many rows
//! goes through a slice of all rows before the next, and reads memory from end to end that way; row by row, with columns a power of two,
//! it would hit the same few sets of the caches again and again, at a third of the speed.
//!
//! A block with an infinity or NaN gets a scale of that kind and zeroes as values, so that its outputs come out as NaN.

use super::matrix::{Matrix, MatrixData};
use super::panel::{BLOCK, PanelFormat};
use super::parts::Parts;
use super::pool::SERIAL;
use super::{Kernels, Pool};

/// One block of 32 quantised activations, and what belongs to it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(C, align(64))]
pub struct InputRecord {
    /// The values, -127 to 127.
    pub values: [i8; BLOCK],
    /// The scale's bits, then, for groups of 32: `scale * sum` as f32, and `-8 sum`, `-16 sum`, `-128 sum` as i32; for groups of 16, with the
    /// two halves one after the other: `scale * sum` as f32, `-4 sum` and `-32 sum` as i32. Under AVX-512 the integers have a bias.
    pub rest: [u32; 8],
}

/// Blocks in a slice; the last one of a row may have fewer.
pub const SLICE: usize = 8;

/// InputRecords of an input, seen from one of its rows on.
#[derive(Clone, Copy)]
pub struct InputRecords<'a> {
    /// Every record of the input.
    pub all: &'a [InputRecord],
    /// Rows of the whole input.
    pub total: usize,
    /// The row that counts as 0 here.
    pub first: usize,
    /// Blocks in a row.
    pub blocks: usize,
}

impl<'a> InputRecords<'a> {
    /// The records of row `row` in slice `slice`; those of the next row follow.
    #[inline(always)]
    pub fn slice(&self, slice: usize, row: usize) -> &'a [InputRecord] {
        let width = (self.blocks - slice * SLICE).min(SLICE);
        &self.all[slice * SLICE * self.total + (self.first + row) * width..]
    }
}

/// Index into [`InputRecord::rest`] of the scale.
pub const SCALE: usize = 0;
/// Index of the scaled sum; for groups of 16, of both.
pub const SCALED_SUM: usize = 1;

impl InputRecord {
    /// Zeroes.
    pub const ZERO: InputRecord = InputRecord { values: [0; BLOCK], rest: [0; 8] };
}

/// Index into [`InputRecord::rest`] of the value at which the integer sum starts; `None`: at 0. For groups of 16, that of the first half.
pub const fn start(format: &PanelFormat) -> Option<usize> {
    match (format.group, format.zero) {
        (32, 8) => Some(2),
        (32, 16) => Some(3),
        (32, 128) => Some(4),
        (16, 4) => Some(3),
        (16, 32) => Some(5),
        _ => None,
    }
}

/// The tails of both flavours of a block, from its scale and the sums of its halves.
#[inline(always)]
pub fn rest(scale: f32, sums: [i32; 2]) -> ([u32; 8], [u32; 8]) {
    let sum = sums[0] + sums[1];
    let scaled = |sum: i32| (scale * sum as f32).to_bits();
    let times = |factor: i32, sum: i32| (-factor * sum) as u32;
    let wide = [scale.to_bits(), scaled(sum), times(8, sum), times(16, sum), times(128, sum), 0, 0, 0];
    let [low, high] = sums;
    let narrow =
        [scale.to_bits(), scaled(low), scaled(high), times(4, low), times(4, high), times(32, low), times(32, high), 0];
    (wide, narrow)
}

/// Largest magnitudes below this count as zero: the factor that quantises them would overflow, and beside any other block they are nothing.
pub const SMALLEST: f32 = 1e-30;

/// Scale of a block and the factor that quantises it, from the bits of its largest magnitude.
///
/// The scale is rounded to the 11 significant bits of an f16 after the factor was taken from it, as GGML's Q8_0 does, so that
/// results are those of the reference with activations in Q8_0; its exponent keeps f32's range, where Q8_0's would overflow.
#[inline(always)]
pub fn scale(absmax: u32) -> (f32, f32) {
    let absmax = f32::from_bits(absmax);
    if !absmax.is_finite() {
        (absmax, 0.0)
    } else if absmax < SMALLEST {
        (0.0, 0.0)
    } else {
        let bits = (absmax / 127.0).to_bits();
        let rounded = (bits + 0xfff + (bits >> 13 & 1)) & !0x1fff;
        (f32::from_bits(rounded), 127.0 / absmax)
    }
}

/// The activations that `matmul` reads. Buffers are kept between calls.
#[derive(Default)]
pub struct MatmulInput {
    pub(super) rows: usize,
    pub(super) cols: usize,
    /// InputRecords of (rows, cols / 32) blocks for groups of 32, if any weight has such.
    pub(super) wide: Vec<InputRecord>,
    /// Likewise for groups of 16.
    pub(super) narrow: Vec<InputRecord>,
    pub(super) has: Needs,
}

/// Which forms of the activations a set of weights needs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct Needs {
    pub(super) wide: bool,
    pub(super) narrow: bool,
}

impl Needs {
    pub(super) fn of(weights: &[Matrix]) -> Needs {
        let mut needs = Needs::default();
        for weight in weights {
            match &weight.data {
                MatrixData::Floats(_) | MatrixData::Table(_) => {}
                MatrixData::Panels { format, .. } if format.group == 16 => needs.narrow = true,
                MatrixData::Panels { .. } => needs.wide = true,
            }
        }
        needs
    }

    pub(super) fn within(self, has: Needs) -> bool {
        self.wide <= has.wide && self.narrow <= has.narrow
    }
}

impl MatmulInput {
    /// No activations yet.
    pub fn new() -> MatmulInput {
        MatmulInput::default()
    }

    /// Takes over `x`, (rows, cols), in the forms that `weights` read.
    ///
    /// # Panics
    /// If `x` has another length, or a weight another number of columns.
    pub fn prepare(&mut self, kernels: &'static Kernels, pool: &Pool, x: &[f32], rows: usize, cols: usize, weights: &[Matrix]) {
        assert_eq!(x.len(), rows * cols, "activations of {rows}x{cols}");
        assert!(weights.iter().all(|w| w.cols() == cols), "activations of {cols} columns for {weights:?}");
        let needs = Needs::of(weights);
        (self.rows, self.cols, self.has) = (rows, cols, needs);
        if !(needs.wide || needs.narrow) || x.is_empty() {
            return;
        }
        let records = |wanted: bool, records: &mut Vec<InputRecord>| {
            let count = if wanted { x.len() / BLOCK } else { 0 };
            records.resize(count.max(records.len()), InputRecord::ZERO);
        };
        records(needs.wide, &mut self.wide);
        records(needs.narrow, &mut self.narrow);
        let parts = if x.len() < SERIAL { 1 } else { rows.min(4 * pool.threads()) };
        let (wide, narrow) = (Parts::new(&mut self.wide), Parts::new(&mut self.narrow));
        pool.run(parts, &|part| {
            for row in rows * part / parts..rows * (part + 1) / parts {
                for (slice, x) in x[row * cols..(row + 1) * cols].chunks(SLICE * BLOCK).enumerate() {
                    let width = x.len() / BLOCK;
                    let start = slice * SLICE * rows + row * width;
                    let range = |wanted: bool| if wanted { start..start + width } else { 0..0 };
                    // SAFETY: every slice of every row has its own place.
                    let (wide, narrow) = unsafe { (wide.part(range(needs.wide)), narrow.part(range(needs.narrow))) };
                    kernels.quantise(x, wide, narrow);
                }
            }
        });
    }

    /// Rows of the activations.
    pub fn rows(&self) -> usize {
        self.rows
    }
}
