//! What goes over the network. All of it runs on threads of its own: the blocking clients of hf-hub and reqwest panic when
//! they are used or dropped on a thread of an async runtime, and a caller's thread may be one.

mod answer;
mod api;
mod client;
mod digest;
mod part;
mod transfer;

use super::cache::{Repo, is_digest, is_safe_path, len};
use super::select::select;
use super::{HubOptions, PlannedFile, Progress, PullOptions, PullPlan};
use crate::error::{Error, Result};
use crate::store::hub_ref::HubRef;
use client::Client;
use std::ops::Range;
use std::path::Path;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::Relaxed};
use transfer::{Stop, Transfer};

/// Asks the Hub what `reference` needs.
pub(super) fn plan(reference: &HubRef, hub: &HubOptions, pull: &PullOptions) -> Result<PullPlan> {
    on_own_thread(|| {
        let repo = Repo::of(&reference.repo, hub)?;
        let client = Client::new(hub, false)?;
        let mut found = api::repository(reference, hub)?;
        let made = PullPlan {
            repo: reference.repo.clone(),
            revision: reference.revision().to_owned(),
            commit: found.commit.clone(),
            files: Vec::new(),
            weights: super::PlannedModel::Folder,
            gated: found.gated.clone(),
            license: found.license.clone(),
            force: pull.force,
        };
        // What could not be a file everywhere is passed over; a model never needs it.
        found.files.retain(|file| is_safe_path(&file.path));
        let paths: Vec<&str> = found.files.iter().map(|file| file.path.as_str()).collect();
        let planned = |path: &str| known(path, &found.files, &made, &client, &repo, hub);
        let choice = select(reference, &paths, pull, &mut |path| part::whole(&made, &planned(path)?, &repo, hub))?;
        let mut files = Vec::new();
        for some in choice.files.chunks(hub.workers.max(1)) {
            let some: Vec<Result<PlannedFile>> = std::thread::scope(|scope| {
                let asked: Vec<_> = some.iter().map(|path| scope.spawn(|| planned(path))).collect();
                asked.into_iter().map(joined).collect()
            });
            files.extend(some.into_iter().collect::<Result<Vec<_>>>()?);
        }
        Ok(PullPlan { files, weights: choice.weights, ..made })
    })
}

/// A listed file with its digest, and what the cache has of it.
fn known(
    path: &str,
    listed: &[PlannedFile],
    plan: &PullPlan,
    client: &Client,
    repo: &Repo,
    hub: &HubOptions,
) -> Result<PlannedFile> {
    let mut file = listed.iter().find(|file| file.path == path).ok_or_else(|| missing(plan, path))?.clone();
    if file.digest.is_empty() {
        let what = format!("{path} of {} from {}", plan.repo, hub.endpoint);
        let linked = linked_digest(&repo.snapshot(&plan.commit), &file);
        file.digest = linked.map_or_else(|| answer::retried(&what, hub, || client.digest(plan, &file, hub)), Ok)?;
    }
    file.present = repo.has(&plan.commit, &file);
    let partial = if file.present { None } else { len(&repo.incomplete(&file.digest)) };
    file.partial = partial.filter(|partial| *partial <= file.size).unwrap_or(0);
    Ok(file)
}

/// The digest of a file that a snapshot shows with all its bytes.
fn linked_digest(snapshot: &Path, file: &PlannedFile) -> Option<String> {
    let path = snapshot.join(&file.path);
    let digest = std::fs::read_link(&path).ok()?.file_name()?.to_str()?.to_owned();
    (len(&path) == Some(file.size) && is_digest(&digest)).then_some(digest)
}

fn missing(plan: &PullPlan, name: &str) -> Error {
    Error::NotFound { what: format!("{name} in {}", plan.repo), hint: "the repository does not list it".to_owned() }
}

/// Fetches `files`, several at once, the small ones first; returns the bytes that came. The first error stops the others,
/// and what they have is kept for the next time.
pub(super) fn download(
    plan: &PullPlan,
    files: &[&PlannedFile],
    repo: &Repo,
    hub: &HubOptions,
    progress: &dyn Progress,
) -> Result<u64> {
    let blobs = repo.root.join("blobs");
    for folder in [&blobs, &repo.locks] {
        std::fs::create_dir_all(folder).map_err(|e| Error::io(folder, e))?;
    }
    let mut files = files.to_vec();
    files.sort_by_key(|file| file.size);
    let to_come = files.iter().map(|file| file.size - len(&repo.incomplete(&file.digest)).unwrap_or(0).min(file.size)).sum();
    transfer::check_space(&blobs, to_come)?;
    let (next, fetched, stop) = (AtomicUsize::new(0), Mutex::new(Ok(0)), AtomicBool::new(false));
    on_own_thread(|| {
        let client = Client::new(hub, true)?;
        std::thread::scope(|scope| {
            for _ in 0..hub.workers.clamp(1, files.len()) {
                scope.spawn(|| {
                    while let Some(file) = files.get(next.fetch_add(1, Relaxed)).filter(|_| !stop.load(Relaxed)) {
                        let transfer = Transfer { client: &client, hub, plan, repo, file, progress, stop: Stop(&stop) };
                        let result = transfer.run();
                        let mut fetched = fetched.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
                        match (result, &mut *fetched) {
                            (Ok(bytes), Ok(sum)) => *sum += bytes,
                            // Errors after the first one only say that it stopped the others.
                            (Err(error), Ok(_)) => *fetched = Err(error),
                            (_, Err(_)) => {}
                        }
                        stop.fetch_or(fetched.is_err(), Relaxed);
                    }
                });
            }
        });
        Ok(())
    })?;
    fetched.into_inner().unwrap_or_else(|poisoned| poisoned.into_inner())
}

/// See [`super::read_range`].
pub(super) fn read_range(plan: &PullPlan, file: &PlannedFile, hub: &HubOptions, range: Range<u64>) -> Result<Vec<u8>> {
    on_own_thread(|| part::part(plan, file, hub, range))
}

fn on_own_thread<T: Send>(work: impl FnOnce() -> Result<T> + Send) -> Result<T> {
    std::thread::scope(|scope| joined(scope.spawn(work)))
}

fn joined<T>(thread: std::thread::ScopedJoinHandle<'_, T>) -> T {
    thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
}
