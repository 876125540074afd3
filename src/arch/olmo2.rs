//! OLMo 2: Llama that normalises the output of each sub-layer instead of its input, and queries and keys over all heads.
//!
//! OLMo 3's GGUF files bear this name too, and state a window, which is refused as a key that
//! nobody reads. Reference: transformers' `modeling_olmo2.py`.

use crate::error::Result;
use crate::hparams::Hparams;
use crate::spec::*;

/// OLMo 2's spec.
pub fn spec(h: &Hparams) -> Result<Spec> {
    let base = super::llama::spec(h)?;
    let attention = Attention { qk_norm: QkNorm::Row, ..base.attention };
    Ok(Spec { family: "olmo2", wiring: Wiring::NormOutput, attention, ..base })
}
