//! What is timed, and what can be.

use crate::error::Result;
use std::time::Duration;

/// One thing to time: a prompt of that many tokens, then that many single ones, after `depth` tokens that are not timed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Test {
    /// Tokens read together, in chunks of [`Plan::batch`](super::Plan::batch); the last one's logits are wanted.
    pub prompt: usize,
    /// Tokens read one at a time, each with its logits.
    pub generate: usize,
    /// Tokens in the cache before.
    pub depth: usize,
    /// Texts of `prompt` tokens each that become vectors together, with nothing generated; 0 for the tests of llama-bench.
    pub texts: usize,
}

impl Test {
    /// Tokens that are timed.
    pub fn tokens(&self) -> usize {
        self.prompt * self.texts.max(1) + self.generate
    }
}

impl std::fmt::Display for Test {
    /// llama-bench's names: `pp512`, `tg128`, `pp512+tg128 @ d4096`; `embed32x128` is 32 texts of 128 tokens.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        if self.texts > 0 {
            return write!(f, "embed{}x{}", self.texts, self.prompt);
        }
        match (self.prompt, self.generate) {
            (prompt, 0) => write!(f, "pp{prompt}")?,
            (0, generate) => write!(f, "tg{generate}")?,
            (prompt, generate) => write!(f, "pp{prompt}+tg{generate}")?,
        }
        if self.depth > 0 { write!(f, " @ d{}", self.depth) } else { Ok(()) }
    }
}

/// The times of one run.
#[derive(Debug, Clone, Copy)]
pub struct Sample {
    /// The whole run.
    pub time: Duration,
    /// Its prompt, up to the logits that the first token is drawn from; zero without one.
    pub prompt: Duration,
}

/// What can run a test: a model of ours, or another engine.
pub trait Timed {
    /// Runs `test` once.
    fn run(&mut self, test: Test) -> Result<Sample>;
    /// Runs `test` untimed, until its time is stable.
    fn warm_up(&mut self, test: Test) -> Result<()>;
}
