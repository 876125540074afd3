//! One call: the choices of options and model, resolved, and the way of its texts through the network.
//!
//! Texts go through in windows of several forwards, so that the tokens of a million texts are never in memory at once, and what
//! comes out of a stream comes every few seconds. Within a window they are sorted by length, longest first, and packed up to
//! the budget of a forward. Nothing is padded, so a larger window would gain nothing.

use super::{Embedder, Embeddings, Shared, Truncated, pool};
use crate::error::{Error, Result};
use crate::nn::Batch;
use crate::options::{EmbedOptions, Pooling, Prompt};
use ndarray::Array2;

/// What is tokenised before it is computed: so many texts, or so many bytes of them.
pub(super) const WINDOW_TEXTS: usize = 1024;
pub(super) const WINDOW_BYTES: usize = 1 << 15;

/// Which values make the length that a vector is divided by.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Norm {
    /// All that the model gives, before only the first are kept.
    Whole,
    /// Those that are kept.
    Kept,
}

/// The options of a call, with what the model says in place of what they leave open.
pub(super) struct Call {
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

impl Call {
    pub fn new(shared: &Shared, options: &EmbedOptions) -> Result<Call> {
        let (spec, tokenizer) = (&shared.spec, &shared.loaded.tokenizer);
        let pooling = match (options.pooling, &spec.pooling) {
            (Some(pooling), _) => pooling,
            (None, Ok(pooling)) => *pooling,
            (None, Err(other)) => {
                let what = format!("the pooling that the model was made with ({other})");
                return Err(Error::unsupported(what, "mean, cls, last, max, none; one of them can be chosen in its place"));
            }
        };
        let width = match (pooling, spec.dense.last()) {
            (Pooling::None, _) | (_, None) => shared.loaded.network.spec().dim,
            (_, Some(dense)) => dense.outputs,
        };
        let dim = match options.dimensions {
            None => spec.dimensions.unwrap_or(width).min(width),
            Some(dim) if (1..=width).contains(&dim) => dim,
            Some(dim) => return Err(Error::Input(format!("{dim} dimensions: the model's vectors have 1 to {width}"))),
        };
        let limit = match options.max_tokens {
            None => spec.limit(&options.prompt).map_or(shared.positions, |limit| limit.min(shared.positions)),
            Some(limit) if limit <= shared.positions => limit,
            Some(limit) => {
                let positions = shared.positions;
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
        let prompt = prompt(shared, &options.prompt)?;
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
        Ok(Call { options: options.clone(), pooling, norm, dim, width, prompt, skip, limit })
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

    fn check_cancelled(&self) -> Result<()> {
        match &self.options.cancel {
            Some(cancel) if cancel.is_cancelled() => Err(Error::Cancelled),
            _ => Ok(()),
        }
    }
}

/// The text of a prompt.
fn prompt(shared: &Shared, prompt: &Prompt) -> Result<String> {
    let spec = &shared.spec;
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
        Error::Input(format!("{} has no prompt {name:?}: {has}; a prompt can also be given as text", shared.loaded.info.name))
    })
}

/// Rows of `dim` values.
pub(super) fn rows(values: Vec<f32>, rows: usize, dim: usize) -> Array2<f32> {
    Array2::from_shape_vec((rows, dim), values).expect("there are `dim` values for each row")
}

/// How many of the first texts make a window.
pub(super) fn window<S: AsRef<str>>(texts: &[S]) -> usize {
    let mut bytes = 0;
    let mut within = |text: &S| {
        bytes += text.as_ref().len();
        bytes <= WINDOW_BYTES
    };
    texts.iter().take(WINDOW_TEXTS).take_while(|text| within(text)).count().max(1).min(texts.len())
}

impl Embedder {
    /// All texts, with a warning for those that were cut.
    pub(super) fn run<S: AsRef<str>>(&self, call: &Call, texts: &[S]) -> Result<Embeddings> {
        let (mut tokens, mut truncated) = (Vec::with_capacity(texts.len()), Vec::new());
        let mut out = Vec::new();
        if call.pooling == Pooling::None {
            let mut rest = texts;
            while !rest.is_empty() {
                let (window, after) = rest.split_at(window(rest));
                let ids = self.tokenised(call, window, texts.len() - rest.len(), &mut truncated)?;
                let start = out.len();
                out.resize(start + ids.iter().map(Vec::len).sum::<usize>() * call.dim, 0.0);
                self.compute(call, &ids, &mut out[start..])?;
                tokens.extend(ids.iter().map(Vec::len));
                rest = after;
            }
        } else {
            out = vec![0.0; texts.len() * call.dim];
            self.fill(call, texts, &mut out, &mut tokens, &mut truncated)?;
        }
        call.warn(truncated.first(), truncated.len(), texts.len());
        let count = out.len() / call.dim;
        Ok(Embeddings { vectors: rows(out, count, call.dim), tokens, truncated })
    }

    /// A vector for each text into `out`, window by window.
    pub(super) fn fill<S: AsRef<str>>(
        &self,
        call: &Call,
        texts: &[S],
        out: &mut [f32],
        tokens: &mut Vec<usize>,
        truncated: &mut Vec<Truncated>,
    ) -> Result<()> {
        let (mut rest, mut out) = (texts, out);
        while !rest.is_empty() {
            let (window, after) = rest.split_at(window(rest));
            let (part, out_after) = out.split_at_mut(window.len() * call.dim);
            let ids = self.tokenised(call, window, texts.len() - rest.len(), truncated)?;
            self.compute(call, &ids, part)?;
            tokens.extend(ids.iter().map(Vec::len));
            (rest, out) = (after, out_after);
        }
        Ok(())
    }

    /// The vectors of tokenised texts into `out`: a row for each, or, without a pooling, one for each token.
    pub(super) fn compute<T: AsRef<[u32]>>(&self, call: &Call, texts: &[T], out: &mut [f32]) -> Result<()> {
        let lens: Vec<usize> = texts.iter().map(|ids| ids.as_ref().len()).collect();
        let firsts = match call.pooling {
            Pooling::None => lens.iter().scan(0, |at, len| Some(std::mem::replace(at, *at + len))).collect(),
            _ => (0..texts.len()).collect::<Vec<_>>(),
        };
        let mut order: Vec<usize> = (0..texts.len()).filter(|i| lens[*i] > 0).collect();
        order.sort_by_key(|i| std::cmp::Reverse(lens[*i]));
        let (mut batch, mut hidden, mut dense) = (Batch::default(), Vec::new(), pool::Scratch::default());
        let mut order = order.as_slice();
        while !order.is_empty() {
            call.check_cancelled()?;
            let (now, later) = order.split_at(packed(order, &lens, call.options.batch_tokens));
            order = later;
            batch.tokens.clear();
            batch.starts.clear();
            batch.outputs.clear();
            for &i in now {
                let start = batch.tokens.len();
                batch.starts.push(start);
                batch.tokens.extend_from_slice(texts[i].as_ref());
                batch.outputs.extend(pool::wanted(call, lens[i]).map(|row| start + row));
            }
            let network = &self.shared.loaded.network;
            network.hidden(&batch, &mut [], &mut hidden)?;
            let mut rest = hidden.as_slice();
            for &i in now {
                let count = pool::wanted(call, lens[i]).len();
                let (rows, after) = rest.split_at(count * network.spec().dim);
                rest = after;
                let out_rows = if call.pooling == Pooling::None { lens[i] } else { 1 };
                let out = &mut out[firsts[i] * call.dim..][..out_rows * call.dim];
                pool::vectors(call, &self.shared.spec.dense, rows, &mut dense, out)?;
            }
        }
        Ok(())
    }
}

/// How many of the first texts of `order` fit into one forward; at least one.
fn packed(order: &[usize], lens: &[usize], budget: usize) -> usize {
    let mut tokens = 0;
    let mut fits = |i: &usize| {
        tokens += lens[*i];
        tokens <= budget
    };
    order.iter().copied().take_while(|i| fits(i)).count().max(1)
}
