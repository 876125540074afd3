//! How alike each two texts are: a table for people, a matrix for programs.

use super::super::npy;
use super::read::Records;
use super::write::{Format, create, raw, stdout};
use std::fmt::Write as _;
use std::path::Path;
use tallow::ndarray::{Array2, Axis};
use tallow::{Embedder, Error};

/// A matrix of more texts than that is larger than anybody reads.
const MOST: usize = 10_000;
/// Characters of a text that the table shows.
const SHOWN: usize = 40;

/// Embeds all texts and prints the matrix.
pub fn run(embedder: &Embedder, records: &mut Records, format: Option<Format>, to: Option<&Path>) -> anyhow::Result<()> {
    let mut texts = Vec::new();
    for record in records {
        texts.push(record?.text);
        if texts.len() > MOST {
            return Err(Error::Input(format!("--similarity of more than {MOST} texts: embed them, and search them")).into());
        }
    }
    let vectors = embedder.embed(&texts)?;
    let matrix = embedder.similarity(&vectors, &vectors);
    let rows: Vec<&[f32]> = matrix.as_slice().map_or(Vec::new(), |all| all.chunks_exact(texts.len().max(1)).collect());
    let mut target = match to {
        Some(path) => create(path)?,
        None => stdout(),
    };
    target.put(|mut out| {
        match format {
            None => out.write_all(table(&matrix, &texts).as_bytes())?,
            Some(Format::Json) => {
                serde_json::to_writer(&mut out, &rows)?;
                out.write_all(b"\n")?;
            }
            Some(Format::Jsonl) => {
                for row in rows {
                    serde_json::to_writer(&mut out, row)?;
                    out.write_all(b"\n")?;
                }
            }
            Some(Format::Npy) => npy::write(&mut out, &rows.concat(), texts.len(), texts.len())?,
            Some(Format::Raw) => raw(out, &rows.concat())?,
        }
        out.flush()
    })
}

/// A line for each text: its likeness to each, and how it begins.
fn table(matrix: &Array2<f32>, texts: &[String]) -> String {
    let mut out = String::new();
    for (row, text) in matrix.axis_iter(Axis(0)).zip(texts) {
        for value in row {
            let _ = write!(out, "{value:8.4}");
        }
        let shown: String = text.chars().take(SHOWN).map(|c| if c.is_control() { ' ' } else { c }).collect();
        let _ = writeln!(out, "  {shown}{}", if text.chars().nth(SHOWN).is_some() { "..." } else { "" });
    }
    out
}
