//! How a file says what its rotary embedding is: base, width, pairing and stretching, for each kind of layer.
//!
//! The trap: there are four spellings. `rope_theta` and `rope_scaling` in older config.json files, `rope_parameters` in newer
//! ones (one object, or one for each kind of layer), keys `rope.*` in GGUF, and tensors of factors in GGUF. Defaults are those
//! of transformers' `modeling_rope_utils.py` and of llama.cpp.

use super::{Hparams, Source};
use crate::error::{Error, Result};
use crate::spec::{Layers, Pairing, Rope, RopeScaling};
use serde_json::{Map, Value as Json};

impl Hparams<'_> {
    /// The rotation of the layers that see all positions; in most models, of all layers.
    pub fn rope(&self, head_dim: usize, context: usize) -> Result<Rope> {
        self.rope_from(10_000.0, head_dim, context)
    }

    /// The same, where the base that goes without saying is `theta`.
    pub fn rope_from(&self, theta: f64, head_dim: usize, context: usize) -> Result<Rope> {
        self.rope_of("full_attention", self.positive("rope_theta")?.unwrap_or(theta), head_dim, context)
    }

    /// The rotation of window layers, where they have a base of their own (Gemma 3): `theta` unless one is stated, and no
    /// scaling.
    pub fn local_rope(&self, theta: f64, head_dim: usize, context: usize) -> Result<Rope> {
        let theta = self.positive("local_rope_theta")?.unwrap_or(theta);
        let rope = self.rope_of("sliding_attention", theta, head_dim, context)?;
        let nested = self.rope_objects()?.is_some_and(|object| object.values().any(Json::is_object));
        if nested {
            return Ok(rope);
        }
        Ok(Rope { theta, scaling: RopeScaling::None, ..rope })
    }

    /// The rotation of one kind of layers, as `layer_types` calls them. `theta` counts where the rope object has none.
    fn rope_of(&self, kind: &str, theta: f64, head_dim: usize, context: usize) -> Result<Rope> {
        let object = self.rope_object(kind)?;
        let theta = object.map_or(Ok(theta), |object| self.number(object, "rope_theta", Some(theta)))?;
        let dims = match self.size("rope_dims")? {
            Some(dims) => dims,
            None => {
                let config = self.config().unwrap_or(&Json::Null);
                let stated = object.and_then(|object| object.get("partial_rotary_factor"));
                let stated = stated.or_else(|| config.get("partial_rotary_factor")).filter(|v| !v.is_null());
                let part = stated.map_or(Some(1.0), Json::as_f64).filter(|part| *part > 0.0 && *part <= 1.0);
                let why = "key partial_rotary_factor: expected a number above 0, up to 1";
                (head_dim as f64 * part.ok_or_else(|| Error::corrupt(self.file(), why))?) as usize
            }
        };
        let scaling = match &self.source {
            Source::Config { .. } => self.config_rope_scaling(object, context)?,
            Source::Gguf { .. } => self.gguf_rope_scaling(context)?,
        };
        Ok(Rope { theta, dims, pairing: self.pairing(), scaling, layers: Layers::All })
    }

    /// Which dimensions rotate together. Converters permute q and k for these architectures, and only for them.
    fn pairing(&self) -> Pairing {
        const PERMUTED: [&str; 3] = ["llama", "smollm3", "granite"];
        match &self.source {
            Source::Gguf { family, .. } if PERMUTED.contains(&family.as_str()) => Pairing::Interleaved,
            Source::Gguf { .. } | Source::Config { .. } => Pairing::Halves,
        }
    }

    fn config(&self) -> Option<&Json> {
        match &self.source {
            Source::Config { config, .. } => Some(config),
            Source::Gguf { .. } => None,
        }
    }

    /// What describes rotation in config.json beside plain keys: `rope_scaling`, else `rope_parameters`; empty is absent.
    fn rope_objects(&self) -> Result<Option<&Map<String, Json>>> {
        let Some(config) = self.config() else { return Ok(None) };
        for key in ["rope_scaling", "rope_parameters"] {
            let Some(value) = config.get(key).filter(|v| !v.is_null()) else { continue };
            match value.as_object() {
                Some(object) if object.is_empty() => {}
                Some(object) => return Ok(Some(object)),
                None => return Err(Error::corrupt(self.file(), format!("key {key} is {value}, expected an object"))),
            }
        }
        Ok(None)
    }

    /// The same for one kind of layers: newer files nest an object for each.
    fn rope_object(&self, kind: &str) -> Result<Option<&Map<String, Json>>> {
        let Some(object) = self.rope_objects()? else { return Ok(None) };
        if !object.values().any(Json::is_object) {
            return Ok(Some(object));
        }
        match object.get(kind).and_then(Json::as_object) {
            Some(own) => Ok(Some(own)),
            None => Err(Error::corrupt(self.file(), format!("rope_parameters has no object {kind}"))),
        }
    }

    /// A positive number in the rope object; `default` where it is absent.
    fn number(&self, object: &Map<String, Json>, key: &str, default: Option<f64>) -> Result<f64> {
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
    fn config_rope_scaling(&self, object: Option<&Map<String, Json>>, context: usize) -> Result<RopeScaling> {
        let Some(object) = object else { return Ok(RopeScaling::None) };
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
            // "su" is LongRoPE's name in the first Phi-3 files.
            "longrope" | "su" => self.config_longrope(object, context),
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
            other => Err(Error::unsupported(
                format!("{}: rope scaling {other:?}", self.file()),
                "default, linear, llama3, longrope, yarn",
            )),
        }
    }

    /// transformers' `_compute_longrope_parameters`. The original context is inside the object or, in Phi-3's files, beside it.
    fn config_longrope(&self, object: &Map<String, Json>, context: usize) -> Result<RopeScaling> {
        let beside = self.config().and_then(|config| config.get("original_max_position_embeddings")).and_then(Json::as_f64);
        let original = self.number(object, "original_max_position_embeddings", Some(beside.unwrap_or(context as f64)))?;
        let list = |key: &str| -> Result<Vec<f32>> {
            let numbers = object.get(key).and_then(Json::as_array).into_iter().flatten();
            let numbers: Vec<f32> = numbers.map(|x| x.as_f64().unwrap_or(0.0) as f32).collect();
            match !numbers.is_empty() && numbers.iter().all(|x| x.is_finite() && *x > 0.0) {
                true => Ok(numbers),
                false => {
                    Err(Error::corrupt(self.file(), format!("rope scaling: key {key}: expected a list of positive numbers")))
                }
            }
        };
        let factor = self.number(object, "factor", Some(context as f64 / original))?;
        let attention_factor = self.number(object, "attention_factor", Some(longrope_attention_factor(factor, original)))?;
        let (short, long) = (list("short_factor")?, list("long_factor")?);
        Ok(RopeScaling::Long { short, long, original_context: original as usize, attention_factor })
    }

    /// transformers' `_compute_yarn_parameters`: 0.1 m ln(factor) + 1, as a ratio where both mscales are given.
    fn yarn_attention_factor(&self, object: &Map<String, Json>, factor: f64) -> Result<f64> {
        let mscale = |m: f64| if factor <= 1.0 { 1.0 } else { 0.1 * m * factor.ln() + 1.0 };
        let given = |key| object.get(key).and_then(Json::as_f64).filter(|x| *x != 0.0);
        match (given("mscale"), given("mscale_all_dim")) {
            (Some(one), Some(all)) => Ok(mscale(one) / mscale(all)),
            _ => Ok(mscale(1.0)),
        }
    }

    /// GGUF: `rope_freqs.weight` (Llama 3), else the `rope.scaling` keys.
    fn gguf_rope_scaling(&self, context: usize) -> Result<RopeScaling> {
        if let Some(factors) = self.rope_factors("rope_freqs.weight")? {
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
        let sets = (self.rope_factors("rope_factors_short.weight")?, self.rope_factors("rope_factors_long.weight")?);
        if let (Some(short), Some(long)) = sets {
            let original = number("original_context_length", context as f64)?;
            let attention_factor = number("attn_factor", longrope_attention_factor(context as f64 / original, original))?;
            return Ok(RopeScaling::Long { short, long, original_context: original as usize, attention_factor });
        }
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
                "none, linear, yarn, and tensors of frequency factors",
            )),
        }
    }
    /// A tensor of divisors of frequencies.
    fn rope_factors(&self, name: &str) -> Result<Option<Vec<f32>>> {
        let Some(stored) = self.weights.get(name) else { return Ok(None) };
        let factors = stored.to_f32();
        if factors.iter().any(|f| !f.is_finite() || *f <= 0.0) {
            return Err(Error::corrupt(self.file(), format!("tensor {name}: expected positive numbers")));
        }
        Ok(Some(factors))
    }
}

/// The factor on cos and sin for a context stretched by `factor`.
fn longrope_attention_factor(factor: f64, original_context: f64) -> f64 {
    if factor <= 1.0 { 1.0 } else { (1.0 + factor.ln() / original_context.ln()).sqrt() }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tensors::Weights;
    use serde_json::json;

    fn ropes(config: Json) -> Result<(Rope, Rope)> {
        let weights = Weights::new("config.json");
        let h = Hparams::from_config("config.json", &config, &weights);
        Ok((h.rope(64, 4096)?, h.local_rope(10_000.0, 64, 4096)?))
    }

    #[test]
    fn both_spellings_of_two_bases_say_the_same() {
        let old = json!({
            "rope_theta": 1e6, "rope_local_base_freq": 2e4, "rope_scaling": {"rope_type": "linear", "factor": 8.0}
        });
        let new = json!({"rope_parameters": {
            "full_attention": {"rope_theta": 1e6, "rope_type": "linear", "factor": 8.0},
            "sliding_attention": {"rope_theta": 2e4, "rope_type": "default"},
        }});
        let (global, local) = ropes(old.clone()).unwrap();
        assert_eq!((global.theta, &global.scaling), (1e6, &RopeScaling::Linear { factor: 8.0 }));
        assert_eq!((local.theta, &local.scaling), (2e4, &RopeScaling::None));
        assert_eq!(ropes(new).unwrap(), (global, local));
    }

    #[test]
    fn a_part_of_each_head_rotates_where_the_file_says_so() {
        for config in [json!({"partial_rotary_factor": 0.75}), json!({"rope_parameters": {"partial_rotary_factor": 0.75}})] {
            assert_eq!(ropes(config).unwrap().0.dims, 48);
        }
        assert_eq!(ropes(json!({"partial_rotary_factor": null})).unwrap().0.dims, 64);
        let error = ropes(json!({"partial_rotary_factor": 1.5})).unwrap_err().to_string();
        assert!(error.contains("partial_rotary_factor"), "{error}");
    }

    #[test]
    fn longrope_needs_both_lists_and_finds_its_original_context_beside_the_object() {
        let scaling = json!({"type": "su", "short_factor": [1.0, 2.0], "long_factor": [3.0, 4.0]});
        let (rope, _) = ropes(json!({"rope_scaling": scaling, "original_max_position_embeddings": 1024})).unwrap();
        let attention_factor = (1.0 + 4f64.ln() / 1024f64.ln()).sqrt();
        let (short, long) = (vec![1.0, 2.0], vec![3.0, 4.0]);
        assert_eq!(rope.scaling, RopeScaling::Long { short, long, original_context: 1024, attention_factor });
        let error = ropes(json!({"rope_scaling": {"type": "longrope", "short_factor": [1.0]}})).unwrap_err().to_string();
        assert!(error.contains("long_factor"), "{error}");
    }
}
