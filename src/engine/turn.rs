//! A text's part in a step: what it reads, and who takes the logits.

use super::text::Text;
use crate::error::{Error, Result};

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

/// Wants no logits.
pub(super) struct Silent;

impl Reader for Silent {
    fn wants(&self, _: usize, _: usize) -> bool {
        false
    }

    fn take(&mut self, _: &mut Text, _: usize, _: &[f32]) -> Result<()> {
        Ok(())
    }
}
