//! What it takes to run a model, told from the headers of its files: its weights, and the cache of each context.
//!
//! The headers of a model that is still on the Hub are read by ranges and laid into files of the full length, whose rest is a
//! hole: the readers that open a model on the disk then open this one, and no second reader has to agree with them. Nothing
//! touches the weights, so a hole is never read. (Where a file system has no holes, the disk must have room for them.)

use super::{ModelInfo, gguf_outline, info, safetensors_outline};
use crate::backend::CacheType;
use crate::device;
use crate::error::{Error, Result};
use crate::quant::Dtype;
use crate::spec::Spec;
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

/// What it takes to run a model.
#[derive(Debug, Clone, PartialEq)]
pub struct Cost {
    /// The family, as its files call it.
    pub family: &'static str,
    /// `gguf` or `safetensors`.
    pub format: &'static str,
    /// The element type that most weights have.
    pub quantisation: Dtype,
    /// Number of parameters.
    pub parameters: u64,
    /// Bytes of the weights.
    pub weights: u64,
    /// Of these, bytes that must be held in memory; the others may stay in the pages of the mapped file.
    pub held: u64,
    /// Bytes of key/value cache for one position that all layers hold; [`Cost::beyond_window`] is of the others.
    pub cache_per_token: u64,
    /// Positions the model was made for.
    pub context: usize,
    /// Bytes of memory there are here, where the system tells.
    pub available: Option<u64>,
    /// What the cache of a context is reckoned from: layers with a window stop growing.
    spec: Spec,
    cache_type: CacheType,
}

/// The growth of a cache whose layers with a window hold all that they ever will.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BeyondWindow {
    /// The length of a text from which it is so.
    pub tokens: usize,
    /// Bytes of cache for each further position.
    pub cache_per_token: u64,
}

impl Cost {
    pub(super) fn new(spec: &Spec, info: &ModelInfo) -> Cost {
        let held = info.tensors.iter().filter(|tensor| tensor.1.is_quantised());
        Cost {
            family: spec.family,
            format: info.format,
            quantisation: info.quantisation,
            parameters: info.parameters,
            weights: info.bytes,
            held: held.filter_map(|(_, dtype, shape)| dtype.bytes(shape.iter().product())).map(|bytes| bytes as u64).sum(),
            cache_per_token: info.cache_bytes_per_token,
            context: spec.context,
            available: device::available_memory(),
            spec: spec.clone(),
            cache_type: info.cache_type,
        }
    }

    /// Bytes of weights and cache with a context of so many positions.
    pub fn need(&self, context: usize) -> u64 {
        self.weights.saturating_add(self.cache(context))
    }

    /// What a long text's positions cost; `None` where no layer has a window, so that each costs the same.
    pub fn beyond_window(&self) -> Option<BeyondWindow> {
        let tokens = info::window_limit(&self.spec)?;
        let cache_per_token = self.cache(tokens.saturating_add(1)).saturating_sub(self.cache(tokens));
        Some(BeyondWindow { tokens, cache_per_token })
    }

    /// Whether [`Cost::need`] is available; `None` where the system does not tell.
    pub fn fits(&self, context: usize) -> Option<bool> {
        self.available.map(|have| self.need(context) <= have)
    }

    /// The contexts that are worth a row in a table: powers of two from 2048 on, and the model's own last.
    pub fn contexts(&self) -> Vec<usize> {
        let smaller = std::iter::successors(Some(2048usize), |context| context.checked_mul(2));
        smaller.take_while(|context| *context < self.context).chain([self.context]).collect()
    }

    /// Refuses what loading would refuse for want of memory: weights that are held, and the cache of a short context.
    ///
    /// # Errors
    /// [`Error::OutOfMemory`], naming `what`.
    pub fn check(&self, what: &str) -> Result<()> {
        let context = self.context.min(512);
        let need = self.held.saturating_add(self.cache(context));
        match self.available {
            Some(have) if need > have => {
                Err(Error::OutOfMemory { what: format!("{what} with a context of {context}"), need, have })
            }
            _ => Ok(()),
        }
    }

    /// The same with a cache of this type; [`CacheType::Auto`] leaves it as it is.
    pub fn with_cache(self, cache_type: CacheType) -> Cost {
        match cache_type {
            CacheType::Auto => self,
            chosen => Cost { cache_per_token: info::cache_bytes(&self.spec, chosen, 1), cache_type: chosen, ..self },
        }
    }

    fn cache(&self, context: usize) -> u64 {
        info::cache_bytes(&self.spec, self.cache_type, context)
    }
}

/// A file that is not here: its path in the repository, and its length.
#[derive(Debug, Clone, Copy)]
pub struct Remote<'a> {
    /// The path in the repository.
    pub path: &'a str,
    /// Its bytes.
    pub size: u64,
}

/// The cost of the model that consists of `files`, parts of which `read` gives.
///
/// # Errors
/// As for loading: [`Error::Unsupported`] for a family that can not run, [`Error::Corrupt`] for a header that is none.
pub fn cost(files: &[Remote<'_>], read: impl Fn(&str, Range<u64>) -> Result<Vec<u8>>) -> Result<Cost> {
    // All headers come first: the folder then lives for no longer than the disk takes, whatever interrupts the network.
    let mut headers = Vec::new();
    for Remote { path, size } in files.iter().copied() {
        let bytes = match path.rsplit('.').next().unwrap_or_default().to_ascii_lowercase().as_str() {
            "gguf" => gguf_header(path, size, |range| read(path, range))?,
            "safetensors" => safetensors_header(path, size, |range| read(path, range))?,
            "json" if path == "config.json" || path.ends_with(".index.json") => {
                if size > LONGEST {
                    return Err(Error::corrupt(path, format!("has {size} bytes, expected at most {LONGEST}")));
                }
                read(path, 0..size)?
            }
            _ => continue,
        };
        headers.push((path, bytes, size));
    }
    let folder = Outlines::new()?;
    let mut gguf = None;
    for (path, bytes, size) in headers {
        let laid = folder.lay(path, &bytes, size)?;
        if path.to_ascii_lowercase().ends_with(".gguf") && gguf.is_none() {
            gguf = Some(laid);
        }
    }
    let opened = match gguf {
        Some(path) => Gguf::open(path).and_then(|gguf| gguf_outline(&gguf)),
        None => safetensors_outline(&folder.path).map(|outline| (outline.spec, outline.info)),
    };
    let (spec, info) = opened.map_err(|error| folder.told_without(error))?;
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
struct Outlines {
    path: PathBuf,
}

impl Outlines {
    fn new() -> Result<Outlines> {
        // Nobody else may have made it: what lies in it is opened as ours. A name that was left behind, or put there on
        // purpose, is passed by.
        loop {
            let random = std::hash::RandomState::new().build_hasher().finish();
            let path = std::env::temp_dir().join(format!("tallow-outline-{random:016x}"));
            match std::fs::create_dir(&path) {
                Ok(()) => return Ok(Outlines { path }),
                Err(e) if e.kind() == std::io::ErrorKind::AlreadyExists => {}
                Err(e) => return Err(Error::io(&path, e)),
            }
        }
    }

    /// Writes the beginning of a file and gives it its length.
    fn lay(&self, path: &str, bytes: &[u8], size: u64) -> Result<PathBuf> {
        let plain = Path::new(path).components().all(|part| matches!(part, std::path::Component::Normal(_)));
        if !plain {
            return Err(Error::corrupt(path, "is no path inside a repository"));
        }
        let path = self.path.join(path);
        let write = || {
            std::fs::create_dir_all(path.parent().unwrap_or(&self.path))?;
            let mut file = File::create_new(&path)?;
            file.write_all(bytes)?;
            file.set_len(size)
        };
        write().map_err(|e| Error::io(&path, e))?;
        Ok(path)
    }

    /// The same error about the file in the repository.
    fn told_without(&self, error: Error) -> Error {
        let prefix = format!("{}{}", self.path.display(), std::path::MAIN_SEPARATOR);
        let told = |text: String| text.replace(&prefix, "");
        match error {
            Error::Unsupported { what, supported } => Error::Unsupported { what: told(what), supported },
            Error::Corrupt { file, why } => Error::Corrupt { file: told(file), why: told(why) },
            Error::NotFound { what, hint } => Error::NotFound { what: told(what), hint: told(hint) },
            other => other,
        }
    }
}

impl Drop for Outlines {
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

    /// The cost told from ranges of the files in `folder`, and how many bytes were asked for.
    fn by_ranges(folder: &Path, names: &[&str]) -> (Result<Cost>, u64) {
        let size = |name: &str| std::fs::metadata(folder.join(name)).unwrap().len();
        let files: Vec<_> = names.iter().map(|name| Remote { path: name, size: size(name) }).collect();
        let asked = Cell::new(0);
        let cost = cost(&files, |name, range| {
            asked.set(asked.get() + range.end - range.start);
            Ok(std::fs::read(folder.join(name)).unwrap()[range.start as usize..range.end as usize].to_vec())
        });
        (cost, asked.get())
    }

    #[track_caller]
    fn same(told: Cost, name: &Path) {
        let opened = Checkpoint::open(name.to_str().unwrap()).unwrap().cost();
        assert_eq!(Cost { available: None, ..told }, Cost { available: None, ..opened });
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
        let files = [Remote { path: "config.json", size: config.len() as u64 }];
        let error = cost(&files, |_, _| Ok(config.to_vec())).unwrap_err().to_string();
        assert!(error.starts_with("config.json: key model_type: the family \"whisper\" is not supported"), "{error}");
        let error = cost(&[Remote { path: "a.gguf", size: 9 }], |_, _| Ok(b"<!DOCTYPE".to_vec())).unwrap_err().to_string();
        assert!(error.starts_with("a.gguf: is not a GGUF file"), "{error}");
        let cut =
            |_: &str, range: Range<u64>| Ok(b"GGUF\x03\0\0\0"[range.start as usize..(range.end as usize).min(8)].to_vec());
        let error = cost(&[Remote { path: "a.gguf", size: 8 }], cut).unwrap_err().to_string();
        assert!(error.contains("a.gguf") && error.contains("cut short"), "{error}");
        // A header that does not end is not read to the end of the file.
        let (size, read) = (1 << 40, Cell::new(0));
        let endless = |_: &str, range: Range<u64>| {
            read.set(range.end);
            let mut bytes =
                b"GGUF\x03\0\0\0\0\0\0\0\0\0\0\0\x01\0\0\0\0\0\0\0\x01\0\0\0\0\0\0\0a\x08\0\0\0\0\0\0\0\x80\0\0\0".to_vec();
            bytes.resize(range.end as usize, 0);
            Ok(bytes.split_off(range.start as usize))
        };
        let error = cost(&[Remote { path: "a.gguf", size }], endless).unwrap_err().to_string();
        assert!(error.contains("a.gguf") && error.contains("header") && read.get() < 4 * LONGEST, "{error}");
        let error = cost(&[Remote { path: "config.json", size }], |_, _| Ok(Vec::new())).unwrap_err().to_string();
        assert!(error.starts_with("config.json: has 1099511627776 bytes"), "{error}");
        let outside = [Remote { path: "../config.json", size: 2 }, Remote { path: "/x.index.json", size: 2 }];
        for file in outside {
            assert!(cost(&[file], |_, _| Ok(b"{}".to_vec())).is_err());
        }
    }

    #[test]
    fn need_grows_with_the_context_and_the_tables_rows_end_with_the_models_own() {
        let cost = by_ranges(&golden("gguf-f16-bpe"), &["model-f16.gguf"]).0.unwrap();
        let per_token = cost.cache_per_token;
        let have = 1000 + 4096 * per_token;
        let cost = Cost { weights: 1000, held: 900, context: 5000, available: Some(have), ..cost };
        assert_eq!(cost.contexts(), [2048, 4096, 5000]);
        assert_eq!([cost.need(4096), cost.need(5000)], [have, 1000 + 5000 * per_token]);
        assert_eq!([cost.fits(4096), cost.fits(5000)], [Some(true), Some(false)]);
        assert!(cost.check("m").is_ok());
        let (short, have) = (900 + 512 * per_token, 900 + 511 * per_token);
        let error = Cost { available: Some(have), ..cost.clone() }.check("m").unwrap_err();
        assert!(matches!(error, Error::OutOfMemory { need, have: told, .. } if (need, told) == (short, have)), "{error}");
        assert_eq!(Cost { context: 512, ..cost.clone() }.contexts(), [512]);
        assert_eq!(Cost { available: None, ..cost }.fits(1), None);
    }

    #[test]
    fn layers_with_a_window_stop_growing() {
        let cost = Checkpoint::open(golden("mistral-window8").to_str().unwrap()).unwrap().cost();
        assert!(cost.need(1_000_000) == cost.need(500_000) && cost.need(8) > cost.need(4));
    }

    #[test]
    fn what_is_beyond_the_windows_costs_the_share_of_the_layers_without_one() {
        let cost = |case: &str| Checkpoint::open(golden(case).to_str().unwrap()).unwrap().cost();
        // Three of four layers have a window of 8 in Gemma 3, two in Gemma 2; in Mistral's all have one.
        for (case, whole, share) in [("gemma3-text", 1, 4), ("gemma2", 2, 4), ("mistral-window8", 0, 2)] {
            let cost = cost(case);
            let beyond = cost.beyond_window().unwrap();
            assert_eq!(beyond.cache_per_token * share, cost.cache_per_token * whole, "{case}");
            let at = beyond.tokens;
            assert_eq!(cost.need(at) - cost.need(at - 7), 7 * cost.cache_per_token, "{case}");
            assert_eq!(cost.need(at + 1000) - cost.need(at), 1000 * beyond.cache_per_token, "{case}");
        }
        assert_eq!(cost("mistral-no-window").beyond_window(), None);
    }
}
