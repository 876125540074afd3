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
    let window = if h.flag("use_sliding_window", false)? { h.window_from(base.layers)? } else { None };
    let attention = Attention { qkv_bias: true, window, ..base.attention };
    Ok(Spec { family: "qwen2", attention, ..base })
}

/// Qwen3's spec.
pub fn qwen3(h: &Hparams) -> Result<Spec> {
    let base = qwen2(h)?;
    let qkv_bias = h.flag("attention_bias", false)?;
    let attention = Attention { qkv_bias, out_bias: qkv_bias, qk_norm: QkNorm::Head, ..base.attention };
    Ok(Spec { family: "qwen3", attention, ..base })
}
