//! Models of the Hugging Face Hub: what a pull needs, fetched into the cache that Python's `huggingface_hub` shares.
//!
//! [`pull`] is [`plan`] (which files, how many bytes) and [`fetch`]. Downloads resume after any interruption, every file is
//! verified against the digest the Hub names before it gets its name, and the reference that makes a revision visible is
//! written last: what looks whole is whole. [`locate`], [`list`] and [`remove`] read the disk only, and are there without
//! the feature `hub` too. Networking runs on threads of its own, so that a caller inside an async runtime is safe.
//!
//! ```no_run
//! use tallow::store::hub::{self, HubOptions, PullOptions};
//!
//! let hub = HubOptions::from_env();
//! let reference = "HuggingFaceTB/SmolLM2-360M-Instruct-GGUF:Q8_0".parse()?;
//! let pulled = hub::pull(&reference, &hub, &PullOptions::default(), &())?;
//! println!("{}", pulled.path.display());
//! # Ok::<(), tallow::Error>(())
//! ```

mod cache;
mod environment;
mod fetch;
mod kinds;
mod options;
mod pick;
mod plan;
#[cfg(feature = "hub")]
mod reach;
#[cfg_attr(not(feature = "hub"), path = "absent.rs")]
mod remote;
mod remove;
mod scan;
mod select;
mod shared;
#[cfg(test)]
pub(crate) mod testing;
mod unusable;

pub use options::HubOptions;
pub(crate) use pick::{ggufs, of_quant, quant_of, split};
#[cfg(feature = "hub")]
pub use reach::reachable;

use crate::error::{Error, Result};
use crate::store::disk;
use crate::store::hub_ref::HubRef;
use std::io::{Read, Seek, SeekFrom};
use std::ops::Range;
use std::path::PathBuf;
use std::time::{Duration, SystemTime};

/// What of a repository is pulled, beyond what its reference says.
#[derive(Debug, Clone, Default)]
pub struct PullOptions {
    /// Globs: exactly the files that match one of them, instead of those that a model needs.
    pub include: Vec<String>,
    /// Globs: none of the files that match one of them.
    pub exclude: Vec<String>,
    /// Fetch also what is there.
    pub force: bool,
}

/// What a pull will do.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct PullPlan {
    /// `organisation/name`.
    pub repo: String,
    /// The branch, tag or commit asked for.
    pub revision: String,
    /// The commit that it is now.
    pub commit: String,
    /// Every file that is wanted, those present too.
    pub files: Vec<PlannedFile>,
    /// What of them is loaded.
    pub weights: PlannedModel,
    /// Whether a licence must be accepted on the Hub: `auto` or `manual`.
    pub gated: Option<String>,
    /// The licence that the model card names.
    pub license: Option<String>,
    /// Files that are present are fetched again.
    pub force: bool,
}

/// What of a snapshot is loaded.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum PlannedModel {
    /// This GGUF file, the first one if it is split.
    Gguf(String),
    /// The snapshot's folder: `config.json` and safetensors, or whatever `include` asked for.
    Folder,
}

/// A file of a [`PullPlan`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PlannedFile {
    /// Its path in the repository.
    pub path: String,
    /// Its bytes.
    pub size: u64,
    /// The digest it is checked against and stored under: sha256 of a large file, the git blob id of another.
    pub digest: String,
    /// It is in the cache, complete.
    pub present: bool,
    /// Bytes that an interrupted download left.
    pub partial: u64,
}

impl PullPlan {
    /// Bytes of all files.
    pub fn size(&self) -> u64 {
        self.files.iter().map(|file| file.size).sum()
    }

    /// Bytes still to come over the network.
    pub fn missing(&self) -> u64 {
        let wanted = self.files.iter().filter(|file| self.force || !file.present);
        wanted.map(|file| file.size.saturating_sub(file.partial)).sum()
    }

    /// What to load once it is fetched: the GGUF file or the folder.
    pub fn path(&self, hub: &HubOptions) -> PathBuf {
        let snapshot = cache::Repo::unchecked(&self.repo, hub).snapshot(&self.commit);
        match &self.weights {
            PlannedModel::Gguf(file) => snapshot.join(file),
            PlannedModel::Folder => snapshot,
        }
    }
}

/// A model that is in the cache.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Pulled {
    /// The GGUF file or the folder to load.
    pub path: PathBuf,
    /// The snapshot's folder.
    pub snapshot: PathBuf,
    /// The commit.
    pub commit: String,
    /// Bytes of its files.
    pub size: u64,
    /// Bytes that came over the network just now.
    pub fetched: u64,
}

/// Who hears how a download goes; called from several threads. `()` is silent.
///
/// `asking` and `begin` come first and `end` last. For each file between them: `start`, then `advance` for new bytes only (so that `already` and they sum up to `size`), `verify`, `done`.
#[allow(unused_variables)]
pub trait Progress: Send + Sync {
    /// The Hub, or the cache, is asked which files `repo` has.
    fn asking(&self, repo: &str) {}
    /// The files of `plan` are fetched, those that the cache lacks.
    fn begin(&self, plan: &PullPlan) {}
    /// All of them are in the cache.
    fn end(&self, pulled: &Pulled) {}
    /// `file` of `size` bytes begins; `already` of them are there.
    fn start(&self, file: &str, size: u64, already: u64) {}
    /// So many more bytes came.
    fn advance(&self, file: &str, bytes: u64) {}
    /// All bytes are there; the digest is compared.
    fn verify(&self, file: &str) {}
    /// The file is in the cache.
    fn done(&self, file: &str) {}
    /// An attempt failed; the next follows after `wait`.
    fn retry(&self, file: &str, why: &str, wait: Duration) {}
    /// Another process is fetching this file; it is waited for.
    fn waiting(&self, file: &str) {}
}

impl Progress for () {}

/// Asks the Hub which files `reference` needs, and the cache which of them are there.
///
/// Offline, and for a commit whose files are in the cache, the cache answers alone and no socket is opened.
///
/// # Errors
/// [`Error::NotLocal`] offline, [`Error::NotFound`] for what the repository does not have, [`Error::Unsupported`] for files
/// that tallow can not read, [`Error::Network`], [`Error::Gated`] and [`Error::Unauthorised`] by what the Hub says.
pub fn plan(reference: &HubRef, hub: &HubOptions, pull: &PullOptions) -> Result<PullPlan> {
    plan::plan(reference, hub, pull)
}

/// Fetches what `plan` lacks; what an interruption left is resumed. If nothing is lacking, no socket is opened.
///
/// # Errors
/// [`Error::NotLocal`] offline, [`Error::Network`] and its kin, [`Error::Checksum`] for files that came damaged twice,
/// [`Error::Io`] for a disk that is full, [`Error::Cancelled`].
pub fn fetch(plan: &PullPlan, hub: &HubOptions, progress: &dyn Progress) -> Result<Pulled> {
    progress.begin(plan);
    let pulled = fetch::fetch(plan, hub, progress)?;
    progress.end(&pulled);
    Ok(pulled)
}

/// [`plan`] and [`fetch`]. Offline, or for a commit that is cached, no socket is opened.
///
/// # Errors
/// Those of both.
pub fn pull(reference: &HubRef, hub: &HubOptions, pull: &PullOptions, progress: &dyn Progress) -> Result<Pulled> {
    progress.asking(&reference.repo);
    fetch(&plan(reference, hub, pull)?, hub, progress)
}

/// A part of a planned file, for a look at its header: from the cache if it is there, else from the Hub. A range beyond the
/// end of the file is cut there.
///
/// # Errors
/// [`Error::Io`] for the cache, [`Error::Network`] and its kin for the Hub.
pub fn read_range(plan: &PullPlan, file: &PlannedFile, hub: &HubOptions, range: Range<u64>) -> Result<Vec<u8>> {
    let range = range.start.min(file.size)..range.end.min(file.size);
    if range.is_empty() {
        return Ok(Vec::new());
    }
    let repo = cache::Repo::of(&plan.repo, hub)?;
    let snapshot = repo.snapshot(&plan.commit).join(&file.path);
    let path = [snapshot, repo.blob(&file.digest)].into_iter().find(|path| cache::len(path) == Some(file.size));
    let Some(path) = path.filter(|_| file.present) else { return remote::read_range(plan, file, hub, range) };
    let mut bytes = vec![0; usize::try_from(range.end - range.start).map_err(|e| Error::Input(e.to_string()))?];
    let mut open = std::fs::File::open(&path).map_err(|e| Error::io(&path, e))?;
    open.seek(SeekFrom::Start(range.start)).and_then(|_| open.read_exact(&mut bytes)).map_err(|e| Error::io(&path, e))?;
    Ok(bytes)
}

/// The file or folder to load, if the whole model is in the cache: what [`pull`] would give, without asking the Hub.
///
/// # Errors
/// [`Error::Io`] and [`Error::Corrupt`] for a cache that can not be read.
pub fn locate(reference: &HubRef, hub: &HubOptions) -> Result<Option<PathBuf>> {
    Ok(plan::on_disk(reference, hub, &PullOptions::default())?.map(|plan| plan.path(hub)))
}

/// A model repository in the cache.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct CachedRepo {
    /// `organisation/name`.
    pub repo: String,
    /// Its folder in the cache.
    pub path: PathBuf,
    /// Its snapshots, the newest first.
    pub revisions: Vec<CachedRevision>,
    /// Bytes of its blobs, each counted once; those of [`CachedRepo::shared`] with them.
    pub size: u64,
    /// Bytes of them that other repositories of the cache use as well: they stay when this one goes.
    pub shared: u64,
    /// Bytes of blobs that no snapshot shows: what an interrupted pull or removal left.
    pub loose: u64,
    /// Bytes of interrupted downloads.
    pub partial: u64,
}

/// A snapshot in the cache.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct CachedRevision {
    /// The commit.
    pub commit: String,
    /// Branches and tags that point here.
    pub refs: Vec<String>,
    /// The snapshot's folder.
    pub path: PathBuf,
    /// Its files, by path.
    pub files: Vec<CachedFile>,
    /// Bytes of them; two files of equal bytes are one.
    pub size: u64,
    /// When its newest file came.
    pub modified: SystemTime,
}

/// A file of a snapshot.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct CachedFile {
    /// Its path in the repository.
    pub path: String,
    /// Its bytes.
    pub size: u64,
    /// Where they lie: the blob, or the file itself where links are impossible.
    pub blob: PathBuf,
    /// When it came.
    pub modified: SystemTime,
}

/// Every model repository in the cache, by name.
///
/// # Errors
/// [`Error::Io`] for a cache that can not be read.
pub fn list(hub: &HubOptions) -> Result<Vec<CachedRepo>> {
    scan::list(hub)
}

/// Bytes that the files of these repositories take on the disk. What several of them share counts once, so that this may
/// be less than the sum of their sizes.
pub fn size_on_disk(repos: &[CachedRepo]) -> u64 {
    let files = repos.iter().flat_map(|repo| &repo.revisions).flat_map(|revision| &revision.files);
    disk::size(files.map(|file| file.blob.as_path()))
}

/// The files, with their bytes, that lie in the store which repositories of a cache share and that none of them uses.
pub fn unused(hub: &HubOptions) -> Vec<(PathBuf, u64)> {
    shared::Store::of(&hub.cache).map(|store| store.unused()).unwrap_or_default()
}

/// What [`remove`] freed, or would free.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Freed {
    /// Bytes on the disk.
    pub bytes: u64,
    /// Blobs that nothing else used.
    pub blobs: usize,
    /// Files of snapshots.
    pub files: usize,
    /// Blobs of these files that stay because another revision, name or repository uses them.
    pub shared: usize,
}

/// Removes a repository (no revision named), a snapshot (one is), or only the GGUF files of a quantisation or name.
///
/// A blob goes only if no other snapshot uses it, and one that repositories share with the last of them. `dry_run` only
/// counts. What is not there is [`Error::NotFound`].
///
/// # Errors
/// [`Error::NotFound`] for what is not there, [`Error::Io`] for what can not be deleted.
pub fn remove(reference: &HubRef, hub: &HubOptions, dry_run: bool) -> Result<Freed> {
    remove::remove(reference, hub, dry_run)
}
