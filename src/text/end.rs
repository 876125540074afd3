//! Which ids end a generation.
//!
//! A Hugging Face folder says so itself, and `generate()` of transformers ends exactly there: the list of
//! `generation_config.json`, or else of `config.json`. Nothing is guessed in addition. A GGUF file names its end tokens less
//! carefully (often EOS alone, for a model whose turns end with another token), so there the keys are joined by the control
//! tokens that end a turn by convention, as llama.cpp does (`special_eog_ids` in `llama-vocab.cpp`), but only where the
//! vocabulary marks them as special: `</s>` is ordinary text in Gemma's. Fill-in-the-middle tokens, which llama.cpp counts
//! as ends too, are not.
//!
//! In a chat there is one more: the token that the template itself writes after an assistant's message
//! ([`super::ChatTemplate::turn_end`]). A model trained on the template ends its turn with that one whatever its config says
//! (Llama 3's first release listed `<|end_of_text|>` alone). Callers add it for chats and leave it out for raw prompts, so
//! that those stay equal to `generate()`.

use super::special::TURN_ENDS;
use super::tokenizer::Tokenizer;

/// What is known about end tokens.
#[derive(Debug, Clone, Copy, Default)]
pub struct EndSources<'a> {
    /// `eos_token_id` of `generation_config.json`: a number or a list.
    pub generation_config: Option<&'a [u32]>,
    /// `eos_token_id` of `config.json`.
    pub config: Option<&'a [u32]>,
    /// What the chat template writes after an answer; only for chats.
    pub turn_end: Option<u32>,
}

/// The ids that end a generation, in ascending order.
pub fn end_ids(tokenizer: &Tokenizer, sources: &EndSources<'_>) -> Vec<u32> {
    let mut ids = match sources.generation_config.or(sources.config) {
        Some(ids) => ids.to_vec(),
        None => conventional(tokenizer),
    };
    ids.extend(sources.turn_end);
    ids.sort_unstable();
    ids.dedup();
    ids
}

fn conventional(tokenizer: &Tokenizer) -> Vec<u32> {
    let roles = tokenizer.special_ids();
    let special = |piece: &str| tokenizer.id(piece).filter(|&id| tokenizer.is_special(id));
    let mut ids: Vec<u32> = [roles.eos, roles.eot, roles.eom].into_iter().flatten().collect();
    ids.extend(TURN_ENDS.iter().filter_map(|piece| special(piece)));
    // In these two families `<|end|>` closes a message within a turn, and `</s>` is text.
    let has = |piece: &str| special(piece).is_some();
    let harmony = (has("<|return|>") && has("<|call|>")) || (has("<|flush|>") && (has("<|call|>") || has("<|calls|>")));
    if harmony && let Some(end) = special("<|end|>") {
        ids.retain(|&id| id != end);
    }
    if has("<|tool_response>")
        && let Some(end) = special("</s>")
    {
        ids.retain(|&id| id != end);
    }
    ids
}
