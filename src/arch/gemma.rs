//! Gemma 1, 2 and 3 (text): Llama with scaled embeddings, a tanh-GELU gate, norms stored around 0, and a tied head.
//!
//! From 2 on norms lie on both sides of a sub-layer and some layers have a window; 2 caps scores and logits; 3 has query/key
//! norms instead, and its window layers rotate by a base of their own. Gemma 1's files say `hidden_act: gelu` and mean its
//! tanh approximation. GGUF files hold the norms' weights with the 1 added. Reference: transformers' `modeling_gemma3.py`.

use crate::error::Result;
use crate::hparams::Hparams;
use crate::spec::*;

/// Gemma 1's spec.
pub fn gemma(h: &Hparams) -> Result<Spec> {
    let norm = Norm::Rms { eps: h.eps("rms_eps", 1e-6)?, offset: if h.is_gguf() { 0.0 } else { 1.0 } };
    let base = super::llama::with_norm(h, norm)?;
    // The first family's files say `hidden_act`, and "gelu" where they mean its tanh approximation.
    let name = if h.family() == "gemma" { "activation" } else { "hidden_activation" };
    let act = match h.activation_of(name, Activation::GeluTanh)? {
        Activation::Gelu if h.family() == "gemma" => Activation::GeluTanh,
        act => act,
    };
    Ok(Spec {
        family: "gemma",
        mlp: Mlp::Gated { act, dim: h.need("mlp_dim")?, bias: false },
        scale: Scale { embed: (base.dim as f64).sqrt(), ..Scale::NONE },
        head: h.head(true)?,
        ..base
    })
}

/// Gemma 2's spec.
pub fn gemma2(h: &Hparams) -> Result<Spec> {
    let base = gemma(h)?;
    let attention = Attention {
        window: h.window(base.layers, 2)?,
        scale: score_scale(h, &base, 46)?,
        cap: h.cap("score_cap", Some(50.0))?,
        ..base.attention
    };
    let scale = Scale { cap: h.cap("logit_cap", Some(30.0))?, ..base.scale };
    let mut position = base.position;
    // llama.cpp reads a second base of the rotation here too.
    if let (true, Position::Rope(ropes), Some(window)) = (h.is_gguf(), &mut position, &attention.window)
        && let Some(theta) = h.positive("local_rope_theta")?
    {
        let local = Rope { theta, layers: window.layers.clone(), ..ropes[0].clone() };
        ropes.insert(0, local);
    }
    Ok(Spec { family: "gemma2", wiring: Wiring::Sandwich, attention, position, scale, ..base })
}

/// Gemma 3's spec.
pub fn gemma3(h: &Hparams) -> Result<Spec> {
    let base = gemma(h)?;
    let window = h.window(base.layers, 6)?;
    let mut ropes = vec![h.rope_from(1_000_000.0, base.attention.head_dim, base.context)?];
    if let Some(window) = &window {
        let local = h.local_rope(10_000.0, base.attention.head_dim, base.context)?;
        ropes.insert(0, Rope { layers: window.layers.clone(), ..local });
    }
    let attention = Attention {
        window,
        qk_norm: QkNorm::Head,
        scale: score_scale(h, &base, 62)?,
        cap: h.cap("score_cap", None)?,
        ..base.attention
    };
    let scale = Scale { cap: h.cap("logit_cap", None)?, ..base.scale };
    let position = Position::Rope(ropes);
    Ok(Spec { family: "gemma3", wiring: Wiring::Sandwich, attention, position, scale, ..base })
}

/// `query_pre_attn_scalar`. GGUF files leave it out: it is the width of a head but in the 27B models, known by their number
/// of layers, where it is `dim / heads`.
fn score_scale(h: &Hparams, base: &Spec, layers_of_27b: usize) -> Result<ScoreScale> {
    let scalar = match h.positive("query_scale")? {
        None if h.is_gguf() && base.layers == layers_of_27b => Some((base.dim / base.attention.heads) as f64),
        None if !h.is_gguf() => Some(256.0),
        stated => stated,
    };
    Ok(scalar.map_or(ScoreScale::HeadDim, |scalar| ScoreScale::Fixed(scalar.powf(-0.5))))
}
