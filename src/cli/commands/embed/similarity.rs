//! How alike each two texts are: a table for people, a matrix for programs.

use super::read::{Record, Records};
use super::write::{Format, create, raw, stdout};
use super::{Cut, too_long};
use crate::cli::ui::npy;
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
    for record in records.by_ref() {
        texts.push(record?);
        if texts.len() > MOST {
            return Err(Error::Input(format!("--similarity of more than {MOST} texts: embed them, and search them")).into());
        }
    }
    let (mut all, mut cut) = (Vec::new(), Cut::default());
    for (i, embedding) in embedder.embed_iter(&texts).silent().enumerate() {
        let embedding = embedding.map_err(|e| too_long(e, || texts[i].place.told(records.name())))?;
        cut.add(embedding.cut_from, || embedding.text.place.told(records.name()));
        all.extend(embedding.vector);
    }
    cut.warn(embedder.max_tokens());
    let shape = (texts.len(), embedder.dimensions());
    let vectors = Array2::from_shape_vec(shape, all).expect("each text has one vector");
    let matrix = embedder.similarity(&vectors, &vectors);
    let all = matrix.as_slice().expect("a similarity is in standard layout");
    let rows: Vec<&[f32]> = all.chunks_exact(texts.len().max(1)).collect();
    let mut target = match to {
        Some(path) => create(path, None)?,
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
            Some(Format::Npy) => npy::write(&mut out, all, texts.len(), texts.len())?,
            Some(Format::Raw) => raw(out, all)?,
        }
        Ok(())
    })?;
    target.finish()
}

/// A line for each text: its likeness to each, and how it begins.
fn table(matrix: &Array2<f32>, texts: &[Record]) -> String {
    let mut out = String::new();
    for (row, record) in matrix.axis_iter(Axis(0)).zip(texts) {
        let text = &record.text;
        for value in row {
            let _ = write!(out, "{value:8.4}");
        }
        let shown: String = text.chars().take(SHOWN).map(|c| if c.is_control() { ' ' } else { c }).collect();
        let _ = writeln!(out, "  {shown}{}", if text.chars().nth(SHOWN).is_some() { "..." } else { "" });
    }
    out
}
