//! stdout and stderr: the only place that writes to them.
//!
//! `println!` panics when the reader has gone away. Here an error on stdout is given back, and `failure` makes a success of
//! a closed pipe; one on stderr is nobody's loss.
//!
//! Much of what is printed was written by strangers: names and metadata in files, a server's messages, a model's answer. A
//! terminal takes control characters in it for commands (colours, titles, text that is typed back), so they are shown as
//! `cat -v` shows them, unless `--control-characters` lets them through. What goes to a file or a pipe is not changed.

use crate::cli::Detail;
use anyhow::Context;
use indicatif::ProgressBar;
use serde::Serialize;
use std::borrow::Cow;
use std::io::{BufWriter, ErrorKind, IsTerminal, Write};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, MutexGuard};
use std::time::Duration;

const NAME: &str = "can not write to stdout";

/// Whether the last line on stdout has not ended yet.
static WITHIN_LINE: AtomicBool = AtomicBool::new(false);
/// Whether a write to stdout is on its way, which may take as long as the reader likes.
static WRITING: AtomicBool = AtomicBool::new(false);

/// Whether control characters reach a terminal as they are.
static CONTROL: AtomicBool = AtomicBool::new(false);

/// Lets control characters through to terminals.
pub fn allow_control_characters() {
    CONTROL.store(true, Ordering::Relaxed);
}

/// `text` for a stream: as it is, or with control characters made visible where the stream is a terminal.
fn shown(text: &str, is_terminal: bool) -> Cow<'_, str> {
    if !is_terminal || CONTROL.load(Ordering::Relaxed) || !text.contains(is_command) {
        return text.into();
    }
    let mut out = String::with_capacity(text.len() + 8);
    for (at, c) in text.char_indices() {
        match c {
            '\r' if text[at..].starts_with("\r\n") => {}
            c if !is_command(c) => out.push(c),
            // As `cat -v` has it: ESC is ^[, DEL is ^?.
            c if c.is_ascii() => out.extend(['^', (c as u8 ^ 0x40) as char]),
            c => out.extend(c.escape_unicode()),
        }
    }
    out.into()
}

/// Whether a terminal may take a character for more than text.
fn is_command(c: char) -> bool {
    c.is_control() && !matches!(c, '\n' | '\t')
}

/// Writes text and flushes it.
pub fn text(text: &str) -> anyhow::Result<()> {
    if text.is_empty() {
        return Ok(());
    }
    let text = &*shown(text, std::io::stdout().is_terminal());
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

/// Writes to stderr.
pub fn note(text: std::fmt::Arguments<'_>) {
    let text = text.to_string();
    let text = shown(&text, std::io::stderr().is_terminal());
    // The bar's own thread takes its lock first and then stderr's: so does this.
    let write = || std::io::stderr().lock().write_all(text.as_bytes());
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_terminal_sees_control_characters_and_does_not_obey_them() {
        for (text, seen) in [
            ("plain\ttext\n", "plain\ttext\n"),
            ("\u{1b}[31mred\u{1b}]0;title\u{7}", "^[[31mred^[]0;title^G"),
            ("dos\r\nlines\rover", "dos\nlines^Mover"),
            ("\u{7f}\u{9b}2J\u{0}", "^?\\u{9b}2J^@"),
            ("naïve 灯 👩‍👧", "naïve 灯 👩‍👧"),
        ] {
            assert_eq!(shown(text, true), seen);
            assert_eq!(shown(text, false), text);
        }
    }
}
