//! One slice that several threads write, each its own parts.

use std::marker::PhantomData;
use std::ops::Range;

/// A slice of which several threads write parts that do not overlap.
pub(super) struct Parts<'a, T> {
    start: *mut T,
    len: usize,
    _owner: PhantomData<&'a mut [T]>,
}

// SAFETY: it is an exclusive borrow of a slice of `T`, and `part` asks its callers not to overlap.
unsafe impl<T: Send> Sync for Parts<'_, T> {}

impl<'a, T> Parts<'a, T> {
    pub(super) fn new(slice: &'a mut [T]) -> Self {
        Parts { start: slice.as_mut_ptr(), len: slice.len(), _owner: PhantomData }
    }

    /// # Safety
    /// Ranges that live at the same time must not overlap.
    #[allow(clippy::mut_from_ref)]
    pub(super) unsafe fn part(&self, range: Range<usize>) -> &mut [T] {
        assert!(range.start <= range.end && range.end <= self.len, "part {range:?} of {}", self.len);
        // SAFETY: inside the slice by the check above; alone because ranges do not overlap, as asked above.
        unsafe { std::slice::from_raw_parts_mut(self.start.add(range.start), range.len()) }
    }

    /// The same slice from element `start` on.
    pub(super) fn from(&self, start: usize) -> Parts<'_, T> {
        Parts { start: self.at(start), len: self.len - start, _owner: PhantomData }
    }

    /// The address of element `index`; for writers of scattered parts, as the columns of a matrix are.
    pub(super) fn at(&self, index: usize) -> *mut T {
        assert!(index <= self.len, "element {index} of {}", self.len);
        self.start.wrapping_add(index)
    }
}
