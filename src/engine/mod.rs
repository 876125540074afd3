//! What a user holds: a [`Model`], its [`Session`]s, and the loop that makes tokens.

mod batch;
mod generation;
mod pace;
mod perplexity;
mod piece;
mod prompt;
mod score;
mod session;
mod step;
#[cfg(feature = "async")]
mod stream;
#[cfg(test)]
mod tests;
mod text;
mod turn;
mod writer;

use crate::Bytes;
use crate::backend::Input;
use crate::checkpoint::{Checkpoint, Loaded, ModelInfo, ensure};
use crate::device::DeviceChoice;
use crate::error::{Error, Result};
use crate::options::{GenerateOptions, LoadOptions};
use crate::spec::Spec;
use crate::store::ModelFiles;
use crate::text::{ChatTemplate, Message, Tokenizer};
pub use batch::GenerateBatch;
pub use generation::Generation;
pub(crate) use pace::CHUNK;
pub use perplexity::Perplexity;
pub use piece::{DoneReason, Logprobs, Piece, Usage};
pub use score::Score;
pub use session::{JoinError, Session};
use std::path::Path;
use std::sync::Arc;
#[cfg(feature = "async")]
pub use stream::PieceStream;

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
    /// Those of [`Model::load_with`], but for what finding and fetching may come to.
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
    ///
    /// # Errors
    /// [`Error::Unsupported`] for an encoder, which makes vectors and no text.
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

    /// The system message that a chat with this model begins with unless it has one of its own. Only models of Ollama's have
    /// one; [`Session::chat`] takes the messages as they are, so it is for the caller to put it first.
    pub fn system(&self) -> Option<&str> {
        self.inner.opening.system.as_deref()
    }

    /// What has been said when a chat with this model begins, behind the system message.
    pub fn history(&self) -> &[Message] {
        &self.inner.opening.history
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
        let mut rows = score::Rows { first: if all { 0 } else { tokens.len() - 1 }, logits: Vec::new() };
        self.read_apart(tokens, &mut rows)?;
        Ok(rows.logits)
    }

    /// Reads `tokens` as a text of their own, which is forgotten.
    fn read_apart(&self, tokens: &[u32], reader: &mut dyn turn::Reader) -> Result<()> {
        if tokens.len() > self.context() {
            return Err(Error::ContextOverflow { wanted: tokens.len(), limit: self.context() });
        }
        let network = &*self.inner.network;
        let mut text = text::Text::new(network, tokens.len())?;
        text.become_text(network, tokens.iter().map(|token| Input::Token(*token)).collect())?;
        step::read_all(network, &mut text, reader, None, &mut step::Work::default())
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
