//! Qwen2, Qwen2.5 and Qwen3: Llama with biases on queries, keys and values (2), or with query/key norms instead (3).
//!
//! `sliding_window` counts only where `use_sliding_window` says so, and then for the layers from `max_window_layers` on.
//! Reference: transformers' `modeling_qwen2.py` and `modeling_qwen3.py`.

use crate::error::Result;
use crate::hparams::Hparams;
use crate::spec::*;

/// Spec of Qwen2 and Qwen2.5.
pub fn qwen2(h: &Hparams) -> Result<Spec> {
    let base = super::llama::spec(h)?;
    let window = h.window_from(base.layers)?;
    let attention = Attention { qkv_bias: true, window, ..base.attention };
    Ok(Spec { family: "qwen2", attention, ..base })
}

/// Qwen3's spec.
pub fn qwen3(h: &Hparams) -> Result<Spec> {
    let base = super::llama::spec(h)?;
    let window = h.window_from(base.layers)?;
    Ok(Spec { family: "qwen3", attention: Attention { window, qk_norm: QkNorm::Head, ..base.attention }, ..base })
}

/// Qwen3's with a mixture of experts. Its window, where there is one, is that of every layer.
pub fn qwen3_moe(h: &Hparams) -> Result<Spec> {
    let base = super::llama::spec(h)?;
    let window = h.switched_window()?.map(|size| Window { size, layers: Layers::All });
    Ok(Spec { family: "qwen3moe", attention: Attention { window, qk_norm: QkNorm::Head, ..base.attention }, ..base })
}
