//! One head's keys or values in the cache.
//!
//! Both are laid out for the attention kernels. Values: position after position, each padded to 16 numbers. Keys: in groups of 16
//! positions, dimension after dimension, so that one register holds one dimension of 16 positions and scores need no sums across
//! lanes: number `(d, lane)` of group `g` is at `(g * dim + d) * 16 + lane`.

mod blocks;

use super::Kernels;
pub use blocks::{BLOCK, blocks};
use blocks::{Blocks, Layout};
use half::f16;

/// Positions that share a register.
pub const LANES: usize = 16;

/// How cached numbers are stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Precision {
    /// Exactly.
    F32,
    /// In half precision.
    F16,
    /// In int8, with a scale in half precision for each 32 numbers: GGML's Q8_0.
    Q8_0,
}

/// The keys or the values of one head, (positions, head_dim).
#[derive(Debug, Clone)]
pub struct Rows {
    pub(super) data: Data,
    keys: bool,
    dim: usize,
    len: usize,
}

#[derive(Debug, Clone, PartialEq)]
pub(super) enum Data {
    F32(Vec<f32>),
    F16(Vec<f16>),
    Q8_0(Blocks),
}

impl Rows {
    /// Memory grows by this number of positions at a time, and [`Rows::drop_front`] drops multiples of it.
    pub const STEP: usize = 256;
    /// Numbers of a row that share a scale, where the precision has scales.
    pub const BLOCK: usize = BLOCK;

    /// Space for keys of `dim` numbers.
    pub fn keys(dim: usize, precision: Precision) -> Rows {
        Rows::new(true, dim, precision)
    }

    /// Space for values of `dim` numbers.
    pub fn values(dim: usize, precision: Precision) -> Rows {
        Rows::new(false, dim, precision)
    }

    fn new(keys: bool, dim: usize, precision: Precision) -> Rows {
        let data = match precision {
            Precision::F32 => Data::F32(Vec::new()),
            Precision::F16 => Data::F16(Vec::new()),
            Precision::Q8_0 => Data::Q8_0(Blocks::default()),
        };
        Rows { data, keys, dim, len: 0 }
    }

    /// Number of positions held.
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether no position is held.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Numbers in a row.
    pub fn dim(&self) -> usize {
        self.dim
    }

    /// How the numbers are stored.
    pub fn precision(&self) -> Precision {
        match self.data {
            Data::F32(_) => Precision::F32,
            Data::F16(_) => Precision::F16,
            Data::Q8_0(_) => Precision::Q8_0,
        }
    }

    /// Whether these are keys rather than values.
    pub fn are_keys(&self) -> bool {
        self.keys
    }

    /// Bytes of memory taken.
    pub fn bytes(&self) -> usize {
        match &self.data {
            Data::F32(data) => data.capacity() * 4,
            Data::F16(data) => data.capacity() * 2,
            Data::Q8_0(blocks) => blocks.bytes(),
        }
    }

    /// Numbers between the starts of two rows of values, or of a sixteenth of a group of keys.
    pub(super) fn stride(&self) -> usize {
        if self.keys { self.dim } else { self.dim.next_multiple_of(LANES) }
    }

    fn layout(&self) -> Layout {
        Layout { keys: self.keys, dim: self.dim, stride: self.stride() }
    }

    /// Makes room for `positions` in all, in steps of 256.
    pub fn reserve(&mut self, positions: usize) {
        let (layout, positions) = (self.layout(), positions.next_multiple_of(Self::STEP));
        let numbers = positions * layout.stride;
        match &mut self.data {
            Data::F32(data) => data.reserve_exact(numbers.saturating_sub(data.len())),
            Data::F16(data) => data.reserve_exact(numbers.saturating_sub(data.len())),
            Data::Q8_0(blocks) => blocks.reserve(layout, positions),
        }
    }

    /// Appends `count` positions; row `t` is `x[t * stride..][..dim]`.
    ///
    /// # Panics
    /// If `x` is too short.
    pub fn append(&mut self, kernels: &'static Kernels, x: &[f32], stride: usize, count: usize) {
        if count == 0 || self.dim == 0 {
            self.len += count;
            return;
        }
        assert!(stride >= self.dim && x.len() >= (count - 1) * stride + self.dim, "{count} rows in {}", x.len());
        let (from, to) = (self.len, self.len + count);
        self.reserve(to);
        let numbers = to.next_multiple_of(LANES) * self.stride();
        let (dim, padded, layout) = (self.dim, self.stride(), self.layout());
        self.len = to;
        let source = |position: usize| &x[(position - from) * stride..][..dim];
        match &mut self.data {
            Data::F32(data) => {
                data.resize(numbers, 0.0);
                if self.keys {
                    (from..to)
                        .for_each(|p| scatter(source(p), &mut data[layout.number(p, 0)..], |x, out| out.copy_from_slice(x)));
                } else {
                    (from..to).for_each(|position| data[position * padded..][..dim].copy_from_slice(source(position)));
                }
            }
            Data::F16(data) => {
                data.resize(numbers, f16::ZERO);
                if self.keys {
                    (from..to)
                        .for_each(|p| scatter(source(p), &mut data[layout.number(p, 0)..], |x, out| kernels.to_f16(x, out)));
                } else {
                    (from..to).for_each(|p| kernels.to_f16(source(p), &mut data[p * padded..][..dim]));
                }
            }
            Data::Q8_0(blocks) => {
                blocks.resize(layout, to.next_multiple_of(LANES));
                blocks.store(kernels, layout, from..to, source);
            }
        }
    }

    /// Forgets all positions from `positions` on; the memory is kept.
    pub fn truncate(&mut self, positions: usize) {
        self.len = self.len.min(positions);
        let (layout, positions) = (self.layout(), self.len.next_multiple_of(LANES));
        let numbers = positions * layout.stride;
        match &mut self.data {
            Data::F32(data) => data.truncate(numbers),
            Data::F16(data) => data.truncate(numbers),
            Data::Q8_0(blocks) => blocks.resize(layout, positions),
        }
    }

    /// Forgets the first `positions`, as a sliding window does.
    ///
    /// # Panics
    /// If `positions` is no multiple of 256: softmax blocks start at absolute positions.
    pub fn drop_front(&mut self, positions: usize) {
        assert!(positions.is_multiple_of(Self::STEP), "{positions} positions to drop");
        let positions = positions.min(self.len.next_multiple_of(Self::STEP));
        let (layout, numbers) = (self.layout(), positions * self.stride());
        match &mut self.data {
            Data::F32(data) => drop(data.drain(..numbers.min(data.len()))),
            Data::F16(data) => drop(data.drain(..numbers.min(data.len()))),
            Data::Q8_0(blocks) => blocks.drop_front(layout, positions),
        }
        self.len = self.len.saturating_sub(positions);
    }

    /// The row at `position`, widened, into `out` (dim).
    ///
    /// # Panics
    /// If there is no such position, or `out` has another length.
    pub fn get(&self, position: usize, out: &mut [f32]) {
        assert!(position < self.len && out.len() == self.dim, "position {position} of {}", self.len);
        let layout = self.layout();
        for (d, out) in out.iter_mut().enumerate() {
            *out = match &self.data {
                Data::F32(data) => data[layout.number(position, d)],
                Data::F16(data) => data[layout.number(position, d)].to_f32(),
                Data::Q8_0(blocks) => blocks.get(layout, position, d),
            };
        }
    }
}

/// Stores a row of keys, `convert`ed some numbers at a time, to the first and then every sixteenth place of `places`.
fn scatter<T: Copy + Default>(row: &[f32], places: &mut [T], convert: impl Fn(&[f32], &mut [T])) {
    const PIECE: usize = 64;
    let mut places = places.iter_mut().step_by(LANES);
    let mut stored = [T::default(); PIECE];
    for piece in row.chunks(PIECE) {
        let stored = &mut stored[..piece.len()];
        convert(piece, stored);
        stored.iter().zip(&mut places).for_each(|(x, place)| *place = *x);
    }
}
