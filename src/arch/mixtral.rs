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

/// The experts, where a file states any. Only Qwen's configurations can leave their weights as they are.
pub(super) fn experts(h: &Hparams) -> Result<Option<Mlp>> {
    let heeds = ["mixtral", "qwen3_moe", "qwen3moe"].contains(&h.family()) || h.is_gguf() && h.family() == "llama";
    if !heeds {
        return Ok(None);
    }
    let Some(count) = h.optional_size("experts")? else { return Ok(None) };
    // A width of layers without experts, of which there are none, may stand beside the experts'.
    let dim = match (h.optional_size("expert_dim")?, h.optional_size("mlp_dim")?) {
        (Some(dim), _) => dim,
        (None, _) => h.need("mlp_dim")?,
    };
    Ok(Some(Mlp::Experts {
        act: h.activation(Activation::Silu)?,
        dim,
        count,
        used: h.need("experts_used")?,
        renormalise: h.flag("norm_topk_prob", h.is_gguf() || h.family() == "mixtral")?,
    }))
}
