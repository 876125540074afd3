//! The way of a text to its tokens, with the regular expressions that split it run here.
//!
//! The tokenizers crate takes an error of the regex engine for the end of the matches, so that the
//! rest of a text becomes one piece and its tokens are wrong, in silence. An error is met easily:
//! `\s+(?!\S)`, the end of nearly every byte-level pattern, keeps a state for each white-space
//! character, and the engine has a limit of a million. So a pattern that ends like that is run
//! without its look-ahead, which leaves an expression that a linear engine can run: `\s+` matches
//! the whole run, of which the last character is given back unless the text ends there. Any other
//! pattern on which the engine gives up is an error.

use fancy_regex::Regex;
use std::collections::HashSet;
use tokenizers::pre_tokenizers::byte_level::ByteLevel;
use tokenizers::pre_tokenizers::split::SplitPattern;
use tokenizers::tokenizer::pattern::{Invert, Pattern};
use tokenizers::{
    Encoding, Model, ModelWrapper, NormalizerWrapper, OffsetReferential, OffsetType, PreTokenizedString, PreTokenizer,
    PreTokenizerWrapper, Result, SplitDelimiterBehavior, Token,
};

/// Stands in a special token of a text to say that it is plain text: a noncharacter, which no text
/// is made of.
pub(super) const MARK: char = '\u{FDD0}';

/// What byte-level pre-tokenizers split by, where they split.
const GPT2: &str = r"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+";

/// Ends of patterns that mean: white space, but for the character before a word.
const TAILS: [&str; 2] = [r"\s+(?!\S)|\s+", r"\s+(?!\S)|\s"];

/// Parts of a pattern for which the engine keeps states.
const HARD: [&str; 10] = ["(?=", "(?!", "(?<", "(?>", "(?(", "++", "*+", "?+", "}+", r"\G"];

/// The steps between the normaliser and the model.
pub(super) struct Pipeline {
    steps: Vec<Step>,
    /// Patterns of the normaliser on which the engine may give up.
    replaced: Vec<Regex>,
}

enum Step {
    Split {
        pattern: Splitter,
        behavior: SplitDelimiterBehavior,
        invert: bool,
    },
    /// A space before each stretch of text that begins with none.
    Prefix,
    Other(PreTokenizerWrapper),
}

impl Pipeline {
    pub fn new(tokenizer: &tokenizers::Tokenizer) -> Result<Pipeline> {
        let mut steps = Vec::new();
        if let Some(first) = tokenizer.get_pre_tokenizer() {
            collect(first, &mut steps)?;
        }
        let normaliser = tokenizer.get_normalizer().map(serde_json::to_value).transpose()?;
        let mut replaced = Vec::new();
        patterns(&normaliser.unwrap_or_default(), &mut replaced)?;
        Ok(Pipeline { steps, replaced })
    }

    /// The tokens of `text`, without what a post-processor adds. Where `special` is given, the
    /// marks of hidden special tokens are taken out once added tokens are found, and no other piece
    /// becomes one of these ids.
    pub fn encode(&self, tokenizer: &tokenizers::Tokenizer, text: &str, special: Option<&HashSet<u32>>) -> Result<Encoding> {
        for pattern in &self.replaced {
            pattern.find_iter(text).try_for_each(|found| found.map(drop)).map_err(|e| gives_up(pattern.as_str(), e))?;
        }
        let mut pieces = tokenizer.get_added_vocabulary().extract_and_normalize(tokenizer.get_normalizer(), text);
        if special.is_some() {
            pieces.normalize(|piece| {
                piece.filter(|c| c != MARK);
                Ok(())
            })?;
        }
        for step in &self.steps {
            step.apply(&mut pieces)?;
        }
        let model = tokenizer.get_model();
        match special {
            None => model.tokenize_in_pretokenized(&mut pieces, None)?,
            Some(special) => pieces.tokenize(|piece| ordinary(model, piece.get(), special))?,
        }
        pieces.into_encoding(None, 0, OffsetType::None)
    }
}

/// Adds the steps of a pre-tokenizer, those of a sequence one by one.
fn collect(from: &PreTokenizerWrapper, steps: &mut Vec<Step>) -> Result<()> {
    match from {
        PreTokenizerWrapper::Sequence(sequence) => {
            sequence.as_ref().iter().try_for_each(|step| collect(step, steps))?;
        }
        PreTokenizerWrapper::Split(split) => match &split.pattern {
            SplitPattern::Regex(pattern) => {
                steps.push(Step::Split { pattern: Splitter::new(pattern)?, behavior: split.behavior, invert: split.invert })
            }
            SplitPattern::String(_) => steps.push(Step::Other(from.clone())),
        },
        PreTokenizerWrapper::ByteLevel(bytes) => {
            if bytes.add_prefix_space {
                steps.push(Step::Prefix);
            }
            if bytes.use_regex {
                let pattern = Splitter::new(GPT2)?;
                steps.push(Step::Split { pattern, behavior: SplitDelimiterBehavior::Isolated, invert: false });
            }
            let bytes = ByteLevel::default().add_prefix_space(false).trim_offsets(bytes.trim_offsets).use_regex(false);
            steps.push(Step::Other(bytes.into()));
        }
        other => steps.push(Step::Other(other.clone())),
    }
    Ok(())
}

/// Adds the regular expressions of a normaliser, as JSON, on which the engine may give up.
fn patterns(normaliser: &serde_json::Value, found: &mut Vec<Regex>) -> Result<()> {
    if let Some(pattern) = normaliser["pattern"]["Regex"].as_str() {
        let refers = pattern.as_bytes().windows(2).any(|two| two[0] == b'\\' && two[1].is_ascii_digit());
        if refers || HARD.iter().any(|part| pattern.contains(part)) {
            found.push(Regex::new(pattern)?);
        }
    }
    normaliser["normalizers"].as_array().into_iter().flatten().try_for_each(|step| patterns(step, found))
}

impl Step {
    fn apply(&self, pieces: &mut PreTokenizedString) -> Result<()> {
        match self {
            Step::Split { pattern, behavior, invert: false } => pieces.split(|_, piece| piece.split(pattern, *behavior)),
            Step::Split { pattern, behavior, invert: true } => pieces.split(|_, piece| piece.split(Invert(pattern), *behavior)),
            Step::Prefix => pieces.normalize(|piece| {
                if !piece.get().starts_with(' ') {
                    piece.prepend(" ");
                }
                Ok(())
            }),
            Step::Other(step) => step.pre_tokenize(pieces),
        }
    }
}

/// A pattern, and whether its matches of white space give back their last character before a word.
struct Splitter {
    regex: Regex,
    gives_back: bool,
}

impl Splitter {
    fn new(pattern: &str) -> Result<Splitter> {
        let head = TAILS.iter().find_map(|tail| pattern.strip_suffix(tail));
        let head = head.filter(|head| head.is_empty() || head.ends_with('|') && !head.ends_with(r"\|"));
        // The last group is the white space.
        if let Some(regex) = head.and_then(|head| Regex::new(&format!(r"{head}(\s+)")).ok()) {
            return Ok(Splitter { regex, gives_back: true });
        }
        Ok(Splitter { regex: Regex::new(pattern)?, gives_back: false })
    }

    /// The next match from `at` on.
    fn next(&self, text: &str, at: usize) -> Result<Option<(usize, usize)>> {
        let wrong = |e| gives_up(self.regex.as_str(), e);
        let Some(found) = self.regex.find_from_pos(text, at).map_err(wrong)? else { return Ok(None) };
        let (start, end) = (found.start(), found.end());
        let last = found.as_str().char_indices().next_back().filter(|(at, c)| *at > 0 && c.is_whitespace());
        let Some((last, _)) = last.filter(|_| self.gives_back && end < text.len()) else { return Ok(Some((start, end))) };
        // Nearly all other matches end with a letter, a digit or a sign, so few come here.
        let groups = self.regex.captures_from_pos(text, start).map_err(wrong)?;
        let is_space = groups.is_some_and(|groups| groups.get(groups.len() - 1).is_some());
        Ok(Some((start, if is_space { start + last } else { end })))
    }
}

impl Pattern for &Splitter {
    fn find_matches(&self, text: &str) -> Result<Vec<((usize, usize), bool)>> {
        if text.is_empty() {
            return Ok(vec![((0, 0), false)]);
        }
        let (mut splits, mut done, mut at) = (Vec::new(), 0, 0);
        let mut last = None;
        while at <= text.len() {
            let Some((start, end)) = self.next(text, at)? else { break };
            at = end;
            if start == end {
                at += text[end..].chars().next().map_or(1, char::len_utf8);
                // An empty match right behind another is none.
                if last == Some(end) {
                    continue;
                }
            }
            last = Some(end);
            if done < start {
                splits.push(((done, start), false));
            }
            splits.push(((start, end), true));
            done = end;
        }
        if done < text.len() {
            splits.push(((done, text.len()), false));
        }
        Ok(splits)
    }
}

fn gives_up(pattern: &str, error: fancy_regex::Error) -> tokenizers::Error {
    format!("the pattern {pattern:?} can not be followed through this text: {error}").into()
}

/// The tokens of a piece, none of which is `special`: where the model spells one, the piece is cut
/// within it.
fn ordinary(model: &ModelWrapper, piece: &str, special: &HashSet<u32>) -> Result<Vec<Token>> {
    let mut tokens = model.tokenize(piece)?;
    let text = |token: &Token| piece.get(token.offsets.0..token.offsets.1);
    let spelt = |token: &&Token| special.contains(&token.id) && text(token) == Some(token.value.as_str());
    let Some(token) = tokens.iter().find(spelt) else { return Ok(tokens) };
    let cut = token.offsets.0 + token.value.chars().next().map_or(0, char::len_utf8);
    if cut >= token.offsets.1 || cut == 0 {
        return Ok(tokens);
    }
    tokens = ordinary(model, &piece[..cut], special)?;
    for mut token in ordinary(model, &piece[cut..], special)? {
        token.offsets = (token.offsets.0 + cut, token.offsets.1 + cut);
        tokens.push(token);
    }
    Ok(tokens)
}

/// Where in `text` a special token begins, with the white space that it swallows left out. Those of
/// one character are left out: there is no place in them.
pub(super) fn special(tokenizer: &tokenizers::Tokenizer, text: &str, ids: &HashSet<u32>) -> Vec<usize> {
    let none: Option<&NormalizerWrapper> = None;
    let pieces = tokenizer.get_added_vocabulary().extract_and_normalize(none, text);
    let all = pieces.get_splits(OffsetReferential::Original, OffsetType::Byte).into_iter();
    all.filter_map(|(piece, (start, _), tokens)| {
        let [token] = tokens.as_deref()? else { return None };
        let is_long = piece.trim().chars().nth(1).is_some();
        (is_long && ids.contains(&token.id)).then(|| start + piece.len() - piece.trim_start().len())
    })
    .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::text::pre;
    use tokenizers::utils::SysRegex;

    /// Every pattern that a GGUF file can name, and some of others.
    fn patterns() -> Vec<String> {
        let named = pre::names().flat_map(|name| pre::find(Some(name)).unwrap().split.iter().copied());
        let others =
            [GPT2, r"\s+(?!\S)|\s+", r"\s*", r"\p{L}*|\s+(?!\S)|\s+", r"[^\s]++|\s++$|\s+(?!\S)|\s", r"(\d)|\s+(?!\S)|\s+"];
        let mut all: Vec<String> = named.chain(others).map(str::to_owned).collect();
        all.sort();
        all.dedup();
        all
    }

    #[test]
    fn patterns_match_what_the_engine_matches_with_their_look_ahead() {
        let parts = [
            " ", "  ", "\n", "\r\n", "\t", "\u{3000}", "\u{A0}", "a", "Word", "'s", "'LL", "é", "e\u{301}", "日本", "1", "234",
            "٣", ".", "--", "!?", "🙂", "_", "\u{2028}", "/",
        ];
        let mut state = 88_172_645_463_325_252u64;
        let mut below = |n: usize| {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            (state % n as u64) as usize
        };
        for pattern in patterns() {
            let (ours, theirs) = (Splitter::new(&pattern).unwrap(), SysRegex::new(&pattern).unwrap());
            for _ in 0..300 {
                let text: String = (0..below(14)).map(|_| parts[below(parts.len())]).collect();
                assert_eq!((&ours).find_matches(&text).unwrap(), (&theirs).find_matches(&text).unwrap(), "{pattern} {text:?}");
            }
        }
    }

    #[test]
    fn a_run_of_a_million_white_space_characters_is_split_as_a_short_one() {
        const LONG: usize = 1_100_000;
        for pattern in patterns() {
            let splitter = Splitter::new(&pattern).unwrap();
            for (space, end) in [(" ", "x"), ("\n", "")] {
                // Where the run's length does not decide, the splits are those of a short run with
                // its middle drawn out.
                let Ok(short) = (&splitter).find_matches(&format!("a{}{end}", space.repeat(9))) else { continue };
                let found = (&splitter).find_matches(&format!("a{}{end}", space.repeat(LONG)));
                let found = found.unwrap_or_else(|error| panic!("{pattern} {space:?} {end:?}: {error}"));
                if short.len() > 6 {
                    continue;
                }
                let drawn_out = |at: usize| if at > 1 + space.len() * 5 { at + space.len() * (LONG - 9) } else { at };
                let expected: Vec<_> = short.iter().map(|((from, to), is)| ((drawn_out(*from), drawn_out(*to)), *is)).collect();
                assert_eq!(found, expected, "{pattern} {space:?} {end:?}");
            }
        }
    }

    #[test]
    fn a_pattern_on_which_the_engine_gives_up_is_an_error_that_names_it() {
        let splitter = Splitter::new(r"\s+(?=y)|\S+").unwrap();
        let error = (&splitter).find_matches(&format!("a{}x", " ".repeat(2_000_000))).unwrap_err().to_string();
        assert!(error.contains(r"\\s+(?=y)"), "{error}");
    }
}
