//! What a generation gives: pieces of text, and in the end why it ended and what it took.

use std::time::Duration;

/// A part of the generated text.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub struct Piece {
    /// Text that became certain: whole characters, and nothing that may turn out to be part of a stop string. May be empty.
    pub text: String,
    /// The token that was generated; `None` for text that was held back and came free at the end.
    pub token: Option<u32>,
    /// The token's log-probability, if asked for.
    pub logprobs: Option<Logprobs>,
}

/// Log-probabilities at one position: the model's own, before penalties, filters and temperature.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub struct Logprobs {
    /// Of the chosen token.
    pub logprob: f32,
    /// The likeliest tokens with theirs, best first.
    pub top: Vec<(u32, f32)>,
}

/// Why a generation ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum DoneReason {
    /// The model ended its turn, or a stop string appeared.
    Stop,
    /// The token limit was reached or the context is full.
    Length,
    /// The caller's [`Cancel`](crate::Cancel) said so.
    Cancelled,
}

impl DoneReason {
    /// A word for it; Ollama's for the first two.
    pub fn name(self) -> &'static str {
        match self {
            DoneReason::Stop => "stop",
            DoneReason::Length => "length",
            DoneReason::Cancelled => "cancelled",
        }
    }
}

/// Counts and times of one generation.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
#[non_exhaustive]
pub struct Usage {
    /// Tokens of the prompt.
    pub prompt_tokens: usize,
    /// Those of them that were in the cache already.
    pub cached_tokens: usize,
    /// Tokens dropped from a prompt that was too long.
    pub truncated_tokens: usize,
    /// Messages dropped from a chat that was too long: the oldest but system messages.
    pub truncated_messages: usize,
    /// Time to read the prompt.
    pub prompt_time: Duration,
    /// Tokens generated, a final end token included.
    pub tokens: usize,
    /// Time to generate them.
    pub time: Duration,
}
