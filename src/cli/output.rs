//! stdout and stderr: the only place that writes to them.
//!
//! `println!` panics when the reader has gone away. Here an error on stdout is given back, and `failure` makes a success of
//! a closed pipe; one on stderr is nobody's loss.

use anyhow::Context;
use serde::Serialize;
use std::io::{BufWriter, ErrorKind, Write};

const NAME: &str = "can not write to stdout";

/// Writes text as it is and flushes it.
pub fn text(text: &str) -> anyhow::Result<()> {
    let mut out = std::io::stdout().lock();
    out.write_all(text.as_bytes()).and_then(|()| out.flush()).context(NAME)
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

/// Writes to stderr, as it is.
pub fn note(text: std::fmt::Arguments<'_>) {
    let _ = std::io::stderr().lock().write_fmt(text);
}

/// Whether the error is that nobody reads stdout any more.
pub fn is_closed_pipe(error: &anyhow::Error) -> bool {
    error.chain().any(|cause| cause.downcast_ref::<std::io::Error>().is_some_and(|e| e.kind() == ErrorKind::BrokenPipe))
}
