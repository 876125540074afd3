//! A model's hyper-parameters under one set of names, whether they come from `config.json` or from GGUF metadata.
//!
//! The tables of `keys` are the only place that knows how either format spells a key. What a file
//! does not state (a tied head, a bias in GGUF) is read off its tensors here, once. Every number is
//! checked for a sane range before anybody uses it, so that no allocation or division below can go
//! wrong. Every key that is asked for is noted: `dropped` looks at the others.

mod dropped;
mod keys;
mod layers;
mod rope;

pub use dropped::{refuse_dropped, refuse_dropped_of_tokenizer};

use crate::error::{Error, Result};
use crate::spec::{Activation, Head};
use crate::tensors::{Metadata, Stored, Value, Weights};
use serde_json::Value as Json;
use std::cell::RefCell;
use std::collections::BTreeSet;

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
    /// `model_type`, or `general.architecture`.
    family: String,
    weights: &'a Weights,
}

enum Source<'a> {
    Config(Config<'a>),
    Gguf(&'a Metadata),
}

/// A parsed config.json, which notes the keys that it was asked for.
struct Config<'a> {
    file: String,
    keys: &'a Json,
    asked: RefCell<BTreeSet<String>>,
}

impl<'a> Config<'a> {
    fn get(&self, key: &str) -> Option<&'a Json> {
        self.asked.borrow_mut().insert(key.to_owned());
        self.keys.get(key)
    }

    /// The same, with null as absent.
    fn some(&self, key: &str) -> Option<&'a Json> {
        self.get(key).filter(|value| !value.is_null())
    }
}

impl<'a> Hparams<'a> {
    /// From the parsed `config.json` in `file`.
    pub fn from_config(file: &str, config: &'a Json, weights: &'a Weights) -> Self {
        let family = config.get("model_type").and_then(Json::as_str).unwrap_or_default().to_owned();
        let config = Config { file: file.to_owned(), keys: config, asked: RefCell::default() };
        Hparams { source: Source::Config(config), family, weights }
    }

    /// From a GGUF file whose `general.architecture` is `family`.
    pub fn from_gguf(metadata: &'a Metadata, family: &str, weights: &'a Weights) -> Self {
        Hparams { source: Source::Gguf(metadata), family: family.to_owned(), weights }
    }

    /// Whether these come from a GGUF file, whose rotary pairs and norms are stored differently.
    pub fn is_gguf(&self) -> bool {
        matches!(self.source, Source::Gguf { .. })
    }

    /// The family, as the file calls it.
    pub fn family(&self) -> &str {
        &self.family
    }

    /// The file, for messages.
    pub fn file(&self) -> &str {
        match &self.source {
            Source::Config(config) => &config.file,
            Source::Gguf(metadata) => metadata.file(),
        }
    }

    /// The model's tensors, under their GGUF names.
    pub fn weights(&self) -> &Weights {
        self.weights
    }

    /// How this file spells `name`, for messages.
    pub fn spelling(&self, name: &str) -> String {
        let row = keys::row(name);
        match &self.source {
            Source::Config(_) => row.1.first().unwrap_or(&row.0).to_string(),
            Source::Gguf(_) => format!("{}.{}", self.family, row.2.first().unwrap_or(&row.0)),
        }
    }

    fn wrong(&self, name: &str, why: impl std::fmt::Display) -> Error {
        Error::corrupt(self.file(), format!("key {}: {why}", self.spelling(name)))
    }

    /// The value under our `name`, as JSON, or what the family takes where the file has no such
    /// key; null is none.
    fn value(&self, name: &str) -> Result<Option<Json>> {
        let row = keys::row(name);
        let stated = match &self.source {
            Source::Config(config) => {
                // All of them are asked for, also those that a better one hides.
                let values: Vec<_> = row.1.iter().filter_map(|key| config.get(key)).collect();
                let is_null = !values.is_empty();
                let value = values.into_iter().find(|value| !value.is_null()).cloned();
                if value.is_none() && is_null {
                    return Ok(None);
                }
                value
            }
            Source::Gguf(_) => {
                let mut values = Vec::new();
                for key in row.2 {
                    values.extend(self.gguf_value(key)?);
                }
                values.into_iter().next()
            }
        };
        Ok(stated.or_else(|| match keys::default(name, &self.family, self.is_gguf())? {
            whole if whole.fract() == 0.0 => Some(Json::from(whole as u64)),
            part => Some(Json::from(part)),
        }))
    }

    /// A GGUF value below the architecture's prefix; a per-layer array counts only if all its values are equal.
    fn gguf_value(&self, key: &str) -> Result<Option<Json>> {
        let Source::Gguf(metadata) = &self.source else { return Ok(None) };
        let key = format!("{}.{key}", self.family);
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

    /// Whether the file has the key at all, be it null.
    pub fn is_stated(&self, name: &str) -> bool {
        let row = keys::row(name);
        match &self.source {
            Source::Config(config) => row.1.iter().any(|key| config.get(key).is_some()),
            Source::Gguf(metadata) => row.2.iter().any(|key| metadata.get(&format!("{}.{key}", self.family)).is_some()),
        }
    }

    /// Whether config.json has a list under `key` that is not empty.
    pub fn is_listed(&self, key: &str) -> bool {
        match &self.source {
            Source::Config(config) => config.get(key).and_then(Json::as_array).is_some_and(|list| !list.is_empty()),
            Source::Gguf(_) => false,
        }
    }

    /// A norm's epsilon: `default` where neither the file nor the family's configuration class has
    /// one. A GGUF file must state it, in llama.cpp; here one that does not is a warning.
    pub fn eps(&self, name: &str, default: f64) -> Result<f64> {
        let default = keys::default(name, &self.family, false).unwrap_or(default);
        if self.is_gguf() && !self.is_stated(name) {
            log::warn!("{}: key {} is missing: {default:e} is taken", self.file(), self.spelling(name));
        }
        Ok(self.positive(name)?.unwrap_or(default))
    }

    /// A GGUF file's key that tells over again what is known: another value is refused.
    pub fn repeats(&self, name: &str, known: usize) -> Result<()> {
        match self.value(name)? {
            Some(value) if self.is_gguf() && value.as_u64() != Some(known as u64) => {
                let what = format!("{}: key {} = {value}", self.file(), self.spelling(name));
                Err(Error::unsupported(what, format!("{known} in the family {}", self.family)))
            }
            _ => Ok(()),
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
        let Source::Config(config) = &self.source else { return Ok(default) };
        match config.some(key) {
            None => Ok(default),
            Some(Json::Bool(flag)) => Ok(*flag),
            Some(other) => Err(Error::corrupt(&config.file, format!("key {key} is {other}, expected true or false"))),
        }
    }

    /// The activation function; `default` where the file does not name one.
    pub fn activation(&self, default: Activation) -> Result<Activation> {
        self.activation_of("activation", default)
    }

    /// The same under another of our names: Gemma 2 and 3 have `hidden_activation`.
    pub fn activation_of(&self, name: &str, default: Activation) -> Result<Activation> {
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
        let Some(value) = self.value(name)? else { return Ok(default) };
        let name = value.as_str().ok_or_else(|| self.wrong(name, format!("is {value}, expected a name")))?;
        NAMES.iter().find(|row| row.0 == name).map(|row| row.1).ok_or_else(|| {
            let known: Vec<_> = NAMES.iter().map(|row| row.0).collect();
            Error::unsupported(format!("{}: activation {name:?}", self.file()), known.join(", "))
        })
    }

    /// Whether a position sees only itself and earlier ones. Both formats have decoders that were
    /// trained on as encoders.
    pub fn causal(&self) -> Result<bool> {
        match self.gguf_value("attention.causal")? {
            None => self.flag("is_causal", true),
            Some(Json::Bool(causal)) => Ok(causal),
            Some(other) => {
                let why = format!("key {}.attention.causal is {other}, expected true or false", self.family);
                Err(Error::corrupt(self.file(), why))
            }
        }
    }

    /// Whether the first block has a bias here. GGUF files state no biases: their tensors do.
    pub fn stores_bias(&self, part: &str) -> bool {
        self.is_gguf() && self.weights.contains(&format!("blk.0.{part}.bias"))
    }

    /// The output matrix: what the tensors say, then the key, then whether it is the embedding
    /// table by `default`.
    ///
    /// A GGUF file without an output matrix means the embedding table. A config.json that says
    /// `false` and brings none is of a base model, which has no logits (transformers makes some
    /// up). One that says `true` beats a stray copy, but not another matrix, as a fine-tune may
    /// have it: transformers does not tie those either.
    pub fn head(&self, default: bool) -> Result<Head> {
        let tied = self.flag("tie_word_embeddings", default)?;
        Ok(match self.weights.contains("output.weight") {
            false if self.is_gguf() || tied => Head::Tied,
            false => Head::None,
            true if !self.is_gguf() && tied && self.output_is_table() => Head::Tied,
            true => Head::Own,
        })
    }

    /// Whether the output matrix that a file stores is a copy of the embedding table.
    fn output_is_table(&self) -> bool {
        let is_copy = match (self.weights.get("output.weight"), self.weights.get("token_embd.weight")) {
            (Some(output), Some(table)) => is_copy(output, table),
            _ => true,
        };
        if !is_copy {
            log::warn!("tie_word_embeddings is true, but the output matrix is not the embedding table: it is used");
        }
        is_copy
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::quant::Dtype;
    use serde_json::json;

    #[test]
    fn a_head_is_tied_where_the_configuration_says_so_and_none_where_it_says_no_and_brings_none() {
        let head = |config: Json, output: Option<u8>| {
            let mut weights = Weights::new("m");
            for (name, byte) in [("token_embd.weight", Some(1)), ("output.weight", output)] {
                let Some(byte) = byte else { continue };
                // Longer than what is looked at, with the difference at its end.
                let mut data = vec![1; 4 * 64 * 64];
                data[4 * 64 * 64 - 4] = byte;
                let stored = Stored { name: name.into(), dtype: Dtype::F32, shape: vec![64, 64], data: data.into() };
                weights.insert(stored).unwrap();
            }
            Hparams::from_config("config.json", &config, &weights).head(false).unwrap()
        };
        let says = |tie: bool| json!({"tie_word_embeddings": tie});
        assert_eq!((head(says(false), None), head(says(true), None)), (Head::None, Head::Tied));
        assert_eq!((head(says(true), Some(1)), head(says(true), Some(2))), (Head::Tied, Head::Own));
        assert_eq!((head(says(false), Some(1)), head(json!({}), Some(1))), (Head::Own, Head::Own));
    }
}
