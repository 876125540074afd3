//! A download: a look at what it would bring and cost, and the fetching itself.

use super::cost::Cost;
use super::headers::cost;
use crate::error::{Error, Result};
use crate::options::LoadOptions;
use crate::store::hub::{self, HubOptions, PlannedFile, PlannedModel, Progress, PullOptions, PullPlan, Pulled};
use crate::store::hub_ref::HubRef;
use crate::store::{self, ModelFiles};

/// Bytes from which a download that nobody hears of is a warning.
const LARGE: u64 = 100_000_000;

/// A download that has been looked into: its files, and what running it takes.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct Download {
    /// Which files, and which of them are here.
    pub plan: PullPlan,
    /// What it takes to run; `None` if `include` or `exclude` chose other files than a model needs.
    pub cost: Option<Cost>,
}

impl Download {
    /// Looks into a download: the files it consists of, and the headers of its weights, read by ranges.
    ///
    /// # Errors
    /// [`Error::Unsupported`] for a model that can not run, before it is fetched; [`Error::Network`] and its kin.
    pub fn prepare(reference: &HubRef, hub: &HubOptions, pull: &PullOptions, progress: &dyn Progress) -> Result<Download> {
        progress.asking(&reference.repo);
        let plan = hub::plan(reference, hub, pull)?;
        if !pull.include.is_empty() || !pull.exclude.is_empty() {
            return Ok(Download { plan, cost: None });
        }
        let files = beside_weights(&plan);
        if plan.weights == PlannedModel::Folder && !files.iter().any(|file| file.path == "tokenizer.json") {
            let what = format!("{}: a model without tokenizer.json", plan.repo);
            return Err(Error::unsupported(what, "repositories that have one, and GGUF files"));
        }
        let read = |file: &PlannedFile, range| {
            let is_it = |whole: &&PlannedFile| whole.digest == file.digest && whole.path.ends_with(&file.path);
            hub::read_range(&plan, plan.files.iter().find(is_it).unwrap_or(file), hub, range)
        };
        match cost(&files, read) {
            Ok(cost) => Ok(Download { cost: Some(cost), plan }),
            // The estimate needs a place for the headers, the download does not.
            Err(Error::Io { path, cause }) => {
                log::warn!("the memory that {} takes is not known: {}: {cause}", plan.repo, path.display());
                Ok(Download { plan, cost: None })
            }
            Err(error) => Err(in_repo(error, &plan.repo)),
        }
    }

    /// Fetches it, whether it fits into memory or not.
    ///
    /// # Errors
    /// Those of [`hub::fetch`].
    pub fn fetch(&self, hub: &HubOptions, progress: &dyn Progress) -> Result<Pulled> {
        hub::fetch(&self.plan, hub, progress)
    }
}

/// The files of a plan by their names beside the weights: those of an encoder may lie in a folder of its own, as older
/// versions of sentence-transformers put them (`0_Transformer/`).
fn beside_weights(plan: &PullPlan) -> Vec<PlannedFile> {
    if plan.files.iter().any(|file| file.path == "config.json") {
        return plan.files.clone();
    }
    let name = |path: &str| match path.split_once('/') {
        Some((folder, name)) if folder.starts_with("0_") => name.to_owned(),
        _ => path.to_owned(),
    };
    plan.files.iter().map(|file| PlannedFile { path: name(&file.path), ..file.clone() }).collect()
}

/// Fetches the model called `name`, if it can run.
pub(super) fn fetched(name: &str, reference: &HubRef, options: &LoadOptions) -> Result<ModelFiles> {
    let hub = options.hub();
    let progress = options.progress.as_deref().unwrap_or(&());
    let download = Download::prepare(reference, &hub, &PullOptions::default(), progress)?;
    if let Some(cost) = &download.cost {
        cost.check(name)?;
    }
    let missing = download.plan.missing();
    if is_loud(missing, options.progress.is_some()) {
        log::warn!(
            "{name}: fetching {missing} bytes from {}, which may take long; the option `progress` hears how it goes, \
             `offline` forbids it",
            hub.endpoint
        );
    } else {
        log::info!("{name}: fetching {missing} bytes from {}", hub.endpoint);
    }
    hub::fetch(&download.plan, &hub, progress)?;
    store::cached(reference, &hub)?.ok_or_else(|| {
        let hint = "what was fetched is not a model that can be loaded".to_owned();
        Error::NotFound { what: format!("{name} ({reference})"), hint }
    })
}

/// Whether a download of so many bytes is a warning.
fn is_loud(bytes: u64, is_heard: bool) -> bool {
    bytes > LARGE && !is_heard
}

/// The same error, with the repository before the file.
fn in_repo(error: Error, repo: &str) -> Error {
    match error {
        Error::Unsupported { what, supported } => Error::Unsupported { what: format!("{repo}/{what}"), supported },
        Error::Corrupt { file, why } => Error::Corrupt { file: format!("{repo}/{file}"), why },
        other => other,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_large_download_that_nobody_hears_of_is_a_warning() {
        assert!(is_loud(100_000_001, false));
        assert!(!is_loud(100_000_000, false) && !is_loud(u64::MAX, true));
    }
}
