//! stdout and stderr: the only place that writes to them.
//!
//! `println!` panics when the reader has gone away. Here an error on stdout is given back, and `failure` makes a success of
//! a closed pipe; one on stderr is nobody's loss.

use crate::cli::Detail;
use anyhow::Context;
use indicatif::ProgressBar;
use serde::Serialize;
use std::io::{BufWriter, ErrorKind, IsTerminal, Write};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, MutexGuard};
use std::time::Duration;

const NAME: &str = "can not write to stdout";

/// Whether the last line on stdout has not ended yet.
static WITHIN_LINE: AtomicBool = AtomicBool::new(false);
/// Whether a write to stdout is on its way, which may take as long as the reader likes.
static WRITING: AtomicBool = AtomicBool::new(false);

/// Writes text as it is and flushes it.
pub fn text(text: &str) -> anyhow::Result<()> {
    if text.is_empty() {
        return Ok(());
    }
    WRITING.store(true, Ordering::SeqCst);
    let mut out = std::io::stdout().lock();
    let written = out.write_all(text.as_bytes()).and_then(|()| out.flush()).context(NAME);
    WITHIN_LINE.store(!text.ends_with('\n'), Ordering::SeqCst);
    WRITING.store(false, Ordering::SeqCst);
    written
}

/// Ends the last line on stdout where it has not ended, for a program that is about to be. Waits for no reader longer than a moment.
pub fn end_line() {
    // A write that is under way ends at once, unless it waits for a reader.
    for _ in 0..50 {
        if !WRITING.load(Ordering::SeqCst) {
            break;
        }
        std::thread::sleep(std::time::Duration::from_millis(1));
    }
    if !WRITING.load(Ordering::SeqCst) && WITHIN_LINE.load(Ordering::SeqCst) {
        let _ = line("");
    }
}

/// Writes a text and ends its line.
pub fn line(line: &str) -> anyhow::Result<()> {
    text(&format!("{line}\n"))
}

/// Writes one JSON object (or array) and ends the line. Floats are written with as many digits as identify them.
pub fn json(value: &impl Serialize) -> anyhow::Result<()> {
    let mut out = BufWriter::new(std::io::stdout().lock());
    let written = serde_json::to_writer(&mut out, value).map_err(std::io::Error::from);
    written.and_then(|()| out.write_all(b"\n")).and_then(|()| out.flush()).context(NAME)
}

/// Shows on stderr that something takes its time, until it is dropped; nothing where no terminal shows it.
pub fn wait(detail: Detail, what: String) -> Waiting {
    let shown = detail != Detail::Quiet && std::io::stderr().is_terminal();
    let bar = if shown { ProgressBar::new_spinner().with_message(what) } else { ProgressBar::hidden() };
    if shown {
        bar.enable_steady_tick(Duration::from_millis(100));
        *shown_bar() = Some(bar.clone());
    }
    Waiting(bar)
}

/// See [`wait`].
pub struct Waiting(ProgressBar);

impl Waiting {
    /// Shows something else.
    pub fn say(&self, what: String) {
        self.0.set_message(what);
    }
}

impl Drop for Waiting {
    fn drop(&mut self) {
        *shown_bar() = None;
        self.0.finish_and_clear();
    }
}

/// The line on stderr that is not for ever: other lines must not end in it.
fn shown_bar() -> MutexGuard<'static, Option<ProgressBar>> {
    static SHOWN: Mutex<Option<ProgressBar>> = Mutex::new(None);
    SHOWN.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
}

/// Writes to stderr, as it is.
pub fn note(text: std::fmt::Arguments<'_>) {
    let write = || std::io::stderr().lock().write_fmt(text);
    let _ = match &*shown_bar() {
        Some(bar) => bar.suspend(write),
        None => write(),
    };
}

/// Whether the error is that nobody reads stdout any more.
pub fn is_closed_pipe(error: &anyhow::Error) -> bool {
    let io = |cause: &(dyn std::error::Error + 'static)| match cause.downcast_ref::<tallow::Error>() {
        Some(tallow::Error::Io { cause, .. }) => Some(cause.kind()),
        _ => cause.downcast_ref::<std::io::Error>().map(std::io::Error::kind),
    };
    error.chain().any(|cause| io(cause) == Some(ErrorKind::BrokenPipe))
}
