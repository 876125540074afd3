//! Mixtral and Qwen3-MoE: Mistral and Qwen3 with a mixture of experts in place of each feed-forward.
//!
//! GGUF files of Mixtral call themselves `llama` and state a number of experts. Reference: transformers'
//! `modeling_mixtral.py` and `modeling_qwen3_moe.py`.

use crate::error::{Error, Result};
use crate::hparams::Hparams;
use crate::spec::*;

/// Mixtral's spec.
pub fn mixtral(h: &Hparams) -> Result<Spec> {
    let base = super::llama::spec(h)?;
    let attention = Attention { window: h.window_everywhere(base.layers)?, ..base.attention };
    let position = Position::Rope(vec![h.rope_from(1_000_000.0, base.attention.head_dim, base.context)?]);
    Ok(Spec { family: "mixtral", attention, position, ..base })
}

/// Qwen3-MoE's spec.
pub fn qwen3_moe(h: &Hparams) -> Result<Spec> {
    if h.is_listed("mlp_only_layers") || h.size("sparse_step")?.is_some_and(|step| step != 1) {
        let what = format!("{}: layers without experts between those that have them", h.file());
        return Err(Error::unsupported(what, "experts in every layer"));
    }
    super::qwen::qwen3_moe(h)
}
