//! Phi-3, Phi-3.5 and Phi-4 (mini and 14B): Llama with fused q/k/v and gate/up projections.
//!
//! Mini's long-context versions have LongRoPE; Phi-4-mini rotates three quarters of each head. Files name a window for
//! every layer, often one as long as the context. Reference: transformers' `modeling_phi3.py`; llama.cpp leaves the window out.

use crate::error::Result;
use crate::hparams::Hparams;
use crate::spec::*;

/// Phi-3's spec.
pub fn spec(h: &Hparams) -> Result<Spec> {
    let base = super::llama::spec(h)?;
    let attention = Attention { window: h.window_everywhere(base.layers)?, ..base.attention };
    Ok(Spec { family: "phi3", attention, ..base })
}
