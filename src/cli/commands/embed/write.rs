//! Vectors to stdout or a file, row by row.
//!
//! JSON, JSON lines and raw floats are written as they come. The header of an `.npy` file has the number of rows in it, so it
//! is written again at the end; in a pipe that can not be done, and the rows wait in memory. A file gets its name when it is
//! whole; of unfinished JSON lines the rows stay in `NAME.partial`, where `--resume` finds them.

use super::Record;
use crate::cli::ui::file::{NewFile, partial};
use crate::cli::ui::npy;
use anyhow::Context;
use std::io::{BufWriter, Write};
use std::path::Path;
use tallow::Embedding;

/// How vectors are printed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum Format {
    /// An array of numbers for one text, an array of arrays for several
    Json,
    /// A JSON object a line, with the text's id
    Jsonl,
    /// A NumPy file of shape (texts, dimensions)
    Npy,
    /// Little-endian f32, row after row
    Raw,
}

impl Format {
    /// What a file's name says.
    pub fn of(path: &Path) -> Option<Format> {
        let extension = path.extension()?.to_str()?.to_ascii_lowercase();
        match extension.as_str() {
            "json" => Some(Format::Json),
            "jsonl" | "ndjson" => Some(Format::Jsonl),
            "npy" => Some(Format::Npy),
            "raw" | "bin" | "f32" => Some(Format::Raw),
            _ => None,
        }
    }
}

/// Where vectors go.
pub enum Target {
    Stdout(BufWriter<std::io::Stdout>),
    File(NewFile),
}

/// stdout, in large pieces.
pub fn stdout() -> Target {
    Target::Stdout(BufWriter::with_capacity(1 << 16, std::io::stdout()))
}

/// A new file, in place of an older one once it is whole.
pub fn create(path: &Path, format: Option<Format>) -> anyhow::Result<Target> {
    let file = NewFile::create(path)?;
    Ok(Target::File(if format == Some(Format::Jsonl) { file.keep() } else { file }))
}

impl Target {
    /// Writes, and says where it failed.
    pub fn put(&mut self, write: impl FnOnce(&mut dyn Write) -> std::io::Result<()>) -> anyhow::Result<()> {
        match self {
            Target::Stdout(out) => write(out).context("can not write to stdout"),
            Target::File(file) => Ok(file.put(|out| write(out))?),
        }
    }

    /// Writes what is still in memory, and gives a file its name.
    pub fn finish(mut self) -> anyhow::Result<()> {
        self.put(|out| out.flush())?;
        match self {
            Target::Stdout(_) => Ok(()),
            Target::File(file) => Ok(file.finish()?),
        }
    }
}

/// Writes vectors in a format.
pub struct Sink {
    format: Format,
    target: Target,
    /// One text of the arguments: JSON has no outer array.
    alone: bool,
    rows: usize,
    /// Whether the target can be written again from its beginning: a file's name may stand for a pipe.
    seeks: bool,
    /// Rows of an `.npy` file that goes into a pipe.
    waiting: Vec<f32>,
}

impl Sink {
    pub fn new(format: Format, target: Target, alone: bool) -> Sink {
        let seeks = match &target {
            Target::Stdout(_) => false,
            Target::File(file) => file.seeks(),
        };
        Sink { format, target, alone, rows: 0, seeks, waiting: Vec::new() }
    }

    /// Writes a text's vector; `several` if it has one for each token.
    pub fn write(&mut self, embedding: Embedding<Record>, dim: usize, several: bool) -> anyhow::Result<()> {
        let (first, alone) = (self.rows == 0, self.alone);
        self.rows += 1;
        let vector = &embedding.vector;
        match (self.format, &mut self.target) {
            (Format::Json, target) => target.put(|out| {
                if !alone {
                    out.write_all(if first { b"[" } else { b"," })?;
                }
                numbers(out, vector, dim, several)
            }),
            (Format::Jsonl, target) => target.put(|out| row(out, &embedding, dim, several)),
            (Format::Npy, _) if !self.seeks => {
                self.waiting.extend_from_slice(vector);
                Ok(())
            }
            // Not a row's header: what is cut off before the end must not look like a whole file.
            (Format::Npy, target) if first => target.put(|out| npy::write_unfinished(out, vector)),
            (Format::Npy | Format::Raw, target) => target.put(|out| raw(out, vector)),
        }
    }

    /// Writes what comes last.
    pub fn finish(mut self, dim: usize) -> anyhow::Result<()> {
        let (rows, alone, waiting) = (self.rows, self.alone, &self.waiting);
        match (self.format, &mut self.target) {
            (Format::Json, target) => target.put(|out| match (alone, rows) {
                (true, _) => out.write_all(b"\n"),
                (false, 0) => out.write_all(b"[]\n"),
                (false, _) => out.write_all(b"]\n"),
            })?,
            (Format::Npy, Target::File(file)) if self.seeks => {
                file.rewind()?;
                file.put(|out| npy::write_header(out, rows, dim))?;
            }
            (Format::Npy, target) => target.put(|out| npy::write(out, waiting, rows, dim))?,
            (Format::Jsonl | Format::Raw, _) => {}
        }
        self.target.finish()
    }

    /// Ends an output whose input failed. A pipe gets an array that is whole for what it has, if there is anything; a file does
    /// not get its name, and of JSON lines the rows stay for `--resume`.
    pub fn stop(self, dim: usize) -> anyhow::Result<()> {
        match (&self.target, self.rows) {
            (Target::File(file), rows) if self.seeks => {
                if self.format == Format::Jsonl && rows > 0 {
                    let partial = partial(file.path());
                    log::warn!("{rows} rows are in {}; the same command with --resume goes on behind them", partial.display());
                }
                Ok(())
            }
            (_, 0) => Ok(()),
            _ => self.finish(dim),
        }
    }
}

/// `[0.1,0.2]`, or an array of such for the tokens of a text. Numbers have as many digits as identify them.
pub fn numbers(out: &mut dyn Write, vector: &[f32], dim: usize, several: bool) -> std::io::Result<()> {
    if several {
        let rows: Vec<&[f32]> = vector.chunks_exact(dim).collect();
        return serde_json::to_writer(out, &rows).map_err(std::io::Error::from);
    }
    serde_json::to_writer(out, vector).map_err(std::io::Error::from)
}

/// `{"id":...,"tokens":N,"embedding":[...]}` and a line break.
fn row(out: &mut dyn Write, embedding: &Embedding<Record>, dim: usize, several: bool) -> std::io::Result<()> {
    let (name, key) = embedding.text.place.key.entry();
    write!(out, "{{\"{name}\":{key},\"tokens\":{}", embedding.tokens)?;
    if let Some(tokens) = embedding.cut_from {
        write!(out, ",\"cut_from\":{tokens}")?;
    }
    out.write_all(b",\"embedding\":")?;
    numbers(out, &embedding.vector, dim, several)?;
    out.write_all(b"}\n")
}

/// Little-endian f32.
pub fn raw(out: &mut dyn Write, values: &[f32]) -> std::io::Result<()> {
    values.iter().try_for_each(|value| out.write_all(&value.to_le_bytes()))
}
