//! A model's hyper-parameters under one set of names, whether they come from `config.json` or from GGUF metadata.
//!
//! The table [`KEYS`] is the only place that knows how either format spells a key. What a file does not state (a tied head,
//! a bias in GGUF) is read off its tensors here, once. Every number is checked for a sane range before anybody uses it, so
//! that no allocation or division below can go wrong.

mod layers;
mod rope;

use crate::error::{Error, Result};
use crate::spec::Activation;
use crate::tensors::{Metadata, Stored, Value, Weights};
use serde_json::Value as Json;

/// (our name, keys of config.json in order of preference, key of GGUF metadata after the architecture's prefix)
const KEYS: [(&str, &[&str], &str); 34] = [
    ("dim", &["hidden_size", "n_embd", "dim"], "embedding_length"),
    ("layers", &["num_hidden_layers", "n_layer", "n_layers"], "block_count"),
    ("heads", &["num_attention_heads", "n_head", "n_heads"], "attention.head_count"),
    ("kv_heads", &["num_key_value_heads"], "attention.head_count_kv"),
    ("head_dim", &["head_dim"], "attention.key_length"),
    ("value_dim", &[], "attention.value_length"),
    ("mlp_dim", &["intermediate_size", "n_inner", "hidden_dim"], "feed_forward_length"),
    ("context", &["max_position_embeddings", "n_positions", "n_ctx"], "context_length"),
    ("vocab", &["vocab_size"], "vocab_size"),
    ("rms_eps", &["rms_norm_eps"], "attention.layer_norm_rms_epsilon"),
    ("layer_eps", &["layer_norm_epsilon", "layer_norm_eps", "norm_epsilon"], "attention.layer_norm_epsilon"),
    ("rope_theta", &["rope_theta", "rotary_emb_base"], "rope.freq_base"),
    ("rope_dims", &[], "rope.dimension_count"),
    ("local_rope_theta", &["rope_local_base_freq"], "rope.freq_base_swa"),
    ("window", &["sliding_window"], "attention.sliding_window"),
    ("window_pattern", &["sliding_window_pattern", "_sliding_window_pattern"], "attention.sliding_window_pattern"),
    ("window_first", &["max_window_layers"], ""),
    ("no_rope_interval", &["no_rope_layer_interval"], ""),
    ("score_cap", &["attn_logit_softcapping"], "attn_logit_softcapping"),
    ("logit_cap", &["final_logit_softcapping"], "final_logit_softcapping"),
    ("query_scale", &["query_pre_attn_scalar"], ""),
    ("score_scale", &["attention_multiplier"], "attention.scale"),
    ("embed_scale", &["embedding_multiplier"], "embedding_scale"),
    ("residual_scale", &["residual_multiplier"], "residual_scale"),
    ("logit_divisor", &["logits_scaling"], "logit_scale"),
    ("experts", &["num_local_experts", "num_experts"], "expert_count"),
    ("sparse_step", &["decoder_sparse_step"], ""),
    ("experts_used", &["num_experts_per_tok"], "expert_used_count"),
    ("expert_dim", &["moe_intermediate_size"], "expert_feed_forward_length"),
    ("activation", &["hidden_act", "activation_function", "hidden_activation", "activation"], ""),
    ("token_types", &["type_vocab_size"], ""),
    ("rotary_scaling_factor", &["rotary_scaling_factor"], ""),
    ("padding", &["pad_token_id"], ""),
    ("position_embedding_type", &["position_embedding_type"], ""),
];

/// Whether two matrices are the same, by what is looked at in either: no training leaves so much of one as it was.
fn is_copy(a: &Stored, b: &Stored) -> bool {
    const LOOKS: usize = 256;
    const BYTES: usize = 4096;
    let len = a.data.len();
    let same = |at: usize| a.data[at..(at + BYTES).min(len)] == b.data[at..(at + BYTES).min(len)];
    a.dtype == b.dtype && a.shape == b.shape && (0..len).step_by((len / LOOKS).max(BYTES)).all(same)
}

/// The largest size, count or position that is believed; beyond it a file is damaged or hostile.
const MOST: u64 = 1 << 27;

/// Hyper-parameters of one model, with its tensors at hand for what the file leaves unsaid.
pub struct Hparams<'a> {
    source: Source<'a>,
    weights: &'a Weights,
}

enum Source<'a> {
    Config { file: String, config: &'a Json },
    Gguf { metadata: &'a Metadata, family: String },
}

impl<'a> Hparams<'a> {
    /// From the parsed `config.json` in `file`.
    pub fn from_config(file: &str, config: &'a Json, weights: &'a Weights) -> Self {
        Hparams { source: Source::Config { file: file.to_owned(), config }, weights }
    }

    /// From a GGUF file whose `general.architecture` is `family`.
    pub fn from_gguf(metadata: &'a Metadata, family: &str, weights: &'a Weights) -> Self {
        Hparams { source: Source::Gguf { metadata, family: family.to_owned() }, weights }
    }

    /// Whether these come from a GGUF file, whose rotary pairs and norms are stored differently.
    pub fn is_gguf(&self) -> bool {
        matches!(self.source, Source::Gguf { .. })
    }

    /// The file, for messages.
    pub fn file(&self) -> &str {
        match &self.source {
            Source::Config { file, .. } => file,
            Source::Gguf { metadata, .. } => metadata.file(),
        }
    }

    /// The model's tensors, under their GGUF names.
    pub fn weights(&self) -> &Weights {
        self.weights
    }

    /// How this file spells `name`, for messages.
    fn spelling(&self, name: &str) -> String {
        let row = KEYS.iter().find(|row| row.0 == name).expect("every name asked for is in KEYS");
        match &self.source {
            Source::Config { .. } => row.1.first().unwrap_or(&row.0).to_string(),
            Source::Gguf { family, .. } => format!("{family}.{}", row.2),
        }
    }

    fn wrong(&self, name: &str, why: impl std::fmt::Display) -> Error {
        Error::corrupt(self.file(), format!("key {}: {why}", self.spelling(name)))
    }

    /// The value under our `name`, as JSON; absent and null are the same.
    fn value(&self, name: &str) -> Result<Option<Json>> {
        let row = KEYS.iter().find(|row| row.0 == name).expect("every name asked for is in KEYS");
        match &self.source {
            Source::Config { config, .. } => Ok(row.1.iter().filter_map(|key| config.get(key)).find(|v| !v.is_null()).cloned()),
            Source::Gguf { .. } if row.2.is_empty() => Ok(None),
            Source::Gguf { .. } => self.gguf_value(row.2),
        }
    }

    /// A GGUF value below the architecture's prefix; a per-layer array counts only if all its values are equal.
    fn gguf_value(&self, key: &str) -> Result<Option<Json>> {
        let Source::Gguf { metadata, family } = &self.source else { return Ok(None) };
        let key = format!("{family}.{key}");
        let Some(value) = metadata.get(&key) else { return Ok(None) };
        let same = |numbers: Vec<Json>| match numbers.first() {
            Some(first) if numbers.iter().all(|n| n == first) => Ok(Some(first.clone())),
            Some(_) => Err(Error::unsupported(
                format!("{}: key {key} differs from layer to layer, which", metadata.file()),
                "one value for all layers",
            )),
            None => Err(Error::corrupt(metadata.file(), format!("key {key} is an empty array"))),
        };
        match value {
            Value::U64(n) => Ok(Some(Json::from(*n))),
            Value::I64(n) => Ok(Some(Json::from(*n))),
            Value::F32(x) => Ok(Some(Json::from(f64::from(*x)))),
            Value::F64(x) => Ok(Some(Json::from(*x))),
            Value::Bool(b) => Ok(Some(Json::from(*b))),
            Value::String(s) => Ok(Some(Json::from(s.as_str()))),
            Value::Array(_) => same(metadata.ints(&key)?.unwrap_or_default().into_iter().map(Json::from).collect()),
        }
    }

    /// Whether config.json has the key at all, be it null.
    pub fn is_stated(&self, name: &str) -> bool {
        let row = KEYS.iter().find(|row| row.0 == name).expect("every name asked for is in KEYS");
        match &self.source {
            Source::Config { config, .. } => row.1.iter().any(|key| config.get(key).is_some()),
            Source::Gguf { metadata, family } => metadata.get(&format!("{family}.{}", row.2)).is_some(),
        }
    }

    /// Whether config.json has a list under `key` that is not empty.
    pub fn is_listed(&self, key: &str) -> bool {
        match &self.source {
            Source::Config { config, .. } => config.get(key).and_then(Json::as_array).is_some_and(|list| !list.is_empty()),
            Source::Gguf { .. } => false,
        }
    }

    /// A count or size between 1 and a sane maximum, if stated.
    pub fn size(&self, name: &str) -> Result<Option<usize>> {
        let Some(value) = self.value(name)? else { return Ok(None) };
        match value.as_u64() {
            Some(n) if (1..=MOST).contains(&n) => Ok(Some(n as usize)),
            _ => Err(self.wrong(name, format!("is {value}, expected a whole number between 1 and {MOST}"))),
        }
    }

    /// A count or size where 0 means that there is none.
    pub fn optional_size(&self, name: &str) -> Result<Option<usize>> {
        match self.value(name)? {
            Some(value) if value.as_u64() == Some(0) => Ok(None),
            _ => self.size(name),
        }
    }

    /// A count or size that the file must state.
    pub fn need(&self, name: &str) -> Result<usize> {
        self.size(name)?.ok_or_else(|| self.wrong(name, "is missing; expected a whole number"))
    }

    /// A token's number, if stated.
    pub fn token(&self, name: &str) -> Result<Option<u32>> {
        let Some(value) = self.value(name)? else { return Ok(None) };
        match value.as_u64().and_then(|id| u32::try_from(id).ok()).filter(|id| u64::from(*id) <= MOST) {
            Some(id) => Ok(Some(id)),
            None => Err(self.wrong(name, format!("is {value}, expected the number of a token"))),
        }
    }

    /// A word, if stated.
    pub fn text(&self, name: &str) -> Result<Option<String>> {
        let Some(value) = self.value(name)? else { return Ok(None) };
        match value.as_str() {
            Some(text) => Ok(Some(text.to_owned())),
            None => Err(self.wrong(name, format!("is {value}, expected a word"))),
        }
    }

    /// A positive, finite number, if stated.
    pub fn positive(&self, name: &str) -> Result<Option<f64>> {
        let Some(value) = self.value(name)? else { return Ok(None) };
        match value.as_f64() {
            Some(x) if x.is_finite() && x > 0.0 => Ok(Some(x)),
            _ => Err(self.wrong(name, format!("is {value}, expected a positive number"))),
        }
    }

    /// A soft-cap: `default` where the file does not say, none where it says null or 0.
    pub fn cap(&self, name: &str, default: Option<f64>) -> Result<Option<f64>> {
        if !self.is_stated(name) {
            return Ok(default);
        }
        match self.value(name)? {
            Some(value) if value.as_f64() == Some(0.0) => Ok(None),
            _ => self.positive(name),
        }
    }

    /// A switch of config.json that our table does not hold; `default` where it is absent, and for GGUF files.
    pub fn flag(&self, key: &str, default: bool) -> Result<bool> {
        let Source::Config { config, file } = &self.source else { return Ok(default) };
        match config.get(key) {
            None | Some(Json::Null) => Ok(default),
            Some(Json::Bool(flag)) => Ok(*flag),
            Some(other) => Err(Error::corrupt(file, format!("key {key} is {other}, expected true or false"))),
        }
    }

    /// The activation function; `default` where the file does not name one.
    pub fn activation(&self, default: Activation) -> Result<Activation> {
        const NAMES: [(&str, Activation); 15] = [
            ("silu", Activation::Silu),
            ("swish", Activation::Silu),
            ("swiglu", Activation::Silu),
            ("gelu", Activation::Gelu),
            ("gelu_python", Activation::Gelu),
            ("gelu_new", Activation::GeluTanh),
            ("gelu_fast", Activation::GeluTanh),
            ("gelu_accurate", Activation::GeluTanh),
            ("gelu_pytorch_tanh", Activation::GeluTanh),
            ("gelu_python_tanh", Activation::GeluTanh),
            ("quick_gelu", Activation::QuickGelu),
            ("relu", Activation::Relu),
            ("relu2", Activation::Relu2),
            ("tanh", Activation::Tanh),
            ("sigmoid", Activation::Sigmoid),
        ];
        let Some(value) = self.value("activation")? else { return Ok(default) };
        let name = value.as_str().ok_or_else(|| self.wrong("activation", format!("is {value}, expected a name")))?;
        NAMES.iter().find(|row| row.0 == name).map(|row| row.1).ok_or_else(|| {
            let known: Vec<_> = NAMES.iter().map(|row| row.0).collect();
            Error::unsupported(format!("{}: activation {name:?}", self.file()), known.join(", "))
        })
    }

    /// Whether the first block has a bias here. GGUF files state no biases: their tensors do.
    pub fn stores_bias(&self, part: &str) -> bool {
        self.is_gguf() && self.weights.contains(&format!("blk.0.{part}.bias"))
    }

    /// Whether the output matrix is the embedding table: what the tensors say, then the key, then `default`.
    ///
    /// A file without an output matrix can only mean a tied one. A config that says `true` beats a stray copy, but not another matrix, as
    /// a fine-tune may have it: transformers does not tie those either.
    pub fn tied(&self, default: bool) -> Result<bool> {
        if !self.weights.contains("output.weight") {
            return Ok(true);
        }
        if self.is_gguf() || !self.flag("tie_word_embeddings", default)? {
            return Ok(false);
        }
        let is_copy = match (self.weights.get("output.weight"), self.weights.get("token_embd.weight")) {
            (Some(output), Some(table)) => is_copy(output, table),
            _ => true,
        };
        if !is_copy {
            log::warn!("tie_word_embeddings is true, but the output matrix is not the embedding table: it is used");
        }
        Ok(is_copy)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::quant::Dtype;
    use serde_json::json;

    #[test]
    fn a_head_is_tied_where_it_is_absent_or_a_copy_and_the_configuration_says_so() {
        let tied = |config: Json, output: Option<u8>| {
            let mut weights = Weights::new("m");
            for (name, byte) in [("token_embd.weight", Some(1)), ("output.weight", output)] {
                let Some(byte) = byte else { continue };
                // Longer than what is looked at, with the difference at its end.
                let mut data = vec![1; 4 * 64 * 64];
                data[4 * 64 * 64 - 4] = byte;
                let stored = Stored { name: name.into(), dtype: Dtype::F32, shape: vec![64, 64], data: data.into() };
                weights.insert(stored).unwrap();
            }
            Hparams::from_config("config.json", &config, &weights).tied(false).unwrap()
        };
        let says = |tie: bool| json!({"tie_word_embeddings": tie});
        assert!(tied(says(false), None) && tied(says(true), None));
        assert!(tied(says(true), Some(1)) && !tied(says(true), Some(2)));
        assert!(!tied(says(false), Some(1)) && !tied(json!({}), Some(1)));
    }
}
