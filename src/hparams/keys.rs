//! How either format spells a hyper-parameter, and what a family takes where its config.json is
//! silent.

/// (our name, keys of config.json in order of preference, keys of GGUF metadata after the
/// architecture's prefix)
///
/// Ollama's own conversions of Gemma 3 name the two bases of the rotation `rope.global` and
/// `rope.local`.
const KEYS: [Row; 39] = [
    ("dim", &["hidden_size", "n_embd", "dim"], &["embedding_length"]),
    ("layers", &["num_hidden_layers", "n_layer", "n_layers"], &["block_count"]),
    ("heads", &["num_attention_heads", "n_head", "n_heads"], &["attention.head_count"]),
    ("kv_heads", &["num_key_value_heads"], &["attention.head_count_kv"]),
    ("head_dim", &["head_dim"], &["attention.key_length"]),
    ("value_dim", &[], &["attention.value_length"]),
    ("mlp_dim", &["intermediate_size", "n_inner", "hidden_dim"], &["feed_forward_length"]),
    ("context", &["max_position_embeddings", "n_positions", "n_ctx"], &["context_length"]),
    ("vocab", &["vocab_size"], &["vocab_size"]),
    ("rms_eps", &["rms_norm_eps"], &["attention.layer_norm_rms_epsilon"]),
    ("layer_eps", &["layer_norm_epsilon", "layer_norm_eps", "norm_epsilon"], &["attention.layer_norm_epsilon"]),
    ("rope_theta", &["rope_theta", "rotary_emb_base"], &["rope.freq_base", "rope.global.freq_base"]),
    ("rope_dims", &[], &["rope.dimension_count"]),
    ("local_rope_theta", &["rope_local_base_freq"], &["rope.freq_base_swa", "rope.local.freq_base"]),
    ("original_context", &["original_max_position_embeddings"], &[]),
    ("window", &["sliding_window"], &["attention.sliding_window"]),
    ("window_pattern", &["sliding_window_pattern", "_sliding_window_pattern"], &["attention.sliding_window_pattern"]),
    ("window_first", &["max_window_layers"], &[]),
    ("no_rope_interval", &["no_rope_layer_interval"], &[]),
    ("score_cap", &["attn_logit_softcapping"], &["attn_logit_softcapping"]),
    ("logit_cap", &["final_logit_softcapping"], &["final_logit_softcapping"]),
    ("query_scale", &["query_pre_attn_scalar"], &[]),
    ("score_scale", &["attention_multiplier"], &["attention.scale"]),
    ("embed_scale", &["embedding_multiplier"], &["embedding_scale"]),
    ("residual_scale", &["residual_multiplier"], &["residual_scale"]),
    ("logit_divisor", &["logits_scaling"], &["logit_scale"]),
    ("experts", &["num_local_experts", "num_experts"], &["expert_count"]),
    ("sparse_step", &["decoder_sparse_step"], &[]),
    ("experts_used", &["num_experts_per_tok"], &["expert_used_count"]),
    ("expert_dim", &["moe_intermediate_size"], &["expert_feed_forward_length"]),
    ("activation", &["hidden_act", "activation_function", "activation"], &["hidden_activation"]),
    ("hidden_activation", &["hidden_activation"], &["hidden_activation"]),
    ("token_types", &["type_vocab_size"], &[]),
    ("rotary_scaling_factor", &["rotary_scaling_factor"], &[]),
    ("rotary_scale_base", &["rotary_emb_scale_base"], &[]),
    ("rotary_part", &["rotary_emb_fraction"], &[]),
    ("causal", &[], &["attention.causal"]),
    ("padding", &["pad_token_id"], &[]),
    ("position_embedding_type", &["position_embedding_type"], &[]),
];

pub(super) type Row = (&'static str, &'static [&'static str], &'static [&'static str]);

pub(super) fn row(name: &str) -> &'static Row {
    KEYS.iter().find(|row| row.0 == name).expect("every name asked for is in KEYS")
}

/// What transformers' configuration classes take for a key that config.json does not have at all
/// (`null` is something else), where that differs from what the families here share: (our name,
/// (`model_type`, value)).
///
/// Source: `configuration_*.py`. Sizes without which nothing can be told (`hidden_size` and its
/// like) have no row: a file that lacks one is refused. llama.cpp has such a default for one family
/// only, whose row says `gguf`.
const DEFAULTS: [(&str, &[(&str, f64)]); 10] = [
    (
        "kv_heads",
        &[
            ("mistral", 8.0),
            ("mixtral", 8.0),
            ("qwen2", 32.0),
            ("qwen3", 32.0),
            ("qwen3_moe", 4.0),
            ("gemma", 16.0),
            ("gemma2", 4.0),
            ("gemma3", 4.0),
            ("gemma3_text", 4.0),
            ("smollm3", 4.0),
            ("starcoder2", 2.0),
        ],
    ),
    ("head_dim", &[("qwen3", 128.0), ("gemma", 256.0), ("gemma2", 256.0), ("gemma3", 256.0), ("gemma3_text", 256.0)]),
    ("rms_eps", &[("phi3", 1e-5), ("mixtral", 1e-5), ("olmo2", 1e-5)]),
    (
        "context",
        &[
            ("llama", 2048.0),
            ("mistral", 131_072.0),
            ("mixtral", 131_072.0),
            ("qwen2", 32_768.0),
            ("qwen3", 32_768.0),
            ("qwen3_moe", 32_768.0),
            ("gemma", 8192.0),
            ("gemma2", 8192.0),
            ("gemma3", 131_072.0),
            ("gemma3_text", 131_072.0),
            ("phi3", 4096.0),
            ("smollm3", 32_768.0),
            ("olmo2", 2048.0),
            ("granite", 2048.0),
            ("starcoder2", 4096.0),
            ("gpt2", 1024.0),
            ("bert", 512.0),
            ("roberta", 512.0),
            ("xlm-roberta", 512.0),
            ("camembert", 512.0),
            ("distilbert", 512.0),
            ("nomic_bert", 2048.0),
        ],
    ),
    (
        "window",
        &[
            ("mistral", 4096.0),
            ("qwen2", 4096.0),
            ("qwen3", 4096.0),
            ("qwen3_moe", 4096.0),
            ("gemma2", 4096.0),
            ("gemma3", 4096.0),
            ("gemma3_text", 4096.0),
            ("gguf gemma2", 4096.0),
        ],
    ),
    ("window_first", &[("qwen2", 28.0), ("qwen3", 28.0)]),
    ("experts", &[("mixtral", 8.0), ("qwen3_moe", 128.0)]),
    ("experts_used", &[("mixtral", 2.0), ("qwen3_moe", 8.0)]),
    ("expert_dim", &[("qwen3_moe", 768.0)]),
    ("original_context", &[("phi3", 4096.0)]),
];

/// What `family` takes where its file is silent.
pub(super) fn default(name: &str, family: &str, is_gguf: bool) -> Option<f64> {
    let of_family = |row: &&(&str, f64)| match row.0.strip_prefix("gguf ") {
        Some(named) => is_gguf && named == family,
        None => !is_gguf && row.0 == family,
    };
    let (_, rows) = DEFAULTS.iter().find(|row| row.0 == name)?;
    rows.iter().find(of_family).map(|row| row.1)
}
