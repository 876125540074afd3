//! Zeroed memory whose start is aligned to a cache line, in huge pages where the system offers them.
//!
//! Weights are read from end to end for every token: with 4 KiB pages, address translation costs a part of the bandwidth.

use std::ops::{Deref, DerefMut};

/// Bytes in a cache line, and in one AVX-512 register.
pub const LINE: usize = 64;
/// Buffers from this size on are mapped on their own, so that they can have huge pages.
const HUGE: usize = 4 << 20;

/// Bytes of a fixed size, aligned to [`LINE`].
pub struct Buffer {
    memory: Memory,
    bytes: usize,
}

enum Memory {
    Lines(Vec<Line>),
    Mapped(memmap2::MmapMut),
}

#[derive(Clone, Copy)]
#[repr(C, align(64))]
struct Line([u8; LINE]);

impl Buffer {
    /// `bytes` zeroes.
    pub fn zeroed(bytes: usize) -> Buffer {
        Buffer { memory: mapped(bytes).unwrap_or_else(|| lines(bytes)), bytes }
    }
}

fn lines(bytes: usize) -> Memory {
    Memory::Lines(vec![Line([0; LINE]); bytes.div_ceil(LINE)])
}

/// An anonymous mapping, which is aligned to pages; `None` if it is not worth it or the system refuses.
fn mapped(bytes: usize) -> Option<Memory> {
    if bytes < HUGE {
        return None;
    }
    let map = memmap2::MmapMut::map_anon(bytes).ok()?;
    #[cfg(target_os = "linux")]
    // A kernel without huge pages refuses; small ones do as well.
    let _ = map.advise(memmap2::Advice::HugePage);
    Some(Memory::Mapped(map))
}

impl Deref for Buffer {
    type Target = [u8];
    fn deref(&self) -> &[u8] {
        match &self.memory {
            // SAFETY: a `Line` is 64 bytes without padding, and the vector holds at least `bytes` of them.
            Memory::Lines(lines) => unsafe { std::slice::from_raw_parts(lines.as_ptr().cast(), self.bytes) },
            Memory::Mapped(map) => &map[..self.bytes],
        }
    }
}

impl DerefMut for Buffer {
    fn deref_mut(&mut self) -> &mut [u8] {
        match &mut self.memory {
            // SAFETY: as in `deref`; the borrow is exclusive.
            Memory::Lines(lines) => unsafe { std::slice::from_raw_parts_mut(lines.as_mut_ptr().cast(), self.bytes) },
            Memory::Mapped(map) => &mut map[..self.bytes],
        }
    }
}
