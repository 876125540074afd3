//! Vectors of texts: an [`Embedder`], beside the engine that writes text.
//!
//! A text is tokenised, cut where it is too long, read by the network by itself and from position 0 with no cache, and its
//! hidden states are pooled, run through the model's dense layers and normalised, as sentence-transformers does. Texts are
//! sorted by length and packed end to end without padding; their order is restored in the result. A text's vector has the
//! same bits alone and in any batch, on any number of threads: the network promises it of each sequence, and nothing here
//! mixes texts.

mod pool;
mod recipe;
mod run;
mod similarity;
mod stream;
#[cfg(test)]
mod tests;
mod tokenise;

use crate::bytes::Bytes;
use crate::checkpoint::{Checkpoint, EmbedSpec, Loaded, ModelInfo, ensure};
use crate::device::{self, DeviceChoice};
use crate::error::{Error, Result};
use crate::options::{EmbedOptions, LoadOptions, Pooling};
use crate::spec::Spec;
use crate::store::ModelFiles;
use crate::text::Tokenizer;
use ndarray::{Array2, ArrayView2};
pub use recipe::{Embeddings, Truncated};
use std::path::Path;
use std::sync::Arc;
pub use stream::{EmbedIter, Embedding};

use recipe::{EmbedModel, Recipe};

/// A loaded model that turns texts into vectors: immutable, cheap to clone, used from any number of threads at once.
///
/// ```
/// # const MODEL: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/models/SmolLM2-135M-Instruct.Q4_1.gguf");
/// let embedder = tallow::Embedder::load(MODEL)?; // better: "all-minilm", "org/repo", a folder
/// let vectors = embedder.embed(&["A lighthouse by the sea.", "A beacon on the coast.", "A recipe for soup."])?;
/// assert_eq!(vectors.dim(), (3, embedder.dimensions()));
/// let likeness = embedder.similarity(&vectors, &vectors);
/// assert!(likeness[[0, 1]] > likeness[[0, 2]]);
/// # Ok::<(), tallow::Error>(())
/// ```
#[derive(Clone)]
pub struct Embedder {
    model: Arc<EmbedModel>,
    /// What every call does unless it says otherwise.
    recipe: Arc<Recipe>,
}

impl Embedder {
    /// Loads a model with default options, by the same names as [`Model::load`](crate::Model::load).
    ///
    /// # Errors
    /// Those of [`Model::load`](crate::Model::load), and [`Error::Unsupported`] for a pooling or layer that tallow lacks.
    pub fn load(name: impl AsRef<Path>) -> Result<Embedder> {
        Embedder::load_with(name, &LoadOptions::default(), &EmbedOptions::default())
    }

    /// Loads a model; `options` are those of every call that names none.
    ///
    /// # Errors
    /// Those of [`Embedder::load`], [`Error::Cancelled`] by [`LoadOptions::cancel`], and [`Error::Input`] for options that the
    /// model can not follow.
    pub fn load_with(name: impl AsRef<Path>, load: &LoadOptions, options: &EmbedOptions) -> Result<Embedder> {
        Embedder::at(ensure(name, load)?, load, options)
    }

    /// Loads a model from the bytes of a GGUF file.
    ///
    /// # Errors
    /// Those of [`Embedder::at`].
    pub fn from_gguf_bytes(bytes: impl Into<Bytes>, load: &LoadOptions, options: &EmbedOptions) -> Result<Embedder> {
        Embedder::at(ModelFiles::from_gguf_bytes(bytes), load, options)
    }

    /// Loads a model that has been found, or is in memory ([`ModelFiles::from_memory`]).
    ///
    /// # Errors
    /// Those of [`Model::at`](crate::Model::at), [`Error::Unsupported`] for a pooling or layer that tallow lacks, and
    /// [`Error::Input`] for options that the model can not follow.
    pub fn at(files: ModelFiles, load: &LoadOptions, options: &EmbedOptions) -> Result<Embedder> {
        load.check_cancelled()?;
        Embedder::from_checkpoint(Checkpoint::at(files)?, load, options)
    }

    /// Loads a model that has been opened.
    ///
    /// # Errors
    /// Those of [`Embedder::at`].
    pub fn from_checkpoint(checkpoint: Checkpoint, load: &LoadOptions, options: &EmbedOptions) -> Result<Embedder> {
        let spec = checkpoint.embed_spec()?;
        if let Some(head) = checkpoint.unused_head() {
            log::warn!("{head}");
        }
        // Nothing is kept between texts, so the memory for a long context is not asked for.
        let context = load.context.or(Some(checkpoint.spec().context.min(512)));
        let loaded = checkpoint.load(&LoadOptions { context, ..load.clone() })?;
        Embedder::around(loaded, spec, load.context, options)
    }

    fn around(mut loaded: Loaded, spec: EmbedSpec, context: Option<usize>, options: &EmbedOptions) -> Result<Embedder> {
        if spec.lower_case {
            loaded.tokenizer = loaded.tokenizer.lowercased()?;
        }
        let network = loaded.network.spec();
        let mut width = network.dim;
        for dense in &spec.dense {
            if dense.inputs != width {
                let why = format!("a dense layer takes {} values, what comes before it gives {width}", dense.inputs);
                return Err(Error::corrupt(&loaded.info.name, why));
            }
            width = dense.outputs;
        }
        let positions = context.map_or(network.context, |context| context.min(network.context));
        let threads = if loaded.info.threads > 0 { loaded.info.threads } else { device::default_threads() };
        let model = Arc::new(EmbedModel { loaded, spec, positions, threads });
        let recipe = Arc::new(Recipe::new(&model, options)?);
        Ok(Embedder { model, recipe })
    }

    /// The same model with other options; the weights are shared.
    ///
    /// ```no_run
    /// use tallow::{EmbedOptions, Embedder, Prompt};
    /// let documents = Embedder::load("org/repo")?;
    /// let queries = documents.with(&EmbedOptions { prompt: Prompt::Named("query".into()), ..documents.options().clone() })?;
    /// # Ok::<(), tallow::Error>(())
    /// ```
    ///
    /// # Errors
    /// [`Error::Input`] for a prompt that the model does not have and numbers out of range.
    pub fn with(&self, options: &EmbedOptions) -> Result<Embedder> {
        Ok(Embedder { model: self.model.clone(), recipe: Arc::new(Recipe::new(&self.model, options)?) })
    }

    /// The vectors of `texts`, a row for each (with [`Pooling::None`] one for each token). The rows are allocated once.
    ///
    /// Texts that are longer than the model reads are cut, with a warning in the log; see [`EmbedOptions::truncate`].
    ///
    /// # Errors
    /// [`Error::TextTooLong`] where texts must not be cut, [`Error::Cancelled`].
    pub fn embed<S: AsRef<str>>(&self, texts: &[S]) -> Result<Array2<f32>> {
        run::run(&self.model, &self.recipe, texts).map(|embeddings| embeddings.vectors)
    }

    /// [`Embedder::embed`] with options of its own, telling also the number of tokens of each text and which were cut.
    pub fn embed_with<S: AsRef<str>>(&self, texts: &[S], options: &EmbedOptions) -> Result<Embeddings> {
        if *options == self.recipe.options {
            return run::run(&self.model, &self.recipe, texts);
        }
        run::run(&self.model, &Recipe::new(&self.model, options)?, texts)
    }

    /// Writes the vectors of `texts` to `out`, row after row.
    ///
    /// # Errors
    /// [`Error::Input`] if `out` has not [`dimensions`](Embedder::dimensions) values for each text, and with
    /// [`Pooling::None`], of which nobody knows the number of rows beforehand.
    pub fn embed_into<S: AsRef<str>>(&self, texts: &[S], out: &mut [f32]) -> Result<()> {
        let (texts_len, dim) = (texts.len(), self.recipe.dim);
        if self.recipe.pooling == Pooling::None {
            return Err(Error::Input(
                "embed_into needs a pooling: with none the number of rows is not known; use embed_with".into(),
            ));
        }
        if out.len() != texts_len * dim {
            let message = format!("the buffer has {} values, expected {texts_len} texts of {dim}", out.len());
            return Err(Error::Input(message));
        }
        let mut truncated = Vec::new();
        run::fill(&self.model, &self.recipe, texts, out, &mut Vec::new(), &mut truncated)?;
        self.recipe.warn(truncated.first(), truncated.len(), texts_len);
        Ok(())
    }

    /// The vectors of a stream that need not fit into memory, in its order. Up to a thousand texts are read ahead, so that
    /// they can be packed. What is yielded holds the item itself, which may carry more than its text.
    ///
    /// ```
    /// # const MODEL: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/models/SmolLM2-135M-Instruct.Q4_1.gguf");
    /// # let embedder = tallow::Embedder::load(MODEL)?;
    /// for embedding in embedder.embed_iter("one line\nanother".lines()) {
    ///     let embedding = embedding?;
    ///     println!("{}: {} tokens, {} dimensions", embedding.text, embedding.tokens, embedding.vector.len());
    /// }
    /// # Ok::<(), tallow::Error>(())
    /// ```
    pub fn embed_iter<I>(&self, texts: I) -> EmbedIter<I::IntoIter>
    where
        I: IntoIterator,
        I::Item: AsRef<str>,
    {
        EmbedIter::new(self.model.clone(), self.recipe.clone(), texts.into_iter())
    }

    /// The vectors of texts that are tokens already, special ones included. Nothing is added and nothing cut.
    ///
    /// # Errors
    /// [`Error::TextTooLong`], and [`Error::Input`] for a token outside the vocabulary.
    pub fn embed_tokens<T: AsRef<[u32]>>(&self, texts: &[T]) -> Result<Array2<f32>> {
        let texts: Vec<&[u32]> = texts.iter().map(AsRef::as_ref).collect();
        if let Some((index, tokens)) = texts.iter().enumerate().find(|(_, tokens)| tokens.len() > self.max_tokens()) {
            let (tokens, limit) = (tokens.len(), self.max_tokens());
            return Err(Error::TextTooLong { index, text: "tokens".into(), tokens, limit });
        }
        let rows = if self.recipe.pooling == Pooling::None { texts.iter().map(|t| t.len()).sum() } else { texts.len() };
        let mut out = vec![0.0; rows * self.recipe.dim];
        run::compute(&self.model, &self.recipe, &texts, &mut out)?;
        Ok(run::rows(out, rows, self.recipe.dim))
    }

    /// How alike the rows of `a` and `b` are, by the model's own measure (the cosine, for nearly all): a row for each of `a`,
    /// a column for each of `b`; larger is nearer.
    ///
    /// # Panics
    /// If the vectors of `a` and `b` have different widths.
    pub fn similarity<'a, 'b>(&self, a: impl Into<ArrayView2<'a, f32>>, b: impl Into<ArrayView2<'b, f32>>) -> Array2<f32> {
        similarity::between(self.model.spec.similarity, a.into(), b.into())
    }

    /// For each row of `queries` the `k` rows of `documents` that are nearest by the model's own measure: their numbers and
    /// how alike they are, best first, the earlier one first among equals. All of them where there are no more than `k`. The
    /// whole matrix of similarities is never held.
    ///
    /// # Panics
    /// If the vectors of `queries` and `documents` have different widths.
    pub fn top_k<'a, 'b>(
        &self,
        queries: impl Into<ArrayView2<'a, f32>>,
        documents: impl Into<ArrayView2<'b, f32>>,
        k: usize,
    ) -> Vec<Vec<(usize, f32)>> {
        similarity::top_k(self.model.spec.similarity, queries.into(), documents.into(), k)
    }

    /// Values in a vector.
    pub fn dimensions(&self) -> usize {
        self.recipe.dim
    }

    /// The most tokens of a text that are read, special ones included.
    pub fn max_tokens(&self) -> usize {
        self.recipe.limit
    }

    /// The pooling in use.
    pub fn pooling(&self) -> Pooling {
        self.recipe.pooling
    }

    /// Whether vectors are normalised.
    pub fn normalises(&self) -> bool {
        self.recipe.norm.is_some()
    }

    /// The model's prompts: names and texts.
    pub fn prompts(&self) -> &[(String, String)] {
        &self.model.spec.prompts
    }

    /// The options of calls that name none.
    pub fn options(&self) -> &EmbedOptions {
        &self.recipe.options
    }

    /// What the network looks like.
    pub fn spec(&self) -> &Spec {
        self.model.loaded.network.spec()
    }

    /// Where the model came from, what it is made of, and its licence.
    pub fn info(&self) -> &ModelInfo {
        &self.model.loaded.info
    }

    /// The tokenizer.
    pub fn tokenizer(&self) -> &Tokenizer {
        &self.model.loaded.tokenizer
    }

    /// The device in use.
    pub fn device(&self) -> DeviceChoice {
        self.model.loaded.info.device
    }
}

impl std::fmt::Debug for Embedder {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Embedder")
            .field("model", &self.info().name)
            .field("dimensions", &self.dimensions())
            .field("max_tokens", &self.max_tokens())
            .finish_non_exhaustive()
    }
}
