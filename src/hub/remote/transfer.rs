//! One file of the Hub: its bytes by ranged GET into `DIGEST.incomplete`, checked, then renamed to `DIGEST`.
//!
//! The name, the length and the digest come from the tree of the commit, so no HEAD request is needed. What an interrupted
//! download left is hashed and then continued; the lock that Python's `huggingface_hub` takes too is held meanwhile. A
//! server that ignores the range is read from the start and its known part skipped, so that progress never goes back.
//! Redirects to another host do not carry the token: reqwest strips it, and a test holds it to that.

use super::super::cache::{Repo, len};
use super::super::{HubOptions, Plan, PlannedFile, Progress};
use super::answer::{Failure, Refusal, content_range, network, wait};
use super::digest::Digest;
use crate::error::{Error, Result};
use reqwest::blocking::Response;
use reqwest::header::{ACCEPT_ENCODING, CONTENT_RANGE, HeaderName, RANGE, RETRY_AFTER};
use std::fs::{File, OpenOptions, TryLockError};
use std::io::{Error as IoError, ErrorKind, Read, Seek, SeekFrom, Write};
use std::ops::Range;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::time::Duration;

pub(super) const AGENT: &str = concat!("tallow/", env!("CARGO_PKG_VERSION"));
pub(super) const CONNECT: Duration = Duration::from_secs(10);
const BUFFER: usize = 1 << 18;
/// Indexes of shards are read into memory; a longer one is none.
const LONGEST_WHOLE: u64 = 100_000_000;

/// The HTTP client, and how a file's address is written.
pub(super) struct Client {
    http: reqwest::blocking::Client,
    endpoint: reqwest::Url,
}

impl Client {
    pub fn new(hub: &HubOptions) -> Result<Self> {
        let wrong = |why: String| Error::Input(format!("HF_ENDPOINT {:?}: {why}", hub.endpoint));
        let endpoint = reqwest::Url::parse(&hub.endpoint).map_err(|e| wrong(e.to_string()))?;
        if endpoint.cannot_be_a_base() {
            return Err(wrong("expected an address like https://huggingface.co".to_owned()));
        }
        // The timeout of a blocking client is that of the headers, and then of each read of the body.
        let http = reqwest::blocking::Client::builder().user_agent(AGENT).connect_timeout(CONNECT).timeout(hub.timeout);
        Ok(Client { http: http.build().map_err(|e| wrong(e.to_string()))?, endpoint })
    }

    /// Asks for the bytes of a file from `range.start`, to `range.end` or the end.
    fn get(&self, plan: &Plan, path: &str, range: Option<(u64, Option<u64>)>, hub: &HubOptions) -> Result<Response, Failure> {
        let mut url = self.endpoint.clone();
        if let Ok(mut parts) = url.path_segments_mut() {
            parts.pop_if_empty().extend(plan.repo.split('/')).extend(["resolve", &plan.commit]).extend(path.split('/'));
        }
        let mut request = self.http.get(url).header(ACCEPT_ENCODING, "identity");
        if let Some(token) = &hub.token {
            request = request.bearer_auth(token);
        }
        if let Some((from, to)) = range {
            let to = to.map_or(String::new(), |to| (to - 1).to_string());
            request = request.header(RANGE, format!("bytes={from}-{to}"));
        }
        let response = request.send().map_err(|e| Failure::broken(&e.without_url()))?;
        let status = response.status().as_u16();
        if matches!(status, 200 | 206 | 416) {
            return Ok(response);
        }
        let header =
            |name: &str| Some(response.headers().get(HeaderName::from_bytes(name.as_bytes()).ok()?)?.to_str().ok()?.to_owned());
        let refusal = Refusal {
            status,
            code: header("x-error-code"),
            message: header("x-error-message"),
            after: header(RETRY_AFTER.as_str()).and_then(|text| text.trim().parse().ok()).map(Duration::from_secs),
        };
        // The signed address of a storage host runs out; the next attempt gets a new one.
        let is_elsewhere =
            response.url().host_str() != self.endpoint.host_str() || response.url().port() != self.endpoint.port();
        if is_elsewhere && refusal.code.is_none() && matches!(status, 401 | 403) {
            return Err(Failure::again(format!("the storage host refuses with HTTP status {status}")));
        }
        Err(refusal.failure(&plan.repo, &plan.commit, Some(path), hub))
    }
}

/// Set when another file's download failed.
#[derive(Clone, Copy)]
pub(super) struct Stop<'a>(pub &'a AtomicBool);

impl Stop<'_> {
    fn check(self) -> Result<()> {
        if self.0.load(Relaxed) { Err(network("download", "stopped because another file failed")) } else { Ok(()) }
    }

    /// Sleeps, but not beyond a stop.
    fn sleep(self, time: Duration) -> Result<()> {
        let end = std::time::Instant::now() + time;
        loop {
            self.check()?;
            let left = end.saturating_duration_since(std::time::Instant::now());
            if left.is_zero() {
                return Ok(());
            }
            std::thread::sleep(left.min(Duration::from_millis(100)));
        }
    }
}

/// A file on its way into the cache.
pub(super) struct Transfer<'a> {
    pub client: &'a Client,
    pub hub: &'a HubOptions,
    pub plan: &'a Plan,
    pub repo: &'a Repo,
    pub file: &'a PlannedFile,
    pub progress: &'a dyn Progress,
    pub stop: Stop<'a>,
}

/// What there is of a file, and what of it the progress knows.
struct Partial {
    file: File,
    digest: Digest,
    len: u64,
    told: u64,
}

impl Transfer<'_> {
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
        let mut told = None;
        let mut actual = String::new();
        for _ in 0..2 {
            let mut partial = self.open(told)?;
            let already = *told.get_or_insert(partial.len);
            self.complete(&mut partial)?;
            self.progress.verify(path);
            told = Some(partial.told);
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
            return Ok(size - already);
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
                Err(TryLockError::Error(e)) if e.kind() == ErrorKind::Unsupported => return Ok(lock),
                Err(TryLockError::Error(e)) => return Err(Error::io(path, e)),
            }
            if !std::mem::replace(&mut is_told, true) {
                log::info!("{}: another process is fetching it; waiting for {}", self.file.path, path.display());
                self.progress.waiting(&self.file.path);
            }
            self.stop.sleep(Duration::from_millis(100))?;
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
            self.stop.check()?;
            let count = file.read(&mut buffer).map_err(error)?;
            if count == 0 {
                return Err(error(ErrorKind::UnexpectedEof.into()));
            }
            digest.update(&buffer[..count]);
            hashed += count as u64;
        }
        Ok(Partial { file, digest, len, told: told.unwrap_or(len) })
    }

    /// Reads until all bytes are there. Only attempts in a row that bring none are counted.
    fn complete(&self, partial: &mut Partial) -> Result<()> {
        let mut failures = 0;
        while partial.len < self.file.size {
            self.stop.check()?;
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
                    self.stop.sleep(wait)?;
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
            self.stop.check().map_err(Failure::Final)?;
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
        if !matches!(error.kind(), ErrorKind::StorageFull | ErrorKind::QuotaExceeded) {
            return Error::io(path, IoError::new(error.kind(), error.to_string()));
        }
        full(
            &path,
            format!(
                "{error}; {} needs {} more bytes; what has come is kept: free some space and pull again to resume",
                self.file.path,
                self.file.size - len
            ),
        )
    }
}

fn full(path: &Path, why: String) -> Error {
    Error::io(path, IoError::new(ErrorKind::StorageFull, why))
}

/// Where a partial answer starts, and the length of the whole.
fn ranged(response: &Response) -> Result<(u64, Option<u64>), Failure> {
    let text = response.headers().get(CONTENT_RANGE).and_then(|value| value.to_str().ok()).unwrap_or_default();
    content_range(text).ok_or_else(|| Failure::again(format!("the server sent a part without saying which: {text:?}")))
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

/// See [`crate::hub::read_range`].
pub(super) fn part(plan: &Plan, file: &PlannedFile, hub: &HubOptions, range: Range<u64>) -> Result<Vec<u8>> {
    let client = Client::new(hub)?;
    let mut failures = 0;
    loop {
        let failure = match attempt_part(&client, plan, file, hub, &range) {
            Ok(bytes) => return Ok(bytes),
            Err(failure) => failure,
        };
        failures += 1;
        match failure {
            Failure::Again { why, after } if failures < hub.attempts => {
                let wait = wait(failures, after, hub);
                log::warn!("{}: {why}; asked again in {:.1} s", file.path, wait.as_secs_f64());
                std::thread::sleep(wait);
            }
            failure => return Err(failure.into_error(&format!("{} of {} from {}", file.path, plan.repo, hub.endpoint))),
        }
    }
}

fn attempt_part(
    client: &Client,
    plan: &Plan,
    file: &PlannedFile,
    hub: &HubOptions,
    range: &Range<u64>,
) -> Result<Vec<u8>, Failure> {
    let response = client.get(plan, &file.path, Some((range.start, Some(range.end))), hub)?;
    let start = match response.status().as_u16() {
        206 => ranged(&response)?.0,
        416 => return Err(Failure::again(format!("the server has no bytes {}-{}", range.start, range.end))),
        _ => 0,
    };
    let skipped =
        range.start.checked_sub(start).ok_or_else(|| Failure::again(format!("the server sent a part from byte {start}")))?;
    let mut body = response.take(range.end - start);
    std::io::copy(&mut (&mut body).take(skipped), &mut std::io::sink()).map_err(|e| Failure::broken(&e))?;
    let mut bytes = Vec::new();
    body.read_to_end(&mut bytes).map_err(|e| Failure::broken(&e))?;
    if bytes.len() as u64 != range.end - range.start {
        return Err(Failure::again(format!("the connection ended after {} of {} bytes", bytes.len(), range.end - range.start)));
    }
    Ok(bytes)
}

/// A small file, checked, without writing it: what a plan needs to read.
pub(super) fn whole(plan: &Plan, file: &PlannedFile, repo: &Repo, hub: &HubOptions) -> Result<Vec<u8>> {
    let what = || format!("{}/{}", plan.repo, file.path);
    if file.size > LONGEST_WHOLE || file.size == 0 {
        return Err(Error::corrupt(what(), format!("has {} bytes, expected 1 to {LONGEST_WHOLE}", file.size)));
    }
    let blob = repo.blob(&file.digest);
    if file.present && len(&blob) == Some(file.size) {
        return std::fs::read(&blob).map_err(|e| Error::io(blob, e));
    }
    let bytes = part(plan, file, hub, 0..file.size)?;
    let mut digest = Digest::like(&file.digest, file.size);
    digest.update(&bytes);
    let actual = digest.finish();
    if actual == file.digest { Ok(bytes) } else { Err(Error::Checksum { file: what(), expected: file.digest.clone(), actual }) }
}
