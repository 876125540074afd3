//! Measuring: how fast a model reads and writes, with an interval, and what share of the machine's limits that is.
//!
//! The tests are those of llama.cpp's `llama-bench`, so that figures can be compared: random tokens, forwards only, no
//! sampling and no tokenizing; and texts of random tokens that become vectors. [`measure()`] takes the samples, [`Summary`] says what they mean, [`Roofline`] measures the
//! machine, and [`Work`] counts what a test reads and multiplies.
//!
//! The trap is a machine that changes while one looks: other people's load comes and goes within minutes. So the tests and
//! models of a report take turns in the order A B B A, and the limits are measured in the same minutes.

mod machine;
mod measure;
mod peer;
mod roofline;
mod summary;
mod timed;
mod work;

pub use machine::{cpu_name, peak_memory, reset_peak_memory};
pub use measure::{Measurement, Plan, Runner, measure};
pub use peer::Peer;
pub use roofline::Roofline;
pub use summary::Summary;
pub use timed::{Sample, Test, Timed};
pub use work::Work;

/// Tokens of a prompt that the engine reads in one forward.
pub const CHUNK: usize = crate::engine::CHUNK;
