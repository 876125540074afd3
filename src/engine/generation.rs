//! A running generation of one text: the step with one turn, again and again.

use super::Session;
use super::prompt::Prompt;
use super::step::{self, Work};
use super::writer::Writer;
use crate::error::Result;
use crate::options::GenerateOptions;
use std::time::{Duration, Instant};

/// A part of the generated text.
#[derive(Debug, Clone, PartialEq)]
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
pub struct Logprobs {
    /// Of the chosen token.
    pub logprob: f32,
    /// The likeliest tokens with theirs, best first.
    pub top: Vec<(u32, f32)>,
}

/// Why a generation ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
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

/// A running generation: an iterator of pieces. Dropping it ends the generation.
pub struct Generation<'s> {
    session: &'s mut Session,
    writer: Writer,
    work: Work,
    failed: bool,
}

impl<'s> Generation<'s> {
    /// Reads `prompt`; what follows it comes as the iterator is asked.
    pub(super) fn begin(session: &'s mut Session, prompt: Prompt, options: &GenerateOptions) -> Result<Self> {
        let clock = Instant::now();
        let mut writer = session.queue(prompt, options)?;
        let mut work = Work::default();
        let cancel = writer.cancel().cloned();
        writer.hold(true);
        let Session { model, text } = &mut *session;
        step::read_all(&*model.inner().network, text, &mut writer, cancel.as_ref(), &mut work)?;
        writer.hold(false);
        writer.spend(clock.elapsed(), true);
        Ok(Generation { session, writer, work, failed: false })
    }

    /// The whole remaining text.
    ///
    /// # Errors
    /// Those of the iterator: of a forward, and if no token can be chosen.
    pub fn text(&mut self) -> Result<String> {
        let mut text = String::new();
        for piece in self {
            text.push_str(&piece?.text);
        }
        Ok(text)
    }

    /// Why the generation ended; `None` while it runs.
    pub fn done_reason(&self) -> Option<DoneReason> {
        self.writer.done_reason()
    }

    /// Counts and times so far.
    pub fn usage(&self) -> Usage {
        self.writer.usage()
    }

    /// The seed in use, drawn or given.
    pub fn seed(&self) -> u64 {
        self.writer.seed()
    }

    /// The prompt's tokens, special ones included.
    pub fn prompt_tokens(&self) -> &[u32] {
        self.writer.prompt_tokens()
    }

    /// The tokens generated so far, without a final end token.
    pub fn tokens(&self) -> &[u32] {
        self.writer.tokens()
    }

    /// Generates a token, or several that were proposed.
    fn step(&mut self) -> Result<()> {
        let Session { model, text } = &mut *self.session;
        let network = &*model.inner().network;
        let mut error = None;
        if let Some(turn) = self.writer.turn(network, text, &mut error) {
            step::step(network, &mut [turn], &mut self.work)?;
        }
        error.map_or(Ok(()), Err)
    }

    #[cfg(test)]
    pub(super) fn writer(&mut self) -> &mut Writer {
        &mut self.writer
    }
}

impl Iterator for Generation<'_> {
    type Item = Result<Piece>;

    fn next(&mut self) -> Option<Result<Piece>> {
        loop {
            if let Some(piece) = self.writer.piece() {
                return Some(Ok(piece));
            }
            if self.writer.done_reason().is_some() || self.failed {
                return None;
            }
            let clock = Instant::now();
            let result = self.step();
            self.writer.spend(clock.elapsed(), false);
            if let Err(error) = result {
                self.failed = true;
                return Some(Err(error));
            }
        }
    }
}
