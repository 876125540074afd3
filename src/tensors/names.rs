//! How the tensors of Hugging Face checkpoints map to GGUF's names, which are tallow's own.
//!
//! One table per naming tradition. `{}` stands for a number: the layer's, then the expert's. A mark says which matrices
//! are stored with rows for columns; [`Transpose`](super::Transpose) reads it, and nobody else needs to know.

/// What the rows of a stored matrix are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Orientation {
    /// Rows are outputs: the usual `Linear`.
    Plain,
    /// Rows are inputs: GPT-2's `Conv1D`.
    Transposed,
}

/// (name in the checkpoint, GGUF name, orientation); both names without `.weight` or `.bias`.
pub type NameRow = (&'static str, &'static str, Orientation);

/// The tables of a naming tradition; a name is looked for in each.
pub type Names = &'static [&'static [NameRow]];

/// Llama, Mistral and everything that follows their naming.
pub const LLAMA: Names = &[TRUNK, NORMS, GATED];

/// The same with query/key norms: Qwen3.
pub const QK_NORMED: Names = &[TRUNK, NORMS, GATED, QK_NORMS];

/// Norms on both sides of a sub-layer: Gemma 2.
pub const SANDWICH: Names = &[TRUNK, SANDWICH_NORMS, GATED];

/// And query/key norms: Gemma 3.
pub const SANDWICH_QK_NORMED: Names = &[TRUNK, SANDWICH_NORMS, GATED, QK_NORMS];

/// Fused projections: Phi-3. The parts lie below each other in the order of ours.
pub const FUSED: Names = &[TRUNK, NORMS, FUSED_PROJECTIONS];

/// Norms behind the sub-layers alone: OLMo 2.
pub const OUTPUT_NORMED: Names = &[TRUNK, OUTPUT_NORMS, GATED, QK_NORMS];

/// A plain feed-forward under GPT-2's names: StarCoder2.
pub const PLAIN: Names = &[TRUNK, NORMS, PLAIN_FEED_FORWARD];

/// Experts: Mixtral.
pub const MIXTRAL: Names = &[TRUNK, NORMS, MIXTRAL_EXPERTS];

/// Experts with query/key norms: Qwen3-MoE.
pub const QWEN_EXPERTS: Names = &[TRUNK, NORMS, QK_NORMS, EXPERTS];

/// What Llama's naming has outside of norms and feed-forward.
const TRUNK: &[NameRow] = &[
    ("model.embed_tokens", "token_embd", Orientation::Plain),
    ("model.norm", "output_norm", Orientation::Plain),
    ("lm_head", "output", Orientation::Plain),
    ("model.layers.{}.self_attn.q_proj", "blk.{}.attn_q", Orientation::Plain),
    ("model.layers.{}.self_attn.k_proj", "blk.{}.attn_k", Orientation::Plain),
    ("model.layers.{}.self_attn.v_proj", "blk.{}.attn_v", Orientation::Plain),
    ("model.layers.{}.self_attn.o_proj", "blk.{}.attn_output", Orientation::Plain),
];

/// A norm before each sub-layer.
const NORMS: &[NameRow] = &[
    ("model.layers.{}.input_layernorm", "blk.{}.attn_norm", Orientation::Plain),
    ("model.layers.{}.post_attention_layernorm", "blk.{}.ffn_norm", Orientation::Plain),
];

/// The same four places with a norm after each sub-layer, too.
const SANDWICH_NORMS: &[NameRow] = &[
    ("model.layers.{}.input_layernorm", "blk.{}.attn_norm", Orientation::Plain),
    ("model.layers.{}.post_attention_layernorm", "blk.{}.post_attention_norm", Orientation::Plain),
    ("model.layers.{}.pre_feedforward_layernorm", "blk.{}.ffn_norm", Orientation::Plain),
    ("model.layers.{}.post_feedforward_layernorm", "blk.{}.post_ffw_norm", Orientation::Plain),
];

/// The norms after a sub-layer alone.
const OUTPUT_NORMS: &[NameRow] = &[
    ("model.layers.{}.post_attention_layernorm", "blk.{}.post_attention_norm", Orientation::Plain),
    ("model.layers.{}.post_feedforward_layernorm", "blk.{}.post_ffw_norm", Orientation::Plain),
];

/// Up and down.
const PLAIN_FEED_FORWARD: &[NameRow] = &[
    ("model.layers.{}.mlp.c_fc", "blk.{}.ffn_up", Orientation::Plain),
    ("model.layers.{}.mlp.c_proj", "blk.{}.ffn_down", Orientation::Plain),
];

/// A router and experts. Newer GGUF files stack a layer's experts in one tensor, which `Weights` takes apart.
const EXPERTS: &[NameRow] = &[
    ("model.layers.{}.mlp.gate", "blk.{}.ffn_gate_inp", Orientation::Plain),
    ("model.layers.{}.mlp.experts.{}.gate_proj", "blk.{}.ffn_gate.{}", Orientation::Plain),
    ("model.layers.{}.mlp.experts.{}.up_proj", "blk.{}.ffn_up.{}", Orientation::Plain),
    ("model.layers.{}.mlp.experts.{}.down_proj", "blk.{}.ffn_down.{}", Orientation::Plain),
];

/// The same as Mixtral calls them.
const MIXTRAL_EXPERTS: &[NameRow] = &[
    ("model.layers.{}.block_sparse_moe.gate", "blk.{}.ffn_gate_inp", Orientation::Plain),
    ("model.layers.{}.block_sparse_moe.experts.{}.w1", "blk.{}.ffn_gate.{}", Orientation::Plain),
    ("model.layers.{}.block_sparse_moe.experts.{}.w3", "blk.{}.ffn_up.{}", Orientation::Plain),
    ("model.layers.{}.block_sparse_moe.experts.{}.w2", "blk.{}.ffn_down.{}", Orientation::Plain),
];

/// q/k/v and gate/up as one matrix each.
const FUSED_PROJECTIONS: &[NameRow] = &[
    ("model.layers.{}.self_attn.qkv_proj", "blk.{}.attn_qkv", Orientation::Plain),
    ("model.layers.{}.mlp.gate_up_proj", "blk.{}.ffn_up", Orientation::Plain),
    ("model.layers.{}.mlp.down_proj", "blk.{}.ffn_down", Orientation::Plain),
];

/// Norms on queries and keys.
const QK_NORMS: &[NameRow] = &[
    ("model.layers.{}.self_attn.q_norm", "blk.{}.attn_q_norm", Orientation::Plain),
    ("model.layers.{}.self_attn.k_norm", "blk.{}.attn_k_norm", Orientation::Plain),
];

/// A gated feed-forward.
const GATED: &[NameRow] = &[
    ("model.layers.{}.mlp.gate_proj", "blk.{}.ffn_gate", Orientation::Plain),
    ("model.layers.{}.mlp.up_proj", "blk.{}.ffn_up", Orientation::Plain),
    ("model.layers.{}.mlp.down_proj", "blk.{}.ffn_down", Orientation::Plain),
];

/// GPT-2; `GPT2LMHeadModel` saves the same names behind the prefix `transformer.`.
pub const GPT2: Names = &[&[
    ("wte", "token_embd", Orientation::Plain),
    ("wpe", "position_embd", Orientation::Plain),
    ("ln_f", "output_norm", Orientation::Plain),
    ("lm_head", "output", Orientation::Plain),
    ("h.{}.ln_1", "blk.{}.attn_norm", Orientation::Plain),
    ("h.{}.attn.c_attn", "blk.{}.attn_qkv", Orientation::Transposed),
    ("h.{}.attn.c_proj", "blk.{}.attn_output", Orientation::Transposed),
    ("h.{}.ln_2", "blk.{}.ffn_norm", Orientation::Plain),
    ("h.{}.mlp.c_fc", "blk.{}.ffn_up", Orientation::Transposed),
    ("h.{}.mlp.c_proj", "blk.{}.ffn_down", Orientation::Transposed),
]];

/// BERT, RoBERTa and XLM-R. The pooler and the heads of other tasks have no row.
pub const BERT: Names = &[&[
    ("embeddings.word_embeddings", "token_embd", Orientation::Plain),
    ("embeddings.position_embeddings", "position_embd", Orientation::Plain),
    ("embeddings.token_type_embeddings", "token_types", Orientation::Plain),
    ("embeddings.LayerNorm", "token_embd_norm", Orientation::Plain),
    ("encoder.layer.{}.attention.self.query", "blk.{}.attn_q", Orientation::Plain),
    ("encoder.layer.{}.attention.self.key", "blk.{}.attn_k", Orientation::Plain),
    ("encoder.layer.{}.attention.self.value", "blk.{}.attn_v", Orientation::Plain),
    ("encoder.layer.{}.attention.output.dense", "blk.{}.attn_output", Orientation::Plain),
    ("encoder.layer.{}.attention.output.LayerNorm", "blk.{}.attn_output_norm", Orientation::Plain),
    ("encoder.layer.{}.intermediate.dense", "blk.{}.ffn_up", Orientation::Plain),
    ("encoder.layer.{}.output.dense", "blk.{}.ffn_down", Orientation::Plain),
    ("encoder.layer.{}.output.LayerNorm", "blk.{}.layer_output_norm", Orientation::Plain),
]];

/// DistilBERT.
pub const DISTILBERT: Names = &[&[
    ("embeddings.word_embeddings", "token_embd", Orientation::Plain),
    ("embeddings.position_embeddings", "position_embd", Orientation::Plain),
    ("embeddings.LayerNorm", "token_embd_norm", Orientation::Plain),
    ("transformer.layer.{}.attention.q_lin", "blk.{}.attn_q", Orientation::Plain),
    ("transformer.layer.{}.attention.k_lin", "blk.{}.attn_k", Orientation::Plain),
    ("transformer.layer.{}.attention.v_lin", "blk.{}.attn_v", Orientation::Plain),
    ("transformer.layer.{}.attention.out_lin", "blk.{}.attn_output", Orientation::Plain),
    ("transformer.layer.{}.sa_layer_norm", "blk.{}.attn_output_norm", Orientation::Plain),
    ("transformer.layer.{}.ffn.lin1", "blk.{}.ffn_up", Orientation::Plain),
    ("transformer.layer.{}.ffn.lin2", "blk.{}.ffn_down", Orientation::Plain),
    ("transformer.layer.{}.output_layer_norm", "blk.{}.layer_output_norm", Orientation::Plain),
]];

/// nomic-embed-text. Queries, keys and values lie below each other.
pub const NOMIC_BERT: Names = &[&[
    ("embeddings.word_embeddings", "token_embd", Orientation::Plain),
    ("embeddings.token_type_embeddings", "token_types", Orientation::Plain),
    ("emb_ln", "token_embd_norm", Orientation::Plain),
    ("encoder.layers.{}.attn.Wqkv", "blk.{}.attn_qkv", Orientation::Plain),
    ("encoder.layers.{}.attn.out_proj", "blk.{}.attn_output", Orientation::Plain),
    ("encoder.layers.{}.norm1", "blk.{}.attn_output_norm", Orientation::Plain),
    ("encoder.layers.{}.mlp.fc12", "blk.{}.ffn_gate", Orientation::Plain),
    ("encoder.layers.{}.mlp.fc11", "blk.{}.ffn_up", Orientation::Plain),
    ("encoder.layers.{}.mlp.fc2", "blk.{}.ffn_down", Orientation::Plain),
    ("encoder.layers.{}.norm2", "blk.{}.layer_output_norm", Orientation::Plain),
]];

/// What stands before every name of a checkpoint, or does not, as the class that saved it has it. It says nothing.
const PREFIXES: [&str; 5] = ["transformer.", "model.", "bert.", "roberta.", "distilbert."];

/// A name without such prefixes.
fn bare(mut name: &str) -> &str {
    while let Some(rest) = PREFIXES.iter().find_map(|prefix| name.strip_prefix(prefix)) {
        name = rest;
    }
    name
}

/// The GGUF name and orientation of a checkpoint's tensor; `None` for tensors that are no weights (mask buffers and the like).
pub fn gguf_name(names: Names, stored: &str) -> Option<(String, Orientation)> {
    let (stem, leaf) = bare(stored).rsplit_once('.')?;
    let leaf = match leaf {
        "weight" | "bias" => leaf,
        // The norms of the oldest BERT checkpoints.
        "gamma" => "weight",
        "beta" => "bias",
        _ => return None,
    };
    names.iter().copied().flatten().find_map(|(from, to, orientation)| {
        let name = filled(to, &numbers(bare(from), stem)?);
        // A bias is a vector: there is nothing to transpose.
        let orientation = if leaf == "bias" { Orientation::Plain } else { *orientation };
        Some((format!("{name}.{leaf}"), orientation))
    })
}

/// The reverse of [`gguf_name`]: how a checkpoint calls the tensor with this GGUF name.
pub fn stored_name(names: Names, gguf: &str) -> Option<String> {
    let (stem, leaf) = gguf.rsplit_once('.')?;
    names.iter().copied().flatten().find_map(|(from, to, _)| Some(format!("{}.{leaf}", filled(from, &numbers(to, stem)?))))
}

/// What stands in `name` for the `{}` of `pattern`; `None` where it does not fit.
fn numbers<'a>(pattern: &str, name: &'a str) -> Option<Vec<&'a str>> {
    let mut parts = pattern.split("{}");
    let mut rest = name.strip_prefix(parts.next()?)?;
    let mut numbers = Vec::new();
    for part in parts {
        let digits = rest.bytes().take_while(u8::is_ascii_digit).count();
        let (number, after) = rest.split_at(digits);
        number.parse::<u32>().ok().filter(|n| n.to_string() == number)?;
        numbers.push(number);
        rest = after.strip_prefix(part)?;
    }
    rest.is_empty().then_some(numbers)
}

fn filled(pattern: &str, numbers: &[&str]) -> String {
    numbers.iter().fold(pattern.to_owned(), |name, number| name.replacen("{}", number, 1))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn gpt2_names_map_with_and_without_the_prefix() {
        let expected = Some(("blk.11.attn_qkv.weight".to_owned(), Orientation::Transposed));
        assert_eq!(gguf_name(GPT2, "h.11.attn.c_attn.weight"), expected);
        assert_eq!(gguf_name(GPT2, "transformer.h.11.attn.c_attn.weight"), expected);
        assert_eq!(gguf_name(GPT2, "h.0.attn.c_attn.bias"), Some(("blk.0.attn_qkv.bias".to_owned(), Orientation::Plain)));
    }

    #[test]
    fn a_prefix_more_or_less_makes_no_difference() {
        let name = |names, stored: &str| gguf_name(names, stored).map(|(name, _)| name);
        for stored in ["bert.embeddings.LayerNorm.gamma", "roberta.embeddings.LayerNorm.weight", "embeddings.LayerNorm.weight"]
        {
            assert_eq!(name(BERT, stored).unwrap(), "token_embd_norm.weight");
        }
        for stored in ["distilbert.transformer.layer.2.ffn.lin1.bias", "transformer.layer.2.ffn.lin1.bias"] {
            assert_eq!(name(DISTILBERT, stored).unwrap(), "blk.2.ffn_up.bias");
        }
        assert_eq!(name(LLAMA, "layers.3.self_attn.q_proj.weight").unwrap(), "blk.3.attn_q.weight");
        assert_eq!(name(BERT, "bert.pooler.dense.weight"), None);
        assert_eq!(name(BERT, "embeddings.position_ids"), None);
    }

    #[test]
    fn every_name_maps_there_and_back() {
        let all = [
            LLAMA,
            QK_NORMED,
            SANDWICH,
            SANDWICH_QK_NORMED,
            FUSED,
            OUTPUT_NORMED,
            PLAIN,
            MIXTRAL,
            QWEN_EXPERTS,
            GPT2,
            BERT,
            DISTILBERT,
            NOMIC_BERT,
        ];
        for names in all {
            for (stored, ..) in names.iter().copied().flatten() {
                let stored = format!("{}.weight", stored.replace("{}", "7"));
                let (gguf, _) = gguf_name(names, &stored).unwrap();
                assert_eq!(stored_name(names, &gguf), Some(stored));
            }
        }
    }

    #[test]
    fn buffers_and_strange_layers_are_no_weights() {
        assert_eq!(gguf_name(GPT2, "h.0.attn.bias"), None);
        assert_eq!(gguf_name(LLAMA, "model.layers.01.mlp.up_proj.weight"), None);
        assert_eq!(gguf_name(LLAMA, "model.layers.x.mlp.up_proj.weight"), None);
    }
}
