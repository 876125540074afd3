//! From a plan to a snapshot: missing blobs come from the Hub; when all are there links show them, and then the reference.

use super::cache::{Repo, is_commit, is_digest, is_safe_path};
use super::options::not_cached;
use super::{HubOptions, PlannedFile, Progress, PullPlan, Pulled, remote};
use crate::error::{Error, Result};
use std::collections::BTreeSet;

/// See [`super::fetch`].
pub(super) fn fetch(plan: &PullPlan, hub: &HubOptions, progress: &dyn Progress) -> Result<Pulled> {
    let repo = Repo::of(&plan.repo, hub)?;
    check(plan)?;
    let (there, lacking): (Vec<_>, Vec<_>) = plan.files.iter().partition(|file| !plan.force && repo.has(&plan.commit, file));
    for file in &there {
        progress.start(&file.path, file.size, file.size);
        repo.sweep(&file.digest);
        progress.done(&file.path);
    }
    // Files of equal bytes are one blob.
    let mut digests = BTreeSet::new();
    let (lacking, twins): (Vec<_>, Vec<_>) = lacking.into_iter().partition(|file| digests.insert(file.digest.as_str()));
    let mut fetched = 0;
    if let Some(first) = lacking.first() {
        if hub.offline {
            return Err(not_cached(format!("{} of {}", first.path, plan.repo), hub));
        }
        fetched = remote::download(plan, &lacking, &repo, hub, progress)?;
    }
    for file in twins {
        progress.start(&file.path, file.size, file.size);
        progress.done(&file.path);
    }
    // The weights, which are large, come last: a snapshot that can be loaded has all that was asked for.
    let mut by_size: Vec<&PlannedFile> = plan.files.iter().collect();
    by_size.sort_by_key(|file| file.size);
    for (i, file) in by_size.iter().enumerate() {
        let linked = repo.link(&plan.commit, file);
        match by_size[..i].iter().find(|twin| twin.digest == file.digest && !file.digest.is_empty()) {
            Some(twin) if linked.is_err() => repo.copy(&plan.commit, twin, file)?,
            _ => linked?,
        }
    }
    // Somebody may have removed another revision meanwhile, and with it a blob that only that one showed.
    if let Some(file) = plan.files.iter().find(|file| !repo.is_linked(&plan.commit, file)) {
        let path = repo.snapshot(&plan.commit).join(&file.path);
        return Err(Error::corrupt(path.display(), "was removed while the others came; fetch it again"));
    }
    repo.write_ref(&plan.revision, &plan.commit)?;
    let path = plan.path(hub);
    Ok(Pulled { path, snapshot: repo.snapshot(&plan.commit), commit: plan.commit.clone(), size: plan.size(), fetched })
}

/// What came from a server, or from a caller, is checked before it names a file.
fn check(plan: &PullPlan) -> Result<()> {
    let wrong = |what: &str, name: &str| {
        Err(Error::corrupt(&plan.repo, format!("the Hub names {what} {name:?}, which can not be one")))
    };
    if !is_commit(&plan.commit) {
        return wrong("the commit", &plan.commit);
    }
    let is_sound =
        |file: &PlannedFile| is_safe_path(&file.path) && (is_digest(&file.digest) || file.present && file.digest.is_empty());
    match plan.files.iter().find(|file| !is_sound(file)) {
        Some(file) if !is_safe_path(&file.path) => wrong("the file", &file.path),
        Some(file) => wrong("the digest", &file.digest),
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::hub::PlannedModel;
    use crate::store::hub::testing::{COMMIT, Cache, DIGEST};

    #[test]
    fn names_that_would_leave_the_cache_are_refused() {
        let cache = Cache::new("fetch");
        let plan = |commit: &str, path: &str, digest: &str| PullPlan {
            repo: "org/name".into(),
            revision: "main".into(),
            commit: commit.into(),
            files: vec![PlannedFile { path: path.into(), size: 1, digest: digest.into(), present: false, partial: 0 }],
            weights: PlannedModel::Folder,
            gated: None,
            license: None,
            force: false,
        };
        for (commit, path, digest) in
            [("../x", "a", DIGEST), (COMMIT, "../a", DIGEST), (COMMIT, "/a", DIGEST), (COMMIT, "a", "../b"), (COMMIT, "a", "")]
        {
            let error = fetch(&plan(commit, path, digest), &cache.options, &()).unwrap_err();
            assert!(matches!(error, Error::Corrupt { .. }), "{error}");
        }
        assert!(!cache.options.cache.exists());
    }
}
