//! Escapes in string literals, as Python's `unicode-escape` reads them.
//!
//! Jinja writes what is outside ASCII as escapes first and then reads all of them at once, so a backslash in front of such a
//! character hides it: `'\é'` is the four characters `\xe9` behind a backslash.

use super::fault::{Fault, Kind, Result};

/// The text of a literal without its quotes.
pub(super) fn unescape(literal: &str) -> Result<String> {
    if !literal.contains('\\') {
        return Ok(literal.to_owned());
    }
    let mut out = String::with_capacity(literal.len());
    let mut chars = literal.chars();
    while let Some(c) = chars.next() {
        if c != '\\' {
            out.push(c);
            continue;
        }
        let Some(c) = chars.next() else { return fail("a backslash ends the string") };
        match c {
            '\n' => {}
            '\\' | '\'' | '"' => out.push(c),
            'a' => out.push('\u{7}'),
            'b' => out.push('\u{8}'),
            'f' => out.push('\u{C}'),
            'n' => out.push('\n'),
            'r' => out.push('\r'),
            't' => out.push('\t'),
            'v' => out.push('\u{B}'),
            'x' => out.push(code(&mut chars, 2)?),
            'u' => out.push(code(&mut chars, 4)?),
            'U' => out.push(code(&mut chars, 8)?),
            'N' => out.push(named(&mut chars)?),
            '0'..='7' => out.push(octal(c, &mut chars)),
            c if c.is_ascii() => out.extend(['\\', c]),
            c => {
                out.push('\\');
                let escape = match u32::from(c) {
                    n @ ..=0xFF => format!("x{n:02x}"),
                    n @ ..=0xFFFF => format!("u{n:04x}"),
                    n => format!("U{n:08x}"),
                };
                out.push_str(&escape);
            }
        }
    }
    Ok(out)
}

fn fail<T>(message: &str) -> Result<T> {
    Fault::kind(Kind::Syntax, message)
}

/// `digits` hexadecimal digits as a character.
fn code(chars: &mut std::str::Chars<'_>, digits: usize) -> Result<char> {
    let text = chars.as_str();
    let hex = text.get(..digits).filter(|hex| hex.bytes().all(|b| b.is_ascii_hexdigit()));
    let Some(value) = hex.and_then(|hex| u32::from_str_radix(hex, 16).ok()) else {
        return fail(&format!("an escape in a string needs {digits} hexadecimal digits"));
    };
    *chars = text[digits..].chars();
    match char::from_u32(value) {
        Some(c) => Ok(c),
        None => fail(&format!("a string has the code {value:x}, which is no character of its own")),
    }
}

/// Up to three octal digits.
fn octal(first: char, chars: &mut std::str::Chars<'_>) -> char {
    let mut value = first.to_digit(8).unwrap_or(0);
    for _ in 0..2 {
        let Some(digit) = chars.clone().next().and_then(|c| c.to_digit(8)) else { break };
        value = value * 8 + digit;
        chars.next();
    }
    char::from_u32(value).unwrap_or('\0')
}

/// `{NAME OF A CHARACTER}`.
fn named(chars: &mut std::str::Chars<'_>) -> Result<char> {
    let text = chars.as_str();
    let name = text.strip_prefix('{').and_then(|rest| rest.split_once('}'));
    let Some((name, rest)) = name else { return fail("the escape \\N needs the name of a character in braces") };
    *chars = rest.chars();
    match unicode_names2::character(name) {
        Some(c) => Ok(c),
        None => fail(&format!("unknown Unicode character name {name:?}")),
    }
}
