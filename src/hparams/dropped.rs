//! Keys that nobody asked for. One that would change the model is never dropped in silence.
//!
//! A GGUF file's keys below the architecture's name and below `tokenizer.ggml` are read, or on a
//! list here of what does no harm, each with its reason, or refused by name. A number of 0,
//! `false`, an empty text and a list of these switch a thing off, in llama.cpp too, and are no harm
//! whatever the key. A config.json is another matter: transformers reads from it what the family's
//! code asks for and nothing else, and so does tallow; of what is known to change other families it
//! warns.
//!
//! Source: llama.cpp's `llama-arch.cpp` (all keys), `llama-model.cpp` and `models/*.cpp` (who reads
//! them), its converters.

use super::{Config, Hparams, Source};
use crate::error::{Error, Result};
use crate::tensors::{Array, Metadata, Value};
use serde_json::Value as Json;

/// When a key that was not asked for changes nothing.
enum Harmless {
    /// Whatever it says.
    Always,
    /// At one of these numbers; `true` is 1.
    At(&'static [f64]),
    /// Where another key of the architecture says the same.
    As(&'static str),
    /// Where it is at least what another key says.
    AtLeast(&'static str),
    /// In these architectures, whatever it says.
    In(&'static [&'static str]),
}

use Harmless::*;

/// Architectures without rotation: llama.cpp reads their `rope` keys and rotates nothing.
const UNROTATED: &[&str] = &["gpt2", "bert"];

/// (key after the architecture's name, when it is harmless, why).
const OF_FAMILY: [(&str, Harmless, &str); 41] = [
    ("pooling_type", Always, "how tokens' states become a vector: read where vectors are made"),
    ("classifier.output_labels", Always, "names of a classifier's classes"),
    ("classifier.pooling_type", Always, "a classifier's pooling: there is no head for it here"),
    ("tensor_data_layout", Always, "llama.cpp reads one layout, whatever this says"),
    ("attention.layer_norm_epsilon", Always, "of a norm that this family does not have"),
    ("attention.layer_norm_rms_epsilon", Always, "of a norm that this family does not have"),
    ("attention.value_length", As("attention.key_length"), "one width of heads"),
    ("attention.key_length_swa", As("attention.key_length"), "one width of heads"),
    ("attention.value_length_swa", As("attention.value_length"), "one width of heads"),
    ("attention.causal", At(&[1.0]), "a decoder"),
    ("attention.sliding_window", AtLeast("context_length"), "a window that no text outgrows"),
    ("attention.sliding_window_pattern", Always, "which layers have the window: this model has none"),
    ("embedding_length_out", As("embedding_length"), "hidden states are not projected"),
    ("rope.dimension_count", In(UNROTATED), "nothing rotates"),
    ("rope.dimension_count_swa", As("rope.dimension_count"), "one width of the rotation"),
    ("rope.freq_base", In(UNROTATED), "nothing rotates"),
    ("rope.freq_base_swa", As("rope.freq_base"), "one base of the rotation"),
    ("rope.local.freq_base", As("rope.freq_base"), "one base of the rotation"),
    ("rope.scale_linear", At(&[1.0]), "nothing is stretched"),
    ("rope.scaling.type", Always, "read where it counts: tensors of factors come before it"),
    ("rope.scaling.factor", Always, "read where it counts: the type says that nothing is stretched by a factor"),
    ("rope.scaling.original_context_length", Always, "of yarn and LongRoPE, where it is read"),
    ("rope.scaling.yarn_beta_fast", Always, "of yarn, where it is read"),
    ("rope.scaling.yarn_beta_slow", Always, "of yarn, where it is read"),
    ("rope.scaling.yarn_attn_factor", At(&[1.0]), "of yarn, where it is read"),
    ("rope.scaling.yarn_ext_factor", At(&[1.0, -1.0]), "yarn as it is; -1 is llama.cpp's word for unset"),
    ("rope.scaling.attn_factor", At(&[1.0]), "attention is not sharpened"),
    ("rope.scaling.alpha", At(&[1.0]), "the base is not scaled"),
    ("rope.scaling.finetuned", Always, "a note on the training, but in Granite, where it is read"),
    ("logit_scale", At(&[1.0]), "logits are not scaled"),
    ("residual_scale", At(&[1.0]), "sub-layers are not scaled"),
    ("embedding_scale", At(&[1.0]), "embeddings are not scaled"),
    ("expert_group_count", At(&[1.0]), "experts are not chosen by groups"),
    ("expert_group_used_count", At(&[1.0]), "experts are not chosen by groups"),
    ("expert_weights_scale", At(&[1.0]), "the experts' weights are not scaled"),
    ("expert_weights_norm", At(&[1.0]), "the chosen experts' weights sum up to 1"),
    ("norm_top_k_prob", At(&[1.0]), "Ollama's name for expert_weights_norm"),
    ("normalize_embeddings", At(&[1.0]), "Ollama's note that vectors have length 1, as they do here"),
    ("expert_gating_func", At(&[1.0]), "softmax"),
    ("vision.", Always, "of a vision tower in the same file: a text does not pass through it"),
    ("mm.", Always, "of a projector of images in the same file: a text does not pass through it"),
];

/// Keys that at 0 or `false` say something else than "there is none".
const NOT_OFF: [&str; 4] = ["attention.causal", "expert_weights_norm", "norm_top_k_prob", "normalize_embeddings"];

/// (key after `tokenizer.ggml.`, why it is harmless).
const OF_TOKENIZER: [(&str, &str); 17] = [
    ("mask_token_id", "nothing is masked"),
    ("token_type_count", "the table of token types tells"),
    ("add_sep_token", "between two texts, of which there is one"),
    ("fim_pre_token_id", "for filling gaps in code, which a prompt spells out"),
    ("fim_suf_token_id", "for filling gaps in code, which a prompt spells out"),
    ("fim_mid_token_id", "for filling gaps in code, which a prompt spells out"),
    ("fim_pad_token_id", "for filling gaps in code, which a prompt spells out"),
    ("fim_rep_token_id", "for filling gaps in code, which a prompt spells out"),
    ("fim_sep_token_id", "for filling gaps in code, which a prompt spells out"),
    ("prefix_token_id", "an old name of fim_pre_token_id"),
    ("suffix_token_id", "an old name of fim_suf_token_id"),
    ("middle_token_id", "an old name of fim_mid_token_id"),
    ("add_padding_token", "Ollama's note that there is a padding token: nothing is padded"),
    ("add_unknown_token", "Ollama's note that there is an unknown token"),
    ("add_mask_token", "Ollama's note that there is a mask token"),
    ("add_cls_token", "Ollama's note that there is a class token, which `bert` vocabularies write"),
    ("hf_json", "the vocabulary above is the one that counts"),
];

/// Refuses a GGUF file that has a key below its architecture's name which nobody read and which
/// changes the model.
pub fn refuse_dropped(metadata: &Metadata, family: &str) -> Result<()> {
    let prefix = format!("{family}.");
    let number = |key: &str| metadata.iter().find(|(found, _)| *found == format!("{prefix}{key}")).and_then(|(_, v)| float(v));
    for (key, value) in metadata.unasked(&prefix) {
        let name = &key[prefix.len()..];
        let row = OF_FAMILY.iter().find(|row| row.0 == name || row.0.ends_with('.') && name.starts_with(row.0));
        let harmless = row.is_some_and(|(_, when, _)| match when {
            Always => true,
            At(numbers) => float(value).is_some_and(|number| numbers.contains(&number)),
            As(other) => float(value).is_some() && float(value) == number(other),
            AtLeast(other) => float(value).zip(number(other)).is_some_and(|(value, other)| value >= other),
            In(families) => families.contains(&family),
        });
        let off = is_off(value) && !NOT_OFF.contains(&name);
        let no_experts = name.starts_with("expert_") && number("expert_count").is_none_or(|count| count == 0.0);
        if !(harmless || off || no_experts && name == "expert_weights_norm") {
            return Err(refused(metadata, key, value));
        }
    }
    Ok(())
}

/// The same for the keys below `tokenizer.ggml`.
pub fn refuse_dropped_of_tokenizer(metadata: &Metadata) -> Result<()> {
    const PREFIX: &str = "tokenizer.ggml.";
    for (key, value) in metadata.unasked(PREFIX) {
        if !is_off(value) && !OF_TOKENIZER.iter().any(|row| row.0 == &key[PREFIX.len()..]) {
            return Err(refused(metadata, key, value));
        }
    }
    Ok(())
}

fn refused(metadata: &Metadata, key: &str, value: &Value) -> Error {
    let shown = match value {
        Value::String(text) => format!("{text:?}"),
        Value::Array(array) => format!("a list of {}", array.len()),
        other => float(other).map_or_else(String::new, |number| number.to_string()),
    };
    let what = format!("{}: key {key} = {shown}, which may change the model,", metadata.file());
    Error::unsupported(what, "files that do without it")
}

/// A number or a switch.
fn float(value: &Value) -> Option<f64> {
    match *value {
        Value::U64(n) => Some(n as f64),
        Value::I64(n) => Some(n as f64),
        Value::F32(x) => Some(f64::from(x)),
        Value::F64(x) => Some(x),
        Value::Bool(on) => Some(f64::from(u8::from(on))),
        Value::String(_) | Value::Array(_) => None,
    }
}

/// Whether a value switches off what its key is about.
fn is_off(value: &Value) -> bool {
    match value {
        Value::String(text) => text.is_empty(),
        Value::Array(Array::Bool(list)) => !list.contains(&true),
        Value::Array(Array::U32(list)) => list.iter().all(|n| *n == 0),
        Value::Array(Array::I32(list)) => list.iter().all(|n| *n == 0),
        Value::Array(Array::F32(list)) => list.iter().all(|x| *x == 0.0),
        Value::Array(list) => list.is_empty(),
        other => float(other) == Some(0.0),
    }
}

/// Keys of config.json that change the families that read them.
const OF_OTHERS: [&str; 43] = [
    "alibi",
    "attention_bias",
    "attention_multiplier",
    "attention_sinks",
    "attn_logit_softcapping",
    "attn_temperature_tuning",
    "clip_qkv",
    "dim_model_base",
    "embedding_multiplier",
    "embedding_scale",
    "final_logit_softcapping",
    "first_k_dense_replace",
    "layer_types",
    "logit_scale",
    "logits_scaling",
    "mlp_bias",
    "mlp_only_layers",
    "moe_intermediate_size",
    "n_routed_experts",
    "n_shared_experts",
    "no_rope_layer_interval",
    "no_rope_layers",
    "norm_topk_prob",
    "num_experts",
    "num_local_experts",
    "parallel_attn",
    "partial_rotary_factor",
    "qk_layernorm",
    "qk_norm",
    "query_pre_attn_scalar",
    "residual_multiplier",
    "rope_local_base_freq",
    "rope_ratio",
    "rotary_dim",
    "rotary_pct",
    "scale_depth",
    "scale_emb",
    "shared_expert_intermediate_size",
    "sliding_window",
    "use_bias",
    "use_parallel_residual",
    "use_qk_norm",
    "use_sliding_window",
];

impl Hparams<'_> {
    /// Warns of the keys of a config.json that this family does not read, where they change those
    /// that do.
    pub fn warn_of_dropped(&self) {
        let Source::Config(config) = &self.source else { return };
        for key in dropped(config) {
            let (file, family, value) = (&config.file, &self.family, &config.keys[key]);
            log::warn!("{file}: key {key} = {value} is not used: transformers does not read it in the family {family} either");
        }
    }
}

fn dropped<'a>(config: &'a Config) -> impl Iterator<Item = &'static str> + 'a {
    let is_off = |value: &Json| match value {
        Json::Null | Json::Bool(false) => true,
        Json::Number(number) => number.as_f64() == Some(0.0) || number.as_f64() == Some(1.0),
        Json::Array(list) => list.iter().all(|entry| *entry == 0 || entry == "full_attention"),
        Json::Bool(true) | Json::String(_) | Json::Object(_) => false,
    };
    let asked = config.asked.borrow().clone();
    OF_OTHERS.into_iter().filter(move |key| !asked.contains(*key) && config.keys.get(key).is_some_and(|value| !is_off(value)))
}
