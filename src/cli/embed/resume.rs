//! Going on with a file of JSON lines that was interrupted.
//!
//! A row is complete when its line has ended: rows are written in order, so all before the last line break are. What stands
//! behind it is cut off. As many texts are left out as there are rows, and the last of them must be the one that the last row
//! names, else the file belongs to another input.

use super::read::{Key, Record, Records};
use super::write::{Target, target};
use serde_json::Value;
use std::fs::{File, OpenOptions};
use std::io::{BufRead, BufReader, Read, Seek, SeekFrom};
use std::path::Path;
use tallow::{Embedder, Error, Pooling};

/// Opens the output behind its last complete row, and leaves out the texts that it has.
pub fn open(path: &Path, records: &mut Records, embedder: &Embedder) -> anyhow::Result<Target> {
    let io = |e: std::io::Error| Error::io(path, e);
    let mut file = OpenOptions::new().read(true).write(true).create(true).truncate(false).open(path).map_err(io)?;
    let Written { rows, last, end } = written(&file).map_err(io)?;
    if rows > 0 {
        let row = read_row(&mut file, last..end).map_err(io)?;
        let record = skip(records, rows, path)?;
        check(path, rows, &row, &record, embedder)?;
        log::info!("{}: going on after {rows} rows", path.display());
    }
    file.set_len(end).map_err(io)?;
    file.seek(SeekFrom::Start(end)).map_err(io)?;
    Ok(target(path, file))
}

/// What is complete in a file.
struct Written {
    rows: u64,
    /// Where the last complete row begins.
    last: u64,
    /// Where it has ended.
    end: u64,
}

fn written(file: &File) -> std::io::Result<Written> {
    let mut reader = BufReader::with_capacity(1 << 16, file);
    let (mut written, mut at) = (Written { rows: 0, last: 0, end: 0 }, 0);
    loop {
        let bytes = reader.fill_buf()?;
        if bytes.is_empty() {
            return Ok(written);
        }
        for (i, _) in bytes.iter().enumerate().filter(|(_, byte)| **byte == b'\n') {
            let end = at + i as u64 + 1;
            written = Written { rows: written.rows + 1, last: written.end, end };
        }
        let len = bytes.len();
        at += len as u64;
        reader.consume(len);
    }
}

fn read_row(file: &mut File, range: std::ops::Range<u64>) -> std::io::Result<Vec<u8>> {
    file.seek(SeekFrom::Start(range.start))?;
    let mut bytes = Vec::new();
    file.take(range.end - range.start).read_to_end(&mut bytes)?;
    Ok(bytes)
}

/// Passes over texts, and gives the last of them.
fn skip(records: &mut Records, rows: u64, path: &Path) -> anyhow::Result<Record> {
    let mut last = None;
    while records.passed() < rows {
        match records.next() {
            Some(record) => last = Some(record?),
            None => break,
        }
    }
    match last {
        Some(record) if records.passed() == rows => Ok(record),
        _ => {
            let (path, name, count) = (path.display(), records.name(), records.passed());
            let message = format!("{path} has {rows} rows, but {name} only {count} texts: it was made of another input");
            Err(Error::Input(message).into())
        }
    }
}

/// Compares the last row with the text that it should belong to, and with the model.
fn check(path: &Path, rows: u64, row: &[u8], record: &Record, embedder: &Embedder) -> anyhow::Result<()> {
    let wrong = |why: String| Error::Input(format!("{}, line {rows}: {why}; --resume can not go on with it", path.display()));
    let row: Value = serde_json::from_slice(row).map_err(|e| wrong(format!("is no row of vectors: {e}")))?;
    let (name, expected) = match &record.key {
        Key::Id(id) => ("id", id.clone()),
        Key::Index(index) => ("index", Value::from(*index)),
    };
    if row.get(name) != Some(&expected) {
        let found = row.get("id").or(row.get("index")).unwrap_or(&Value::Null);
        return Err(wrong(format!("belongs to {found}, the input has {expected} here")).into());
    }
    let Some(vector) = row["embedding"].as_array() else { return Err(wrong("has no embedding".into()).into()) };
    let tokens = embedder.pooling() == Pooling::None;
    let dim = if tokens { vector.first().and_then(Value::as_array).map(Vec::len) } else { Some(vector.len()) };
    match dim {
        Some(dim) if dim != embedder.dimensions() => {
            Err(wrong(format!("has {dim} dimensions, this model gives {}", embedder.dimensions())).into())
        }
        _ => Ok(()),
    }
}
