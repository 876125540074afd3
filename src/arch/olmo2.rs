//! OLMo 2: Llama that normalises the output of each sub-layer instead of its input, and queries and keys over all heads.
//!
//! Reference: transformers' `modeling_olmo2.py`.

use crate::error::{Error, Result};
use crate::hparams::Hparams;
use crate::spec::*;

/// OLMo 2's spec.
pub fn spec(h: &Hparams) -> Result<Spec> {
    let base = super::llama::spec(h)?;
    if h.optional_size("window")?.is_some() {
        return Err(Error::unsupported(format!("{}: OLMo 3's sliding windows", h.file()), "OLMo 2"));
    }
    let attention = Attention { qk_norm: QkNorm::Row, ..base.attention };
    Ok(Spec { family: "olmo2", wiring: Wiring::NormOutput, attention, ..base })
}
