//! What a reference means for a list of files, and the plan that the cache alone gives.

use super::cache::{Repo, is_commit, is_digest};
use super::options::not_cached;
use super::select::select;
use super::{HubOptions, PlannedFile, PlannedModel, PullOptions, PullPlan, remote};
use crate::error::{Error, Result};
use crate::store::hub_ref::{HubRef, Pick};

/// See [`super::plan`].
pub(super) fn plan(reference: &HubRef, hub: &HubOptions, pull: &PullOptions) -> Result<PullPlan> {
    // A commit never changes; but what `include` means for it only the Hub's list of files tells, and so it is with the best
    // of several GGUF files, unless what is here is what would be chosen.
    let is_fixed = is_commit(reference.revision()) && pull.include.is_empty() && !pull.force;
    let is_settled = |plan: &PullPlan| match &plan.weights {
        PlannedModel::Folder => true,
        PlannedModel::Gguf(file) => reference.pick != Pick::Any || file.contains("Q4_K_M"),
    };
    if (hub.offline || is_fixed)
        && let Some(plan) = on_disk(reference, hub, pull)?
        && (hub.offline || is_settled(&plan))
    {
        return Ok(plan);
    }
    if hub.offline {
        return Err(not_cached(reference.to_string(), hub));
    }
    remote::plan(reference, hub, pull)
}

/// The plan of a model that is in the cache with all its files.
pub(super) fn on_disk(reference: &HubRef, hub: &HubOptions, pull: &PullOptions) -> Result<Option<PullPlan>> {
    let repo = Repo::of(&reference.repo, hub)?;
    let Some(commit) = repo.commit_of(reference.revision()) else { return Ok(None) };
    let cached = repo.files(&commit)?;
    let paths: Vec<&str> = cached.iter().map(|file| file.path.as_str()).collect();
    let mut read = |name: &str| {
        let path = repo.snapshot(&commit).join(name);
        std::fs::read(&path).map_err(|e| Error::io(path, e))
    };
    let choice = match select(reference, &paths, pull, &mut read) {
        Ok(choice) => choice,
        // Other files than a model needs, or not all of them: it has to come from the Hub.
        Err(Error::NotFound { .. } | Error::Unsupported { .. }) => return Ok(None),
        Err(error) => return Err(error),
    };
    let planned = |path: &String| {
        let file = cached.iter().find(|file| file.path == *path)?;
        let digest = file.blob.file_name()?.to_str().filter(|name| is_digest(name)).unwrap_or_default().to_owned();
        Some(PlannedFile { path: path.clone(), size: file.size, digest, present: true, partial: 0 })
    };
    Ok(Some(PullPlan {
        repo: reference.repo.clone(),
        revision: reference.revision().to_owned(),
        commit,
        files: choice.files.iter().filter_map(planned).collect(),
        weights: choice.weights,
        gated: None,
        license: None,
        force: false,
    }))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::NotFetched;
    use crate::store::hub::testing::{COMMIT, Cache};

    #[test]
    fn a_model_is_located_only_if_every_file_it_needs_is_there() {
        let cache = Cache::new("located");
        let located = |text: &str| crate::store::hub::locate(&text.parse().unwrap(), &cache.options).unwrap();
        let snapshot = cache.repo("org/name").snapshot(COMMIT);
        let index = br#"{"weight_map": {"a": "model-00001-of-00001.safetensors"}}"#;
        let files: [(&str, &[u8]); 4] = [
            ("config.json", b"{}"),
            ("tokenizer.json", b"{}"),
            ("model.safetensors.index.json", index),
            ("model-00001-of-00001.safetensors", b"weights"),
        ];
        cache.repo("org/name").write_ref("main", COMMIT).unwrap();
        for (count, (name, bytes)) in files.into_iter().enumerate() {
            assert_eq!(located("org/name"), None, "{count} files");
            cache.add("org/name", COMMIT, name, bytes);
        }
        for text in ["org/name", "org/name@main", &format!("org/name@{COMMIT}")] {
            assert_eq!(located(text).as_deref(), Some(snapshot.as_path()), "{text}");
        }
        assert_eq!((located("org/name@dev"), located("org/other"), located("org/name:Q8_0")), (None, None, None));
        cache.add("org/name", COMMIT, "m-Q8_0.gguf", b"gguf");
        assert_eq!(located("org/name:q8_0"), Some(snapshot.join("m-Q8_0.gguf")));
    }

    #[test]
    fn offline_the_cache_answers_and_what_it_lacks_is_not_found() {
        let cache = Cache::new("offline");
        cache.add("org/name", COMMIT, "m-Q8_0.gguf", b"gguf");
        let hub = HubOptions { offline: true, endpoint: "http://127.0.0.1:1".into(), ..cache.options.clone() };
        let pull = |revision: &str, pick: Pick| {
            let reference = HubRef { repo: "org/name".into(), revision: Some(revision.into()), pick };
            crate::store::hub::pull(&reference, &hub, &PullOptions::default(), &())
        };
        let pulled = pull(COMMIT, Pick::Any).unwrap();
        assert_eq!((pulled.size, pulled.fetched, pulled.commit.as_str()), (4, 0, COMMIT));
        assert!(pulled.path.ends_with("m-Q8_0.gguf"));
        for (revision, pick) in [("main", Pick::Any), (COMMIT, Pick::Quant("Q4_0".into()))] {
            let error = pull(revision, pick).unwrap_err();
            assert!(matches!(&error, Error::NotLocal { why: NotFetched::Offline, .. }), "{error}");
        }
    }
}
