//! StarCoder2: Llama with layer norms, biases everywhere and a plain tanh-GELU feed-forward.
//!
//! Reference: transformers' `modeling_starcoder2.py`.

use crate::error::Result;
use crate::hparams::Hparams;
use crate::spec::*;

/// StarCoder2's spec.
pub fn spec(h: &Hparams) -> Result<Spec> {
    let base = super::llama::spec(h)?;
    let bias = h.flag("use_bias", true)?;
    let window = h.window(base.layers, 0)?;
    let act = h.activation(Activation::GeluTanh)?;
    Ok(Spec {
        family: "starcoder2",
        norm: Norm::Layer { eps: h.positive("layer_eps")?.unwrap_or(1e-5) },
        attention: Attention { qkv_bias: bias, out_bias: bias, window, ..base.attention },
        mlp: Mlp::Plain { act, dim: h.need("mlp_dim")?, bias },
        head: if h.tied(true)? { Head::Tied } else { Head::Own },
        ..base
    })
}
