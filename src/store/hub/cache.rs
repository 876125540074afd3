//! The layout of the cache, as Python's `huggingface_hub` has it, and every name from outside checked before it is a path.
//!
//! ```text
//! models--org--name/blobs/DIGEST              bytes; DIGEST.incomplete while they come
//! models--org--name/snapshots/COMMIT/PATH     relative links to blobs, or the files where links are impossible
//! models--org--name/refs/main                 a commit; written last, so that an interrupted pull is not visible
//! .locks/models--org--name/DIGEST.lock        flock(2), held while a blob is written; these files stay
//! ```
//! A blob may be a link to a file that several repositories share: see [`shared`](super::shared).
//! Source: <https://huggingface.co/docs/huggingface_hub/guides/manage-cache>.

use super::{CachedFile, HubOptions, PlannedFile};
use crate::error::{Error, Result};
use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

/// A model repository's folder in the cache.
#[derive(Debug, Clone)]
pub(super) struct Repo {
    pub root: PathBuf,
    pub locks: PathBuf,
}

impl Repo {
    pub fn of(repo: &str, hub: &HubOptions) -> Result<Self> {
        if repo.is_empty() || !is_safe_path(repo) {
            return Err(Error::Input(format!("{repo:?} is no name of a repository; expected org/name")));
        }
        Ok(Self::unchecked(repo, hub))
    }

    /// For paths that are only told, not opened.
    pub fn unchecked(repo: &str, hub: &HubOptions) -> Self {
        let folder = format!("models--{}", repo.replace('/', "--"));
        Repo { root: hub.cache.join(&folder), locks: hub.cache.join(".locks").join(folder) }
    }

    pub fn blob(&self, digest: &str) -> PathBuf {
        self.root.join("blobs").join(digest)
    }

    pub fn incomplete(&self, digest: &str) -> PathBuf {
        self.root.join("blobs").join(format!("{digest}.incomplete"))
    }

    pub fn snapshot(&self, commit: &str) -> PathBuf {
        self.root.join("snapshots").join(commit)
    }

    /// Whether the file is there with all its bytes, as a blob or in the snapshot.
    pub fn has(&self, commit: &str, file: &PlannedFile) -> bool {
        self.is_linked(commit, file) || is_digest(&file.digest) && len(&self.blob(&file.digest)) == Some(file.size)
    }

    /// Whether the snapshot shows the file with all its bytes.
    pub fn is_linked(&self, commit: &str, file: &PlannedFile) -> bool {
        let path = self.snapshot(commit).join(&file.path);
        let is_other = std::fs::read_link(&path).is_ok_and(|to| to.file_name().is_none_or(|name| name != file.digest.as_str()));
        len(&path) == Some(file.size) && (!is_other || file.digest.is_empty())
    }

    /// Removes what an interrupted download left of a blob that has come by other means, if nobody is at it.
    pub fn sweep(&self, digest: &str) {
        let incomplete = self.incomplete(digest);
        if !is_digest(digest) || len(&incomplete).is_none() || len(&self.blob(digest)).is_none() {
            return;
        }
        let lock = std::fs::File::open(self.locks.join(format!("{digest}.lock")));
        if lock.is_ok_and(|lock| lock.try_lock().is_ok()) {
            let _ = std::fs::remove_file(incomplete);
        }
    }

    /// Makes the snapshot show a blob.
    pub fn link(&self, commit: &str, file: &PlannedFile) -> Result<()> {
        let path = self.snapshot(commit).join(&file.path);
        // A file that is no link tells nothing of its bytes: a blob, which was verified when it came, takes its place.
        let is_link = path.symlink_metadata().is_ok_and(|metadata| metadata.is_symlink());
        if self.is_linked(commit, file) && (is_link || len(&self.blob(&file.digest)).is_none()) {
            return Ok(());
        }
        let up = "../".repeat(2 + file.path.matches('/').count());
        create_parent(&path)?;
        let _ = std::fs::remove_file(&path);
        if symlink(&format!("{up}blobs/{}", file.digest), &path).is_err() && !self.is_linked(commit, file) {
            // No links here: the blob moves, as with Python, so that its bytes are not there twice. One that is itself a
            // relative link would lead nowhere from there.
            let blob = self.blob(&file.digest);
            let is_link = blob.symlink_metadata().is_ok_and(|metadata| metadata.is_symlink());
            let moved = if is_link { std::fs::copy(&blob, &path).map(|_| ()) } else { std::fs::rename(&blob, &path) };
            moved.map_err(|e| Error::io(&path, e))?;
        }
        Ok(())
    }

    /// Makes the snapshot show a file with the bytes of another, where a blob could not be shown twice.
    pub fn copy(&self, commit: &str, from: &PlannedFile, to: &PlannedFile) -> Result<()> {
        let [from, to] = [from, to].map(|file| self.snapshot(commit).join(&file.path));
        create_parent(&to)?;
        std::fs::copy(from, &to).map_err(|e| Error::io(&to, e))?;
        Ok(())
    }

    /// The commit that a branch, a tag or a commit is in the cache.
    pub fn commit_of(&self, revision: &str) -> Option<String> {
        if is_commit(revision) {
            return self.snapshot(revision).is_dir().then(|| revision.to_owned());
        }
        let commit = is_safe_path(revision).then(|| std::fs::read_to_string(self.root.join("refs").join(revision)).ok())??;
        Some(commit.trim().to_owned()).filter(|commit| is_commit(commit))
    }

    /// Points a branch or tag at a commit, in one step.
    pub fn write_ref(&self, revision: &str, commit: &str) -> Result<()> {
        if revision == commit || self.commit_of(revision).as_deref() == Some(commit) {
            return Ok(());
        }
        if !is_safe_path(revision) {
            return Err(Error::Input(format!("revision {revision:?} is no name of a branch, tag or commit")));
        }
        let path = self.root.join("refs").join(revision);
        // Not among the refs: what a kill leaves behind would be taken for a branch.
        let new = self.locks.join(format!("ref-{}.tmp", std::process::id()));
        create_parent(&path)?;
        create_parent(&new)?;
        std::fs::write(&new, commit).map_err(|e| Error::io(&new, e))?;
        std::fs::rename(&new, &path).map_err(|e| Error::io(&path, e))
    }

    /// The files of a snapshot that are really there, by path.
    pub fn files(&self, commit: &str) -> Result<Vec<CachedFile>> {
        let snapshot = self.snapshot(commit);
        let mut files: Vec<CachedFile> = walk(&snapshot)?.iter().filter_map(|path| cached(&snapshot, path)).collect();
        files.sort_by(|a, b| a.path.cmp(&b.path));
        Ok(files)
    }
}

/// A file of a snapshot; `None` for a link that leads nowhere.
fn cached(snapshot: &Path, path: &Path) -> Option<CachedFile> {
    let metadata = std::fs::metadata(path).ok()?;
    // One step of the link only: a blob may itself be a link to the store that repositories share.
    let blob =
        std::fs::read_link(path).ok().and_then(|to| Some(snapshot.parent()?.parent()?.join("blobs").join(to.file_name()?)));
    let parts: Option<Vec<&str>> = path.strip_prefix(snapshot).ok()?.iter().map(|part| part.to_str()).collect();
    Some(CachedFile {
        path: parts?.join("/"),
        size: metadata.len(),
        blob: blob.unwrap_or_else(|| path.to_owned()),
        modified: metadata.modified().unwrap_or(SystemTime::UNIX_EPOCH),
    })
}

/// Every file below `folder`; none if there is no such folder. Links are not followed into folders.
pub(super) fn walk(folder: &Path) -> Result<Vec<PathBuf>> {
    let mut files = Vec::new();
    let entries = match std::fs::read_dir(folder) {
        Ok(entries) => entries,
        Err(e) if matches!(e.kind(), ErrorKind::NotFound | ErrorKind::NotADirectory) => return Ok(files),
        Err(e) => return Err(Error::io(folder, e)),
    };
    for entry in entries {
        let path = entry.map_err(|e| Error::io(folder, e))?.path();
        match path.symlink_metadata() {
            Ok(metadata) if metadata.is_dir() => files.extend(walk(&path)?),
            _ => files.push(path),
        }
    }
    Ok(files)
}

pub(super) fn create_parent(path: &Path) -> Result<()> {
    let parent = path.parent().expect("every path of the cache has a folder above it");
    std::fs::create_dir_all(parent).map_err(|e| Error::io(parent, e))
}

/// The length of the file a path leads to.
pub(super) fn len(path: &Path) -> Option<u64> {
    std::fs::metadata(path).ok().filter(std::fs::Metadata::is_file).map(|metadata| metadata.len())
}

/// A whole commit hash.
pub(super) fn is_commit(text: &str) -> bool {
    text.len() == 40 && is_hex(text)
}

/// A git blob id or a sha256.
pub(super) fn is_digest(text: &str) -> bool {
    matches!(text.len(), 40 | 64) && is_hex(text)
}

fn is_hex(text: &str) -> bool {
    text.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'))
}

/// A relative path with `/` that stays inside the folder it is joined to, on every system.
pub(super) fn is_safe_path(path: &str) -> bool {
    let is_plain =
        |part: &str| !matches!(part, "" | "." | "..") && !part.contains(['\\', ':']) && !part.contains(char::is_control);
    path.split('/').all(is_plain)
}

#[cfg(unix)]
fn symlink(to: &str, at: &Path) -> std::io::Result<()> {
    std::os::unix::fs::symlink(to, at)
}

#[cfg(windows)]
fn symlink(to: &str, at: &Path) -> std::io::Result<()> {
    std::os::windows::fs::symlink_file(to.replace('/', "\\"), at)
}

#[cfg(not(any(unix, windows)))]
fn symlink(_: &str, _: &Path) -> std::io::Result<()> {
    Err(ErrorKind::Unsupported.into())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::hub::testing::{COMMIT, Cache, DIGEST};

    #[test]
    fn names_from_outside_stay_inside() {
        for path in ["a", "a/b.c", ".hidden", "1_Pooling/config.json", "a b/ü#?.txt", "..."] {
            assert!(is_safe_path(path), "{path}");
        }
        for path in ["", "/a", "a/", "a//b", ".", "..", "a/../b", "a\\b", "c:a", "a\0", "a\n"] {
            assert!(!is_safe_path(path), "{path:?}");
        }
        assert!(is_commit(COMMIT) && !is_commit("main") && !is_commit(&COMMIT.to_uppercase()) && !is_commit(DIGEST));
        assert!(is_digest(COMMIT) && is_digest(DIGEST) && !is_digest(&format!("../{}", &COMMIT[3..])) && !is_digest(""));
    }

    #[test]
    fn a_snapshot_shows_a_blob_by_a_relative_link() {
        let cache = Cache::new("links");
        let repo = cache.repo("org/name");
        cache.write("models--org--name/blobs", DIGEST, b"bytes");
        let file = PlannedFile { path: "a/b/c.txt".into(), size: 5, digest: DIGEST.into(), present: true, partial: 0 };
        assert!(repo.has(COMMIT, &file) && !repo.is_linked(COMMIT, &file));
        for _ in 0..2 {
            repo.link(COMMIT, &file).unwrap();
            assert!(repo.is_linked(COMMIT, &file));
        }
        let path = repo.snapshot(COMMIT).join("a/b/c.txt");
        #[cfg(unix)]
        assert_eq!(std::fs::read_link(&path).unwrap(), PathBuf::from(format!("../../../../blobs/{DIGEST}")));
        assert_eq!(std::fs::read(&path).unwrap(), b"bytes");
        let files = repo.files(COMMIT).unwrap();
        assert_eq!((files[0].path.as_str(), files[0].size, &files[0].blob), ("a/b/c.txt", 5, &repo.blob(DIGEST)));
        // A file that is no link, of the right size and with other bytes, gives way to a blob, and stays where there is none.
        std::fs::remove_file(&path).unwrap();
        std::fs::write(&path, b"bytez").unwrap();
        repo.link(COMMIT, &file).unwrap();
        assert_eq!(std::fs::read(&path).unwrap(), b"bytes");
        let twin = PlannedFile { path: "twin.txt".into(), ..file.clone() };
        repo.copy(COMMIT, &file, &twin).unwrap();
        std::fs::remove_file(repo.blob(DIGEST)).unwrap();
        repo.link(COMMIT, &twin).unwrap();
        assert_eq!(std::fs::read(repo.snapshot(COMMIT).join("twin.txt")).unwrap(), b"bytes");
        let shorter = PlannedFile { size: 4, ..file };
        assert!(!repo.has(COMMIT, &shorter));
    }

    #[test]
    fn a_reference_is_found_by_branch_tag_and_commit() {
        let cache = Cache::new("refs");
        let repo = cache.repo("org/name");
        assert_eq!((repo.commit_of("main"), repo.commit_of(COMMIT)), (None, None));
        for revision in ["main", "refs/pr/1"] {
            repo.write_ref(revision, COMMIT).unwrap();
            assert_eq!(repo.commit_of(revision).as_deref(), Some(COMMIT));
        }
        assert!(repo.write_ref("../main", COMMIT).is_err() && repo.commit_of("../refs/main").is_none());
        cache.write("models--org--name/refs", "broken", b"../../etc");
        assert_eq!(repo.commit_of("broken"), None);
        assert_eq!(walk(&repo.root.join("refs")).unwrap().len(), 3);
    }
}
