//! What a user holds: a [`Model`], its [`Session`]s, and the loop that makes tokens.

mod batch;
mod generation;
mod overflow;
mod perplexity;
mod session;
#[cfg(test)]
mod tests;

use crate::Bytes;
use crate::backend::Batch;
use crate::checkpoint::{Checkpoint, Loaded, ModelInfo, ensure};
use crate::device::DeviceChoice;
use crate::error::{Error, Result};
use crate::options::{GenerateOptions, LoadOptions};
use crate::spec::Spec;
use crate::store::ModelFiles;
use crate::text::{ChatTemplate, Tokenizer};
pub use batch::{GenerateBatch, JoinError};
pub use generation::{DoneReason, Generation, Logprobs, Piece, Usage};
pub use perplexity::Perplexity;
pub use session::Session;
use std::path::Path;
use std::sync::Arc;

/// Tokens read in one forward while a prompt is processed. The result does not depend on it.
pub(crate) const CHUNK: usize = 512;

/// A loaded model: immutable, cheap to clone, shared by any number of sessions and threads.
///
/// ```no_run
/// let model = tallow::Model::load("smollm2")?;
/// let mut session = model.session()?;
/// for piece in session.generate("Once upon a time", &model.defaults())? {
///     print!("{}", piece?.text);
/// }
/// # Ok::<(), tallow::Error>(())
/// ```
#[derive(Clone)]
pub struct Model {
    inner: Arc<Loaded>,
}

impl Model {
    /// Loads a model with default options: a `.gguf` file, a folder in Hugging Face layout, a name of the catalogue
    /// (`smollm2`, `llama3.2:1b`) or of the Hub (`org/repo`, `org/repo:Q4_K_M`). What is not on this machine is fetched
    /// ([`LoadOptions::progress`] hears how it goes), unless [`LoadOptions::offline`] or `HF_HUB_OFFLINE` forbids it.
    ///
    /// # Errors
    /// [`Error::NotFound`], [`Error::Unsupported`], [`Error::Corrupt`], [`Error::OutOfMemory`] and, where a model has to be
    /// fetched, [`Error::Network`] and its kin say what to do.
    pub fn load(name: impl AsRef<Path>) -> Result<Model> {
        Model::load_with(name, &LoadOptions::default())
    }

    /// Loads a model by the same names, with options.
    ///
    /// # Errors
    /// Those of [`Model::load`], and [`Error::Cancelled`] by [`LoadOptions::cancel`].
    pub fn load_with(name: impl AsRef<Path>, options: &LoadOptions) -> Result<Model> {
        Model::at(ensure(name, options)?, options)
    }

    /// Loads a model from the bytes of a GGUF file.
    ///
    /// # Errors
    /// Those of [`Model::at`].
    pub fn from_gguf_bytes(bytes: impl Into<Bytes>, options: &LoadOptions) -> Result<Model> {
        Model::at(ModelFiles::from_gguf_bytes(bytes), options)
    }

    /// Loads a model that has been found, or is in memory ([`ModelFiles::from_memory`]).
    ///
    /// # Errors
    /// [`Error::Unsupported`], [`Error::Corrupt`], [`Error::OutOfMemory`], [`Error::Cancelled`].
    pub fn at(files: ModelFiles, options: &LoadOptions) -> Result<Model> {
        options.check_cancelled()?;
        Model::from_checkpoint(Checkpoint::at(files)?, options)
    }

    /// Loads a model that has been opened.
    ///
    /// # Errors
    /// Those of [`Model::at`].
    pub fn from_checkpoint(checkpoint: Checkpoint, options: &LoadOptions) -> Result<Model> {
        Ok(Model { inner: Arc::new(checkpoint.load(options)?) })
    }

    /// A model around any network, for tests of the loop.
    #[cfg(test)]
    pub(crate) fn from_inner(inner: Loaded) -> Model {
        Model { inner: Arc::new(inner) }
    }

    pub(crate) fn inner(&self) -> &Loaded {
        &self.inner
    }

    /// An empty session.
    pub fn session(&self) -> Result<Session> {
        Session::new(self.clone())
    }

    /// An empty batch, for several texts that are generated together.
    pub fn generate_batch(&self) -> GenerateBatch {
        GenerateBatch::new(self.clone())
    }

    /// Whether both are the same loaded model.
    pub(crate) fn is(&self, other: &Model) -> bool {
        Arc::ptr_eq(&self.inner, &other.inner)
    }

    /// The options this model was published with, over tallow's own defaults.
    pub fn defaults(&self) -> GenerateOptions {
        self.inner.defaults.clone()
    }

    /// What the network looks like.
    pub fn spec(&self) -> &Spec {
        self.inner.network.spec()
    }

    /// Where the model came from, what it is made of, and its licence.
    pub fn info(&self) -> &ModelInfo {
        &self.inner.info
    }

    /// The tokenizer.
    pub fn tokenizer(&self) -> &Tokenizer {
        &self.inner.tokenizer
    }

    /// The chat template, if the model has one.
    ///
    /// # Errors
    /// [`Error::Template`] if it does not compile.
    pub fn template(&self) -> Result<Option<&ChatTemplate>> {
        self.inner.template.get()
    }

    /// The tokens that end a text. A chat also ends at the token that the template writes after an answer.
    pub fn end_ids(&self) -> &[u32] {
        &self.inner.end_ids
    }

    /// Positions a session may hold.
    pub fn context(&self) -> usize {
        self.inner.context
    }

    /// The device in use.
    pub fn device(&self) -> DeviceChoice {
        self.inner.info.device
    }

    /// Logits after reading `tokens` from the start: one row of `vocab` values for the last position, or, with `all`, one
    /// for every position.
    ///
    /// # Errors
    /// [`Error::Input`] for no tokens or ids outside the vocabulary, [`Error::ContextOverflow`] for too many.
    pub fn logits(&self, tokens: &[u32], all: bool) -> Result<Vec<f32>> {
        if tokens.is_empty() {
            return Err(Error::Input("the prompt gives no token; logits need at least one".into()));
        }
        let first = if all { 0 } else { tokens.len() - 1 };
        self.logits_from(tokens, first)
    }

    /// Logits of the positions from `first` on, row after row.
    pub(crate) fn logits_from(&self, tokens: &[u32], first: usize) -> Result<Vec<f32>> {
        if tokens.len() > self.context() {
            return Err(Error::ContextOverflow { wanted: tokens.len(), limit: self.context() });
        }
        let network = &self.inner.network;
        let mut cache = network.cache(tokens.len())?;
        let (mut result, mut rows) = (Vec::new(), Vec::new());
        for (i, chunk) in tokens.chunks(CHUNK).enumerate() {
            let outputs = (0..chunk.len()).filter(|row| i * CHUNK + row >= first).collect();
            let batch = Batch { tokens: chunk.to_vec(), starts: vec![0], outputs };
            network.logits(&batch, &mut [&mut cache], &mut rows)?;
            result.extend_from_slice(&rows);
        }
        Ok(result)
    }
}

impl std::fmt::Debug for Model {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Model")
            .field("name", &self.info().name)
            .field("family", &self.spec().family)
            .field("context", &self.context())
            .field("device", &self.device())
            .finish_non_exhaustive()
    }
}
