//! BERT (MiniLM, bge, e5, gte), RoBERTa, XLM-R, CamemBERT, DistilBERT and nomic-embed-text: encoders, whose positions see the
//! whole text.
//!
//! Learned positions, norms behind the residual sum and on the embeddings, biases everywhere, a plain feed-forward with exact
//! GELU. RoBERTa's positions begin behind the padding token's number, which its GGUF files leave out of the table. Every token
//! is of the first type: the second marks the second text of a pair, which embedding has none of. Pooler and heads are not
//! used. Nomic's has rotary positions, a gated feed-forward and no biases. Reference: transformers' `modeling_bert.py`,
//! `modeling_roberta.py`, `modeling_distilbert.py`, `modeling_nomic_bert.py`.

use crate::error::{Error, Result};
use crate::hparams::Hparams;
use crate::spec::*;

/// BERT's spec, and that of every GGUF file of this kind.
pub fn bert(h: &Hparams) -> Result<Spec> {
    let dim = h.need("dim")?;
    let heads = h.need("heads")?;
    if dim % heads != 0 {
        return Err(Error::corrupt(h.file(), format!("{heads} heads do not divide a width of {dim}")));
    }
    h.repeats("kv_heads", heads)?;
    h.repeats("head_dim", dim / heads)?;
    h.repeats("value_dim", dim / heads)?;
    let kind = h.text("position_embedding_type")?.unwrap_or_else(|| "absolute".into());
    if kind != "absolute" {
        return Err(Error::unsupported(format!("{}: {kind:?} positions", h.file()), "absolute ones"));
    }
    for key in ["is_decoder", "add_cross_attention"] {
        if h.flag(key, false)? {
            return Err(Error::unsupported(format!("{}: BERT as a decoder ({key})", h.file()), "encoders"));
        }
    }
    let token_types = match h.is_gguf() {
        true => h.weights().shape("token_types.weight").and_then(|shape| shape.first().copied()),
        false => Some(h.size("token_types")?.unwrap_or(2)),
    };
    Ok(Spec {
        family: "bert",
        dim,
        layers: h.need("layers")?,
        vocab: super::llama::vocab(h)?,
        context: h.need("context")?,
        token_types,
        embed_norm: true,
        norm: Norm::Layer { eps: h.eps("layer_eps", 1e-12)? },
        wiring: Wiring::PostNorm,
        attention: Attention {
            heads,
            kv_heads: heads,
            head_dim: dim / heads,
            causal: false,
            window: None,
            qkv_bias: true,
            out_bias: true,
            qk_norm: QkNorm::None,
            scale: ScoreScale::HeadDim,
            cap: None,
        },
        position: Position::Learned { offset: 0 },
        mlp: Mlp::Plain { act: h.activation(Activation::Gelu)?, dim: h.need("mlp_dim")?, bias: true },
        scale: Scale::NONE,
        head: Head::None,
    })
}

/// RoBERTa's spec.
pub fn roberta(h: &Hparams) -> Result<Spec> {
    let base = bert(h)?;
    // 0 is a number like any other here, so it is no size.
    let offset = h.token("padding")?.unwrap_or(1) as usize + 1;
    let Some(context) = base.context.checked_sub(offset).filter(|context| *context > 0) else {
        let why = format!("{} positions, of which {offset} are padding's: none is left", base.context);
        return Err(Error::corrupt(h.file(), why));
    };
    Ok(Spec { family: "roberta", context, position: Position::Learned { offset }, ..base })
}

/// DistilBERT's spec.
pub fn distilbert(h: &Hparams) -> Result<Spec> {
    let base = bert(h)?;
    Ok(Spec { family: "distilbert", token_types: None, norm: Norm::Layer { eps: 1e-12 }, ..base })
}

/// The spec of nomic-embed-text 1 and 1.5. Its configurations come in two spellings: that of the repository's own code, whose
/// switches must be as these models have them, and that of transformers.
pub fn nomic(h: &Hparams) -> Result<Spec> {
    let base = bert(h)?;
    for (key, usual) in [
        ("prenorm", false),
        ("use_rms_norm", false),
        ("causal", false),
        ("qkv_proj_bias", false),
        ("mlp_fc1_bias", false),
        ("mlp_fc2_bias", false),
        ("rotary_emb_interleaved", false),
    ] {
        if h.flag(key, usual)? != usual {
            return Err(Error::unsupported(format!("{}: key {key}", h.file()), "nomic-embed-text 1 and 1.5"));
        }
    }
    for (name, usual) in [("experts", 0.0), ("rotary_part", 1.0), ("rotary_scaling_factor", 0.0), ("rotary_scale_base", 0.0)] {
        if let Some(value) = h.cap(name, None)?.filter(|value| *value != usual) {
            let what = format!("{}: key {} = {value}", h.file(), h.spelling(name));
            return Err(Error::unsupported(what, "nomic-embed-text 1 and 1.5"));
        }
    }
    let rope = h.rope_from(1000.0, base.attention.head_dim, base.context)?;
    Ok(Spec {
        family: "nomic-bert",
        attention: Attention { qkv_bias: false, out_bias: false, ..base.attention },
        position: Position::Rope(vec![rope]),
        mlp: Mlp::Gated { act: h.activation(Activation::Silu)?, dim: h.need("mlp_dim")?, bias: false },
        ..base
    })
}
