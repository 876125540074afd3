//! Repository information, through the hf-hub crate, and file trees. The crate's own retries are off, because they do not
//! heed `Retry-After`; its lists send the token wherever a page says that the next one is, and name no digests; its
//! downloads and cache are not used.

use super::super::cache::{is_commit, is_digest};
use super::super::{HubOptions, PlannedFile, PlannedModel, PullOptions, PullPlan};
use super::answer::{Failure, Refusal, retried};
use super::client::{AGENT, CONNECT, Client};
use crate::error::{Error, Result};
use crate::store::hub_ref::HubRef;
use hf_hub::{HFClient, HFError, split_id};
use serde_json::Value as Json;

/// A page has up to a thousand files; lists that never end are none.
const MOST_PAGES: usize = 10_000;

/// Asks what a repository is at a revision: a plan with every file that it has. Asks for the commit first, and then for the
/// tree of that commit, so that both are of one state. A large file may have no digest yet.
pub(super) fn repository(reference: &HubRef, client: &Client, hub: &HubOptions, pull: &PullOptions) -> Result<PullPlan> {
    let http = reqwest::Client::builder().user_agent(AGENT).connect_timeout(CONNECT).read_timeout(hub.timeout);
    let http = http.build().map_err(|e| Error::Input(format!("HTTP client: {e}")))?;
    // hf-hub looks for a token itself if it gets none. One that can not be a header is not sent.
    let token = hub.token.as_deref().unwrap_or("\n");
    let asking =
        HFClient::builder().endpoint(&hub.endpoint).token(token).cache_dir(&hub.cache).client(http).retry_max_attempts(0);
    let asking = asking.build_sync().map_err(|e| Error::Input(format!("HF_ENDPOINT {:?}: {e}", hub.endpoint)))?;
    let (owner, name) = split_id(&reference.repo);
    let model = asking.model(owner, name);
    let what = format!("{} at {}", reference.repo, hub.endpoint);
    if hub.token.is_some() && !client.is_private() {
        log::warn!("HF_ENDPOINT is {}: the access token goes over the network for everybody to read; use https", hub.endpoint);
    }
    let failed = |error| failure(error, reference, hub);
    let info = retried(&what, hub, || model.info().revision(reference.revision()).send().map_err(failed))?;
    let commit = info.sha.unwrap_or_default();
    if !is_commit(&commit) {
        return Err(Error::corrupt(
            &reference.repo,
            format!("the Hub says that {} is commit {commit:?}", reference.revision()),
        ));
    }
    let plan = PullPlan {
        repo: reference.repo.clone(),
        revision: reference.revision().to_owned(),
        commit,
        files: Vec::new(),
        weights: PlannedModel::Folder,
        gated: info.gated.and_then(|gated| gated.as_str().map(str::to_owned)),
        license: info.card_data.and_then(|card| Some(card.get("license")?.as_str()?.to_owned())),
        force: pull.force,
    };
    let mut files = Vec::new();
    let mut next = Some(client.tree(&plan.repo, &plan.commit));
    for _ in 0..MOST_PAGES {
        let Some(url) = next.take() else { return Ok(PullPlan { files, ..plan }) };
        let entries;
        (entries, next) = retried(&what, hub, || client.page(&url, &plan, hub))?;
        files.extend(entries.iter().filter_map(planned));
    }
    Err(Error::corrupt(&reference.repo, "the Hub's list of its files does not end"))
}

/// A file of a tree; `None` for a folder.
fn planned(entry: &Json) -> Option<PlannedFile> {
    let text = |entry: &Json, key: &str| Some(entry.get(key)?.as_str()?.to_owned());
    if text(entry, "type")? != "file" {
        return None;
    }
    let size = entry.get("size").and_then(Json::as_u64)?;
    // The id of a large file is that of what stands for it in git. Without its digest a HEAD request has to tell.
    let (digest, size) = match entry.get("lfs").filter(|lfs| lfs.is_object()) {
        Some(lfs) => (text(lfs, "oid").unwrap_or_default(), lfs.get("size").and_then(Json::as_u64).unwrap_or(size)),
        None => (text(entry, "oid")?, size),
    };
    let digest = Some(digest).filter(|digest| is_digest(digest)).unwrap_or_default();
    Some(PlannedFile { path: text(entry, "path")?, size, digest, present: false, partial: 0 })
}

fn failure(error: HFError, reference: &HubRef, hub: &HubOptions) -> Failure {
    let mut refusal = Refusal::default();
    let context = match error {
        HFError::RateLimited { retry_after, context } => {
            refusal.after = retry_after;
            Some(context)
        }
        HFError::Http { context }
        | HFError::AuthRequired { context }
        | HFError::Forbidden { context }
        | HFError::Conflict { context } => Some(context),
        HFError::RepoNotFound { context, .. } | HFError::EntryNotFound { context, .. } => context,
        HFError::RevisionNotFound { context, .. } => {
            refusal.code = Some("RevisionNotFound".to_owned());
            context
        }
        HFError::Request { source, .. } if source.is_decode() => {
            return Failure::again(format!("the answer is not what the Hub's API gives: {source}"));
        }
        HFError::Request { source, .. } if !source.is_builder() => return Failure::broken(&source),
        other => return Failure::again(other.to_string()),
    };
    let Some(context) = context else { return Failure::again("not found") };
    refusal.status = context.status.as_u16();
    refusal.code = context.error_code.or(refusal.code);
    refusal.message = context.server_message;
    refusal.failure(&reference.repo, reference.revision(), None, hub)
}
