//! Zeroed memory whose start is aligned to a cache line, in huge pages where the system offers them.
//!
//! Weights are read from end to end for every token: with 4 KiB pages, address translation costs a part of the bandwidth, and processors stop
//! to fetch ahead at the end of every page. The matrices of a small model are smaller than a huge page, so buffers that are made one after the
//! other share a [`Chunk`]; it goes when the last of them goes.

use memmap2::MmapMut;
use std::ops::{Deref, DerefMut};
use std::sync::{Arc, Mutex};

/// Bytes in a cache line, and in one AVX-512 register.
pub const LINE: usize = 64;
/// Bytes in a huge page.
const HUGE: usize = 2 << 20;
/// Bytes in a chunk, if one buffer does not need more.
const CHUNK: usize = 16 * HUGE;
/// Smaller buffers come from the allocator.
const SMALL: usize = 16 << 10;

/// Bytes of a fixed size, aligned to [`LINE`].
pub struct AlignedBytes {
    memory: Memory,
    bytes: usize,
}

enum Memory {
    Lines(Vec<CacheLine>),
    /// The bytes from `start` on, which are this buffer's alone.
    Chunk {
        _owner: Arc<Chunk>,
        start: *mut u8,
    },
}

// SAFETY: a buffer's part of a chunk is its own, as a vector's would be.
unsafe impl Send for AlignedBytes {}
// SAFETY: a shared buffer is only read.
unsafe impl Sync for AlignedBytes {}

/// An anonymous mapping.
struct Chunk(#[allow(dead_code)] MmapMut);

/// The chunk that the next buffers come from: where its rest begins, and how long that is.
struct Rest {
    chunk: Arc<Chunk>,
    start: *mut u8,
    bytes: usize,
}

// SAFETY: nobody else has the rest of a chunk.
unsafe impl Send for Rest {}

static REST: Mutex<Option<Rest>> = Mutex::new(None);

#[derive(Clone, Copy)]
#[repr(C, align(64))]
struct CacheLine([u8; LINE]);

impl AlignedBytes {
    /// `bytes` zeroes.
    pub fn zeroed(bytes: usize) -> AlignedBytes {
        let memory = if bytes < SMALL { None } else { mapped(bytes) };
        AlignedBytes { memory: memory.unwrap_or_else(|| lines(bytes)), bytes }
    }
}

fn lines(bytes: usize) -> Memory {
    Memory::Lines(vec![CacheLine([0; LINE]); bytes.div_ceil(LINE)])
}

/// `bytes` zeroes of their own, in huge pages where the system offers them.
///
/// # Errors
/// The system has no room for them.
pub fn anonymous(bytes: usize) -> std::io::Result<MmapMut> {
    let map = MmapMut::map_anon(bytes)?;
    #[cfg(target_os = "linux")]
    // A kernel without huge pages refuses; small ones do as well.
    let _ = map.advise(memmap2::Advice::HugePage);
    Ok(map)
}

/// Gives freed memory back to the system, where the allocator is glibc's: it keeps what lies below something that is in use, which
/// after many small pieces is as much as was ever allocated.
pub fn trim_heap() {
    #[cfg(all(target_os = "linux", target_env = "gnu"))]
    // SAFETY: it has no requirements, and touches only what is free.
    unsafe {
        libc::malloc_trim(0);
    }
}

/// A part of a chunk; `None` if the system refuses.
fn mapped(bytes: usize) -> Option<Memory> {
    let room = bytes.checked_next_multiple_of(LINE)?;
    let mut rest = REST.lock().unwrap_or_else(|e| e.into_inner());
    if rest.as_ref().is_none_or(|rest| rest.bytes < room) {
        // One more page than needed: the mapping may begin anywhere, and only whole huge pages can be had.
        let mut map = anonymous(room.max(CHUNK).checked_add(HUGE)?).ok()?;
        let skipped = map.as_ptr().align_offset(HUGE).min(HUGE);
        let (start, bytes) = (map[skipped..].as_mut_ptr(), map.len() - skipped);
        *rest = Some(Rest { chunk: Arc::new(Chunk(map)), start, bytes });
    }
    let rest = rest.as_mut()?;
    let memory = Memory::Chunk { _owner: rest.chunk.clone(), start: rest.start };
    (rest.start, rest.bytes) = (rest.start.wrapping_add(room), rest.bytes - room);
    Some(memory)
}

impl Deref for AlignedBytes {
    type Target = [u8];
    fn deref(&self) -> &[u8] {
        match &self.memory {
            // SAFETY: a `CacheLine` is 64 bytes without padding, and the vector holds at least `bytes` of them.
            Memory::Lines(lines) => unsafe { std::slice::from_raw_parts(lines.as_ptr().cast(), self.bytes) },
            // SAFETY: the chunk has as many bytes from there on, nobody else writes them, and it lives as long as this buffer.
            Memory::Chunk { start, .. } => unsafe { std::slice::from_raw_parts(*start, self.bytes) },
        }
    }
}

impl DerefMut for AlignedBytes {
    fn deref_mut(&mut self) -> &mut [u8] {
        match &mut self.memory {
            // SAFETY: as in `deref`; the borrow is exclusive.
            Memory::Lines(lines) => unsafe { std::slice::from_raw_parts_mut(lines.as_mut_ptr().cast(), self.bytes) },
            // SAFETY: as above; the borrow is exclusive.
            Memory::Chunk { start, .. } => unsafe { std::slice::from_raw_parts_mut(*start, self.bytes) },
        }
    }
}
