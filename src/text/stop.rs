//! Stop strings in a stream: text that may become one is held back until it is decided.
//!
//! The result does not depend on how the text is cut into pieces: the stop string that is complete first wins, and of two
//! that are complete at the same character the one that began first. What is held back is never longer than the longest
//! stop string, so a step costs the length of what arrives.

/// Cuts a stream of text at the first stop string.
#[derive(Debug, Clone, Default)]
pub(super) struct Stops {
    stops: Vec<String>,
    held: String,
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
        let matches = self.stops.iter().enumerate().filter_map(|(which, stop)| {
            let start = self.held.find(stop.as_str())?;
            Some((start + stop.len(), start, which))
        });
        if let Some((end, start, which)) = matches.min() {
            self.hit = Some(which);
            self.held.truncate(if self.keep { end } else { start });
            return std::mem::take(&mut self.held);
        }
        let keep = self.stops.iter().map(|stop| overlap(&self.held, stop)).max().unwrap_or(0);
        let rest = self.held.split_off(self.held.len() - keep);
        std::mem::replace(&mut self.held, rest)
    }

    /// Gives what was held back and did not become a stop string.
    pub(super) fn finish(&mut self) -> String {
        std::mem::take(&mut self.held)
    }
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
    fn empty_stop_strings_stop_nothing() {
        assert_eq!(run(&[""], &["a"]), (vec!["a".into(), "".into()], None));
    }
}
