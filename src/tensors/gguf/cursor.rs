//! A place in a file's bytes that moves forward, and never past the end.
//!
//! Counts are believed only as far as the bytes that follow could hold that many things, so nothing is allocated that the
//! file's size does not justify.

use crate::{Error, Result};
use std::cell::Cell;

/// The unread part of a file, and what it is being read for.
pub struct Cursor<'a> {
    bytes: &'a [u8],
    at: usize,
    file: &'a str,
    /// What is being read, for messages: "metadata key llama.block_count".
    pub place: String,
    ran_out: Cell<bool>,
}

impl<'a> Cursor<'a> {
    /// The start of `bytes`, which are the contents of `file`.
    pub fn new(bytes: &'a [u8], file: &'a str) -> Self {
        Cursor { bytes, at: 0, file, place: "the header".into(), ran_out: Cell::new(false) }
    }

    /// Bytes read so far.
    pub fn at(&self) -> usize {
        self.at
    }

    /// Whether an error came of the bytes' end, and not of what they say.
    pub fn ran_out(&self) -> bool {
        self.ran_out.get()
    }

    /// An error about what is being read.
    pub fn corrupt(&self, why: impl std::fmt::Display) -> Error {
        Error::corrupt(self.file, format!("{}: {why}", self.place))
    }

    #[cold]
    fn cut(&self, what: std::fmt::Arguments, left: usize) -> Error {
        self.ran_out.set(true);
        self.corrupt(format_args!("{what}, but only {left} bytes follow; the file is cut short or damaged"))
    }

    /// The next `len` bytes.
    pub fn bytes(&mut self, len: usize) -> Result<&'a [u8]> {
        let rest = &self.bytes[self.at..];
        let Some(bytes) = rest.get(..len) else {
            return Err(self.cut(format_args!("needs {len} bytes"), rest.len()));
        };
        self.at += len;
        Ok(bytes)
    }

    /// The next `N` bytes.
    pub fn array<const N: usize>(&mut self) -> Result<[u8; N]> {
        let bytes = self.bytes(N)?;
        Ok(bytes.try_into().expect("`bytes` gives as many as asked for"))
    }

    pub fn u32(&mut self) -> Result<u32> {
        self.array().map(u32::from_le_bytes)
    }

    pub fn u64(&mut self) -> Result<u64> {
        self.array().map(u64::from_le_bytes)
    }

    /// A number of `things` to follow, each of at least `size` bytes.
    pub fn count(&mut self, things: &str, size: usize) -> Result<usize> {
        let count = self.u64()?;
        let left = self.bytes.len() - self.at;
        match usize::try_from(count) {
            Ok(count) if count <= left / size => Ok(count),
            _ => Err(self.cut(format_args!("claims {count} {things}"), left)),
        }
    }

    /// `count` numbers of `N` bytes; `count` comes from [`Cursor::count`] with this size.
    pub fn numbers<const N: usize, T>(&mut self, count: usize, number: fn([u8; N]) -> T) -> Result<Vec<T>> {
        let bytes = self.bytes(count * N)?;
        Ok(bytes.as_chunks().0.iter().map(|bytes| number(*bytes)).collect())
    }

    /// A string with its length before it.
    pub fn string(&mut self) -> Result<&'a [u8]> {
        let len = self.count("bytes of text", 1)?;
        self.bytes(len)
    }

    /// The name of a key or tensor: UTF-8, not empty, and no longer than the format allows.
    pub fn name(&mut self) -> Result<String> {
        const LONGEST: usize = 65535;
        let bytes = self.string()?;
        if bytes.is_empty() || bytes.len() > LONGEST {
            return Err(self.corrupt(format_args!("its name is {} bytes long, expected 1 to {LONGEST}", bytes.len())));
        }
        let name = std::str::from_utf8(bytes).map_err(|_| self.corrupt("its name is not UTF-8"))?;
        Ok(name.to_owned())
    }
}
