//! Removing models from the cache: references first, then a snapshot's files, then the blobs that nothing else uses, so that
//! an interruption leaves nothing that looks whole. What an interruption leaves goes with the next removal.

use super::cache::{Repo, walk};
use super::kinds::{is_extra, is_gguf};
use super::pick::{choose, quant_of};
use super::shared::{Store, Users};
use super::{CachedFile, CachedRevision, Freed, HubOptions, scan};
use crate::error::{Error, Result};
use crate::store::disk::{self, Identity, OnDisk};
use crate::store::hub_ref::{HubRef, Pick};
use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

/// See [`super::remove`].
pub(super) fn remove(reference: &HubRef, hub: &HubOptions, dry_run: bool) -> Result<Freed> {
    let not_found = || Error::NotFound { what: reference.to_string(), hint: format!("it is not in {}", hub.cache.display()) };
    let cached = scan::cached(&reference.repo, hub)?.ok_or_else(not_found)?;
    let repo = Repo::of(&reference.repo, hub)?;
    // All of a repository is all of its revisions. One of its models is that of the revision that is named, as everywhere else.
    let commit = match (&reference.revision, &reference.pick) {
        (None, Pick::Any) => None,
        _ => Some(repo.commit_of(reference.revision()).ok_or_else(not_found)?),
    };
    let is_meant = |revision: &&CachedRevision| commit.as_ref().is_none_or(|commit| *commit == revision.commit);
    let meant: Vec<_> =
        cached.revisions.iter().filter(is_meant).map(|revision| (revision, files_of(revision, reference))).collect();
    if meant.iter().all(|(_, files)| files.is_empty()) && commit.is_some() {
        return Err(not_found());
    }
    let goes = |file: &CachedFile, of: &CachedRevision| {
        meant.iter().any(|(revision, files)| revision.commit == of.commit && files.iter().any(|path| *path == file.path))
    };
    let all = || cached.revisions.iter().flat_map(|revision| revision.files.iter().map(move |file| (revision, file)));
    let kept: BTreeSet<&Path> = all().filter(|(r, file)| !goes(file, r)).map(|(_, file)| file.blob.as_path()).collect();
    if kept.is_empty() {
        return remove_repo(&repo, hub, dry_run);
    }
    let mut freed = Freed::default();
    let mut blobs: BTreeSet<&Path> = BTreeSet::new();
    for file in all().filter(|(revision, file)| goes(file, revision)).map(|(_, file)| file) {
        freed.files += 1;
        if kept.contains(file.blob.as_path()) {
            freed.shared += 1;
        } else {
            blobs.insert(&file.blob);
        }
    }
    let blobs = Blobs::new(hub, blobs.into_iter().map(Path::to_owned));
    if dry_run {
        return Ok(blobs.would_free(freed));
    }
    for (revision, files) in &meant {
        let is_all = files.len() == revision.files.len();
        if is_all {
            revision.refs.iter().try_for_each(|name| delete(&repo.root.join("refs").join(name)))?;
        }
        for file in revision.files.iter().filter(|file| goes(file, revision)) {
            let path = revision.path.join(&file.path);
            delete(&path)?;
            remove_empty(&path, &repo.root);
        }
        if is_all {
            // Links that lead nowhere are no files, and go with the rest.
            let _ = std::fs::remove_dir_all(&revision.path);
        }
    }
    blobs.remove(freed)
}

/// Blobs that are to go, measured while they are there.
struct Blobs {
    store: Option<Store>,
    users: Users,
    /// Files of the repository's own.
    own: Vec<(PathBuf, Option<OnDisk>)>,
    /// Files of the store that repositories share, and the links to each.
    linked: BTreeMap<PathBuf, BTreeSet<PathBuf>>,
}

impl Blobs {
    fn new(hub: &HubOptions, paths: impl Iterator<Item = PathBuf>) -> Blobs {
        let store = Store::of(&hub.cache);
        let users = store.as_ref().map(Store::users).unwrap_or_default();
        let mut blobs = Blobs { store, users, own: Vec::new(), linked: BTreeMap::new() };
        for path in paths {
            match blobs.store.as_ref().and_then(|store| store.target(&path)) {
                Some(target) => _ = blobs.linked.entry(target).or_default().insert(path),
                // A link to anywhere else frees nothing: what it leads to is not the cache's.
                None => blobs.own.push((path.clone(), disk::regular(&path))),
            }
        }
        blobs
    }

    /// Adds the repository's own files. One that has another name elsewhere (a hard link) frees no bytes.
    fn count_own(&self, freed: &mut Freed) {
        let mut going: BTreeMap<&Identity, u64> = BTreeMap::new();
        for file in self.own.iter().filter_map(|(_, file)| file.as_ref()) {
            let names = going.entry(&file.identity).or_default();
            *names += 1;
            freed.blobs += 1;
            if *names == file.names {
                freed.bytes += file.len;
            }
        }
    }

    fn would_free(&self, mut freed: Freed) -> Freed {
        self.count_own(&mut freed);
        for (target, going) in &self.linked {
            let bytes = self.store.as_ref().and_then(|store| store.would_free(target, going, &self.users));
            count(&mut freed, bytes);
        }
        freed
    }

    fn remove(self, mut freed: Freed) -> Result<Freed> {
        self.count_own(&mut freed);
        self.own.iter().try_for_each(|(path, _)| delete(path))?;
        for (target, going) in &self.linked {
            let store = self.store.as_ref().expect("links to a store were found in it");
            count(&mut freed, store.release(target, going, &self.users).map_err(|e| Error::io(target, e))?);
        }
        Ok(freed)
    }
}

/// Adds a shared file that went with so many bytes, or stays.
fn count(freed: &mut Freed, bytes: Option<u64>) {
    match bytes {
        Some(bytes) => (freed.bytes, freed.blobs) = (freed.bytes + bytes, freed.blobs + 1),
        None => freed.shared += 1,
    }
}

/// The files of a snapshot that a reference means: all, or the GGUF files of its pick, and all if no weights would be left.
fn files_of<'a>(revision: &'a CachedRevision, reference: &HubRef) -> Vec<&'a str> {
    let paths: Vec<&str> = revision.files.iter().map(|file| file.path.as_str()).collect();
    if reference.pick == Pick::Any {
        return paths;
    }
    let is_weights = |path: &str| is_gguf(path) && !is_extra(path) || path.ends_with(".safetensors");
    let wanted = match choose("", &paths, &reference.pick, &mut |_| Ok(Vec::new())) {
        Ok(choice) => choice.files,
        // What lacks a part can not be run, but goes all the same.
        Err(_) => {
            let is_meant = |path: &&&str| match &reference.pick {
                Pick::Quant(quant) => quant_of(path).is_some_and(|found| found.eq_ignore_ascii_case(quant)),
                Pick::File(file) => file == **path,
                Pick::Any => false,
            };
            paths.iter().filter(is_meant).map(|path| (*path).to_owned()).collect()
        }
    };
    let chosen = |path: &str| is_weights(path) && wanted.iter().any(|file| file == path);
    if paths.iter().all(|path| chosen(path) || !is_weights(path)) {
        return paths;
    }
    paths.into_iter().filter(|path| chosen(path)).collect()
}

/// The whole repository, interrupted downloads and locks with it.
fn remove_repo(repo: &Repo, hub: &HubOptions, dry_run: bool) -> Result<Freed> {
    let files = walk(&repo.root.join("snapshots"))?;
    let copies = files.iter().filter(|path| disk::regular(path).is_some()).cloned();
    let blobs = Blobs::new(hub, walk(&repo.root.join("blobs"))?.into_iter().chain(copies));
    let freed = Freed { files: files.len(), ..Freed::default() };
    if dry_run {
        return Ok(blobs.would_free(freed));
    }
    let remove = |folder: &Path| match std::fs::remove_dir_all(folder) {
        Err(e) if e.kind() != std::io::ErrorKind::NotFound => Err(Error::io(folder, e)),
        _ => Ok(()),
    };
    ["refs", "snapshots"].iter().try_for_each(|name| remove(&repo.root.join(name)))?;
    // The folder itself goes last: as long as it is there, what is left can be removed.
    let freed = blobs.remove(freed)?;
    remove(&repo.root)?;
    remove(&repo.locks)?;
    Ok(freed)
}

fn delete(path: &Path) -> Result<()> {
    match std::fs::remove_file(path) {
        Err(e) if e.kind() != std::io::ErrorKind::NotFound => Err(Error::io(path, e)),
        _ => Ok(()),
    }
}

/// Removes the folders above `path` that are empty now.
fn remove_empty(path: &Path, root: &Path) {
    let folders = path.ancestors().skip(1).take_while(|folder| *folder != root && *folder != root.join("snapshots"));
    for folder in folders {
        if std::fs::remove_dir(folder).is_err() {
            return;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::hub::testing::{COMMIT, Cache, DIGEST, OTHER};

    fn removed(cache: &Cache, text: &str, dry_run: bool) -> Result<Freed> {
        remove(&text.parse().unwrap(), &cache.options, dry_run)
    }

    fn full(name: &str) -> Cache {
        let cache = Cache::new(name);
        cache.add("org/name", COMMIT, "m-Q4_0.gguf", b"4444");
        cache.add("org/name", COMMIT, "m-Q8_0.gguf", b"88888888");
        cache.add("org/name", COMMIT, "README.md", b"r");
        cache.add("org/name", OTHER, "m-Q8_0.gguf", b"88888888");
        cache.add("org/name", OTHER, "m-F16.gguf", b"16");
        cache.repo("org/name").write_ref("main", COMMIT).unwrap();
        cache
    }

    #[test]
    fn removing_a_revision_frees_only_what_no_other_uses() {
        let cache = full("rm-revision");
        let expected = Freed { bytes: 5, blobs: 2, files: 3, shared: 1 };
        for dry_run in [true, false] {
            assert_eq!(removed(&cache, "org/name@main", dry_run).unwrap(), expected);
        }
        assert!(!cache.repo("org/name").snapshot(COMMIT).exists() && cache.repo("org/name").commit_of("main").is_none());
        let repos = scan::list(&cache.options).unwrap();
        assert_eq!((repos[0].revisions.len(), repos[0].size), (1, 10));
        assert_eq!(std::fs::read(cache.repo("org/name").snapshot(OTHER).join("m-Q8_0.gguf")).unwrap(), b"88888888");
        assert!(matches!(removed(&cache, "org/name@main", false), Err(Error::NotFound { .. })));
    }

    #[test]
    fn removing_a_quantisation_leaves_the_others_and_takes_the_rest_with_the_last() {
        let cache = full("rm-quant");
        assert_eq!(removed(&cache, "org/name:q4_0", false).unwrap(), Freed { bytes: 4, blobs: 1, files: 1, shared: 0 });
        assert_eq!(removed(&cache, "org/name@main:Q8_0", false).unwrap(), Freed { bytes: 1, blobs: 1, files: 2, shared: 1 });
        // Without a revision it is that of `main`, and no other's.
        assert!(matches!(removed(&cache, "org/name:Q8_0", false), Err(Error::NotFound { .. })));
        let other = |pick: &str| removed(&cache, &format!("org/name@{OTHER}:{pick}"), false);
        assert_eq!(other("Q8_0").unwrap().bytes, 8);
        assert!(matches!(other("Q2_K"), Err(Error::NotFound { .. })));
        assert_eq!(other("m-F16.gguf").unwrap().bytes, 2);
        assert!(scan::list(&cache.options).unwrap().is_empty());
    }

    #[test]
    fn what_lacks_a_part_can_be_removed_and_a_projector_goes_with_the_last_model() {
        let cache = Cache::new("rm-parts");
        cache.add("org/name", COMMIT, "m-Q4_0-00001-of-00002.gguf", b"4444");
        cache.add("org/name", COMMIT, "m-Q8_0.gguf", b"88888888");
        cache.add("org/name", COMMIT, "mmproj-F16.gguf", b"16");
        cache.repo("org/name").write_ref("main", COMMIT).unwrap();
        assert_eq!(removed(&cache, "org/name:Q4_0", false).unwrap().bytes, 4);
        assert_eq!(removed(&cache, "org/name:Q8_0", false).unwrap().bytes, 10);
        assert!(scan::list(&cache.options).unwrap().is_empty());
    }

    #[test]
    fn removing_a_repository_takes_interrupted_downloads_with_it() {
        let cache = full("rm-repo");
        cache.write("models--org--name/blobs", &format!("{DIGEST}.incomplete"), b"123");
        assert_eq!(removed(&cache, "org/name", true).unwrap().bytes, 4 + 8 + 1 + 2 + 3);
        assert_eq!(removed(&cache, "org/name", false).unwrap().files, 5);
        assert!(!cache.repo("org/name").root.exists());
        assert!(matches!(removed(&cache, "org/name", false), Err(Error::NotFound { .. })));
    }
}
