//! In the place of `remote/` in a build without the feature `hub`: what is not cached can not come.

use super::cache::Repo;
use super::options::not_cached;
use super::{HubOptions, PlannedFile, Progress, PullOptions, PullPlan};
use crate::error::Result;
use crate::store::hub_ref::HubRef;
use std::ops::Range;

pub(super) fn plan(reference: &HubRef, hub: &HubOptions, _: &PullOptions) -> Result<PullPlan> {
    Err(not_cached(reference.to_string(), hub))
}

pub(super) fn download(plan: &PullPlan, _: &[&PlannedFile], _: &Repo, hub: &HubOptions, _: &dyn Progress) -> Result<u64> {
    Err(not_cached(plan.repo.clone(), hub))
}

pub(super) fn read_range(plan: &PullPlan, _: &PlannedFile, hub: &HubOptions, _: Range<u64>) -> Result<Vec<u8>> {
    Err(not_cached(plan.repo.clone(), hub))
}
