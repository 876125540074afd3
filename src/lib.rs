//! In-process LLM inference on Candle.

pub mod arch;
mod bytes;
pub mod device;
mod engine;
mod error;
pub mod kernels;
mod load;
pub mod model;
pub mod nn;
pub mod quant;
pub mod sample;
pub mod spec;
pub mod text;
pub mod weights;

pub use bytes::Bytes;
pub use device::DeviceChoice;
pub use engine::{
    DoneReason, GenerateOptions, Generation, LoadOptions, Logprobs, Model, Overflow, Perplexity, Piece, Session, Usage,
};
pub use error::{Error, Result};
pub use load::{Checkpoint, ModelInfo, model_folders};
pub use nn::CacheType;
pub use sample::SampleOptions;
pub use text::Message;
