//! StarCoder2: Llama with layer norms, biases everywhere and a plain tanh-GELU feed-forward.
//!
//! Reference: transformers' `modeling_starcoder2.py`.

use crate::error::Result;
use crate::hparams::Hparams;
use crate::spec::*;

/// StarCoder2's spec.
pub fn spec(h: &Hparams) -> Result<Spec> {
    let base = super::llama::with_norm(h, Norm::Layer { eps: h.eps("layer_eps", 1e-5)? })?;
    let bias = h.flag("use_bias", true)?;
    let window = h.window_everywhere(base.layers)?;
    let act = h.activation(Activation::GeluTanh)?;
    Ok(Spec {
        family: "starcoder2",
        attention: Attention { qkv_bias: bias, out_bias: bias, window, ..base.attention },
        mlp: Mlp::Plain { act, dim: h.need("mlp_dim")?, bias },
        head: h.head(true)?,
        ..base
    })
}
