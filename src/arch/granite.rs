//! Granite 3: Llama with constant factors on embeddings, sub-layers, scores and logits (muP, Yang et al. 2022).
//!
//! Reference: transformers' `modeling_granite.py`.

use crate::error::Result;
use crate::hparams::Hparams;
use crate::spec::*;

/// Granite's spec.
pub fn spec(h: &Hparams) -> Result<Spec> {
    let base = super::llama::spec(h)?;
    // llama.cpp leaves a factor of 0 out.
    let stated = |name: &str| if h.is_gguf() { h.cap(name, None) } else { h.positive(name) };
    let factor = |name: &str| Ok::<_, crate::Error>(stated(name)?.unwrap_or(1.0));
    let scale = Scale {
        embed: factor("embed_scale")?,
        residual: factor("residual_scale")?,
        logits: 1.0 / factor("logit_divisor")?,
        cap: None,
    };
    let score_scale = match stated("score_scale")? {
        None if h.is_gguf() => ScoreScale::HeadDim,
        stated => ScoreScale::Fixed(stated.unwrap_or(1.0)),
    };
    let attention = Attention { scale: score_scale, ..base.attention };
    let position = if h.is_gguf() && !h.rotates()? { Position::Rope(Vec::new()) } else { base.position };
    Ok(Spec { family: "granite", attention, position, scale, ..base })
}
