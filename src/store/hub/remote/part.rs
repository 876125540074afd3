//! Parts of files, read into memory: headers, for an estimate before a pull, and the index of shards, for a plan.

use super::super::cache::{Repo, len};
use super::super::{HubOptions, PlannedFile, PullPlan};
use super::answer::{Failure, retried};
use super::client::{Client, ranged};
use super::digest::Digest;
use crate::error::{Error, Result};
use std::io::Read;
use std::ops::Range;

/// An index of shards that is longer is none.
const LONGEST_WHOLE: u64 = 100_000_000;

/// See [`crate::store::hub::read_range`].
pub(super) fn part(plan: &PullPlan, file: &PlannedFile, hub: &HubOptions, range: Range<u64>) -> Result<Vec<u8>> {
    if range.is_empty() {
        return Ok(Vec::new());
    }
    let client = Client::new(hub, true)?;
    let what = format!("{} of {} from {}", file.path, plan.repo, hub.endpoint);
    retried(&what, hub, || attempt(&client, plan, file, hub, &range))
}

fn attempt(
    client: &Client,
    plan: &PullPlan,
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
pub(super) fn whole(plan: &PullPlan, file: &PlannedFile, repo: &Repo, hub: &HubOptions) -> Result<Vec<u8>> {
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
