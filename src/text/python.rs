//! What Python does and Rust does not: white space, splitting, `json.dumps` and `strftime`, as chat templates use them.
//!
//! Templates are written for Jinja on Python, and a prompt must agree with transformers' byte for byte.

use serde_json::{Number, Value};
use std::fmt::Write;

/// `str.isspace` of one character: Unicode's white space and the four separators U+001C to U+001F.
fn is_space(c: char) -> bool {
    c.is_whitespace() || ('\u{1C}'..='\u{1F}').contains(&c)
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

/// `str.title`: a letter is large behind what is none, and small behind one.
pub(super) fn title(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut inside = false;
    for c in text.chars() {
        match inside {
            true => out.extend(c.to_lowercase()),
            false => out.extend(c.to_uppercase()),
        }
        inside = c.is_lowercase() || c.is_uppercase();
    }
    out
}

/// `str.split`: at most `max` cuts where it is given. Without a separator, at runs of white space. `None` for an empty
/// separator, which Python refuses.
pub(super) fn split<'t>(text: &'t str, separator: Option<&str>, max: Option<usize>) -> Option<Vec<&'t str>> {
    match separator {
        Some("") => None,
        Some(separator) => Some(match max {
            Some(max) => text.splitn(max.saturating_add(1), separator).collect(),
            None => text.split(separator).collect(),
        }),
        None => {
            let mut parts = Vec::new();
            let mut rest = text.trim_start_matches(is_space);
            while !rest.is_empty() {
                match rest.find(is_space).filter(|_| max.is_none_or(|max| parts.len() < max)) {
                    Some(end) => {
                        parts.push(&rest[..end]);
                        rest = rest[end..].trim_start_matches(is_space);
                    }
                    None => {
                        // The last part keeps the white space inside it, but `split` strips none at its end only when
                        // the number of cuts is what ended it.
                        parts.push(rest);
                        rest = "";
                    }
                }
            }
            Some(parts)
        }
    }
}

/// `str.rsplit` with a separator: cuts from the right.
pub(super) fn rsplit<'t>(text: &'t str, separator: &str, max: Option<usize>) -> Option<Vec<&'t str>> {
    if separator.is_empty() {
        return None;
    }
    let mut parts: Vec<_> = match max {
        Some(max) => text.rsplitn(max.saturating_add(1), separator).collect(),
        None => text.rsplit(separator).collect(),
    };
    parts.reverse();
    Some(parts)
}

/// How `json.dumps` lays out.
#[derive(Debug, Clone, Default)]
pub(super) struct Json {
    /// `\uXXXX` for everything outside ASCII.
    pub ascii: bool,
    /// What one level is indented by; `None` for one line.
    pub indent: Option<String>,
    /// Between items, and between key and value.
    pub separators: Option<(String, String)>,
    /// Keys in order.
    pub sort_keys: bool,
}

impl Json {
    /// `json.dumps(value)`.
    pub(super) fn dumps(&self, value: &Value) -> String {
        let mut out = String::new();
        self.value(value, 0, &mut out);
        out
    }

    fn value(&self, value: &Value, depth: usize, out: &mut String) {
        match value {
            Value::Null => out.push_str("null"),
            Value::Bool(true) => out.push_str("true"),
            Value::Bool(false) => out.push_str("false"),
            Value::Number(number) => out.push_str(&json_number(number)),
            Value::String(text) => self.text(text, out),
            Value::Array(items) => {
                let items = items.iter().map(|item| (None, item)).collect();
                self.list(('[', ']'), items, depth, out);
            }
            Value::Object(map) => {
                let mut items: Vec<_> = map.iter().map(|(key, item)| (Some(key.as_str()), item)).collect();
                if self.sort_keys {
                    items.sort_by_key(|&(key, _)| key);
                }
                self.list(('{', '}'), items, depth, out);
            }
        }
    }

    fn list(&self, (open, close): (char, char), items: Vec<(Option<&str>, &Value)>, depth: usize, out: &mut String) {
        out.push(open);
        let default = (if self.indent.is_some() { "," } else { ", " }, ": ");
        let (between, colon) = self.separators.as_ref().map_or(default, |(between, colon)| (between, colon));
        for (n, (key, item)) in items.iter().enumerate() {
            if n > 0 {
                out.push_str(between);
            }
            self.line(depth + 1, out);
            if let Some(key) = key {
                self.text(key, out);
                out.push_str(colon);
            }
            self.value(item, depth + 1, out);
        }
        if !items.is_empty() {
            self.line(depth, out);
        }
        out.push(close);
    }

    fn line(&self, depth: usize, out: &mut String) {
        if let Some(indent) = &self.indent {
            out.push('\n');
            out.push_str(&indent.repeat(depth));
        }
    }

    fn text(&self, text: &str, out: &mut String) {
        out.push('"');
        for c in text.chars() {
            match c {
                '"' => out.push_str("\\\""),
                '\\' => out.push_str("\\\\"),
                '\n' => out.push_str("\\n"),
                '\r' => out.push_str("\\r"),
                '\t' => out.push_str("\\t"),
                '\u{8}' => out.push_str("\\b"),
                '\u{C}' => out.push_str("\\f"),
                c if c < ' ' || (self.ascii && c > '~') => {
                    for unit in c.encode_utf16(&mut [0; 2]) {
                        // Writing to a string does not fail.
                        let _ = write!(out, "\\u{unit:04x}");
                    }
                }
                c => out.push(c),
            }
        }
        out.push('"');
    }
}

/// Integers as they are; floats as Python's `repr`: shortest digits, an exponent below 1e-4 and from 1e16 on.
fn json_number(number: &Number) -> String {
    let Some(value) = number.as_f64().filter(|_| number.is_f64()) else { return number.to_string() };
    let scientific = format!("{value:e}");
    let (digits, exponent) = scientific.split_once('e').unwrap_or((&scientific, "0"));
    match exponent.parse::<i32>() {
        Ok(exponent) if value != 0.0 && !(-4..16).contains(&exponent) => {
            let sign = if exponent < 0 { '-' } else { '+' };
            format!("{digits}e{sign}{:02}", exponent.abs())
        }
        Ok(_) | Err(_) => format!("{value:?}"),
    }
}

/// `datetime.strftime` in the C locale, for `seconds` since 1970 in UTC. Directives it does not know stay as they are.
pub(super) fn strftime(format: &str, seconds: i64) -> String {
    const MONTHS: [&str; 12] = [
        "January",
        "February",
        "March",
        "April",
        "May",
        "June",
        "July",
        "August",
        "September",
        "October",
        "November",
        "December",
    ];
    const DAYS: [&str; 7] = ["Sunday", "Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday"];
    let (days, second) = (seconds.div_euclid(86_400), seconds.rem_euclid(86_400));
    let (year, month, day, year_day) = civil(days);
    let (hour, minute, second) = (second / 3600, second / 60 % 60, second % 60);
    let month_name = MONTHS[(month - 1) as usize];
    let day_name = DAYS[(days + 4).rem_euclid(7) as usize];
    let hour12 = (hour + 11) % 12 + 1;

    let mut out = String::new();
    let mut rest = format.chars();
    while let Some(c) = rest.next() {
        if c != '%' {
            out.push(c);
            continue;
        }
        let mut plain = false;
        let mut directive = rest.next();
        if directive == Some('-') {
            plain = true;
            directive = rest.next();
        }
        let width = |n: usize| if plain { 0 } else { n };
        let number = |value: i64, n: usize| format!("{value:0width$}", width = width(n));
        let text = match directive {
            Some('Y') => year.to_string(),
            Some('y') => number(year.rem_euclid(100), 2),
            Some('m') => number(month, 2),
            Some('d') => number(day, 2),
            Some('e') => format!("{day:width$}", width = width(2)),
            Some('j') => number(year_day, 3),
            Some('H') => number(hour, 2),
            Some('I') => number(hour12, 2),
            Some('M') => number(minute, 2),
            Some('S') => number(second, 2),
            Some('f') => "000000".into(),
            Some('p') => (if hour < 12 { "AM" } else { "PM" }).into(),
            Some('B') => month_name.into(),
            Some('b' | 'h') => month_name[..3].into(),
            Some('A') => day_name.into(),
            Some('a') => day_name[..3].into(),
            Some('F') => format!("{year}-{month:02}-{day:02}"),
            Some('T' | 'X') => format!("{hour:02}:{minute:02}:{second:02}"),
            Some('R') => format!("{hour:02}:{minute:02}"),
            Some('D' | 'x') => format!("{month:02}/{day:02}/{:02}", year.rem_euclid(100)),
            Some('Z' | 'z') => String::new(),
            Some('n') => "\n".into(),
            Some('t') => "\t".into(),
            Some('%') => "%".into(),
            Some(other) => format!("%{}{other}", if plain { "-" } else { "" }),
            None => "%".into(),
        };
        out.push_str(&text);
    }
    out
}

/// Year, month, day of the month and day of the year of a day counted from 1970-01-01. Howard Hinnant, "chrono-compatible
/// low-level date algorithms", <https://howardhinnant.github.io/date_algorithms.html>.
fn civil(days: i64) -> (i64, i64, i64, i64) {
    let shifted = days + 719_468;
    let era = shifted.div_euclid(146_097);
    let of_era = shifted.rem_euclid(146_097);
    let year_of_era = (of_era - of_era / 1460 + of_era / 36_524 - of_era / 146_096) / 365;
    // Years begin in March here, so that the leap day comes last.
    let march_day = of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let march_month = (5 * march_day + 2) / 153;
    let day = march_day - (153 * march_month + 2) / 5 + 1;
    let month = if march_month < 10 { march_month + 3 } else { march_month - 9 };
    let year = year_of_era + era * 400 + i64::from(month <= 2);
    let leap = year % 4 == 0 && (year % 100 != 0 || year % 400 == 0);
    let year_day = if month > 2 { march_day + 60 + i64::from(leap) } else { march_day - 305 };
    (year, month, day, year_day)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn json_is_spelt_as_python_spells_it() {
        let value = json!({"b": [1, 2.0, 1e-7, 1e16, 123456789.125, -0.0001], "a": "é\"\u{1}\u{7f}🙂</b>", "e": [], "n": null, "t": true});
        let plain = Json::default();
        assert_eq!(
            plain.dumps(&value),
            "{\"b\": [1, 2.0, 1e-07, 1e+16, 123456789.125, -0.0001], \"a\": \"é\\\"\\u0001\u{7f}🙂</b>\", \"e\": [], \"n\": null, \"t\": true}"
        );
        let ascii = Json { ascii: true, sort_keys: true, separators: Some((",".into(), ":".into())), ..Json::default() };
        assert_eq!(
            ascii.dumps(&value),
            r#"{"a":"\u00e9\"\u0001\u007f\ud83d\ude42</b>","b":[1,2.0,1e-07,1e+16,123456789.125,-0.0001],"e":[],"n":null,"t":true}"#
        );
        let wide = Json { indent: Some("  ".into()), ..Json::default() };
        assert_eq!(
            wide.dumps(&json!({"a": [1, {}], "b": {"c": 2}})),
            "{\n  \"a\": [\n    1,\n    {}\n  ],\n  \"b\": {\n    \"c\": 2\n  }\n}"
        );
    }

    #[test]
    fn splitting_follows_python() {
        assert_eq!(split(" a  b c ", None, None).unwrap(), ["a", "b", "c"]);
        assert_eq!(split(" a  b c ", None, Some(1)).unwrap(), ["a", "b c "]);
        assert_eq!(split(" a ", None, Some(1)).unwrap(), ["a"]);
        assert_eq!(split("a,,b", Some(","), None).unwrap(), ["a", "", "b"]);
        assert_eq!(split("a,b,c", Some(","), Some(1)).unwrap(), ["a", "b,c"]);
        assert_eq!(split("", Some(","), None).unwrap(), [""]);
        assert_eq!(split("", None, None).unwrap(), [""; 0]);
        assert_eq!(split("a", Some(""), None), None);
        assert_eq!(rsplit("a,b,c", ",", Some(1)).unwrap(), ["a,b", "c"]);
        assert_eq!(strip("\u{1f}\u{a0}\u{3000}x\n", None, Side::Both), "x");
        assert_eq!(strip("xxaxx", Some("xy"), Side::Left), "axx");
        assert_eq!(strip("xxaxx", Some("xy"), Side::Right), "xxa");
    }

    #[test]
    fn dates_follow_the_calendar() {
        let format = "%a %A %d %-d %b %B %m %Y %y %j %H:%M:%S %I %p %% %Q";
        assert_eq!(strftime(format, 0), "Thu Thursday 01 1 Jan January 01 1970 70 001 00:00:00 12 AM % %Q");
        // 2024 is a leap year: its last day is the 366th.
        assert_eq!(strftime("%Y-%m-%d %j %a %T %I%p", 1_735_689_599), "2024-12-31 366 Tue 23:59:59 11PM");
        assert_eq!(strftime("%d %b %Y %j", 1_709_164_800), "29 Feb 2024 060");
        assert_eq!(strftime("%F %j", 1_677_628_800), "2023-03-01 060");
    }
}
