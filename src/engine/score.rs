//! Readers of logits that write no text: the rows themselves, and the log-probabilities of tokens that are given.

use super::step::Reader;
use super::text::Text;
use crate::error::Result;
use crate::sample::log_probabilities;

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
