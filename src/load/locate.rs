//! Where a model's files are: a path, a name in a model folder, or the default model.

use crate::bytes::Bytes;
use crate::error::{Error, Result};
use std::path::{Path, PathBuf};

/// The default model's file.
const DEFAULT_FILE: &str = "SmolLM2-135M-Instruct.Q4_1.gguf";
/// Names under which people know it.
const DEFAULT_NAMES: [&str; 3] = ["smollm2", "smollm2:135m", "smollm2:latest"];
/// The default model inside the executable.
#[cfg(feature = "bundled")]
static BUNDLED: &[u8] = include_bytes!("../../models/SmolLM2-135M-Instruct.Q4_1.gguf");

/// Where a model's files are.
#[derive(Debug, Clone)]
pub(crate) enum Found {
    /// A GGUF file.
    File(PathBuf),
    /// A folder in Hugging Face layout.
    Folder(PathBuf),
    /// A GGUF file in memory.
    Bytes { bytes: Bytes, name: String },
}

/// Finds a model: a path, a name in the model folders, or the default model.
///
/// The model folders are those of `TALLOW_MODELS`, then `models` beside the executable and above it.
pub(crate) fn locate(name: &str) -> Result<Found> {
    let path = Path::new(name);
    if path.is_dir() {
        return folder(path);
    }
    if path.is_file() {
        return Ok(Found::File(path.to_owned()));
    }
    let is_default = DEFAULT_NAMES.contains(&name);
    let folders = model_folders();
    for dir in &folders {
        let candidates = if is_default { vec![DEFAULT_FILE.to_owned()] } else { vec![format!("{name}.gguf"), name.to_owned()] };
        for candidate in candidates.iter().filter(|candidate| is_plain_name(candidate)) {
            let path = dir.join(candidate);
            if path.is_file() {
                return Ok(Found::File(path));
            }
            if path.is_dir() {
                return folder(&path);
            }
        }
    }
    #[cfg(feature = "bundled")]
    if is_default {
        return Ok(Found::Bytes { bytes: Bytes::from(BUNDLED), name: DEFAULT_FILE.to_owned() });
    }
    let searched: Vec<_> = folders.iter().map(|dir| dir.display().to_string()).collect();
    let searched = if searched.is_empty() { "no model folder exists".to_owned() } else { searched.join(", ") };
    let hint = match is_default {
        true => format!("its file {DEFAULT_FILE} was looked for in: {searched}; set TALLOW_MODELS to the folder that has it"),
        false => format!(
            "give the path of a .gguf file or of a folder with config.json, or a name in a model folder ({searched}); \
             the name tallow knows is smollm2; models of the Hugging Face Hub are not fetched by this version"
        ),
    };
    Err(Error::NotFound { what: name.to_owned(), hint })
}

/// Whether `name` stays inside the folder it is looked for in.
fn is_plain_name(name: &str) -> bool {
    let mut parts = Path::new(name).components();
    matches!((parts.next(), parts.next()), (Some(std::path::Component::Normal(_)), None))
}

/// The folders that models are looked for in, those that exist.
pub fn model_folders() -> Vec<PathBuf> {
    let named = std::env::var_os("TALLOW_MODELS").map(|dirs| std::env::split_paths(&dirs).collect::<Vec<_>>());
    let executable = std::env::current_exe().and_then(std::fs::canonicalize).ok();
    let above = executable.iter().flat_map(|exe| exe.ancestors().skip(1)).map(|dir| dir.join("models"));
    let mut folders: Vec<PathBuf> = named.unwrap_or_default().into_iter().chain(above).collect();
    folders.retain(|dir| dir.is_dir());
    folders
}

/// A folder in Hugging Face layout, or one that holds GGUF files: then `Q4_K_M`, else the first by name.
fn folder(path: &Path) -> Result<Found> {
    if path.join("config.json").is_file() {
        return Ok(Found::Folder(path.to_owned()));
    }
    let entries = std::fs::read_dir(path).map_err(|e| Error::io(path, e))?;
    let mut files: Vec<PathBuf> = entries.filter_map(|entry| Some(entry.ok()?.path())).collect();
    files.retain(|file| file.extension().is_some_and(|e| e.eq_ignore_ascii_case("gguf")));
    files.sort();
    let preferred = files.iter().position(|file| file.to_string_lossy().contains("Q4_K_M")).unwrap_or(0);
    if files.is_empty() {
        let hint = "expected config.json with model.safetensors, or a .gguf file, in this folder".into();
        return Err(Error::NotFound { what: path.display().to_string(), hint });
    }
    Ok(Found::File(files.swap_remove(preferred)))
}
