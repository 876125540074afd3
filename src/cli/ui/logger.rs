//! The library's log messages, on stderr, a line each.
//!
//! Warnings by default, errors only with `-q`, tallow's own notes with `-v`; `TALLOW_LOG` (off, error, warn, info, debug,
//! trace) overrides both.

use crate::cli::Detail;
use crate::cli::ui::output::note;
use log::{Level, LevelFilter, Log, Metadata, Record};

struct Stderr;

impl Log for Stderr {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        // Other crates' notes are about their own insides.
        metadata.level() <= Level::Warn || metadata.target().starts_with("tallow")
    }

    fn log(&self, record: &Record<'_>) {
        if self.enabled(record.metadata()) {
            let label = match record.level() {
                Level::Error => "error",
                Level::Warn => "warning",
                Level::Info => "note",
                Level::Debug => "debug",
                Level::Trace => "trace",
            };
            note(format_args!("{label}: {}\n", record.args()));
        }
    }

    fn flush(&self) {}
}

/// Starts logging.
pub fn start(detail: Detail) {
    let level = match detail {
        Detail::Quiet => LevelFilter::Error,
        Detail::Normal => LevelFilter::Warn,
        Detail::Verbose => LevelFilter::Info,
    };
    let named = std::env::var("TALLOW_LOG").ok().and_then(|name| name.parse().ok());
    // A second logger can only come from a second call, which would change nothing.
    if log::set_logger(&Stderr).is_ok() {
        log::set_max_level(named.unwrap_or(level));
    }
}
