//! Numbers of a cache in int8: a scale for each block of 32 numbers of a position, as GGML's Q8_0 has it.
//!
//! A block's scale is its largest magnitude over 127, in half precision, and its numbers are rounded to nearest. Each position is
//! quantised by itself, so what is stored does not depend on how positions came. The last block of a row may be shorter.
//!
//! Numbers lie where those of other precisions lie. Scales lie apart from them, in the same order: of values, those of a row's blocks side
//! by side; of keys, block after block of a group, 16 positions side by side: scale `(block, lane)` of group `g` is at
//! `(g * blocks + block) * 16 + lane`.
//!
//! A number times its scale is exact in single precision: eight bits times eleven. So a cache of this kind is attended to with the bits of
//! one that holds the same numbers as floats. What is not finite, or more than 127 times the largest number of half precision, makes its block
//! infinities or NaN.

use super::LANES;
use crate::cpu::Kernels;
use crate::cpu::input::{Record, SCALE};
use half::f16;
use std::ops::Range;

/// Numbers in a block.
pub const BLOCK: usize = crate::cpu::panel::BLOCK;

/// Blocks, the last of which may be shorter, in a row of `dim` numbers.
pub const fn blocks(dim: usize) -> usize {
    dim.div_ceil(BLOCK)
}

/// Numbers and their scales.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Blocks {
    pub numbers: Vec<i8>,
    pub scales: Vec<f16>,
}

/// How the rows lie in memory.
#[derive(Clone, Copy)]
pub struct Layout {
    /// Whether they are keys rather than values.
    pub keys: bool,
    /// Numbers in a row.
    pub dim: usize,
    /// Numbers between two rows of values, or of a sixteenth of a group of keys.
    pub stride: usize,
}

impl Layout {
    /// Where number `d` of `position` is.
    pub fn number(&self, position: usize, d: usize) -> usize {
        match self.keys {
            true => (position / LANES * self.dim + d) * LANES + position % LANES,
            false => position * self.stride + d,
        }
    }

    /// Where the scale of a block of `position` is.
    pub fn scale(&self, position: usize, block: usize) -> usize {
        match self.keys {
            true => (position / LANES * blocks(self.dim) + block) * LANES + position % LANES,
            false => position * blocks(self.dim) + block,
        }
    }
}

impl Blocks {
    /// Bytes of memory taken.
    pub fn bytes(&self) -> usize {
        self.numbers.capacity() + self.scales.capacity() * size_of::<f16>()
    }

    /// Makes room for `positions` in all.
    pub fn reserve(&mut self, layout: Layout, positions: usize) {
        let reserve = |have: usize, all: usize| all.saturating_sub(have);
        self.numbers.reserve_exact(reserve(self.numbers.len(), positions * layout.stride));
        self.scales.reserve_exact(reserve(self.scales.len(), positions * blocks(layout.dim)));
    }

    /// Holds `positions` from now on: those that are new are zeroes.
    pub fn resize(&mut self, layout: Layout, positions: usize) {
        self.numbers.resize(positions * layout.stride, 0);
        self.scales.resize(positions * blocks(layout.dim), f16::ZERO);
    }

    /// Forgets the first `positions`.
    pub fn drop_front(&mut self, layout: Layout, positions: usize) {
        drop(self.numbers.drain(..(positions * layout.stride).min(self.numbers.len())));
        drop(self.scales.drain(..(positions * blocks(layout.dim)).min(self.scales.len())));
    }

    /// Writes `positions`, which are held; `source` has the row of each.
    pub fn store<'a>(
        &mut self,
        kernels: &Kernels,
        layout: Layout,
        positions: Range<usize>,
        source: impl Fn(usize) -> &'a [f32],
    ) {
        let mut record = [Record::ZERO];
        for position in positions {
            for (block, x) in source(position).chunks(BLOCK).enumerate() {
                let mut whole = [0.0; BLOCK];
                whole[..x.len()].copy_from_slice(x);
                kernels.quantise(&whole, &mut record, &mut []);
                let [Record { values, rest }] = &record;
                self.scales[layout.scale(position, block)] = f16::from_f32(f32::from_bits(rest[SCALE]));
                for (d, value) in (block * BLOCK..).zip(&values[..x.len()]) {
                    self.numbers[layout.number(position, d)] = *value;
                }
            }
        }
    }

    /// Number `d` of `position`.
    pub fn get(&self, layout: Layout, position: usize, d: usize) -> f32 {
        f32::from(self.numbers[layout.number(position, d)]) * self.scales[layout.scale(position, d / BLOCK)].to_f32()
    }
}
