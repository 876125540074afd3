//! The files of a model: what opening and loading take in place of a name.

use crate::bytes::Bytes;
use crate::error::{Error, Result};
use crate::files::NamedFiles;
use crate::store::hub;
use crate::store::local::Modelfile;
use std::path::{Path, PathBuf};

/// The files of a model, on the disk or in memory, and what messages call it.
#[derive(Debug, Clone)]
pub struct ModelFiles {
    pub(crate) kind: FilesKind,
    pub(crate) name: Option<String>,
    /// What Ollama keeps beside the weights.
    pub(crate) modelfile: Option<Box<Modelfile>>,
}

/// How the files are laid out.
#[derive(Debug, Clone)]
pub(crate) enum FilesKind {
    /// A GGUF file; of a split model the first.
    Gguf(PathBuf),
    /// The contents of a GGUF file, and what messages call it.
    GgufBytes(Bytes, String),
    /// config.json and what belongs to it.
    Folder(NamedFiles),
}

impl ModelFiles {
    /// The model at `path`: a GGUF file, a folder in Hugging Face layout, or a folder that holds GGUF files, of which `Q4_K_M`
    /// is taken, else the first by name.
    ///
    /// # Errors
    /// [`Error::NotFound`] where there is nothing, or a folder holds no model; [`Error::Io`] for a folder that can not be read.
    pub fn at(path: impl AsRef<Path>) -> Result<ModelFiles> {
        let path = path.as_ref();
        if path.is_dir() {
            return in_folder(path);
        }
        if !path.is_file() {
            let hint = "expected a .gguf file, or a folder with config.json or a .gguf file".to_owned();
            return Err(Error::NotFound { what: path.display().to_string(), hint });
        }
        Ok(ModelFiles::gguf(path))
    }

    /// A model in the contents of a GGUF file.
    pub fn from_gguf_bytes(bytes: impl Into<Bytes>) -> ModelFiles {
        FilesKind::GgufBytes(bytes.into(), "GGUF bytes".to_owned()).into()
    }

    /// A model in the contents of the files of a folder in Hugging Face layout, by their names there: `config.json`,
    /// `tokenizer.json`, `model.safetensors`, and whatever else the model has (`tokenizer_config.json`,
    /// `generation_config.json`, `chat_template.jinja`, `modules.json`, `1_Pooling/config.json`, ...).
    ///
    /// ```no_run
    /// # let (config, tokenizer, weights): (Vec<u8>, Vec<u8>, Vec<u8>) = Default::default();
    /// use tallow::{LoadOptions, Model, ModelFiles};
    /// let files = [("config.json", config), ("tokenizer.json", tokenizer), ("model.safetensors", weights)];
    /// let model = Model::at(ModelFiles::from_memory(files), &LoadOptions::default())?;
    /// # Ok::<(), tallow::Error>(())
    /// ```
    pub fn from_memory<N: Into<String>, B: Into<Bytes>>(files: impl IntoIterator<Item = (N, B)>) -> ModelFiles {
        let files = files.into_iter().map(|(name, bytes)| (name.into(), bytes.into()));
        FilesKind::Folder(NamedFiles::in_memory("memory", files)).into()
    }

    /// The same files under another name for messages and [`ModelInfo::name`](crate::ModelInfo).
    pub fn named(self, name: impl Into<String>) -> ModelFiles {
        let name = name.into();
        let kind = match self.kind {
            FilesKind::GgufBytes(bytes, _) => FilesKind::GgufBytes(bytes, name.clone()),
            kind => kind,
        };
        ModelFiles { kind, name: Some(name), modelfile: self.modelfile }
    }

    /// The same files with what a Modelfile says beside them.
    pub(crate) fn with_modelfile(self, modelfile: Modelfile) -> ModelFiles {
        ModelFiles { modelfile: Some(Box::new(modelfile)), ..self }
    }

    /// The GGUF file or the folder; `None` for a model in memory.
    pub fn path(&self) -> Option<&Path> {
        match &self.kind {
            FilesKind::Gguf(path) => Some(path),
            FilesKind::GgufBytes(..) => None,
            FilesKind::Folder(files) => files.path(),
        }
    }

    pub(crate) fn gguf(path: impl Into<PathBuf>) -> ModelFiles {
        FilesKind::Gguf(path.into()).into()
    }

    pub(crate) fn folder(path: impl Into<PathBuf>) -> ModelFiles {
        FilesKind::Folder(NamedFiles::on_disk(path)).into()
    }
}

impl From<FilesKind> for ModelFiles {
    fn from(kind: FilesKind) -> Self {
        ModelFiles { kind, name: None, modelfile: None }
    }
}

/// What of a folder is the model.
fn in_folder(path: &Path) -> Result<ModelFiles> {
    let entries = std::fs::read_dir(path).map_err(|e| Error::io(path, e))?;
    let mut files: Vec<PathBuf> = entries.filter_map(|entry| Some(entry.ok()?.path())).collect();
    let transformer = path.to_owned();
    let transformer = NamedFiles::on_disk(path).transformer().path().map_or(transformer, Path::to_owned);
    let has_weights = std::fs::read_dir(&transformer).is_ok_and(|entries| {
        entries.flatten().any(|entry| entry.path().extension().is_some_and(|extension| extension == "safetensors"))
    });
    // GGUF repositories have a config.json for the Hub's own counting, too.
    let has_config = transformer.join("config.json").is_file();
    files.retain(|file| file.file_name().and_then(|name| name.to_str()).is_some_and(is_model));
    if has_config && (has_weights || files.is_empty()) {
        return Ok(ModelFiles::folder(path));
    }
    // An adapter is no model; opening it says so.
    if files.is_empty() && path.join("adapter_config.json").is_file() {
        return Ok(ModelFiles::folder(path));
    }
    files.sort();
    let preferred = files.iter().position(|file| file.to_string_lossy().contains("Q4_K_M")).unwrap_or(0);
    if files.is_empty() {
        let hint = "expected config.json with model.safetensors, or a .gguf file, in this folder".into();
        return Err(Error::NotFound { what: path.display().to_string(), hint });
    }
    Ok(ModelFiles::gguf(files.swap_remove(preferred)))
}

/// Whether this GGUF file is a model by itself: no part of a split one but the first, and no projector of images.
pub(crate) fn is_model(file: &str) -> bool {
    !hub::ggufs(&[file]).is_empty()
}
