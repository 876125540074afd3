//! Perplexity of a text, over the same chunks as llama.cpp's `llama-perplexity`.
//!
//! The text is cut into chunks of `context` tokens; each chunk starts afresh (its first token replaced by BOS where the
//! tokenizer adds one), and only the predictions of its second half count, so that every counted token has seen at least
//! half a chunk. Source: llama.cpp `tools/perplexity/perplexity.cpp`.

use super::Model;
use super::score::Scores;
use crate::error::{Error, Result};

/// A running estimate.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct Perplexity {
    count: usize,
    sum: f64,
    squares: f64,
}

impl Perplexity {
    /// `exp` of the mean negative log-likelihood so far.
    pub fn value(&self) -> f64 {
        (self.sum / self.count as f64).exp()
    }

    /// Standard error of [`Perplexity::value`].
    pub fn error(&self) -> f64 {
        let n = self.count as f64;
        let variance = self.squares / n - (self.sum / n).powi(2);
        if variance > 0.0 { (variance / (n - 1.0)).sqrt() * self.value() } else { 0.0 }
    }

    /// Tokens that were predicted.
    pub fn count(&self) -> usize {
        self.count
    }

    fn add(&mut self, nll: f64) {
        self.count += 1;
        self.sum += nll;
        self.squares += nll * nll;
    }
}

impl Model {
    /// The perplexity of `text` over chunks of `context` tokens; `each` is called after every chunk with its number, the
    /// number of chunks and the estimate so far.
    ///
    /// # Errors
    /// [`Error::Input`] if the text has fewer than two chunks.
    pub fn perplexity(
        &self,
        text: &str,
        context: usize,
        mut each: impl FnMut(usize, usize, &Perplexity),
    ) -> Result<Perplexity> {
        if context < 4 {
            return Err(Error::Input(format!("a context of {context} is too short for perplexity; take 4 or more")));
        }
        // An encoder has no logits, and says so before anything is counted.
        self.session()?;
        let tokens = self.tokenizer().encode(text, true)?;
        let need = context.saturating_mul(2);
        if tokens.len() < need {
            let have = tokens.len();
            return Err(Error::Input(format!(
                "perplexity over a context of {context} needs {need} tokens, the text has {have}"
            )));
        }
        let bos = self.tokenizer().bos().filter(|bos| tokens.first() == Some(bos));
        let first = context / 2;
        let chunks = tokens.len() / context;
        let mut estimate = Perplexity::default();
        for (i, chunk) in tokens.chunks_exact(context).enumerate() {
            let mut read = chunk.to_vec();
            read[0] = bos.unwrap_or(read[0]);
            // The last position predicts a token of the next chunk, which does not count.
            let mut scores = Scores::new(&chunk[first + 1..], first);
            self.read_apart(&read[..context - 1], &mut scores)?;
            scores.logprobs.iter().for_each(|logprob| estimate.add(-f64::from(*logprob)));
            each(i + 1, chunks, &estimate);
        }
        Ok(estimate)
    }
}
