//! Several texts that are written together: one forward reads a token of each.
//!
//! A forward's price is mostly that of reading the weights, which is paid once for all. Each text keeps its session, its
//! options and its seed, and comes out exactly as it would alone: results do not depend on what stands beside them.

use super::generation::{DoneReason, Piece, Usage, Writer};
use super::{Model, Session};
use crate::backend::Batch;
use crate::error::{Error, Result};
use crate::options::GenerateOptions;
use crate::text::Message;
use std::time::Instant;

/// Several generations of one model that run in step; they join and leave at any time.
///
/// ```no_run
/// let model = tallow::Model::load("smollm2")?;
/// let mut batch = model.generate_batch();
/// let mut texts = Vec::new();
/// for prompt in ["The sea is", "The moon is"] {
///     batch.join(prompt, &model.defaults())?;
///     texts.push(String::new());
/// }
/// while batch.running() > 0 {
///     for (number, piece) in batch.step()? {
///         texts[number].push_str(&piece?.text);
///     }
/// }
/// # Ok::<(), tallow::Error>(())
/// ```
pub struct GenerateBatch {
    model: Model,
    /// By number; `None` once it has left.
    members: Vec<Option<Member>>,
    /// What the last forward read; the next one uses its memory.
    batch: Batch,
    logits: Vec<f32>,
}

struct Member {
    session: Session,
    writer: Writer,
    /// Those of the last position, where no forward of the batch has made them: after the prompt.
    first: Vec<f32>,
    /// What ended the text, until the caller has it.
    error: Option<Error>,
    failed: bool,
}

impl Member {
    fn runs(&self) -> bool {
        self.writer.done_reason().is_none() && !self.failed
    }

    fn fail(&mut self, error: Error) {
        (self.error, self.failed) = (Some(error), true);
    }
}

/// Why a conversation does not take part in a batch, and its session, which holds what it held. Becomes the error alone by `?`.
pub struct JoinError {
    /// What went wrong.
    pub error: Error,
    /// The session that was to join.
    pub session: Session,
}

impl std::fmt::Debug for JoinError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("JoinError").field("error", &self.error).finish_non_exhaustive()
    }
}

impl std::fmt::Display for JoinError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.error.fmt(f)
    }
}

impl std::error::Error for JoinError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        self.error.source()
    }
}

impl From<JoinError> for Error {
    fn from(refused: JoinError) -> Error {
        refused.error
    }
}

impl GenerateBatch {
    pub(super) fn new(model: Model) -> GenerateBatch {
        GenerateBatch { model, members: Vec::new(), batch: Batch::default(), logits: Vec::new() }
    }

    /// Reads `prompt` in a session of its own and lets it take part; returns its number, the first is 0.
    ///
    /// # Errors
    /// Those of [`Session::generate`].
    pub fn join(&mut self, prompt: &str, options: &GenerateOptions) -> Result<usize> {
        let mut session = self.model.session()?;
        let (writer, first) = session.begin_text(prompt, options)?;
        Ok(self.add(session, writer, first))
    }

    /// The same for a conversation, which `session` may have read in part; [`GenerateBatch::leave`] gives it back.
    ///
    /// # Errors
    /// Those of [`Session::chat`], and [`Error::Input`] for a session of another model; with the session.
    // As large as a session, which is what it has to be.
    #[allow(clippy::result_large_err)]
    pub fn join_chat(
        &mut self,
        mut session: Session,
        messages: &[Message],
        options: &GenerateOptions,
    ) -> Result<usize, JoinError> {
        if !session.model().is(&self.model) {
            let error = Error::Input("a batch takes sessions of its own model; use model.session()".into());
            return Err(JoinError { error, session });
        }
        match session.begin_chat(messages, options) {
            Ok((writer, first)) => Ok(self.add(session, writer, first)),
            Err(error) => Err(JoinError { error, session }),
        }
    }

    fn add(&mut self, session: Session, writer: Writer, first: Vec<f32>) -> usize {
        self.members.push(Some(Member { session, writer, first, error: None, failed: false }));
        self.members.len() - 1
    }

    /// Takes number `number` out, finished or not; its session holds the text so far. `None` if it has left before.
    pub fn leave(&mut self, number: usize) -> Option<Session> {
        self.members.get_mut(number)?.take().map(|member| member.session)
    }

    /// How many are neither finished nor failed.
    pub fn running(&self) -> usize {
        self.members.iter().flatten().filter(|member| member.runs()).count()
    }

    /// Why number `number` ended; `None` while it runs, if it failed, and once it has left.
    pub fn done_reason(&self, number: usize) -> Option<DoneReason> {
        self.member(number)?.writer.done_reason()
    }

    /// Counts and times of number `number`; the times are those of the whole batch. `None` once it has left.
    pub fn usage(&self, number: usize) -> Option<Usage> {
        Some(self.member(number)?.writer.usage())
    }

    /// The tokens that number `number` has generated, without a final end token. `None` once it has left.
    pub fn tokens(&self, number: usize) -> Option<&[u32]> {
        Some(self.member(number)?.writer.tokens())
    }

    fn member(&self, number: usize) -> Option<&Member> {
        self.members.get(number)?.as_ref()
    }

    /// Generates one token for each that runs. The pieces come with their numbers, in order. A text that can not go on, because no token
    /// can be chosen, ends with an error in the place of a piece, and the others go on.
    ///
    /// # Errors
    /// Those of a forward. Every text keeps what it had, and a further call tries once more.
    pub fn step(&mut self) -> Result<Vec<(usize, Result<Piece>)>> {
        let clock = Instant::now();
        let mut running: Vec<&mut Member> = self.members.iter_mut().flatten().filter(|member| member.runs()).collect();
        self.batch.clear();
        let mut caches = Vec::with_capacity(running.len());
        for member in &mut running {
            let Member { session, writer, first, .. } = &mut **member;
            if !writer.goes_on(session.has_room()) {
                continue;
            }
            if session.starts_over() {
                session.step(first)?;
            }
            if let Some((token, cache)) = session.pending() {
                self.batch.add(&[token], true);
                caches.push(cache);
            }
        }
        if !caches.is_empty() {
            self.model.inner().network.logits(&self.batch, &mut caches, &mut self.logits)?;
        }
        let mut rows = self.logits.chunks_exact(self.model.spec().vocab);
        for member in running {
            if member.writer.done_reason().is_none() {
                let was_read = member.session.pending().is_some();
                member.session.read_pending();
                let first = std::mem::take(&mut member.first);
                let logits = if was_read { rows.next().unwrap_or_default() } else { &first };
                match member.writer.choose(logits) {
                    Ok(Some(token)) => member.session.push(token),
                    Ok(None) => {}
                    Err(error) => member.fail(error),
                }
            }
            member.writer.spend(clock.elapsed());
        }
        // Of all members: a text may have ended in a step whose forward failed.
        let mut pieces = Vec::new();
        for (number, member) in self.members.iter_mut().enumerate() {
            let Some(Member { writer, error, .. }) = member else { continue };
            pieces.extend(std::iter::from_fn(|| writer.piece()).map(|piece| (number, Ok(piece))));
            pieces.extend(error.take().map(|error| (number, Err(error))));
        }
        Ok(pieces)
    }
}
