//! What went wrong, for a person and for a script: one line per cause on stderr, and an exit code.

use crate::cli::ui::output::{is_closed_pipe, note};
use std::process::ExitCode;
use tallow::{Error, NotFetched};

/// The command line itself can not be used.
#[derive(Debug)]
struct Usage(String);

impl std::fmt::Display for Usage {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for Usage {}

/// An error with the exit code for wrong usage.
pub fn usage(message: impl Into<String>) -> anyhow::Error {
    anyhow::Error::new(Usage(message.into()))
}

/// Prints the chain of causes and chooses the exit code. A closed pipe is a success, and silent.
pub fn report(error: &anyhow::Error) -> ExitCode {
    if is_closed_pipe(error) {
        return ExitCode::SUCCESS;
    }
    for line in lines(error) {
        note(format_args!("{line}\n"));
    }
    ExitCode::from(code(error))
}

/// One line per cause. A cause whose text the line before already holds is left out.
fn lines(error: &anyhow::Error) -> Vec<String> {
    let mut lines: Vec<String> = Vec::new();
    for cause in error.chain() {
        let mut text = cause.to_string().lines().map(str::trim_end).collect::<Vec<_>>().join(" ");
        if let Some(hint) = cause.downcast_ref::<Error>().and_then(hint) {
            text = format!("{text}; {hint}");
        }
        if lines.last().is_none_or(|last| !last.contains(&text)) {
            let prefix = if lines.is_empty() { "error: " } else { "  caused by: " };
            lines.push(format!("{prefix}{text}"));
        }
    }
    lines
}

/// What the command line has for it, which the library's message does not know.
fn hint(error: &Error) -> Option<&'static str> {
    Some(match error {
        Error::NotLocal { why: NotFetched::Offline, .. } => "without --offline it is fetched, and `tallow pull` fetches it",
        Error::NotLocal { why: NotFetched::NotAsked, .. } => "`tallow pull` fetches it",
        Error::Network { .. } => "--offline runs what is cached",
        Error::Gated { .. } | Error::Unauthorised { .. } => "`tallow pull --token` takes a token, too",
        _ => return None,
    })
}

fn code(error: &anyhow::Error) -> u8 {
    error.chain().find_map(code_of).unwrap_or(1)
}

fn code_of(cause: &(dyn std::error::Error + 'static)) -> Option<u8> {
    if cause.is::<Usage>() {
        return Some(2);
    }
    Some(match cause.downcast_ref::<Error>()? {
        Error::Input(_) => 2,
        Error::NotFound { .. } | Error::NotLocal { .. } => 3,
        Error::OutOfMemory { .. } => 4,
        Error::Network { .. } | Error::Gated { .. } | Error::Unauthorised { .. } => 5,
        Error::Corrupt { .. } | Error::Checksum { .. } => 6,
        Error::Cancelled => 130,
        // Unsupported, ContextOverflow, MessageTooLong, Template, Io, Device, and what is added later.
        _ => 1,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use anyhow::Context;

    fn not_local(why: NotFetched) -> Error {
        Error::NotLocal { what: "org/m".to_owned(), cache: "/cache".into(), why, hint: String::new() }
    }

    #[test]
    fn what_only_the_command_line_has_is_its_own_hint() {
        for why in [NotFetched::Offline, NotFetched::NotAsked] {
            let library = not_local(why).to_string();
            assert!(!library.contains("--") && !library.contains("tallow"), "{library}");
            let line = lines(&not_local(why).into()).remove(0);
            assert!(line.starts_with(&format!("error: {library}; ")) && line.contains("`tallow pull`"), "{line}");
        }
    }

    #[test]
    fn each_kind_of_error_has_its_exit_code() {
        let text = String::new;
        for (error, expected) in [
            (Error::NotFound { what: text(), hint: text() }.into(), 3),
            (not_local(NotFetched::Offline).into(), 3),
            (Error::OutOfMemory { what: text(), need: 2, have: 1 }.into(), 4),
            (Error::Network { what: text(), why: text(), hint: text() }.into(), 5),
            (Error::Gated { repo: text(), url: text(), why: text(), token_sent: true }.into(), 5),
            (Error::Unauthorised { what: text(), why: text(), token_sent: false }.into(), 5),
            (Error::corrupt("file", "why").into(), 6),
            (Error::Checksum { file: text(), expected: text(), actual: text() }.into(), 6),
            (Error::Input(text()).into(), 2),
            (Error::unsupported("this", "that").into(), 1),
            (Error::ContextOverflow { wanted: 2, limit: 1 }.into(), 1),
            (Error::MessageTooLong { wanted: 2, limit: 1 }.into(), 1),
            (Error::Cancelled.into(), 130),
            (Error::Template(text()).into(), 1),
            (usage("no"), 2),
            (anyhow::anyhow!("anything else"), 1),
        ] {
            let error: anyhow::Error = error;
            assert_eq!(code(&error), expected, "{error}");
            assert_eq!(code(&error.context("around it")), expected);
        }
    }

    #[test]
    fn every_cause_is_one_line_and_none_is_told_twice() {
        let inner = std::io::Error::other("the disk\nis full");
        let error: Result<(), _> = Err(Error::io("a.npy", inner));
        let error = error.context("can not write the logits").unwrap_err();
        assert_eq!(lines(&error), ["error: can not write the logits", "  caused by: a.npy: the disk is full"]);
    }

    #[test]
    fn a_closed_pipe_is_no_failure() {
        let error = anyhow::Error::new(std::io::Error::from(std::io::ErrorKind::BrokenPipe)).context("stdout");
        assert_eq!(format!("{:?}", report(&error)), format!("{:?}", ExitCode::SUCCESS));
    }
}
