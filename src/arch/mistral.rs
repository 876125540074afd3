//! Mistral 7B (v0.1 to v0.3), Mistral Nemo, neural-chat: Llama with a sliding window in the first of them.
//!
//! Nemo's heads are narrower than `dim / heads`, which the file states. Reference: transformers' `modeling_mistral.py`.

use crate::error::Result;
use crate::hparams::Hparams;
use crate::spec::*;

/// Mistral's spec.
pub fn spec(h: &Hparams) -> Result<Spec> {
    let base = super::llama::spec(h)?;
    let attention = Attention { window: h.window_everywhere(base.layers)?, ..base.attention };
    Ok(Spec { family: "mistral", attention, ..base })
}
