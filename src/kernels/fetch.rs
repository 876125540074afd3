//! Fetching of memory that will be needed some microseconds later.
//!
//! Attention turns from keys to values every few KiB, and a product of some rows goes over each panel twice: streams that a processor does not
//! foresee. While one part is worked on, the next one is fetched. It matters that the lines are asked for in the order of their
//! addresses, and that they go to the second-level cache: the first one has few misses in flight, and its loads would wait for them.

use super::buffer::LINE;
use std::arch::x86_64::*;

/// Has `count` numbers fetched; any address will do.
#[inline(always)]
pub fn fetch<T>(from: *const T, count: usize) {
    for line in 0..(count * size_of::<T>()).div_ceil(LINE) {
        // SAFETY: fetching is harmless.
        unsafe { _mm_prefetch::<_MM_HINT_T1>(from.cast::<u8>().wrapping_add(line * LINE).cast()) };
    }
}
