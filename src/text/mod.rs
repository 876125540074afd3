//! Text to tokens and back: tokenizers, the incremental detokeniser, chat templates and what ends a turn.
//!
//! The layer knows neither tensors nor the network. A caller reads files (or a GGUF's metadata) and hands over bytes or a
//! [`Vocab`]; what comes back is [`Tokenizer`], [`Detokeniser`] and [`ChatTemplate`], each `Send + Sync`. The `tokenizers`
//! crate is wrapped in `tokenizer.rs` and its folder; nothing else names it.

mod charsmap;
mod class;
mod detokenise;
mod end;
mod jinja;
mod message;
mod pieces;
mod pre;
mod scores;
mod settings;
mod special;
mod stop;
mod template;
mod tokenizer;
mod vocab;

pub use detokenise::{Detokeniser, Start};
pub use end::{EndSources, end_ids};
pub use message::Message;
pub use settings::TokenizerFiles;
pub use special::{SpecialTokens, TemplateFiles, template_source};
pub use template::ChatTemplate;
pub use tokenizer::Tokenizer;
pub use vocab::{SpecialIds, TokenType, Vocab};
