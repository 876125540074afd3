//! One request about a file: for its bytes, or for what the Hub says of them.
//!
//! A large file's address redirects to a storage host. The token does not follow it there: reqwest strips it when host, port
//! or scheme change, and the tests hold it to that.

use super::super::cache::is_digest;
use super::super::{HubOptions, PlannedFile, PullPlan};
use super::answer::{Failure, Refusal, content_range};
use crate::error::{Error, Result};
use reqwest::Method;
use reqwest::blocking::{RequestBuilder, Response};
use reqwest::header::{ACCEPT_ENCODING, RANGE};
use reqwest::redirect::Policy;
use std::time::Duration;

pub(super) const AGENT: &str = concat!("tallow/", env!("CARGO_PKG_VERSION"));
pub(super) const CONNECT: Duration = Duration::from_secs(10);

/// The HTTP client, and how a file's address is written.
pub(super) struct Client {
    http: reqwest::blocking::Client,
    endpoint: reqwest::Url,
}

impl Client {
    /// A client that follows redirects to the bytes, or only those within the Hub, to read what the Hub says of them.
    pub fn new(hub: &HubOptions, to_storage: bool) -> Result<Self> {
        let wrong = |why: String| Error::Input(format!("HF_ENDPOINT {:?}: {why}", hub.endpoint));
        let endpoint = reqwest::Url::parse(&hub.endpoint).map_err(|e| wrong(e.to_string()))?;
        if endpoint.cannot_be_a_base() || !matches!(endpoint.scheme(), "http" | "https") {
            return Err(wrong("expected an address like https://huggingface.co".to_owned()));
        }
        let within = {
            let endpoint = endpoint.clone();
            Policy::custom(move |to| if is_at(&endpoint, to.url()) { Policy::default().redirect(to) } else { to.stop() })
        };
        // The timeout of a blocking client is that of the headers, and then of each read of the body.
        let http = reqwest::blocking::Client::builder().user_agent(AGENT).connect_timeout(CONNECT).timeout(hub.timeout);
        let http = http.redirect(if to_storage { Policy::default() } else { within });
        Ok(Client { http: http.build().map_err(|e| wrong(e.to_string()))?, endpoint })
    }

    /// Asks for the bytes of a file from `range.0` to `range.1` or the end.
    pub fn get(
        &self,
        plan: &PullPlan,
        path: &str,
        range: Option<(u64, Option<u64>)>,
        hub: &HubOptions,
    ) -> Result<Response, Failure> {
        let mut request = self.request(Method::GET, plan, path, hub);
        if let Some((from, to)) = range {
            let to = to.map_or(String::new(), |to| (to - 1).to_string());
            request = request.header(RANGE, format!("bytes={from}-{to}"));
        }
        let response = request.send().map_err(|e| Failure::broken(&e.without_url()))?;
        match response.status().as_u16() {
            200 | 206 | 416 => Ok(response),
            _ => Err(self.failure(&response, plan, path, hub)),
        }
    }

    /// The digest that the Hub names for a file, before it redirects to where the bytes are.
    pub fn digest(&self, plan: &PullPlan, file: &PlannedFile, hub: &HubOptions) -> Result<String, Failure> {
        let response =
            self.request(Method::HEAD, plan, &file.path, hub).send().map_err(|e| Failure::broken(&e.without_url()))?;
        if !(response.status().is_success() || response.status().is_redirection()) {
            return Err(self.failure(&response, plan, &file.path, hub));
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

    fn request(&self, method: Method, plan: &PullPlan, path: &str, hub: &HubOptions) -> RequestBuilder {
        let mut url = self.endpoint.clone();
        if let Ok(mut parts) = url.path_segments_mut() {
            parts.pop_if_empty().extend(plan.repo.split('/')).extend(["resolve", &plan.commit]).extend(path.split('/'));
        }
        // Compressed bytes could not be continued in the middle.
        let request = self.http.request(method, url).header(ACCEPT_ENCODING, "identity");
        match &hub.token {
            Some(token) => request.bearer_auth(token),
            None => request,
        }
    }

    fn failure(&self, response: &Response, plan: &PullPlan, path: &str, hub: &HubOptions) -> Failure {
        let refusal = Refusal {
            status: response.status().as_u16(),
            code: header(response, "x-error-code"),
            message: header(response, "x-error-message"),
            after: header(response, "retry-after").and_then(|text| text.trim().parse().ok()).map(Duration::from_secs),
        };
        // The signed address of a storage host runs out; the next attempt gets a new one.
        if !is_at(&self.endpoint, response.url()) && refusal.code.is_none() && matches!(refusal.status, 401 | 403) {
            return Failure::again(format!("the storage host refuses with HTTP status {}", refusal.status));
        }
        refusal.failure(&plan.repo, &plan.commit, Some(path), hub)
    }
}

fn is_at(endpoint: &reqwest::Url, url: &reqwest::Url) -> bool {
    url.host_str() == endpoint.host_str() && url.port_or_known_default() == endpoint.port_or_known_default()
}

fn header(response: &Response, name: &str) -> Option<String> {
    Some(response.headers().get(name)?.to_str().ok()?.to_owned())
}

/// Where a partial answer starts, and the length of the whole.
pub(super) fn ranged(response: &Response) -> Result<(u64, Option<u64>), Failure> {
    let text = header(response, "content-range").unwrap_or_default();
    content_range(&text).ok_or_else(|| Failure::again(format!("the server sent a part without saying which: {text:?}")))
}
