//! `'...' % values` and `'...'.format(values)`.

use super::args::Args;
use super::fault::{Fault, Kind, Result, type_error, value_error};
use super::machine::Machine;
use super::numbers::{self, Spec};
use super::repr::quote;
use super::text::{Side, byte_of};
use super::value::Value;

/// Where the values of `%` come from.
struct Values {
    all: Vec<Value>,
    next: usize,
    /// Values by name, or any value that could have some.
    mapping: Option<Value>,
}

impl Values {
    fn next(&mut self) -> Result<Value> {
        self.next += 1;
        match self.all.get(self.next - 1) {
            Some(value) => Ok(value.clone()),
            None => type_error("not enough arguments for format string"),
        }
    }
}

impl Machine<'_> {
    /// `format % values`.
    pub(super) fn percent(&mut self, format: &Value, values: Value) -> Result<Value> {
        let text = format.as_str().cloned().unwrap_or_default();
        let markup = matches!(format, Value::Markup(_));
        let subscripts =
            matches!(values, Value::Dict(_) | Value::List(_) | Value::Range(_) | Value::Bytes(_) | Value::Undefined(_));
        let mapping = subscripts.then(|| values.clone());
        let all = match values {
            Value::Tuple(seq) => seq.items.clone(),
            other => vec![other],
        };
        let mut values = Values { all, next: 0, mapping };
        let mut out = String::new();
        let mut rest = &*text;
        while let Some(at) = rest.find('%') {
            self.take(at as u64)?;
            out.push_str(&rest[..at]);
            rest = self.conversion(&rest[at + 1..], &mut values, markup, &mut out)?;
        }
        out.push_str(rest);
        self.take(out.len() as u64)?;
        if values.next < values.all.len() && values.mapping.is_none() {
            return type_error("not all arguments converted during string formatting");
        }
        Ok(if markup { Value::Markup(out.into()) } else { Value::str(out) })
    }

    /// One conversion behind its `%`; what follows it.
    fn conversion<'f>(&mut self, text: &'f str, values: &mut Values, markup: bool, out: &mut String) -> Result<&'f str> {
        let mut rest = text;
        if let Some(after) = rest.strip_prefix('%') {
            out.push('%');
            return Ok(after);
        }
        let mut named = None;
        if rest.starts_with('(') {
            let Some(mapping) = values.mapping.clone() else { return type_error("format requires a mapping") };
            let end = closing(rest)?;
            named = Some(self.subscript(&mapping, &rest[1..end])?);
            rest = &rest[end + 1..];
        }
        let flags = &rest[..rest.len() - rest.trim_start_matches(['-', '+', ' ', '#', '0']).len()];
        rest = &rest[flags.len()..];
        let mut spec = Spec {
            sign: if flags.contains('+') {
                '+'
            } else if flags.contains(' ') {
                ' '
            } else {
                '-'
            },
            alternate: flags.contains('#'),
            zero: flags.contains('0'),
            ..Spec::default()
        };
        let mut left = flags.contains('-');
        let (width, after) = number(rest, values)?;
        rest = after;
        let width = width.unwrap_or(0);
        left |= width < 0;
        if let Some(after) = rest.strip_prefix('.') {
            let (precision, after) = number(after, values)?;
            rest = after;
            spec.precision = Some(usize::try_from(precision.unwrap_or(0)).unwrap_or(0));
        }
        rest = rest.strip_prefix(['h', 'l', 'L']).unwrap_or(rest);
        let Some(kind) = rest.chars().next() else { return value_error("incomplete format") };
        rest = &rest[kind.len_utf8()..];
        let value = named.map_or_else(|| values.next(), Ok)?;
        self.take(spec.precision.unwrap_or(0) as u64)?;
        let shown = self.converted(&value, kind, &spec, markup)?;
        let numeric = !matches!(kind, 's' | 'r' | 'a' | 'c');
        let width = i128::from(width).abs();
        let padded = if numeric && spec.zero && !left {
            self.zero_padded(&shown, width)?
        } else {
            self.padded(&shown, width, " ", if left { Side::Right } else { Side::Left })?
        };
        out.push_str(&padded);
        Ok(rest)
    }

    /// Zeros between the sign or prefix of a number and its digits.
    fn zero_padded(&mut self, shown: &str, width: i128) -> Result<String> {
        let sign = usize::from(shown.starts_with(['+', '-', ' ']));
        let prefix = ["0x", "0X", "0o"].iter().any(|p| shown[sign..].starts_with(p));
        let head = sign + if prefix { 2 } else { 0 };
        let digits = self.padded(&shown[head..], width - head as i128, "0", Side::Left)?;
        Ok([&shown[..head], &digits].concat())
    }

    fn subscript(&mut self, mapping: &Value, key: &str) -> Result<Value> {
        match mapping {
            Value::Undefined(_) => mapping.refuse(),
            Value::Dict(dict) => match dict.get_str(&key.into()) {
                Some(value) => Ok(value.clone()),
                None => Fault::kind(Kind::Lookup, format!("'{key}'")),
            },
            _ => type_error("indices must be integers or slices, not str"),
        }
    }

    fn converted(&mut self, value: &Value, kind: char, spec: &Spec, markup: bool) -> Result<String> {
        Ok(match kind {
            's' | 'r' | 'a' => {
                let mut text = String::new();
                match kind {
                    's' if markup => text.push_str(&self.escape(value)?),
                    's' => self.str_into(value, &mut text)?,
                    _ => self.repr_into(value, &mut text)?,
                }
                if kind == 'a' {
                    text = ascii(&text);
                }
                if markup && kind != 's' {
                    text = super::text::escape(&text);
                }
                match spec.precision {
                    Some(precision) => text[..byte_of(&text, precision)].to_owned(),
                    None => text,
                }
            }
            'c' => match (value.as_str(), value.as_int()) {
                (Some(text), _) if super::text::chars(text) == 1 => text.to_string(),
                (_, Some(n)) => numbers::character(n)?,
                _ => return type_error("%c requires int or char"),
            },
            'd' | 'i' | 'u' => match (value.as_int(), value) {
                (Some(n), _) => numbers::decimal(n, spec),
                (_, Value::Float(x)) => numbers::decimal(super::filters::number::truncated(*x)?, spec),
                (_, Value::Undefined(_)) => return value.refuse(),
                _ => return type_error(format!("%{kind} format: a real number is required, not {}", value.type_name())),
            },
            'x' | 'X' | 'o' => match value.as_int() {
                Some(n) => numbers::radix(n, kind, spec),
                None => return type_error(format!("%{kind} format: an integer is required, not {}", value.type_name())),
            },
            'e' | 'E' | 'f' | 'F' | 'g' | 'G' => match (value.as_float(), value) {
                (Some(x), _) => numbers::signed(x, kind, spec.precision.unwrap_or(6), spec),
                (_, Value::Undefined(_)) => return value.refuse(),
                _ => return type_error(format!("must be real number, not {}", value.type_name())),
            },
            other => return value_error(format!("unsupported format character '{other}'")),
        })
    }

    /// `text.format(...)`.
    pub(super) fn format_method(&mut self, text: &str, args: Args) -> Result<Value> {
        self.fields(text, &args, None, &mut Numbering::Open, 2).map(Value::str)
    }

    /// `text.format_map(map)`.
    pub(super) fn format_map(&mut self, text: &str, map: Value) -> Result<Value> {
        self.fields(text, &Args::default(), Some(&map), &mut Numbering::Open, 2).map(Value::str)
    }

    fn fields(
        &mut self,
        text: &str,
        args: &Args,
        map: Option<&Value>,
        numbering: &mut Numbering,
        depth: i32,
    ) -> Result<String> {
        if depth < 0 {
            return value_error("max string recursion exceeded");
        }
        let mut out = String::new();
        let mut rest = text;
        while let Some(at) = rest.find(['{', '}']) {
            out.push_str(&rest[..at]);
            let brace = &rest[at..=at];
            rest = &rest[at + 1..];
            if let Some(after) = rest.strip_prefix(brace) {
                out.push_str(brace);
                rest = after;
                continue;
            }
            if brace == "}" {
                return value_error("Single '}' encountered in format string");
            }
            let Some(end) = field_end(rest) else { return value_error("expected '}' before end of string") };
            let shown = self.field(&rest[..end], args, map, numbering, depth)?;
            self.take(shown.len() as u64)?;
            out.push_str(&shown);
            rest = &rest[end + 1..];
        }
        out.push_str(rest);
        self.take(out.len() as u64)?;
        Ok(out)
    }

    /// `name!conversion:spec`.
    fn field(
        &mut self,
        field: &str,
        args: &Args,
        map: Option<&Value>,
        numbering: &mut Numbering,
        depth: i32,
    ) -> Result<String> {
        let bracket = field.find('[').map_or(0, |at| field[at..].find(']').map_or(field.len(), |end| at + end));
        let name_end = field.find(['!', ':']).map_or(field.len(), |at| match at < bracket {
            true => field[bracket..].find(['!', ':']).map_or(field.len(), |at| bracket + at),
            false => at,
        });
        let (name, after) = field.split_at(name_end);
        let mut value = self.field_value(name, args, map, numbering)?;
        let mut after = after;
        if let Some(conversion) = after.strip_prefix('!') {
            let kind = conversion.chars().next();
            after = kind.map_or("", |kind| &conversion[kind.len_utf8()..]);
            if !after.is_empty() && !after.starts_with(':') {
                return value_error("expected ':' after conversion specifier");
            }
            let mut text = String::new();
            match kind {
                Some('s') => self.str_into(&value, &mut text)?,
                Some('r' | 'a') => self.repr_into(&value, &mut text)?,
                _ => return value_error("unknown conversion specifier"),
            }
            value = Value::str(if kind == Some('a') { ascii(&text) } else { text });
        }
        let spec = after.strip_prefix(':').unwrap_or_default();
        let spec = self.fields(spec, args, map, numbering, depth - 1)?;
        self.formatted(&value, &spec)
    }

    fn field_value(&mut self, name: &str, args: &Args, map: Option<&Value>, numbering: &mut Numbering) -> Result<Value> {
        let counted = name.bytes().all(|b| b.is_ascii_digit());
        let name = if counted { numbering.next(name)?.to_string() } else { name.to_owned() };
        let (first, rest) = name.split_at(name.find(['.', '[']).unwrap_or(name.len()));
        let value = match (first.parse::<usize>(), map) {
            (Ok(at), _) => match args.positional.get(at) {
                Some(value) => value.clone(),
                None => return Fault::kind(Kind::Lookup, format!("Replacement index {at} out of range")),
            },
            (Err(_), Some(map)) => self.subscript(map, first)?,
            (Err(_), None) => match args.named.iter().find(|(n, _)| **n == *first) {
                Some((_, value)) => value.clone(),
                None => return Fault::kind(Kind::Lookup, format!("'{first}'")),
            },
        };
        self.field_path(value, rest)
    }

    /// `.attribute` and `[index]` behind a field's name.
    fn field_path(&mut self, mut value: Value, mut rest: &str) -> Result<Value> {
        while !rest.is_empty() {
            if let Some(after) = rest.strip_prefix('.') {
                let end = after.find(['.', '[']).unwrap_or(after.len());
                if end == 0 {
                    return value_error("Empty attribute in format string");
                }
                value = self.attribute(&value, &after[..end].into())?;
                rest = &after[end..];
            } else if let Some((index, after)) = rest.strip_prefix('[').and_then(|after| after.split_once(']')) {
                if index.is_empty() {
                    return value_error("Empty attribute in format string");
                }
                let index = index.parse().map_or_else(|_| Value::str(index), Value::Int);
                value = self.item(&value, &index)?;
                rest = after;
            } else {
                return value_error("Only '.' or '[' may follow ']' in format field specifier");
            }
        }
        Ok(value)
    }

    /// `format(value, spec)`.
    fn formatted(&mut self, value: &Value, spec: &str) -> Result<String> {
        if spec.is_empty() {
            return Ok(self.str(value)?.to_string());
        }
        let parsed = match value {
            Value::Str(_) | Value::Markup(_) | Value::Int(_) | Value::Bool(_) | Value::Float(_) => Spec::parse(spec)?,
            other => return type_error(format!("unsupported format string passed to {}.__format__", other.type_name())),
        };
        self.take((parsed.width + parsed.precision.unwrap_or(0)) as u64)?;
        match value {
            Value::Float(x) => numbers::format_float(*x, &parsed),
            other => match other.as_int() {
                Some(n) => numbers::format_int(n, &parsed),
                None => numbers::format_text(value.as_str().map_or("", |text| text), &parsed),
            },
        }
    }
}

/// How fields without a name are counted.
enum Numbering {
    Open,
    Automatic(usize),
    Manual,
}

impl Numbering {
    fn next(&mut self, name: &str) -> Result<usize> {
        match (name.is_empty(), &mut *self) {
            (true, Numbering::Open) => {
                *self = Numbering::Automatic(1);
                Ok(0)
            }
            (true, Numbering::Automatic(next)) => {
                *next += 1;
                Ok(*next - 1)
            }
            (false, Numbering::Open | Numbering::Manual) => {
                *self = Numbering::Manual;
                name.parse().or_else(|_| value_error("Too many decimal digits in format string"))
            }
            (..) => value_error("cannot switch between manual field specification and automatic field numbering"),
        }
    }
}

/// Where the parenthesis at the head of `text` closes.
fn closing(text: &str) -> Result<usize> {
    let mut depth = 0;
    for (at, c) in text.char_indices() {
        match c {
            '(' => depth += 1,
            ')' if depth == 1 => return Ok(at),
            ')' => depth -= 1,
            _ => {}
        }
    }
    value_error("incomplete format key")
}

/// A width or precision: digits, or the next value for `*`.
fn number<'f>(text: &'f str, values: &mut Values) -> Result<(Option<i64>, &'f str)> {
    if let Some(rest) = text.strip_prefix('*') {
        let value = values.next()?;
        let Some(n) = value.as_int().and_then(|n| i64::try_from(n).ok()) else { return type_error("* wants int") };
        return Ok((Some(n), rest));
    }
    let len = text.bytes().take_while(u8::is_ascii_digit).count();
    if len == 0 {
        return Ok((None, text));
    }
    match text[..len].parse::<i32>() {
        Ok(n) => Ok((Some(n.into()), &text[len..])),
        Err(_) => value_error("width or precision too big"),
    }
}

/// Where the field ends that `text` begins with, past its inner braces.
fn field_end(text: &str) -> Option<usize> {
    let mut depth = 0;
    text.char_indices().find_map(|(at, c)| {
        match c {
            '{' => depth += 1,
            '}' if depth == 0 => return Some(at),
            '}' => depth -= 1,
            _ => {}
        }
        None
    })
}

/// What `repr` gave with everything outside ASCII as escapes.
fn ascii(text: &str) -> String {
    let mut out = String::new();
    for c in text.chars() {
        if c.is_ascii() {
            out.push(c);
        } else {
            let mut quoted = String::new();
            quote(c.encode_utf8(&mut [0; 4]), true, &mut quoted);
            out.push_str(&quoted[1..quoted.len() - 1]);
        }
    }
    out
}
