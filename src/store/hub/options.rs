//! Where the Hub and its cache are, and how downloads behave: the environment variables of `huggingface_hub`, read once.

use crate::cancel::Cancel;
use crate::error::{Error, NotFetched};
use std::ffi::OsString;
use std::path::PathBuf;
use std::time::Duration;

const ENDPOINT: &str = "https://huggingface.co";

/// Where the Hub and its cache are. [`HubOptions::from_env`] reads what `hf` and `transformers` read.
#[derive(Clone)]
pub struct HubOptions {
    /// The folder of the cache, which Python's `huggingface_hub` shares: `HF_HUB_CACHE`, else `$HF_HOME/hub`.
    pub cache: PathBuf,
    /// The Hub's address without a trailing slash: `HF_ENDPOINT`, else `https://huggingface.co`.
    pub endpoint: String,
    /// The access token: `HF_TOKEN`, else the one that `hf auth login` stored. `None`: nothing is sent.
    pub token: Option<String>,
    /// No socket is opened: `HF_HUB_OFFLINE`.
    pub offline: bool,
    /// How many files are fetched at once.
    pub workers: usize,
    /// How long a connection may stay silent: `HF_HUB_DOWNLOAD_TIMEOUT` in seconds, else 30.
    pub timeout: Duration,
    /// How many attempts in a row may bring no byte before a download fails.
    pub attempts: u32,
    /// The wait after the first such attempt; it doubles with each. `TALLOW_HUB_BACKOFF_MS` sets it for tests.
    pub backoff: Duration,
    /// Ends a download from another thread, with [`Error::Cancelled`]. What has come is kept. A request that is waiting for
    /// the Hub ends when the Hub answers, or at the timeout.
    pub cancel: Option<Cancel>,
}

impl HubOptions {
    /// What the environment says.
    pub fn from_env() -> Self {
        Self::from_vars(&|name| std::env::var_os(name).filter(|value| !value.is_empty()), std::env::home_dir())
    }

    /// What `vars` say; the stored token is read from the disk.
    fn from_vars(vars: &dyn Fn(&str) -> Option<OsString>, home: Option<PathBuf>) -> Self {
        let text = |name: &str| vars(name).and_then(|value| value.into_string().ok());
        let home = home.unwrap_or_else(std::env::temp_dir);
        let folder = |name: &str| {
            vars(name).map(PathBuf::from).map(|path| path.strip_prefix("~").map_or(path.clone(), |p| home.join(p)))
        };
        let caches = folder("XDG_CACHE_HOME").unwrap_or_else(|| home.join(".cache"));
        let hf_home = folder("HF_HOME").unwrap_or_else(|| caches.join("huggingface"));
        let stored = || {
            let files = [folder("HF_TOKEN_PATH"), Some(hf_home.join("token"))];
            files.into_iter().flatten().find_map(|file| std::fs::read_to_string(file).ok())
        };
        let implicit = !is_true(text("HF_HUB_DISABLE_IMPLICIT_TOKEN"));
        let token = text("HF_TOKEN").or_else(|| text("HUGGING_FACE_HUB_TOKEN")).or_else(stored).filter(|_| implicit);
        let number = |name: &str| text(name).and_then(|value| value.trim().parse::<u64>().ok());
        HubOptions {
            cache: folder("HF_HUB_CACHE").or_else(|| folder("HUGGINGFACE_HUB_CACHE")).unwrap_or_else(|| hf_home.join("hub")),
            endpoint: text("HF_ENDPOINT").unwrap_or_else(|| ENDPOINT.to_owned()).trim_end_matches('/').to_owned(),
            token: token.map(|token| token.trim().to_owned()).filter(|token| !token.is_empty()),
            offline: is_true(text("HF_HUB_OFFLINE")) || is_true(text("TRANSFORMERS_OFFLINE")),
            workers: 4,
            timeout: number("HF_HUB_DOWNLOAD_TIMEOUT").map_or(Duration::from_secs(30), Duration::from_secs),
            attempts: 5,
            backoff: number("TALLOW_HUB_BACKOFF_MS").map_or(Duration::from_secs(1), Duration::from_millis),
            cancel: None,
        }
    }

    /// [`Error::Cancelled`] once the caller has cancelled.
    #[cfg(feature = "hub")]
    pub(super) fn check_cancelled(&self) -> crate::error::Result<()> {
        self.cancel.as_ref().map_or(Ok(()), Cancel::check)
    }
}

/// The error for what the cache lacks and nobody may fetch.
pub(super) fn not_cached(what: String, hub: &HubOptions) -> Error {
    Error::NotLocal { what, cache: hub.cache.clone(), why: NotFetched::of(hub.offline), hint: String::new() }
}

/// The words that `huggingface_hub` takes for yes.
fn is_true(value: Option<String>) -> bool {
    value.is_some_and(|value| ["1", "on", "yes", "true"].contains(&value.to_ascii_lowercase().as_str()))
}

/// The token is not printed.
impl std::fmt::Debug for HubOptions {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("HubOptions")
            .field("cache", &self.cache)
            .field("endpoint", &self.endpoint)
            .field("token", &self.token.as_ref().map(|_| "..."))
            .field("offline", &self.offline)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn options(vars: &[(&str, &str)]) -> HubOptions {
        let get = |name: &str| vars.iter().find(|(key, _)| *key == name).map(|(_, value)| OsString::from(value));
        HubOptions::from_vars(&get, Some("/home/u".into()))
    }

    #[test]
    fn the_cache_is_where_huggingface_hub_has_it() {
        for (vars, cache) in [
            (&[][..], "/home/u/.cache/huggingface/hub"),
            (&[("XDG_CACHE_HOME", "/x")], "/x/huggingface/hub"),
            (&[("HF_HOME", "~/hf"), ("XDG_CACHE_HOME", "/x")], "/home/u/hf/hub"),
            (&[("HUGGINGFACE_HUB_CACHE", "/old"), ("HF_HOME", "/h")], "/old"),
            (&[("HUGGINGFACE_HUB_CACHE", "/old"), ("HF_HUB_CACHE", "/new")], "/new"),
        ] {
            assert_eq!(options(vars).cache, PathBuf::from(cache), "{vars:?}");
        }
    }

    #[test]
    fn offline_and_the_endpoint_are_read_as_huggingface_hub_reads_them() {
        for (value, offline) in [("1", true), ("TRUE", true), ("yes", true), ("On", true), ("0", false), ("no", false)] {
            assert_eq!(options(&[("HF_HUB_OFFLINE", value)]).offline, offline, "{value}");
        }
        assert_eq!(options(&[("HF_ENDPOINT", "http://localhost:80/")]).endpoint, "http://localhost:80");
        assert_eq!(options(&[]).endpoint, "https://huggingface.co");
    }

    #[test]
    fn the_token_is_trimmed_may_be_disabled_and_is_never_printed() {
        let options_with = options(&[("HF_TOKEN", " hf_secret\n")]);
        assert_eq!(options_with.token.as_deref(), Some("hf_secret"));
        assert!(!format!("{options_with:?}").contains("hf_secret"));
        assert_eq!(options(&[("HF_TOKEN", "hf_secret"), ("HF_HUB_DISABLE_IMPLICIT_TOKEN", "1")]).token, None);
    }
}
