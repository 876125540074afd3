//! One file of the Hub: its bytes by ranged GET into `DIGEST.incomplete`, checked, then renamed to `DIGEST`.
//!
//! The name and the length come from the tree of the commit, and so does the digest, or a HEAD request before has told it. What an interrupted
//! download left is hashed and then continued; the lock that Python's `huggingface_hub` takes too is held meanwhile. A
//! server that ignores the range is read from the start and its known part skipped, so that progress never goes back.

use super::super::cache::{Repo, len};
use super::super::{HubOptions, PlannedFile, Progress, PullPlan};
use super::answer::{Failure, network, sleep, wait};
use super::client::{Client, ranged};
use super::digest::Digest;
use crate::error::{Error, Result};
use std::fs::{File, OpenOptions, TryLockError};
use std::io::{Error as IoError, ErrorKind, Read, Seek, SeekFrom, Write};
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::time::Duration;

const BUFFER: usize = 1 << 18;

/// Set when another file's download failed.
#[derive(Clone, Copy)]
pub(super) struct Stop<'a>(pub &'a AtomicBool);

impl Stop<'_> {
    fn check(self) -> Result<()> {
        if self.0.load(Relaxed) { Err(network("download", "stopped because another file failed")) } else { Ok(()) }
    }
}

/// A file on its way into the cache.
pub(super) struct Transfer<'a> {
    pub client: &'a Client,
    pub hub: &'a HubOptions,
    pub plan: &'a PullPlan,
    pub repo: &'a Repo,
    pub file: &'a PlannedFile,
    pub progress: &'a dyn Progress,
    pub stop: Stop<'a>,
}

/// What there is of a file, how far the progress knows, and what of it came just now.
struct Partial {
    file: File,
    digest: Digest,
    len: u64,
    told: u64,
    came: u64,
}

impl Transfer<'_> {
    /// Whether to go on: nobody has cancelled, and no other file has failed.
    fn check(&self) -> Result<()> {
        self.hub.check_cancelled()?;
        self.stop.check()
    }

    fn sleep(&self, time: Duration) -> Result<()> {
        sleep(time, self.hub, || self.stop.check())
    }

    /// Brings the blob; returns the bytes that came for it.
    pub fn run(&self) -> Result<u64> {
        let PlannedFile { path, size, digest, .. } = self.file;
        let lock = self.lock()?;
        let blob = self.repo.blob(digest);
        if !self.plan.force && len(&blob) == Some(*size) {
            self.progress.start(path, *size, *size);
            self.progress.done(path);
            return Ok(0);
        }
        let (mut told, mut came) = (None, 0);
        let mut actual = String::new();
        for _ in 0..2 {
            let mut partial = self.open(told)?;
            self.complete(&mut partial)?;
            self.progress.verify(path);
            told = Some(partial.told);
            came += partial.came;
            actual = partial.digest.finish();
            let incomplete = self.repo.incomplete(digest);
            if actual != *digest {
                log::warn!("{path}: its digest is {actual}, expected {digest}; it is deleted");
                std::fs::remove_file(&incomplete).map_err(|e| Error::io(&incomplete, e))?;
                continue;
            }
            partial.file.sync_all().map_err(|e| self.disk(&e, partial.len))?;
            drop(partial.file);
            std::fs::rename(&incomplete, &blob).map_err(|e| Error::io(&blob, e))?;
            drop(lock);
            self.progress.done(path);
            return Ok(came);
        }
        Err(Error::Checksum { file: format!("{}/{path}", self.plan.repo), expected: digest.clone(), actual })
    }

    /// The lock of the blob, as Python's `filelock` takes it.
    fn lock(&self) -> Result<File> {
        let path = self.repo.locks.join(format!("{}.lock", self.file.digest));
        let lock = OpenOptions::new().write(true).create(true).truncate(false).open(&path).map_err(|e| Error::io(&path, e))?;
        let mut is_told = false;
        loop {
            match lock.try_lock() {
                Ok(()) => return Ok(lock),
                Err(TryLockError::WouldBlock) => {}
                // A file system without locks: the digest still guards what gets a name.
                Err(TryLockError::Error(e)) => {
                    log::debug!("{}: {e}", path.display());
                    return Ok(lock);
                }
            }
            if !std::mem::replace(&mut is_told, true) {
                log::info!("{}: another process is fetching it; waiting for {}", self.file.path, path.display());
                self.progress.waiting(&self.file.path);
            }
            self.sleep(Duration::from_millis(100))?;
        }
    }

    /// Opens the partial file and hashes what is in it.
    fn open(&self, told: Option<u64>) -> Result<Partial> {
        let PlannedFile { path, size, digest: expected, .. } = self.file;
        let name = self.repo.incomplete(expected);
        let error = |e| Error::io(&name, e);
        let mut file = OpenOptions::new().read(true).write(true).create(true).truncate(false).open(&name).map_err(error)?;
        let mut len = file.metadata().map_err(error)?.len();
        if len > *size {
            file.set_len(0).map_err(error)?;
            len = 0;
        }
        if told.is_none() {
            self.progress.start(path, *size, len);
        }
        let mut digest = Digest::like(expected, *size);
        let mut buffer = vec![0; BUFFER];
        let mut hashed = 0;
        while hashed < len {
            self.check()?;
            let count = file.read(&mut buffer).map_err(error)?;
            if count == 0 {
                return Err(error(ErrorKind::UnexpectedEof.into()));
            }
            digest.update(&buffer[..count]);
            hashed += count as u64;
        }
        Ok(Partial { file, digest, len, told: told.unwrap_or(len), came: 0 })
    }

    /// Reads until all bytes are there. Only attempts in a row that bring none are counted.
    fn complete(&self, partial: &mut Partial) -> Result<()> {
        let mut failures = 0;
        while partial.len < self.file.size {
            self.check()?;
            let before = partial.len;
            let failure = match self.attempt(partial) {
                Ok(()) if partial.len == self.file.size => return Ok(()),
                Ok(()) => Failure::again(format!("the connection ended after {} of {} bytes", partial.len, self.file.size)),
                Err(failure) => failure,
            };
            failures = if partial.len > before { 0 } else { failures + 1 };
            match failure {
                Failure::Again { why, after } if failures < self.hub.attempts => {
                    let wait = wait(failures, after, self.hub);
                    log::warn!("{}: {why}; continued in {:.1} s", self.file.path, wait.as_secs_f64());
                    self.progress.retry(&self.file.path, &why, wait);
                    self.sleep(wait)?;
                }
                failure => {
                    return Err(
                        failure.into_error(&format!("{} of {} from {}", self.file.path, self.plan.repo, self.hub.endpoint))
                    );
                }
            }
        }
        Ok(())
    }

    /// One request, and as much of its body as comes.
    fn attempt(&self, partial: &mut Partial) -> Result<(), Failure> {
        let size = self.file.size;
        let from = (partial.len > 0).then_some((partial.len, None));
        let response = self.client.get(self.plan, &self.file.path, from, self.hub)?;
        let lies = |what: String| Failure::again(format!("the server has {what}, the repository lists {size} bytes"));
        let (start, total) = match response.status().as_u16() {
            206 => ranged(&response)?,
            416 => {
                self.restart(partial)?;
                return Err(lies(format!("nothing from byte {} on", from.map_or(0, |from| from.0))));
            }
            _ => (0, response.content_length()),
        };
        if total.is_some_and(|total| total != size) {
            return Err(lies(format!("{} bytes", total.unwrap_or(0))));
        }
        if start > partial.len {
            return Err(lies(format!("a part from byte {start}, not from {}", partial.len)));
        }
        let mut known = partial.len - start;
        let mut body = response.take(size - start);
        let mut buffer = vec![0; BUFFER];
        partial.file.seek(SeekFrom::Start(partial.len)).map_err(|e| Failure::Final(self.disk(&e, partial.len)))?;
        loop {
            self.check().map_err(Failure::Final)?;
            let count = match body.read(&mut buffer) {
                Ok(0) => return Ok(()),
                Ok(count) => count,
                Err(e) if e.kind() == ErrorKind::Interrupted => continue,
                Err(e) => return Err(Failure::broken(&e)),
            };
            let skipped = known.min(count as u64);
            known -= skipped;
            let new = &buffer[skipped as usize..count];
            partial.file.write_all(new).map_err(|e| Failure::Final(self.disk(&e, partial.len)))?;
            partial.digest.update(new);
            partial.len += new.len() as u64;
            partial.came += new.len() as u64;
            let untold = partial.len.saturating_sub(partial.told);
            if untold > 0 {
                self.progress.advance(&self.file.path, untold);
                partial.told = partial.len;
            }
        }
    }

    /// Forgets what there is, because the server can not continue it.
    fn restart(&self, partial: &mut Partial) -> Result<(), Failure> {
        partial.file.set_len(0).map_err(|e| Failure::Final(self.disk(&e, partial.len)))?;
        partial.digest = Digest::like(&self.file.digest, self.file.size);
        partial.len = 0;
        Ok(())
    }

    /// An error of the disk, with the number of bytes that are safe on it.
    fn disk(&self, error: &IoError, len: u64) -> Error {
        let path = self.repo.incomplete(&self.file.digest);
        if !matches!(error.kind(), ErrorKind::StorageFull | ErrorKind::QuotaExceeded | ErrorKind::FileTooLarge) {
            return Error::io(path, IoError::new(error.kind(), error.to_string()));
        }
        full(
            &path,
            format!(
                "{error}; {} needs {} more bytes; what has come is kept: free some space and try again to resume",
                self.file.path,
                self.file.size - len
            ),
        )
    }
}

fn full(path: &Path, why: String) -> Error {
    Error::io(path, IoError::new(ErrorKind::StorageFull, why))
}

/// Compares the space there is with what will come.
pub(super) fn check_space(folder: &Path, to_come: u64) -> Result<()> {
    match free_space(folder) {
        Some(free) if free < to_come => Err(full(
            folder,
            format!("{to_come} bytes are to come and {free} are free; free some space, or set HF_HUB_CACHE to another disk"),
        )),
        _ => Ok(()),
    }
}

#[cfg(unix)]
fn free_space(folder: &Path) -> Option<u64> {
    let stat = rustix::fs::statvfs(folder).ok()?;
    Some(stat.f_bavail.saturating_mul(stat.f_frsize))
}

/// Elsewhere the disk says it when it is full.
#[cfg(not(unix))]
fn free_space(_: &Path) -> Option<u64> {
    None
}
