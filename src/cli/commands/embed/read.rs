//! Texts, one at a time: from the arguments, or from the lines of a file or a pipe.
//!
//! Every line of a text file is a text, empty ones too, so that the i-th vector belongs to the i-th line. Empty lines between
//! JSON lines are nothing. Ids are kept as JSON text, because numbers of JSON need not fit into any type.
//!
//! What may wait for its writer, as a pipe does, is read by a thread of its own, so that Ctrl-C is heard meanwhile.

use crate::cli::args::shared::Source;
use serde_json::Value;
use serde_json::value::RawValue;
use std::collections::BTreeMap;
use std::fs::File;
use std::io::{BufRead, BufReader, Read};
use std::sync::mpsc::{Receiver, RecvTimeoutError, sync_channel};
use std::time::Duration;
use tallow::{Cancel, Error};

/// Lines that are read ahead of those who wait for them.
const AHEAD: usize = 64;
/// How long Ctrl-C waits to be heard.
const OFTEN: Duration = Duration::from_millis(50);

/// How a file is divided into texts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum InputFormat {
    /// A text a line
    Lines,
    /// A JSON object a line, with the text and perhaps an `id`
    Jsonl,
}

/// What a text is called.
#[derive(Debug, Clone, PartialEq)]
pub enum Key {
    /// Its number, from 0.
    Index(u64),
    /// Its id in the input, as JSON text.
    Id(String),
}

impl Key {
    /// The key of its row, and the value as JSON text.
    pub fn entry(&self) -> (&'static str, String) {
        match self {
            Key::Index(index) => ("index", index.to_string()),
            Key::Id(id) => ("id", id.clone()),
        }
    }
}

/// Where a text is from.
#[derive(Debug, Clone, PartialEq)]
pub struct Place {
    pub key: Key,
    /// The line, from 1; none for arguments.
    pub line: Option<u64>,
}

impl Place {
    /// What messages call a text of the input.
    pub fn told(&self, input: &str) -> String {
        match (self.line, &self.key) {
            (Some(line), Key::Id(id)) => format!("{input}, line {line} (id {id})"),
            (Some(line), Key::Index(_)) => format!("{input}, line {line}"),
            (None, key) => format!("{input}, text {}", if let Key::Index(i) = key { i + 1 } else { 0 }),
        }
    }
}

/// A text and where it is from.
#[derive(Debug, Clone, PartialEq)]
pub struct Record {
    pub place: Place,
    pub text: String,
}

impl AsRef<str> for Record {
    fn as_ref(&self) -> &str {
        &self.text
    }
}

/// The texts of the input, in order.
pub struct Records {
    lines: Lines,
    format: InputFormat,
    field: String,
    /// What messages call the input.
    name: String,
    /// Lines and texts so far.
    line: u64,
    count: u64,
    /// After an error there is nothing more.
    over: bool,
}

enum Lines {
    Given(std::vec::IntoIter<String>),
    Read(Box<dyn BufRead>),
    Waited(Receiver<std::io::Result<Vec<u8>>>, Cancel),
}

/// The next line with its end, if it has one.
fn whole(reader: &mut dyn BufRead) -> Option<std::io::Result<Vec<u8>>> {
    let mut bytes = Vec::new();
    match reader.read_until(b'\n', &mut bytes) {
        Ok(0) => None,
        Ok(_) => Some(Ok(bytes)),
        Err(e) => Some(Err(e)),
    }
}

/// Lines that a thread reads.
fn waited(source: impl Read + Send + 'static, cancel: &Cancel) -> std::io::Result<Lines> {
    let (sender, receiver) = sync_channel(AHEAD);
    let work = move || {
        let mut reader = BufReader::with_capacity(1 << 16, source);
        while let Some(line) = whole(&mut reader) {
            let failed = line.is_err();
            if sender.send(line).is_err() || failed {
                break;
            }
        }
    };
    std::thread::Builder::new().name("tallow-input".into()).spawn(work)?;
    Ok(Lines::Waited(receiver, cancel.clone()))
}

impl Records {
    /// The texts of the arguments.
    pub fn given(texts: Vec<String>) -> Records {
        Records::new(Lines::Given(texts.into_iter()), InputFormat::Lines, "", "the arguments".into())
    }

    /// The texts of a file, or of stdin. `cancel` ends the waiting for a pipe.
    pub fn open(source: &Source, format: InputFormat, field: &str, cancel: &Cancel) -> anyhow::Result<Records> {
        let io = |e| Error::io(&source.0, e);
        if source.is_stdin() {
            return Ok(Records::new(waited(std::io::stdin(), cancel).map_err(io)?, format, field, "stdin".into()));
        }
        let file = File::open(&source.0).map_err(io)?;
        let lines = match file.metadata().is_ok_and(|metadata| metadata.is_file()) {
            true => Lines::Read(Box::new(BufReader::with_capacity(1 << 16, file))),
            false => waited(file, cancel).map_err(io)?,
        };
        Ok(Records::new(lines, format, field, source.0.display().to_string()))
    }

    fn new(lines: Lines, format: InputFormat, field: &str, name: String) -> Records {
        Records { lines, format, field: field.to_owned(), name, line: 0, count: 0, over: false }
    }

    /// How many there were so far.
    pub fn passed(&self) -> u64 {
        self.count
    }

    /// What messages call the input.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The next line, without its end.
    fn line(&mut self) -> Option<anyhow::Result<String>> {
        let bytes = match &mut self.lines {
            Lines::Given(texts) => return texts.next().map(Ok),
            Lines::Read(reader) => whole(reader)?,
            Lines::Waited(receiver, cancel) => loop {
                match receiver.recv_timeout(OFTEN) {
                    Ok(line) => break line,
                    Err(RecvTimeoutError::Disconnected) => return None,
                    Err(RecvTimeoutError::Timeout) if cancel.is_cancelled() => return Some(Err(Error::Cancelled.into())),
                    Err(RecvTimeoutError::Timeout) => {}
                }
            },
        };
        let mut bytes = match bytes {
            Ok(bytes) => bytes,
            Err(e) => return Some(Err(Error::io(&self.name, e).into())),
        };
        self.line += 1;
        if bytes.ends_with(b"\n") {
            bytes.pop();
            if bytes.ends_with(b"\r") {
                bytes.pop();
            }
        }
        if self.line == 1 && bytes.starts_with(b"\xef\xbb\xbf") {
            bytes.drain(..3);
        }
        Some(String::from_utf8(bytes).map_err(|e| {
            let at = e.utf8_error().valid_up_to();
            self.wrong(&format!("is not UTF-8 at byte {at} of the line"))
        }))
    }

    fn wrong(&self, why: &str) -> anyhow::Error {
        Error::Input(format!("{}, line {}: {why}", self.name, self.line)).into()
    }

    /// The text and the id of a JSON line.
    fn parsed(&self, line: &str) -> anyhow::Result<(String, Option<String>)> {
        let no_json = |e: serde_json::Error| self.wrong(&format!("is no JSON: {e}"));
        let row: &RawValue = serde_json::from_str(line).map_err(no_json)?;
        if !row.get().starts_with('{') {
            return Err(self.wrong("is no JSON object"));
        }
        let entries: BTreeMap<String, &RawValue> = serde_json::from_str(line).map_err(no_json)?;
        let id = entries.get("id").map(|id| id.get()).filter(|id| *id != "null").map(str::to_owned);
        match entries.get(&self.field) {
            Some(text) if text.get().starts_with('"') => Ok((serde_json::from_str(text.get()).map_err(no_json)?, id)),
            Some(_) => Err(self.wrong(&format!("the key {:?} holds no string", self.field))),
            None if entries.is_empty() => Err(self.wrong(&format!("has no keys, and so no text in {:?}", self.field))),
            None => {
                // In the order of the line.
                let row: Value = serde_json::from_str(line).map_err(no_json)?;
                let keys: Vec<_> = row.as_object().into_iter().flat_map(|row| row.keys()).map(String::as_str).collect();
                let keys = keys.join(", ");
                Err(self.wrong(&format!("has no key {:?}, but {keys}; --field names the text's", self.field)))
            }
        }
    }
}

impl Records {
    fn record(&mut self) -> Option<anyhow::Result<Record>> {
        let (text, id) = loop {
            let line = match self.line()? {
                Ok(line) => line,
                Err(error) => return Some(Err(error)),
            };
            match self.format {
                InputFormat::Lines => break (line, None),
                InputFormat::Jsonl if line.trim().is_empty() => {}
                InputFormat::Jsonl => match self.parsed(&line) {
                    Ok(parsed) => break parsed,
                    Err(error) => return Some(Err(error)),
                },
            }
        };
        let key = id.map_or(Key::Index(self.count), Key::Id);
        self.count += 1;
        let line = (self.line > 0).then_some(self.line);
        Some(Ok(Record { place: Place { key, line }, text }))
    }
}

impl Iterator for Records {
    type Item = anyhow::Result<Record>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.over {
            return None;
        }
        let record = self.record();
        // What stands behind a bad line must not take its place.
        self.over = !matches!(record, Some(Ok(_)));
        record
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn records(text: &'static str, format: InputFormat) -> Vec<Result<Record, String>> {
        let records = Records::new(Lines::Read(Box::new(text.as_bytes())), format, "text", "in".into());
        records.map(|record| record.map_err(|e| e.to_string())).collect()
    }

    fn record(key: Key, line: u64, text: &str) -> Result<Record, String> {
        Ok(Record { place: Place { key, line: Some(line) }, text: text.into() })
    }

    #[test]
    fn every_line_is_a_text_with_its_number() {
        let expected = ["one", "", " two ", "three"]
            .iter()
            .zip(0..)
            .map(|(text, i)| record(Key::Index(i), i + 1, text))
            .collect::<Vec<_>>();
        assert_eq!(records("one\n\r\n two \r\nthree", InputFormat::Lines), expected);
        assert_eq!(records("\u{feff}one\n\n two \nthree\n", InputFormat::Lines), expected);
        assert!(records("", InputFormat::Lines).is_empty());
    }

    #[test]
    fn json_lines_keep_their_ids_whatever_their_type() {
        let text =
            "{\"id\": 1e2, \"text\": \"a\\nb\"}\n\n{\"text\": \"c\", \"id\": null}\n{\"text\": \"d\", \"id\": {\"x\": [1]}}\n";
        let expected = [
            record(Key::Id("1e2".into()), 1, "a\nb"),
            record(Key::Index(1), 3, "c"),
            record(Key::Id("{\"x\": [1]}".into()), 4, "d"),
        ];
        assert_eq!(records(text, InputFormat::Jsonl), expected);
    }

    #[test]
    fn what_is_wrong_names_the_line() {
        for (text, expected) in [
            ("{\"text\": \"a\"}\n{\"text\": 5}", "in, line 2: the key \"text\" holds no string"),
            ("{\"body\": \"a\", \"n\": 1}", "in, line 1: has no key \"text\", but body, n; --field names the text's"),
            ("{}", "in, line 1: has no keys, and so no text in \"text\""),
            ("{\"text\": 5}\n{\"text\": \"a\"}", "in, line 1: the key"),
            ("\n[]", "in, line 2: is no JSON object"),
            ("{", "in, line 1: is no JSON: "),
        ] {
            let error = records(text, InputFormat::Jsonl).pop().unwrap().unwrap_err();
            assert!(error.starts_with(expected), "{error}");
        }
        let bytes = Records::new(Lines::Read(Box::new(&b"a\n\xff"[..])), InputFormat::Lines, "", "in".into());
        let error = bytes.last().unwrap().unwrap_err().to_string();
        assert_eq!(error, "in, line 2: is not UTF-8 at byte 0 of the line");
    }
}
