//! Models of the Hub, from a Hub on 127.0.0.1 (`tests/support/hub`): which files come, what every kind of failure leaves
//! behind, that offline means no socket, and that Python's `huggingface_hub` and tallow read each other's cache.

#![cfg(feature = "hub")]

#[path = "../support/hub/mod.rs"]
mod server;

mod access;
mod child;
mod choosing;
mod faults;
mod interoperation;
mod interruption;
#[cfg(target_os = "linux")]
mod offline;
#[cfg(target_os = "linux")]
mod program;

use serde_json::{Value, json};
use server::{At, Commit, Host, Hub, Kind};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::time::Duration;
use tallow::Error;
use tallow::store::hub::{self, HubOptions, Progress, PullOptions, PullPlan, Pulled};
use tallow::store::hub_ref::HubRef;

/// A folder for one test, empty.
fn folder(test: &str) -> PathBuf {
    let path = Path::new(env!("CARGO_TARGET_TMPDIR")).join("hub").join(test);
    let _ = std::fs::remove_dir_all(&path);
    std::fs::create_dir_all(&path).expect("a folder for the test");
    path
}

/// Bytes that repeat nowhere near, so that a piece in the wrong place shows.
fn bytes(count: usize, seed: u64) -> Vec<u8> {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let mut next = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        (state >> 32) as u8
    };
    (0..count).map(|_| next()).collect()
}

/// This Hub, this cache, no token, no waiting between attempts.
fn options(hub: &Hub, cache: &Path) -> HubOptions {
    HubOptions {
        cache: cache.to_owned(),
        endpoint: hub.endpoint(),
        token: None,
        offline: false,
        attempts: 3,
        backoff: Duration::ZERO,
        timeout: Duration::from_secs(10),
        ..HubOptions::from_env()
    }
}

fn reference(text: &str) -> HubRef {
    text.parse().expect("a reference")
}

fn pull(text: &str, options: &HubOptions) -> Result<Pulled, Error> {
    hub::pull(&reference(text), options, &PullOptions::default(), &())
}

fn assert_says(error: &Error, parts: &[&str]) {
    let text = error.to_string();
    for part in parts {
        assert!(text.contains(part), "expected {part:?} in: {text}");
    }
}

/// Every file below `folder`, by its path there.
fn files(folder: &Path) -> Vec<String> {
    fn walk(folder: &Path, base: &Path, found: &mut Vec<String>) {
        for entry in std::fs::read_dir(folder).into_iter().flatten().flatten() {
            let path = entry.path();
            if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
                walk(&path, base, found);
            } else {
                found.push(path.strip_prefix(base).expect("below the base").to_str().expect("a readable name").to_owned());
            }
        }
    }
    let mut found = Vec::new();
    walk(folder, folder, &mut found);
    found.sort();
    found
}

/// The cache holds exactly this snapshot of one repository, and nothing is left over.
fn check_cache(cache: &Path, commit: &str, wanted: &[(&str, &[u8])]) -> Result<(), String> {
    let mut blobs = BTreeMap::new();
    let mut links = BTreeMap::new();
    for path in files(cache) {
        let parts: Vec<&str> = path.split('/').collect();
        match parts.as_slice() {
            ["CACHEDIR.TAG"] => {}
            [".locks", _, name] if name.ends_with(".lock") => {}
            [_, "refs", ..] => {
                let text = std::fs::read_to_string(cache.join(&path)).map_err(|e| e.to_string())?;
                if text != commit {
                    return Err(format!("{path} says {text:?}"));
                }
            }
            [_, "blobs", name] => {
                blobs.insert((*name).to_owned(), std::fs::read(cache.join(&path)).map_err(|e| e.to_string())?);
            }
            [_, "snapshots", sha, rest @ ..] if *sha == commit => {
                links.insert(rest.join("/"), std::fs::read(cache.join(&path)).map_err(|e| format!("{path}: {e}"))?);
            }
            _ => return Err(format!("left over: {path}")),
        }
    }
    for (name, bytes) in &blobs {
        let digest = if name.len() == 64 { server::sha256(bytes) } else { server::git_oid(bytes) };
        if digest != *name {
            return Err(format!("blob {name} holds {digest}"));
        }
    }
    let wanted: BTreeMap<String, Vec<u8>> = wanted.iter().map(|(path, bytes)| ((*path).to_owned(), bytes.to_vec())).collect();
    if links != wanted {
        let sizes =
            |map: &BTreeMap<String, Vec<u8>>| map.iter().map(|(path, b)| format!("{path}: {}", b.len())).collect::<Vec<_>>();
        return Err(format!("the snapshot has {:?}, expected {:?}", sizes(&links), sizes(&wanted)));
    }
    let digests: std::collections::BTreeSet<&Vec<u8>> = wanted.values().collect();
    if blobs.len() != digests.len() {
        return Err(format!("{} blobs for {} files", blobs.len(), digests.len()));
    }
    Ok(())
}

#[track_caller]
fn assert_cache(cache: &Path, commit: &str, wanted: &[(&str, &[u8])]) {
    if let Err(why) = check_cache(cache, commit, wanted) {
        panic!("{why}; the cache has {:#?}", files(cache));
    }
}
