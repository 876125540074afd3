//! In-process LLM inference on Candle.

mod bytes;
mod error;
pub mod kernels;
pub mod quant;
pub mod sample;
pub mod spec;
pub mod text;
pub mod weights;

pub use bytes::Bytes;
pub use error::{Error, Result};
