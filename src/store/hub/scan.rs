//! What the cache holds. Nothing here needs the network, nor does it write.

use super::cache::{Repo, is_commit, len, walk};
use super::{CachedRepo, CachedRevision, HubOptions};
use crate::error::{Error, Result};
use std::collections::BTreeMap;
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
    for entry in entries {
        let name = entry.map_err(|e| Error::io(&hub.cache, e))?.file_name();
        // Folders of other kinds (datasets, spaces) and of other programs are not ours.
        if let Some(repo) = name.to_str().and_then(|name| name.strip_prefix("models--")) {
            // One folder that is no repository, or can not be read, hides no other.
            match cached(&repo.replace("--", "/"), hub) {
                Ok(found) => repos.extend(found),
                Err(error) => log::warn!("{}: {error}", hub.cache.join(&name).display()),
            }
        }
    }
    repos.sort_by(|a, b| a.repo.cmp(&b.repo));
    Ok(repos)
}

/// A repository in the cache; `None` if it has no folder there.
pub(super) fn cached(repo: &str, hub: &HubOptions) -> Result<Option<CachedRepo>> {
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
            size: files.iter().map(|file| file.size).sum(),
            modified: files.iter().map(|file| file.modified).max().unwrap_or(SystemTime::UNIX_EPOCH),
            files,
            commit,
        });
    }
    revisions.sort_by(|a, b| b.modified.cmp(&a.modified).then_with(|| a.commit.cmp(&b.commit)));
    let blobs: BTreeMap<_, _> = revisions.iter().flat_map(|r| &r.files).map(|file| (file.blob.clone(), file.size)).collect();
    let partial =
        walk(&folder.root.join("blobs"))?.into_iter().filter(|path| path.extension().is_some_and(|e| e == "incomplete"));
    Ok(Some(CachedRepo {
        repo: repo.to_owned(),
        size: blobs.values().sum(),
        partial: partial.filter_map(|path| len(&path)).sum(),
        path: folder.root,
        revisions,
    }))
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
