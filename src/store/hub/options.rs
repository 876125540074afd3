//! Where the Hub and its cache are, and how downloads behave: the environment variables of `huggingface_hub`, read once.

use super::environment::{Vars, clean, expanded, seconds};
use crate::cancel::Cancel;
use crate::error::{Error, NotFetched, Result};
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
    /// Where the token came from, for messages: `HF_TOKEN`, the path of a file, `--token`.
    pub token_from: String,
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
        Self::from_vars(&|name| std::env::var_os(name), std::env::home_dir())
    }

    /// What `vars` say; the stored token is read from the disk.
    fn from_vars(vars: Vars<'_>, home: Option<PathBuf>) -> Self {
        let set = |name: &str| vars(name).filter(|value| !value.is_empty());
        let text = |name: &str| set(name).and_then(|value| value.into_string().ok());
        let home = home.unwrap_or_else(std::env::temp_dir);
        let expanded = |path| expanded(path, vars, &home);
        let caches = set("XDG_CACHE_HOME").map_or_else(|| home.join(".cache"), PathBuf::from);
        let hf_home = expanded(set("HF_HOME").unwrap_or_else(|| caches.join("huggingface").into()));
        // `huggingface_hub` expands what is below HF_HOME once more.
        let below = |name: &str| expanded(hf_home.join(name).into());
        let cache = set("HF_HUB_CACHE").or_else(|| set("HUGGINGFACE_HUB_CACHE")).map_or_else(|| below("hub"), expanded);
        let token_file = set("HF_TOKEN_PATH").map_or_else(|| below("token"), expanded);
        let (token, token_from) = token(&text, token_file);
        let number = |name: &str| text(name).and_then(|value| value.trim().parse::<u64>().ok());
        HubOptions {
            cache,
            endpoint: text("HF_ENDPOINT").unwrap_or_else(|| ENDPOINT.to_owned()).trim().trim_end_matches('/').to_owned(),
            token,
            token_from,
            offline: is_true(text("HF_HUB_OFFLINE").or_else(|| text("TRANSFORMERS_OFFLINE"))),
            workers: 4,
            timeout: seconds("HF_HUB_DOWNLOAD_TIMEOUT", text("HF_HUB_DOWNLOAD_TIMEOUT"), Duration::from_secs(30)),
            attempts: 5,
            backoff: number("TALLOW_HUB_BACKOFF_MS").map_or(Duration::from_secs(1), Duration::from_millis),
            cancel: None,
        }
    }

    /// The same with this token, which came from `from`. One that is empty changes nothing.
    pub fn with_token(mut self, token: &str, from: &str) -> Self {
        if let Some(token) = clean(token) {
            (self.token, self.token_from) = (Some(token), from.to_owned());
        }
        self
    }

    /// Whether the token can be sent.
    ///
    /// # Errors
    /// [`Error::Input`] with the place it came from, if a character of it can not be in a request.
    pub fn check_token(&self) -> Result<()> {
        let wrong = |c: &char| !matches!(c, ' '..='~');
        let Some(character) = self.token.iter().flat_map(|token| token.chars()).find(wrong) else { return Ok(()) };
        let from = if self.token_from.is_empty() { "the caller" } else { &self.token_from };
        Err(Error::Input(format!(
            "the access token from {from} holds the character {character:?}, which no request can carry; expected letters, \
             digits and signs of ASCII; write it anew, or unset it"
        )))
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

/// The access token and where it came from: the environment, then the file that `hf auth login` writes.
fn token(text: &dyn Fn(&str) -> Option<String>, file: PathBuf) -> (Option<String>, String) {
    if is_true(text("HF_HUB_DISABLE_IMPLICIT_TOKEN")) {
        return (None, String::new());
    }
    let variable = ["HF_TOKEN", "HUGGING_FACE_HUB_TOKEN"].iter().find_map(|name| Some((text(name)?, (*name).to_owned())));
    let stored = || Some((std::fs::read_to_string(&file).ok()?, file.display().to_string()));
    let cleaned = |(token, from): (String, String)| Some((clean(&token)?, from));
    match variable.and_then(cleaned).or_else(|| stored().and_then(cleaned)) {
        Some((token, from)) => (Some(token), from),
        None => (None, String::new()),
    }
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
    use std::ffi::OsString;

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
            (&[("HF_HOME", "$HOME/hf"), ("HOME", "/home/u")], "/home/u/hf/hub"),
            (&[("HF_HOME", "${BASE}/hf"), ("BASE", "/b")], "/b/hf/hub"),
            (&[("HF_HUB_CACHE", "~/$DIR"), ("DIR", "d")], "/home/u/d"),
            (&[("HUGGINGFACE_HUB_CACHE", "$DIR/d"), ("DIR", "/x")], "/x/d"),
            (&[("XDG_CACHE_HOME", "$HOME/x"), ("HOME", "/h")], "/h/x/huggingface/hub"),
            (&[("HF_HOME", "$A"), ("A", "$B"), ("B", "/b")], "/b/hub"),
            (&[("HF_HOME", "$NOT_SET/hf")], "$NOT_SET/hf/hub"),
            (&[("HF_HOME", ""), ("HF_HUB_CACHE", "")], "/home/u/.cache/huggingface/hub"),
        ] {
            assert_eq!(options(vars).cache, PathBuf::from(cache), "{vars:?}");
        }
    }

    #[test]
    fn offline_and_the_endpoint_are_read_as_huggingface_hub_reads_them() {
        for (value, offline) in [("1", true), ("TRUE", true), ("yes", true), ("On", true), ("0", false), ("no", false)] {
            assert_eq!(options(&[("HF_HUB_OFFLINE", value)]).offline, offline, "{value}");
        }
        assert!(options(&[("TRANSFORMERS_OFFLINE", "1")]).offline);
        assert!(!options(&[("TRANSFORMERS_OFFLINE", "1"), ("HF_HUB_OFFLINE", "0")]).offline);
        assert_eq!(options(&[("HF_ENDPOINT", "http://localhost:80/\r")]).endpoint, "http://localhost:80");
        assert_eq!(options(&[]).endpoint, "https://huggingface.co");
    }

    #[test]
    fn the_token_is_trimmed_may_be_disabled_and_is_never_printed() {
        let options_with = options(&[("HF_TOKEN", " hf_secret\n")]);
        assert_eq!(options_with.token.as_deref(), Some("hf_secret"));
        assert!(!format!("{options_with:?}").contains("hf_secret"));
        assert_eq!(options(&[("HF_TOKEN", "hf_secret"), ("HF_HUB_DISABLE_IMPLICIT_TOKEN", "1")]).token, None);
    }

    #[test]
    fn a_token_comes_from_the_environment_and_then_from_the_file_it_names() {
        let folder = std::env::temp_dir().join(format!("tallow-token-{}", std::process::id()));
        std::fs::create_dir_all(&folder).unwrap();
        let [home, file] = ["token", "named"].map(|name| folder.join(name));
        std::fs::write(&home, "hf_\r\nhome\r\n").unwrap();
        std::fs::write(&file, "hf_named\n").unwrap();
        let (folder_text, path) = (folder.display().to_string(), file.display().to_string());
        let set = [("HF_HOME", folder_text.as_str()), ("DIR", folder_text.as_str())];
        for (more, token, from) in [
            (&[][..], Some("hf_home"), home.display().to_string()),
            (&[("HF_TOKEN_PATH", "$DIR/named")], Some("hf_named"), path.clone()),
            // That file alone is asked, as by `huggingface_hub`.
            (&[("HF_TOKEN_PATH", "/not/there")], None, String::new()),
            (&[("HF_TOKEN", "hf_\nenv")], Some("hf_env"), "HF_TOKEN".to_owned()),
            (&[("HF_TOKEN", "\r\n")], Some("hf_home"), home.display().to_string()),
            (&[("HF_TOKEN", ""), ("HUGGING_FACE_HUB_TOKEN", "hf_old")], Some("hf_old"), "HUGGING_FACE_HUB_TOKEN".to_owned()),
            (&[("HF_TOKEN", "hf_env"), ("HF_HUB_DISABLE_IMPLICIT_TOKEN", "1")], None, String::new()),
        ] {
            let found = options(&[&set[..], more].concat());
            assert_eq!((found.token.as_deref(), &found.token_from), (token, &from), "{more:?}");
        }
        let _ = std::fs::remove_dir_all(folder);
    }

    #[test]
    fn a_token_that_no_request_can_carry_is_named_by_its_place_and_not_shown() {
        let of = |token: &str| options(&[("HF_TOKEN", token)]).check_token();
        assert!(of("hf_aA1-_. ~").is_ok() && options(&[]).check_token().is_ok());
        for token in ["hf_se\tcret", "hf_se\u{200b}cret", "hf_secr\u{e9}t", "hf_\u{1}secret"] {
            let error = of(token).unwrap_err().to_string();
            assert!(error.contains("HF_TOKEN") && !error.contains("hf_se") && !error.contains("cret"), "{error}");
        }
        let error = options(&[]).with_token("t\u{e9}", "--token").check_token().unwrap_err().to_string();
        assert!(error.contains("--token"), "{error}");
        assert_eq!(options(&[("HF_TOKEN", "a")]).with_token(" \n", "--token").token.as_deref(), Some("a"));
    }
}
