//! Several texts that are written together: one forward reads a token of each.
//!
//! A forward's price is mostly that of reading the weights, which is paid once for all. Each text keeps its session, its
//! options and its seed, and comes out exactly as it would alone: results do not depend on what stands beside them.

use super::generation::{DoneReason, Piece, Usage};
use super::prompt::{self, Prompt};
use super::step::{self, Work};
use super::{Generation, Model, Session};
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
    /// In the order of their numbers.
    members: Vec<Member>,
    /// The number of the next one.
    next: usize,
    work: Work,
}

struct Member {
    number: usize,
    generation: Generation<'static>,
    /// Whether the step that is under way reads its prompt; `None` if it takes no part.
    on_prompt: Option<bool>,
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
        GenerateBatch { model, members: Vec::new(), next: 0, work: Work::default() }
    }

    /// Lets `prompt` take part, in a session of its own, and returns its number: the first is 0, and none is given twice. The
    /// steps that follow read the prompt, beside the texts that are being written; these wait about twice as long meanwhile.
    ///
    /// # Errors
    /// Those of [`Session::generate`] but for what reading may come to.
    pub fn join(&mut self, prompt: &str, options: &GenerateOptions) -> Result<usize> {
        let session = self.model.session()?;
        let prompt = prompt::of_text(&self.model, session.inputs(), prompt, options)?;
        Ok(self.queue(session, prompt, options)?)
    }

    /// The same for a conversation, which `session` may have read in part; [`GenerateBatch::leave`] gives it back.
    ///
    /// # Errors
    /// Those of [`Session::chat`], and [`Error::Input`] for a session of another model; with the session.
    // As large as a session, which is what it has to be.
    #[allow(clippy::result_large_err)]
    pub fn join_chat(&mut self, session: Session, messages: &[Message], options: &GenerateOptions) -> Result<usize, JoinError> {
        if !session.model().is(&self.model) {
            return Err(JoinError { error: foreign(), session });
        }
        match prompt::of_chat(&self.model, messages, options) {
            Ok(prompt) => self.queue(session, prompt, options),
            Err(error) => Err(JoinError { error, session }),
        }
    }

    #[allow(clippy::result_large_err)]
    fn queue(&mut self, mut session: Session, prompt: Prompt, options: &GenerateOptions) -> Result<usize, JoinError> {
        match session.queue(prompt, options) {
            Ok(writer) => Ok(self.add(Generation::queued(session, writer))),
            Err(error) => Err(JoinError { error, session }),
        }
    }

    fn add(&mut self, generation: Generation<'static>) -> usize {
        let number = self.next;
        self.members.push(Member { number, generation, on_prompt: None });
        self.next += 1;
        number
    }

    /// Takes number `number` out, finished or not; its session holds the text so far, with what was not read yet of its prompt.
    /// `None` if it has left before.
    pub fn leave(&mut self, number: usize) -> Option<Session> {
        self.put_away(number)?.into_session()
    }

    /// Takes number `number` out with all that it takes to go on, by itself or, after [`GenerateBatch::take_up`], in a batch. The
    /// text is the same as if it had stayed. `None` if it has left before.
    pub fn put_away(&mut self, number: usize) -> Option<Generation<'static>> {
        let at = self.at(number)?;
        Some(self.members.remove(at).generation)
    }

    /// Lets a generation take part that was put away or has begun alone, under a new number.
    ///
    /// # Errors
    /// [`Error::Input`] for a generation of another model.
    pub fn take_up(&mut self, mut generation: Generation<'static>) -> Result<usize> {
        if !generation.session().model().is(&self.model) {
            return Err(foreign());
        }
        Ok(self.add(generation))
    }

    /// How many are neither finished nor failed.
    pub fn running(&self) -> usize {
        self.members.iter().filter(|member| member.generation.runs()).count()
    }

    /// Why number `number` ended; `None` while it runs, if it failed, and once it has left.
    pub fn done_reason(&self, number: usize) -> Option<DoneReason> {
        self.member(number)?.done_reason()
    }

    /// The stop string that ended number `number`, if one did.
    pub fn stopped_by(&self, number: usize) -> Option<&str> {
        self.member(number)?.stopped_by()
    }

    /// Counts and times of number `number`; the times are those of the whole batch. `None` once it has left.
    pub fn usage(&self, number: usize) -> Option<Usage> {
        Some(self.member(number)?.usage())
    }

    /// The tokens that number `number` has generated, without a final end token. `None` once it has left.
    pub fn tokens(&self, number: usize) -> Option<&[u32]> {
        Some(self.member(number)?.tokens())
    }

    /// How many have not left.
    #[cfg(test)]
    pub(super) fn members(&self) -> usize {
        self.members.len()
    }

    fn at(&self, number: usize) -> Option<usize> {
        self.members.binary_search_by_key(&number, |member| member.number).ok()
    }

    fn member(&self, number: usize) -> Option<&Generation<'static>> {
        Some(&self.members.get(self.at(number)?)?.generation)
    }

    /// Generates one token for each that runs and whose prompt has been read; prompts are read on by a part. The pieces come with
    /// their numbers, in order. A text that can not go on, because no token can be chosen, ends with an error in the place of a
    /// piece, and the others go on.
    ///
    /// # Errors
    /// Those of a forward. Every text keeps what it had, and a further call tries once more.
    pub fn step(&mut self) -> Result<Vec<(usize, Result<Piece>)>> {
        let clock = Instant::now();
        let network = &*self.model.inner().network;
        let mut turns = Vec::with_capacity(self.members.len());
        for Member { generation, on_prompt, .. } in self.members.iter_mut().filter(|member| member.generation.runs()) {
            *on_prompt = Some(generation.writer.is_reading());
            turns.extend(generation.turn());
        }
        step::step(network, &mut turns, &mut self.work)?;
        // Of all members: a text may have ended in a step whose forward failed.
        let mut pieces = Vec::new();
        for Member { number, generation, on_prompt } in &mut self.members {
            if let Some(on_prompt) = on_prompt.take() {
                generation.writer.spend(clock.elapsed(), on_prompt);
            }
            pieces.extend(std::iter::from_fn(|| generation.take_piece()).map(|piece| (*number, piece)));
        }
        Ok(pieces)
    }
}

fn foreign() -> Error {
    Error::Input("a batch takes sessions of its own model; use model.session()".into())
}

impl std::fmt::Debug for GenerateBatch {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("GenerateBatch")
            .field("members", &self.members.len())
            .field("running", &self.running())
            .finish_non_exhaustive()
    }
}
