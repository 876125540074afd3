//! What a caller may choose: how a model is loaded, how it generates, and how it makes vectors of texts.

use crate::device::DeviceChoice;
use crate::error::{Error, Result};
use crate::nn::CacheType;
use crate::quant::Dtype;
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
    /// Makes the float matrices of the blocks into quantised ones of this type: `Q8_0`. They take a quarter of the memory of
    /// f32 and are multiplied by int8 kernels, at a small loss; tables of tokens and positions stay as they are.
    pub quantise: Option<Dtype>,
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
    /// question always with its answers; system messages and the newest question, with what follows it, stay. If these alone
    /// leave less room than that, the room is what they leave; if they do not fit at all, that is [`Error::MessageTooLong`].
    ///
    /// What was dropped is a warning in the log and counted in [`Usage::truncated_tokens`](crate::Usage) and
    /// [`Usage::truncated_messages`](crate::Usage). A caller that goes on with the chat should drop as many messages from
    /// its own list: else each turn drops some more, and has to read all that is left again.
    Truncate,
}

/// A switch that ends work from another thread: a generation while its prompt is read and between two tokens, an embedding
/// between two forwards.
///
/// Clones are the same switch.
#[derive(Debug, Clone, Default)]
pub struct Cancel(Arc<AtomicBool>);

impl PartialEq for Cancel {
    /// Whether both are the same switch.
    fn eq(&self, other: &Cancel) -> bool {
        Arc::ptr_eq(&self.0, &other.0)
    }
}

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

/// How the hidden states of a text's tokens become its vector.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Pooling {
    /// Their mean.
    Mean,
    /// The first token's: `[CLS]` in BERT.
    Cls,
    /// The last token's.
    Last,
    /// The largest value of each dimension.
    Max,
    /// None: every token keeps its own.
    None,
}

/// The poolings and the words for them.
const POOLINGS: [(&str, Pooling); 5] =
    [("mean", Pooling::Mean), ("cls", Pooling::Cls), ("last", Pooling::Last), ("max", Pooling::Max), ("none", Pooling::None)];

impl std::str::FromStr for Pooling {
    type Err = Error;

    fn from_str(name: &str) -> Result<Self> {
        let found = POOLINGS.iter().find(|row| row.0 == name);
        found.map(|row| row.1).ok_or_else(|| Error::unsupported(format!("pooling {name:?}"), "mean, cls, last, max, none"))
    }
}

impl std::fmt::Display for Pooling {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.pad(POOLINGS.iter().find(|row| row.1 == *self).map_or("", |row| row.0))
    }
}

/// What is written before each text that is embedded. Models for search often want one for queries and another for documents.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum Prompt {
    /// The model's default prompt, which few models have.
    #[default]
    Default,
    /// The model's prompt of this name: `query`, `document`, or whatever else it has.
    Named(String),
    /// This text.
    Text(String),
    /// Nothing, even if the model has a default.
    None,
}

/// How texts become vectors. What is `None` is as the model says.
#[derive(Debug, Clone, PartialEq)]
pub struct EmbedOptions {
    /// How the hidden states of tokens become one vector.
    pub pooling: Option<Pooling>,
    /// Whether vectors are divided by their length.
    pub normalise: Option<bool>,
    /// Keep that many of the first dimensions (Matryoshka embeddings). What the model itself normalises is normalised before,
    /// as sentence-transformers does it; with `normalise: Some(true)` what is kept is.
    pub dimensions: Option<usize>,
    /// What is written before each text.
    pub prompt: Prompt,
    /// The most tokens of a text, special ones and the prompt's included, up to the positions that the model has; `None`: what it
    /// was made with, which may be less.
    pub max_tokens: Option<usize>,
    /// Whether a longer text is cut (which is counted, and a warning in the log); else it is [`Error::TextTooLong`].
    pub truncate: bool,
    /// Special tokens in a text are plain text.
    pub plain: bool,
    /// The most tokens that are read in one forward, which bounds the memory. A single text may have more. On a CPU more than
    /// about a thousand leave its caches, and are slower.
    pub batch_tokens: usize,
    /// Ends the work early, with [`Error::Cancelled`].
    pub cancel: Option<Cancel>,
}

impl Default for EmbedOptions {
    fn default() -> Self {
        EmbedOptions {
            pooling: None,
            normalise: None,
            dimensions: None,
            prompt: Prompt::Default,
            max_tokens: None,
            truncate: true,
            plain: false,
            batch_tokens: 512,
            cancel: None,
        }
    }
}
