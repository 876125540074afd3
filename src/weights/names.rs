//! How the tensors of Hugging Face checkpoints map to GGUF's names, which are tallow's own.
//!
//! One table per naming tradition. `{}` stands for the layer's number. A mark says what is odd about the stored layout, so
//! that nobody else needs to know.

/// What is odd about a stored tensor.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Layout {
    /// Rows are outputs: the usual `Linear`.
    Plain,
    /// Rows are inputs: GPT-2's `Conv1D`.
    Transposed,
}

/// (name in the checkpoint, GGUF name, layout); both names without `.weight` or `.bias`.
pub type Names = &'static [(&'static str, &'static str, Layout)];

/// Llama, Mistral and everything that follows their naming.
pub const LLAMA: Names = &[
    ("model.embed_tokens", "token_embd", Layout::Plain),
    ("model.norm", "output_norm", Layout::Plain),
    ("lm_head", "output", Layout::Plain),
    ("model.layers.{}.input_layernorm", "blk.{}.attn_norm", Layout::Plain),
    ("model.layers.{}.self_attn.q_proj", "blk.{}.attn_q", Layout::Plain),
    ("model.layers.{}.self_attn.k_proj", "blk.{}.attn_k", Layout::Plain),
    ("model.layers.{}.self_attn.v_proj", "blk.{}.attn_v", Layout::Plain),
    ("model.layers.{}.self_attn.o_proj", "blk.{}.attn_output", Layout::Plain),
    ("model.layers.{}.post_attention_layernorm", "blk.{}.ffn_norm", Layout::Plain),
    ("model.layers.{}.mlp.gate_proj", "blk.{}.ffn_gate", Layout::Plain),
    ("model.layers.{}.mlp.up_proj", "blk.{}.ffn_up", Layout::Plain),
    ("model.layers.{}.mlp.down_proj", "blk.{}.ffn_down", Layout::Plain),
];

/// GPT-2; `GPT2LMHeadModel` saves the same names behind the prefix `transformer.`.
pub const GPT2: Names = &[
    ("wte", "token_embd", Layout::Plain),
    ("wpe", "position_embd", Layout::Plain),
    ("ln_f", "output_norm", Layout::Plain),
    ("lm_head", "output", Layout::Plain),
    ("h.{}.ln_1", "blk.{}.attn_norm", Layout::Plain),
    ("h.{}.attn.c_attn", "blk.{}.attn_qkv", Layout::Transposed),
    ("h.{}.attn.c_proj", "blk.{}.attn_output", Layout::Transposed),
    ("h.{}.ln_2", "blk.{}.ffn_norm", Layout::Plain),
    ("h.{}.mlp.c_fc", "blk.{}.ffn_up", Layout::Transposed),
    ("h.{}.mlp.c_proj", "blk.{}.ffn_down", Layout::Transposed),
];

/// The GGUF name and layout of a checkpoint's tensor; `None` for tensors that are no weights (mask buffers and the like).
pub fn gguf_name(names: Names, stored: &str) -> Option<(String, Layout)> {
    let stored = stored.strip_prefix("transformer.").unwrap_or(stored);
    let (stem, leaf) = stored.rsplit_once('.').filter(|(_, leaf)| matches!(*leaf, "weight" | "bias"))?;
    names.iter().find_map(|(from, to, layout)| {
        let name = match from.split_once("{}") {
            None if *from == stem => to.to_string(),
            None => return None,
            Some((before, after)) => {
                let layer = stem.strip_prefix(before)?.strip_suffix(after)?;
                layer.parse::<u32>().ok().filter(|n| n.to_string() == layer)?;
                to.replace("{}", layer)
            }
        };
        // A bias is a vector: there is nothing to transpose.
        let layout = if leaf == "bias" { Layout::Plain } else { *layout };
        Some((format!("{name}.{leaf}"), layout))
    })
}

/// The reverse of [`gguf_name`]: how a checkpoint calls the tensor with this GGUF name.
pub fn stored_name(names: Names, gguf: &str) -> Option<String> {
    let (stem, leaf) = gguf.rsplit_once('.')?;
    let (pattern, layer) = match stem.strip_prefix("blk.").and_then(|rest| rest.split_once('.')) {
        Some((layer, part)) => (format!("blk.{{}}.{part}"), layer),
        None => (stem.to_owned(), ""),
    };
    let row = names.iter().find(|row| row.1 == pattern)?;
    Some(format!("{}.{leaf}", row.0.replace("{}", layer)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn gpt2_names_map_with_and_without_the_prefix() {
        let expected = Some(("blk.11.attn_qkv.weight".to_owned(), Layout::Transposed));
        assert_eq!(gguf_name(GPT2, "h.11.attn.c_attn.weight"), expected);
        assert_eq!(gguf_name(GPT2, "transformer.h.11.attn.c_attn.weight"), expected);
        assert_eq!(gguf_name(GPT2, "h.0.attn.c_attn.bias"), Some(("blk.0.attn_qkv.bias".to_owned(), Layout::Plain)));
    }

    #[test]
    fn every_name_maps_there_and_back() {
        for names in [LLAMA, GPT2] {
            for (stored, ..) in names {
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
