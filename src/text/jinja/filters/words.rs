//! Filters on the words and lines of a text.

use super::super::args::{Args, int_or, truth_or};
use super::super::fault::{Result, runtime, type_error, value_error};
use super::super::machine::Machine;
use super::super::text::{byte_of, chars, is_space, is_word, lines, strip};
use super::super::value::Value;

/// Words with a capital, and small letters behind it.
pub(super) fn title(text: &str) -> String {
    let separates = |c: char| is_space(c) || matches!(c, '-' | '(' | '{' | '[' | '<');
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(first) = rest.chars().next() {
        let kind = separates(first);
        let end = rest.find(|c| separates(c) != kind).unwrap_or(rest.len());
        let (part, after) = rest.split_at(end);
        rest = after;
        out.extend(first.to_uppercase());
        out.push_str(&part[first.len_utf8()..].to_lowercase());
    }
    out
}

/// How many runs of letters, digits and underscores.
pub(super) fn count(text: &str) -> i128 {
    let mut inside = false;
    let mut count = 0;
    for c in text.chars() {
        count += i128::from(is_word(c) && !inside);
        inside = is_word(c);
    }
    count
}

impl Machine<'_> {
    pub(super) fn indent(&mut self, value: Value, args: Args) -> Result<Value> {
        let [width, first, blank] = args.bind("indent", ["width", "first", "blank"], 0)?;
        let width = width.unwrap_or(Value::Int(4));
        let indention = match width.as_str() {
            Some(text) => text.to_string(),
            None => self.repeated(" ", usize::try_from(width.int_arg("indent")?).unwrap_or(0))?,
        };
        let text = self.only_text(&value, "indent")?;
        let whole = format!("{text}\n");
        let (first, blank) = (truth_or(first, false), truth_or(blank, false));
        let lines = lines(&whole, false);
        self.take_product(lines.len() as u64 + 1, indention.len() as u64 + 1)?;
        self.take(text.len() as u64 * 2)?;
        let mut out = String::new();
        for (at, line) in lines.iter().enumerate() {
            out.push_str(if at > 0 { "\n" } else { "" });
            let indented = if at == 0 { first } else { blank || !line.is_empty() };
            out.push_str(if indented { &indention } else { "" });
            out.push_str(line);
        }
        Ok(super::like(&value, out))
    }

    pub(super) fn truncate(&mut self, value: Value, args: Args) -> Result<Value> {
        let [length, kill, end, leeway] = args.bind("truncate", ["length", "killwords", "end", "leeway"], 0)?;
        let length = int_or(length, 255, "truncate")?;
        let leeway = int_or(leeway.filter(|leeway| !matches!(leeway, Value::None)), 5, "truncate")?;
        let end = match end {
            Some(end) => end.str_arg("truncate")?,
            None => "...".into(),
        };
        let cut = length - chars(&end) as i128;
        if cut < 0 || leeway < 0 {
            return runtime(format!("truncate: expected length >= {} and leeway >= 0", chars(&end)));
        }
        if value.len()? as i128 <= length.saturating_add(leeway) {
            return Ok(value);
        }
        let Some(text) = value.as_str() else {
            return type_error(format!("truncate needs a text, not {}", value.type_name()));
        };
        self.take(text.len() as u64 + end.len() as u64)?;
        let kept = &text[..byte_of(text, usize::try_from(cut).unwrap_or(usize::MAX))];
        let kept = match truth_or(kill, false) {
            true => kept,
            false => kept.rsplit_once(' ').map_or(kept, |(before, _)| before),
        };
        Ok(super::like(&value, format!("{kept}{end}")))
    }

    pub(super) fn wordwrap(&mut self, value: Value, args: Args) -> Result<Value> {
        let names = ["width", "break_long_words", "wrapstring", "break_on_hyphens"];
        let [width, break_long, wrap, hyphens] = args.bind("wordwrap", names, 0)?;
        let text = self.only_text(&value, "wordwrap")?;
        let width = int_or(width, 79, "wordwrap")?;
        let wrap = match wrap {
            None | Some(Value::None) => "\n".into(),
            Some(wrap) => wrap.str_arg("wordwrap")?,
        };
        let (break_long, hyphens) = (truth_or(break_long, true), truth_or(hyphens, true));
        self.take(text.len() as u64 * 8)?;
        let mut wrapped = Vec::new();
        for line in lines(&text, false) {
            if width <= 0 {
                return value_error(format!("invalid width {width} (must be > 0)"));
            }
            let width = usize::try_from(width).unwrap_or(usize::MAX);
            self.spend(line.len() as u64)?;
            wrapped.push(fill(chunks(line, hyphens), width, break_long, hyphens).join(&wrap));
        }
        self.take_product(wrapped.len() as u64 + text.len() as u64, wrap.len() as u64)?;
        Ok(Value::str(wrapped.join(&wrap)))
    }
}

fn is_blank(c: char) -> bool {
    matches!(c, '\t' | '\n' | '\u{B}' | '\u{C}' | '\r' | ' ')
}

/// Words and the white space between them, as Python's `textwrap` splits: also behind hyphens and around dashes.
fn chunks(line: &str, hyphens: bool) -> Vec<&str> {
    let (places, all): (Vec<usize>, Vec<char>) = line.char_indices().unzip();
    // How many dashes begin at each place.
    let mut dashes = vec![0; all.len() + 1];
    for at in (0..all.len()).rev() {
        dashes[at] = if all[at] == '-' { dashes[at + 1] + 1 } else { 0 };
    }
    let is_letter = |at: usize| all.get(at).is_some_and(|&c| is_word(c) && super::super::text::decimal(c).is_none());
    let punctuated = |at: usize| all.get(at).is_some_and(|&c| is_word(c) || "!\"'&.,?".contains(c));
    let dash_ahead = |at: usize| dashes[at] >= 2 && all.get(at + dashes[at]).is_some_and(|&c| is_word(c));
    let hyphen = |at: usize| {
        let before =
            at >= 2 && is_letter(at - 1) && (is_letter(at - 2) || (at >= 3 && all[at - 2] == '-' && is_letter(at - 3)));
        let after = is_letter(at + 1) && (is_letter(at + 2) || (all.get(at + 2) == Some(&'-') && is_letter(at + 3)));
        all.get(at) == Some(&'-') && before && after
    };
    let mut parts = Vec::new();
    let mut at = 0;
    while at < all.len() {
        let mut end = at + 1;
        if is_blank(all[at]) {
            while all.get(end).is_some_and(|&c| is_blank(c)) {
                end += 1;
            }
        } else if hyphens && at > 0 && punctuated(at - 1) && dash_ahead(at) {
            end = at + dashes[at];
        } else {
            while end < all.len() && !is_blank(all[end]) {
                if hyphens && hyphen(end) {
                    end += 1;
                    break;
                }
                if hyphens && punctuated(end - 1) && dash_ahead(end) {
                    break;
                }
                end += 1;
            }
        }
        let place = |at: usize| places.get(at).copied().unwrap_or(line.len());
        parts.push(&line[place(at)..place(end)]);
        at = end;
    }
    parts
}

/// Where character number `width` begins, if there is one; looks no further.
fn beyond(text: &str, width: usize) -> Option<usize> {
    text.char_indices().nth(width).map(|(byte, _)| byte)
}

/// Lines of at most `width` characters.
fn fill(chunks: Vec<&str>, width: usize, break_long: bool, hyphens: bool) -> Vec<String> {
    let blank = |chunk: &&str| strip(chunk, None, super::super::text::Side::Both).is_empty();
    let mut rest: std::collections::VecDeque<&str> = chunks.into();
    let mut lines: Vec<String> = Vec::new();
    while !rest.is_empty() {
        let mut line: Vec<&str> = Vec::new();
        let mut left = width;
        if !lines.is_empty() && rest.front().is_some_and(blank) {
            rest.pop_front();
        }
        while let Some(chunk) = rest.front().copied().filter(|chunk| beyond(chunk, left).is_none()) {
            rest.pop_front();
            left -= chars(chunk);
            line.push(chunk);
        }
        if let Some(chunk) = rest.front_mut().filter(|chunk| beyond(chunk, width).is_some()) {
            if break_long {
                let mut end = beyond(chunk, left).unwrap_or(chunk.len());
                if hyphens && let Some(hyphen) = chunk[..end].rfind('-').filter(|&at| at > 0) {
                    end = if chunk[..hyphen].chars().any(|c| c != '-') { hyphen + 1 } else { end };
                }
                line.push(&chunk[..end]);
                *chunk = &chunk[end..];
            } else if line.is_empty() {
                line.extend(rest.pop_front());
            }
        }
        if line.last().is_some_and(blank) {
            line.pop();
        }
        if !line.is_empty() {
            lines.push(line.concat());
        }
    }
    lines
}
