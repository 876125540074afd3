//! JSON as Python writes it: `json.dump` spells numbers that JSON does not have as `NaN`,
//! `Infinity` and `-Infinity`, and `json.load` reads them, so the small files of a model may hold
//! them.
//!
//! They become `null`, which every reader takes for a key that is absent: none of them is a setting
//! that a model can run with. So do numbers beyond the range of f64, which Python reads as
//! infinity. All else is as strict as JSON is.

use serde_json::Value;

/// The value of a JSON text, or what is wrong with it.
pub(crate) fn parse(text: &[u8]) -> Result<Value, String> {
    let error = match serde_json::from_slice(text) {
        Ok(value) => return Ok(value),
        Err(error) => error.to_string(),
    };
    let Ok(text) = std::str::from_utf8(text) else { return Err(error) };
    serde_json::from_str(&with_nulls(text)).map_err(|_| error)
}

/// The text with `null` in the place of numbers that only Python has; the inside of strings stays
/// as it is.
fn with_nulls(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(first) = rest.chars().next() {
        let len = match first {
            '"' => string(rest),
            _ if is_word(first) => rest.find(|c| !is_word(c)).unwrap_or(rest.len()),
            _ => first.len_utf8(),
        };
        let (word, after) = rest.split_at(len);
        out.push_str(if is_no_number(word) { "null" } else { word });
        rest = after;
    }
    out
}

fn is_word(c: char) -> bool {
    c.is_ascii_alphanumeric() || matches!(c, '+' | '-' | '.')
}

fn is_no_number(word: &str) -> bool {
    let digits = word.strip_prefix('-').unwrap_or(word).starts_with(|c: char| c.is_ascii_digit());
    matches!(word, "NaN" | "Infinity" | "-Infinity") || digits && word.parse::<f64>().is_ok_and(f64::is_infinite)
}

/// The length of the string that `text` begins with, quotes included.
fn string(text: &str) -> usize {
    let mut escaped = false;
    for (at, c) in text.char_indices().skip(1) {
        match c {
            _ if escaped => escaped = false,
            '\\' => escaped = true,
            '"' => return at + 1,
            _ => {}
        }
    }
    text.len()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_that_only_python_has_count_as_absent() {
        let text = br#"{"a": NaN, "b": [Infinity, -Infinity, 1e999, -2.5e-3], "c": "NaN, \"Infinity", "d": {"e":NaN}}"#;
        let expected = r#"{"a": null, "b": [null, null, null, -2.5e-3], "c": "NaN, \"Infinity", "d": {"e": null}}"#;
        assert_eq!(parse(text).unwrap(), serde_json::from_str::<Value>(expected).unwrap());
    }

    #[test]
    fn what_python_does_not_read_is_an_error_that_says_where() {
        for text in ["{\"a\": nan}", "{\"a\": +Infinity}", "{\"a\": Infinityy}", "{\"a\": NaN", "{\"NaN: 1}", "", "{NaN: 1}"] {
            let error = parse(text.as_bytes()).unwrap_err();
            assert!(error.contains("line"), "{text}: {error}");
        }
        assert!(parse(b"{\"a\": NaN, \"b\": \"\xff\"}").is_err());
    }
}
