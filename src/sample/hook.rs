//! A hook of the caller's own between the logits and the sampler.

use crate::Result;
use std::sync::Arc;

/// One token that is to be chosen.
#[derive(Debug)]
#[non_exhaustive]
pub struct NextToken<'a> {
    /// The model's logits, one for each token of the vocabulary. What is changed here is what the sampler sees; minus infinity
    /// forbids a token.
    pub logits: &'a mut [f32],
    /// The prompt's tokens.
    pub prompt: &'a [u32],
    /// The tokens generated so far.
    pub tokens: &'a [u32],
}

type Call = dyn Fn(&mut NextToken<'_>) -> Result<Option<u32>> + Send + Sync;

/// Sees the logits of every token of a generation before it is chosen: may change them, or choose.
///
/// ```
/// use tallow::LogitsHook;
/// // The first token is 7, whatever the model thinks; after that never twice the same in a row.
/// let hook = LogitsHook::new(|next| {
///     if let Some(last) = next.tokens.last() {
///         next.logits[*last as usize] = f32::NEG_INFINITY;
///     }
///     Ok(next.tokens.is_empty().then_some(7))
/// });
/// let options = tallow::GenerateOptions { hook: Some(hook), ..Default::default() };
/// # drop(options);
/// ```
#[derive(Clone)]
pub struct LogitsHook(Arc<Call>);

impl LogitsHook {
    /// A hook that calls `call` for each token: with a token the choice is made, with `None` the sampler chooses from the logits
    /// as they are then. An error ends the text with it. What it says should follow from what it is given alone: a token may be
    /// asked for again after a text was cut back.
    pub fn new(call: impl Fn(&mut NextToken<'_>) -> Result<Option<u32>> + Send + Sync + 'static) -> LogitsHook {
        LogitsHook(Arc::new(call))
    }

    /// The hook's choice, or none.
    pub(crate) fn call(&self, mut next: NextToken<'_>) -> Result<Option<u32>> {
        (self.0)(&mut next)
    }
}

impl std::fmt::Debug for LogitsHook {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("LogitsHook")
    }
}

impl PartialEq for LogitsHook {
    /// Whether both are clones of one hook.
    fn eq(&self, other: &LogitsHook) -> bool {
        Arc::ptr_eq(&self.0, &other.0)
    }
}
