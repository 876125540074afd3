//! The one seam that the engine sees: tokens and caches in, hidden states or logits out.

mod loader;
#[cfg(test)]
mod tests;
mod transformer;

use crate::backend::{Batch, KvCache};
use crate::error::Result;
use crate::spec::Spec;
pub use transformer::Transformer;

/// A loaded network: immutable, shared, used by many sessions at once.
pub trait Forward: Send + Sync {
    /// What kind of network this is.
    fn spec(&self) -> &Spec;

    /// An empty cache for one sequence of at most `limit` positions.
    fn cache(&self, limit: usize) -> Result<KvCache>;

    /// The length beyond which a text is rotated with other frequencies (LongRoPE), if there is one.
    fn rope_switch(&self) -> Option<usize> {
        None
    }

    /// The limit that the cache for a text of `len` positions must have in sessions of at most `context`. A text that outgrows
    /// its cache at [`Forward::rope_switch`] is read again.
    fn cache_limit(&self, len: usize, context: usize) -> usize {
        self.rope_switch().filter(|switch| len <= *switch).map_or(context, |switch| switch.min(context))
    }

    /// Reads the batch, extends the caches (one per sequence), and writes the final hidden states of `batch.outputs` to
    /// `out`, row after row of `dim` values.
    ///
    /// With no caches at all each sequence is read by itself from position 0, and nothing is remembered. A sequence's result is
    /// the same alone and in any batch.
    ///
    /// # Errors
    /// [`Error::Input`](crate::Error::Input) for a token outside the vocabulary,
    /// [`Error::ContextOverflow`](crate::Error::ContextOverflow) if a cache would exceed its limit; the caches keep what
    /// they held.
    fn hidden(&self, batch: &Batch, caches: &mut [&mut KvCache], out: &mut Vec<f32>) -> Result<()>;

    /// Like [`Forward::hidden`], but writes logits: rows of `vocab` values.
    fn logits(&self, batch: &Batch, caches: &mut [&mut KvCache], out: &mut Vec<f32>) -> Result<()>;
}
