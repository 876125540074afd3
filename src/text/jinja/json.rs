//! transformers' `tojson`: `json.dumps` without HTML escapes, and with its options.

use super::args::{Args, truth_or};
use super::fault::{Result, type_error};
use super::machine::Machine;
use super::repr::float;
use super::value::{Dict, Value};
use std::fmt::Write;
use std::sync::Arc;

/// How `json.dumps` lays out.
struct Layout {
    /// `\uXXXX` for everything outside ASCII.
    ascii: bool,
    /// What one level is indented by; `None` for one line.
    indent: Option<String>,
    /// Between items, and between key and value.
    between: Arc<str>,
    colon: Arc<str>,
    sort_keys: bool,
}

impl Machine<'_> {
    /// `value|tojson(ensure_ascii, indent, separators, sort_keys)`.
    pub(super) fn json_text(&mut self, value: &Value, args: Args) -> Result<Value> {
        let names = ["ensure_ascii", "indent", "separators", "sort_keys"];
        let [ascii, indent, separators, sort_keys] = args.bind("tojson", names, 0)?;
        let indent = match indent {
            None | Some(Value::None) => None,
            Some(value) => match value.as_str() {
                Some(text) => Some(text.to_string()),
                None => {
                    let count = value.int_arg("tojson: indent")?;
                    Some(self.repeated(" ", usize::try_from(count).unwrap_or(0))?)
                }
            },
        };
        let (between, colon) = match separators {
            None | Some(Value::None) => (if indent.is_some() { "," } else { ", " }.into(), ": ".into()),
            Some(pair) => {
                let pair = self.collect(&pair)?;
                let [between, colon] = &pair[..] else { return type_error("tojson: separators are two texts") };
                (between.str_arg("tojson: separators")?, colon.str_arg("tojson: separators")?)
            }
        };
        let layout = Layout { ascii: truth_or(ascii, false), indent, between, colon, sort_keys: truth_or(sort_keys, false) };
        let mut out = String::new();
        self.dump(value, &layout, 0, &mut out)?;
        self.take(out.len() as u64)?;
        Ok(Value::str(out))
    }

    fn dump(&mut self, value: &Value, layout: &Layout, depth: usize, out: &mut String) -> Result<()> {
        self.spend(1)?;
        match value {
            Value::None => out.push_str("null"),
            Value::Bool(true) => out.push_str("true"),
            Value::Bool(false) => out.push_str("false"),
            Value::Int(n) => _ = write!(out, "{n}"),
            Value::Float(x) => out.push_str(&json_float(*x)),
            Value::Str(text) | Value::Markup(text) => {
                self.take(text.len() as u64)?;
                quoted(text, layout.ascii, out);
            }
            Value::List(seq) | Value::Tuple(seq) => {
                out.push('[');
                for (at, item) in seq.items.iter().enumerate() {
                    self.separate(at, layout, depth + 1, out)?;
                    self.dump(item, layout, depth + 1, out)?;
                }
                self.close(seq.items.is_empty(), layout, depth, out)?;
                out.push(']');
            }
            Value::Dict(dict) => self.dump_dict(dict, layout, depth, out)?,
            other => {
                let why = match other {
                    Value::Undefined(missing) => format!(": {}", missing.message()),
                    _ => String::new(),
                };
                return type_error(format!("Object of type {} is not JSON serializable{why}", other.type_name()));
            }
        }
        Ok(())
    }

    fn dump_dict(&mut self, dict: &Dict, layout: &Layout, depth: usize, out: &mut String) -> Result<()> {
        let mut entries = dict.entries().to_vec();
        if layout.sort_keys {
            let items = entries.iter().map(|(k, v)| Value::tuple(vec![k.clone(), v.clone()])).collect::<Result<Vec<_>>>()?;
            // Keys differ, so that values are never compared.
            let keys: Vec<_> = entries.iter().map(|(key, _)| key.clone()).collect();
            entries.clear();
            for item in self.sorted(items, &keys, false)? {
                if let Value::Tuple(pair) = item {
                    entries.push((pair.items[0].clone(), pair.items[1].clone()));
                }
            }
        }
        out.push('{');
        for (at, (key, value)) in entries.iter().enumerate() {
            self.separate(at, layout, depth + 1, out)?;
            let name = match key {
                Value::Str(text) | Value::Markup(text) => text.clone(),
                Value::Float(x) => json_float(*x).into(),
                Value::Bool(b) => if *b { "true" } else { "false" }.into(),
                Value::Int(n) => n.to_string().into(),
                Value::None => "null".into(),
                other => return type_error(format!("keys must be str, int, float, bool or None, not {}", other.type_name())),
            };
            self.take(name.len() as u64)?;
            quoted(&name, layout.ascii, out);
            out.push_str(&layout.colon);
            self.dump(value, layout, depth + 1, out)?;
        }
        self.close(entries.is_empty(), layout, depth, out)?;
        out.push('}');
        Ok(())
    }

    /// What stands in front of item `at`.
    fn separate(&mut self, at: usize, layout: &Layout, depth: usize, out: &mut String) -> Result<()> {
        if at > 0 {
            out.push_str(&layout.between);
        }
        self.take((layout.between.len() + layout.colon.len()) as u64)?;
        self.line(layout, depth, out)
    }

    fn close(&mut self, empty: bool, layout: &Layout, depth: usize, out: &mut String) -> Result<()> {
        if empty { Ok(()) } else { self.line(layout, depth, out) }
    }

    fn line(&mut self, layout: &Layout, depth: usize, out: &mut String) -> Result<()> {
        if let Some(indent) = &layout.indent {
            out.push('\n');
            out.push_str(&self.repeated(indent, depth)?);
        }
        Ok(())
    }
}

fn json_float(x: f64) -> String {
    match (x.is_nan(), x.is_infinite()) {
        (true, _) => "NaN".into(),
        (_, true) => if x > 0.0 { "Infinity" } else { "-Infinity" }.into(),
        _ => float(x),
    }
}

fn quoted(text: &str, ascii: bool, out: &mut String) {
    out.push('"');
    for c in text.chars() {
        match c {
            '"' => out.push_str("\\\""),
            '\\' => out.push_str("\\\\"),
            '\n' => out.push_str("\\n"),
            '\r' => out.push_str("\\r"),
            '\t' => out.push_str("\\t"),
            '\u{8}' => out.push_str("\\b"),
            '\u{C}' => out.push_str("\\f"),
            c if c < ' ' || (ascii && c > '~') => {
                for unit in c.encode_utf16(&mut [0; 2]) {
                    // Writing to a string does not fail.
                    _ = write!(out, "\\u{unit:04x}");
                }
            }
            c => out.push(c),
        }
    }
    out.push('"');
}
