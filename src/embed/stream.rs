//! Vectors of a stream of texts that need not fit into memory.
//!
//! Texts are read a window ahead, embedded together, and handed out one by one with the items that they came in.

use super::recipe::{EmbedModel, Recipe, Truncated};
use super::run::{WINDOW_BYTES, WINDOW_TEXTS, compute};
use super::tokenise::tokenised;
use crate::error::{Error, Result};
use crate::options::Pooling;
use std::collections::VecDeque;
use std::iter::Fuse;
use std::sync::Arc;

/// A text with its vector.
#[derive(Debug, Clone, PartialEq)]
pub struct Embedding<T> {
    /// What was in the stream.
    pub text: T,
    /// Its vector; with [`Pooling::None`] those of its tokens, one after another.
    pub vector: Vec<f32>,
    /// How many of its tokens were read, special ones and the prompt's included.
    pub tokens: usize,
    /// How many it has, if some were not read.
    pub cut_from: Option<usize>,
}

/// Made by [`Embedder::embed_iter`](super::Embedder::embed_iter). After an error it ends, and so it does for good where its texts first end.
///
/// Texts before one that must not be cut come first, then the error. Texts that were cut are told in each [`Embedding`], and
/// counted in one warning at the end.
pub struct EmbedIter<I: Iterator> {
    model: Arc<EmbedModel>,
    recipe: Arc<Recipe>,
    texts: Fuse<I>,
    ready: VecDeque<Embedding<I::Item>>,
    read: usize,
    first: Option<Truncated>,
    count: usize,
    /// The error that comes when `ready` is empty.
    failed: Option<Error>,
    over: bool,
    silent: bool,
}

impl<I: Iterator> EmbedIter<I>
where
    I::Item: AsRef<str>,
{
    pub(super) fn new(model: Arc<EmbedModel>, recipe: Arc<Recipe>, texts: I) -> Self {
        EmbedIter {
            model,
            recipe,
            texts: texts.fuse(),
            ready: VecDeque::new(),
            read: 0,
            first: None,
            count: 0,
            failed: None,
            over: false,
            silent: false,
        }
    }

    /// Leaves out the warning for texts that were cut: use this if you report truncation yourself,
    /// from [`Embedding::cut_from`].
    pub fn silent(mut self) -> Self {
        self.silent = true;
        self
    }

    /// How many texts have been cut so far.
    pub fn truncated(&self) -> usize {
        self.count
    }

    fn refill(&mut self) -> Result<()> {
        let (mut texts, mut bytes) = (Vec::new(), 0);
        while texts.len() < WINDOW_TEXTS && bytes < WINDOW_BYTES {
            let Some(text) = self.texts.next() else { break };
            bytes += text.as_ref().len();
            texts.push(text);
        }
        let (model, recipe, first) = (&*self.model, &*self.recipe, self.read);
        let mut truncated = Vec::new();
        let ids = match tokenised(model, recipe, &texts, first, &mut truncated) {
            Err(Error::TextTooLong { index, text, tokens, limit }) if index > first => {
                texts.truncate(index - first);
                self.failed = Some(Error::TextTooLong { index, text, tokens, limit });
                tokenised(model, recipe, &texts, first, &mut truncated)?
            }
            ids => ids?,
        };
        let each = |ids: &Vec<u32>| if recipe.pooling == Pooling::None { ids.len() } else { 1 } * recipe.dim;
        let mut out = vec![0.0; ids.iter().map(each).sum()];
        compute(model, recipe, &ids, &mut out)?;
        self.read += texts.len();
        self.count += truncated.len();
        let (mut rest, mut cut) = (out.as_slice(), truncated.iter().peekable());
        for (i, (text, ids)) in texts.into_iter().zip(&ids).enumerate() {
            let (vector, after) = rest.split_at(each(ids));
            rest = after;
            let cut_from = cut.next_if(|cut| cut.index == first + i).map(|cut| cut.tokens);
            self.ready.push_back(Embedding { text, vector: vector.to_vec(), tokens: ids.len(), cut_from });
        }
        self.first = self.first.or(truncated.first().copied());
        Ok(())
    }
}

impl<I: Iterator> Iterator for EmbedIter<I>
where
    I::Item: AsRef<str>,
{
    type Item = Result<Embedding<I::Item>>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.ready.is_empty()
            && let Some(error) = self.failed.take()
        {
            self.over = true;
            return Some(Err(error));
        }
        if self.ready.is_empty() && !self.over {
            if let Err(error) = self.refill() {
                (self.failed, self.over) = (None, true);
                return Some(Err(error));
            }
            self.over = self.ready.is_empty();
        }
        self.ready.pop_front().map(Ok)
    }
}

impl<I: Iterator> std::fmt::Debug for EmbedIter<I> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { read, count, ready, .. } = self;
        let ready = ready.len();
        f.debug_struct("EmbedIter").field("read", read).field("truncated", count).field("ready", &ready).finish_non_exhaustive()
    }
}

impl<I: Iterator> Drop for EmbedIter<I> {
    fn drop(&mut self) {
        let first = self.first.as_ref().filter(|_| !self.silent);
        self.recipe.warn(first, self.count, self.read);
    }
}
