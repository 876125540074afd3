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

use super::GROUP;
use super::pages::Pages;
use crate::cpu::Kernels;
use crate::cpu::input::{InputRecord, SCALE};
use half::f16;

/// Numbers in a block.
pub const SCALED: usize = crate::cpu::panel::BLOCK;

/// Blocks, the last of which may be shorter, in a row of `dim` numbers.
pub const fn blocks(dim: usize) -> usize {
    dim.div_ceil(SCALED)
}

/// Numbers and their scales.
#[derive(Debug, Clone, PartialEq)]
pub struct Blocks {
    pub numbers: Pages<i8>,
    pub scales: Pages<f16>,
}

/// How the rows of a page lie in memory.
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
    /// That of keys, or of values, of `dim` numbers.
    pub fn new(keys: bool, dim: usize) -> Layout {
        Layout { keys, dim, stride: if keys { dim } else { dim.next_multiple_of(GROUP) } }
    }

    /// Where number `d` of `position` is.
    pub fn number(&self, position: usize, d: usize) -> usize {
        match self.keys {
            true => (position / GROUP * self.dim + d) * GROUP + position % GROUP,
            false => position * self.stride + d,
        }
    }

    /// Where the scale of a block of `position` is.
    pub fn scale(&self, position: usize, block: usize) -> usize {
        match self.keys {
            true => (position / GROUP * blocks(self.dim) + block) * GROUP + position % GROUP,
            false => position * blocks(self.dim) + block,
        }
    }
}

impl Blocks {
    /// None yet.
    pub fn new(layout: Layout) -> Blocks {
        Blocks { numbers: Pages::new(layout.stride), scales: Pages::new(blocks(layout.dim)) }
    }

    /// Makes room for `positions` in all.
    pub fn reserve(&mut self, positions: usize) {
        self.numbers.reserve(positions);
        self.scales.reserve(positions);
    }

    /// Frees the first `pages`.
    pub fn drop_front(&mut self, pages: usize) {
        self.numbers.drop_front(pages);
        self.scales.drop_front(pages);
    }

    /// Writes `rows`, each with its position in page `page`, which is held.
    pub fn store<'a>(
        &mut self,
        kernels: &Kernels,
        layout: Layout,
        page: usize,
        rows: impl Iterator<Item = (usize, &'a [f32])>,
    ) {
        let (numbers, scales) = (self.numbers.page_mut(page), self.scales.page_mut(page));
        let mut record = [InputRecord::ZERO];
        for (position, row) in rows {
            for (block, x) in row.chunks(SCALED).enumerate() {
                let mut whole = [0.0; SCALED];
                whole[..x.len()].copy_from_slice(x);
                kernels.quantise(&whole, &mut record, &mut []);
                let [InputRecord { values, rest }] = &record;
                scales[layout.scale(position, block)] = f16::from_f32(f32::from_bits(rest[SCALE]));
                for (d, value) in (block * SCALED..).zip(&values[..x.len()]) {
                    numbers[layout.number(position, d)] = *value;
                }
            }
        }
    }

    /// Number `d` of `position` in page `page`.
    pub fn get(&self, layout: Layout, page: usize, position: usize, d: usize) -> f32 {
        let scale = self.scales.page(page)[layout.scale(position, d / SCALED)];
        f32::from(self.numbers.page(page)[layout.number(position, d)]) * scale.to_f32()
    }
}
