//! Numbers of a cache in pages, which copies of the cache share until one of them writes.
//!
//! A page holds [`PAGE`] positions in one allocation. A copy of a cache copies a pointer per page;
//! whoever writes to a page that another cache holds too gets a page of its own first (copy on
//! write). So a fork costs the pages that it writes, and caches that share pages can be read and
//! written on different threads.
//!
//! Attention reads a block of as many positions at a time, so a larger page would save it nothing
//! and cost a fork more: of 40 forks of 500 positions with 8 more each, pages of 64 positions take
//! an eighth of what copies take, and pages of 256 half.

use std::sync::Arc;

/// Positions in a page.
pub const PAGE: usize = 64;

/// `width` numbers for each position, in pages of [`PAGE`] positions.
#[derive(Debug, Clone, PartialEq)]
pub struct Pages<T> {
    pages: Vec<Arc<[T]>>,
    width: usize,
}

impl<T: Copy + Default> Pages<T> {
    /// No pages yet, for positions of `width` numbers.
    pub fn new(width: usize) -> Pages<T> {
        Pages { pages: Vec::new(), width }
    }

    /// Makes room for `positions` in all; new numbers are zeroes.
    pub fn reserve(&mut self, positions: usize) {
        while self.pages.len() < positions.div_ceil(PAGE) {
            self.pages.push(std::iter::repeat_n(T::default(), PAGE * self.width).collect());
        }
    }

    /// The numbers of page `page`.
    pub fn page(&self, page: usize) -> &[T] {
        &self.pages[page]
    }

    /// The same to write to: no other cache has this page from now on.
    pub fn page_mut(&mut self, page: usize) -> &mut [T] {
        Arc::make_mut(&mut self.pages[page])
    }

    /// The numbers of page `page`, and those of the page behind it, or of the same page if it is the last.
    pub fn page_and_next(&self, page: usize) -> (&[T], &[T]) {
        let this = &self.pages[page];
        (this, self.pages.get(page + 1).unwrap_or(this))
    }

    /// Frees the first `pages`, or all if there are fewer.
    pub fn drop_front(&mut self, pages: usize) {
        self.pages.drain(..pages.min(self.pages.len()));
    }

    /// Address and size in bytes of each page: caches that share a page have the same address.
    pub fn memory(&self) -> impl Iterator<Item = (usize, usize)> {
        self.pages.iter().map(|page| (page.as_ptr().addr(), size_of_val(&**page)))
    }
}
