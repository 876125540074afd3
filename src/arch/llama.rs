//! Llama 1, 2, 3, 3.1 and 3.2, TinyLlama, CodeLlama, SmolLM2, Vicuna: the family the others are described by.
//!
//! RMS norm before each sub-layer, rotary positions, a gated SiLU feed-forward, no biases unless the configuration has them.
//! Reference: transformers' `modeling_llama.py`.

use crate::error::{Error, Result};
use crate::hparams::Hparams;
use crate::spec::*;

/// Llama's spec.
pub fn spec(h: &Hparams) -> Result<Spec> {
    with_norm(h, Norm::Rms { eps: h.eps("rms_eps", 1e-6)?, offset: 0.0 })
}

/// The same with another norm.
pub(super) fn with_norm(h: &Hparams, norm: Norm) -> Result<Spec> {
    let dim = h.need("dim")?;
    let heads = h.need("heads")?;
    let kv_heads = h.size("kv_heads")?.unwrap_or(heads);
    let head_dim = match h.size("head_dim")? {
        Some(head_dim) => head_dim,
        None if dim % heads == 0 => dim / heads,
        None => return Err(Error::corrupt(h.file(), format!("{heads} heads do not divide a width of {dim}"))),
    };
    h.repeats("value_dim", head_dim)?;
    let context = h.need("context")?;
    // As in transformers: the other families' layers have biases or not, whatever a config.json
    // says.
    let heeds = |families: &[&str]| families.contains(&h.family());
    let attention_bias =
        heeds(&["llama", "qwen3", "qwen3_moe", "gemma", "gemma2", "gemma3", "gemma3_text", "smollm3", "olmo2", "granite"])
            && h.flag("attention_bias", false)?;
    let mlp_bias = heeds(&["llama", "smollm3", "granite"]) && h.flag("mlp_bias", false)?;
    Ok(Spec {
        family: "llama",
        dim,
        layers: h.need("layers")?,
        vocab: vocab(h)?,
        context,
        token_types: None,
        embed_norm: false,
        norm,
        wiring: Wiring::PreNorm,
        attention: Attention {
            heads,
            kv_heads,
            head_dim,
            causal: true,
            window: None,
            qkv_bias: attention_bias || h.stores_bias("attn_q"),
            out_bias: attention_bias || h.stores_bias("attn_output"),
            qk_norm: QkNorm::None,
            scale: ScoreScale::HeadDim,
            cap: None,
        },
        position: Position::Rope(vec![h.rope(head_dim, context)?]),
        mlp: match experts(h)? {
            Some(experts) => experts,
            None => Mlp::Gated {
                act: h.activation(Activation::Silu)?,
                dim: h.need("mlp_dim")?,
                bias: mlp_bias || h.stores_bias("ffn_up"),
            },
        },
        scale: Scale::NONE,
        head: h.head(false)?,
    })
}

/// Rows of the embedding table: stated, or, in most GGUF files, only visible in the table.
pub(super) fn vocab(h: &Hparams) -> Result<usize> {
    if let Some(vocab) = h.size("vocab")? {
        return Ok(vocab);
    }
    match h.weights().get("token_embd.weight").map(|stored| stored.shape.as_slice()) {
        Some([rows, _]) => Ok(*rows),
        _ => Err(Error::corrupt(h.file(), "tensor token_embd.weight is missing or not a matrix")),
    }
}

/// The experts, where a file states any. Only Qwen's configurations can leave their weights as they are.
fn experts(h: &Hparams) -> Result<Option<Mlp>> {
    let heeds = ["mixtral", "qwen3_moe", "qwen3moe"].contains(&h.family()) || h.is_gguf() && h.family() == "llama";
    if !heeds {
        return Ok(None);
    }
    let Some(count) = h.optional_size("experts")? else { return Ok(None) };
    // A width of layers without experts, of which there are none, may stand beside the experts'.
    let dim = match (h.optional_size("expert_dim")?, h.optional_size("mlp_dim")?) {
        (Some(dim), _) => dim,
        (None, _) => h.need("mlp_dim")?,
    };
    Ok(Some(Mlp::Experts {
        act: h.activation(Activation::Silu)?,
        dim,
        count,
        used: h.need("experts_used")?,
        renormalise: h.flag("norm_topk_prob", h.is_gguf() || h.family() == "mixtral")?,
    }))
}
