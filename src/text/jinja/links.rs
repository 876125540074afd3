//! Addresses in a text to links, as Jinja's `urlize` finds them.

use super::text::{byte_of, chars, is_space, is_word};
use std::sync::Arc;

/// How links are written.
pub(super) struct Links {
    /// Characters of an address that are shown.
    pub limit: Option<usize>,
    /// ` rel="..." target="..."`.
    pub attributes: String,
    /// Further schemes whose addresses are linked.
    pub schemes: Vec<Arc<str>>,
}

impl Links {
    /// `text`, which is escaped already, with its addresses as links.
    pub(super) fn linked(&self, text: &str) -> String {
        let mut out = String::with_capacity(text.len());
        let mut rest = text;
        while !rest.is_empty() {
            let blank = rest.starts_with(is_space);
            let end = rest.find(|c| is_space(c) != blank).unwrap_or(rest.len());
            let (word, after) = rest.split_at(end);
            rest = after;
            if blank { out.push_str(word) } else { self.word(word, &mut out) }
        }
        out
    }

    fn word(&self, word: &str, out: &mut String) {
        let mut start = word;
        while let Some(after) = ["(", "<", "&lt;"].iter().find_map(|open| start.strip_prefix(open)) {
            start = after;
        }
        let head = &word[..word.len() - start.len()];
        let mut middle = start;
        while let Some(before) = [")", ">", ".", ",", "&gt;"].iter().find_map(|close| middle.strip_suffix(close)) {
            middle = before;
        }
        let mut cut = middle.len();
        for (open, close) in [("(", ")"), ("<", ">"), ("&lt;", "&gt;")] {
            let (opened, closed) = (start[..cut].matches(open).count(), start[..cut].matches(close).count());
            if opened <= closed {
                continue;
            }
            for _ in 0..opened.min(start[cut..].matches(close).count()) {
                cut += start[cut..].find(close).map_or(0, |at| at + close.len());
            }
        }
        out.push_str(head);
        out.push_str(&self.middle(&start[..cut]));
        out.push_str(&start[cut..]);
    }

    fn middle(&self, text: &str) -> String {
        let attributes = &self.attributes;
        if is_address(text) {
            let scheme = if text.starts_with("https://") || text.starts_with("http://") { "" } else { "https://" };
            return format!("<a href=\"{scheme}{text}\"{attributes}>{}</a>", self.shown(text));
        }
        if let Some(mail) = text.strip_prefix("mailto:").filter(|mail| is_mail(mail)) {
            return format!("<a href=\"{text}\">{mail}</a>");
        }
        let plain = text.contains('@') && !text.starts_with("www.") && !text.starts_with('@') && !text.contains(':');
        if plain && is_mail(text) {
            return format!("<a href=\"mailto:{text}\">{text}</a>");
        }
        let mut text = text.to_owned();
        for scheme in &self.schemes {
            if *text != **scheme && text.starts_with(&**scheme) {
                text = format!("<a href=\"{text}\"{attributes}>{text}</a>");
            }
        }
        text
    }

    fn shown(&self, text: &str) -> String {
        match self.limit.filter(|&limit| chars(text) > limit) {
            Some(limit) => format!("{}...", &text[..byte_of(text, limit)]),
            None => text.to_owned(),
        }
    }
}

fn without_prefix<'t>(text: &'t str, prefix: &str) -> Option<&'t str> {
    let head = text.get(..prefix.len())?;
    head.eq_ignore_ascii_case(prefix).then(|| &text[prefix.len()..])
}

/// A scheme or `www.` with a host, a host with a well-known ending, or a scheme with an IP address.
fn is_address(text: &str) -> bool {
    let scheme = without_prefix(text, "https://").or_else(|| without_prefix(text, "http://"));
    let label = |label: &str| !label.is_empty() && label.chars().all(|c| is_word(c) || matches!(c, '%' | '-'));
    if let Some(rest) = scheme.or_else(|| without_prefix(text, "www.")) {
        let (host, tail) = host_of(rest);
        let (names, last) = host.rsplit_once('.').map_or((None, host), |(names, last)| (Some(names), last));
        let plain = (2..=63).contains(&last.len()) && last.bytes().all(|b| b.is_ascii_alphabetic());
        let coded = without_prefix(last, "xn--").is_some_and(|rest| (2..=59).contains(&chars(rest)) && label(rest));
        if names.is_none_or(|names| names.split('.').all(label)) && (plain || coded) && is_tail(tail) {
            return true;
        }
    }
    if let Some(rest) = scheme {
        let (host, tail) = host_of(rest);
        let numbers: Vec<_> = host.split('.').collect();
        let four =
            numbers.len() == 4 && numbers.iter().all(|n| (1..=3).contains(&n.len()) && n.bytes().all(|b| b.is_ascii_digit()));
        if four && is_tail(tail) {
            return true;
        }
        if let Some((six, tail)) = rest.strip_prefix('[').and_then(|rest| rest.split_once(']')) {
            let groups: Vec<_> = six.split(':').collect();
            let hex = |group: &&str| group.len() <= 4 && group.bytes().all(|b| b.is_ascii_hexdigit());
            if (3..=8).contains(&groups.len()) && groups.iter().all(hex) && is_tail(tail) {
                return true;
            }
        }
    }
    let (host, tail) = host_of(text);
    let known =
        |end: &str| ["com", "net", "int", "edu", "gov", "org", "info", "mil"].iter().any(|k| end.eq_ignore_ascii_case(k));
    let names = host.rsplit_once('.').filter(|(_, last)| known(last)).map(|(names, _)| names);
    names.is_some_and(|names| names.split('.').all(|name| label(name) && (2..=63).contains(&chars(name)))) && is_tail(tail)
}

fn host_of(text: &str) -> (&str, &str) {
    text.split_at(text.find([':', '/', '?', '#']).unwrap_or(text.len()))
}

/// A port and a path, both optional.
fn is_tail(text: &str) -> bool {
    let rest = match text.strip_prefix(':') {
        Some(rest) => {
            let digits = rest.bytes().take_while(u8::is_ascii_digit).count();
            if !(1..=5).contains(&digits) {
                return false;
            }
            &rest[digits..]
        }
        None => text,
    };
    rest.is_empty() || rest.starts_with(['/', '?', '#'])
}

fn is_mail(text: &str) -> bool {
    let Some((name, host)) = text.rsplit_once('@') else { return false };
    let Some((names, last)) = host.rsplit_once('.') else { return false };
    let first = names.chars().next().is_some_and(is_word);
    let rest = names.chars().all(|c| is_word(c) || matches!(c, '.' | '-'));
    !name.is_empty() && first && rest && !last.is_empty() && last.chars().all(is_word)
}
