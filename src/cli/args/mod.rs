//! What several commands take: flags, prompts, the model's name.

pub mod fetch;
pub mod input;
pub mod parameters;
pub mod shared;
