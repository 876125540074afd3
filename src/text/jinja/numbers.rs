//! Numbers as text: the format specifications of `str.format`, and what `%` shares with them.

use super::fault::{Result, value_error};
use super::repr::float;
use super::text::{byte_of, chars};

/// `[[fill]align][sign][#][0][width][grouping][.precision][type]`.
#[derive(Debug, Clone)]
pub(super) struct Spec {
    pub fill: char,
    pub align: Option<char>,
    pub sign: char,
    pub signed: bool,
    pub alternate: bool,
    pub zero: bool,
    pub width: usize,
    pub grouping: Option<char>,
    pub precision: Option<usize>,
    pub kind: Option<char>,
}

impl Default for Spec {
    fn default() -> Spec {
        Spec {
            fill: ' ',
            align: None,
            sign: '-',
            signed: false,
            alternate: false,
            zero: false,
            width: 0,
            grouping: None,
            precision: None,
            kind: None,
        }
    }
}

impl Spec {
    pub(super) fn parse(text: &str) -> Result<Spec> {
        let mut spec = Spec::default();
        let is_align = |c: char| matches!(c, '<' | '>' | '=' | '^');
        let mut rest = text;
        let mut heads = text.chars();
        match (heads.next(), heads.next()) {
            (Some(fill), Some(align)) if is_align(align) => {
                (spec.fill, spec.align) = (fill, Some(align));
                rest = &rest[fill.len_utf8() + 1..];
            }
            (Some(align), _) if is_align(align) => {
                spec.align = Some(align);
                rest = &rest[1..];
            }
            _ => {}
        }
        if let Some(sign) = rest.chars().next().filter(|c| matches!(c, '+' | '-' | ' ')) {
            (spec.sign, spec.signed) = (sign, true);
            rest = &rest[1..];
        }
        if let Some(after) = rest.strip_prefix('#') {
            spec.alternate = true;
            rest = after;
        }
        if let Some(after) = rest.strip_prefix('0') {
            spec.zero = true;
            rest = after;
            if spec.align.is_none() {
                (spec.fill, spec.align) = ('0', Some('='));
            }
        }
        spec.width = digits(&mut rest)?.unwrap_or(0);
        if let Some(grouping) = rest.chars().next().filter(|c| matches!(c, ',' | '_')) {
            spec.grouping = Some(grouping);
            rest = &rest[1..];
        }
        if let Some(after) = rest.strip_prefix('.') {
            rest = after;
            spec.precision = digits(&mut rest)?;
            if spec.precision.is_none() {
                return value_error("Format specifier missing precision");
            }
        }
        let mut kinds = rest.chars();
        spec.kind = kinds.next();
        if kinds.next().is_some() {
            return value_error("Invalid format specifier");
        }
        Ok(spec)
    }

    /// `text` at its width; zeros in front of the digits go behind the `head` bytes of sign and prefix.
    fn padded(&self, text: &str, head: usize, default: char) -> String {
        let missing = self.width.saturating_sub(chars(text));
        let fill = |count: usize| self.fill.to_string().repeat(count);
        match self.align.unwrap_or(default) {
            '<' => format!("{text}{}", fill(missing)),
            '^' => format!("{}{text}{}", fill(missing / 2), fill(missing - missing / 2)),
            '=' => format!("{}{}{}", &text[..head], fill(missing), &text[head..]),
            _ => format!("{}{text}", fill(missing)),
        }
    }
}

fn digits(rest: &mut &str) -> Result<Option<usize>> {
    let len = rest.bytes().take_while(u8::is_ascii_digit).count();
    let (number, after) = rest.split_at(len);
    *rest = after;
    match number.parse::<i32>() {
        _ if len == 0 => Ok(None),
        Ok(n) => Ok(usize::try_from(n).ok()),
        Err(_) => value_error("Too many decimal digits in format string"),
    }
}

/// A character by its number.
pub(super) fn character(n: i128) -> Result<String> {
    match u32::try_from(n).ok().and_then(char::from_u32) {
        Some(c) => Ok(c.into()),
        None => value_error("%c arg not in range(0x110000)"),
    }
}

fn sign_of(negative: bool, sign: char) -> &'static str {
    match (negative, sign) {
        (true, _) => "-",
        (false, '+') => "+",
        (false, ' ') => " ",
        (false, _) => "",
    }
}

/// An integer in decimal, with at least `precision` digits.
pub(super) fn decimal(n: i128, spec: &Spec) -> String {
    let digits = format!("{:0>width$}", n.unsigned_abs().to_string(), width = spec.precision.unwrap_or(0));
    format!("{}{digits}", sign_of(n < 0, spec.sign))
}

/// An integer in another radix.
pub(super) fn radix(n: i128, kind: char, spec: &Spec) -> String {
    let prefix = if spec.alternate { format!("0{kind}") } else { String::new() };
    let digits = format!("{:0>width$}", magnitude(n, kind), width = spec.precision.unwrap_or(0));
    format!("{}{prefix}{digits}", sign_of(n < 0, spec.sign))
}

/// The digits of an integer without its sign.
fn magnitude(n: i128, kind: char) -> String {
    let n = n.unsigned_abs();
    match kind {
        'x' => format!("{n:x}"),
        'X' => format!("{n:X}"),
        'b' => format!("{n:b}"),
        'o' => format!("{n:o}"),
        _ => n.to_string(),
    }
}

/// A float as `e`, `f` or `g` have it, with its sign.
pub(super) fn signed(x: f64, kind: char, precision: usize, spec: &Spec) -> String {
    let negative = x.is_sign_negative() && !x.is_nan();
    let magnitude = if x.is_nan() { x } else { x.abs() };
    let mut text = magnitude_of(magnitude, kind.to_ascii_lowercase(), precision, spec.alternate, false);
    if kind.is_ascii_uppercase() {
        text.make_ascii_uppercase();
    }
    format!("{}{text}", sign_of(negative, spec.sign))
}

/// Digits of a number that is not negative. With `dot_zero`, `g` keeps one digit behind the point.
fn magnitude_of(x: f64, kind: char, precision: usize, alternate: bool, dot_zero: bool) -> String {
    if !x.is_finite() {
        return if x.is_nan() { "nan" } else { "inf" }.into();
    }
    let point = if alternate && precision == 0 { "." } else { "" };
    match kind {
        'f' => format!("{x:.precision$}{point}"),
        'e' => {
            let text = format!("{x:.precision$e}");
            let (digits, exponent) = text.split_once('e').unwrap_or((&text, "0"));
            format!("{digits}{point}e{}", exponent_of(exponent.parse().unwrap_or(0)))
        }
        _ => general(x, precision.max(1), alternate, dot_zero),
    }
}

fn exponent_of(exponent: i32) -> String {
    format!("{}{:02}", if exponent < 0 { '-' } else { '+' }, exponent.abs())
}

fn general(x: f64, precision: usize, alternate: bool, dot_zero: bool) -> String {
    let text = format!("{x:.*e}", precision - 1);
    let (digits, exponent) = text.split_once('e').unwrap_or((&text, "0"));
    let exponent: i32 = exponent.parse().unwrap_or(0);
    let most = precision as i32 - i32::from(dot_zero);
    let trim = |text: String| match text.contains('.') && !alternate {
        true => text.trim_end_matches('0').trim_end_matches('.').to_owned(),
        false => text,
    };
    if exponent < -4 || exponent >= most {
        let digits = trim(digits.to_owned());
        let digits = if alternate && !digits.contains('.') { digits + "." } else { digits };
        return format!("{digits}e{}", exponent_of(exponent));
    }
    let decimals = usize::try_from(precision as i32 - 1 - exponent).unwrap_or(0);
    let fixed = trim(format!("{x:.decimals$}"));
    match fixed.contains('.') {
        true => fixed,
        false if alternate => fixed + ".",
        false if dot_zero => fixed + ".0",
        false => fixed,
    }
}

/// Separators between groups of digits; with zeros in front so that the whole has `width` characters.
fn grouped(digits: &str, separator: char, group: usize, width: usize) -> String {
    let mut out: Vec<char> = Vec::new();
    let mut count = 0;
    let mut given = digits.chars().rev();
    loop {
        let next = given.next();
        if next.is_none() && out.len() >= width {
            break;
        }
        if count > 0 && count % group == 0 {
            out.push(separator);
        }
        out.push(next.unwrap_or('0'));
        count += 1;
    }
    out.into_iter().rev().collect()
}

/// `head` is sign and prefix, `digits` the whole number, `tail` what follows.
fn assembled(head: &str, digits: &str, tail: &str, group: usize, spec: &Spec) -> String {
    let digits = match spec.grouping {
        Some(separator) => {
            let zeros = spec.fill == '0' && spec.align == Some('=');
            let width = if zeros { spec.width.saturating_sub(head.len() + tail.len()) } else { 0 };
            grouped(digits, separator, group, width)
        }
        None => digits.to_owned(),
    };
    spec.padded(&format!("{head}{digits}{tail}"), head.len(), '>')
}

/// `format(n, spec)`.
pub(super) fn format_int(n: i128, spec: &Spec) -> Result<String> {
    let kind = spec.kind.unwrap_or('d');
    if matches!(kind, 'e' | 'E' | 'f' | 'F' | 'g' | 'G' | '%') {
        return format_float(n as f64, spec);
    }
    if spec.precision.is_some() {
        return value_error("Precision not allowed in integer format specifier");
    }
    let binary = matches!(kind, 'b' | 'o' | 'x' | 'X');
    if spec.grouping == Some(',') && (binary || kind == 'n' || kind == 'c') || spec.grouping.is_some() && kind == 'n' {
        return value_error(format!("Cannot specify a separator with '{kind}'."));
    }
    match kind {
        'c' if spec.signed => value_error("Sign not allowed with integer format specifier 'c'"),
        'c' => Ok(spec.padded(&character(n)?, 0, '<')),
        'd' | 'n' | 'b' | 'o' | 'x' | 'X' => {
            let prefix = if spec.alternate && binary { format!("0{kind}") } else { String::new() };
            let head = format!("{}{prefix}", sign_of(n < 0, spec.sign));
            let digits = magnitude(n, kind);
            Ok(assembled(&head, &digits, "", if binary { 4 } else { 3 }, spec))
        }
        other => value_error(format!("Unknown format code '{other}' for object of type 'int'")),
    }
}

/// `format(x, spec)`.
pub(super) fn format_float(x: f64, spec: &Spec) -> Result<String> {
    let negative = x.is_sign_negative() && !x.is_nan();
    let magnitude = if x.is_nan() { x } else { x.abs() };
    let kind = spec.kind.unwrap_or('r');
    let text = match (kind, spec.precision) {
        ('r', None) => float(magnitude),
        ('r', Some(precision)) => magnitude_of(magnitude, 'g', precision, spec.alternate, true),
        ('%', precision) => magnitude_of(magnitude * 100.0, 'f', precision.unwrap_or(6), spec.alternate, false) + "%",
        ('n', precision) => magnitude_of(magnitude, 'g', precision.unwrap_or(6), spec.alternate, false),
        ('e' | 'f' | 'g', precision) => magnitude_of(magnitude, kind, precision.unwrap_or(6), spec.alternate, false),
        ('E' | 'F' | 'G', precision) => {
            let kind = kind.to_ascii_lowercase();
            magnitude_of(magnitude, kind, precision.unwrap_or(6), spec.alternate, false).to_ascii_uppercase()
        }
        (other, _) => return value_error(format!("Unknown format code '{other}' for object of type 'float'")),
    };
    let whole = text.bytes().take_while(u8::is_ascii_digit).count();
    let (digits, tail) = text.split_at(whole);
    Ok(assembled(sign_of(negative, spec.sign), digits, tail, 3, spec))
}

/// `format(text, spec)`.
pub(super) fn format_text(text: &str, spec: &Spec) -> Result<String> {
    match spec.kind {
        None | Some('s') => {}
        Some(other) => return value_error(format!("Unknown format code '{other}' for object of type 'str'")),
    }
    if spec.signed || spec.alternate {
        return value_error("Sign and alternate form are not allowed in string format specifier");
    }
    if spec.grouping.is_some() {
        return value_error("Cannot specify a separator with 's'.");
    }
    if spec.align == Some('=') && !spec.zero {
        return value_error("'=' alignment not allowed in string format specifier");
    }
    let text = spec.precision.map_or(text, |precision| &text[..byte_of(text, precision)]);
    let left = Spec { align: spec.align.filter(|&a| a != '='), ..spec.clone() };
    Ok(left.padded(text, 0, '<'))
}
