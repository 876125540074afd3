//! Going on with a file of JSON lines that was interrupted.
//!
//! A row is complete when its line has ended: rows are written in order, so all before the last line break are. What stands
//! behind it is cut off. As many texts are left out as there are rows. The last of them and the longest must be those that their
//! rows name, else the file belongs to another input. They are embedded again, and must give the rows' numbers, digit by digit: the
//! same text has the same bits in any batch. So a file of another model, pooling, prompt or limit of tokens is not gone on with.

use super::read::{Record, Records};
use super::too_long;
use super::write::{Target, numbers};
use crate::cli::ui::file::{NewFile, partial, target};
use serde_json::Value;
use serde_json::value::RawValue;
use std::collections::BTreeMap;
use std::fs::{File, OpenOptions};
use std::io::{BufRead, BufReader, Read, Seek, SeekFrom};
use std::path::Path;
use tallow::{Embedder, Error, Pooling};

/// What to do with an output that is not ours.
const ADVICE: &str = "give another --to, or the input, model and options that it was made with";

/// Opens the output behind its last complete row, and leaves out the texts that it has. The rows of a run that did not end are
/// in `NAME.partial`; a file that has its name already goes back to that one until it is whole again.
pub fn open(name: &Path, records: &mut Records, embedder: &Embedder) -> anyhow::Result<Target> {
    let (whole, unfinished) = (target(name), partial(name));
    let path = if whole.exists() && !unfinished.exists() { &whole } else { &unfinished };
    let io = |e: std::io::Error| Error::io(path, e);
    let mut file = OpenOptions::new().read(true).write(true).create(true).truncate(false).open(path).map_err(io)?;
    // Another kind of file may never end.
    if !file.metadata().map_err(io)?.is_file() {
        return Err(Error::Input(format!("{}: is no regular file, which --resume needs: leave it out", path.display())).into());
    }
    let Written { rows, end, .. } = written(&file, u64::MAX).map_err(io)?;
    if rows > 0 {
        for (line, record) in skip(records, rows, path)? {
            let row = read_row(&mut file, line).map_err(io)?;
            check(path, line, &row, &record, records.name(), embedder)?;
        }
        log::info!("{}: going on after {rows} rows", path.display());
    } else if !begun(&mut file).map_err(io)? {
        let message = format!(
            "{}: holds something else than rows of vectors; --resume would erase it: give another --to",
            path.display()
        );
        return Err(Error::Input(message).into());
    }
    file.set_len(end).map_err(io)?;
    file.seek(SeekFrom::Start(end)).map_err(io)?;
    if *path != unfinished {
        std::fs::rename(path, &unfinished).map_err(io)?;
    }
    Ok(Target::File(NewFile::resume(name, file)))
}

/// What is complete in a file.
struct Written {
    rows: u64,
    /// Where the last complete row begins.
    last: u64,
    /// Where it has ended.
    end: u64,
}

/// Of the first `most` rows.
fn written(mut file: &File, most: u64) -> std::io::Result<Written> {
    file.seek(SeekFrom::Start(0))?;
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
            if written.rows == most {
                return Ok(written);
            }
        }
        let len = bytes.len();
        at += len as u64;
        reader.consume(len);
    }
}

/// Whether a file without a whole row is empty, or begins as one does.
fn begun(file: &mut File) -> std::io::Result<bool> {
    let mut bytes = Vec::new();
    file.seek(SeekFrom::Start(0))?;
    file.take(16).read_to_end(&mut bytes)?;
    let begins = |row: &[u8]| bytes.iter().zip(row).all(|(a, b)| a == b);
    Ok(begins(b"{\"id\":") || begins(b"{\"index\":"))
}

/// Row number `line`, from 1.
fn read_row(file: &mut File, line: u64) -> std::io::Result<Vec<u8>> {
    let Written { last, end, .. } = written(file, line)?;
    file.seek(SeekFrom::Start(last))?;
    let mut bytes = Vec::new();
    file.take(end - last).read_to_end(&mut bytes)?;
    Ok(bytes)
}

/// Passes over texts, and gives the longest and the last of them with their rows' numbers.
fn skip(records: &mut Records, rows: u64, path: &Path) -> anyhow::Result<Vec<(u64, Record)>> {
    let (mut longest, mut last): (Option<(u64, Record)>, _) = (None, None);
    while records.passed() < rows {
        let Some(record) = records.next() else { break };
        let record = record?;
        if longest.as_ref().is_none_or(|(_, longest)| record.text.len() > longest.text.len()) {
            longest = Some((records.passed(), record.clone()));
        }
        last = Some((rows, record));
    }
    match last {
        Some(last) if records.passed() == rows => {
            Ok(longest.into_iter().filter(|(line, _)| *line < rows).chain([last]).collect())
        }
        _ => {
            let (path, name, count) = (path.display(), records.name(), records.passed());
            let message =
                format!("{path} has {rows} rows, but {name} only {count} texts: it was made of another input; {ADVICE}");
            Err(Error::Input(message).into())
        }
    }
}

/// Compares row number `line` with the text that it should belong to, and with the model.
fn check(path: &Path, line: u64, row: &[u8], record: &Record, input: &str, embedder: &Embedder) -> anyhow::Result<()> {
    let wrong =
        |why: String| Error::Input(format!("{}, line {line}: {why}; --resume can not go on with it: {ADVICE}", path.display()));
    let no_row = |e: serde_json::Error| wrong(format!("is no row of vectors: {e}"));
    let row: BTreeMap<String, Box<RawValue>> = serde_json::from_slice(row).map_err(no_row)?;
    let get = |name| row.get(name).map(|value| value.get());
    let (name, expected) = record.place.key.entry();
    if get(name) != Some(&expected) {
        let found = get("id").or(get("index")).unwrap_or("nothing");
        return Err(wrong(format!("belongs to {found}, the input has {expected} here")).into());
    }
    let Some(embedding) = get("embedding") else { return Err(wrong("has no embedding".into()).into()) };
    let vector: Vec<Value> = serde_json::from_str(embedding).map_err(no_row)?;
    let tokens = embedder.pooling() == Pooling::None;
    let dim = if tokens { vector.first().and_then(Value::as_array).map(Vec::len) } else { Some(vector.len()) };
    match dim {
        Some(dim) if dim != embedder.dimensions() => {
            Err(wrong(format!("has {dim} dimensions, this model gives {}", embedder.dimensions())).into())
        }
        _ => {
            let again = match embedder.embed_iter([record]).silent().next() {
                Some(embedded) => embedded.map_err(|e| too_long(e, || record.place.told(input)))?,
                None => return Ok(()),
            };
            let mut digits = Vec::new();
            numbers(&mut digits, &again.vector, embedder.dimensions(), tokens).map_err(|e| Error::io(path, e))?;
            if embedding.bytes().filter(|byte| !byte.is_ascii_whitespace()).ne(digits) {
                let why = "holds another vector than its text has now: the text, the model or an option is another";
                return Err(wrong(why.into()).into());
            }
            Ok(())
        }
    }
}
