//! Granite 3: Llama with constant factors on embeddings, sub-layers, scores and logits (muP, Yang et al. 2022).
//!
//! Reference: transformers' `modeling_granite.py`.

use crate::error::Result;
use crate::hparams::Hparams;
use crate::spec::*;

/// Granite's spec.
pub fn spec(h: &Hparams) -> Result<Spec> {
    let base = super::llama::spec(h)?;
    let factor = |name: &str| Ok::<_, crate::Error>(h.positive(name)?.unwrap_or(1.0));
    let scale = Scale {
        embed: factor("embed_scale")?,
        residual: factor("residual_scale")?,
        logits: 1.0 / factor("logit_divisor")?,
        cap: None,
    };
    let attention = Attention { scale: ScoreScale::Fixed(factor("score_scale")?), ..base.attention };
    Ok(Spec { family: "granite", attention, scale, ..base })
}
