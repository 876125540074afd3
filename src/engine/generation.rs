//! A running generation of one text: the step with one turn, again and again.

use super::piece::{DoneReason, Piece, Usage};
use super::prompt::{self, Prompt};
use super::session::{JoinError, Session};
use super::step::{self, Work};
use super::turn::Turn;
use super::writer::Writer;
use crate::backend::Input;
use crate::error::{Error, Result};
use crate::options::GenerateOptions;
use crate::text::Message;
use std::time::Instant;

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

impl Session {
    /// Continues the text with `prompt`, as it stands: no chat template. The first prompt of a session gets the tokenizer's
    /// own special tokens (BOS), but for a BOS that it begins with itself. Dropping the iterator ends the generation; what was generated stays in the session.
    ///
    /// # Errors
    /// [`Error::Input`] for options out of range and for a session that would still hold no token,
    /// [`Error::ContextOverflow`] for a prompt that does not fit, [`Error::Cancelled`].
    pub fn generate(&mut self, prompt: &str, options: &GenerateOptions) -> Result<Generation<'_>> {
        let prompt = prompt::of_text(&self.model, self.inputs(), prompt, options)?;
        Generation::begin(self, prompt, options)
    }

    /// Continues the text with these tokens.
    ///
    /// # Errors
    /// Those of [`Session::generate`], and [`Error::Input`] for a token outside the vocabulary.
    pub fn generate_tokens(&mut self, new: &[u32], options: &GenerateOptions) -> Result<Generation<'_>> {
        let new = new.iter().map(|token| Input::Token(*token));
        let prompt = prompt::of_inputs(&self.model, self.inputs(), new, options)?;
        Generation::begin(self, prompt, options)
    }

    /// Continues the text with tokens and with rows of numbers that stand in the place of a token's embedding.
    ///
    /// # Errors
    /// Those of [`Session::generate_tokens`], and [`Error::Input`] for a row of another width than the model's.
    pub fn generate_inputs(&mut self, new: &[Input], options: &GenerateOptions) -> Result<Generation<'_>> {
        let prompt = prompt::of_inputs(&self.model, self.inputs(), new.iter().cloned(), options)?;
        Generation::begin(self, prompt, options)
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
        let prompt = prompt::of_chat(&self.model, messages, options)?;
        Generation::begin(self, prompt, options)
    }

    /// A generation that owns the session and has not read its prompt.
    #[cfg(test)]
    pub(super) fn into_generate_tokens(mut self, new: &[u32], options: &GenerateOptions) -> Generation<'static> {
        let new = new.iter().map(|token| Input::Token(*token));
        let prompt = prompt::of_inputs(&self.model, self.inputs(), new, options).unwrap();
        let writer = self.queue(prompt, options).unwrap();
        Generation::queued(self, writer)
    }

    /// [`Session::generate`] as a value that owns the session: it fits into a struct, goes to another thread, and
    /// [`Generation::into_session`] gives the session back.
    ///
    /// # Errors
    /// Those of [`Session::generate`], with the session.
    // As large as a session, which is what it has to be.
    #[allow(clippy::result_large_err)]
    pub fn into_generate(self, prompt: &str, options: &GenerateOptions) -> Result<Generation<'static>, JoinError> {
        let prompt = prompt::of_text(&self.model, self.inputs(), prompt, options);
        Generation::begin_own(self, prompt, options)
    }

    /// [`Session::chat`] as a value that owns the session.
    ///
    /// # Errors
    /// Those of [`Session::chat`], with the session.
    #[allow(clippy::result_large_err)]
    pub fn into_chat(self, messages: &[Message], options: &GenerateOptions) -> Result<Generation<'static>, JoinError> {
        let prompt = prompt::of_chat(&self.model, messages, options);
        Generation::begin_own(self, prompt, options)
    }
}
