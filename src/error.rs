//! The library's one error type: a variant for each thing the user can act on.
//!
//! Messages name the file, tensor, key or option, what was expected and what to do. The command line maps variants to exit
//! codes; nothing else should need to match on text.

use std::path::{Path, PathBuf};

/// A `Result` with tallow's [`Error`].
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// Everything that can go wrong, by what the user can do about it.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// No such model, file or folder.
    #[error("model not found: {what}; {hint}")]
    NotFound {
        /// What was asked for.
        what: String,
        /// Where it was looked for, and what to do.
        hint: String,
    },
    /// The model is on the Hub, perhaps, but not on this machine, and was not fetched.
    #[error("model not found: {what}; it is not in the cache {}, and {why}{hint}", cache.display())]
    NotLocal {
        /// What was asked for.
        what: String,
        /// The Hub's cache.
        cache: PathBuf,
        /// Why it was not fetched.
        why: NotFetched,
        /// What else may help, with `; ` before it, or nothing.
        hint: String,
    },
    /// The input is sound, but tallow (or this build of it) can not run it.
    #[error("{what} is not supported; supported: {supported}")]
    Unsupported {
        /// What was met, with the file, key or flag that holds it.
        what: String,
        /// What would have been accepted.
        supported: String,
    },
    /// A file is damaged, incomplete or contradicts itself.
    #[error("{file}: {why}")]
    Corrupt {
        /// The file.
        file: String,
        /// The tensor, key or place in the file, and what is wrong with it.
        why: String,
    },
    /// A downloaded file is not what the Hub says it is.
    #[error("{file}: checksum mismatch: expected {expected}, got {actual}; the download is deleted, fetch it again")]
    Checksum {
        /// The file.
        file: String,
        /// The digest that the Hub names.
        expected: String,
        /// The digest of what came.
        actual: String,
    },
    /// The Hub, or the way to it, failed.
    #[error("network: {what}: {why}; {hint}")]
    Network {
        /// The host, repository or file.
        what: String,
        /// What went wrong.
        why: String,
        /// What to do.
        hint: String,
    },
    /// The repository is given only to those who accepted its licence.
    #[error(
        "{repo} is gated: {why}; accept its licence at {url}, then give a token: HF_TOKEN or `hf auth login` ({})", told(*token_sent)
    )]
    Gated {
        /// `organisation/name`.
        repo: String,
        /// Where the licence is accepted.
        url: String,
        /// What the Hub said.
        why: String,
        /// Whether a token was sent.
        token_sent: bool,
    },
    /// The Hub refuses: the token is wrong or lacks a right, or one is needed.
    #[error(
        "{what}: the Hub refuses access: {why}; give a token that may read it: HF_TOKEN or `hf auth login` ({})", told(*token_sent)
    )]
    Unauthorised {
        /// The repository or file.
        what: String,
        /// What the Hub said.
        why: String,
        /// Whether a token was sent.
        token_sent: bool,
    },
    /// More positions were asked for than the context holds.
    #[error(
        "context overflow: {wanted} tokens wanted, the context holds {limit}; shorten the prompt or raise the context size"
    )]
    ContextOverflow {
        /// Positions needed.
        wanted: usize,
        /// Positions there are.
        limit: usize,
    },
    /// The newest question of a chat, and what follows it, does not fit into the context with the system messages alone.
    #[error(
        "context overflow: the newest message (from the last question on, with system messages) needs {wanted} tokens, the context holds {limit}; shorten it or raise the context size"
    )]
    MessageTooLong {
        /// Positions needed.
        wanted: usize,
        /// Positions there are.
        limit: usize,
    },
    /// A text has more tokens than the embedding model reads, and must not be cut.
    #[error(
        "text {} ({text:?}) has {tokens} tokens, {limit} are read; shorten it, or let long texts be cut (truncate)", index + 1
    )]
    TextTooLong {
        /// Which of the texts, from 0.
        index: usize,
        /// How it begins.
        text: String,
        /// Its tokens.
        tokens: usize,
        /// The most that are read.
        limit: usize,
    },
    /// The caller ended the work with its [`Cancel`](crate::Cancel).
    #[error("cancelled")]
    Cancelled,
    /// Weights and cache do not fit into memory.
    #[error(
        "does not fit in memory: {what} needs {need} bytes, {have} are available; choose a smaller model, quantisation or context"
    )]
    OutOfMemory {
        /// What needs the memory.
        what: String,
        /// Bytes needed.
        need: u64,
        /// Bytes available.
        have: u64,
    },
    /// A chat template does not parse, raises an exception or does not end.
    #[error("chat template: {0}")]
    Template(String),
    /// The caller's input can not be used: an empty prompt, a token id out of range, an option out of its range.
    #[error("{0}")]
    Input(String),
    /// The operating system refused a file operation.
    #[error("{path}: {cause}")]
    Io {
        /// The file or folder.
        path: PathBuf,
        /// What the system said. It is part of the message, and so no `source`, which would say it again.
        cause: std::io::Error,
    },
    /// candle or a device driver failed.
    #[error("device: {0}")]
    Device(candle_core::Error),
}

impl From<candle_core::Error> for Error {
    fn from(error: candle_core::Error) -> Self {
        Error::Device(error)
    }
}

/// Why a model that is not on this machine was not fetched.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum NotFetched {
    /// Fetching is off: `HF_HUB_OFFLINE`, or an option of the caller's.
    Offline,
    /// Nobody asked for it to be fetched.
    NotAsked,
    /// This build has no network code.
    NotBuilt,
}

impl NotFetched {
    /// The reason, where the caller is offline or not.
    pub(crate) fn of(offline: bool) -> NotFetched {
        match (offline, cfg!(feature = "hub")) {
            (_, false) => NotFetched::NotBuilt,
            (true, true) => NotFetched::Offline,
            (false, true) => NotFetched::NotAsked,
        }
    }
}

impl std::fmt::Display for NotFetched {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.pad(match self {
            NotFetched::Offline => "offline nothing is fetched (HF_HUB_OFFLINE, or the option `offline`)",
            NotFetched::NotAsked => "only this machine was searched",
            NotFetched::NotBuilt => "this build can not fetch it: it lacks the feature `hub`",
        })
    }
}

fn told(token_sent: bool) -> &'static str {
    if token_sent { "a token was sent" } else { "no token was sent" }
}

impl Error {
    /// An [`Error::Io`] for `path`.
    pub fn io(path: impl AsRef<Path>, cause: std::io::Error) -> Self {
        Error::Io { path: path.as_ref().to_owned(), cause }
    }

    /// An [`Error::Corrupt`] for `file`.
    pub fn corrupt(file: impl std::fmt::Display, why: impl Into<String>) -> Self {
        Error::Corrupt { file: file.to_string(), why: why.into() }
    }

    /// An [`Error::Unsupported`].
    pub fn unsupported(what: impl Into<String>, supported: impl Into<String>) -> Self {
        Error::Unsupported { what: what.into(), supported: supported.into() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::error::Error as _;

    #[test]
    fn a_cause_is_told_once() {
        let io = Error::io("a.gguf", std::io::Error::other("the disk is full"));
        let device: Error = candle_core::Error::Msg("no driver".into()).into();
        for (error, text) in [(io, "a.gguf: the disk is full"), (device, "device: no driver")] {
            assert_eq!(error.to_string(), text);
            assert!(error.source().is_none(), "the message has it already");
        }
    }
}
