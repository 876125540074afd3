//! The files that repositories of one cache share: the store of `huggingface_hub` 1.32 and later.
//!
//! ```text
//! blobs/.huggingface-shared-blobs        "1\n", the version of this layout
//! blobs/XX/HASH                          bytes; HASH is that of Xet, XX its first two digits
//! blobs/XX/HASH.refs                     its users, a line each: models--org--name/blobs/DIGEST
//! blobs/XX/HASH.lock                     flock(2), held while a user comes or goes
//! models--org--name/blobs/DIGEST         a relative link to blobs/XX/HASH
//! ```
//! tallow never adds to the store; it takes its own users out. The list of users is a hint, as it is
//! for `huggingface_hub`: a line counts only if the link it names leads here, and without a list that
//! can be read nothing is deleted. Beyond that, a link that the list forgot keeps its file, too.
//! Source: `utils/_shared_blobs.py` of `huggingface_hub` 2.4.0, read for its behaviour.

use crate::store::disk::{self, OnDisk};
use std::collections::{BTreeMap, BTreeSet};
use std::fs::{File, OpenOptions, TryLockError};
use std::io::{ErrorKind, Write};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

const FOLDER: &str = "blobs";
const MARKER: &str = ".huggingface-shared-blobs";
const VERSION: &str = "1\n";
/// Others hold the lock for a rename, or for a copy of one file at worst.
const PATIENCE: Duration = Duration::from_secs(30);

/// The users of each file of the store.
pub(super) type Users = BTreeMap<PathBuf, BTreeSet<PathBuf>>;

/// The store of a cache.
pub(super) struct Store {
    cache: PathBuf,
    /// With every link resolved, for comparison.
    folder: PathBuf,
}

impl Store {
    /// The store of `cache`; `None` if it has none of a layout that is known.
    pub fn of(cache: &Path) -> Option<Store> {
        let folder = cache.join(FOLDER);
        let is_folder = folder.symlink_metadata().is_ok_and(|metadata| metadata.is_dir());
        let marker = folder.join(MARKER);
        let is_marked = disk::regular(&marker).is_some() && std::fs::read_to_string(&marker).is_ok_and(|text| text == VERSION);
        let folder = folder.canonicalize().ok().filter(|_| is_folder && is_marked)?;
        Some(Store { cache: cache.to_owned(), folder })
    }

    /// The file of the store that `blob` is a link to; `None` for any other file or link.
    pub fn target(&self, blob: &Path) -> Option<PathBuf> {
        blob.symlink_metadata().ok().filter(|metadata| metadata.is_symlink())?;
        let target = blob.canonicalize().ok()?;
        let mut parts = target.strip_prefix(&self.folder).ok()?.iter().map(|part| part.to_str());
        let (Some(Some(prefix)), Some(Some(hash)), None) = (parts.next(), parts.next(), parts.next()) else {
            return None;
        };
        (is_hash(hash) && hash.starts_with(prefix) && prefix.len() == 2 && target.is_file()).then_some(target)
    }

    /// Every link of the cache that leads to the store, whatever kind of repository has it.
    pub fn users(&self) -> Users {
        let mut users = Users::new();
        for repo in paths(&self.cache).into_iter().filter(|path| is_repo(path)) {
            for blob in paths(&repo.join("blobs")) {
                if let Some(target) = self.target(&blob) {
                    users.entry(target).or_default().insert(blob);
                }
            }
        }
        users
    }

    /// The users that the list beside a file names and that do lead to it; `None` without a list that
    /// can be trusted.
    fn listed(&self, target: &Path) -> Option<BTreeSet<PathBuf>> {
        let list = beside(target, ".refs");
        disk::regular(&list)?;
        let text = std::fs::read_to_string(&list).ok()?;
        let mut users = BTreeSet::new();
        for line in text.lines() {
            let [repo, "blobs", digest] = line.split('/').collect::<Vec<_>>()[..] else { continue };
            let blob = self.cache.join(repo).join("blobs").join(digest);
            if !is_repo(Path::new(repo)) || !super::cache::is_safe_path(line) {
                continue;
            }
            match blob.symlink_metadata() {
                Ok(_) if self.target(&blob).is_some_and(|found| found == target) => _ = users.insert(blob),
                Ok(_) => {}
                Err(e) if matches!(e.kind(), ErrorKind::NotFound | ErrorKind::NotADirectory) => {}
                // Who can not be asked may be a user.
                Err(_) => return None,
            }
        }
        Some(users)
    }

    /// The bytes that go with these links; `None` if the file stays.
    pub fn would_free(&self, target: &Path, going: &BTreeSet<PathBuf>, users: &Users) -> Option<u64> {
        let listed = self.listed(target)?;
        let mut all = listed.iter().chain(users.get(target).into_iter().flatten());
        let is_last = all.all(|user| going.contains(user)) && may_write(target);
        disk::regular(target).filter(|_| is_last).map(|file| freed(&file))
    }

    /// Deletes these links, and then the file if nobody else uses it: the bytes that were freed, `None`
    /// if it stays. `users` are those of before.
    pub fn release(&self, target: &Path, going: &BTreeSet<PathBuf>, users: &Users) -> std::io::Result<Option<u64>> {
        let lock = lock(target);
        for link in going {
            delete(link)?;
        }
        let stays = |why: &str| {
            log::warn!("{}: {why}; it stays on the disk", target.display());
            Ok(None)
        };
        let _lock = match lock {
            Ok(lock) => lock,
            Err(e) => return stays(&format!("the lock of this shared file can not be taken: {e}")),
        };
        let Some(mut left) = self.listed(target) else {
            return stays("the list of users of this shared file (.refs) is missing or can not be read");
        };
        let before = users.get(target).into_iter().flatten();
        left.extend(before.filter(|user| self.target(user).is_some_and(|found| found == target)).cloned());
        if !left.is_empty() {
            if let Err(e) = self.rewrite(target, &left) {
                log::debug!("{}: {e}", beside(target, ".refs").display());
            }
            return Ok(None);
        }
        let Some(file) = disk::regular(target) else { return Ok(None) };
        if let Err(e) = delete(target) {
            return stays(&e.to_string());
        }
        let _ = delete(&beside(target, ".refs"));
        Ok(Some(freed(&file)))
    }

    /// Writes the list of users anew, in one step.
    fn rewrite(&self, target: &Path, users: &BTreeSet<PathBuf>) -> std::io::Result<()> {
        let (list, new) = (beside(target, ".refs"), beside(target, &format!(".refs.{:08x}.tmp", std::process::id())));
        let line = |user: &PathBuf| {
            let parts: Option<Vec<&str>> = user.strip_prefix(&self.cache).ok()?.iter().map(|part| part.to_str()).collect();
            Some(parts?.join("/") + "\n")
        };
        let text: Option<String> = users.iter().map(line).collect();
        let text = text.ok_or(ErrorKind::InvalidData)?;
        let mut file = created(&new)?;
        let written = file.write_all(text.as_bytes()).and_then(|()| file.sync_all());
        let renamed = written.and_then(|()| std::fs::rename(&new, &list));
        renamed.inspect_err(|_| _ = std::fs::remove_file(&new))
    }

    /// Files of the store that no repository uses, with their bytes.
    pub fn unused(&self) -> Vec<(PathBuf, u64)> {
        let users = self.users();
        let prefixes = paths(&self.folder).into_iter().filter(|path| path.symlink_metadata().is_ok_and(|m| m.is_dir()));
        let files = prefixes.flat_map(|prefix| paths(&prefix));
        let is_unused = |path: &PathBuf| {
            let is_file = path.file_name().and_then(|name| name.to_str()).is_some_and(is_hash);
            is_file && !users.contains_key(path)
        };
        files.filter(is_unused).filter_map(|path| disk::regular(&path).map(|file| (path, file.len))).collect()
    }
}

/// What deleting a file frees: nothing if it has another name elsewhere (a hard link).
fn freed(file: &OnDisk) -> u64 {
    if file.names > 1 { 0 } else { file.len }
}

/// The lock of a file of the store, as `huggingface_hub` takes it.
fn lock(target: &Path) -> std::io::Result<File> {
    let file = created(&beside(target, ".lock"))?;
    let end = Instant::now() + PATIENCE;
    loop {
        match file.try_lock() {
            Ok(()) => return Ok(file),
            Err(TryLockError::WouldBlock) if Instant::now() < end => std::thread::sleep(Duration::from_millis(50)),
            Err(TryLockError::WouldBlock) => return Err(std::io::Error::new(ErrorKind::TimedOut, "another process holds it")),
            Err(TryLockError::Error(e)) => return Err(e),
        }
    }
}

/// A file that every user of a shared cache may write. A link in its place is not followed.
fn created(path: &Path) -> std::io::Result<File> {
    if path.symlink_metadata().is_ok_and(|metadata| !metadata.is_file()) {
        return Err(std::io::Error::new(ErrorKind::InvalidInput, "it is no regular file"));
    }
    let file = OpenOptions::new().write(true).create(true).truncate(false).open(path)?;
    #[cfg(unix)]
    {
        use std::os::unix::fs::PermissionsExt;
        // Another user's file stays as it is.
        let _ = file.set_permissions(std::fs::Permissions::from_mode(0o666));
    }
    Ok(file)
}

/// Whether files in the folder of `target` can be deleted, as far as the system tells.
fn may_write(target: &Path) -> bool {
    #[cfg(all(unix, feature = "hub"))]
    return target.parent().is_some_and(|folder| rustix::fs::access(folder, rustix::fs::Access::WRITE_OK).is_ok());
    #[cfg(not(all(unix, feature = "hub")))]
    target.parent().is_some()
}

fn delete(path: &Path) -> std::io::Result<()> {
    std::fs::remove_file(path).or_else(|e| if e.kind() == ErrorKind::NotFound { Ok(()) } else { Err(e) })
}

/// `HASH` and what stands beside it.
fn beside(target: &Path, suffix: &str) -> PathBuf {
    let mut name = target.file_name().unwrap_or_default().to_owned();
    name.push(suffix);
    target.with_file_name(name)
}

/// A hash of Xet.
fn is_hash(name: &str) -> bool {
    name.len() == 64 && super::cache::is_digest(name)
}

/// Whether a folder of the cache has the name of a repository: `models--org--name`, `datasets--...`.
fn is_repo(path: &Path) -> bool {
    let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
    name.split_once("--")
        .is_some_and(|(kind, rest)| kind.chars().all(|c| c.is_ascii_lowercase()) && !kind.is_empty() && !rest.is_empty())
}

/// What a folder holds; nothing if it can not be read.
fn paths(folder: &Path) -> Vec<PathBuf> {
    std::fs::read_dir(folder).into_iter().flatten().flatten().map(|entry| entry.path()).collect()
}
