//! Files by their names: those of a folder on the disk, or contents in memory. What reads a model's folder reads through this,
//! so that it does not know the difference.

use crate::bytes::Bytes;
use crate::error::{Error, Result};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// The files of a folder. Names are relative to it, with `/` between their parts.
#[derive(Debug, Clone)]
pub struct NamedFiles(Place);

#[derive(Debug, Clone)]
enum Place {
    Disk(PathBuf),
    Memory {
        /// What messages call the folder.
        root: String,
        /// What stands before each name: the path of a folder within, with `/` at its end, or nothing.
        below: String,
        files: Arc<BTreeMap<String, Bytes>>,
    },
}

impl NamedFiles {
    /// Those of a folder on the disk.
    pub fn on_disk(folder: impl Into<PathBuf>) -> NamedFiles {
        NamedFiles(Place::Disk(folder.into()))
    }

    /// Contents in memory; `root` is what messages call their folder.
    pub fn in_memory(root: &str, files: impl IntoIterator<Item = (String, Bytes)>) -> NamedFiles {
        let files = Arc::new(files.into_iter().collect());
        NamedFiles(Place::Memory { root: root.to_owned(), below: String::new(), files })
    }

    /// The folder `name` within this one.
    pub fn within(&self, name: &str) -> NamedFiles {
        NamedFiles(match &self.0 {
            Place::Disk(folder) => Place::Disk(folder.join(name)),
            Place::Memory { root, below, files } => {
                let below = if name.is_empty() { below.clone() } else { format!("{below}{name}/") };
                Place::Memory { root: root.clone(), below, files: files.clone() }
            }
        })
    }

    /// Where a model's `config.json`, weights and tokenizer are: here, or in the folder that `modules.json` of
    /// sentence-transformers names for the transformer, as its versions 1 and 2 saved it (`0_Transformer`).
    pub fn transformer(&self) -> NamedFiles {
        let inner = || {
            let modules = crate::json::parse(&self.read("modules.json").ok()??).ok()?;
            let first = modules.as_array()?.first()?;
            let inner = first["path"].as_str()?;
            let is_below = Path::new(inner).components().all(|part| matches!(part, std::path::Component::Normal(_)));
            (is_below && first["type"].as_str()?.ends_with("Transformer")).then(|| self.within(inner))
        };
        inner().unwrap_or_else(|| self.clone())
    }

    /// The folder on the disk; `None` in memory.
    pub fn path(&self) -> Option<&Path> {
        match &self.0 {
            Place::Disk(folder) => Some(folder),
            Place::Memory { .. } => None,
        }
    }

    /// What messages call the folder.
    pub fn root(&self) -> String {
        match &self.0 {
            Place::Disk(folder) => folder.display().to_string(),
            Place::Memory { root, below, .. } => format!("{root}/{below}").trim_end_matches('/').to_owned(),
        }
    }

    /// What messages call a file.
    pub fn label(&self, name: &str) -> String {
        match &self.0 {
            Place::Disk(folder) => folder.join(name).display().to_string(),
            Place::Memory { root, below, .. } => format!("{root}/{below}{name}"),
        }
    }

    /// The names of the files right here, in order; none where they can not be listed.
    pub fn names(&self) -> Vec<String> {
        let mut names: Vec<String> = match &self.0 {
            Place::Disk(folder) => {
                let entries = std::fs::read_dir(folder).into_iter().flatten();
                entries.filter_map(|entry| entry.ok()?.file_name().into_string().ok()).collect()
            }
            Place::Memory { below, files, .. } => {
                files.keys().filter_map(|name| name.strip_prefix(below.as_str())).map(str::to_owned).collect()
            }
        };
        names.retain(|name| !name.contains('/'));
        names.sort();
        names
    }

    /// Whether there is such a file.
    pub fn has(&self, name: &str) -> bool {
        match &self.0 {
            Place::Disk(folder) => folder.join(name).exists(),
            Place::Memory { below, files, .. } => files.contains_key(&format!("{below}{name}")),
        }
    }

    /// A file for good: mapped where it is on the disk.
    ///
    /// # Errors
    /// [`Error::NotFound`] in memory and [`Error::Io`] on the disk for a file that is missing; [`Error::Corrupt`] for what is
    /// no file.
    pub fn bytes(&self, name: &str) -> Result<Bytes> {
        match &self.0 {
            Place::Disk(folder) => Bytes::map(&folder.join(name)),
            Place::Memory { below, files, .. } => files.get(&format!("{below}{name}")).cloned().ok_or_else(|| {
                Error::NotFound { what: self.label(name), hint: "it is not among the files in memory".to_owned() }
            }),
        }
    }

    /// The contents of a small file, copied from the disk; `None` if there is none.
    ///
    /// # Errors
    /// [`Error::Io`] for a file that can not be read.
    pub fn read(&self, name: &str) -> Result<Option<Bytes>> {
        match &self.0 {
            Place::Disk(folder) => {
                let path = folder.join(name);
                match std::fs::read(&path) {
                    Ok(bytes) => Ok(Some(bytes.into())),
                    Err(e) if e.kind() == std::io::ErrorKind::NotFound => Ok(None),
                    Err(e) => Err(Error::io(path, e)),
                }
            }
            Place::Memory { below, files, .. } => Ok(files.get(&format!("{below}{name}")).cloned()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_in_memory_are_read_as_those_on_the_disk_are() {
        let folder = std::env::temp_dir().join(format!("tallow-files-{}", std::process::id()));
        std::fs::create_dir_all(folder.join("sub")).unwrap();
        std::fs::write(folder.join("a"), "1").unwrap();
        std::fs::write(folder.join("sub/b"), "2").unwrap();
        let memory = [("a", "1"), ("sub/b", "2")].map(|(name, text)| (name.to_owned(), text.as_bytes().to_vec().into()));
        for files in [NamedFiles::on_disk(&folder), NamedFiles::in_memory("memory", memory)] {
            let text = |files: &NamedFiles, name: &str| files.read(name).unwrap().map(|bytes| bytes.to_vec());
            assert_eq!(text(&files, "a"), Some(b"1".to_vec()));
            assert_eq!(text(&files, "sub/b"), Some(b"2".to_vec()));
            assert_eq!(text(&files, "b"), None);
            let within = files.within("sub");
            assert_eq!(within.bytes("b").unwrap().to_vec(), b"2");
            assert!(within.has("b") && !within.has("a") && within.bytes("a").is_err());
            assert!(within.label("b").ends_with("sub/b") && within.within("").has("b"));
        }
        std::fs::remove_dir_all(folder).unwrap();
    }
}
