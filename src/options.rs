//! What a caller may choose: how a model is loaded, and how it generates.

use crate::device::DeviceChoice;
use crate::error::{Error, Result};
use crate::nn::CacheType;
use crate::sample::SampleOptions;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

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
    /// Never fetch: a model that is not on this machine is an error. `HF_HUB_OFFLINE=1` says so for every model.
    pub offline: bool,
}

/// What happens when a prompt is longer than the context, that is when it leaves no room for one new token.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Overflow {
    /// [`Error::ContextOverflow`].
    #[default]
    Error,
    /// The oldest goes until the answer has the room it asks for: a quarter of the context where it names no limit, never
    /// more than half.
    ///
    /// In a text the oldest tokens are dropped, all but a leading BOS. In a chat whole messages are, from the oldest on, a
    /// question always with its answers; the system message and the newest message stay. If these alone leave less room than
    /// that, the room is what they leave; if they do not fit at all, that is [`Error::MessageTooLong`].
    ///
    /// What was dropped is a warning in the log and counted in [`Usage::truncated_tokens`](crate::Usage) and
    /// [`Usage::truncated_messages`](crate::Usage). A caller that goes on with the chat should drop as many messages from
    /// its own list: else each turn drops some more, and has to read all that is left again.
    Truncate,
}

/// A switch that ends a generation from another thread: while a prompt is read, and between two tokens.
///
/// Clones are the same switch.
#[derive(Debug, Clone, Default)]
pub struct Cancel(Arc<AtomicBool>);

impl Cancel {
    /// Ends what runs with this switch.
    pub fn cancel(&self) {
        self.0.store(true, Ordering::Relaxed);
    }

    /// Makes the switch ready for the next generation.
    pub fn reset(&self) {
        self.0.store(false, Ordering::Relaxed);
    }

    /// Whether the generation is to end.
    pub fn is_cancelled(&self) -> bool {
        self.0.load(Ordering::Relaxed)
    }
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
    /// Ends the generation early: [`Error::Cancelled`] while the prompt is read (what was read stays in the session),
    /// [`DoneReason::Cancelled`](crate::DoneReason) after that.
    pub cancel: Option<Cancel>,
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
