//! Stop strings in a stream: text that may become one is held back until it is decided.
//!
//! A stop string is looked for in the text with its special tokens written out, as `stop_strings` of
//! transformers does it: a token that prints nothing can end a text, alone or between what is
//! printed. It is looked for in what is printed as well, so that no text that is shown has one.
//!
//! The result does not depend on how the text is cut into pieces: the stop string that is complete
//! first wins, and of two that are complete at the same character the one that began first. What is
//! held back, silent tokens aside, is never longer than the longest stop string, so a step costs the
//! length of what arrives.

use std::ops::Range;

/// Cuts a stream of text at the first stop string.
#[derive(Debug, Clone, Default)]
pub(super) struct Stops {
    stops: Vec<String>,
    held: String,
    /// Parts of `held` that are not printed, in order.
    silent: Vec<Range<usize>>,
    hit: Option<usize>,
    /// Whether the stop string that ends the text is shown as its end.
    keep: bool,
}

impl Stops {
    /// Empty stop strings are left out: they would stop everything.
    pub(super) fn new(stops: Vec<String>) -> Self {
        let stops = stops.into_iter().filter(|stop| !stop.is_empty()).collect();
        Stops { stops, ..Stops::default() }
    }

    /// Shows the stop string that ends the text.
    pub(super) fn keep(&mut self) {
        self.keep = true;
    }

    /// Whether there is no stop string.
    pub(super) fn is_empty(&self) -> bool {
        self.stops.is_empty()
    }

    /// The stop string that was met.
    pub(super) fn hit(&self) -> Option<&str> {
        self.hit.map(|at| self.stops[at].as_str())
    }

    /// Takes the next text and gives what can be shown.
    pub(super) fn push(&mut self, text: String) -> String {
        if self.hit.is_some() {
            return String::new();
        }
        if self.stops.is_empty() {
            return text;
        }
        if self.held.is_empty() {
            self.held = text;
        } else {
            self.held.push_str(&text);
        }
        self.decide()
    }

    /// Takes the text of a token that prints nothing, and gives what can be shown of what came
    /// before it.
    pub(super) fn push_silent(&mut self, text: &str) -> String {
        if self.hit.is_some() || self.stops.is_empty() {
            return String::new();
        }
        let from = self.held.len();
        self.held.push_str(text);
        self.silent.push(from..self.held.len());
        self.decide()
    }

    /// Looks for a stop string, and gives what no longer can become a part of one.
    fn decide(&mut self) -> String {
        let written = found(&self.stops, &self.held);
        let printed = if self.silent.is_empty() { String::new() } else { self.printed() };
        let read =
            found(&self.stops, &printed).map(|(end, start, which)| (self.place(end, true), self.place(start, false), which));
        if let Some((end, start, which)) = written.into_iter().chain(read).min() {
            self.hit = Some(which);
            let shown = self.take(if self.keep { end } else { start });
            (self.held, self.silent) = Default::default();
            return shown;
        }
        let kept = |text: &str| self.stops.iter().map(|stop| overlap(text, stop)).max().unwrap_or(0);
        let written = self.held.len() - kept(&self.held);
        let read = match kept(&printed) {
            0 => self.held.len(),
            kept => self.place(printed.len() - kept, false),
        };
        self.take(written.min(read))
    }

    /// What is held without its silent parts.
    fn printed(&self) -> String {
        let mut text = self.held.clone();
        self.silent.iter().rev().for_each(|part| text.replace_range(part.clone(), ""));
        text
    }

    /// Where a place in [`Stops::printed`] is in what is held: in front of a silent part there if it is an end, else behind it.
    fn place(&self, at: usize, is_end: bool) -> usize {
        let before = |part: &&Range<usize>, at: usize| if is_end { part.start < at } else { part.start <= at };
        self.silent.iter().fold(at, |at, part| if before(&part, at) { at + part.len() } else { at })
    }

    /// Gives what was held back and did not become a stop string.
    pub(super) fn finish(&mut self) -> String {
        self.take(self.held.len())
    }

    /// Takes the first `len` bytes of what is held, without the silent ones.
    fn take(&mut self, len: usize) -> String {
        let rest = self.held.split_off(len);
        let mut shown = std::mem::replace(&mut self.held, rest);
        for part in self.silent.iter().rev().filter(|part| part.start < len) {
            shown.replace_range(part.start..part.end.min(len), "");
        }
        self.silent.retain(|part| part.end > len);
        for part in &mut self.silent {
            *part = part.start.saturating_sub(len)..part.end - len;
        }
        shown
    }
}

/// The stop string of which `text` has the end first: where it ends, where it begins, which it is.
fn found(stops: &[String], text: &str) -> Option<(usize, usize, usize)> {
    let matches = stops.iter().enumerate().filter_map(|(which, stop)| {
        let start = text.find(stop.as_str())?;
        Some((start + stop.len(), start, which))
    });
    matches.min()
}

/// The length of the longest end of `text` with which `stop` begins.
fn overlap(text: &str, stop: &str) -> usize {
    let longest = text.len().min(stop.len() - 1);
    (1..=longest).rev().find(|&n| stop.is_char_boundary(n) && text.ends_with(&stop[..n])).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn run(stops: &[&str], chunks: &[&str]) -> (Vec<String>, Option<String>) {
        let mut state = Stops::new(stops.iter().map(|s| s.to_string()).collect());
        let mut shown: Vec<_> = chunks.iter().map(|chunk| state.push(chunk.to_string())).collect();
        shown.push(state.finish());
        (shown, state.hit().map(str::to_owned))
    }

    #[test]
    fn text_that_may_become_a_stop_string_is_held_back() {
        let (shown, hit) = run(&["\nUser:"], &["Hi", "\n", "Us", "ual", "\nUser", ": x", "more"]);
        assert_eq!(shown, ["Hi", "", "", "\nUsual", "", "", "", ""]);
        assert_eq!(hit.as_deref(), Some("\nUser:"));
    }

    #[test]
    fn what_did_not_become_a_stop_string_is_shown_at_the_end() {
        assert_eq!(run(&["###"], &["a##"]), (vec!["a".into(), "##".into()], None));
    }

    #[test]
    fn the_cut_does_not_depend_on_the_pieces() {
        let (text, stops) = ("xabcabdaébb", ["bd", "abd", "cab", "ébb", "é"]);
        let whole = run(&stops, &[text]);
        let chars: Vec<_> = text.chars().map(String::from).collect();
        let single = run(&stops, &chars.iter().map(String::as_str).collect::<Vec<_>>());
        assert_eq!((whole.0.concat(), &whole.1), (single.0.concat(), &single.1));
        assert_eq!((whole.0.concat().as_str(), whole.1.as_deref()), ("xab", Some("cab")));
    }

    #[test]
    fn of_two_that_end_together_the_longer_wins() {
        assert_eq!(run(&["bd", "abd"], &["xa", "bd"]), (vec!["x".into(), "".into(), "".into()], Some("abd".into())));
    }

    #[test]
    fn a_stop_string_that_is_kept_is_the_end_of_the_text() {
        let mut state = Stops::new(vec!["END".to_owned()]);
        state.keep();
        assert_eq!(["a E", "ND x", "more"].map(|chunk| state.push(chunk.to_owned())).concat(), "a END");
        assert_eq!(state.hit(), Some("END"));
    }

    #[test]
    fn a_silent_token_ends_a_text_alone_and_between_printed_parts() {
        let mut stops = Stops::new(vec!["a<|end|>\nb".into(), "<|stop|>".into()]);
        assert_eq!(stops.push("xa".into()), "x");
        assert_eq!(stops.push_silent("<|end|>"), "");
        assert_eq!(stops.push("\nc a".into()), "a\nc ");
        assert_eq!(stops.push_silent("<|end|>"), "");
        assert_eq!(stops.push("\n".into()), "");
        assert_eq!((stops.push("bd".into()).as_str(), stops.hit()), ("", Some("a<|end|>\nb")));

        let mut stops = Stops::new(vec!["<|stop|>".into()]);
        assert_eq!(stops.push("x".into()) + &stops.push_silent("<|end|>") + &stops.push("<|".into()), "x");
        assert_eq!((stops.push_silent("<|stop|>").as_str(), stops.hit()), ("<|", Some("<|stop|>")));
    }

    #[test]
    fn what_is_printed_holds_no_stop_string_even_where_silent_tokens_are_between() {
        let mut stops = Stops::new(vec!["ab".into()]);
        let shown = stops.push("xa".into()) + &stops.push_silent("<|1|>") + &stops.push_silent("<|2|>");
        assert_eq!((shown.as_str(), stops.push("bc".into()).as_str(), stops.hit()), ("x", "", Some("ab")));
        let mut stops = Stops::new(vec!["ab".into()]);
        let shown = stops.push("xa".into()) + &stops.push_silent("<|1|>") + &stops.push("cab".into());
        assert_eq!((shown.as_str(), stops.hit()), ("xac", Some("ab")));
    }

    #[test]
    fn a_silent_token_that_only_begins_a_stop_string_is_never_printed() {
        let mut stops = Stops::new(vec!["end|>s".into()]);
        let shown = stops.push("x".into()) + &stops.push_silent("<|end|>") + &stops.push("st".into());
        assert_eq!((shown.as_str(), stops.hit()), ("x", Some("end|>s")));
        let mut stops = Stops::new(vec!["end|>s".into()]);
        assert_eq!(stops.push("x".into()) + &stops.push_silent("<|end|>") + &stops.push("t".into()), "xt");
        assert_eq!(stops.push_silent("<|end|>") + &stops.finish(), "");
    }

    #[test]
    fn empty_stop_strings_stop_nothing() {
        assert_eq!(run(&[""], &["a"]), (vec!["a".into(), "".into()], None));
    }
}
