//! A model's hyper-parameters under one set of names, whether they come from `config.json` or from GGUF metadata.
//!
//! The table [`KEYS`] is the only place that knows how either format spells a key. What a file does not state (a tied head,
//! a bias in GGUF) is read off its tensors here, once. Every number is checked for a sane range before anybody uses it, so
//! that no allocation or division below can go wrong.

use super::{Metadata, Value, Weights};
use crate::error::{Error, Result};
use crate::spec::{Activation, RopeScaling};
use serde_json::Value as Json;

/// (our name, keys of config.json in order of preference, key of GGUF metadata after the architecture's prefix)
const KEYS: [(&str, &[&str], &str); 17] = [
    ("dim", &["hidden_size", "n_embd"], "embedding_length"),
    ("layers", &["num_hidden_layers", "n_layer"], "block_count"),
    ("heads", &["num_attention_heads", "n_head"], "attention.head_count"),
    ("kv_heads", &["num_key_value_heads"], "attention.head_count_kv"),
    ("head_dim", &["head_dim"], "attention.key_length"),
    ("value_dim", &[], "attention.value_length"),
    ("mlp_dim", &["intermediate_size", "n_inner"], "feed_forward_length"),
    ("context", &["max_position_embeddings", "n_positions", "n_ctx"], "context_length"),
    ("vocab", &["vocab_size"], "vocab_size"),
    ("rms_eps", &["rms_norm_eps"], "attention.layer_norm_rms_epsilon"),
    ("layer_eps", &["layer_norm_epsilon", "layer_norm_eps"], "attention.layer_norm_epsilon"),
    ("rope_theta", &["rope_theta"], "rope.freq_base"),
    ("rope_dims", &[], "rope.dimension_count"),
    ("window", &["sliding_window"], "attention.sliding_window"),
    ("experts", &["num_local_experts", "num_experts"], "expert_count"),
    ("activation", &["hidden_act", "activation_function", "hidden_activation"], ""),
    ("tied", &["tie_word_embeddings"], ""),
];

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

    /// A positive, finite number, if stated.
    pub fn positive(&self, name: &str) -> Result<Option<f64>> {
        let Some(value) = self.value(name)? else { return Ok(None) };
        match value.as_f64() {
            Some(x) if x.is_finite() && x > 0.0 => Ok(Some(x)),
            _ => Err(self.wrong(name, format!("is {value}, expected a positive number"))),
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
        const NAMES: [(&str, Activation); 14] = [
            ("silu", Activation::Silu),
            ("swish", Activation::Silu),
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

    /// Whether the output matrix is the embedding table: what the tensors say, then the key, then `default`.
    ///
    /// A file without an output matrix can only mean a tied one; a config that says `true` beats a stray copy.
    pub fn tied(&self, default: bool) -> Result<bool> {
        if !self.weights.contains("output.weight") {
            return Ok(true);
        }
        if self.is_gguf() {
            return Ok(false);
        }
        self.flag("tie_word_embeddings", default)
    }

    /// The rotary base: `rope_theta`, or inside `rope_parameters` in newer files.
    pub fn rope_theta(&self) -> Result<f64> {
        let stated = self.positive("rope_theta")?.unwrap_or(10_000.0);
        match self.rope_object()? {
            Some(object) => self.number(object, "rope_theta", Some(stated)),
            None => Ok(stated),
        }
    }

    /// The object that describes rotary scaling in config.json: `rope_scaling`, else `rope_parameters`; empty is absent.
    fn rope_object(&self) -> Result<Option<&Json>> {
        let Source::Config { config, file } = &self.source else { return Ok(None) };
        for key in ["rope_scaling", "rope_parameters"] {
            let Some(value) = config.get(key).filter(|v| !v.is_null()) else { continue };
            let Some(object) = value.as_object() else {
                return Err(Error::corrupt(file, format!("key {key} is {value}, expected an object")));
            };
            if object.values().any(Json::is_object) {
                let what = format!("{file}: key {key} with parameters for each kind of layer");
                return Err(Error::unsupported(what, "one set of parameters"));
            }
            if object.get("partial_rotary_factor").and_then(Json::as_f64).is_some_and(|factor| factor != 1.0) {
                return Err(Error::unsupported(format!("{file}: partial_rotary_factor in {key}"), "whole heads rotated"));
            }
            if !object.is_empty() {
                return Ok(Some(value));
            }
        }
        Ok(None)
    }

    /// A positive number in the rope object; `default` where it is absent.
    fn number(&self, object: &Json, key: &str, default: Option<f64>) -> Result<f64> {
        match object.get(key).filter(|v| !v.is_null()) {
            None => default.ok_or_else(|| Error::corrupt(self.file(), format!("rope scaling: key {key} is missing"))),
            Some(value) => match value.as_f64() {
                Some(x) if x.is_finite() && x > 0.0 => Ok(x),
                _ => {
                    Err(Error::corrupt(self.file(), format!("rope scaling: key {key} is {value}, expected a positive number")))
                }
            },
        }
    }

    /// How the rotary frequencies are stretched. `context` is the model's stated context.
    pub fn rope_scaling(&self, context: usize) -> Result<RopeScaling> {
        match &self.source {
            Source::Config { .. } => self.config_rope_scaling(context),
            Source::Gguf { .. } => self.gguf_rope_scaling(context),
        }
    }

    fn config_rope_scaling(&self, context: usize) -> Result<RopeScaling> {
        let Some(object) = self.rope_object()? else { return Ok(RopeScaling::None) };
        let kind = match object.get("rope_type").or_else(|| object.get("type")) {
            None => "default",
            Some(kind) => kind.as_str().ok_or_else(|| {
                Error::corrupt(self.file(), format!("rope scaling: key rope_type is {kind}, expected a name"))
            })?,
        };
        let original = |default: usize| -> Result<usize> {
            Ok(self.number(object, "original_max_position_embeddings", Some(default as f64))? as usize)
        };
        match kind {
            "default" => Ok(RopeScaling::None),
            "linear" => Ok(RopeScaling::Linear { factor: self.number(object, "factor", None)? }),
            "llama3" => Ok(RopeScaling::Llama3 {
                factor: self.number(object, "factor", None)?,
                low_freq_factor: self.number(object, "low_freq_factor", None)?,
                high_freq_factor: self.number(object, "high_freq_factor", None)?,
                original_context: original(context)?,
            }),
            "yarn" => {
                let factor = self.number(object, "factor", None)?;
                // transformers takes the stated context for the original one where the object does not name it.
                let original_context = original(context)?;
                let attention_factor = match object.get("attention_factor").filter(|v| !v.is_null()) {
                    Some(_) => self.number(object, "attention_factor", None)?,
                    None => self.yarn_attention_factor(object, factor)?,
                };
                Ok(RopeScaling::Yarn {
                    factor,
                    original_context,
                    beta_fast: self.number(object, "beta_fast", Some(32.0))?,
                    beta_slow: self.number(object, "beta_slow", Some(1.0))?,
                    attention_factor,
                    truncate: object.get("truncate").and_then(Json::as_bool).unwrap_or(true),
                })
            }
            other => {
                Err(Error::unsupported(format!("{}: rope scaling {other:?}", self.file()), "default, linear, llama3, yarn"))
            }
        }
    }

    /// transformers' `_compute_yarn_parameters`: 0.1 m ln(factor) + 1, as a ratio where both mscales are given.
    fn yarn_attention_factor(&self, object: &Json, factor: f64) -> Result<f64> {
        let mscale = |m: f64| if factor <= 1.0 { 1.0 } else { 0.1 * m * factor.ln() + 1.0 };
        let given = |key| object.get(key).and_then(Json::as_f64).filter(|x| *x != 0.0);
        match (given("mscale"), given("mscale_all_dim")) {
            (Some(one), Some(all)) => Ok(mscale(one) / mscale(all)),
            _ => Ok(mscale(1.0)),
        }
    }

    /// GGUF: `rope_freqs.weight` (Llama 3), else the `rope.scaling` keys.
    fn gguf_rope_scaling(&self, context: usize) -> Result<RopeScaling> {
        if let Some(stored) = self.weights.get("rope_freqs.weight") {
            let factors = stored.to_f32();
            if factors.iter().any(|f| !f.is_finite() || *f <= 0.0) {
                return Err(Error::corrupt(self.file(), "tensor rope_freqs.weight: expected positive numbers"));
            }
            return Ok(RopeScaling::Factors(factors));
        }
        let key = |key: &str| self.gguf_value(&format!("rope.scaling.{key}"));
        let number = |name: &str, default: f64| -> Result<f64> {
            match key(name)? {
                None => Ok(default),
                Some(value) => match value.as_f64() {
                    // As in llama.cpp, 0 stands for "not stated".
                    Some(0.0) => Ok(default),
                    Some(x) if x.is_finite() && x > 0.0 => Ok(x),
                    _ => Err(Error::corrupt(
                        self.file(),
                        format!("key rope.scaling.{name} is {value}, expected a positive number"),
                    )),
                },
            }
        };
        let kind = key("type")?;
        match kind.as_ref().map(|k| k.as_str().unwrap_or("?")) {
            Some("none") => Ok(RopeScaling::None),
            // llama.cpp takes an absent type for linear; `scale_linear` is the key the factor had before there were types.
            None | Some("linear") => {
                let old = self.gguf_value("rope.scale_linear")?.and_then(|v| v.as_f64());
                let old = old.filter(|factor| factor.is_finite() && *factor > 0.0).unwrap_or(1.0);
                match number("factor", old)? {
                    1.0 => Ok(RopeScaling::None),
                    factor => Ok(RopeScaling::Linear { factor }),
                }
            }
            Some("yarn") => {
                let factor = number("factor", 1.0)?;
                let attention = if factor <= 1.0 { 1.0 } else { 0.1 * factor.ln() + 1.0 };
                Ok(RopeScaling::Yarn {
                    factor,
                    original_context: number("original_context_length", context as f64)? as usize,
                    beta_fast: number("yarn_beta_fast", 32.0)?,
                    beta_slow: number("yarn_beta_slow", 1.0)?,
                    attention_factor: attention * number("attn_factor", 1.0)?,
                    truncate: true,
                })
            }
            Some(other) => Err(Error::unsupported(
                format!("{}: key rope.scaling.type {other:?}", self.file()),
                "none, linear, yarn, and the tensor rope_freqs.weight",
            )),
        }
    }
}
