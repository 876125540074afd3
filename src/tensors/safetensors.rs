//! safetensors: one file, or a folder with `model.safetensors` or an index and its shards.
//!
//! Layout: the header's length (u64), a JSON header with type, shape and byte range of each tensor, the tensors' bytes. The
//! `safetensors` crate defines the header's types and checks that the ranges fit together without gaps; what it lets pass
//! is checked here (names that occur twice) or reported with the tensor's name (sizes, ranges beyond the file).
//! Source: <https://huggingface.co/docs/safetensors>. Hub snapshots consist of symbolic links out of the folder, so a shard
//! is kept inside by its name in the index, and not by where it leads.

#[cfg(test)]
mod tests;

use super::weights::Content;
use super::{Stored, Weights, by, other_kind};
use crate::files::NamedFiles;
use crate::quant::Dtype;
use crate::{Bytes, Error, Result};
use ::safetensors::tensor::{Metadata, SafeTensorError, TensorInfo};
use serde::de::{self, Deserialize, Deserializer, IgnoredAny, MapAccess};
use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::marker::PhantomData;
use std::path::{Component, Path};
use std::sync::Arc;

const SINGLE: &str = "model.safetensors";
const INDEX: &str = "model.safetensors.index.json";

/// The format's own limit for headers, and ours for indexes.
const LONGEST_JSON: usize = 100_000_000;

/// Maps and reads a `.safetensors` file, an index (`.json`) with its shards, or a folder that holds either.
pub fn open(path: impl AsRef<Path>) -> Result<Weights> {
    let path = path.as_ref();
    if path.is_dir() {
        open_in(&NamedFiles::on_disk(path))
    } else if path.extension().is_some_and(|extension| extension == "json") {
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        sharded(&NamedFiles::on_disk(path.parent().unwrap_or(Path::new(""))), &name)
    } else {
        from_bytes(Bytes::map(path)?, &path.display().to_string())
    }
}

/// Reads a file's contents; `name` stands for the file in messages.
pub fn from_bytes(bytes: Bytes, name: &str) -> Result<Weights> {
    let (metadata, start) = header(&bytes, name)?;
    let file: Arc<str> = name.into();
    let mut weights = Weights::new(name);
    for tensor in metadata.offset_keys() {
        let info = metadata.info(&tensor).expect("the name comes from this header");
        let data = bytes
            .slice(start + info.data_offsets.0..start + info.data_offsets.1)
            .expect("`header` checked that the ranges lie within the file");
        let shape = info.shape.clone();
        let stored = match info.dtype {
            ::safetensors::Dtype::F32 => Ok(Dtype::F32),
            ::safetensors::Dtype::F16 => Ok(Dtype::F16),
            ::safetensors::Dtype::BF16 => Ok(Dtype::BF16),
            other => Err(other.to_string()),
        };
        let entry = match stored {
            Ok(dtype) => Content::Readable(Stored { name: tensor.clone(), dtype, shape, data }),
            Err(dtype) => Content::Foreign { dtype, shape },
        };
        weights.add(file.clone(), tensor, entry)?;
    }
    Ok(weights)
}

/// Reads the weights of a folder: `model.safetensors`, or an index with its shards.
///
/// # Errors
/// [`Error::NotFound`] where there are none, [`Error::Corrupt`] for files that are damaged, [`Error::Unsupported`] for pickles.
pub fn open_in(files: &NamedFiles) -> Result<Weights> {
    for (name, read) in [(SINGLE, single as fn(&NamedFiles, &str) -> Result<Weights>), (INDEX, sharded)] {
        if files.has(name) {
            return read(files, name);
        }
    }
    for pickle in ["pytorch_model.bin", "pytorch_model.bin.index.json", "consolidated.00.pth"] {
        if files.has(pickle) {
            return Err(Error::unsupported(
                format!("{}: a Python pickle, which can run any code when it is read,", files.label(pickle)),
                "safetensors and GGUF; look for a safetensors revision of the repository, or convert it with \
                 transformers' save_pretrained where you trust it",
            ));
        }
    }
    Err(Error::NotFound { what: files.root(), hint: format!("expected {SINGLE} or {INDEX} in this folder") })
}

fn single(files: &NamedFiles, name: &str) -> Result<Weights> {
    from_bytes(files.bytes(name)?, &files.label(name))
}

/// Reads the shards that an index names, and from each the tensors that the index promises.
fn sharded(files: &NamedFiles, index: &str) -> Result<Weights> {
    let file = files.label(index);
    let json = files.bytes(index)?;
    if json.len() > LONGEST_JSON {
        return Err(Error::corrupt(file, format!("is {} bytes long; the limit is {LONGEST_JSON}", json.len())));
    }
    let Index { weight_map: UniqueKeys(entries) } =
        serde_json::from_slice(&json).map_err(|e| Error::corrupt(&file, format!("is not a valid index: {e}")))?;
    let mut shards = BTreeMap::<&str, Vec<&str>>::new();
    for (tensor, shard) in &entries {
        shards.entry(shard).or_default().push(tensor);
    }

    let mut weights = Weights::new(&file);
    for (shard, tensors) in shards {
        check_shard(files, &file, shard)?;
        let mut part = single(files, shard)?;
        for tensor in tensors {
            let Some((file, entry)) = part.remove(tensor) else {
                let why = format!("tensor {tensor} is missing, which {INDEX} says is here");
                return Err(Error::corrupt(files.label(shard), why));
            };
            weights.add(file, tensor.to_owned(), entry)?;
        }
    }
    Ok(weights)
}

/// Checks that a shard is there: beside the index, or in a folder there.
fn check_shard(files: &NamedFiles, index: &str, shard: &str) -> Result<()> {
    let inside = Path::new(shard).components().all(|part| matches!(part, Component::Normal(_)));
    if shard.is_empty() || !inside {
        return Err(Error::corrupt(index, format!("names the shard {shard:?}, which is outside of the folder")));
    }
    if !files.has(shard) {
        let hint = format!("{index} names this shard; the download may be incomplete");
        return Err(Error::NotFound { what: files.label(shard), hint });
    }
    Ok(())
}

/// The checked header, and where the data begins.
fn header(bytes: &[u8], file: &str) -> Result<(Metadata, usize)> {
    let corrupt = |why: String| Error::corrupt(file, why);
    let Some((len, rest)) = bytes.split_first_chunk::<8>() else {
        return Err(corrupt(format!("is {} bytes long, too short for a safetensors file", bytes.len())));
    };
    let claimed = u64::from_le_bytes(*len);
    let len = match usize::try_from(claimed) {
        Ok(len) if len <= LONGEST_JSON && len <= rest.len() => len,
        _ => {
            return Err(corrupt(match other_kind(bytes) {
                Some(kind) if kind != "a safetensors file" => format!("is not a safetensors file; it looks like {kind}"),
                _ if claimed > LONGEST_JSON as u64 => {
                    format!("claims a header of {claimed} bytes; the limit is {LONGEST_JSON}")
                }
                _ => format!("claims a header of {claimed} bytes, but only {} follow", rest.len()),
            }));
        }
    };
    let (json, data) = rest.split_at(len);
    let UniqueKeys(mut tensors) =
        serde_json::from_slice::<UniqueKeys<TensorInfo>>(json).map_err(|e| corrupt(format!("its header is not valid: {e}")))?;
    for (name, info) in &tensors {
        check_tensor(info, data.len()).map_err(|why| corrupt(format!("tensor {name}: {why}")))?;
    }
    tensors.sort_by_key(|(_, info)| info.data_offsets);
    let metadata = Metadata::new(None, tensors).map_err(|e| {
        corrupt(match e {
            SafeTensorError::InvalidOffset(name) => {
                format!("tensor {name} overlaps the one before it, or leaves a gap")
            }
            other => format!("its header is not valid: {other}"),
        })
    })?;
    if metadata.data_len() != data.len() {
        let why = format!("its tensors take {} bytes, but {} follow the header", metadata.data_len(), data.len());
        return Err(corrupt(why));
    }
    Ok((metadata, 8 + len))
}

/// Whether a tensor's range lies within the data, and is as long as its shape and type need.
fn check_tensor(info: &TensorInfo, available: usize) -> Result<(), String> {
    let (begin, end) = info.data_offsets;
    if begin > end || end > available {
        return Err(format!(
            "its bytes {begin} to {end} are not within the {available} bytes of data; the file is cut short or damaged"
        ));
    }
    let elements = info.shape.iter().try_fold(1usize, |product, &dim| product.checked_mul(dim));
    let bits = elements.and_then(|elements| elements.checked_mul(info.dtype.bitsize()));
    let bits = bits.ok_or_else(|| format!("is {}, too large to be true", by(&info.shape)))?;
    if bits % 8 != 0 || bits / 8 != end - begin {
        return Err(format!("has {} bytes, {} of {} need {}", end - begin, by(&info.shape), info.dtype, bits.div_ceil(8)));
    }
    Ok(())
}

#[derive(serde::Deserialize)]
struct Index {
    weight_map: UniqueKeys<String>,
}

/// A JSON object from names to values. A name that occurs twice is an error; `__metadata__` is passed over.
struct UniqueKeys<V>(Vec<(String, V)>);

impl<'de, V: Deserialize<'de>> Deserialize<'de> for UniqueKeys<V> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Visitor<V>(PhantomData<V>);
        impl<'de, V: Deserialize<'de>> de::Visitor<'de> for Visitor<V> {
            type Value = UniqueKeys<V>;

            fn expecting(&self, f: &mut std::fmt::Formatter) -> std::fmt::Result {
                f.write_str("an object whose keys are tensor names")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<UniqueKeys<V>, A::Error> {
                let mut entries = BTreeMap::new();
                while let Some(name) = map.next_key::<String>()? {
                    if name == "__metadata__" {
                        map.next_value::<IgnoredAny>()?;
                        continue;
                    }
                    match entries.entry(name) {
                        Entry::Vacant(vacant) => vacant.insert(map.next_value()?),
                        Entry::Occupied(entry) => {
                            return Err(de::Error::custom(format_args!("tensor {} occurs twice", entry.key())));
                        }
                    };
                }
                Ok(UniqueKeys(entries.into_iter().collect()))
            }
        }
        deserializer.deserialize_map(Visitor(PhantomData))
    }
}
