//! In the place of `remote/` in a build without the feature `hub`: what is not cached can not come.

use super::cache::Repo;
use super::{HubOptions, Plan, PlannedFile, Progress, PullOptions};
use crate::error::{Error, Result};
use crate::store::hub_ref::HubRef;
use std::ops::Range;

fn absent<T>(what: &str) -> Result<T> {
    let supported = "models that are in the cache; build tallow with the feature `hub` to fetch others";
    Err(Error::unsupported(format!("{what}: this build has no network code, which"), supported))
}

pub(super) fn plan(reference: &HubRef, _: &HubOptions, _: &PullOptions) -> Result<Plan> {
    absent(&reference.to_string())
}

pub(super) fn download(plan: &Plan, _: &[&PlannedFile], _: &Repo, _: &HubOptions, _: &dyn Progress) -> Result<u64> {
    absent(&plan.repo)
}

pub(super) fn read_range(plan: &Plan, _: &PlannedFile, _: &HubOptions, _: Range<u64>) -> Result<Vec<u8>> {
    absent(&plan.repo)
}

/// No path matches; patterns are not understood here.
pub(super) fn globs(patterns: &[String]) -> Result<impl Fn(&str) -> bool> {
    if patterns.is_empty() { Ok(|_: &str| false) } else { absent("patterns of files") }
}
