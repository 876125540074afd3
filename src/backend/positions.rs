//! Where the rows of a batch are in their texts.
//!
//! A list for every forward, in memory that the next one on the same thread uses again: a token allocates nothing.

use super::{Batch, KvCache};
use std::cell::Cell;

/// Where a row of a batch is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RowPosition {
    /// Its position in the text.
    pub position: usize,
    /// The most positions that its text may come to. A text's keys must all be rotated alike, so which of two sets of
    /// frequencies it has can not depend on how long it happens to be so far.
    pub limit: usize,
}

/// Where the rows of a batch are, and the rows of a table that belong to them.
#[derive(Default)]
pub struct Positions {
    places: Vec<RowPosition>,
    rows: Vec<u32>,
}

thread_local! {
    /// What the last forward left.
    static FREE: Cell<Positions> = Cell::default();
}

impl Positions {
    /// The places of a batch that continues `caches`, or, without any, whose texts stand for themselves.
    pub fn new(batch: &Batch, caches: &[&mut KvCache]) -> Positions {
        let mut places = FREE.take();
        places.places.clear();
        for i in 0..batch.sequences() {
            let len = batch.rows(i).len();
            let (first, limit) = caches.get(i).map_or((0, len), |cache| (cache.len(), cache.limit()));
            places.places.extend((first..first + len).map(|position| RowPosition { position, limit }));
        }
        places
    }

    /// One for each row.
    pub fn as_slice(&self) -> &[RowPosition] {
        &self.places
    }

    /// What `row` makes of each place.
    pub fn rows(&mut self, row: impl Fn(RowPosition) -> usize) -> &[u32] {
        self.rows.clear();
        self.rows.extend(self.places.iter().map(|place| row(*place) as u32));
        &self.rows
    }

    /// Leaves the memory to the next forward.
    pub fn free(self) {
        FREE.set(self);
    }
}
