//! Filters that make or take HTML and addresses.

use super::args::{Args, truth_or};
use super::fault::{Result, type_error, value_error};
use super::machine::Machine;
use super::text::is_space;
use super::value::Value;
use std::fmt::Write;

impl Machine<'_> {
    pub(super) fn html_filter(&mut self, name: &str, value: Value, args: Args) -> Result<Value> {
        match name {
            "striptags" => {
                args.none(name)?;
                let text = self.str(&value)?;
                self.striptags(&text).map(Value::str)
            }
            "xmlattr" => self.xmlattr(&value, args),
            "urlize" => self.urlize(&value, args),
            _ => {
                args.none(name)?;
                self.urlencode(&value)
            }
        }
    }

    /// Text without comments and tags, runs of white space as one space, and entities as what they stand for.
    pub(super) fn striptags(&mut self, text: &str) -> Result<String> {
        self.take(text.len() as u64 * 4)?;
        let text = without(&without(text, "<!--", "-->"), "<", ">");
        let words: Vec<_> = super::text::split(&text, None, None);
        Ok(unescape(&words.join(" ")))
    }

    fn xmlattr(&mut self, value: &Value, args: Args) -> Result<Value> {
        let [space] = args.bind("xmlattr", ["autospace"], 0)?;
        let Value::Dict(dict) = value else {
            return if value.is_undefined() { value.refuse() } else { type_error("xmlattr needs a mapping") };
        };
        let mut items = Vec::new();
        for (key, value) in dict.entries() {
            if matches!(value, Value::None | Value::Undefined(_)) {
                continue;
            }
            let name = key.str_arg("xmlattr")?;
            if name.contains([' ', '\t', '\n', '\r', '\u{B}', '\u{C}', '/', '>', '=']) {
                return value_error(format!("Invalid character in attribute name: {name:?}"));
            }
            items.push(format!("{}=\"{}\"", self.escape(key)?, self.escape(value)?));
        }
        let out = items.join(" ");
        let out = if truth_or(space, true) && !out.is_empty() { format!(" {out}") } else { out };
        self.take(out.len() as u64)?;
        Ok(if self.autoescape { Value::Markup(out.into()) } else { Value::str(out) })
    }

    fn urlencode(&mut self, value: &Value) -> Result<Value> {
        let iterable = !value.is_undefined() && self.iter(value).is_ok();
        if value.as_str().is_some() || !(iterable || value.is_undefined()) {
            let text = self.str(value)?;
            self.take(text.len() as u64 * 3)?;
            return Ok(Value::str(quote(text.as_bytes(), false)));
        }
        let pairs = match value {
            Value::Dict(dict) => Value::View(super::value::View::Items, dict.clone()),
            other => other.clone(),
        };
        let mut items = Vec::new();
        for pair in self.collect(&pairs)? {
            let pair = self.collect(&pair)?;
            let [key, value] = &pair[..] else { return value_error("urlencode needs pairs") };
            let (key, value) = (self.str(key)?, self.str(value)?);
            self.take((key.len() + value.len()) as u64 * 3)?;
            items.push(format!("{}={}", quote(key.as_bytes(), true), quote(value.as_bytes(), true)));
        }
        Ok(Value::str(items.join("&")))
    }

    /// Addresses in a text as links.
    fn urlize(&mut self, value: &Value, args: Args) -> Result<Value> {
        let names = ["trim_url_limit", "nofollow", "target", "rel", "extra_schemes"];
        let [limit, nofollow, target, rel, schemes] = args.bind("urlize", names, 0)?;
        let mut text_of = |value: Option<Value>| match value {
            None | Some(Value::None) => Ok(None),
            Some(value) => self.str(&value).map(Some),
        };
        let (target, rel) = (text_of(target)?, text_of(rel)?);
        let mut rels: Vec<String> = rel.iter().flat_map(|rel| super::text::split(rel, None, None)).map(str::to_owned).collect();
        rels.push("noopener".into());
        if truth_or(nofollow, false) {
            rels.push("nofollow".into());
        }
        rels.sort();
        rels.dedup();
        let attribute = |name: &str, text: &str| format!(" {name}=\"{}\"", super::text::escape(text));
        let mut attributes = attribute("rel", &rels.join(" "));
        if let Some(target) = &target {
            attributes += &attribute("target", target);
        }
        let limit = match limit {
            None | Some(Value::None) => None,
            Some(limit) => Some(usize::try_from(limit.int_arg("urlize")?).unwrap_or(0)),
        };
        let schemes = match schemes {
            None | Some(Value::None) => Vec::new(),
            Some(schemes) => self.collect(&schemes)?.iter().map(|s| s.str_arg("urlize")).collect::<Result<Vec<_>>>()?,
        };
        let escaped = self.escape(value)?;
        let words = escaped.split_inclusive(is_space).count();
        self.take_product(words as u64, attributes.len() as u64 + 32)?;
        self.take(escaped.len() as u64 * 3)?;
        let link = super::links::Links { limit, attributes, schemes };
        let out = link.linked(&escaped);
        Ok(if self.autoescape { Value::Markup(out.into()) } else { Value::str(out) })
    }
}

/// `text` without what stands between `open` and `close`, as long as there is some.
fn without(text: &str, open: &str, close: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(start) = rest.find(open) {
        let Some(end) = rest[start..].find(close) else { break };
        out.push_str(&rest[..start]);
        rest = &rest[start + end + close.len()..];
    }
    out + rest
}

/// Entities as characters: those by number, and those by name that HTML's own syntax needs.
pub(super) fn unescape(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(at) = rest.find('&') {
        out.push_str(&rest[..at]);
        rest = &rest[at..];
        let end = rest.bytes().take(12).position(|b| b == b';');
        let found = end.and_then(|end| entity(&rest[1..end]).map(|c| (c, end + 1)));
        let (c, len) = found.unwrap_or(('&', 1));
        out.push(c);
        rest = &rest[len..];
    }
    out + rest
}

fn entity(name: &str) -> Option<char> {
    let number = name.strip_prefix('#').map(|n| match n.strip_prefix(['x', 'X']) {
        Some(hex) => u32::from_str_radix(hex, 16),
        None => n.parse(),
    });
    match (name, number) {
        (_, Some(number)) => number.ok().and_then(char::from_u32),
        ("amp", _) => Some('&'),
        ("lt", _) => Some('<'),
        ("gt", _) => Some('>'),
        ("quot", _) => Some('"'),
        ("apos", _) => Some('\''),
        ("nbsp", _) => Some('\u{A0}'),
        ("copy", _) => Some('©'),
        ("hellip", _) => Some('…'),
        ("mdash", _) => Some('—'),
        ("ndash", _) => Some('–'),
        _ => None,
    }
}

/// Bytes for an address: letters, digits and a few signs as they are. In a query a space is a plus and a slash is no sign.
fn quote(bytes: &[u8], query: bool) -> String {
    let mut out = String::with_capacity(bytes.len());
    for &b in bytes {
        match b {
            b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'_' | b'.' | b'-' | b'~' => out.push(char::from(b)),
            b'/' if !query => out.push('/'),
            b' ' if query => out.push('+'),
            // Writing to a string does not fail.
            b => _ = write!(out, "%{b:02X}"),
        }
    }
    out
}
