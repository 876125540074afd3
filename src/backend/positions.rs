//! The positions of a batch's rows in their texts.
//!
//! A list for every forward, in memory that the next one on the same thread uses again: a token allocates nothing.

use super::{Batch, KvCache, RopeSet};
use std::cell::Cell;

/// Where a row of a batch is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RowPosition {
    /// Its position in the text.
    pub position: usize,
    /// The frequencies that rotate its text.
    pub rope: RopeSet,
}

/// The positions of a batch's rows, and the rows of a table that belong to them.
#[derive(Default)]
pub struct Positions {
    positions: Vec<RowPosition>,
    rows: Vec<u32>,
}

thread_local! {
    /// What the last forward left.
    static FREE: Cell<Positions> = Cell::default();
}

impl Positions {
    /// The positions of a batch that continues `caches`. Without any, each text starts at 0, and
    /// `rope` gives the frequencies for its length.
    pub fn new(batch: &Batch, caches: &[&mut KvCache], rope: impl Fn(usize) -> RopeSet) -> Positions {
        let mut positions = FREE.take();
        positions.positions.clear();
        for i in 0..batch.sequences() {
            let len = batch.rows(i).len();
            let (first, rope) = caches.get(i).map_or_else(|| (0, rope(len)), |cache| (cache.len(), cache.rope()));
            positions.positions.extend((first..first + len).map(|position| RowPosition { position, rope }));
        }
        positions
    }

    /// One for each row.
    pub fn as_slice(&self) -> &[RowPosition] {
        &self.positions
    }

    /// What `row` makes of each position.
    pub fn rows(&mut self, row: impl Fn(usize) -> usize) -> &[u32] {
        self.rows.clear();
        self.rows.extend(self.positions.iter().map(|at| row(at.position) as u32));
        &self.rows
    }

    /// Leaves the memory to the next forward.
    pub fn free(self) {
        FREE.set(self);
    }
}
