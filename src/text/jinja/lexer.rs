//! A template's source to tokens, with the white space around tags trimmed as transformers has it: `trim_blocks`,
//! `lstrip_blocks`, and the line break at the end gone.

use super::escapes::unescape;
use super::fault::{Fault, Kind, Result};
use super::text::is_space;
use std::sync::Arc;

/// One token.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Token {
    Text(Arc<str>),
    /// `{{`, `}}`, `{%`, `%}`.
    VariableBegin,
    VariableEnd,
    BlockBegin,
    BlockEnd,
    Name(Arc<str>),
    Str(Arc<str>),
    Int(i128),
    Float(f64),
    Operator(&'static str),
    End,
}

/// Longer ones first.
const OPERATORS: [&str; 25] = [
    "//", "**", "==", "!=", ">=", "<=", "+", "-", "/", "*", "%", "~", "[", "]", "(", ")", "{", "}", ">", "<", "=", ".", ":",
    "|", ",",
];

struct Lexer<'s> {
    source: &'s str,
    at: usize,
    line: u32,
    tokens: Vec<(Token, u32)>,
    /// The last match ended with a line break, or nothing came before.
    line_starting: bool,
}

/// All tokens with their lines.
pub(super) fn tokens(source: &str) -> Result<Vec<(Token, u32)>> {
    let source = source.replace("\r\n", "\n").replace('\r', "\n");
    let source = source.strip_suffix('\n').unwrap_or(&source);
    let mut lexer = Lexer { source, at: 0, line: 1, tokens: Vec::new(), line_starting: true };
    while lexer.at < source.len() {
        lexer.root()?;
    }
    let line = lexer.line;
    lexer.tokens.push((Token::End, line));
    Ok(lexer.tokens)
}

impl<'s> Lexer<'s> {
    fn rest(&self) -> &'s str {
        &self.source[self.at..]
    }

    fn fail<T>(&self, message: impl Into<String>) -> Result<T> {
        Err(Fault::new(Kind::Syntax, message).at(self.line))
    }

    /// Goes `len` bytes ahead.
    fn advance(&mut self, len: usize) {
        let text = &self.source[self.at..self.at + len];
        self.line += u32::try_from(text.matches('\n').count()).unwrap_or(u32::MAX);
        if len > 0 {
            self.line_starting = text.ends_with('\n');
        }
        self.at += len;
    }

    fn advance_space(&mut self) {
        let rest = self.rest();
        self.advance(rest.len() - rest.trim_start_matches(is_space).len());
    }

    /// Text up to a tag, and the tag.
    fn root(&mut self) -> Result<()> {
        let rest = self.rest();
        let Some(open) = rest.as_bytes().windows(2).position(|pair| matches!(pair, b"{{" | b"{%" | b"{#")) else {
            self.text(rest);
            self.advance(rest.len());
            return Ok(());
        };
        let tag = &rest[open..];
        let sign = tag[2..].chars().next().filter(|c| matches!(c, '-' | '+'));
        let kind = tag.as_bytes()[1];
        self.text_before(&rest[..open], sign, kind != b'{');
        self.advance(open);
        let opening = 2 + usize::from(sign.is_some());
        match kind {
            b'#' => self.comment(opening),
            b'{' => self.tag(opening, Token::VariableBegin, Token::VariableEnd, "}}"),
            _ => match raw_begin(tag) {
                Some(len) => self.raw(len),
                None => self.tag(opening, Token::BlockBegin, Token::BlockEnd, "%}"),
            },
        }
    }

    fn text(&mut self, text: &str) {
        if !text.is_empty() {
            self.tokens.push((Token::Text(text.into()), self.line));
        }
    }

    /// `-` takes all white space in front of a tag; a block takes that of its line unless it says `+`.
    fn text_before(&mut self, text: &'s str, sign: Option<char>, block: bool) {
        let mut kept = text;
        if sign == Some('-') {
            kept = text.trim_end_matches(is_space);
        } else if sign.is_none() && block {
            let line = text.rfind('\n').map_or(0, |n| n + 1);
            if (line > 0 || self.line_starting) && text[line..].chars().all(is_space) {
                kept = &text[..line];
            }
        }
        self.text(kept);
    }

    /// The end of a block or comment: `-` takes the white space behind it, otherwise one line break goes, unless `+`.
    fn close(&mut self, sign: Option<char>, len: usize) {
        self.advance(len);
        match sign {
            Some('-') => self.advance_space(),
            Some(_) => {}
            None if self.rest().starts_with('\n') => self.advance(1),
            None => {}
        }
    }

    /// A comment; as in Jinja, one that begins at the very end needs no end.
    fn comment(&mut self, opening: usize) -> Result<()> {
        self.advance(opening);
        if self.rest().is_empty() {
            return Ok(());
        }
        let Some(end) = self.rest().find("#}") else { return self.fail("a comment does not end: `#}` is missing") };
        let sign = self.rest()[..end].chars().next_back().filter(|c| matches!(c, '-' | '+'));
        self.advance(end);
        self.close(sign, 2);
        Ok(())
    }

    /// Raw text, of which the same holds.
    fn raw(&mut self, opening: usize) -> Result<()> {
        self.advance(opening);
        let rest = self.rest();
        if rest.is_empty() {
            return Ok(());
        }
        let found = rest.match_indices("{%").find_map(|(at, _)| raw_end(&rest[at..]).map(|end| (at, end)));
        let Some((at, (before, after, len))) = found else {
            return self.fail("raw text does not end: `{% endraw %}` is missing");
        };
        self.text_before(&rest[..at], before, true);
        self.advance(at);
        self.close(after, len);
        Ok(())
    }

    /// The tokens inside of `{{ }}` or `{% %}`.
    fn tag(&mut self, opening: usize, begin: Token, end: Token, close: &str) -> Result<()> {
        self.tokens.push((begin, self.line));
        self.advance(opening);
        let mut open: Vec<char> = Vec::new();
        loop {
            let rest = self.rest();
            if open.is_empty() {
                let sign = rest.chars().next().filter(|&c| c == '-' || (c == '+' && close == "%}"));
                let len = usize::from(sign.is_some());
                if rest[len..].starts_with(close) {
                    self.tokens.push((end, self.line));
                    let variable = close == "}}";
                    self.close(if variable && sign.is_none() { Some('+') } else { sign }, len + 2);
                    return Ok(());
                }
            }
            let Some(c) = rest.chars().next() else { return self.fail(format!("a tag does not end: `{close}` is missing")) };
            if is_space(c) {
                self.advance_space();
            } else if c.is_ascii_digit() && self.number()? {
            } else if c.is_alphanumeric() || c == '_' {
                self.name()?;
            } else if c == '\'' || c == '"' {
                self.string(c)?;
            } else {
                self.operator(c, &mut open)?;
            }
        }
    }

    fn push(&mut self, token: Token, len: usize) {
        self.tokens.push((token, self.line));
        self.advance(len);
    }

    fn name(&mut self) -> Result<()> {
        let rest = self.rest();
        let len = rest.find(|c: char| !(c.is_alphanumeric() || c == '_')).unwrap_or(rest.len());
        if rest.starts_with(char::is_numeric) {
            return self.fail("invalid character in identifier");
        }
        self.push(Token::Name(rest[..len].into()), len);
        Ok(())
    }

    fn string(&mut self, quote: char) -> Result<()> {
        let rest = self.rest();
        let mut escaped = false;
        let end = rest.char_indices().skip(1).find(|&(_, c)| {
            let ends = c == quote && !escaped;
            escaped = c == '\\' && !escaped;
            ends
        });
        let Some((end, _)) = end else { return self.fail("a string does not end: its quote is missing") };
        let text = unescape(&rest[1..end]).map_err(|fault| fault.at(self.line))?;
        self.push(Token::Str(text.into()), end + 1);
        Ok(())
    }

    fn operator(&mut self, c: char, open: &mut Vec<char>) -> Result<()> {
        let Some(operator) = OPERATORS.into_iter().chain([";"]).find(|o| self.rest().starts_with(o)) else {
            return self.fail(format!("unexpected character {c:?}"));
        };
        match c {
            '{' => open.push('}'),
            '(' => open.push(')'),
            '[' => open.push(']'),
            '}' | ')' | ']' if open.pop() != Some(c) => return self.fail(format!("unexpected '{c}'")),
            _ => {}
        }
        self.push(Token::Operator(operator), operator.len());
        Ok(())
    }

    /// A number, if one stands here. A float has digits behind its point, or an exponent.
    fn number(&mut self) -> Result<bool> {
        let rest = self.rest();
        let whole = digits(rest, |c| c.is_ascii_digit());
        let mut end = whole;
        if rest[end..].starts_with('.') {
            let fraction = digits(&rest[end + 1..], |c| c.is_ascii_digit());
            end += if fraction > 0 { 1 + fraction } else { 0 };
        }
        if rest[end..].starts_with(['e', 'E']) {
            let sign = usize::from(rest[end + 1..].starts_with(['+', '-']));
            let exponent = digits(&rest[end + 1 + sign..], |c| c.is_ascii_digit());
            end += if exponent > 0 { 1 + sign + exponent } else { 0 };
        }
        if end > whole && !self.source[..self.at].ends_with('.') {
            let value = rest[..end].replace('_', "").parse();
            let Ok(value) = value else { return self.fail("not a number") };
            self.push(Token::Float(value), end);
            return Ok(true);
        }
        let (radix, prefix, len) = integer(rest);
        let Ok(value) = i128::from_str_radix(&rest[prefix..len].replace('_', ""), radix) else {
            return self.fail(format!("the number {} has more than 127 bits", &rest[..len.min(80)]));
        };
        self.push(Token::Int(value), len);
        Ok(true)
    }
}

/// How many bytes of digits, with single underscores between them.
fn digits(text: &str, is_digit: impl Fn(char) -> bool) -> usize {
    let mut len = 0;
    let mut previous = '_';
    for c in text.chars() {
        if !(is_digit(c) || (c == '_' && previous != '_' && len > 0)) {
            break;
        }
        len += 1;
        previous = c;
    }
    if len > 0 && previous == '_' { len - 1 } else { len }
}

/// Radix, bytes of the prefix and bytes in all of the integer at the head of `text`.
fn integer(text: &str) -> (u32, usize, usize) {
    let bytes = text.as_bytes();
    if bytes[0] != b'0' {
        return (10, 0, digits(text, |c| c.is_ascii_digit()));
    }
    let radix = match bytes.get(1).map(u8::to_ascii_lowercase) {
        Some(b'x') => 16,
        Some(b'o') => 8,
        Some(b'b') => 2,
        _ => return (10, 0, digits(text, |c| c == '0')),
    };
    let rest = &text[2..];
    let underscore = usize::from(rest.starts_with('_'));
    match digits(&rest[underscore..], |c| c.is_digit(radix)) {
        0 => (10, 0, 1),
        len => (radix, 2, 2 + underscore + len),
    }
}

/// The length of `{% raw %}` at the head of `tag`, with the white space that it takes.
fn raw_begin(tag: &str) -> Option<usize> {
    let inner = tag[2..].strip_prefix(['-', '+']).unwrap_or(&tag[2..]);
    let rest = inner.trim_start_matches(is_space).strip_prefix("raw")?.trim_start_matches(is_space);
    let rest = match rest.strip_prefix("-%}") {
        Some(rest) => rest.trim_start_matches(is_space),
        None => rest.strip_prefix("%}")?,
    };
    Some(tag.len() - rest.len())
}

/// The signs before and after, and the length, of `{% endraw %}` at the head of `tag`.
fn raw_end(tag: &str) -> Option<(Option<char>, Option<char>, usize)> {
    let before = tag[2..].chars().next().filter(|c| matches!(c, '-' | '+'));
    let inner = &tag[2 + usize::from(before.is_some())..];
    let rest = inner.trim_start_matches(is_space).strip_prefix("endraw")?.trim_start_matches(is_space);
    let after = rest.chars().next().filter(|c| matches!(c, '-' | '+'));
    let rest = rest[usize::from(after.is_some())..].strip_prefix("%}")?;
    Some((before, after, tag.len() - rest.len()))
}
