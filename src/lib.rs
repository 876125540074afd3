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
//! The modules below are the layers it is built from, lowest first: [`spec`] and [`quant`] (plain definitions), [`sample`]
//! and [`text`], [`catalog`] and [`mod@reference`] (names), [`hub`] (models of the Hub), [`sources`] (models on this machine),
//! [`kernels`] (CPU inner loops), [`device`], [`weights`] (files), [`nn`] (steps of a forward), [`model`] (the forward),
//! [`arch`] (families), [`mod@bench`] (measuring). They are public for benches and experiments; most
//! programs need only what is re-exported here.

pub mod arch;
pub mod bench;
mod bytes;
pub mod catalog;
pub mod device;
mod embed;
mod engine;
mod error;
pub mod hub;
mod json;
pub mod kernels;
mod load;
pub mod model;
pub mod nn;
mod options;
pub mod quant;
pub mod reference;
pub mod sample;
pub mod sources;
pub mod spec;
pub mod text;
pub mod weights;

pub use bytes::Bytes;
pub use device::DeviceChoice;
pub use embed::{EmbedIter, Embedder, Embedding, Embeddings, Truncated};
pub use engine::{DoneReason, GenerateBatch, Generation, JoinError, Logprobs, Model, Perplexity, Piece, Session, Usage};
pub use error::{Error, Result};
pub use load::{
    BeyondWindow, Checkpoint, Cost, Dense, EmbedSpec, Glance, Located, ModelInfo, Place, Remote, Similarity, cost, find,
    find_with, glance, not_here, reference_of,
};
#[cfg(feature = "hub")]
pub use load::{Prepared, prepare};
/// The crate of [`Embedder`]'s arrays.
pub use ndarray;
pub use nn::CacheType;
pub use options::{Cancel, EmbedOptions, GenerateOptions, LoadOptions, Overflow, Pooling, Prompt};
pub use reference::HubRef;
pub use sample::SampleOptions;
pub use sources::model_folders;
pub use text::Message;
