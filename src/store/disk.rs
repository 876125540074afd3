//! What files take on the disk: one file may have several names (links of both kinds), and counts once.

use std::collections::BTreeMap;
use std::path::Path;

/// What makes two names the same file.
#[cfg(unix)]
pub(crate) type Identity = (u64, u64);
/// What makes two names the same file.
#[cfg(not(unix))]
pub(crate) type Identity = std::path::PathBuf;

/// A file on the disk.
pub(crate) struct OnDisk {
    pub identity: Identity,
    /// Its bytes.
    pub len: u64,
    /// How many names it has, symbolic links not counted; 1 where the system does not tell.
    pub names: u64,
}

/// The file that `path` leads to through any number of links; `None` if it leads to no file.
pub(crate) fn file(path: &Path) -> Option<OnDisk> {
    of(path, &std::fs::metadata(path).ok().filter(std::fs::Metadata::is_file)?)
}

/// The file that `path` itself names; `None` if that is a link, or anything else.
pub(crate) fn regular(path: &Path) -> Option<OnDisk> {
    of(path, &path.symlink_metadata().ok().filter(std::fs::Metadata::is_file)?)
}

#[cfg(unix)]
fn of(_: &Path, metadata: &std::fs::Metadata) -> Option<OnDisk> {
    use std::os::unix::fs::MetadataExt;
    Some(OnDisk { identity: (metadata.dev(), metadata.ino()), len: metadata.len(), names: metadata.nlink() })
}

#[cfg(not(unix))]
fn of(path: &Path, metadata: &std::fs::Metadata) -> Option<OnDisk> {
    Some(OnDisk { identity: path.canonicalize().ok()?, len: metadata.len(), names: 1 })
}

/// Bytes of the files that `paths` lead to, each counted once.
pub(crate) fn size<'a>(paths: impl Iterator<Item = &'a Path>) -> u64 {
    let found: BTreeMap<Identity, u64> = paths.filter_map(file).map(|file| (file.identity, file.len)).collect();
    found.values().sum()
}
