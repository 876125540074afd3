//! Methods of texts.

use super::args::{Args, int_or};
use super::fault::{Result, type_error, value_error};
use super::machine::Machine;
use super::text::{self, Side};
use super::value::{Dict, Value};
use std::sync::Arc;

/// The items from `start` to `stop` of `len`, as `find` and `index` count them: negative from the end.
pub(super) fn window(start: Option<Value>, stop: Option<Value>, len: usize) -> Result<(usize, usize)> {
    let bound = |value: Option<Value>, default: usize| match value {
        None | Some(Value::None) => Ok(default),
        Some(value) => {
            let n = value.int_arg("slice indices")?;
            let n = if n < 0 { n.saturating_add(len as i128) } else { n };
            // A start behind the end finds nothing, not even the empty text.
            Ok(usize::try_from(n.max(0)).unwrap_or(usize::MAX))
        }
    };
    Ok((bound(start, 0)?, bound(stop, len)?.min(len)))
}

impl Machine<'_> {
    /// Calls a method of a text.
    pub(super) fn str_method(&mut self, text: &Arc<str>, name: &'static str, args: Args) -> Result<Value> {
        self.take(text.len() as u64)?;
        match name {
            "split" | "rsplit" => self.split_method(text, name, args),
            "strip" | "lstrip" | "rstrip" => strip_method(text, name, args),
            "startswith" | "endswith" => self.affix_test(text, name, args),
            "find" | "rfind" | "index" | "rindex" | "count" => self.find_method(text, name, args),
            "replace" => self.replace_method(text, args),
            "join" => {
                let items = args.one(name)?;
                self.join_method(text, &items)
            }
            "format" => self.format_method(text, args),
            "format_map" => {
                let map = args.one(name)?;
                self.format_map(text, map)
            }
            "center" | "ljust" | "rjust" => self.justify(text, name, args),
            "zfill" => self.zfill(text, args),
            "expandtabs" => self.expand_tabs(text, args),
            "splitlines" => {
                let [keep] = args.bind(name, ["keepends"], 0)?;
                let keep = int_or(keep, 0, name)? != 0;
                self.texts(text::lines(text, keep))
            }
            "removeprefix" | "removesuffix" => {
                let affix = args.one(name)?.str_arg(name)?;
                let rest = if name == "removeprefix" { text.strip_prefix(&*affix) } else { text.strip_suffix(&*affix) };
                Ok(rest.map_or_else(|| Value::Str(text.clone()), Value::str))
            }
            "partition" | "rpartition" => partition(text, name, args),
            "encode" => encode(text, args),
            "maketrans" => self.maketrans(args),
            "translate" => self.translate(text, args),
            _ => {
                args.none(name)?;
                Ok(plain(text, name))
            }
        }
    }

    /// A list of texts.
    pub(super) fn texts(&mut self, parts: Vec<&str>) -> Result<Value> {
        self.take_product(parts.len() as u64, (size_of::<Value>() + 16) as u64)?;
        Value::list(parts.into_iter().map(Value::str).collect())
    }

    fn split_method(&mut self, text: &str, name: &'static str, args: Args) -> Result<Value> {
        let [separator, max] = args.bind(name, ["sep", "maxsplit"], 0)?;
        let separator = match separator {
            None | Some(Value::None) => None,
            Some(value) => Some(value.str_arg(name)?),
        };
        if separator.as_deref() == Some("") {
            return value_error("empty separator");
        }
        let max = usize::try_from(int_or(max, -1, name)?).ok();
        self.take_product(text.len() as u64, 2)?;
        let cut = if name == "split" { text::split } else { text::rsplit };
        self.texts(cut(text, separator.as_deref(), max))
    }

    fn affix_test(&mut self, text: &str, name: &'static str, args: Args) -> Result<Value> {
        let [affix, start, stop] = args.bind(name, ["", "", ""], 1)?;
        let affix = affix.unwrap_or(Value::None);
        let affixes = match &affix {
            Value::Tuple(seq) => seq.items.iter().map(|item| item.str_arg(name)).collect::<Result<Vec<_>>>()?,
            other => vec![other.str_arg(name)?],
        };
        let len = text::chars(text);
        let (start, stop) = window(start, stop, len)?;
        if start > stop {
            return Ok(Value::Bool(false));
        }
        let part = &text[text::byte_of(text, start)..text::byte_of(text, stop)];
        let holds = |affix: &Arc<str>| if name == "startswith" { part.starts_with(&**affix) } else { part.ends_with(&**affix) };
        Ok(Value::Bool(affixes.iter().any(holds)))
    }

    fn find_method(&mut self, text: &str, name: &'static str, args: Args) -> Result<Value> {
        let [part, start, stop] = args.bind(name, ["", "", ""], 1)?;
        let part = part.unwrap_or(Value::None).str_arg(name)?;
        let (start, stop) = window(start, stop, text::chars(text))?;
        let range = (start <= stop).then(|| &text[text::byte_of(text, start)..text::byte_of(text, stop)]);
        if name == "count" {
            let count = range.map_or(0, |range| match part.is_empty() {
                true => text::chars(range) + 1,
                false => range.matches(&*part).count(),
            });
            return Ok(Value::Int(count as i128));
        }
        let right = name.starts_with('r');
        let found = range.and_then(|range| {
            let at = if right { range.rfind(&*part) } else { range.find(&*part) };
            at.map(|at| start + text::chars(&range[..at]))
        });
        match found {
            Some(at) => Ok(Value::Int(at as i128)),
            None if name.ends_with("index") => value_error("substring not found"),
            None => Ok(Value::Int(-1)),
        }
    }

    fn replace_method(&mut self, text: &str, args: Args) -> Result<Value> {
        let [old, new, count] = args.bind("replace", ["", "", ""], 2)?;
        let old = old.unwrap_or(Value::None).str_arg("replace")?;
        let new = new.unwrap_or(Value::None).str_arg("replace")?;
        let count = int_or(count, -1, "replace")?;
        self.replaced(text, &old, &new, count).map(Value::str)
    }

    /// `text.replace(old, new, count)` within the memory that is left.
    pub(super) fn replaced(&mut self, text: &str, old: &str, new: &str, count: i128) -> Result<String> {
        let found = if old.is_empty() { text::chars(text) + 1 } else { text.matches(old).count() };
        let count = usize::try_from(count).map_or(found, |count| count.min(found));
        self.take(text.len() as u64)?;
        self.take_product(count as u64, new.len() as u64)?;
        Ok(text.replacen(old, new, count))
    }

    /// `text.join(items)`.
    pub(super) fn join_method(&mut self, text: &str, items: &Value) -> Result<Value> {
        let items = self.collect(items)?;
        let mut out = String::new();
        for (at, item) in items.iter().enumerate() {
            let Some(part) = item.as_str() else {
                return type_error(format!("sequence item {at}: expected str instance, {} found", item.type_name()));
            };
            let separator = if at > 0 { text } else { "" };
            self.take((separator.len() + part.len()) as u64)?;
            out.push_str(separator);
            out.push_str(part);
        }
        Ok(Value::str(out))
    }

    fn justify(&mut self, text: &Arc<str>, name: &'static str, args: Args) -> Result<Value> {
        let [width, fill] = args.bind(name, ["", ""], 1)?;
        let width = width.unwrap_or(Value::None).int_arg(name)?;
        let fill = match fill {
            Some(fill) => fill.str_arg(name)?,
            None => " ".into(),
        };
        if text::chars(&fill) != 1 {
            return type_error("the fill character must be exactly one character long");
        }
        let side = match name {
            "center" => Side::Both,
            "ljust" => Side::Right,
            _ => Side::Left,
        };
        self.padded(text, width, &fill, side).map(Value::str)
    }

    /// A text made `width` characters wide, with `fill` on one side or on both.
    pub(super) fn padded(&mut self, text: &str, width: i128, fill: &str, side: Side) -> Result<String> {
        let missing = usize::try_from(width.saturating_sub(text::chars(text) as i128)).unwrap_or(0);
        let width_is_odd = usize::from(width % 2 != 0);
        let left = match side {
            Side::Left => missing,
            Side::Right => 0,
            // As CPython: the odd one goes to the left if the width is odd.
            Side::Both => missing / 2 + (missing & width_is_odd & 1),
        };
        let (before, after) = (self.repeated(fill, left)?, self.repeated(fill, missing - left)?);
        self.take(text.len() as u64)?;
        Ok([&before, text, &after].concat())
    }

    fn zfill(&mut self, text: &str, args: Args) -> Result<Value> {
        let width = args.one("zfill")?.int_arg("zfill")?;
        let missing = usize::try_from(width.saturating_sub(text::chars(text) as i128)).unwrap_or(0);
        let zeros = self.repeated("0", missing)?;
        let sign = usize::from(text.starts_with(['+', '-']));
        Ok(Value::str([&text[..sign], &zeros, &text[sign..]].concat()))
    }

    fn expand_tabs(&mut self, text: &str, args: Args) -> Result<Value> {
        let [size] = args.bind("expandtabs", ["tabsize"], 0)?;
        let size = usize::try_from(int_or(size, 8, "expandtabs")?).unwrap_or(0);
        self.take_product(size as u64, text.matches('\t').count() as u64)?;
        let mut out = String::new();
        let mut column = 0_usize;
        for c in text.chars() {
            match c {
                '\t' => {
                    let spaces = if size == 0 { 0 } else { size - column % size };
                    out.extend(std::iter::repeat_n(' ', spaces));
                    column += spaces;
                }
                c => {
                    out.push(c);
                    column = if matches!(c, '\n' | '\r') { 0 } else { column + 1 };
                }
            }
        }
        Ok(Value::str(out))
    }

    /// `str.maketrans`.
    fn maketrans(&mut self, args: Args) -> Result<Value> {
        let [from, to, gone] = args.bind("maketrans", ["", "", ""], 1)?;
        let code = |c: char| Value::Int(u32::from(c).into());
        let mut dict = Dict::default();
        match (from.unwrap_or(Value::None), to) {
            (Value::Dict(map), None) => {
                for (key, value) in map.entries() {
                    self.take(96)?;
                    let key = match key.as_str() {
                        Some(text) => match (text.chars().next(), text::chars(text)) {
                            (Some(c), 1) => code(c),
                            _ => return value_error("string keys in translate table must be of length 1"),
                        },
                        None => Value::Int(key.int_arg("keys in translate table")?),
                    };
                    dict.insert(key, value.clone())?;
                }
            }
            (_, None) => return type_error("if you give only one argument to maketrans it must be a dict"),
            (from, Some(to)) => {
                let (from, to) = (from.str_arg("maketrans")?, to.str_arg("maketrans")?);
                if text::chars(&from) != text::chars(&to) {
                    return value_error("the first two maketrans arguments must have equal length");
                }
                self.take_product(from.len() as u64, 96)?;
                for (from, to) in from.chars().zip(to.chars()) {
                    dict.insert(code(from), code(to))?;
                }
                if let Some(gone) = gone {
                    for c in gone.str_arg("maketrans")?.chars() {
                        self.take(96)?;
                        dict.insert(code(c), Value::None)?;
                    }
                }
            }
        }
        Ok(Value::dict(dict))
    }

    fn translate(&mut self, text: &str, args: Args) -> Result<Value> {
        let table = args.one("translate")?;
        if !matches!(table, Value::Dict(_) | Value::List(_) | Value::Tuple(_) | Value::Str(_)) {
            return type_error(format!("'{}' object is not subscriptable", table.type_name()));
        }
        let mut out = String::new();
        for c in text.chars() {
            let found = self.item(&table, &Value::Int(u32::from(c).into()))?;
            self.take(4)?;
            match &found {
                Value::Undefined(_) => out.push(c),
                Value::None => {}
                Value::Str(text) | Value::Markup(text) => {
                    self.take(text.len() as u64)?;
                    out.push_str(text);
                }
                other => match other.as_int().and_then(|n| u32::try_from(n).ok()).and_then(char::from_u32) {
                    Some(c) => out.push(c),
                    None => return type_error("character mapping must return integer, None or str"),
                },
            }
        }
        Ok(Value::str(out))
    }

    /// Methods of text that counts as escaped: what they give counts as escaped too.
    pub(super) fn markup_method(&mut self, text: &Arc<str>, name: &'static str, args: Args) -> Result<Value> {
        let mut args = args;
        match name {
            "striptags" => return self.striptags(text).map(Value::str),
            "unescape" => return Ok(Value::str(super::html::unescape(text))),
            "escape" => return args.one(name).and_then(|value| self.escape(&value)).map(Value::Markup),
            "replace" | "ljust" | "rjust" | "center" => {
                if let Some(second) = args.positional.get_mut(1) {
                    *second = Value::Str(self.escape(second)?);
                }
            }
            "join" => {
                let items = args.one(name)?;
                let items = self.collect(&items)?;
                let escaped = items.iter().map(|item| self.escape(item).map(Value::Str)).collect::<Result<_>>()?;
                args = Args { positional: vec![Value::list(escaped)?], named: Vec::new() };
            }
            "format" => {
                for value in args.positional.iter_mut().chain(args.named.iter_mut().map(|(_, value)| value)) {
                    if value.as_int().is_none() && !matches!(value, Value::Float(_)) {
                        *value = Value::Str(self.escape(value)?);
                    }
                }
            }
            _ => {}
        }
        let mark = |value: Value| match value {
            Value::Str(text) => Value::Markup(text),
            other => other,
        };
        let marked = |seq: &super::value::Seq| seq.items.iter().cloned().map(mark).collect();
        Ok(match self.str_method(text, name, args)? {
            Value::List(seq) => Value::list(marked(&seq))?,
            Value::Tuple(seq) => Value::tuple(marked(&seq))?,
            other => mark(other),
        })
    }
}

/// Methods without arguments.
fn plain(text: &Arc<str>, name: &str) -> Value {
    let all = |holds: fn(char) -> bool| Value::Bool(!text.is_empty() && text.chars().all(holds));
    match name {
        "lower" => Value::str(text.to_lowercase()),
        "upper" => Value::str(text.to_uppercase()),
        "title" => Value::str(text::title(text)),
        "capitalize" => Value::str(text::capitalize(text)),
        "swapcase" => Value::str(text::swapcase(text)),
        "casefold" => Value::str(text::casefold(text)),
        "isalpha" => all(text::is_alpha),
        "isalnum" => all(text::is_alnum),
        "isdecimal" => all(|c| text::decimal(c).is_some()),
        "isdigit" => all(text::is_digit),
        "isnumeric" => all(text::is_numeric),
        "isspace" => all(text::is_space),
        "isascii" => Value::Bool(text.is_ascii()),
        "isprintable" => Value::Bool(text.chars().all(text::is_printable)),
        "islower" => Value::Bool(text::all_cased(text, false)),
        "isupper" => Value::Bool(text::all_cased(text, true)),
        "istitle" => Value::Bool(text::is_titled(text)),
        "isidentifier" => Value::Bool(
            text.starts_with(|c: char| text::is_alpha(c) || c == '_') && text.chars().all(|c| c.is_alphanumeric() || c == '_'),
        ),
        _ => Value::Str(text.clone()),
    }
}

fn strip_method(text: &str, name: &'static str, args: Args) -> Result<Value> {
    let [chars] = args.bind(name, [""], 0)?;
    let chars = match chars {
        None | Some(Value::None) => None,
        Some(value) => Some(value.str_arg(name)?),
    };
    let side = match name {
        "strip" => Side::Both,
        "lstrip" => Side::Left,
        _ => Side::Right,
    };
    Ok(Value::str(text::strip(text, chars.as_deref(), side)))
}

fn partition(text: &str, name: &'static str, args: Args) -> Result<Value> {
    let separator = args.one(name)?.str_arg(name)?;
    if separator.is_empty() {
        return value_error("empty separator");
    }
    let right = name == "rpartition";
    let cut = if right { text.rsplit_once(&*separator) } else { text.split_once(&*separator) };
    let parts = match cut {
        Some((before, after)) => [before, &*separator, after],
        None if right => ["", "", text],
        None => [text, "", ""],
    };
    Value::tuple(parts.into_iter().map(Value::str).collect())
}

fn encode(text: &str, args: Args) -> Result<Value> {
    let [encoding, errors] = args.bind("encode", ["encoding", "errors"], 0)?;
    let encoding = encoding.map_or(Ok("utf-8".into()), |value| value.str_arg("encode"))?;
    errors.map_or(Ok("strict".into()), |value| value.str_arg("encode"))?;
    let plain = encoding.to_lowercase().replace(['-', '_'], "");
    match &*plain {
        "utf8" => Ok(Value::Bytes(text.as_bytes().into())),
        "ascii" if text.is_ascii() => Ok(Value::Bytes(text.as_bytes().into())),
        "latin1" | "iso88591" if text.chars().all(|c| u32::from(c) < 256) => {
            Ok(Value::Bytes(text.chars().map(|c| c as u8).collect()))
        }
        _ => value_error(format!("the text can not be encoded as {encoding} here")),
    }
}
