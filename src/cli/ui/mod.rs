//! What several commands print with: text, bars, tables, errors, and what a shell completes.

pub mod answer;
pub mod color;
pub mod complete;
pub mod failure;
pub mod file;
pub mod interrupt;
pub mod logger;
pub mod memory;
pub mod npy;
pub mod number;
pub mod output;
pub mod progress;
pub mod table;
pub mod time;
