//! Fetching of memory that will be needed some microseconds later.
//!
//! Attention turns from keys to values every few KiB, and a product of some rows goes over each panel twice: streams that a processor does not
//! foresee. While one part is worked on, the next one is fetched. It matters that the lines are asked for in the order of their
//! addresses, and that they go to the second-level cache: the first one has few misses in flight, and its loads would wait for them.
//!
//! What is read from end to end is fetched twice: far ahead into the second-level cache, which has many misses in flight, and a little
//! ahead from there into the first. (In one step to the first, 4 KiB ahead, a Xeon of the generation with AMX reads weights at 60 % of the rate.)

use super::buffer::LINE;
#[cfg(target_arch = "aarch64")]
use std::arch::asm;
#[cfg(target_arch = "x86_64")]
use std::arch::x86_64::*;

/// Bytes that a stream is ahead in the first-level cache.
const NEAR: usize = 1024;
/// Bytes that it is ahead in the second: what memory gives in some 130 ns at 30 GB/s.
const FAR: usize = 4096;

/// Has what a reader of `lines` lines at `from` will read soon fetched; any address will do.
#[inline(always)]
pub fn stream(from: *const u8, lines: usize) {
    (0..lines).for_each(|line| to_first(from.wrapping_add(NEAR + line * LINE)));
    (0..lines).for_each(|line| to_second(from.wrapping_add(FAR + line * LINE)));
}

/// Has `count` numbers fetched into the second-level cache; any address will do.
#[cfg(target_arch = "x86_64")]
#[inline(always)]
pub fn fetch<T>(from: *const T, count: usize) {
    for line in 0..(count * size_of::<T>()).div_ceil(LINE) {
        to_second(from.cast::<u8>().wrapping_add(line * LINE));
    }
}

#[inline(always)]
fn to_first(at: *const u8) {
    // SAFETY: for this and those below: a hint, which never faults.
    #[cfg(target_arch = "x86_64")]
    unsafe {
        _mm_prefetch::<_MM_HINT_T0>(at.cast());
    }
    #[cfg(target_arch = "aarch64")]
    unsafe {
        asm!("prfm pldl1keep, [{at}]", at = in(reg) at, options(readonly, nostack, preserves_flags));
    }
}

#[inline(always)]
fn to_second(at: *const u8) {
    // SAFETY: as above.
    #[cfg(target_arch = "x86_64")]
    unsafe {
        _mm_prefetch::<_MM_HINT_T1>(at.cast());
    }
    #[cfg(target_arch = "aarch64")]
    unsafe {
        asm!("prfm pldl2keep, [{at}]", at = in(reg) at, options(readonly, nostack, preserves_flags));
    }
}
