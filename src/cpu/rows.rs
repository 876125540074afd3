//! One head's keys or values in the cache.
//!
//! Both are laid out for the attention kernels. Values: position after position, each padded to 16 numbers. Keys: in groups of 16
//! positions, dimension after dimension, so that one register holds one dimension of 16 positions and scores need no sums across
//! lanes: number `(d, lane)` of group `g` is at `(g * dim + d) * 16 + lane`.
//!
//! Both are in [pages](pages) of 64 positions, which copies share until they write.

mod blocks;
mod pages;

use super::Kernels;
use blocks::{Blocks, Layout};
pub use blocks::{SCALED, blocks};
use half::f16;
pub use pages::PAGE;
use pages::Pages;

/// Positions that share a register.
pub const GROUP: usize = 16;

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

/// The keys or the values of one head, (positions, head_dim). A clone shares its memory with the
/// original and copies only the pages that one of them writes later.
#[derive(Debug, Clone)]
pub struct KvRows {
    pub(super) data: RowsData,
    keys: bool,
    dim: usize,
    len: usize,
}

#[derive(Debug, Clone, PartialEq)]
pub(super) enum RowsData {
    F32(Pages<f32>),
    F16(Pages<f16>),
    Q8_0(Blocks),
}

impl KvRows {
    /// Memory grows by this number of positions at a time.
    pub const PAGE: usize = PAGE;
    /// [`KvRows::drop_front`] drops multiples of this number of positions.
    pub const STEP: usize = 256;
    /// Numbers of a row that share a scale, where the precision has scales.
    pub const SCALED: usize = SCALED;

    /// Space for keys of `dim` numbers.
    pub fn keys(dim: usize, precision: Precision) -> KvRows {
        KvRows::new(true, dim, precision)
    }

    /// Space for values of `dim` numbers.
    pub fn values(dim: usize, precision: Precision) -> KvRows {
        KvRows::new(false, dim, precision)
    }

    fn new(keys: bool, dim: usize, precision: Precision) -> KvRows {
        let layout = Layout::new(keys, dim);
        let data = match precision {
            Precision::F32 => RowsData::F32(Pages::new(layout.stride)),
            Precision::F16 => RowsData::F16(Pages::new(layout.stride)),
            Precision::Q8_0 => RowsData::Q8_0(Blocks::new(layout)),
        };
        KvRows { data, keys, dim, len: 0 }
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
            RowsData::F32(_) => Precision::F32,
            RowsData::F16(_) => Precision::F16,
            RowsData::Q8_0(_) => Precision::Q8_0,
        }
    }

    /// Whether these are keys rather than values.
    pub fn are_keys(&self) -> bool {
        self.keys
    }

    /// Bytes of memory held; clones may hold the same.
    pub fn bytes(&self) -> usize {
        self.memory().map(|(_, bytes)| bytes).sum()
    }

    /// Address and size in bytes of each page of memory held. Clones that share a page have the same
    /// address.
    pub fn memory(&self) -> impl Iterator<Item = (usize, usize)> {
        let (wide, half, blocks) = match &self.data {
            RowsData::F32(pages) => (Some(pages), None, None),
            RowsData::F16(pages) => (None, Some(pages), None),
            RowsData::Q8_0(blocks) => (None, Some(&blocks.scales), Some(&blocks.numbers)),
        };
        let wide = wide.into_iter().flat_map(Pages::memory);
        let half = half.into_iter().flat_map(Pages::memory);
        wide.chain(half).chain(blocks.into_iter().flat_map(Pages::memory))
    }

    fn layout(&self) -> Layout {
        Layout::new(self.keys, self.dim)
    }

    /// Makes room for `positions` in all, in whole pages.
    fn reserve(&mut self, positions: usize) {
        match &mut self.data {
            RowsData::F32(pages) => pages.reserve(positions),
            RowsData::F16(pages) => pages.reserve(positions),
            RowsData::Q8_0(blocks) => blocks.reserve(positions),
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
        let dim = self.dim;
        assert!(stride >= dim && x.len() >= (count - 1) * stride + dim, "{count} rows in {}", x.len());
        let (from, to, layout) = (self.len, self.len + count, self.layout());
        self.reserve(to);
        self.len = to;
        for page in from / PAGE..to.div_ceil(PAGE) {
            let start = page * PAGE;
            let new = from.max(start)..to.min(start + PAGE);
            let rows = new.map(|position| (position - start, &x[(position - from) * stride..][..dim]));
            match &mut self.data {
                RowsData::F32(pages) => store(pages.page_mut(page), layout, rows, |x, out| out.copy_from_slice(x)),
                RowsData::F16(pages) => store(pages.page_mut(page), layout, rows, |x, out| kernels.to_f16(x, out)),
                RowsData::Q8_0(blocks) => blocks.store(kernels, layout, page, rows),
            }
        }
    }

    /// Forgets all positions from `positions` on; the memory is kept.
    pub fn truncate(&mut self, positions: usize) {
        self.len = self.len.min(positions);
    }

    /// Forgets the first `positions`, as a sliding window does, and frees their memory.
    ///
    /// # Panics
    /// If `positions` is no multiple of 256: softmax blocks start at absolute positions.
    pub fn drop_front(&mut self, positions: usize) {
        assert!(positions.is_multiple_of(Self::STEP), "{positions} positions to drop");
        let pages = positions / PAGE;
        match &mut self.data {
            RowsData::F32(data) => data.drop_front(pages),
            RowsData::F16(data) => data.drop_front(pages),
            RowsData::Q8_0(blocks) => blocks.drop_front(pages),
        }
        self.len = self.len.saturating_sub(positions);
    }

    /// The row at `position`, widened, into `out` (dim).
    ///
    /// # Panics
    /// If there is no such position, or `out` has another length.
    pub fn get(&self, position: usize, out: &mut [f32]) {
        assert!(position < self.len && out.len() == self.dim, "position {position} of {}", self.len);
        let (layout, page, position) = (self.layout(), position / PAGE, position % PAGE);
        for (d, out) in out.iter_mut().enumerate() {
            *out = match &self.data {
                RowsData::F32(pages) => pages.page(page)[layout.number(position, d)],
                RowsData::F16(pages) => pages.page(page)[layout.number(position, d)].to_f32(),
                RowsData::Q8_0(blocks) => blocks.get(layout, page, position, d),
            };
        }
    }
}

/// Stores `rows`, each with its position in the page, `convert`ed.
fn store<'a, T: Copy + Default>(
    page: &mut [T],
    layout: Layout,
    rows: impl Iterator<Item = (usize, &'a [f32])>,
    convert: impl Fn(&[f32], &mut [T]),
) {
    for (position, row) in rows {
        let places = &mut page[layout.number(position, 0)..];
        if layout.keys { scatter(row, places, &convert) } else { convert(row, &mut places[..row.len()]) }
    }
}

/// Stores a row of keys, `convert`ed some numbers at a time, to the first and then every sixteenth place of `places`.
fn scatter<T: Copy + Default>(row: &[f32], places: &mut [T], convert: impl Fn(&[f32], &mut [T])) {
    const PIECE: usize = 64;
    let mut places = places.iter_mut().step_by(GROUP);
    let mut stored = [T::default(); PIECE];
    for piece in row.chunks(PIECE) {
        let stored = &mut stored[..piece.len()];
        convert(piece, stored);
        stored.iter().zip(&mut places).for_each(|(x, place)| *place = *x);
    }
}
