//! What one call does: the options that it is given, with what the model says in place of what they leave open.

use crate::checkpoint::{EmbedSpec, Loaded};
use crate::error::{Error, Result};
use crate::options::{EmbedOptions, Pooling, Prompt};
use ndarray::Array2;

/// What every clone shares.
pub(super) struct EmbedModel {
    pub loaded: Loaded,
    pub spec: EmbedSpec,
    /// The most tokens of a text that the network can read.
    pub positions: usize,
    /// Threads that tokenise.
    pub threads: usize,
}

/// Vectors, and what became of the texts.
#[derive(Debug, Clone, PartialEq)]
pub struct Embeddings {
    /// A row for each text; with [`Pooling::None`] one for each token, text after text.
    pub vectors: Array2<f32>,
    /// How many tokens of each text were read, special ones and the prompt's included.
    pub tokens: Vec<usize>,
    /// The texts that were cut, in order.
    pub truncated: Vec<Truncated>,
}

/// A text that was longer than the model reads.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Truncated {
    /// Which of the texts, from 0.
    pub index: usize,
    /// How many tokens it has, of which the last were not read.
    pub tokens: usize,
}

/// Which values make the length that a vector is divided by.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Norm {
    /// All that the model gives, before only the first are kept.
    Whole,
    /// Those that are kept.
    Kept,
}

/// The options of a call, with what the model says in place of what they leave open.
pub(super) struct Recipe {
    pub options: EmbedOptions,
    pub pooling: Pooling,
    pub norm: Option<Norm>,
    /// Values in a vector.
    pub dim: usize,
    /// Values in a vector before it is cut to `dim`.
    pub width: usize,
    /// What is written before each text.
    pub prompt: String,
    /// Tokens at the beginning of each text that are not pooled.
    pub skip: usize,
    /// The most tokens of a text.
    pub limit: usize,
}

impl Recipe {
    pub fn new(model: &EmbedModel, options: &EmbedOptions) -> Result<Recipe> {
        let (spec, tokenizer) = (&model.spec, &model.loaded.tokenizer);
        let pooling = match (options.pooling, &spec.pooling) {
            (Some(pooling), _) => pooling,
            (None, Ok(pooling)) => *pooling,
            (None, Err(other)) => {
                let what = format!("the pooling that the model was made with ({other})");
                return Err(Error::unsupported(what, "mean, cls, last, max, none; one of them can be chosen in its place"));
            }
        };
        let width = match (pooling, spec.dense.last()) {
            (Pooling::None, _) | (_, None) => model.loaded.network.spec().dim,
            (_, Some(dense)) => dense.outputs,
        };
        let dim = match options.dimensions {
            None => spec.dimensions.unwrap_or(width).min(width),
            Some(dim) if (1..=width).contains(&dim) => dim,
            Some(dim) => return Err(Error::Input(format!("{dim} dimensions: the model's vectors have 1 to {width}"))),
        };
        let limit = match options.max_tokens {
            None => spec.limit(&options.prompt).map_or(model.positions, |limit| limit.min(model.positions)),
            Some(limit) if limit <= model.positions => limit,
            Some(limit) => {
                let positions = model.positions;
                return Err(Error::Input(format!("texts of at most {limit} tokens: the model reads at most {positions}")));
            }
        };
        let added = tokenizer.added_tokens();
        if limit <= added {
            return Err(Error::Input(format!("texts of at most {limit} tokens: the tokenizer alone adds {added}")));
        }
        if options.batch_tokens == 0 {
            return Err(Error::Input("batches of 0 tokens: expected 1 or more".into()));
        }
        let prompt = prompt(model, &options.prompt)?;
        let skip = match spec.include_prompt || prompt.is_empty() {
            true => 0,
            false => {
                // As many as the prompt has by itself, without what the tokenizer writes at the end.
                let tokens = tokenizer.encode(&prompt, true)?;
                tokens.len() - usize::from(tokens.last().is_some_and(|last| tokenizer.is_special(*last)))
            }
        };
        let norm = match options.normalise {
            Some(false) => None,
            Some(true) => Some(Norm::Kept),
            // The vectors of tokens are the network's own, unless they are asked to be normalised.
            None => (spec.normalise && pooling != Pooling::None).then_some(Norm::Whole),
        };
        Ok(Recipe { options: options.clone(), pooling, norm, dim, width, prompt, skip, limit })
    }

    /// Says that texts were cut.
    pub fn warn(&self, first: Option<&Truncated>, count: usize, of: usize) {
        if let Some(first) = first {
            log::warn!(
                "{count} of {of} texts were cut to {} tokens; the first is text {} with {} tokens",
                self.limit,
                first.index + 1,
                first.tokens
            );
        }
    }

    pub fn check_cancelled(&self) -> Result<()> {
        match &self.options.cancel {
            Some(cancel) if cancel.is_cancelled() => Err(Error::Cancelled),
            _ => Ok(()),
        }
    }
}

/// The text of a prompt.
fn prompt(model: &EmbedModel, prompt: &Prompt) -> Result<String> {
    let spec = &model.spec;
    let name = match prompt {
        Prompt::None => return Ok(String::new()),
        Prompt::Text(text) => return Ok(text.clone()),
        // A default that is not among the prompts is none, in sentence-transformers too.
        Prompt::Default => {
            let text = spec.default_prompt.as_deref().and_then(|name| spec.prompt(name));
            return Ok(text.unwrap_or_default().to_owned());
        }
        Prompt::Named(name) => name,
    };
    spec.prompt(name).map(str::to_owned).ok_or_else(|| {
        let names: Vec<_> = spec.prompts.iter().map(|prompt| prompt.0.as_str()).collect();
        let has = if names.is_empty() { "it states none".to_owned() } else { format!("it has {}", names.join(", ")) };
        Error::Input(format!("{} has no prompt {name:?}: {has}; a prompt can also be given as text", model.loaded.info.name))
    })
}
