//! Several texts that are written together: one forward reads a token of each.
//!
//! A forward's price is mostly that of reading the weights, which is paid once for all. Each text keeps its session, its
//! options and its seed, and comes out exactly as it would alone: results do not depend on what stands beside them.

use super::generation::{DoneReason, Piece, Usage, Writer};
use super::{Model, Session};
use crate::error::{Error, Result};
use crate::nn::Batch;
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
///         texts[number].push_str(&piece.text);
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
    /// Those of [`Session::chat`], and [`Error::Input`] for a session of another model.
    pub fn join_chat(&mut self, mut session: Session, messages: &[Message], options: &GenerateOptions) -> Result<usize> {
        if !session.model().is(&self.model) {
            return Err(Error::Input("a batch takes sessions of its own model; use model.session()".into()));
        }
        let (writer, first) = session.begin_chat(messages, options)?;
        Ok(self.add(session, writer, first))
    }

    fn add(&mut self, session: Session, writer: Writer, first: Vec<f32>) -> usize {
        self.members.push(Some(Member { session, writer, first }));
        self.members.len() - 1
    }

    /// Takes number `number` out, finished or not; its session holds the text so far. `None` if it has left before.
    pub fn leave(&mut self, number: usize) -> Option<Session> {
        self.members.get_mut(number)?.take().map(|member| member.session)
    }

    /// How many are not finished.
    pub fn running(&self) -> usize {
        self.members.iter().flatten().filter(|member| member.writer.done_reason().is_none()).count()
    }

    /// Why number `number` ended; `None` while it runs, and once it has left.
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

    /// Generates one token for each that runs. The pieces come with their numbers, in order.
    ///
    /// # Errors
    /// Those of a forward and of sampling. The texts keep what they had.
    pub fn step(&mut self) -> Result<Vec<(usize, Piece)>> {
        let clock = Instant::now();
        let mut running: Vec<(usize, &mut Member)> =
            self.members.iter_mut().enumerate().filter_map(|(i, member)| Some((i, member.as_mut()?))).collect();
        running.retain_mut(|(_, member)| member.writer.done_reason().is_none());
        self.batch.clear();
        let mut caches = Vec::with_capacity(running.len());
        for (_, member) in &mut running {
            let Member { session, writer, first } = &mut **member;
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
        let mut failed = None;
        let mut rows = self.logits.chunks_exact(self.model.spec().vocab);
        let mut pieces = Vec::new();
        for (number, member) in running {
            let Member { session, writer, first } = member;
            if writer.done_reason().is_none() {
                let was_read = session.pending().is_some();
                session.read_pending();
                let logits = if was_read { rows.next().unwrap_or_default() } else { &*first };
                match writer.choose(logits) {
                    Ok(Some(token)) => session.push(token),
                    Ok(None) => {}
                    // The others have been read in the same forward, and go on.
                    Err(error) => failed = failed.or(Some(error)),
                }
                *first = Vec::new();
            }
            pieces.extend(std::iter::from_fn(|| writer.piece()).map(|piece| (number, piece)));
            writer.spend(clock.elapsed());
        }
        failed.map_or(Ok(pieces), Err)
    }
}
