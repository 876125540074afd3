//! Mistral 7B (v0.1 to v0.3), Mistral Nemo, neural-chat: Llama with a sliding window in the first of them.
//!
//! Nemo's heads are narrower than `dim / heads`, which the file states. Reference: transformers' `modeling_mistral.py`.

use crate::error::Result;
use crate::hparams::Hparams;
use crate::spec::*;

/// Mistral's spec.
pub fn spec(h: &Hparams) -> Result<Spec> {
    let base = super::llama::spec(h)?;
    // transformers' MistralConfig has a window of 4,096 where config.json is silent; `null` means none.
    let window = if h.is_stated("window") || h.is_gguf() { h.optional_size("window")? } else { Some(4096) };
    let window = window.map(|size| Window { size, layers: Layers::All });
    let attention = Attention { window, ..base.attention };
    Ok(Spec { family: "mistral", attention, ..base })
}
