//! GPT-2: learned positions, layer norms with biases, one fused q/k/v projection, a plain GELU feed-forward, a tied head.
//!
//! Reference: transformers' `modeling_gpt2.py`. The head is tied whether or not a file says so, unless it carries another.

use crate::error::{Error, Result};
use crate::hparams::Hparams;
use crate::spec::*;

/// GPT-2's spec.
pub fn spec(h: &Hparams) -> Result<Spec> {
    let dim = h.need("dim")?;
    let heads = h.need("heads")?;
    if dim % heads != 0 {
        return Err(Error::corrupt(h.file(), format!("{heads} heads do not divide a width of {dim}")));
    }
    h.repeats("kv_heads", heads)?;
    h.repeats("head_dim", dim / heads)?;
    h.repeats("value_dim", dim / heads)?;
    if h.flag("add_cross_attention", false)? {
        return Err(Error::unsupported(format!("{}: cross-attention", h.file()), "decoder-only GPT-2"));
    }
    let scale = match (h.flag("scale_attn_weights", true)?, h.flag("scale_attn_by_inverse_layer_idx", false)?) {
        (true, false) => ScoreScale::HeadDim,
        (true, true) => ScoreScale::HeadDimAndLayer,
        (false, false) => ScoreScale::One,
        (false, true) => ScoreScale::Layer,
    };
    Ok(Spec {
        family: "gpt2",
        dim,
        layers: h.need("layers")?,
        vocab: super::llama::vocab(h)?,
        context: h.need("context")?,
        token_types: None,
        embed_norm: false,
        norm: Norm::Layer { eps: h.eps("layer_eps", 1e-5)? },
        wiring: Wiring::PreNorm,
        attention: Attention {
            heads,
            kv_heads: heads,
            head_dim: dim / heads,
            causal: true,
            window: None,
            qkv_bias: true,
            out_bias: true,
            qk_norm: QkNorm::None,
            scale,
            cap: None,
        },
        position: Position::Learned { offset: 0 },
        mlp: Mlp::Plain { act: h.activation(Activation::GeluTanh)?, dim: h.size("mlp_dim")?.unwrap_or(4 * dim), bias: true },
        scale: Scale::NONE,
        head: h.head(true)?,
    })
}
