//! The cost of a model that is still on the Hub, told from the headers of its files.
//!
//! The headers are read by ranges and written into files of the full length, whose rest is a hole: the readers that open a model
//! on the disk then open this one, and no second reader has to agree with them. Nothing touches the weights, so a hole is
//! never read. (Where a file system has no holes, the disk must have room for them.)

use super::cost::Cost;
use super::{gguf_outline, safetensors_outline};
use crate::error::{Error, Result};
use crate::files::NamedFiles;
use crate::store::hub::PlannedFile;
use crate::tensors::{Gguf, gguf_header_len};
use std::fs::File;
use std::hash::{BuildHasher, Hasher};
use std::io::Write;
use std::ops::Range;
use std::path::{Path, PathBuf};

/// How much of a GGUF file is read at first: most headers with a vocabulary of 32 thousand tokens end before it.
const FIRST: u64 = 1 << 20;
/// The most bytes of a header, or of a file of settings: the safetensors format's own limit.
const LONGEST: u64 = 100_000_000;

/// The cost of the model that consists of `files`, parts of which `read` gives.
///
/// # Errors
/// As for loading: [`Error::Unsupported`] for a family that can not run, [`Error::Corrupt`] for a header that is none.
pub(super) fn cost(files: &[PlannedFile], read: impl Fn(&PlannedFile, Range<u64>) -> Result<Vec<u8>>) -> Result<Cost> {
    // All headers come first: the folder then lives for no longer than the disk takes, whatever interrupts the network.
    let mut headers = Vec::new();
    for file in files {
        let (path, size) = (file.path.as_str(), file.size);
        let bytes = match path.rsplit('.').next().unwrap_or_default().to_ascii_lowercase().as_str() {
            "gguf" => gguf_header(path, size, |range| read(file, range))?,
            "safetensors" => safetensors_header(path, size, |range| read(file, range))?,
            "json" if path == "config.json" || path.ends_with(".index.json") => {
                if size > LONGEST {
                    return Err(Error::corrupt(path, format!("has {size} bytes, expected at most {LONGEST}")));
                }
                read(file, 0..size)?
            }
            _ => continue,
        };
        headers.push((path, bytes, size));
    }
    let folder = HeaderFiles::new()?;
    let mut gguf = None;
    for (path, bytes, size) in headers {
        let written = folder.write(path, &bytes, size)?;
        if path.to_ascii_lowercase().ends_with(".gguf") && gguf.is_none() {
            gguf = Some(written);
        }
    }
    let opened = match gguf {
        Some(path) => Gguf::open(path).and_then(|gguf| gguf_outline(&gguf)),
        None => safetensors_outline(&NamedFiles::on_disk(&folder.path)).map(|outline| (outline.spec, outline.info)),
    };
    let (spec, info) = opened.map_err(|error| folder.strip_path(error))?;
    Ok(Cost::new(&spec, &info))
}

/// The beginning of a GGUF file that holds its whole header.
fn gguf_header(path: &str, size: u64, read: impl Fn(Range<u64>) -> Result<Vec<u8>>) -> Result<Vec<u8>> {
    let mut bytes = read(0..size.min(FIRST))?;
    loop {
        let have = bytes.len() as u64;
        if gguf_header_len(&bytes, path)?.is_some() || have >= size {
            return Ok(bytes);
        }
        if have >= LONGEST {
            return Err(Error::corrupt(path, format!("its header has more than {LONGEST} bytes")));
        }
        let more = read(have..size.min(have * 2))?;
        if more.is_empty() {
            return Err(Error::corrupt(path, format!("ends after {have} of {size} bytes")));
        }
        bytes.extend(more);
    }
}

/// The beginning of a safetensors file: the length of its header, and the header.
fn safetensors_header(path: &str, size: u64, read: impl Fn(Range<u64>) -> Result<Vec<u8>>) -> Result<Vec<u8>> {
    let mut bytes = read(0..size.min(8))?;
    if let Some(len) = bytes.first_chunk::<8>().map(|len| u64::from_le_bytes(*len)) {
        if len > LONGEST || len > size {
            return Err(Error::corrupt(path, format!("claims a header of {len} bytes; the file has {size}")));
        }
        bytes.extend(read(8..size.min(8 + len))?);
    }
    Ok(bytes)
}

/// A folder of headers with holes behind them, removed afterwards.
struct HeaderFiles {
    path: PathBuf,
}

impl HeaderFiles {
    fn new() -> Result<HeaderFiles> {
        // Nobody else may have made it: what lies in it is opened as ours. A name that was left behind, or put there on
        // purpose, is passed by.
        loop {
            let random = std::hash::RandomState::new().build_hasher().finish();
            let path = std::env::temp_dir().join(format!("tallow-outline-{random:016x}"));
            match std::fs::create_dir(&path) {
                Ok(()) => return Ok(HeaderFiles { path }),
                Err(e) if e.kind() == std::io::ErrorKind::AlreadyExists => {}
                Err(e) => return Err(Error::io(&path, e)),
            }
        }
    }

    /// Writes the beginning of a file and gives it its length.
    fn write(&self, path: &str, bytes: &[u8], size: u64) -> Result<PathBuf> {
        let plain = Path::new(path).components().all(|part| matches!(part, std::path::Component::Normal(_)));
        if !plain {
            return Err(Error::corrupt(path, "is no path inside a repository"));
        }
        let path = self.path.join(path);
        let written = || {
            std::fs::create_dir_all(path.parent().unwrap_or(&self.path))?;
            let mut file = File::create_new(&path)?;
            file.write_all(bytes)?;
            file.set_len(size)
        };
        written().map_err(|e| Error::io(&path, e))?;
        Ok(path)
    }

    /// The same error about the file in the repository.
    fn strip_path(&self, error: Error) -> Error {
        let prefix = format!("{}{}", self.path.display(), std::path::MAIN_SEPARATOR);
        let stripped = |text: String| text.replace(&prefix, "");
        match error {
            Error::Unsupported { what, supported } => Error::Unsupported { what: stripped(what), supported },
            Error::Corrupt { file, why } => Error::Corrupt { file: stripped(file), why: stripped(why) },
            Error::NotFound { what, hint } => Error::NotFound { what: stripped(what), hint: stripped(hint) },
            other => other,
        }
    }
}

impl Drop for HeaderFiles {
    fn drop(&mut self) {
        if let Err(error) = std::fs::remove_dir_all(&self.path) {
            log::debug!("{}: {error}", self.path.display());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Checkpoint;
    use std::cell::Cell;

    fn golden(case: &str) -> PathBuf {
        Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden").join(case)
    }

    fn planned(path: &str, size: u64) -> PlannedFile {
        PlannedFile { path: path.to_owned(), size, digest: String::new(), present: false, partial: 0 }
    }

    /// The cost told from ranges of the files in `folder`, and how many bytes were asked for.
    fn by_ranges(folder: &Path, names: &[&str]) -> (Result<Cost>, u64) {
        let size = |name: &str| std::fs::metadata(folder.join(name)).unwrap().len();
        let files: Vec<_> = names.iter().map(|name| planned(name, size(name))).collect();
        let asked = Cell::new(0);
        let cost = cost(&files, |file, range| {
            asked.set(asked.get() + range.end - range.start);
            Ok(std::fs::read(folder.join(&file.path)).unwrap()[range.start as usize..range.end as usize].to_vec())
        });
        (cost, asked.get())
    }

    #[track_caller]
    fn same(mut told: Cost, name: &Path) {
        let mut opened = Checkpoint::open(name).unwrap().cost();
        (told.available, opened.available) = (None, None);
        assert_eq!(told, opened);
    }

    #[test]
    fn headers_alone_tell_what_the_whole_files_tell() {
        let gguf = golden("gguf-f16-bpe");
        same(by_ranges(&gguf, &["model-f16.gguf"]).0.unwrap(), &gguf.join("model-f16.gguf"));
        let sharded = golden("llama-sharded-bf16");
        let shards = [1, 2, 3].map(|n| format!("model-0000{n}-of-00003.safetensors"));
        let names = ["config.json", "model.safetensors.index.json", &shards[0], &shards[1], &shards[2]];
        let (told, asked) = by_ranges(&sharded, &names);
        same(told.unwrap(), &sharded);
        assert!(asked < 20_000, "{asked} bytes were read of 356,000");
    }

    #[test]
    fn a_long_header_is_read_to_its_end_and_no_weight_is() {
        let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("models/SmolLM2-135M-Instruct.Q4_1.gguf");
        let (told, asked) = by_ranges(file.parent().unwrap(), &["SmolLM2-135M-Instruct.Q4_1.gguf"]);
        same(told.unwrap(), &file);
        assert!(asked > FIRST && asked < 8 * FIRST, "{asked}");
    }

    #[test]
    fn a_family_that_can_not_run_and_a_bad_header_are_told_by_the_file() {
        let config = br#"{"model_type":"whisper"}"#;
        let files = [planned("config.json", config.len() as u64)];
        let error = cost(&files, |_, _| Ok(config.to_vec())).unwrap_err().to_string();
        assert!(error.starts_with("config.json: key model_type: the family \"whisper\" is not supported"), "{error}");
        let error = cost(&[planned("a.gguf", 9)], |_, _| Ok(b"<!DOCTYPE".to_vec())).unwrap_err().to_string();
        assert!(error.starts_with("a.gguf: is not a GGUF file"), "{error}");
        let cut = |_: &PlannedFile, range: Range<u64>| {
            Ok(b"GGUF\x03\0\0\0"[range.start as usize..(range.end as usize).min(8)].to_vec())
        };
        let error = cost(&[planned("a.gguf", 8)], cut).unwrap_err().to_string();
        assert!(error.contains("a.gguf") && error.contains("cut short"), "{error}");
        // A header that does not end is not read to the end of the file.
        let (size, read) = (1 << 40, Cell::new(0));
        let endless = |_: &PlannedFile, range: Range<u64>| {
            read.set(range.end);
            let mut bytes =
                b"GGUF\x03\0\0\0\0\0\0\0\0\0\0\0\x01\0\0\0\0\0\0\0\x01\0\0\0\0\0\0\0a\x08\0\0\0\0\0\0\0\x80\0\0\0".to_vec();
            bytes.resize(range.end as usize, 0);
            Ok(bytes.split_off(range.start as usize))
        };
        let error = cost(&[planned("a.gguf", size)], endless).unwrap_err().to_string();
        assert!(error.contains("a.gguf") && error.contains("header") && read.get() < 4 * LONGEST, "{error}");
        let error = cost(&[planned("config.json", size)], |_, _| Ok(Vec::new())).unwrap_err().to_string();
        assert!(error.starts_with("config.json: has 1099511627776 bytes"), "{error}");
        let outside = [planned("../config.json", 2), planned("/x.index.json", 2)];
        for file in outside {
            assert!(cost(&[file], |_, _| Ok(b"{}".to_vec())).is_err());
        }
    }
}
