//! Repository information and file trees, through the hf-hub crate. Its own retries are off, because they do not heed
//! `Retry-After`; its downloads and cache are not used.

use super::super::cache::is_commit;
use super::super::{HubOptions, PlannedFile};
use super::answer::{Failure, Refusal, retried};
use super::client::{AGENT, CONNECT};
use crate::error::{Error, Result};
use crate::store::hub_ref::HubRef;
use hf_hub::repository::RepoTreeEntry;
use hf_hub::{HFClient, HFError, split_id};

/// What the Hub says of a repository at a revision.
pub(super) struct Repository {
    pub commit: String,
    pub gated: Option<String>,
    pub license: Option<String>,
    /// A large file may have no digest here.
    pub files: Vec<PlannedFile>,
}

/// Asks for the commit first, and then for the tree of that commit, so that both are of one state.
pub(super) fn repository(reference: &HubRef, hub: &HubOptions) -> Result<Repository> {
    let http = reqwest::Client::builder().user_agent(AGENT).connect_timeout(CONNECT).read_timeout(hub.timeout);
    let http = http.build().map_err(|e| Error::Input(format!("HTTP client: {e}")))?;
    // hf-hub looks for a token itself if it gets none. One that can not be a header is not sent.
    let token = hub.token.as_deref().unwrap_or("\n");
    let client =
        HFClient::builder().endpoint(&hub.endpoint).token(token).cache_dir(&hub.cache).client(http).retry_max_attempts(0);
    let client = client.build_sync().map_err(|e| Error::Input(format!("HF_ENDPOINT {:?}: {e}", hub.endpoint)))?;
    let (owner, name) = split_id(&reference.repo);
    let model = client.model(owner, name);
    let what = format!("{} at {}", reference.repo, hub.endpoint);
    let failed = |error| failure(error, reference, hub);
    let info = retried(&what, hub, || model.info().revision(reference.revision()).send().map_err(failed))?;
    let commit = info.sha.unwrap_or_default();
    if !is_commit(&commit) {
        return Err(Error::corrupt(
            &reference.repo,
            format!("the Hub says that {} is commit {commit:?}", reference.revision()),
        ));
    }
    let tree = || model.list_tree().revision(commit.clone()).recursive(true).send();
    let tree = retried(&what, hub, || tree().map_err(failed))?;
    Ok(Repository {
        files: tree.into_iter().filter_map(planned).collect(),
        gated: info.gated.and_then(|gated| gated.as_str().map(str::to_owned)),
        license: info.card_data.and_then(|card| Some(card.get("license")?.as_str()?.to_owned())),
        commit,
    })
}

fn planned(entry: RepoTreeEntry) -> Option<PlannedFile> {
    match entry {
        RepoTreeEntry::File { oid, size, path, lfs, .. } => {
            // The tree names it `oid`, and hf-hub 1.0 reads `sha256`; then a HEAD request has to tell.
            let large = lfs.map(|lfs| (lfs.sha256.unwrap_or_default(), lfs.size.unwrap_or(size)));
            let (digest, size) = large.unwrap_or((oid, size));
            Some(PlannedFile { path, size, digest, present: false, partial: 0 })
        }
        RepoTreeEntry::Directory { .. } => None,
    }
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
