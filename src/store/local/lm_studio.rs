//! The models that LM Studio has fetched, run where they lie: `PUBLISHER/REPO/*.gguf` below its folder.
//!
//! Source: <https://lmstudio.ai/docs/app/basics/import-model>. Its older versions kept them in `~/.cache/lm-studio/models`.

use super::{LocalModel, Source, folders, quantisation_of};
use crate::store::files::is_model;
use crate::store::hub_ref::{HubRef, Pick};
use std::path::{Path, PathBuf};

/// LM Studio's folders of models, those that exist.
pub fn folders() -> Vec<PathBuf> {
    let home = std::env::home_dir().unwrap_or_default();
    let mut folders = [".lmstudio/models", ".cache/lm-studio/models"].map(|folder| home.join(folder)).to_vec();
    folders.retain(|folder| folder.is_dir());
    folders
}

/// The file that `reference` means, if LM Studio has the repository.
pub fn find(reference: &HubRef) -> Option<PathBuf> {
    // Its folders do not say which revision they hold.
    if reference.revision.is_some() {
        return None;
    }
    let files: Vec<_> = folders().iter().flat_map(|folder| models(&folder.join(&reference.repo))).collect();
    let is_quant = |file: &PathBuf, quant: &str| {
        let name = file.file_name().unwrap_or_default().to_string_lossy();
        quantisation_of(&name).is_some_and(|found| found.eq_ignore_ascii_case(quant))
    };
    let chosen = match &reference.pick {
        Pick::File(name) => files.iter().position(|file| file.ends_with(name)),
        Pick::Quant(quant) => files.iter().position(|file| is_quant(file, quant)),
        Pick::Any => files.iter().position(|file| is_quant(file, "Q4_K_M")).or((!files.is_empty()).then_some(0)),
    };
    chosen.map(|at| files[at].clone())
}

/// Every model that is there, by its repository and quantisation.
pub(super) fn list() -> Vec<LocalModel> {
    let mut found = Vec::new();
    for folder in folders() {
        for publisher in subfolders(&folder) {
            for repo in subfolders(&publisher) {
                let Ok(name) = repo.strip_prefix(&folder) else { continue };
                let name = name.to_string_lossy().replace('\\', "/");
                for path in models(&repo) {
                    let file = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
                    let pick = quantisation_of(&file).unwrap_or(&file);
                    let modified = std::fs::metadata(&path).and_then(|meta| meta.modified()).ok();
                    let (name, bytes) = (format!("{name}:{pick}"), folders::size(&path));
                    found.push(LocalModel { name, id: String::new(), bytes, modified, source: Source::LmStudio, path });
                }
            }
        }
    }
    found
}

/// The GGUF files of a folder that are models, sorted.
fn models(folder: &Path) -> Vec<PathBuf> {
    let mut files = entries(folder);
    files.retain(|file| file.is_file() && file.file_name().is_some_and(|name| is_model(&name.to_string_lossy())));
    files
}

fn subfolders(folder: &Path) -> Vec<PathBuf> {
    let mut folders = entries(folder);
    folders.retain(|path| path.is_dir());
    folders
}

fn entries(folder: &Path) -> Vec<PathBuf> {
    let mut paths: Vec<_> = std::fs::read_dir(folder).into_iter().flatten().flatten().map(|entry| entry.path()).collect();
    paths.sort();
    paths
}
