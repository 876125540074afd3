//! From a name to a place: what is on the disk first, wherever it lies, then what can be fetched.
//!
//! The order: a path that exists; the model folders; the model inside the executable; and for a name of the catalogue or of
//! the Hub its cache, Ollama's store and LM Studio's folders. Only what none of them has is for the Hub. Nothing here opens a
//! socket.

use crate::arch;
use crate::error::{Error, NotFetched, Result};
use crate::store::catalog;
use crate::store::files::ModelFiles;
use crate::store::hub::{self, HubOptions};
use crate::store::hub_ref::HubRef;
use crate::store::local::{self, DEFAULT_FILE, DEFAULT_NAMES};
use std::path::Path;

/// What a name stands for: files on this machine, or a repository to fetch them from.
#[derive(Debug, Clone)]
pub enum Found {
    /// On this machine.
    Here(ModelFiles),
    /// Not here; on the Hub, perhaps.
    Hub(HubRef),
}

/// Finds a model by its path, a name in a model folder, a name of the catalogue (`llama3.2:1b`) or of the Hub
/// (`org/repo:Q4_K_M`), or the name Ollama or LM Studio gave it. Looks at the disk only.
///
/// # Errors
/// [`Error::NotFound`] with the nearest names; [`Error::Unsupported`] for a model of the catalogue whose family can not run.
pub fn find(name: impl AsRef<Path>) -> Result<Found> {
    find_with(name, &HubOptions::from_env())
}

/// [`find`] with the Hub's cache where `hub` says.
///
/// # Errors
/// As [`find`].
pub fn find_with(name: impl AsRef<Path>, hub: &HubOptions) -> Result<Found> {
    let path = name.as_ref();
    if path.is_dir() || path.is_file() {
        return ModelFiles::at(path).map(Found::Here);
    }
    // A name that is not UTF-8 can only be a path.
    let Some(name) = path.to_str() else { return Err(unknown(&path.to_string_lossy(), hub)) };
    if let Some(files) = local::in_model_folders(name)? {
        return Ok(Found::Here(files));
    }
    if DEFAULT_NAMES.iter().any(|default| default.eq_ignore_ascii_case(name))
        && let Some(files) = local::bundled()
    {
        return Ok(Found::Here(files));
    }
    let reference = reference_of(name)?;
    if let Some(reference) = &reference
        && let Some(files) = cached(reference, hub)?
    {
        log::info!("{name} is in the Hub's cache: {}", files.path().unwrap_or(path).display());
        return Ok(Found::Here(files));
    }
    if let Some(files) = elsewhere(name, reference.as_ref())? {
        return Ok(Found::Here(files));
    }
    reference.map(Found::Hub).ok_or_else(|| unknown(name, hub))
}

/// [`find_with`] for those who will not fetch.
///
/// # Errors
/// As [`find`], and [`Error::NotLocal`] for a model that only the Hub may have.
pub fn find_here(name: impl AsRef<Path>, hub: &HubOptions) -> Result<ModelFiles> {
    match find_with(&name, hub)? {
        Found::Here(files) => Ok(files),
        Found::Hub(reference) => Err(not_local(&name.as_ref().to_string_lossy(), &reference, hub)),
    }
}

/// The model that `reference` means, if the Hub's cache has all of it.
pub(crate) fn cached(reference: &HubRef, hub: &HubOptions) -> Result<Option<ModelFiles>> {
    let Some(path) = hub::locate(reference, hub)? else { return Ok(None) };
    let files = ModelFiles::at(&path)?;
    // The folder of a snapshot has a commit for a name.
    Ok(Some(if path.is_dir() { files.named(&reference.repo) } else { files }))
}

/// The model that Ollama or LM Studio has under this name.
fn elsewhere(name: &str, reference: Option<&HubRef>) -> Result<Option<ModelFiles>> {
    let in_ollama = local::in_ollama(name).and_then(|found| match (found, catalog::get(name)) {
        // Its `latest` and the catalogue's default are two names of one model, of which it may have either.
        (None, Some(entry)) => local::in_ollama(&entry.name),
        (found, _) => Ok(found),
    });
    let in_ollama = match in_ollama {
        // A broken entry of Ollama's must not block other sources.
        Err(error) if reference.is_some() => {
            log::warn!("Ollama's {name} is not used: {error}");
            None
        }
        found => found?,
    };
    if let Some(path) = in_ollama {
        log::info!("{name} is Ollama's: {}", path.display());
        return Ok(Some(ModelFiles::gguf(path).named(name)));
    }
    Ok(reference.and_then(local::in_lm_studio).map(|path| {
        log::info!("{name} is LM Studio's: {}", path.display());
        ModelFiles::gguf(path)
    }))
}

/// What a name means on the Hub, be it there or not; `None` if it is neither in the catalogue nor a reference.
///
/// # Errors
/// [`Error::Unsupported`] for a model of the catalogue whose family can not run, [`Error::Input`] for a malformed reference.
pub fn reference_of(name: &str) -> Result<Option<HubRef>> {
    if let Some(entry) = catalog::get(name) {
        arch::family(entry.family, &format!("{}, which is {}", entry.name, entry.reference))?;
        return Ok(Some(entry.reference));
    }
    // `folder/model.gguf` has the form of a reference, and is a path that does not exist.
    let is_path = |name: &str| {
        let lower = name.to_ascii_lowercase();
        name.matches('/').count() == 1 && !name.contains(':') && (lower.ends_with(".gguf") || lower.ends_with(".safetensors"))
    };
    if !HubRef::looks_like(name) || is_path(name) {
        return Ok(None);
    }
    name.parse().map(Some)
}

/// What was looked for, where, what has nearly that name, and what to do.
fn unknown(name: &str, hub: &HubOptions) -> Error {
    let folders: Vec<_> = local::model_folders().iter().map(|dir| dir.display().to_string()).collect();
    let folders = if folders.is_empty() { "there is none".to_owned() } else { folders.join(", ") };
    let is_path = name.contains(['/', '\\']) || name.to_ascii_lowercase().ends_with(".gguf");
    let hint = if is_path {
        "there is no such file or folder; expected a .gguf file, a folder with config.json, or org/repo of the Hub".to_owned()
    } else if let Some(tags) = catalog::tags(name) {
        let model = name.split(':').next().unwrap_or(name);
        format!("the catalogue has {model} with the tags {}", tags.join(", "))
    } else {
        format!(
            "it is in no model folder ({folders}), not in the catalogue, and not Ollama's; a model of the Hub is org/repo, \
             a file is a path"
        )
    };
    let nearest = if catalog::tags(name).is_some() { Vec::new() } else { nearest(name, hub) };
    let hint = if nearest.is_empty() { hint } else { format!("did you mean {}? {hint}", nearest.join(" or ")) };
    Error::NotFound { what: name.to_owned(), hint }
}

/// Names of the catalogue and of models that are here which `name` may have been meant for.
pub(crate) fn nearest(name: &str, hub: &HubOptions) -> Vec<String> {
    let here = local::list(hub).unwrap_or_default();
    let known = catalog::names().into_iter().chain(here.into_iter().map(|model| model.name));
    catalog::nearest(name, known)
}

/// The error for a model that would have to be fetched and is not.
pub(crate) fn not_local(name: &str, reference: &HubRef, hub: &HubOptions) -> Error {
    let what = match catalog::get(name) {
        Some(entry) => format!("{} ({reference})", entry.name),
        None => name.to_owned(),
    };
    let mut hint = String::new();
    if DEFAULT_NAMES.contains(&name) {
        hint += &format!("; its file {DEFAULT_FILE} may also be in a model folder (TALLOW_MODELS)");
    }
    let nearest = nearest(name, hub).into_iter().filter(|near| !near.eq_ignore_ascii_case(name)).collect::<Vec<_>>();
    if catalog::get(name).is_none() && !nearest.is_empty() {
        hint += &format!("; did you mean {}?", nearest.join(" or "));
    }
    Error::NotLocal { what, cache: hub.cache.clone(), why: NotFetched::of(hub.offline), hint }
}
