//! Where models lie on this machine: model folders, the Hub's cache, Ollama's store, LM Studio's folders, the executable.
//!
//! All of them are read in place. Each source finds a model by the name its own program gives it, and lists what it has under
//! names that are found again. Which source comes first is decided where names are resolved, in `store::find`.

mod cached;
mod folders;
mod lm_studio;
mod modelfile;
mod ollama;

pub use cached::list as cached;
pub use folders::{DEFAULT_FILE, DEFAULT_NAMES, find as in_model_folders, model_folders};
pub use lm_studio::{find as in_lm_studio, folders as lm_studio_folders};
pub(crate) use modelfile::Modelfile;
pub use ollama::{find as in_ollama, stores as ollama_stores};

#[cfg(feature = "bundled")]
use crate::bytes::Bytes;
use crate::error::Result;
use crate::store::disk;
#[cfg(feature = "bundled")]
use crate::store::files::FilesKind;
use crate::store::files::ModelFiles;
use crate::store::hub::{self, HubOptions};
use std::path::PathBuf;
use std::time::SystemTime;

/// The default model inside the executable.
#[cfg(feature = "bundled")]
static BUNDLED: &[u8] = include_bytes!("../../../models/SmolLM2-135M-Instruct.Q4_1.gguf");

/// The default model inside the executable, if this build has it.
pub fn bundled() -> Option<ModelFiles> {
    #[cfg(feature = "bundled")]
    return Some(FilesKind::GgufBytes(Bytes::from(BUNDLED), DEFAULT_FILE.to_owned()).into());
    #[cfg(not(feature = "bundled"))]
    None
}

/// Whose a model is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
#[non_exhaustive]
pub enum Source {
    /// A model folder: `TALLOW_MODELS`, or `models` beside or above the executable or in the package that Cargo runs.
    Folder,
    /// The executable.
    Bundled,
    /// The Hub's cache.
    Hub,
    /// Ollama's store.
    Ollama,
    /// LM Studio's folders.
    LmStudio,
}

impl std::fmt::Display for Source {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.pad(match self {
            Source::Folder => "folder",
            Source::Bundled => "bundled",
            Source::Hub => "hub",
            Source::Ollama => "ollama",
            Source::LmStudio => "lm-studio",
        })
    }
}

/// A model that is on this machine.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct LocalModel {
    /// A name it is found by.
    pub name: String,
    /// What tells its contents from others', in hexadecimal; empty where nobody computed one.
    pub id: String,
    /// Bytes of its files.
    pub bytes: u64,
    /// When it came here.
    pub modified: Option<SystemTime>,
    /// Whose it is.
    pub source: Source,
    /// The GGUF file or the folder; the executable for [`Source::Bundled`].
    pub path: PathBuf,
}

/// Every model on this machine, in the order in which names are resolved. A name that an earlier source has already taken is
/// replaced by the path.
///
/// # Errors
/// Where the Hub's cache can not be read; the others are passed over.
pub fn list(hub: &HubOptions) -> Result<Vec<LocalModel>> {
    let mut all = folders::list();
    if cfg!(feature = "bundled") && !all.iter().any(|model| model.name == DEFAULT_NAMES[0]) {
        let path = std::env::current_exe().unwrap_or_default();
        let modified = std::fs::metadata(&path).and_then(|meta| meta.modified()).ok();
        #[cfg(feature = "bundled")]
        let bytes = BUNDLED.len() as u64;
        #[cfg(not(feature = "bundled"))]
        let bytes = 0;
        let name = DEFAULT_NAMES[0].to_owned();
        all.push(LocalModel { name, id: String::new(), bytes, modified, source: Source::Bundled, path });
    }
    // The default model answers to all of its names.
    let taken: &[&str] = if all.iter().any(|model| model.name == DEFAULT_NAMES[0]) { &DEFAULT_NAMES } else { &[] };
    all.extend(cached::list(hub, taken)?);
    all.extend(ollama::list());
    all.extend(lm_studio::list());
    let mut names = std::collections::BTreeSet::new();
    for model in &mut all {
        if !names.insert(model.name.to_lowercase()) {
            model.name = model.path.display().to_string();
        }
    }
    Ok(all)
}

/// Bytes that the files of these models take on the disk. What several of them share counts once, so that this may be less
/// than the sum of their sizes.
pub fn size_on_disk(models: &[LocalModel]) -> u64 {
    let files: Vec<PathBuf> = models.iter().flat_map(|model| folders::files_of(&model.path)).collect();
    disk::size(files.iter().map(PathBuf::as_path))
}

/// The quantisation that the name of a GGUF file, or of its folder, states: `Q4_K_M` of `Llama-3.2-1B-Instruct-Q4_K_M.gguf`.
pub fn quantisation_of(file: &str) -> Option<&str> {
    file.to_ascii_lowercase().ends_with(".gguf").then(|| hub::quant_of(file)).flatten()
}

/// Whether `other` is `first` or another part of the same split model.
fn are_parts(first: &str, other: &str) -> bool {
    first == other || hub::split(first).is_some_and(|split| hub::split(other) == Some(split))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::files::is_model;

    #[test]
    fn the_quantisation_is_read_from_a_files_name() {
        for (file, expected) in [
            ("Llama-3.2-1B-Instruct-Q4_K_M.gguf", Some("Q4_K_M")),
            ("llama-2-7b-chat.Q4_0.gguf", Some("Q4_0")),
            ("sub/qwen2.5-7b-instruct-q4_k_m-00001-of-00002.gguf", Some("q4_k_m")),
            ("model-f16.gguf", Some("f16")),
            ("m-IQ4_XS.gguf", Some("IQ4_XS")),
            ("Q8_0/model.gguf", Some("Q8_0")),
            ("gemma-3-1b-it.gguf", None),
            ("Qwen.gguf", None),
            ("Q8_0/model.safetensors", None),
        ] {
            assert_eq!(quantisation_of(file), expected, "{file}");
        }
    }

    #[test]
    fn parts_and_projectors_are_no_models() {
        assert!(are_parts("s/a-00001-of-00002.gguf", "s/a-00002-of-00002.gguf") && are_parts("a.gguf", "a.gguf"));
        assert!(!are_parts("s/a-00001-of-00002.gguf", "s/b-00002-of-00002.gguf") && !are_parts("a.gguf", "b.gguf"));
        for file in ["a-Q4_0.gguf", "sub/a-00001-of-00003.gguf", "a-1-of-2.gguf"] {
            assert!(is_model(file), "{file}");
        }
        for file in ["a-00002-of-00003.gguf", "mmproj-model-f16.gguf", "a.bin", "sub/mmproj-x.gguf"] {
            assert!(!is_model(file), "{file}");
        }
    }
}
