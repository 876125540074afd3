//! How likely given texts are, and the readers of logits that write no text.

use super::prompt;
use super::session::Session;
use super::step::{Reader, Work, read_all};
use super::text::Text;
use crate::backend::Input;
use crate::error::{Error, Result};
use crate::model::Forward;
use crate::options::{Cancel, GenerateOptions};
use crate::sample::log_probabilities;

/// How likely a text is after what comes before it: the model's own log-probabilities, before penalties and filters.
#[derive(Debug, Clone, PartialEq, Default)]
#[non_exhaustive]
pub struct Score {
    /// The text's tokens with their natural log-probabilities. The first token of all has none: nothing comes before it.
    pub tokens: Vec<(u32, Option<f32>)>,
}

impl Score {
    /// The text's log-probability: the sum of its tokens'.
    pub fn logprob(&self) -> f64 {
        self.known().map(f64::from).sum()
    }

    /// The mean of its tokens' log-probabilities, which compares texts of different lengths; 0 where none is known.
    pub fn mean_logprob(&self) -> f64 {
        self.logprob() / self.known().count().max(1) as f64
    }

    fn known(&self) -> impl Iterator<Item = f32> {
        self.tokens.iter().filter_map(|(_, logprob)| *logprob)
    }
}

impl Session {
    /// How likely each of `choices` is to follow the text so far, which is read once and stays as it is. In an empty session the
    /// first prompt's rules hold, and one choice is a prompt whose own tokens are scored.
    ///
    /// Of `options`, `parse_special` and `cancel` count.
    ///
    /// # Errors
    /// [`Error::ContextOverflow`] for a choice that does not fit, [`Error::Cancelled`], and those of a forward.
    pub fn score<T: AsRef<str>>(&mut self, choices: &[T], options: &GenerateOptions) -> Result<Vec<Score>> {
        let special = self.text.len() == 0;
        let encode = |choice: &T| prompt::encode(&self.model, choice.as_ref(), special, options);
        let choices = choices.iter().map(encode).collect::<Result<Vec<_>>>()?;
        let (longest, limit) = (choices.iter().map(Vec::len).max().unwrap_or(0), self.model.context());
        if self.text.len() + longest > limit {
            return Err(Error::ContextOverflow { wanted: self.text.len() + longest, limit });
        }
        let Session { model, text } = self;
        let (network, before) = (&*model.inner().network, text.inputs().to_vec());
        let scores = scores(network, text, &choices, options.cancel.as_ref());
        // Behind an error too: then what was not read waits again.
        text.restore(before);
        scores
    }
}

fn scores(network: &dyn Forward, text: &mut Text, choices: &[Vec<u32>], cancel: Option<&Cancel>) -> Result<Vec<Score>> {
    let (before, mut work) = (text.len(), Work::default());
    let mut last = Rows { first: before.saturating_sub(1), logits: Vec::new() };
    if before > 0 {
        text.become_text(network, text.inputs().to_vec())?;
        read_all(network, text, &mut last, cancel, &mut work)?;
    }
    let mut scores = Vec::with_capacity(choices.len());
    for choice in choices {
        let mut score = Score::default();
        if let [first, rest @ ..] = choice.as_slice() {
            let first_logprob = (before > 0).then(|| log_probabilities(&last.logits, *first, 0)).transpose()?;
            score.tokens.push((*first, first_logprob.map(|logprob| logprob.0)));
            choice[..rest.len()].iter().for_each(|token| text.push(Input::Token(*token)));
            let mut follow = Scores::new(rest, before);
            read_all(network, text, &mut follow, cancel, &mut work)?;
            score.tokens.extend(rest.iter().copied().zip(follow.logprobs.into_iter().map(Some)));
            text.cut(before);
        }
        scores.push(score);
    }
    Ok(scores)
}

/// Wants no logits.
pub(super) struct Silent;

impl Reader for Silent {
    fn wants(&self, _: usize, _: usize) -> bool {
        false
    }

    fn take(&mut self, _: &mut Text, _: usize, _: &[f32]) -> Result<()> {
        Ok(())
    }
}

/// Keeps the logits from input `first` on, row after row.
pub(super) struct Rows {
    pub first: usize,
    pub logits: Vec<f32>,
}

impl Reader for Rows {
    fn wants(&self, at: usize, _: usize) -> bool {
        at >= self.first
    }

    fn take(&mut self, _: &mut Text, _: usize, logits: &[f32]) -> Result<()> {
        self.logits.extend_from_slice(logits);
        Ok(())
    }
}

/// Scores the tokens that follow the inputs from number `first` on.
pub(super) struct Scores<'a> {
    tokens: &'a [u32],
    first: usize,
    pub logprobs: Vec<f32>,
}

impl<'a> Scores<'a> {
    /// `tokens[i]` follows input `first + i`.
    pub fn new(tokens: &'a [u32], first: usize) -> Scores<'a> {
        Scores { tokens, first, logprobs: Vec::with_capacity(tokens.len()) }
    }
}

impl Reader for Scores<'_> {
    fn wants(&self, at: usize, _: usize) -> bool {
        at >= self.first && at - self.first < self.tokens.len()
    }

    fn take(&mut self, _: &mut Text, at: usize, logits: &[f32]) -> Result<()> {
        self.logprobs.push(log_probabilities(logits, self.tokens[at - self.first], 0)?.0);
        Ok(())
    }
}
