//! What an answer that is no success means, and how long to wait before the next attempt.
//!
//! The Hub says more in `X-Error-Code` than in the status: a repository that does not exist, or that a token may not see, is
//! 401 for those who sent none.

use super::super::HubOptions;
use crate::error::{Error, Result};
use std::hash::{BuildHasher, RandomState};
use std::time::Duration;

/// The longest wait that a server may ask for.
const LONGEST_ASKED: Duration = Duration::from_secs(300);
/// The longest wait of our own.
const LONGEST: Duration = Duration::from_secs(30);

/// Why an attempt failed.
#[derive(Debug)]
pub(super) enum Failure {
    /// Another attempt can not help.
    Final(Error),
    /// Another one may; the server may have said after how long.
    Again { why: String, after: Option<Duration> },
}

impl Failure {
    pub fn again(why: impl Into<String>) -> Self {
        Failure::Again { why: why.into(), after: None }
    }

    /// A request that got no answer, or a body that broke off.
    pub fn broken(error: &(dyn std::error::Error + 'static)) -> Self {
        let mut why = error.to_string();
        let mut cause = error.source();
        while let Some(error) = cause {
            let text = error.to_string();
            if !why.contains(&text) {
                why = format!("{why}: {text}");
            }
            cause = error.source();
        }
        Failure::again(why)
    }

    /// The error, when there will be no other attempt.
    pub fn into_error(self, what: &str) -> Error {
        match self {
            Failure::Final(error) => error,
            Failure::Again { why, .. } => network(what, &why),
        }
    }
}

pub(super) fn network(what: &str, why: &str) -> Error {
    let hint = "what has come is kept, and the next attempt resumes it; if the Hub can not be reached from here, check the \
                connection and the proxy (HTTPS_PROXY), or go offline with what is cached (HF_HUB_OFFLINE=1)";
    Error::Network { what: what.to_owned(), why: why.to_owned(), hint: hint.to_owned() }
}

/// What of an answer says why it is no success.
#[derive(Debug, Default)]
pub(super) struct Refusal {
    pub status: u16,
    /// `X-Error-Code`.
    pub code: Option<String>,
    /// `X-Error-Message`.
    pub message: Option<String>,
    /// `Retry-After` in seconds.
    pub after: Option<Duration>,
}

impl Refusal {
    /// What it means for `file` (or the whole) of a repository.
    pub fn failure(&self, repo: &str, revision: &str, file: Option<&str>, hub: &HubOptions) -> Failure {
        let (status, token_sent) = (self.status, hub.token.is_some());
        let what = || file.map_or(format!("{repo}@{revision}"), |file| format!("{file} of {repo}"));
        let why = || match &self.message {
            Some(message) => plain(message),
            None => format!("HTTP status {status}"),
        };
        let not_found = |what: String, hint: String| Failure::Final(Error::NotFound { what, hint });
        match (self.code.as_deref(), status) {
            (Some("GatedRepo"), _) => Failure::Final(Error::Gated {
                repo: repo.to_owned(),
                url: format!("{}/{repo}", hub.endpoint),
                why: why(),
                token_sent,
            }),
            (Some("RevisionNotFound"), _) => not_found(
                format!("revision {revision} of {repo}"),
                format!("the branches and tags are at {}/{repo}/tree/main", hub.endpoint),
            ),
            (Some("EntryNotFound"), _) => {
                not_found(what(), format!("the files are at {}/{repo}/tree/{revision}", hub.endpoint))
            }
            (Some("RepoNotFound"), _) | (_, 404) => {
                let token =
                    if token_sent { "the token sent may not see it" } else { "no token was sent (HF_TOKEN, `hf auth login`)" };
                let hint =
                    format!("{} has no such model repository; check the spelling; if it is private: {token}", hub.endpoint);
                not_found(if status == 404 { what() } else { repo.to_owned() }, hint)
            }
            (_, 401 | 403) => Failure::Final(Error::Unauthorised { what: what(), why: why(), token_sent }),
            (_, 408 | 429 | 500..) => {
                let why = if status == 429 { format!("too many requests ({})", why()) } else { why() };
                Failure::Again { why, after: self.after.map(|wait| wait.min(LONGEST_ASKED)) }
            }
            _ => Failure::Final(Error::Network {
                what: what(),
                why: why(),
                hint: format!("{} did not expect this request", hub.endpoint),
            }),
        }
    }
}

/// A server's words on one line of bearable length.
fn plain(message: &str) -> String {
    message.split_whitespace().collect::<Vec<_>>().join(" ").chars().filter(|c| !c.is_control()).take(300).collect()
}

/// The wait before the attempt after `failures` ones: what the server asked for, else doubling, between half and all of it
/// by chance, so that many who failed together do not come back together.
pub(super) fn wait(failures: u32, asked: Option<Duration>, hub: &HubOptions) -> Duration {
    if let Some(asked) = asked {
        return asked;
    }
    let most = hub.backoff.saturating_mul(1 << failures.saturating_sub(1).min(10)).min(LONGEST);
    let random = RandomState::new().hash_one(failures) as f64 / u64::MAX as f64;
    most.mul_f64(0.5 + random / 2.0)
}

/// Tries until there is an answer, a refusal, or no hope.
pub(super) fn retried<T>(what: &str, hub: &HubOptions, mut attempt: impl FnMut() -> Result<T, Failure>) -> Result<T> {
    let mut failures = 0;
    loop {
        hub.check_cancelled()?;
        failures += 1;
        match attempt() {
            Ok(answer) => return Ok(answer),
            Err(Failure::Again { why, after }) if failures < hub.attempts => {
                let wait = wait(failures, after, hub);
                log::warn!("{what}: {why}; tried again in {:.1} s", wait.as_secs_f64());
                sleep(wait, hub, || Ok(()))?;
            }
            Err(failure) => return Err(failure.into_error(what)),
        }
    }
}

/// Sleeps, but not beyond a cancel or an error of `check`.
pub(super) fn sleep(time: Duration, hub: &HubOptions, check: impl Fn() -> Result<()>) -> Result<()> {
    let end = std::time::Instant::now() + time;
    loop {
        hub.check_cancelled()?;
        check()?;
        let left = end.saturating_duration_since(std::time::Instant::now());
        if left.is_zero() {
            return Ok(());
        }
        std::thread::sleep(left.min(Duration::from_millis(100)));
    }
}

/// `from` and total of `Content-Range: bytes 5-9/10`; no total for `*`.
pub(super) fn content_range(text: &str) -> Option<(u64, Option<u64>)> {
    let (range, total) = text.trim().strip_prefix("bytes ")?.split_once('/')?;
    let (from, _) = range.split_once('-')?;
    let total = if total == "*" { None } else { Some(total.parse().ok()?) };
    Some((from.parse().ok()?, total))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn failure(status: u16, code: Option<&str>, token: Option<&str>) -> Failure {
        let hub = HubOptions { token: token.map(str::to_owned), endpoint: "https://hub".into(), ..HubOptions::from_env() };
        let refusal = Refusal {
            status,
            code: code.map(str::to_owned),
            message: Some("no\n way\u{7}".into()),
            after: Some(Duration::from_secs(9999)),
        };
        refusal.failure("org/name", "dev", Some("a.gguf"), &hub)
    }

    #[test]
    fn a_refusal_says_what_to_do_about_it() {
        for (status, code, token, words) in [
            (403, Some("GatedRepo"), Some("t"), &["https://hub/org/name", "a token was sent", "no way", "hf auth login"][..]),
            (401, Some("GatedRepo"), None, &["no token was sent", "HF_TOKEN", "hf auth login"]),
            (401, Some("RepoNotFound"), None, &["model not found: org/name", "no token was sent"]),
            (404, Some("RevisionNotFound"), None, &["revision dev of org/name"]),
            (404, Some("EntryNotFound"), None, &["a.gguf of org/name"]),
            (403, None, Some("t"), &["refuses", "a token was sent"]),
            (400, None, None, &["network"]),
        ] {
            let Failure::Final(error) = failure(status, code, token) else { panic!("{status} {code:?} is tried again") };
            let text = error.to_string();
            assert!(words.iter().all(|word| text.contains(word)), "{text}");
        }
        for status in [408, 429, 500, 503] {
            assert!(matches!(failure(status, None, None), Failure::Again { after: Some(LONGEST_ASKED), .. }), "{status}");
        }
    }

    #[test]
    fn waits_double_up_to_a_limit_unless_the_server_says_how_long() {
        let hub = HubOptions { backoff: Duration::from_secs(1), ..HubOptions::from_env() };
        for (failures, most) in [(0, 1.0), (1, 1.0), (2, 2.0), (4, 8.0), (60, 30.0)] {
            let wait = wait(failures, None, &hub).as_secs_f64();
            assert!((most / 2.0..=most).contains(&wait), "{failures}: {wait}");
        }
        assert_eq!(wait(1, Some(Duration::from_secs(7)), &hub), Duration::from_secs(7));
    }

    #[test]
    fn a_content_range_is_read_and_nonsense_is_not() {
        assert_eq!(content_range("bytes 5-9/10"), Some((5, Some(10))));
        assert_eq!(content_range("bytes 0-0/*"), Some((0, None)));
        for text in ["", "bytes */10", "bytes 5-9", "5-9/10", "bytes -5/10", "bytes a-b/c"] {
            assert_eq!(content_range(text), None, "{text}");
        }
    }
}
