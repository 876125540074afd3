//! Values as text: Python's `str` and `repr`.

use super::fault::{Fault, Kind, Result};
use super::machine::Machine;
use super::text;
use super::value::{Dict, Function, Value, View};
use std::fmt::Write;
use std::sync::Arc;

/// How deep namespaces may hold each other and still be printed.
const DEPTH: u32 = 400;

impl Machine<'_> {
    /// `str(value)`.
    pub(super) fn str(&mut self, value: &Value) -> Result<Arc<str>> {
        if let Some(text) = value.as_str() {
            return Ok(text.clone());
        }
        let mut out = String::new();
        self.str_into(value, &mut out)?;
        Ok(out.into())
    }

    /// Appends `str(value)`.
    pub(super) fn str_into(&mut self, value: &Value, out: &mut String) -> Result<()> {
        match value {
            Value::Undefined(_) => Ok(()),
            Value::Str(text) | Value::Markup(text) => {
                self.take(text.len() as u64)?;
                out.push_str(text);
                Ok(())
            }
            other => self.repr_at(other, 0, out),
        }
    }

    /// Appends `repr(value)`.
    pub(super) fn repr_into(&mut self, value: &Value, out: &mut String) -> Result<()> {
        self.repr_at(value, 0, out)
    }

    fn repr_at(&mut self, value: &Value, depth: u32, out: &mut String) -> Result<()> {
        if depth > DEPTH {
            return Fault::kind(Kind::Limit, "maximum recursion depth exceeded while printing a value");
        }
        let before = out.len();
        self.spend(1)?;
        match value {
            Value::Undefined(_) => out.push_str("Undefined"),
            Value::None => out.push_str("None"),
            Value::Bool(true) => out.push_str("True"),
            Value::Bool(false) => out.push_str("False"),
            Value::Int(n) => _ = write!(out, "{n}"),
            Value::Float(x) => out.push_str(&float(*x)),
            Value::Str(text) => quote(text, false, out),
            Value::Markup(text) => {
                out.push_str("Markup(");
                quote(text, false, out);
                out.push(')');
            }
            Value::Bytes(bytes) => bytes_into(bytes, out),
            Value::List(seq) => return self.items_into(("[", "]"), &seq.items, depth, out),
            Value::Tuple(seq) => {
                let close = if seq.items.len() == 1 { ",)" } else { ")" };
                return self.items_into(("(", close), &seq.items, depth, out);
            }
            Value::Dict(dict) => return self.dict_into(dict, depth, out),
            Value::View(view, dict) => {
                let mut items = Vec::new();
                for at in 0..dict.len() {
                    items.extend(dict.item(*view, at).transpose()?);
                }
                let open = match view {
                    View::Keys => "dict_keys([",
                    View::Values => "dict_values([",
                    View::Items => "dict_items([",
                };
                return self.items_into((open, "])"), &items, depth, out);
            }
            Value::Range(range) => {
                _ = match range.step {
                    1 => write!(out, "range({}, {})", range.start, range.stop),
                    step => write!(out, "range({}, {}, {step})", range.start, range.stop),
                }
            }
            Value::Namespace(namespace) => {
                let dict = namespace.borrow().clone();
                out.push_str("<Namespace ");
                self.dict_into(&dict, depth, out)?;
                out.push('>');
            }
            Value::Loop(this) => {
                let length = self.length_of_loop(this)?;
                _ = write!(out, "<LoopContext {}/{length}>", this.borrow().index0 + 1);
            }
            Value::Macro(this) => match &this.node.name {
                Some(name) => {
                    out.push_str("<Macro ");
                    quote(name, false, out);
                    out.push('>');
                }
                None => out.push_str("<Macro anonymous>"),
            },
            Value::Method(method) => _ = write!(out, "<built-in method {} of {} object>", method.1, method.0.type_name()),
            Value::Function(function) => _ = write!(out, "<function {}>", function_name(*function)),
            Value::Generator(_) => out.push_str("<generator object>"),
            other => _ = write!(out, "<{} object>", other.type_name()),
        }
        self.take((out.len() - before) as u64)
    }

    fn items_into(&mut self, (open, close): (&str, &str), items: &[Value], depth: u32, out: &mut String) -> Result<()> {
        out.push_str(open);
        for (at, item) in items.iter().enumerate() {
            out.push_str(if at > 0 { ", " } else { "" });
            self.repr_at(item, depth + 1, out)?;
        }
        out.push_str(close);
        self.take((open.len() + close.len() + items.len() * 2) as u64)
    }

    fn dict_into(&mut self, dict: &Dict, depth: u32, out: &mut String) -> Result<()> {
        out.push('{');
        for (at, (key, value)) in dict.entries().iter().enumerate() {
            out.push_str(if at > 0 { ", " } else { "" });
            self.repr_at(key, depth + 1, out)?;
            out.push_str(": ");
            self.repr_at(value, depth + 1, out)?;
        }
        out.push('}');
        self.take(dict.len() as u64 * 4 + 2)
    }

    /// `escape(value)`: text that counts as escaped stays.
    pub(super) fn escape(&mut self, value: &Value) -> Result<Arc<str>> {
        if let Value::Markup(text) = value {
            return Ok(text.clone());
        }
        let text = self.str(value)?;
        self.take(text.len() as u64 * 6)?;
        Ok(text::escape(&text).into())
    }
}

fn function_name(function: Function) -> &'static str {
    match function {
        Function::Range => "range",
        Function::Dict => "dict",
        Function::Namespace => "namespace",
        Function::Cycler => "cycler",
        Function::Joiner => "joiner",
        Function::Lipsum => "lipsum",
        Function::Raise => "raise_exception",
        Function::Now => "strftime_now",
    }
}

/// `repr` of a text, or `ascii` of it.
pub(super) fn quote(text: &str, ascii: bool, out: &mut String) {
    let quote = if text.contains('\'') && !text.contains('"') { '"' } else { '\'' };
    out.push(quote);
    for c in text.chars() {
        match c {
            '\n' => out.push_str("\\n"),
            '\r' => out.push_str("\\r"),
            '\t' => out.push_str("\\t"),
            c if c == quote || c == '\\' => out.extend(['\\', c]),
            ' '..='~' => out.push(c),
            c if !ascii && text::is_printable(c) => out.push(c),
            c => {
                // Writing to a string does not fail.
                _ = match u32::from(c) {
                    n @ ..=0xFF => write!(out, "\\x{n:02x}"),
                    n @ ..=0xFFFF => write!(out, "\\u{n:04x}"),
                    n => write!(out, "\\U{n:08x}"),
                };
            }
        }
    }
    out.push(quote);
}

fn bytes_into(bytes: &[u8], out: &mut String) {
    let quote = if bytes.contains(&b'\'') && !bytes.contains(&b'"') { '"' } else { '\'' };
    out.extend(['b', quote]);
    for &b in bytes {
        match b {
            b'\n' => out.push_str("\\n"),
            b'\r' => out.push_str("\\r"),
            b'\t' => out.push_str("\\t"),
            b' '..=b'~' if b == b'\\' || char::from(b) == quote => out.extend(['\\', char::from(b)]),
            b' '..=b'~' => out.push(char::from(b)),
            b => _ = write!(out, "\\x{b:02x}"),
        }
    }
    out.push(quote);
}

/// `repr` of a float: the shortest digits that give it back, with an exponent below 1e-4 and from 1e16 on.
pub(super) fn float(x: f64) -> String {
    if x.is_nan() {
        return "nan".into();
    }
    if x.is_infinite() {
        return if x > 0.0 { "inf" } else { "-inf" }.into();
    }
    let scientific = format!("{x:e}");
    let (digits, exponent) = scientific.split_once('e').unwrap_or((&scientific, "0"));
    let exponent: i32 = exponent.parse().unwrap_or(0);
    if x != 0.0 && !(-4..16).contains(&exponent) {
        let sign = if exponent < 0 { '-' } else { '+' };
        return format!("{digits}e{sign}{:02}", exponent.abs());
    }
    let plain = format!("{x}");
    if plain.contains('.') { plain } else { plain + ".0" }
}
