//! The loop that makes tokens: sample, detokenise, look for an end, read the token, again.

use super::session::{Prompt, Session};
use crate::error::Result;
use crate::options::{Cancel, GenerateOptions};
use crate::sample::{Sampler, log_probabilities};
use crate::text::{Detokeniser, Start, Tokenizer};
use std::collections::VecDeque;
use std::hash::{BuildHasher, Hasher};
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

/// What makes text out of logits, one token at a time: the state of a generation beside its session.
pub(super) struct Writer {
    options: GenerateOptions,
    end_ids: Vec<u32>,
    seed: u64,
    sampler: Sampler,
    detokeniser: Detokeniser,
    /// The prompt's and the generated tokens: what penalties look back on.
    history: Vec<u32>,
    prompt_len: usize,
    ready: VecDeque<Piece>,
    done: Option<DoneReason>,
    usage: Usage,
}

impl Writer {
    /// For what follows `prompt`, as `start` says, until one of `end_ids`.
    pub fn new(
        tokenizer: &Tokenizer,
        prompt: Prompt,
        start: Start,
        end_ids: Vec<u32>,
        options: &GenerateOptions,
    ) -> Result<Writer> {
        let seed = options.seed.unwrap_or_else(|| std::hash::RandomState::new().build_hasher().finish());
        let usage = Usage {
            prompt_tokens: prompt.tokens.len(),
            cached_tokens: prompt.cached,
            truncated_tokens: prompt.dropped.tokens,
            truncated_messages: prompt.dropped.messages,
            prompt_time: prompt.time,
            ..Usage::default()
        };
        Ok(Writer {
            seed,
            end_ids,
            sampler: Sampler::new(&options.sampling, seed)?,
            detokeniser: Detokeniser::new(tokenizer, start).stop_at(options.stop.iter().cloned()),
            prompt_len: prompt.tokens.len(),
            history: prompt.tokens,
            ready: VecDeque::new(),
            done: None,
            usage,
            options: options.clone(),
        })
    }

    /// Whether another token is wanted; where not, the text is brought to its end.
    pub fn goes_on(&mut self, has_room: bool) -> bool {
        if self.done.is_some() {
            return false;
        }
        if self.options.cancel.as_ref().is_some_and(Cancel::is_cancelled) {
            self.finish(DoneReason::Cancelled);
        } else if self.options.max_tokens.is_some_and(|most| self.tokens().len() >= most) || !has_room {
            self.finish(DoneReason::Length);
        }
        self.done.is_none()
    }

    /// Chooses a token from the logits of the last position; `None` if it ends the text.
    pub fn choose(&mut self, logits: &[f32]) -> Result<Option<u32>> {
        let token = self.sampler.sample(logits, &self.history)?;
        self.usage.tokens += 1;
        if !self.options.ignore_eos && self.end_ids.contains(&token) {
            self.finish(DoneReason::Stop);
            return Ok(None);
        }
        let logprobs = match self.options.logprobs {
            Some(top) => {
                let (logprob, top) = log_probabilities(logits, token, top)?;
                Some(Logprobs { logprob, top })
            }
            None => None,
        };
        self.history.push(token);
        let text = self.detokeniser.push(token).unwrap_or_default();
        self.ready.push_back(Piece { text, token: Some(token), logprobs });
        if self.detokeniser.stopped().is_some() {
            self.done = Some(DoneReason::Stop);
        }
        Ok(Some(token))
    }

    fn finish(&mut self, reason: DoneReason) {
        self.done = Some(reason);
        if let Some(text) = self.detokeniser.finish() {
            self.ready.push_back(Piece { text, token: None, logprobs: None });
        }
        if self.detokeniser.stopped().is_some() {
            self.done = Some(DoneReason::Stop);
        }
    }

    /// The next piece that was made and not taken.
    pub fn piece(&mut self) -> Option<Piece> {
        self.ready.pop_front()
    }

    /// Counts time spent on this text.
    pub fn spend(&mut self, time: Duration) {
        self.usage.time += time;
    }

    pub fn done_reason(&self) -> Option<DoneReason> {
        self.done
    }

    pub fn usage(&self) -> Usage {
        self.usage
    }

    pub fn prompt_tokens(&self) -> &[u32] {
        &self.history[..self.prompt_len]
    }

    pub fn tokens(&self) -> &[u32] {
        &self.history[self.prompt_len..]
    }
}

/// A running generation: an iterator of pieces. Dropping it ends the generation.
pub struct Generation<'s> {
    session: &'s mut Session,
    writer: Writer,
    logits: Vec<f32>,
    failed: bool,
}

impl<'s> Generation<'s> {
    /// Goes on from `logits`, those of the session's last position.
    pub(super) fn new(session: &'s mut Session, writer: Writer, logits: Vec<f32>) -> Self {
        Generation { session, writer, logits, failed: false }
    }

    /// The whole remaining text.
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
        self.writer.seed
    }

    /// The prompt's tokens, special ones included.
    pub fn prompt_tokens(&self) -> &[u32] {
        self.writer.prompt_tokens()
    }

    /// The tokens generated so far, without a final end token.
    pub fn tokens(&self) -> &[u32] {
        self.writer.tokens()
    }

    /// Generates one token.
    fn step(&mut self) -> Result<()> {
        if !self.writer.goes_on(self.session.has_room()) {
            return Ok(());
        }
        self.session.step(&mut self.logits)?;
        if let Some(token) = self.writer.choose(&self.logits)? {
            self.session.push(token);
        }
        Ok(())
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
            self.writer.spend(clock.elapsed());
            if let Err(error) = result {
                self.failed = true;
                return Some(Err(error));
            }
        }
    }
}
