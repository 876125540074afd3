//! In-process LLM inference on Candle: no server, no Python.
//!
//! Load a [`Model`], open a [`Session`], and iterate over what it generates; or load an [`Embedder`] for vectors of texts. The example runs with the model that is in
//! the repository:
//!
//! ```
//! use tallow::{GenerateOptions, Message, Model};
//! # const SMOLLM2: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/models/SmolLM2-135M-Instruct.Q4_1.gguf");
//!
//! let model = Model::load(SMOLLM2)?; // a path, or a name: "smollm2", "org/repo"
//! let mut session = model.session()?;
//! let options = GenerateOptions { seed: Some(7), max_tokens: Some(16), ..model.defaults() };
//! for piece in session.chat(&[Message::user("What is a lighthouse?")], &options)? {
//!     print!("{}", piece?.text);
//! }
//! # Ok::<(), tallow::Error>(())
//! ```
//!
//! Everything is synchronous. A [`Model`] and an [`Embedder`] take `&self`, are `Send + Sync` and cheap to clone; a [`Session`] is one
//! text's own, and is written to. Errors are one type,
//! [`Error`], with a variant for each thing a caller can act on. Progress and warnings go to the `log` facade.
//!
//! [`text`], [`sample`], [`store`] and [`device`] hold what the types here are made of. The other public modules are for
//! benches and experiments, hidden from this documentation, and not covered by semantic versioning.

#[doc(hidden)]
pub mod arch;
#[doc(hidden)]
pub mod backend;
#[doc(hidden)]
pub mod bench;
mod bytes;
mod cancel;
mod checkpoint;
#[doc(hidden)]
pub mod cpu;
pub mod device;
mod embed;
mod engine;
mod error;
mod files;
#[doc(hidden)]
pub mod hparams;
mod json;
#[doc(hidden)]
pub mod model;
mod options;
#[doc(hidden)]
pub mod quant;
pub mod sample;
#[doc(hidden)]
pub mod spec;
pub mod store;
#[doc(hidden)]
pub mod tensors;
pub mod text;

pub use backend::{CacheType, Input, InputRow};
pub use bytes::Bytes;
#[cfg(feature = "hub")]
pub use checkpoint::Download;
pub use checkpoint::{
    BeyondWindow, Checkpoint, Cost, DenseLayer, EmbedSpec, ModelInfo, ModelSummary, Similarity, ensure, summary,
};
pub use device::DeviceChoice;
pub use embed::{EmbedIter, Embedder, Embedding, Embeddings, Truncated};
#[cfg(feature = "async")]
pub use engine::PieceStream;
pub use engine::{DoneReason, GenerateBatch, Generation, JoinError, Logprobs, Model, Perplexity, Piece, Score, Session, Usage};
pub use error::{Error, NotFetched, Result};
/// The crate of [`Embedder`]'s arrays.
pub use ndarray;
pub use options::{Cancel, EmbedOptions, GenerateOptions, LoadOptions, Overflow, Pooling, Prompt};
pub use quant::Dtype;
pub use sample::{LogitsHook, NextToken, SampleOptions};
pub use spec::Spec;
pub use store::hub_ref::HubRef;
pub use store::local::model_folders;
pub use store::{Found, ModelFiles, find, find_here, find_with, reference_of};
pub use text::Message;
