//! What a caller may choose: how a model is loaded, and how it generates.

use crate::device::DeviceChoice;
use crate::error::{Error, Result};
use crate::nn::CacheType;
use crate::sample::SampleOptions;

/// How a model is loaded.
#[derive(Debug, Clone, Default)]
pub struct LoadOptions {
    /// Where it runs.
    pub device: DeviceChoice,
    /// Threads on the CPU; `None`: the physical cores.
    pub threads: Option<usize>,
    /// Positions a session may hold; `None`: the model's own context, or what fits into memory.
    pub context: Option<usize>,
    /// Element type of the key/value cache.
    pub cache_type: CacheType,
    /// A chat template that replaces the model's own.
    pub chat_template: Option<String>,
}

/// What happens when a prompt is longer than the context.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Overflow {
    /// [`Error::ContextOverflow`].
    #[default]
    Error,
    /// The oldest tokens are dropped, all but a leading BOS, so that the answer has the room it asks for (a quarter of
    /// the context where it names no limit, never more than half); in a chat that takes the system message first. They are counted in [`Usage::truncated_tokens`](crate::Usage).
    Truncate,
}

/// How text is generated. [`Model::defaults`](crate::Model::defaults) has the model's own.
#[derive(Debug, Clone, Default)]
pub struct GenerateOptions {
    /// Filters, penalties and temperature.
    pub sampling: SampleOptions,
    /// Seed of the random numbers; `None` draws one. The same seed gives the same text at any number of threads.
    pub seed: Option<u64>,
    /// Most tokens to generate; `None`: until the model ends or the context is full.
    pub max_tokens: Option<usize>,
    /// Strings that end the text, beside the model's own end tokens. They are not part of it.
    pub stop: Vec<String>,
    /// Go on after an end token as if it were any other.
    pub ignore_eos: bool,
    /// Report each token's log-probability, with that many of the likeliest alternatives.
    pub logprobs: Option<usize>,
    /// What to do with a prompt that does not fit.
    pub overflow: Overflow,
}

impl GenerateOptions {
    /// Checks every option's range.
    pub fn validate(&self) -> Result<()> {
        if self.stop.iter().any(String::is_empty) {
            return Err(Error::Input("option stop: an empty string would end every text; leave it out".into()));
        }
        self.sampling.validate()
    }
}
