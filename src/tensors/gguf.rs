//! GGUF files, versions 2 and 3: metadata and tensors, also of a model that is split over several files.
//!
//! Layout: magic, version, number of tensors, number of metadata pairs; the pairs; name, dimensions (innermost first), type
//! and offset of each tensor; then, from the next multiple of the alignment, the tensors' bytes. All little-endian.
//! Source: <https://github.com/ggml-org/ggml/blob/master/docs/gguf.md>.

mod cursor;
mod metadata;
#[cfg(test)]
mod tests;

pub use metadata::{Array, Metadata, Value};

use super::{Stored, Weights, by, other_kind};
use crate::quant::Dtype;
use crate::{Bytes, Error, Result};
use cursor::Cursor;
use std::path::Path;

/// A GGUF file, read as far as its structure goes.
#[derive(Debug)]
pub struct Gguf {
    /// The keys and their values; those of the first file, if the model is split.
    pub metadata: Metadata,
    /// The tensors of all files.
    pub weights: Weights,
}

impl Gguf {
    /// Maps and reads the file at `path`. Of a split model (`NAME-00001-of-00003.gguf`) any part leads to all of them.
    pub fn open(path: impl AsRef<Path>) -> Result<Self> {
        let path = path.as_ref();
        let gguf = read(Bytes::map(path)?, &path.display().to_string())?;
        match Split::of(&gguf.metadata)? {
            None => Ok(gguf),
            Some(split) => split.join(path),
        }
    }

    /// Reads a file's contents; `name` stands for the file in messages.
    pub fn from_bytes(bytes: Bytes, name: &str) -> Result<Self> {
        let gguf = read(bytes, name)?;
        match Split::of(&gguf.metadata)? {
            None => Ok(gguf),
            Some(Split { number, count }) => Err(Error::unsupported(
                format!("{name}: part {} of {count} of a split model, given as bytes,", number + 1),
                "a whole model as bytes, or the path of a part with the others beside it",
            )),
        }
    }
}

/// The length of the header at the start of `bytes`, that is everything before the tensors; `None` if it goes on beyond
/// them. For files of which only the beginning is at hand; `file` stands for the file in messages.
pub fn header_len(bytes: &[u8], file: &str) -> Result<Option<usize>> {
    let mut cursor = Cursor::new(bytes, file);
    match header(&mut cursor, bytes, file) {
        Ok(_) => Ok(Some(cursor.at())),
        Err(_) if cursor.ran_out() => Ok(None),
        Err(error) => Err(error),
    }
}

fn read(bytes: Bytes, file: &str) -> Result<Gguf> {
    let mut cursor = Cursor::new(&bytes, file);
    let (metadata, alignment, entries) = header(&mut cursor, &bytes, file)?;
    check_overlaps(&entries, file)?;

    let start = cursor.at().checked_next_multiple_of(alignment);
    let start = start.ok_or_else(|| cursor.corrupt("the alignment is larger than memory"))?;
    let mut weights = Weights::new(file);
    for entry in entries {
        weights.insert(entry.stored(&bytes, start, file)?)?;
    }
    // A vocabulary is megabytes of text, of which the metadata is a copy.
    if let Some(header) = bytes.slice(0..start.min(bytes.len())) {
        header.release();
    }
    Ok(Gguf { metadata, weights })
}

/// The metadata, the alignment of the tensors, and what the file says about each.
fn header(cursor: &mut Cursor, bytes: &[u8], file: &str) -> Result<(Metadata, usize, Vec<TensorEntry>)> {
    check_version(cursor, bytes, file)?;
    // The least that an entry of each kind takes.
    const TENSOR: usize = 8 + 1 + 4 + 8 + 4 + 8;
    const PAIR: usize = 8 + 1 + 4 + 1;
    let tensors = cursor.count("tensors", TENSOR)?;
    let pairs = cursor.count("metadata entries", PAIR)?;
    let metadata = Metadata::read(cursor, pairs, file)?;
    let alignment = alignment(&metadata)?;

    let mut entries = Vec::new();
    for i in 0..tensors {
        cursor.place = format!("tensor {} of {tensors}", i + 1);
        entries.push(TensorEntry::read(cursor, file, alignment)?);
    }
    Ok((metadata, alignment, entries))
}

/// Reads the magic and the version, and says what else a file may be.
fn check_version(cursor: &mut Cursor, bytes: &[u8], file: &str) -> Result<()> {
    const SUPPORTED: &str = "GGUF versions 2 and 3, little-endian";
    if bytes.is_empty() {
        return Err(Error::corrupt(file, "is empty"));
    }
    let legacy = match bytes.get(..4) {
        Some(b"GGUF") => None,
        Some(b"lmgg") => Some("GGML"),
        Some(b"fmgg") => Some("GGMF"),
        Some(b"tjgg") => Some("GGJT"),
        Some(b"algg") => Some("GGLA"),
        _ => {
            let kind = other_kind(bytes).map(|kind| format!("; it looks like {kind}")).unwrap_or_default();
            return Err(Error::corrupt(file, format!("is not a GGUF file{kind}")));
        }
    };
    if let Some(legacy) = legacy {
        return Err(Error::unsupported(format!("{file}: the old {legacy} format, from before GGUF,"), SUPPORTED));
    }
    cursor.bytes(4)?;
    match cursor.u32()? {
        2 | 3 => Ok(()),
        version if (1..=3).contains(&version.swap_bytes()) => {
            Err(Error::unsupported(format!("{file}: a big-endian GGUF file"), SUPPORTED))
        }
        version => Err(Error::unsupported(format!("{file}: GGUF version {version}"), SUPPORTED)),
    }
}

fn alignment(metadata: &Metadata) -> Result<usize> {
    const KEY: &str = "general.alignment";
    const LARGEST: u64 = 1 << 31;
    match metadata.u64(KEY)? {
        None => Ok(32),
        Some(alignment) if alignment.is_power_of_two() && alignment <= LARGEST => Ok(alignment as usize),
        Some(other) => Err(Error::corrupt(metadata.file(), format!("key {KEY} is {other}, expected a power of two"))),
    }
}

/// What the file says about a tensor. `bytes` is what its shape and type need; `offset` counts from the data's start.
struct TensorEntry {
    name: String,
    dtype: Dtype,
    shape: Vec<usize>,
    offset: usize,
    bytes: usize,
}

impl TensorEntry {
    fn read(cursor: &mut Cursor, file: &str, alignment: usize) -> Result<Self> {
        let name = cursor.name()?;
        cursor.place = format!("tensor {name}");
        let dims = cursor.u32()?;
        if !(1..=4).contains(&dims) {
            return Err(cursor.corrupt(format_args!("has {dims} dimensions, expected 1 to 4")));
        }
        let mut shape = (0..dims).map(|_| cursor.u64()).collect::<Result<Vec<_>>>()?;
        shape.reverse();
        let id = cursor.u32()?;
        let offset = cursor.u64()?;

        let dtype = Dtype::from_ggml(id).ok_or_else(|| unknown_type(file, &name, id))?;
        let shape = shape.into_iter().map(|dim| usize::try_from(dim).ok().filter(|&dim| dim > 0)).collect::<Option<Vec<_>>>();
        let shape = shape.ok_or_else(|| cursor.corrupt("has a dimension of 0, or one that is too large"))?;
        let columns = shape[shape.len() - 1];
        if !columns.is_multiple_of(dtype.block()) {
            let block = dtype.block();
            return Err(cursor.corrupt(format_args!("has rows of {columns} elements; {dtype} needs a multiple of {block}")));
        }
        let elements = shape.iter().try_fold(1usize, |product, &dim| product.checked_mul(dim));
        let bytes = elements
            .and_then(|elements| dtype.bytes(elements))
            .ok_or_else(|| cursor.corrupt(format_args!("is {}, too large to be true", by(&shape))))?;
        let offset = usize::try_from(offset)
            .ok()
            .filter(|offset| offset.is_multiple_of(alignment))
            .ok_or_else(|| cursor.corrupt(format_args!("has the offset {offset}, not a multiple of {alignment}")))?;
        Ok(TensorEntry { name, dtype, shape, offset, bytes })
    }

    /// Cuts the tensor out of the file, whose data begins at `start`.
    fn stored(self, bytes: &Bytes, start: usize, file: &str) -> Result<Stored> {
        let begin = start.checked_add(self.offset);
        let end = begin.and_then(|begin| begin.checked_add(self.bytes));
        let data = begin.zip(end).and_then(|(begin, end)| bytes.slice(begin..end));
        let Some(data) = data else {
            let why = format!(
                "tensor {}: its {} bytes at offset {} of the data reach beyond the file's {} bytes; \
                 the file is cut short or damaged",
                self.name,
                self.bytes,
                self.offset,
                bytes.len()
            );
            return Err(Error::corrupt(file, why));
        };
        Ok(Stored { name: self.name, dtype: self.dtype, shape: self.shape, data })
    }
}

/// No two tensors share bytes.
fn check_overlaps(entries: &[TensorEntry], file: &str) -> Result<()> {
    let mut sorted: Vec<_> = entries.iter().collect();
    sorted.sort_by_key(|entry| entry.offset);
    for pair in sorted.windows(2) {
        let (first, second) = (pair[0], pair[1]);
        if second.offset - first.offset < first.bytes {
            let why = if first.name == second.name {
                format!("tensor {} occurs twice", first.name)
            } else {
                format!("tensors {} and {} overlap", first.name, second.name)
            };
            return Err(Error::corrupt(file, why));
        }
    }
    Ok(())
}

fn unknown_type(file: &str, tensor: &str, id: u32) -> Error {
    let name = match id {
        4 => "Q4_2",
        5 => "Q4_3",
        9 => "Q8_1",
        15 => "Q8_K",
        16 => "IQ2_XXS",
        17 => "IQ2_XS",
        18 => "IQ3_XXS",
        19 => "IQ1_S",
        21 => "IQ3_S",
        22 => "IQ2_S",
        24 => "I8",
        25 => "I16",
        26 => "I32",
        27 => "I64",
        28 => "F64",
        29 => "IQ1_M",
        31 => "Q4_0_4_4",
        32 => "Q4_0_4_8",
        33 => "Q4_0_8_8",
        34 => "TQ1_0",
        35 => "TQ2_0",
        36 => "IQ4_NL_4_4",
        37 => "IQ4_NL_4_8",
        38 => "IQ4_NL_8_8",
        39 => "MXFP4",
        40 => "NVFP4",
        41 => "Q1_0",
        42 => "Q2_0",
        _ => "unknown to us",
    };
    let supported = Dtype::all().map(Dtype::name).collect::<Vec<_>>().join(", ");
    Error::unsupported(format!("{file}: tensor {tensor} of ggml type {id} ({name})"), supported)
}

/// Which part of a split model a file is.
struct Split {
    /// From 0.
    number: u64,
    count: u64,
}

impl Split {
    fn of(metadata: &Metadata) -> Result<Option<Self>> {
        let count = metadata.u64("split.count")?.unwrap_or(0);
        if count < 2 {
            return Ok(None);
        }
        let number = metadata.u64("split.no")?.ok_or_else(|| metadata.missing("split.no"))?;
        if number >= count {
            let why = format!("key split.no is {number}, expected less than split.count, which is {count}");
            return Err(Error::corrupt(metadata.file(), why));
        }
        Ok(Some(Split { number, count }))
    }

    /// How the file name of part `number` ends.
    fn ending(&self, number: u64) -> String {
        format!("-{:05}-of-{:05}.gguf", number + 1, self.count)
    }

    /// Reads all parts, of which `path` is one.
    fn join(&self, path: &Path) -> Result<Gguf> {
        let ending = self.ending(self.number);
        let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
        let Some(stem) = name.strip_suffix(&ending) else {
            let why = format!(
                "is part {} of {} of a split model, but its name does not end in {ending}, so the others can not be found",
                self.number + 1,
                self.count
            );
            return Err(Error::corrupt(path.display(), why));
        };
        let mut whole = self.part(path, stem, 0)?;
        for number in 1..self.count {
            let part = self.part(path, stem, number)?;
            whole.weights.join(part.weights)?;
        }
        if let Some(expected) = whole.metadata.u64("split.tensors.count")?
            && expected != whole.weights.len() as u64
        {
            let why = format!("all parts together have {} tensors, expected {expected}", whole.weights.len());
            return Err(Error::corrupt(whole.metadata.file(), why));
        }
        Ok(whole)
    }

    /// Reads part `number` beside `path`, and checks that it says it is.
    fn part(&self, path: &Path, stem: &str, number: u64) -> Result<Gguf> {
        let path = path.with_file_name(format!("{stem}{}", self.ending(number)));
        if !path.exists() {
            return Err(Error::NotFound {
                what: path.display().to_string(),
                hint: format!("it is part {} of {} of a split model; all parts must lie together", number + 1, self.count),
            });
        }
        let part = read(Bytes::map(&path)?, &path.display().to_string())?;
        match Split::of(&part.metadata)? {
            Some(split) if split.number == number && split.count == self.count => Ok(part),
            _ => {
                let why = format!("its metadata does not say that it is part {} of {}", number + 1, self.count);
                Err(Error::corrupt(path.display(), why))
            }
        }
    }
}
