//! Choosing the next token from a row of logits: biases, penalties, filters, and one seeded draw.
//!
//! [`SampleOptions`] says what is wanted, a [`Sampler`] does it, [`log_probabilities`] reports what the model thought.
//! The order of the steps is llama.cpp's: logit biases, penalties, top_k, typical_p, top_p, min_p, and the temperature
//! last, so that the filters see the model's own distribution whatever the temperature. Other programs put the temperature
//! first, and the same numbers then give another text.
//!
//! Everything here is plain slices. A row of logits is `(vocab,)` in f32, the index is the token's id. The same options,
//! seed, logits and history give the same token on any machine: candidates are ordered by logit and then by id, sums
//! have one order, the exponential is our own, and the random numbers come from ChaCha12.

mod candidates;
mod exp;
mod filters;
mod hook;
mod log_probabilities;
mod options;
mod penalties;
mod sampler;

pub use hook::{LogitsHook, NextToken};
pub use log_probabilities::log_probabilities;
pub use options::SampleOptions;
pub use sampler::Sampler;
