//! One request: for a page of a repository's tree, for a file's bytes, or for what the Hub says of them.
//!
//! A large file's address redirects to a storage host, and a mirror may send every request on to the Hub. The token goes to
//! the host that `HF_ENDPOINT` names and to no other: reqwest strips it when host, port or scheme change, where redirects
//! are followed here it is not added, and the tests hold both to that.

use super::super::cache::is_digest;
use super::super::{HubOptions, PlannedFile, PullPlan};
use super::answer::{Failure, Refusal, content_range};
use crate::error::{Error, Result};
use reqwest::blocking::{RequestBuilder, Response};
use reqwest::header::{ACCEPT_ENCODING, LINK, LOCATION, RANGE};
use reqwest::redirect::Policy;
use reqwest::{Method, Url};
use serde_json::Value as Json;
use std::time::Duration;

pub(super) const AGENT: &str = concat!("tallow/", env!("CARGO_PKG_VERSION"));
pub(super) const CONNECT: Duration = Duration::from_secs(10);
/// More redirects than these are a circle.
const MOST_REDIRECTS: usize = 10;

/// The HTTP clients, and how addresses are written.
pub(super) struct Client {
    /// Follows redirects.
    following: reqwest::blocking::Client,
    /// Does not, so that the headers of a redirect can be read.
    staying: reqwest::blocking::Client,
    endpoint: Url,
}

impl Client {
    pub fn new(hub: &HubOptions) -> Result<Self> {
        let wrong = |why: String| Error::Input(format!("HF_ENDPOINT {:?}: {why}", hub.endpoint));
        let endpoint = Url::parse(&hub.endpoint).map_err(|e| wrong(e.to_string()))?;
        if endpoint.cannot_be_a_base() || !matches!(endpoint.scheme(), "http" | "https") {
            return Err(wrong("expected an address like https://huggingface.co".to_owned()));
        }
        hub.check_token()?;
        let client = |policy: Policy| {
            // The timeout of a blocking client is that of the headers, and then of each read of the body.
            let http = reqwest::blocking::Client::builder().user_agent(AGENT).connect_timeout(CONNECT).timeout(hub.timeout);
            http.redirect(policy).build().map_err(|e| wrong(e.to_string()))
        };
        Ok(Client { following: client(Policy::limited(MOST_REDIRECTS))?, staying: client(Policy::none())?, endpoint })
    }

    /// Whether nobody on the way reads what is sent to the endpoint.
    pub fn is_private(&self) -> bool {
        let host = self.endpoint.host_str().unwrap_or_default();
        let is_here = host == "localhost" || host == "[::1]" || host.starts_with("127.");
        self.endpoint.scheme() == "https" || is_here
    }

    /// The address of the file tree of a commit.
    pub fn tree(&self, repo: &str, commit: &str) -> Url {
        let mut url = self.at(&["api", "models"], repo, &["tree", commit]);
        url.set_query(Some("recursive=true&expand=false"));
        url
    }

    /// A page of a list, and the address of the next.
    pub fn page(&self, url: &Url, plan: &PullPlan, hub: &HubOptions) -> Result<(Vec<Json>, Option<Url>), Failure> {
        let request = self.following.get(url.clone());
        let response = self.with_token(request, url, hub).send().map_err(|e| Failure::broken(&e.without_url()))?;
        if !response.status().is_success() {
            return Err(self.failure(&response, plan, None, hub));
        }
        let next = header(&response, LINK.as_str()).and_then(|link| next(&link, response.url()));
        let text = response.bytes().map_err(|e| Failure::broken(&e.without_url()))?;
        let page = serde_json::from_slice(&text)
            .map_err(|e| Failure::again(format!("the answer is not what the Hub's API gives: {e}")))?;
        Ok((page, next.map(|url| self.at_endpoint(url))))
    }

    /// The same address at the endpoint, if it is one of huggingface.co: a mirror hands on what the Hub says of itself.
    fn at_endpoint(&self, url: Url) -> Url {
        let path = url.path().trim_start_matches('/').to_owned();
        let mut here = self.endpoint.clone();
        if url.host_str() != Some("huggingface.co") || self.is_at(&url) {
            return url;
        }
        if let Ok(mut parts) = here.path_segments_mut() {
            parts.pop_if_empty();
        }
        here.set_path(&format!("{}/{path}", here.path().trim_end_matches('/')));
        here.set_query(url.query());
        here
    }

    /// Asks for the bytes of a file from `range.0` to `range.1` or the end.
    pub fn get(
        &self,
        plan: &PullPlan,
        path: &str,
        range: Option<(u64, Option<u64>)>,
        hub: &HubOptions,
    ) -> Result<Response, Failure> {
        let url = self.file(plan, path);
        // Compressed bytes could not be continued in the middle.
        let mut request = self.following.get(url.clone()).header(ACCEPT_ENCODING, "identity");
        if let Some((from, to)) = range {
            let to = to.map_or(String::new(), |to| (to - 1).to_string());
            request = request.header(RANGE, format!("bytes={from}-{to}"));
        }
        let response = self.with_token(request, &url, hub).send().map_err(|e| Failure::broken(&e.without_url()))?;
        match response.status().as_u16() {
            200 | 206 | 416 => Ok(response),
            _ => Err(self.failure(&response, plan, Some(path), hub)),
        }
    }

    /// The digest that the Hub names for a file, before it redirects to where the bytes are.
    pub fn digest(&self, plan: &PullPlan, file: &PlannedFile, hub: &HubOptions) -> Result<String, Failure> {
        let response = self.described(self.file(plan, &file.path), hub)?;
        if !(response.status().is_success() || response.status().is_redirection()) {
            return Err(self.failure(&response, plan, Some(&file.path), hub));
        }
        let (commit, size) = (header(&response, "x-repo-commit"), header(&response, "x-linked-size"));
        if commit.as_ref().is_some_and(|commit| *commit != plan.commit) {
            return Err(Failure::again(format!("{} is of commit {commit:?}, not {}", file.path, plan.commit)));
        }
        if size.as_ref().is_some_and(|size| *size != file.size.to_string()) {
            return Err(Failure::again(format!("{} has {size:?} bytes, the repository lists {}", file.path, file.size)));
        }
        let tag = header(&response, "x-linked-etag").or_else(|| header(&response, "etag")).unwrap_or_default();
        let digest = tag.trim_start_matches("W/").trim_matches('"');
        if is_digest(digest) { Ok(digest.to_owned()) } else { Err(Failure::again(format!("the ETag {tag:?} is no digest"))) }
    }

    /// The answer that describes a file: the first that is no redirect, or a redirect that says what it leads to, as the
    /// Hub's to the storage host does. A mirror's to the Hub says nothing, whatever its status.
    fn described(&self, mut url: Url, hub: &HubOptions) -> Result<Response, Failure> {
        for _ in 0..=MOST_REDIRECTS {
            let request = self.staying.request(Method::HEAD, url.clone()).header(ACCEPT_ENCODING, "identity");
            let response = self.with_token(request, &url, hub).send().map_err(|e| Failure::broken(&e.without_url()))?;
            let is_description = header(&response, "x-linked-etag").is_some();
            let target = header(&response, LOCATION.as_str()).filter(|_| response.status().is_redirection());
            match target.and_then(|target| url.join(&target).ok()).filter(|_| !is_description) {
                Some(target) => url = target,
                None => return Ok(response),
            }
        }
        Err(Failure::again("too many redirects"))
    }

    /// The address of a file.
    fn file(&self, plan: &PullPlan, path: &str) -> Url {
        let parts: Vec<&str> = ["resolve", &plan.commit].into_iter().chain(path.split('/')).collect();
        self.at(&[], &plan.repo, &parts)
    }

    /// An address at the endpoint.
    fn at(&self, before: &[&str], repo: &str, behind: &[&str]) -> Url {
        let mut url = self.endpoint.clone();
        if let Ok(mut parts) = url.path_segments_mut() {
            parts.pop_if_empty().extend(before).extend(repo.split('/')).extend(behind);
        }
        url
    }

    /// Adds the token to a request of the endpoint.
    fn with_token(&self, request: RequestBuilder, url: &Url, hub: &HubOptions) -> RequestBuilder {
        match &hub.token {
            Some(token) if self.is_at(url) => request.bearer_auth(token),
            _ => request,
        }
    }

    /// Whether an address is the endpoint's: by scheme, host and port.
    fn is_at(&self, url: &Url) -> bool {
        url.origin() == self.endpoint.origin()
    }

    fn failure(&self, response: &Response, plan: &PullPlan, path: Option<&str>, hub: &HubOptions) -> Failure {
        let refusal = Refusal {
            status: response.status().as_u16(),
            code: header(response, "x-error-code"),
            message: header(response, "x-error-message"),
            after: header(response, "retry-after").and_then(|text| text.trim().parse().ok()).map(Duration::from_secs),
        };
        let is_elsewhere = !self.is_at(response.url());
        // The signed address of a storage host runs out; the next attempt gets a new one.
        if is_elsewhere && refusal.code.is_none() && matches!(refusal.status, 401 | 403) {
            return Failure::again(format!("the storage host refuses with HTTP status {}", refusal.status));
        }
        if is_elsewhere && matches!(refusal.status, 401 | 403) && hub.token.is_some() {
            log::warn!("{} sent the request on to another host, where the token does not go", hub.endpoint);
        }
        let revision = if path.is_some() { &plan.commit } else { &plan.revision };
        refusal.failure(&plan.repo, revision, path, hub)
    }
}

/// The address of the next page in a `Link` header: `<https://...>; rel="next"`.
fn next(link: &str, of: &Url) -> Option<Url> {
    let link = link.split(',').find(|part| part.contains("rel=\"next\"") || part.contains("rel=next"))?;
    of.join(link.split_once('<')?.1.split_once('>')?.0).ok()
}

fn header(response: &Response, name: &str) -> Option<String> {
    Some(response.headers().get(name)?.to_str().ok()?.to_owned())
}

/// Where a partial answer starts, and the length of the whole.
pub(super) fn ranged(response: &Response) -> Result<(u64, Option<u64>), Failure> {
    let text = header(response, "content-range").unwrap_or_default();
    content_range(&text).ok_or_else(|| Failure::again(format!("the server sent a part without saying which: {text:?}")))
}
