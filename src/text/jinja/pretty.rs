//! Python's `pprint`: values over several lines where one has no room.

use super::fault::Result;
use super::machine::Machine;
use super::text::{chars, is_space, lines};
use super::value::{Dict, Value};

/// Characters of a line.
const WIDTH: i64 = 80;

impl Machine<'_> {
    /// `pprint.pformat(value)`.
    pub(super) fn pretty(&mut self, value: &Value) -> Result<String> {
        let value = self.in_order(value)?;
        let mut out = String::new();
        self.pretty_into(&value, (0, 0), 0, &mut out)?;
        Ok(out)
    }

    /// The same with the keys of all dictionaries in order.
    fn in_order(&mut self, value: &Value) -> Result<Value> {
        self.take(256)?;
        match value {
            Value::List(seq) => Value::list(seq.items.iter().map(|item| self.in_order(item)).collect::<Result<_>>()?),
            Value::Tuple(seq) => Value::tuple(seq.items.iter().map(|item| self.in_order(item)).collect::<Result<_>>()?),
            Value::Dict(dict) => {
                let keys: Vec<_> = dict.entries().iter().map(|(key, _)| key.clone()).collect();
                let order = match self.sorted(keys.clone(), &keys, false) {
                    Err(fault) if fault.kind == super::fault::Kind::Limit => return Err(fault),
                    // Keys that can not be compared stay as they are.
                    Err(_) => keys,
                    Ok(order) => order,
                };
                let mut sorted = Dict::default();
                for key in order {
                    self.take(96)?;
                    if let Some(value) = dict.get(&key)?.cloned() {
                        sorted.insert(key, self.in_order(&value)?)?;
                    }
                }
                Ok(Value::dict(sorted))
            }
            other => Ok(other.clone()),
        }
    }

    fn shown(&mut self, value: &Value) -> Result<String> {
        let mut out = String::new();
        self.repr_into(value, &mut out)?;
        Ok(out)
    }

    fn pretty_into(&mut self, value: &Value, (indent, allowance): (i64, i64), level: u32, out: &mut String) -> Result<()> {
        let shown = self.shown(value)?;
        if chars(&shown) as i64 <= WIDTH - indent - allowance {
            out.push_str(&shown);
            return Ok(());
        }
        match value {
            Value::List(seq) => self.pretty_items(("[", "]"), &seq.items, (indent, allowance), level + 1, out),
            Value::Tuple(seq) => {
                let close = if seq.items.len() == 1 { ",)" } else { ")" };
                self.pretty_items(("(", close), &seq.items, (indent, allowance), level + 1, out)
            }
            Value::Dict(dict) => {
                out.push('{');
                for (at, (key, value)) in dict.entries().iter().enumerate() {
                    let last = at + 1 == dict.len();
                    let key = self.shown(key)?;
                    out.push_str(&key);
                    out.push_str(": ");
                    let indent = indent + 1;
                    let allowance = if last { allowance + 1 } else { 1 };
                    self.pretty_into(value, (indent + chars(&key) as i64 + 2, allowance), level + 1, out)?;
                    if !last {
                        self.break_line(indent, ",", out)?;
                    }
                }
                out.push('}');
                Ok(())
            }
            Value::Str(text) => self.pretty_text(text, (indent, allowance), level + 1, out),
            _ => {
                out.push_str(&shown);
                Ok(())
            }
        }
    }

    fn break_line(&mut self, indent: i64, before: &str, out: &mut String) -> Result<()> {
        out.push_str(before);
        out.push('\n');
        out.push_str(&self.repeated(" ", usize::try_from(indent).unwrap_or(0))?);
        Ok(())
    }

    fn pretty_items(
        &mut self,
        (open, close): (&str, &str),
        items: &[Value],
        (indent, allowance): (i64, i64),
        level: u32,
        out: &mut String,
    ) -> Result<()> {
        out.push_str(open);
        for (at, item) in items.iter().enumerate() {
            let last = at + 1 == items.len();
            if at > 0 {
                self.break_line(indent + 1, ",", out)?;
            }
            let allowance = if last { allowance + close.len() as i64 } else { 1 };
            self.pretty_into(item, (indent + 1, allowance), level, out)?;
        }
        out.push_str(close);
        Ok(())
    }

    /// A long text as several literals.
    fn pretty_text(&mut self, text: &str, (indent, allowance): (i64, i64), level: u32, out: &mut String) -> Result<()> {
        let outermost = i64::from(level == 1);
        let (indent, allowance) = (indent + outermost, allowance + outermost);
        let all = lines(text, true);
        let room = WIDTH - indent;
        let mut parts = Vec::new();
        for (at, line) in all.iter().enumerate() {
            let last = at + 1 == all.len();
            let whole = self.shown(&Value::str(*line))?;
            if chars(&whole) as i64 <= room - if last { allowance } else { 0 } {
                parts.push(whole);
                continue;
            }
            let words = words(line);
            let mut current = String::new();
            for (n, word) in words.iter().enumerate() {
                let candidate = format!("{current}{word}");
                let room = room - if last && n + 1 == words.len() { allowance } else { 0 };
                if chars(&self.shown(&Value::str(candidate.as_str()))?) as i64 > room {
                    if !current.is_empty() {
                        parts.push(self.shown(&Value::str(current))?);
                    }
                    current = (*word).to_owned();
                } else {
                    current = candidate;
                }
            }
            if !current.is_empty() {
                parts.push(self.shown(&Value::str(current))?);
            }
        }
        let brackets = level == 1 && parts.len() > 1;
        out.push_str(if brackets { "(" } else { "" });
        for (at, part) in parts.iter().enumerate() {
            if at > 0 {
                self.break_line(indent, "", out)?;
            }
            out.push_str(part);
        }
        out.push_str(if brackets { ")" } else { "" });
        Ok(())
    }
}

/// Words, each with the white space behind it.
fn words(line: &str) -> Vec<&str> {
    let mut words = Vec::new();
    let mut rest = line;
    while !rest.is_empty() {
        let space = rest.find(is_space).unwrap_or(rest.len());
        let end = rest[space..].find(|c| !is_space(c)).map_or(rest.len(), |at| space + at);
        words.push(&rest[..end]);
        rest = &rest[end..];
    }
    words
}
