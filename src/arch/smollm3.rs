//! SmolLM3: Llama whose every fourth layer knows no positions (NoPE).
//!
//! `no_rope_layers` says 1 where rope is used. GGUF files leave it out. Reference: transformers' `modeling_smollm3.py`.

use crate::error::Result;
use crate::hparams::Hparams;
use crate::spec::*;

/// SmolLM3's spec.
pub fn spec(h: &Hparams) -> Result<Spec> {
    let base = super::llama::spec(h)?;
    let interval = h.size("no_rope_interval")?.unwrap_or(4);
    let layers = match h.marked_layers("no_rope_layers", base.layers)? {
        Some(marked) => marked,
        None => Layers::Listed((1..=base.layers).map(|n| n % interval != 0).collect()),
    };
    // Without a list the window is where the rotation is not.
    let unrotated = (0..base.layers).map(|layer| !layers.has(layer)).collect();
    let window = h.window_of(h.switched_window()?, unrotated)?;
    let rope = Rope { layers, ..h.rope_from(2_000_000.0, base.attention.head_dim, base.context)? };
    Ok(Spec {
        family: "smollm3",
        attention: Attention { window, ..base.attention },
        position: Position::Rope(vec![rope]),
        head: h.head(true)?,
        ..base
    })
}
