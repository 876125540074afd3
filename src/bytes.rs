//! Read-only bytes that are cheap to share: a memory-mapped file, a buffer, or data inside the executable.
//!
//! A [`Bytes`] is a range of a shared owner, so a tensor can keep its part of a mapped file alive. The only `unsafe` outside
//! `cpu/` is here: a mapped file that another process truncates or rewrites while it is mapped changes under us (a
//! truncated one kills the process with SIGBUS). Every engine that maps weights takes this risk; model files are not
//! rewritten in place by any tool we know.

use crate::error::{Error, Result};
use std::{fs::File, ops::Range, path::Path, sync::Arc};

/// A shared, read-only range of bytes.
#[derive(Clone)]
pub struct Bytes {
    owner: Owner,
    range: Range<usize>,
}

#[derive(Clone)]
enum Owner {
    Mapped(Arc<memmap2::Mmap>),
    Heap(Arc<Vec<u8>>),
    Static(&'static [u8]),
}

impl Bytes {
    /// Maps a file into memory; an empty file gives empty bytes.
    pub fn map(path: &Path) -> Result<Self> {
        let file = File::open(path).map_err(|e| Error::io(path, e))?;
        let meta = file.metadata().map_err(|e| Error::io(path, e))?;
        if !meta.is_file() {
            return Err(Error::corrupt(path.display(), "is not a regular file"));
        }
        if meta.len() == 0 {
            return Ok(Bytes::from(&[][..]));
        }
        // SAFETY: the mapping is private and read-only; see the module's note on files that change under a mapping.
        let map = unsafe { memmap2::Mmap::map(&file) }.map_err(|e| Error::io(path, e))?;
        let range = 0..map.len();
        Ok(Bytes { owner: Owner::Mapped(Arc::new(map)), range })
    }

    /// The part `range` of these bytes, relative to their start; `None` if it reaches outside.
    pub fn slice(&self, range: Range<usize>) -> Option<Self> {
        if range.start > range.end || range.end > self.len() {
            return None;
        }
        let start = self.range.start + range.start;
        Some(Bytes { owner: self.owner.clone(), range: start..self.range.start + range.end })
    }

    /// Tells the system that these bytes will not be read again soon: pages of a mapped file that lie wholly inside stop
    /// counting as this process's memory. Reading them again fetches them again.
    pub fn release(&self) {
        #[cfg(unix)]
        if let Owner::Mapped(map) = &self.owner {
            const PAGE: usize = 1 << 16; // The largest page size in use; a multiple of the others.
            let (start, end) = (self.range.start.next_multiple_of(PAGE), self.range.end / PAGE * PAGE);
            if start < end {
                // SAFETY: the mapping is read-only and backed by the file, so a dropped page comes back with the same bytes.
                let dropped = unsafe { map.unchecked_advise_range(memmap2::UncheckedAdvice::DontNeed, start, end - start) };
                if let Err(error) = dropped {
                    log::debug!("pages of a mapped file stay in memory: {error}");
                }
            }
        }
    }

    /// Whether these bytes are pages of a mapped file, which cost memory only while they are used.
    pub fn is_mapped(&self) -> bool {
        matches!(self.owner, Owner::Mapped(_))
    }
}

impl std::ops::Deref for Bytes {
    type Target = [u8];
    fn deref(&self) -> &[u8] {
        let all: &[u8] = match &self.owner {
            Owner::Mapped(map) => map,
            Owner::Heap(vec) => vec,
            Owner::Static(slice) => slice,
        };
        &all[self.range.clone()]
    }
}

impl From<Vec<u8>> for Bytes {
    fn from(vec: Vec<u8>) -> Self {
        let range = 0..vec.len();
        Bytes { owner: Owner::Heap(Arc::new(vec)), range }
    }
}

impl From<&'static [u8]> for Bytes {
    fn from(slice: &'static [u8]) -> Self {
        Bytes { owner: Owner::Static(slice), range: 0..slice.len() }
    }
}

impl std::fmt::Debug for Bytes {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Bytes({} bytes)", self.len())
    }
}
