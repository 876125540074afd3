//! A file or folder for each subcommand.

pub mod absent;
pub mod bench;
pub mod chat;
pub mod detokenize;
pub mod devices;
pub mod doctor;
pub mod embed;
pub mod list;
pub mod logits;
pub mod perplexity;
#[cfg(feature = "hub")]
pub mod pull;
pub mod rm;
pub mod run;
pub mod show;
pub mod spec;
pub mod template;
pub mod tokenize;
