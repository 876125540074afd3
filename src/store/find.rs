//! From a name to a place: what is on the disk first, wherever it lies, then what can be fetched.
//!
//! The order: a path that exists; the model folders; the model inside the executable; and for a name of the catalogue or of
//! the Hub its cache, Ollama's store and LM Studio's folders. Only what none of them has is for the Hub. Nothing here opens a
//! socket.

use crate::arch;
use crate::error::{Error, Result};
use crate::store::catalog;
use crate::store::hub::{self, HubOptions};
use crate::store::hub_ref::HubRef;
use crate::store::local::{self, DEFAULT_FILE, DEFAULT_NAMES, Found};
use std::path::Path;

/// Where a model is, or where it can be had.
#[derive(Debug, Clone)]
pub enum Place {
    /// On this machine.
    Here(Located),
    /// Not here; on the Hub, perhaps.
    Hub(HubRef),
}

/// A model on this machine.
#[derive(Debug, Clone)]
pub struct Located {
    /// Its files.
    pub found: Found,
    /// What messages call it, where the files' own name says little.
    pub name: Option<String>,
}

impl From<Found> for Located {
    fn from(found: Found) -> Self {
        Located { found, name: None }
    }
}

/// Finds a model by its path, a name in a model folder, a name of the catalogue (`llama3.2:1b`) or of the Hub
/// (`org/repo:Q4_K_M`), or the name Ollama or LM Studio gave it. Looks at the disk only.
///
/// # Errors
/// [`Error::NotFound`] with the nearest names; [`Error::Unsupported`] for a model of the catalogue whose family can not run.
pub fn find(name: &str) -> Result<Place> {
    find_with(name, &HubOptions::from_env())
}

/// [`find`] with the Hub's cache where `hub` says.
pub fn find_with(name: &str, hub: &HubOptions) -> Result<Place> {
    let here = |found: Found| Ok(Place::Here(found.into()));
    let path = Path::new(name);
    if path.is_dir() {
        return here(local::of_folder(path)?);
    }
    if path.is_file() {
        return here(Found::File(path.to_owned()));
    }
    if let Some(found) = local::in_model_folders(name)? {
        return here(found);
    }
    if DEFAULT_NAMES.iter().any(|default| default.eq_ignore_ascii_case(name))
        && let Some(found) = local::bundled()
    {
        return here(found);
    }
    let reference = reference_of(name)?;
    if let Some(reference) = &reference
        && let Some(path) = hub::locate(reference, hub)?
    {
        log::info!("{name} is in the Hub's cache: {}", path.display());
        // The folder of a snapshot has a commit for a name.
        return Ok(Place::Here(match path.is_dir() {
            true => Located { found: local::of_folder(&path)?, name: Some(reference.repo.clone()) },
            false => Found::File(path).into(),
        }));
    }
    let in_ollama = local::in_ollama(name).and_then(|found| match (found, catalog::get(name)) {
        // Its `latest` and the catalogue's default are two names of one model, of which it may have either.
        (None, Some(entry)) => local::in_ollama(&entry.name),
        (found, _) => Ok(found),
    });
    // A model of Ollama's that can not be used keeps nobody from having it from elsewhere.
    let broken = match (&in_ollama, &reference) {
        (Err(error), Some(_)) => {
            log::warn!("Ollama's {name} is not used: {error}");
            true
        }
        _ => false,
    };
    if !broken && let Some(path) = in_ollama? {
        log::info!("{name} is Ollama's: {}", path.display());
        return Ok(Place::Here(Located { found: Found::File(path), name: Some(name.to_owned()) }));
    }
    if let Some(path) = reference.as_ref().and_then(local::in_lm_studio) {
        log::info!("{name} is LM Studio's: {}", path.display());
        return here(Found::File(path));
    }
    reference.map(Place::Hub).ok_or_else(|| unknown(name, hub))
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
            "it is in no model folder ({folders}), not in the catalogue (`tallow list --all` has what is here), and not \
             Ollama's; a model of the Hub is org/repo, a file is a path"
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

/// Why a model that would have to be fetched is not.
pub(crate) fn not_fetched(name: &str, reference: &HubRef, hub: &HubOptions, why: &str) -> Error {
    let what = match catalog::get(name) {
        Some(entry) => format!("{} ({reference})", entry.name),
        None => name.to_owned(),
    };
    let mut hint = format!("it is not in the cache {}, and {why}", hub.cache.display());
    if DEFAULT_NAMES.contains(&name) {
        hint += &format!("; its file {DEFAULT_FILE} may also lie in a model folder (TALLOW_MODELS)");
    }
    let nearest = nearest(name, hub).into_iter().filter(|near| !near.eq_ignore_ascii_case(name)).collect::<Vec<_>>();
    if catalog::get(name).is_none() && !nearest.is_empty() {
        hint += &format!("; did you mean {}?", nearest.join(" or "));
    }
    Error::NotFound { what, hint }
}
