//! What the cache holds. Nothing here needs the network, nor does it write.

use super::cache::{Repo, is_commit, len, walk};
use super::shared::{Store, Users};
use super::{CachedFile, CachedRepo, CachedRevision, HubOptions};
use crate::error::{Error, Result};
use crate::store::disk;
use std::collections::{BTreeMap, BTreeSet};
use std::io::ErrorKind;
use std::path::Path;
use std::time::SystemTime;

/// See [`super::list`].
pub(super) fn list(hub: &HubOptions) -> Result<Vec<CachedRepo>> {
    let entries = match std::fs::read_dir(&hub.cache) {
        Ok(entries) => entries,
        Err(e) if e.kind() == ErrorKind::NotFound => return Ok(Vec::new()),
        Err(e) => return Err(Error::io(&hub.cache, e)),
    };
    let mut repos = Vec::new();
    let shared = Shared::of(hub);
    for entry in entries {
        let name = entry.map_err(|e| Error::io(&hub.cache, e))?.file_name();
        // Folders of other kinds (datasets, spaces) and of other programs are not ours.
        if let Some(repo) = name.to_str().and_then(|name| name.strip_prefix("models--")) {
            // One folder that is no repository, or can not be read, hides no other.
            match described(&repo.replace("--", "/"), hub, &shared) {
                Ok(found) => repos.extend(found),
                Err(error) => log::warn!("{}: {error}", hub.cache.join(&name).display()),
            }
        }
    }
    repos.sort_by(|a, b| a.repo.cmp(&b.repo));
    Ok(repos)
}

/// What repositories of the cache share.
struct Shared {
    store: Option<Store>,
    users: Users,
}

impl Shared {
    fn of(hub: &HubOptions) -> Shared {
        let store = Store::of(&hub.cache);
        Shared { users: store.as_ref().map(Store::users).unwrap_or_default(), store }
    }

    /// Whether another repository than that in `root` uses the same bytes.
    fn has_others(&self, blob: &Path, root: &Path) -> bool {
        let target = self.store.as_ref().and_then(|store| store.target(blob));
        let users = target.and_then(|target| self.users.get(&target));
        users.is_some_and(|users| users.iter().any(|user| !user.starts_with(root)))
    }
}

/// A repository in the cache; `None` if it has no folder there.
pub(super) fn cached(repo: &str, hub: &HubOptions) -> Result<Option<CachedRepo>> {
    described(repo, hub, &Shared::of(hub))
}

fn described(repo: &str, hub: &HubOptions, shared: &Shared) -> Result<Option<CachedRepo>> {
    let folder = Repo::of(repo, hub)?;
    if !folder.root.is_dir() {
        return Ok(None);
    }
    let refs = refs(&folder.root.join("refs"))?;
    let mut revisions = Vec::new();
    for commit in names(&folder.root.join("snapshots")) {
        let files = folder.files(&commit)?;
        if !is_commit(&commit) || files.is_empty() {
            continue;
        }
        revisions.push(CachedRevision {
            refs: refs.iter().filter(|(_, to)| **to == commit).map(|(name, _)| name.clone()).collect(),
            path: folder.snapshot(&commit),
            size: size(&files),
            modified: files.iter().map(|file| file.modified).max().unwrap_or(SystemTime::UNIX_EPOCH),
            files,
            commit,
        });
    }
    revisions.sort_by(|a, b| b.modified.cmp(&a.modified).then_with(|| a.commit.cmp(&b.commit)));
    let shown: BTreeSet<&Path> = revisions.iter().flat_map(|r| &r.files).map(|file| file.blob.as_path()).collect();
    let blobs = walk(&folder.root.join("blobs"))?;
    let (partial, whole): (Vec<_>, Vec<_>) = blobs.iter().partition(|path| path.extension().is_some_and(|e| e == "incomplete"));
    let loose = whole.into_iter().map(|path| path.as_path()).filter(|path| !shown.contains(path));
    Ok(Some(CachedRepo {
        repo: repo.to_owned(),
        size: disk::size(shown.iter().copied()),
        shared: disk::size(shown.iter().copied().filter(|blob| shared.has_others(blob, &folder.root))),
        loose: disk::size(loose),
        partial: partial.into_iter().filter_map(|path| len(path)).sum(),
        path: folder.root,
        revisions,
    }))
}

/// Bytes of a snapshot's files, each blob counted once.
fn size(files: &[CachedFile]) -> u64 {
    let blobs: BTreeMap<&Path, u64> = files.iter().map(|file| (file.blob.as_path(), file.size)).collect();
    blobs.values().sum()
}

/// Branches and tags, and the commits they are.
fn refs(folder: &Path) -> Result<BTreeMap<String, String>> {
    let mut refs = BTreeMap::new();
    for path in walk(folder)? {
        let parts: Option<Vec<&str>> =
            path.strip_prefix(folder).ok().and_then(|path| path.iter().map(|part| part.to_str()).collect());
        if let (Some(parts), Ok(commit)) = (parts, std::fs::read_to_string(&path)) {
            refs.insert(parts.join("/"), commit.trim().to_owned());
        }
    }
    Ok(refs)
}

fn names(folder: &Path) -> Vec<String> {
    let entries = std::fs::read_dir(folder).into_iter().flatten().flatten();
    entries.filter_map(|entry| entry.file_name().into_string().ok()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::hub::testing::{COMMIT, Cache, DIGEST, OTHER};

    #[test]
    fn the_list_counts_a_shared_blob_once_and_tells_what_is_partial() {
        let cache = Cache::new("list");
        assert!(list(&cache.options).unwrap().is_empty());
        cache.add("org/name", COMMIT, "a.gguf", b"12345");
        cache.add("org/name", COMMIT, "README.md", b"123");
        cache.add("org/name", OTHER, "sub/a.gguf", b"12345");
        cache.repo("org/name").write_ref("main", COMMIT).unwrap();
        cache.repo("org/name").write_ref("refs/pr/1", COMMIT).unwrap();
        cache.write("models--org--name/blobs", &format!("{DIGEST}.incomplete"), b"1234567");
        cache.write("datasets--org--data/blobs", DIGEST, b"1");
        let repos = list(&cache.options).unwrap();
        assert_eq!(repos.len(), 1);
        assert_eq!((repos[0].repo.as_str(), repos[0].size, repos[0].partial), ("org/name", 8, 7));
        let revision = repos[0].revisions.iter().find(|revision| revision.commit == COMMIT).unwrap();
        assert_eq!((revision.size, &revision.refs[..]), (8, &["main".to_owned(), "refs/pr/1".to_owned()][..]));
        assert_eq!(revision.files.iter().map(|file| file.path.as_str()).collect::<Vec<_>>(), ["README.md", "a.gguf"]);
        assert_eq!(repos[0].revisions.len(), 2);
    }
}
