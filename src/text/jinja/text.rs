//! Python's `str`: its notion of white space, cases and classes of characters, and its ways to cut.

use super::unicode::{ALPHA, DECIMAL, DIGIT, FOLDS, NUMERIC, TITLE, TITLES, UNPRINTABLE};
use super::value::Value;

/// `str.isspace` of one character: Unicode's white space and the four separators U+001C to U+001F.
pub(super) fn is_space(c: char) -> bool {
    c.is_whitespace() || ('\u{1C}'..='\u{1F}').contains(&c)
}

/// `len`.
pub(super) fn chars(text: &str) -> usize {
    if text.is_ascii() { text.len() } else { text.chars().count() }
}

/// Where character number `at` begins; the end of the text if there are fewer.
pub(super) fn byte_of(text: &str, at: usize) -> usize {
    if text.is_ascii() {
        return at.min(text.len());
    }
    text.char_indices().nth(at).map_or(text.len(), |(byte, _)| byte)
}

fn within(table: &[(u32, u32)], c: char) -> Option<u32> {
    let code = u32::from(c);
    let at = table.partition_point(|&(first, _)| first <= code).checked_sub(1)?;
    (code <= table[at].1).then(|| code - table[at].0)
}

pub(super) fn is_printable(c: char) -> bool {
    within(&UNPRINTABLE, c).is_none()
}

pub(super) fn is_alpha(c: char) -> bool {
    within(&ALPHA, c).is_some()
}

/// The value of a decimal digit of any script.
pub(super) fn decimal(c: char) -> Option<u32> {
    within(&DECIMAL, c).map(|n| n % 10)
}

pub(super) fn is_digit(c: char) -> bool {
    decimal(c).is_some() || within(&DIGIT, c).is_some()
}

pub(super) fn is_numeric(c: char) -> bool {
    is_digit(c) || within(&NUMERIC, c).is_some()
}

pub(super) fn is_alnum(c: char) -> bool {
    is_alpha(c) || is_numeric(c)
}

/// What `\w` matches in a regular expression.
pub(super) fn is_word(c: char) -> bool {
    is_alnum(c) || c == '_'
}

fn is_title(c: char) -> bool {
    within(&TITLE, c).is_some()
}

fn is_cased(c: char) -> bool {
    c.is_lowercase() || c.is_uppercase() || is_title(c)
}

/// Whether some character is of a case, and all of those are of this one.
pub(super) fn all_cased(text: &str, upper: bool) -> bool {
    let mut some = false;
    for c in text.chars() {
        let (wanted, other) = if upper { (c.is_uppercase(), c.is_lowercase()) } else { (c.is_lowercase(), c.is_uppercase()) };
        if other || is_title(c) {
            return false;
        }
        some |= wanted;
    }
    some
}

/// `str.istitle`.
pub(super) fn is_titled(text: &str) -> bool {
    let (mut some, mut inside) = (false, false);
    for c in text.chars() {
        let large = c.is_uppercase() || is_title(c);
        if large && inside || c.is_lowercase() && !inside {
            return false;
        }
        inside = is_cased(c);
        some |= inside;
    }
    some
}

fn special(table: &[(char, &'static str)], c: char) -> Option<&'static str> {
    table.binary_search_by_key(&c, |&(from, _)| from).ok().map(|at| table[at].1)
}

fn push_title(c: char, out: &mut String) {
    match special(&TITLES, c) {
        Some(title) => out.push_str(title),
        None => out.extend(c.to_uppercase()),
    }
}

/// Small letters; a sigma at the end of a word has a form of its own, which `str::to_lowercase` knows for a whole text.
fn push_lower(text: &str, at: usize, c: char, out: &mut String) {
    if c == 'Σ' {
        let ends = !text[at + c.len_utf8()..].chars().next().is_some_and(is_cased);
        let begins = !text[..at].chars().next_back().is_some_and(is_cased);
        out.push(if ends && !begins { 'ς' } else { 'σ' });
    } else {
        out.extend(c.to_lowercase());
    }
}

/// `str.title`: a letter is large behind what is none, and small behind one.
pub(super) fn title(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut inside = false;
    for (at, c) in text.char_indices() {
        if inside {
            push_lower(text, at, c, &mut out)
        } else {
            push_title(c, &mut out)
        }
        inside = is_cased(c);
    }
    out
}

/// `str.capitalize`.
pub(super) fn capitalize(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for (at, c) in text.char_indices() {
        if at == 0 { push_title(c, &mut out) } else { push_lower(text, at, c, &mut out) }
    }
    out
}

/// `str.swapcase`.
pub(super) fn swapcase(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for (at, c) in text.char_indices() {
        if c.is_uppercase() {
            push_lower(text, at, c, &mut out);
        } else if c.is_lowercase() {
            out.extend(c.to_uppercase());
        } else {
            out.push(c);
        }
    }
    out
}

/// `str.casefold`.
pub(super) fn casefold(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        match special(&FOLDS, c) {
            Some(folded) => out.push_str(folded),
            None => out.extend(c.to_lowercase()),
        }
    }
    out
}

/// Texts in small letters, everything else as it is.
pub(super) fn ignore_case(value: Value) -> Value {
    match value {
        Value::Str(text) => Value::str(text.to_lowercase()),
        Value::Markup(text) => Value::Markup(text.to_lowercase().into()),
        other => other,
    }
}

/// Which ends of a text are stripped.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Side {
    Left,
    Right,
    Both,
}

/// `str.strip`, `lstrip` and `rstrip`: without `chars`, white space goes.
pub(super) fn strip<'t>(text: &'t str, chars: Option<&str>, side: Side) -> &'t str {
    let goes = |c: char| chars.map_or_else(|| is_space(c), |chars| chars.contains(c));
    let text = if side == Side::Right { text } else { text.trim_start_matches(goes) };
    if side == Side::Left { text } else { text.trim_end_matches(goes) }
}

/// `str.split`: at most `max` cuts where it is given. Without a separator, at runs of white space.
pub(super) fn split<'t>(text: &'t str, separator: Option<&str>, max: Option<usize>) -> Vec<&'t str> {
    match (separator, max) {
        (Some(separator), Some(max)) => text.splitn(max.saturating_add(1), separator).collect(),
        (Some(separator), None) => text.split(separator).collect(),
        (None, max) => {
            let mut parts = Vec::new();
            let mut rest = text.trim_start_matches(is_space);
            while !rest.is_empty() {
                let end = rest.find(is_space).filter(|_| max.is_none_or(|max| parts.len() < max)).unwrap_or(rest.len());
                parts.push(&rest[..end]);
                rest = rest[end..].trim_start_matches(is_space);
            }
            parts
        }
    }
}

/// `str.rsplit`: cuts from the right.
pub(super) fn rsplit<'t>(text: &'t str, separator: Option<&str>, max: Option<usize>) -> Vec<&'t str> {
    let mut parts: Vec<&str> = match (separator, max) {
        (Some(separator), Some(max)) => text.rsplitn(max.saturating_add(1), separator).collect(),
        (Some(separator), None) => text.rsplit(separator).collect(),
        (None, max) => {
            let mut parts = Vec::new();
            let mut rest = text.trim_end_matches(is_space);
            while !rest.is_empty() {
                let space = rest.char_indices().rev().find(|&(_, c)| is_space(c)).map(|(at, c)| at + c.len_utf8());
                let start = space.filter(|_| max.is_none_or(|max| parts.len() < max)).unwrap_or(0);
                parts.push(&rest[start..]);
                rest = rest[..start].trim_end_matches(is_space);
            }
            parts
        }
    };
    parts.reverse();
    parts
}

/// `str.splitlines`.
pub(super) fn lines(text: &str, keep_ends: bool) -> Vec<&str> {
    let ends =
        |c: char| matches!(c, '\n' | '\r' | '\u{B}' | '\u{C}' | '\u{1C}'..='\u{1E}' | '\u{85}' | '\u{2028}' | '\u{2029}');
    let mut lines = Vec::new();
    let mut rest = text;
    while let Some((at, c)) = rest.char_indices().find(|&(_, c)| ends(c)) {
        let mut end = at + c.len_utf8();
        if c == '\r' && rest[end..].starts_with('\n') {
            end += 1;
        }
        lines.push(if keep_ends { &rest[..end] } else { &rest[..at] });
        rest = &rest[end..];
    }
    if !rest.is_empty() {
        lines.push(rest);
    }
    lines
}

/// `&`, `<`, `>` and quotes as HTML has them.
pub(super) fn escape(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '\'' => out.push_str("&#39;"),
            '"' => out.push_str("&#34;"),
            c => out.push(c),
        }
    }
    out
}
