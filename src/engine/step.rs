//! The loop's one step: a forward reads what waits in the queues of one or many texts, and hands out the logits.
//!
//! There is no phase of reading prompts and none of writing. A text whose queue holds a prompt, one generated token, or a
//! token with proposals for what may follow it are all treated alike: the forward reads up to a budget of rows, and what
//! becomes of the logits is the [`Reader`]'s affair. A forward that fails changes no queue, so a step can be tried again.

use super::pace::Pace;
use super::text::Text;
use crate::backend::{Batch, KvCache};
use crate::error::{Error, Result};
use crate::model::Forward;
use crate::options::Cancel;

/// What the logits of a text are for.
pub(super) trait Reader {
    /// Whether the logits after input number `at` are wanted; the queue ends before number `end`.
    fn wants(&self, at: usize, end: usize) -> bool;

    /// Takes them, in order. It may cut the text back to just behind `at`, and queue what comes next.
    fn take(&mut self, text: &mut Text, at: usize, logits: &[f32]) -> Result<()>;
}

/// A text's part in a step.
pub(super) struct Turn<'a> {
    pub text: &'a mut Text,
    pub reader: &'a mut dyn Reader,
    /// Whether its next token is waited for: then it reads all that it has, which is little.
    pub is_due: bool,
    /// Whether somebody may cancel it, and wants an answer soon.
    pub may_cancel: bool,
    /// What the reader took offence at, from then on no more is handed to it.
    pub error: &'a mut Option<Error>,
    /// How many inputs it reads in this step.
    pub rows: usize,
}

impl<'a> Turn<'a> {
    /// A turn of a text that nobody waits for.
    pub fn new(text: &'a mut Text, reader: &'a mut dyn Reader, error: &'a mut Option<Error>) -> Turn<'a> {
        Turn { text, reader, is_due: false, may_cancel: false, error, rows: 0 }
    }
}

/// What a step needs beside the texts; the next one uses its memory.
#[derive(Default)]
pub(super) struct Work {
    batch: Batch,
    logits: Vec<f32>,
    pace: Pace,
}

/// Reads from the queues, and hands the logits that are wanted to the readers. The results do not depend on how many rows a
/// step reads.
///
/// # Errors
/// Those of the forward; then every queue is as it was. What a reader says is in its [`Turn::error`].
pub(super) fn step(network: &dyn Forward, turns: &mut [Turn<'_>], work: &mut Work) -> Result<()> {
    for turn in turns.iter_mut() {
        turn.text.fit_cache(network, turn.text.len())?;
    }
    work.pace.share(turns);
    lay(turns, &mut work.batch);
    let clock = std::time::Instant::now();
    forward(network, turns, work)?;
    work.pace.note(turns, clock.elapsed());

    let mut logits = work.logits.chunks_exact(network.spec().vocab);
    let mut outputs = work.batch.outputs.iter().peekable();
    let readers = turns.iter_mut().filter(|turn| turn.rows > 0);
    for (i, turn) in readers.enumerate() {
        let rows = work.batch.rows(i);
        let first = turn.text.read() - rows.len();
        while let Some(row) = outputs.next_if(|row| **row < rows.end) {
            let logits = logits.next().unwrap_or_default();
            let at = first + row - rows.start;
            // What the reader has cut off since was read in vain.
            if turn.error.is_none() && at < turn.text.read() {
                *turn.error = turn.reader.take(turn.text, at, logits).err();
            }
        }
    }
    Ok(())
}

/// Lays the inputs that are read now end to end.
fn lay(turns: &[Turn<'_>], batch: &mut Batch) {
    batch.clear();
    for turn in turns.iter().filter(|turn| turn.rows > 0) {
        batch.begin();
        let (read, end) = (turn.text.read(), turn.text.len());
        for (at, input) in (read..).zip(&turn.text.inputs()[read..read + turn.rows]) {
            batch.push(input, turn.reader.wants(at, end));
        }
    }
}

/// The one place where the engine calls the network.
fn forward(network: &dyn Forward, turns: &mut [Turn<'_>], work: &mut Work) -> Result<()> {
    let (mut one, mut many);
    let caches: &mut [&mut KvCache] = match turns {
        // A text alone allocates nothing.
        [turn] if turn.rows > 0 => {
            one = [turn.text.cache()];
            &mut one
        }
        _ => {
            let reading = turns.iter_mut().filter(|turn| turn.rows > 0);
            many = reading.map(|turn| turn.text.cache()).collect::<Vec<_>>();
            &mut many
        }
    };
    if caches.is_empty() {
        work.logits.clear();
        return Ok(());
    }
    network.logits(&work.batch, caches, &mut work.logits)
}

/// Reads all that waits in one text.
///
/// # Errors
/// Those of the forward and of the reader, and [`Error::Cancelled`]. What was read stays, the rest is forgotten.
pub(super) fn read_all(
    network: &dyn Forward,
    text: &mut Text,
    reader: &mut dyn Reader,
    cancel: Option<&Cancel>,
    work: &mut Work,
) -> Result<()> {
    while text.unread() > 0 {
        let result = if cancel.is_some_and(Cancel::is_cancelled) {
            Err(Error::Cancelled)
        } else {
            let mut error = None;
            let turn = Turn { may_cancel: cancel.is_some(), ..Turn::new(text, reader, &mut error) };
            step(network, &mut [turn], work).and(error.map_or(Ok(()), Err))
        };
        if result.is_err() {
            text.drop_unread();
            return result;
        }
    }
    Ok(())
}
