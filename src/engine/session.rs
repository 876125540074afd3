//! One conversation or text: it owns the key/value cache and knows which tokens are in it.

use super::generation::Writer;
use super::overflow::{self, Dropped};
use super::{CHUNK, Generation, Model};
use crate::error::{Error, Result};
use crate::nn::{Batch, KvCache};
use crate::options::{Cancel, GenerateOptions};
use crate::text::{Message, Start};
use std::time::{Duration, Instant};

/// A text in progress: the tokens read so far and their cache.
///
/// Sessions of one model are independent; each may be used from its own thread.
///
/// ```no_run
/// use tallow::{Message, Model};
/// let model = Model::load("smollm2")?;
/// let mut session = model.session()?;
/// let mut talk = vec![Message::user("What is a lighthouse?")];
/// let answer = session.chat(&talk, &model.defaults())?.text()?;
/// talk.extend([Message::assistant(&answer), Message::user("Who looks after it?")]);
/// // Reads only the answer's end and the new question.
/// println!("{}", session.chat(&talk, &model.defaults())?.text()?);
/// # Ok::<(), tallow::Error>(())
/// ```
pub struct Session {
    model: Model,
    cache: KvCache,
    /// The tokens of the text. The cache holds the keys and values of all of them, or, after going back further than a
    /// sliding window allows, of none.
    tokens: Vec<u32>,
    /// The last generated token, which no forward has read yet.
    pending: Option<u32>,
    /// What the last forward read; the next one uses its memory.
    batch: Batch,
}

/// How long a reading may go on after it was cancelled, about.
const PATIENCE: Duration = Duration::from_millis(300);

/// The first chunk of a prompt that may be cancelled, and the shortest: below, reading gets slow.
const FIRST_CHUNK: usize = 64;

/// What reading a prompt came to.
pub(super) struct Prompt {
    pub tokens: Vec<u32>,
    pub cached: usize,
    pub dropped: Dropped,
    pub time: Duration,
}

impl Session {
    pub(super) fn new(model: Model) -> Result<Session> {
        let network = &model.inner().network;
        let cache = network.cache(network.cache_limit(0, model.context()))?;
        Ok(Session { model, cache, tokens: Vec::new(), pending: None, batch: Batch::default() })
    }

    /// The model.
    pub fn model(&self) -> &Model {
        &self.model
    }

    /// The tokens of the text so far, the last generated one included.
    pub fn tokens(&self) -> Vec<u32> {
        self.tokens.iter().copied().chain(self.pending).collect()
    }

    /// Forgets everything.
    pub fn reset(&mut self) {
        self.truncate(0);
    }

    /// Forgets everything after the first `len` tokens. A model with sliding windows may have to read what is left again
    /// when the text is continued.
    pub fn truncate(&mut self, len: usize) {
        if len <= self.tokens.len() {
            self.pending = None;
            self.tokens.truncate(len);
            self.cache.truncate(len);
        }
    }

    /// An independent copy, cache included: the way to try several continuations of one text.
    pub fn fork(&self) -> Result<Session> {
        let (model, cache, tokens) = (self.model.clone(), self.cache.fork()?, self.tokens.clone());
        Ok(Session { model, cache, tokens, pending: self.pending, batch: Batch::default() })
    }

    /// Continues the text with `prompt`, as it stands: no chat template. The first prompt of a session gets the tokenizer's
    /// own special tokens (BOS), but for a BOS that it begins with itself. Dropping the iterator ends the generation; what was generated stays in the session.
    ///
    /// # Errors
    /// [`Error::Input`] for options out of range and for a session that would still hold no token,
    /// [`Error::ContextOverflow`] for a prompt that does not fit.
    pub fn generate(&mut self, prompt: &str, options: &GenerateOptions) -> Result<Generation<'_>> {
        let (writer, logits) = self.begin_text(prompt, options)?;
        Ok(Generation::new(self, writer, logits))
    }

    /// Continues the text with these tokens.
    pub fn generate_tokens(&mut self, new: &[u32], options: &GenerateOptions) -> Result<Generation<'_>> {
        let (writer, logits) = self.begin_tokens(new, options)?;
        Ok(Generation::new(self, writer, logits))
    }

    /// Answers a conversation. Only what differs from the text so far is read: in the usual case the last message.
    ///
    /// A chat that is longer than the context is refused, or its oldest messages are left out: see
    /// [`Overflow`](crate::Overflow).
    ///
    /// # Errors
    /// [`Error::Unsupported`] if the model has no chat template, [`Error::Template`] if it refuses the messages,
    /// [`Error::MessageTooLong`] if not even the newest fits, and those of [`Session::generate`].
    pub fn chat(&mut self, messages: &[Message], options: &GenerateOptions) -> Result<Generation<'_>> {
        let (writer, logits) = self.begin_chat(messages, options)?;
        Ok(Generation::new(self, writer, logits))
    }

    /// Reads a prompt; what writes the text after it, and the logits to begin with.
    pub(super) fn begin_text(&mut self, prompt: &str, options: &GenerateOptions) -> Result<(Writer, Vec<f32>)> {
        let special = self.tokens.is_empty() && self.pending.is_none();
        let tokenizer = self.model.tokenizer();
        let new = if special { tokenizer.encode_prompt(prompt)? } else { tokenizer.encode(prompt, false)? };
        self.begin_tokens(&new, options)
    }

    fn begin_tokens(&mut self, new: &[u32], options: &GenerateOptions) -> Result<(Writer, Vec<f32>)> {
        options.validate()?;
        let all = self.tokens().iter().chain(new).copied().collect();
        let end_ids = self.model.end_ids().to_vec();
        let (all, dropped) = overflow::fit_text(&self.model, all, self.model.context(), options)?;
        let has_text = all.iter().any(|token| !self.model.tokenizer().is_special(*token));
        let start = if has_text { Start::Continuation } else { Start::Text };
        self.start(all, dropped, start, end_ids, options)
    }

    /// Reads the messages, likewise.
    pub(super) fn begin_chat(&mut self, messages: &[Message], options: &GenerateOptions) -> Result<(Writer, Vec<f32>)> {
        let template = self.model.template()?.ok_or_else(|| {
            Error::unsupported(
                format!("{}: the model has no chat template; chat", self.model.info().name),
                "plain generation (`--raw`), or a template given with `--chat-template`",
            )
        })?;
        options.validate()?;
        let (all, dropped) = overflow::fit_chat(&self.model, template, messages, self.model.context(), options)?;
        let turn_end = template.turn_end(self.model.tokenizer());
        let end_ids = self.model.end_ids().iter().copied().chain(turn_end).collect();
        self.start(all, dropped, Start::Text, end_ids, options)
    }

    fn start(
        &mut self,
        all: Vec<u32>,
        dropped: Dropped,
        start: Start,
        end_ids: Vec<u32>,
        options: &GenerateOptions,
    ) -> Result<(Writer, Vec<f32>)> {
        let vocab = self.model.spec().vocab;
        if let Some((token, _)) = options.sampling.logit_bias.iter().find(|bias| bias.0 as usize >= vocab) {
            return Err(Error::Input(format!("logit_bias: token {token} is outside the vocabulary of {vocab}")));
        }
        let clock = Instant::now();
        let (cached, logits) = self.read(&all, options.cancel.as_ref())?;
        let prompt = Prompt { tokens: all, cached, dropped, time: clock.elapsed() };
        Ok((Writer::new(self.model.tokenizer(), prompt, start, end_ids, options)?, logits))
    }

    /// Makes the cache hold exactly `all`; returns how many of its tokens were there already, and the last position's logits.
    fn read(&mut self, all: &[u32], cancel: Option<&Cancel>) -> Result<(usize, Vec<f32>)> {
        if all.is_empty() {
            return Err(Error::Input("the prompt gives no token; write something, or use a model with a BOS token".into()));
        }
        let vocab = self.model.spec().vocab;
        if let Some(token) = all.iter().find(|token| **token as usize >= vocab) {
            return Err(Error::Input(format!("token {token} is outside the vocabulary of {vocab}")));
        }
        self.pending = None;
        let mut logits = Vec::new();
        let cached = self.hold(all, cancel, &mut logits)?;
        Ok((cached, logits))
    }

    /// Makes the cache hold exactly `all`, and says how much of it it held already.
    fn hold(&mut self, all: &[u32], cancel: Option<&Cancel>, logits: &mut Vec<f32>) -> Result<usize> {
        if self.outgrows(all.len()) {
            let network = &self.model.inner().network;
            self.cache = network.cache(network.cache_limit(all.len(), self.model.context()))?;
        }
        let same = self.tokens.iter().zip(all).take_while(|(a, b)| a == b).count();
        // The last token is read again if need be: its logits are what is wanted. A new cache, and one whose windows have
        // forgotten too much to go back, holds nothing.
        let cached = self.cache.truncate(same.min(all.len() - 1));
        self.tokens.truncate(cached);
        // Who may cancel waits for a chunk at most, so it is cut to what takes PATIENCE. The result does not depend on it.
        let mut chunk = if cancel.is_some() { FIRST_CHUNK } else { CHUNK };
        while self.tokens.len() < all.len() {
            if cancel.is_some_and(Cancel::is_cancelled) {
                return Err(Error::Cancelled);
            }
            let rest = &all[self.tokens.len()..];
            let next = &rest[..chunk.min(rest.len())];
            let clock = Instant::now();
            self.feed(next, next.len() == rest.len(), logits)?;
            if cancel.is_some() {
                let fits = PATIENCE.as_secs_f64() / clock.elapsed().as_secs_f64().max(1e-6) * chunk as f64;
                chunk = (fits as usize).clamp(FIRST_CHUNK, CHUNK);
            }
        }
        Ok(cached)
    }

    /// Whether a text of `len` tokens needs another cache.
    fn outgrows(&self, len: usize) -> bool {
        self.model.inner().network.cache_limit(len, self.model.context()) != self.cache.limit()
    }

    /// Reads `next`, and gives the logits of its last position if they are wanted.
    fn feed(&mut self, next: &[u32], wanted: bool, logits: &mut Vec<f32>) -> Result<()> {
        self.batch.clear();
        self.batch.add(next, wanted);
        self.model.inner().network.logits(&self.batch, &mut [&mut self.cache], logits)?;
        self.tokens.extend_from_slice(next);
        Ok(())
    }

    /// Whether another token fits.
    pub(super) fn has_room(&self) -> bool {
        self.tokens.len() + usize::from(self.pending.is_some()) < self.model.context()
    }

    /// Notes a generated token; it is read when the next one is asked for.
    pub(super) fn push(&mut self, token: u32) {
        self.pending = Some(token);
    }

    /// Whether the pending token takes more than a forward of its own: the text is read again with it.
    pub(super) fn starts_over(&self) -> bool {
        self.pending.is_some() && self.outgrows(self.tokens.len() + 1)
    }

    /// The pending token and the cache that it belongs into; the caller reads it and says so with [`Session::read_pending`].
    pub(super) fn pending(&mut self) -> Option<(u32, &mut KvCache)> {
        self.pending.map(|token| (token, &mut self.cache))
    }

    /// Notes that the pending token was read.
    pub(super) fn read_pending(&mut self) {
        self.tokens.extend(self.pending.take());
    }

    /// Reads the pending token.
    pub(super) fn step(&mut self, logits: &mut Vec<f32>) -> Result<()> {
        match self.pending {
            Some(token) => {
                if self.starts_over() {
                    self.hold(&self.tokens(), None, logits)?;
                } else {
                    self.feed(&[token], true, logits)?;
                }
                self.pending = None;
                Ok(())
            }
            None => Ok(()),
        }
    }
}
