//! A model that is not here: what fetching it would bring and cost, and the fetching itself.

use crate::error::{Error, Result};
use crate::store::hub::HubOptions;
use crate::store::hub_ref::HubRef;
use crate::store::{Located, Place, find_with, not_fetched};

#[cfg(feature = "hub")]
use super::cost::{Cost, Remote, cost};
#[cfg(feature = "hub")]
use crate::store::hub::{self, Plan, PullOptions, Weights};

/// A download that has been looked into: its files, and what running it takes.
#[cfg(feature = "hub")]
#[derive(Debug, Clone)]
pub struct Prepared {
    /// Which files, and which of them are here.
    pub plan: Plan,
    /// What it takes to run; `None` if `include` or `exclude` chose other files than a model needs.
    pub cost: Option<Cost>,
}

/// Looks into a download: the files it consists of, and the headers of its weights, read by ranges.
///
/// # Errors
/// [`Error::Unsupported`] for a model that can not run, before it is fetched; [`Error::Network`] and its kin.
#[cfg(feature = "hub")]
pub fn prepare(reference: &HubRef, hub: &HubOptions, pull: &PullOptions) -> Result<Prepared> {
    let plan = hub::plan(reference, hub, pull)?;
    if !pull.include.is_empty() || !pull.exclude.is_empty() {
        return Ok(Prepared { plan, cost: None });
    }
    if plan.weights == Weights::Folder && !plan.files.iter().any(|file| file.path == "tokenizer.json") {
        let what = format!("{}: a model without tokenizer.json", plan.repo);
        return Err(Error::unsupported(what, "repositories that have one, and GGUF files"));
    }
    let files: Vec<_> = plan.files.iter().map(|file| Remote { path: &file.path, size: file.size }).collect();
    let read = |path: &str, range| {
        let file = plan.files.iter().find(|file| file.path == path).expect("`cost` asks for the files it is given");
        hub::read_range(&plan, file, hub, range)
    };
    match cost(&files, read) {
        Ok(cost) => Ok(Prepared { cost: Some(cost), plan }),
        // The estimate needs a place for the headers, the download does not.
        Err(Error::Io { path, source }) => {
            log::warn!("the memory that {} takes can not be told: {}: {source}", plan.repo, path.display());
            Ok(Prepared { plan, cost: None })
        }
        Err(error) => Err(in_repo(error, &plan.repo)),
    }
}

/// The same error, with the repository before the file.
#[cfg(feature = "hub")]
fn in_repo(error: Error, repo: &str) -> Error {
    match error {
        Error::Unsupported { what, supported } => Error::Unsupported { what: format!("{repo}/{what}"), supported },
        Error::Corrupt { file, why } => Error::Corrupt { file: format!("{repo}/{file}"), why },
        other => other,
    }
}

/// The model called `name`, fetched if it is not here.
pub(crate) fn ready(name: &str, offline: bool) -> Result<Located> {
    let mut hub = HubOptions::from_env();
    hub.offline |= offline;
    match find_with(name, &hub)? {
        Place::Here(located) => Ok(located),
        Place::Hub(reference) if hub.offline || !cfg!(feature = "hub") => Err(not_here(name, &reference, &hub)),
        Place::Hub(reference) => fetched(name, &reference, &hub),
    }
}

#[cfg(feature = "hub")]
fn fetched(name: &str, reference: &HubRef, hub: &HubOptions) -> Result<Located> {
    let prepared = prepare(reference, hub, &PullOptions::default())?;
    if let Some(cost) = &prepared.cost {
        cost.check(name)?;
    }
    log::info!("{name}: fetching {} bytes from {}", prepared.plan.missing(), hub.endpoint);
    hub::fetch(&prepared.plan, hub, &())?;
    match find_with(name, hub)? {
        Place::Here(located) => Ok(located),
        Place::Hub(_) => Err(not_fetched(name, reference, hub, "what was fetched is not a model")),
    }
}

#[cfg(not(feature = "hub"))]
fn fetched(name: &str, reference: &HubRef, hub: &HubOptions) -> Result<Located> {
    Err(not_here(name, reference, hub))
}

/// The error for a model that is not here and shall not be fetched.
pub fn not_here(name: &str, reference: &HubRef, hub: &HubOptions) -> Error {
    let why = match (hub.offline, cfg!(feature = "hub")) {
        (_, false) => "this build can not fetch it: it lacks the feature `hub`",
        (true, true) => "fetching is off (--offline, HF_HUB_OFFLINE); `tallow pull` fetches it",
        (false, true) => "`tallow pull` fetches it",
    };
    not_fetched(name, reference, hub, why)
}
