//! What a caller may choose: how a model is loaded, how it generates, and how it makes vectors of texts.

use crate::backend::CacheType;
pub use crate::cancel::Cancel;
use crate::device::DeviceChoice;
use crate::error::{Error, Result};
use crate::quant::Dtype;
use crate::sample::{LogitsHook, SampleOptions};
use crate::store::hub::{HubOptions, Progress};
use serde::{Deserialize, Serialize};
use std::path::PathBuf;
use std::sync::Arc;

/// How a model is found, fetched and loaded.
///
/// ```
/// use tallow::LoadOptions;
/// let options = LoadOptions { threads: Some(2), offline: true, ..LoadOptions::default() };
/// ```
#[derive(Clone, Default, serde::Serialize, serde::Deserialize)]
#[serde(default)]
pub struct LoadOptions {
    /// Where it runs.
    #[serde(with = "by_name")]
    pub device: DeviceChoice,
    /// Threads on the CPU; `None`: the physical cores.
    pub threads: Option<usize>,
    /// Positions a session may hold; `None`: the model's own context, or what fits into memory.
    pub context: Option<usize>,
    /// Element type of the key/value cache.
    #[serde(with = "by_name")]
    pub cache_type: CacheType,
    /// A chat template that replaces the model's own.
    pub chat_template: Option<String>,
    /// Makes the float matrices of the blocks into quantised ones of this type: `Q8_0`. They take a quarter of the memory of
    /// f32 and are multiplied by int8 kernels, at a small loss; tables of tokens and positions stay as they are.
    #[serde(with = "by_name::optional")]
    pub quantise: Option<Dtype>,
    /// Never fetch: a model that is not on this machine is an error. `HF_HUB_OFFLINE=1` says so for every model.
    pub offline: bool,
    /// The folder of the Hub's cache; `None`: `HF_HUB_CACHE`, else `$HF_HOME/hub`.
    pub cache_dir: Option<PathBuf>,
    /// The Hub's access token; `None`: `HF_TOKEN`, else the one that `hf auth login` stored. It is neither printed nor
    /// serialised.
    #[serde(skip_serializing)]
    pub token: Option<String>,
    /// Hears how a download goes. A large one that nobody hears of is a warning in the log.
    #[serde(skip)]
    pub progress: Option<Arc<dyn Progress>>,
    /// Ends a download, which keeps what has come, and a load, between two tensors, with [`Error::Cancelled`].
    #[serde(skip)]
    pub cancel: Option<Cancel>,
}

impl LoadOptions {
    /// The Hub as the environment and these options say.
    pub fn hub(&self) -> HubOptions {
        let mut hub = HubOptions::from_env();
        hub.offline |= self.offline;
        hub.cache = self.cache_dir.clone().unwrap_or(hub.cache);
        if let Some(token) = &self.token {
            hub = hub.with_token(token, "the option `token`");
        }
        hub.cancel = self.cancel.clone();
        hub
    }

    /// [`Error::Cancelled`] once the caller has cancelled.
    pub(crate) fn check_cancelled(&self) -> Result<()> {
        self.cancel.as_ref().map_or(Ok(()), Cancel::check)
    }
}

/// The token is not printed.
impl std::fmt::Debug for LoadOptions {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("LoadOptions")
            .field("device", &self.device)
            .field("threads", &self.threads)
            .field("context", &self.context)
            .field("cache_type", &self.cache_type)
            .field("chat_template", &self.chat_template)
            .field("quantise", &self.quantise)
            .field("offline", &self.offline)
            .field("cache_dir", &self.cache_dir)
            .field("token", &self.token.as_ref().map(|_| "..."))
            .field("progress", &self.progress.as_ref().map(|_| "..."))
            .field("cancel", &self.cancel)
            .finish()
    }
}

/// Values that serde writes and reads by the names they have on the command line.
mod by_name {
    use serde::{Deserialize, Deserializer, Serializer, de::Error};
    use std::fmt::Display;
    use std::str::FromStr;

    pub fn serialize<T: Display, S: Serializer>(value: &T, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(value)
    }

    pub fn deserialize<'de, T: FromStr<Err: Display>, D: Deserializer<'de>>(deserializer: D) -> Result<T, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(D::Error::custom)
    }

    /// The same for a value that may be absent.
    pub mod optional {
        use super::{Deserialize, Deserializer, Display, Error, FromStr, Serializer};

        pub fn serialize<T: Display, S: Serializer>(value: &Option<T>, serializer: S) -> Result<S::Ok, S::Error> {
            match value {
                Some(value) => serializer.collect_str(value),
                None => serializer.serialize_none(),
            }
        }

        pub fn deserialize<'de, T, D>(deserializer: D) -> Result<Option<T>, D::Error>
        where
            T: FromStr<Err: Display>,
            D: Deserializer<'de>,
        {
            let name = Option::<String>::deserialize(deserializer)?;
            name.map(|name| name.parse().map_err(D::Error::custom)).transpose()
        }
    }
}

/// What happens when a prompt is longer than the context, that is when it leaves no room for one new token.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
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

/// How text is generated. [`Model::defaults`](crate::Model::defaults) has the model's own.
///
/// More fields may come: fill in what you mean and take the rest from [`Model::defaults`](crate::Model::defaults) or from
/// `GenerateOptions::default()`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct GenerateOptions {
    /// Filters, penalties and temperature.
    pub sampling: SampleOptions,
    /// Seed of the random numbers; `None` draws one. The same seed gives the same text at any number of threads.
    pub seed: Option<u64>,
    /// Most tokens to generate; `None`: until the model ends or the context is full.
    pub max_tokens: Option<usize>,
    /// Strings that end the text, beside the model's own end tokens. They are not part of it, unless `keep_stop` says so.
    pub stop: Vec<String>,
    /// Whether the stop string that ends a text is its end, rather than left out of it.
    pub keep_stop: bool,
    /// Whether special tokens that a prompt or a message spells out (`<|im_end|>`) are these tokens, as in transformers. Without
    /// it they are plain text, so that what users write can not end their turn; those that a chat template writes are always
    /// tokens.
    pub parse_special: bool,
    /// In a chat: the last message is an answer that was begun, and is continued. As in transformers the prompt ends with it.
    pub continue_final_message: bool,
    /// Sees the logits of every token, and may change them or choose.
    #[serde(skip)]
    pub hook: Option<LogitsHook>,
    /// Go on after an end token as if it were any other.
    pub ignore_eos: bool,
    /// Report each token's log-probability, with that many of the likeliest alternatives.
    pub logprobs: Option<usize>,
    /// What to do with a prompt that does not fit.
    pub overflow: Overflow,
    /// Ends the generation early: [`Error::Cancelled`] while the prompt is read (what was read stays in the session),
    /// [`DoneReason::Cancelled`](crate::DoneReason) after that.
    #[serde(skip)]
    pub cancel: Option<Cancel>,
}

impl Default for GenerateOptions {
    fn default() -> Self {
        GenerateOptions {
            sampling: SampleOptions::default(),
            seed: None,
            max_tokens: None,
            stop: Vec::new(),
            keep_stop: false,
            parse_special: true,
            continue_final_message: false,
            hook: None,
            ignore_eos: false,
            logprobs: None,
            overflow: Overflow::default(),
            cancel: None,
        }
    }
}

impl GenerateOptions {
    /// Checks every option's range.
    ///
    /// # Errors
    /// [`Error::Input`] with the name of the option and what was expected.
    pub fn validate(&self) -> Result<()> {
        if self.stop.iter().any(String::is_empty) {
            return Err(Error::Input("option stop: an empty string would end every text; leave it out".into()));
        }
        self.sampling.validate()
    }
}

/// How the hidden states of a text's tokens become its vector.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
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
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
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
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct EmbedOptions {
    /// How the hidden states of tokens become one vector.
    #[serde(with = "by_name::optional")]
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
    #[serde(skip)]
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn options_survive_json_by_the_names_of_the_command_line_and_without_secrets() {
        let token = Some("hf_secret".to_owned());
        let options = LoadOptions { threads: Some(3), quantise: Some(Dtype::Q8_0), token, ..LoadOptions::default() };
        let json = serde_json::to_string(&options).unwrap();
        assert!(json.contains(r#""device":"auto""#) && json.contains(r#""quantise":"Q8_0""#), "{json}");
        assert!(!json.contains("secret") && !format!("{options:?}").contains("secret"));
        let back: LoadOptions = serde_json::from_str(&json).unwrap();
        assert_eq!(format!("{back:?}"), format!("{:?}", LoadOptions { token: None, ..options }));
        let few: LoadOptions = serde_json::from_str(r#"{"cache_type": "f16", "token": "t"}"#).unwrap();
        assert_eq!((few.cache_type, few.token.as_deref()), (CacheType::F16, Some("t")));
        assert!(serde_json::from_str::<LoadOptions>(r#"{"device": "toaster"}"#).is_err());
        let options = EmbedOptions { pooling: Some(Pooling::Cls), prompt: Prompt::Named("query".into()), ..Default::default() };
        let json = serde_json::to_string(&options).unwrap();
        assert_eq!(serde_json::from_str::<EmbedOptions>(&json).unwrap(), options, "{json}");
    }

    #[test]
    fn the_cache_and_the_token_of_the_options_come_before_the_environments() {
        let options =
            LoadOptions { cache_dir: Some("/c".into()), token: Some("t".into()), offline: true, ..Default::default() };
        let hub = options.hub();
        assert_eq!((hub.cache, hub.token.as_deref(), hub.offline), (PathBuf::from("/c"), Some("t"), true));
    }
}
