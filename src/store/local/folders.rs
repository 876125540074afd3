//! The model folders: those of `TALLOW_MODELS`, then `models` beside the executable and above it, and that of the package that Cargo runs.

use super::{LocalModel, Source, are_parts};
use crate::error::{Error, Result};
use crate::store::files::{ModelFiles, is_model};
use std::path::{Path, PathBuf};

/// The default model's file.
pub const DEFAULT_FILE: &str = "SmolLM2-135M-Instruct.Q4_1.gguf";
/// Names under which people know it.
pub const DEFAULT_NAMES: [&str; 3] = ["smollm2", "smollm2:135m", "smollm2:latest"];

/// The folders that models are looked for in, those that exist.
pub fn model_folders() -> Vec<PathBuf> {
    let named = std::env::var_os("TALLOW_MODELS").map(|dirs| std::env::split_paths(&dirs).collect::<Vec<_>>());
    let executable = std::env::current_exe().and_then(std::fs::canonicalize).ok();
    let above = executable.iter().flat_map(|exe| exe.ancestors().skip(1)).map(|dir| dir.join("models"));
    // Cargo tells it to what it runs, whose executable need not lie in the package (`CARGO_TARGET_DIR`).
    let package = std::env::var_os("CARGO_MANIFEST_DIR").and_then(|dir| Path::new(&dir).join("models").canonicalize().ok());
    let mut folders: Vec<PathBuf> = named.unwrap_or_default().into_iter().chain(above).collect();
    folders.extend(package.filter(|dir| !folders.contains(dir)));
    folders.retain(|dir| dir.is_dir());
    folders
}

/// The model called `name`: the file `name.gguf` or `name`, or the folder `name`; the default model by each of its names.
///
/// # Errors
/// [`Error::Io`] for a folder that can not be read.
pub fn find(name: &str) -> Result<Option<ModelFiles>> {
    let candidates = match DEFAULT_NAMES.iter().any(|default| default.eq_ignore_ascii_case(name)) {
        true => vec![DEFAULT_FILE.to_owned()],
        false => vec![format!("{name}.gguf"), name.to_owned()],
    };
    for dir in model_folders() {
        for candidate in candidates.iter().filter(|candidate| is_plain_name(candidate)) {
            let path = dir.join(candidate);
            if path.is_file() {
                return Ok(Some(ModelFiles::gguf(path)));
            }
            if path.is_dir() {
                match ModelFiles::at(&path) {
                    // A folder without a model has its name by chance.
                    Err(Error::NotFound { what, .. }) => log::warn!("{what} holds no model, and is passed over"),
                    found => return found.map(Some),
                }
            }
        }
    }
    Ok(None)
}

/// Whether `name` stays inside the folder it is looked for in.
fn is_plain_name(name: &str) -> bool {
    let mut parts = Path::new(name).components();
    matches!((parts.next(), parts.next()), (Some(std::path::Component::Normal(_)), None))
}

/// Every model of the model folders, by the name it is found by.
pub(super) fn list() -> Vec<LocalModel> {
    let mut models: Vec<LocalModel> = Vec::new();
    for folder in model_folders() {
        let mut paths = files(&folder).unwrap_or_default();
        paths.sort();
        for path in paths {
            let Some(file) = path.file_name().and_then(|name| name.to_str()) else { continue };
            let is_folder = path.is_dir() && ModelFiles::at(&path).is_ok();
            if !(is_folder || path.is_file() && is_model(file)) {
                continue;
            }
            let name = match (file == DEFAULT_FILE, is_folder) {
                (true, _) => DEFAULT_NAMES[0].to_owned(),
                (_, true) => file.to_owned(),
                _ => path.file_stem().unwrap_or_default().to_string_lossy().into_owned(),
            };
            // Another folder's model of this name is not found by it.
            if models.iter().any(|model| model.name == name) {
                continue;
            }
            let modified = std::fs::metadata(&path).and_then(|meta| meta.modified()).ok();
            models.push(LocalModel { name, id: String::new(), bytes: size(&path), modified, source: Source::Folder, path });
        }
    }
    models
}

fn files(folder: &Path) -> Result<Vec<PathBuf>> {
    let entries = std::fs::read_dir(folder).map_err(|e| Error::io(folder, e))?;
    Ok(entries.filter_map(|entry| Some(entry.ok()?.path())).collect())
}

/// Bytes of a file with its other parts, or of the files that lie directly in a folder.
pub(super) fn size(path: &Path) -> u64 {
    files_of(path).iter().filter_map(|file| Some(std::fs::metadata(file).ok()?.len())).sum()
}

/// A file with its other parts, or the files that lie directly in a folder.
pub(super) fn files_of(path: &Path) -> Vec<PathBuf> {
    let (name, Some(folder)) = (path.to_string_lossy(), path.parent()) else { return vec![path.to_owned()] };
    let mut found = files(if path.is_dir() { path } else { folder }).unwrap_or_default();
    found.retain(|file| file.is_file() && (path.is_dir() || are_parts(&name, &file.to_string_lossy())));
    found
}
