//! A cache of a test's own, below the system's temporary folder, and gone with it.

use super::cache::Repo;
use super::{HubOptions, PlannedFile};
use std::hash::{BuildHasher, BuildHasherDefault, DefaultHasher};

pub(crate) const COMMIT: &str = "0123456789abcdef0123456789abcdef01234567";
pub(crate) const OTHER: &str = "fedcba9876543210fedcba9876543210fedcba98";
/// The sha256 of no bytes.
pub(super) const DIGEST: &str = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";

pub(crate) struct Cache {
    pub options: HubOptions,
}

impl Cache {
    pub fn new(test: &str) -> Self {
        let cache = std::env::temp_dir().join(format!("tallow-hub-{}-{test}", std::process::id()));
        let _ = std::fs::remove_dir_all(&cache);
        let endpoint = "http://127.0.0.1:1".to_owned();
        Cache { options: HubOptions { cache, endpoint, token: None, offline: false, ..HubOptions::from_env() } }
    }

    pub(super) fn repo(&self, repo: &str) -> Repo {
        Repo::of(repo, &self.options).unwrap()
    }

    /// Points a branch at a commit.
    pub fn mark(&self, repo: &str, branch: &str, commit: &str) {
        self.repo(repo).write_ref(branch, commit).unwrap();
    }

    /// Writes a file below the cache.
    pub fn write(&self, folder: &str, name: &str, bytes: &[u8]) {
        let folder = self.options.cache.join(folder);
        std::fs::create_dir_all(&folder).unwrap();
        std::fs::write(folder.join(name), bytes).unwrap();
    }

    /// Adds a file to a snapshot; equal bytes share a blob. Its name looks like a digest and is none.
    pub fn add(&self, repo: &str, commit: &str, path: &str, bytes: &[u8]) {
        let hash = BuildHasherDefault::<DefaultHasher>::default().hash_one(bytes);
        let digest = format!("{hash:040x}");
        self.write(&format!("models--{}/blobs", repo.replace('/', "--")), &digest, bytes);
        let file = PlannedFile { path: path.to_owned(), size: bytes.len() as u64, digest, present: true, partial: 0 };
        self.repo(repo).link(commit, &file).unwrap();
    }
}

impl Drop for Cache {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.options.cache);
    }
}
