//! A running generation of one text: the step with one turn, again and again.

use super::prompt::Prompt;
use super::step::{self, Turn, Work};
use super::writer::Writer;
use super::{JoinError, Session};
use crate::error::{Error, Result};
use crate::options::GenerateOptions;
use std::time::{Duration, Instant};

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

/// A running generation: an iterator of pieces. Dropping it ends the generation.
///
/// It borrows its session, or, as `Generation<'static>`, owns it: then it can be put away and taken up again, also in a
/// [`GenerateBatch`](crate::GenerateBatch).
pub struct Generation<'s> {
    session: Holder<'s>,
    pub(super) writer: Writer,
    work: Work,
    /// Why it can not go on, until the caller has it.
    pub(super) error: Option<Error>,
    failed: bool,
}

/// A session, lent or owned.
enum Holder<'s> {
    Lent(&'s mut Session),
    Own(Session),
}

impl Holder<'_> {
    fn session(&mut self) -> &mut Session {
        match self {
            Holder::Lent(session) => session,
            Holder::Own(session) => session,
        }
    }
}

impl<'s> Generation<'s> {
    /// Reads `prompt`; what follows it comes as the iterator is asked.
    pub(super) fn begin(session: &'s mut Session, prompt: Prompt, options: &GenerateOptions) -> Result<Self> {
        let (writer, work) = read(session, prompt, options)?;
        Ok(Generation { session: Holder::Lent(session), writer, work, error: None, failed: false })
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

    /// The stop string that ended the text; `None` while it runs, and if something else ended it.
    pub fn stopped_by(&self) -> Option<&str> {
        self.writer.stopped_by()
    }

    /// The session, if the generation owns it; it holds the text so far.
    pub fn into_session(self) -> Option<Session> {
        match self.session {
            Holder::Own(session) => Some(session),
            Holder::Lent(_) => None,
        }
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

    /// The session that it writes in.
    pub(super) fn session(&mut self) -> &mut Session {
        self.session.session()
    }

    /// Whether it is neither finished nor failed.
    pub(super) fn runs(&self) -> bool {
        self.writer.done_reason().is_none() && !self.failed && self.error.is_none()
    }

    /// Its share in the next step, if it wants another token.
    pub(super) fn turn(&mut self) -> Option<Turn<'_>> {
        let Session { model, text } = self.session.session();
        self.writer.turn(&*model.inner().network, text, &mut self.error)
    }

    /// The next piece that was made, or what ended the text instead.
    pub(super) fn take_piece(&mut self) -> Option<Result<Piece>> {
        self.writer.piece().map(Ok).or_else(|| {
            let error = self.error.take()?;
            self.failed = true;
            Some(Err(error))
        })
    }

    /// Generates a token, or several that were proposed.
    fn step(&mut self) {
        let clock = Instant::now();
        let Session { model, text } = self.session.session();
        let network = &*model.inner().network;
        if let Some(turn) = self.writer.turn(network, text, &mut self.error)
            && let Err(error) = step::step(network, &mut [turn], &mut self.work)
        {
            self.error = Some(error);
        }
        self.writer.spend(clock.elapsed(), false);
    }

    #[cfg(test)]
    pub(super) fn writer(&mut self) -> &mut Writer {
        &mut self.writer
    }
}

impl Generation<'static> {
    /// Reads `prompt` in a session of the generation's own.
    #[allow(clippy::result_large_err)]
    pub(super) fn begin_own(
        mut session: Session,
        prompt: Result<Prompt>,
        options: &GenerateOptions,
    ) -> Result<Self, JoinError> {
        match prompt.and_then(|prompt| read(&mut session, prompt, options)) {
            Ok((writer, work)) => Ok(Generation { work, ..Generation::queued(session, writer) }),
            Err(error) => Err(JoinError { error, session }),
        }
    }

    /// A generation whose prompt waits in its session.
    pub(super) fn queued(session: Session, writer: Writer) -> Self {
        Generation { session: Holder::Own(session), writer, work: Work::default(), error: None, failed: false }
    }
}

/// Reads `prompt`, and keeps the logits that come after it for the first token.
fn read(session: &mut Session, prompt: Prompt, options: &GenerateOptions) -> Result<(Writer, Work)> {
    let clock = Instant::now();
    let (mut writer, mut work) = (session.queue(prompt, options)?, Work::default());
    writer.hold(true);
    let Session { model, text } = session;
    step::read_all(&*model.inner().network, text, &mut writer, options.cancel.as_ref(), &mut work)?;
    writer.hold(false);
    writer.spend(clock.elapsed(), true);
    Ok((writer, work))
}

impl Iterator for Generation<'_> {
    type Item = Result<Piece>;

    fn next(&mut self) -> Option<Result<Piece>> {
        loop {
            if let Some(piece) = self.take_piece() {
                return Some(piece);
            }
            if !self.runs() {
                return None;
            }
            self.step();
        }
    }
}

impl std::fmt::Debug for Generation<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Generation")
            .field("usage", &self.usage())
            .field("done_reason", &self.done_reason())
            .finish_non_exhaustive()
    }
}
