//! Texts, one at a time: from the arguments, or from the lines of a file or a pipe.
//!
//! Every line of a text file is a text, empty ones too, so that the i-th vector belongs to the i-th line. Empty lines between
//! JSON lines are nothing.

use super::super::args::Source;
use serde_json::Value;
use std::fs::File;
use std::io::{BufRead, BufReader};
use tallow::Error;

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
    /// Its id in the input.
    Id(Value),
}

/// A text and what it is called.
#[derive(Debug, Clone, PartialEq)]
pub struct Record {
    pub key: Key,
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
}

enum Lines {
    Given(std::vec::IntoIter<String>),
    Read(Box<dyn BufRead>),
}

impl Records {
    /// The texts of the arguments.
    pub fn given(texts: Vec<String>) -> Records {
        Records::new(Lines::Given(texts.into_iter()), InputFormat::Lines, "", "the arguments".into())
    }

    /// The texts of a file, or of stdin.
    pub fn open(source: &Source, format: InputFormat, field: &str) -> anyhow::Result<Records> {
        if source.is_stdin() {
            let stdin = Box::new(std::io::stdin().lock());
            return Ok(Records::new(Lines::Read(stdin), format, field, "stdin".into()));
        }
        let file = File::open(&source.0).map_err(|e| Error::io(&source.0, e))?;
        let lines = Lines::Read(Box::new(BufReader::with_capacity(1 << 16, file)));
        Ok(Records::new(lines, format, field, source.0.display().to_string()))
    }

    fn new(lines: Lines, format: InputFormat, field: &str, name: String) -> Records {
        Records { lines, format, field: field.to_owned(), name, line: 0, count: 0 }
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
        let reader = match &mut self.lines {
            Lines::Given(texts) => return texts.next().map(Ok),
            Lines::Read(reader) => reader,
        };
        let mut bytes = Vec::new();
        match reader.read_until(b'\n', &mut bytes) {
            Ok(0) => return None,
            Ok(_) => self.line += 1,
            Err(e) => return Some(Err(Error::io(&self.name, e).into())),
        }
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
    fn parsed(&self, line: &str) -> anyhow::Result<(String, Option<Value>)> {
        let mut row: Value = serde_json::from_str(line).map_err(|e| self.wrong(&format!("is no JSON: {e}")))?;
        let Some(entries) = row.as_object_mut() else { return Err(self.wrong("is no JSON object")) };
        let id = entries.get("id").filter(|id| !id.is_null()).cloned();
        match entries.get_mut(&self.field).map(Value::take) {
            Some(Value::String(text)) => Ok((text, id)),
            Some(_) => Err(self.wrong(&format!("the key {:?} holds no string", self.field))),
            None => {
                let keys: Vec<_> = entries.keys().map(String::as_str).collect();
                let keys = keys.join(", ");
                Err(self.wrong(&format!("has no key {:?}, but {keys}; --field names the text's", self.field)))
            }
        }
    }
}

impl Iterator for Records {
    type Item = anyhow::Result<Record>;

    fn next(&mut self) -> Option<Self::Item> {
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
        Some(Ok(Record { key, text }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn records(text: &'static str, format: InputFormat) -> Vec<Result<Record, String>> {
        let records = Records::new(Lines::Read(Box::new(text.as_bytes())), format, "text", "in".into());
        records.map(|record| record.map_err(|e| e.to_string())).collect()
    }

    fn record(key: Key, text: &str) -> Result<Record, String> {
        Ok(Record { key, text: text.into() })
    }

    #[test]
    fn every_line_is_a_text_with_its_number() {
        let expected =
            ["one", "", " two ", "three"].iter().zip(0..).map(|(text, i)| record(Key::Index(i), text)).collect::<Vec<_>>();
        assert_eq!(records("one\n\r\n two \r\nthree", InputFormat::Lines), expected);
        assert_eq!(records("\u{feff}one\n\n two \nthree\n", InputFormat::Lines), expected);
        assert!(records("", InputFormat::Lines).is_empty());
    }

    #[test]
    fn json_lines_keep_their_ids_whatever_their_type() {
        let text =
            "{\"id\": 7, \"text\": \"a\\nb\"}\n\n{\"text\": \"c\", \"id\": null}\n{\"text\": \"d\", \"id\": {\"x\": [1]}}\n";
        let expected = [
            record(Key::Id(7.into()), "a\nb"),
            record(Key::Index(1), "c"),
            record(Key::Id(serde_json::json!({"x": [1]})), "d"),
        ];
        assert_eq!(records(text, InputFormat::Jsonl), expected);
    }

    #[test]
    fn what_is_wrong_names_the_line() {
        for (text, expected) in [
            ("{\"text\": \"a\"}\n{\"text\": 5}", "in, line 2: the key \"text\" holds no string"),
            ("{\"body\": \"a\", \"n\": 1}", "in, line 1: has no key \"text\", but body, n; --field names the text's"),
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
