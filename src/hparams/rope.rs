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
        let scaling = match &self.source {
            Source::Config(_) => self.config_rope_scaling(object, context)?,
            Source::Gguf(_) => self.gguf_rope_scaling(context)?,
        };
        let dims = self.rope_dims(object, &scaling, head_dim)?;
        Ok(Rope { theta, dims, pairing: self.pairing(), scaling, layers: Layers::All })
    }

    /// The leading dimensions of a head that rotate.
    ///
    /// Of transformers' families that run here only Phi-3 reads `partial_rotary_factor`. The others
    /// rotate whole heads, and fail where the frequencies are stretched, because those functions do
    /// read it. llama.cpp's graphs of Llama and Granite know whole heads only.
    fn rope_dims(&self, object: Option<&Map<String, Json>>, scaling: &RopeScaling, head_dim: usize) -> Result<usize> {
        if let Some(dims) = self.size("rope_dims")? {
            if ["llama", "granite"].contains(&self.family.as_str()) {
                self.repeats("rope_dims", head_dim)?;
            }
            return Ok(dims);
        }
        let of_phi = self.family == "phi3";
        let Source::Config(config) = &self.source else { return Ok(head_dim) };
        if !of_phi && *scaling == RopeScaling::None {
            return Ok(head_dim);
        }
        let stated = object.and_then(|object| object.get("partial_rotary_factor")).filter(|v| !v.is_null());
        let stated = config.some("partial_rotary_factor").filter(|_| stated.is_none()).or(stated);
        let part = stated.map_or(Some(1.0), Json::as_f64).filter(|part| *part > 0.0 && *part <= 1.0);
        let why = "key partial_rotary_factor: expected a number above 0, up to 1";
        let dims = (head_dim as f64 * part.ok_or_else(|| Error::corrupt(self.file(), why))?) as usize;
        match of_phi || dims == head_dim {
            true => Ok(dims),
            false => Err(Error::unsupported(
                format!("{}: key partial_rotary_factor with scaled rotary frequencies", self.file()),
                "whole heads in this family, as in transformers",
            )),
        }
    }

    /// Which dimensions rotate together. Converters permute q and k for these architectures, and
    /// only for them.
    fn pairing(&self) -> Pairing {
        const PERMUTED: [&str; 3] = ["llama", "smollm3", "granite"];
        match &self.source {
            Source::Gguf(_) if PERMUTED.contains(&self.family.as_str()) => Pairing::Interleaved,
            Source::Gguf(_) | Source::Config(_) => Pairing::Halves,
        }
    }

    /// What describes rotation in config.json beside plain keys: `rope_scaling`, else `rope_parameters`; empty is absent.
    fn rope_objects(&self) -> Result<Option<&Map<String, Json>>> {
        let Source::Config(config) = &self.source else { return Ok(None) };
        for key in ["rope_scaling", "rope_parameters"] {
            let Some(value) = config.some(key) else { continue };
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
        // transformers takes the key beside the object before the one inside, and Phi-3's "yarn"
        // for LongRoPE.
        let original = || match self.size("original_context")? {
            Some(beside) => Ok::<_, Error>(beside),
            None => Ok(self.number(object, "original_max_position_embeddings", Some(context as f64))? as usize),
        };
        let kind = if self.family == "phi3" && kind == "yarn" { "longrope" } else { kind };
        match kind {
            "default" => Ok(RopeScaling::None),
            "linear" => Ok(RopeScaling::Linear { factor: self.number(object, "factor", None)? }),
            "llama3" => Ok(RopeScaling::Llama3 {
                factor: self.number(object, "factor", None)?,
                low_freq_factor: self.number(object, "low_freq_factor", None)?,
                high_freq_factor: self.number(object, "high_freq_factor", None)?,
                original_context: original()?,
            }),
            // "su" is LongRoPE's name in the first Phi-3 files.
            "longrope" | "su" => self.config_longrope(object, context, original()?),
            "yarn" => {
                // transformers takes the stated context for the original one where nothing names
                // it.
                let original_context = original()?;
                let factor = self.number(object, "factor", Some(context as f64 / original_context as f64))?;
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

    /// transformers' `_compute_longrope_parameters`.
    fn config_longrope(&self, object: &Map<String, Json>, context: usize, original: usize) -> Result<RopeScaling> {
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
        let factor = self.number(object, "factor", Some(context as f64 / original as f64))?;
        let usual = longrope_attention_factor(factor, original as f64);
        let attention_factor = self.number(object, "attention_factor", Some(usual))?;
        let (short, long) = (list("short_factor")?, list("long_factor")?);
        Ok(RopeScaling::Long { short, long, original_context: original, attention_factor })
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

    /// GGUF: tensors of factors (Llama 3, LongRoPE), and the `rope.scaling` keys.
    fn gguf_rope_scaling(&self, context: usize) -> Result<RopeScaling> {
        let kind = self.gguf_value("rope.scaling.type")?;
        let kind = kind.as_ref().map_or("linear", |kind| kind.as_str().unwrap_or("?"));
        let original = || Ok::<_, Error>(self.scaling("original_context_length", context as f64)? as usize);
        let sets = (self.rope_factors("rope_factors_short.weight")?, self.rope_factors("rope_factors_long.weight")?);
        if let (Some(short), Some(long)) = sets {
            if kind == "yarn" || self.scaling("factor", 1.0)? != 1.0 {
                return Err(Error::unsupported(
                    format!("{}: key rope.scaling.type {kind:?} or a factor beside tensors of factors", self.file()),
                    "LongRoPE by itself",
                ));
            }
            let original = original()?;
            let usual = longrope_attention_factor(context as f64 / original as f64, original as f64);
            let attention_factor = self.scaling("attn_factor", usual)?;
            return Ok(RopeScaling::Long { short, long, original_context: original, attention_factor });
        }
        let scaling = match kind {
            "none" => RopeScaling::None,
            // llama.cpp takes an absent type for linear; `scale_linear` is the key the factor had before there were types.
            "linear" => {
                let old = self.gguf_value("rope.scale_linear")?.and_then(|v| v.as_f64());
                let old = old.filter(|factor| factor.is_finite() && *factor > 0.0).unwrap_or(1.0);
                match self.scaling("factor", old)? {
                    1.0 => RopeScaling::None,
                    factor => RopeScaling::Linear { factor },
                }
            }
            "yarn" => self.gguf_yarn(original()?)?,
            other => {
                return Err(Error::unsupported(
                    format!("{}: key rope.scaling.type {other:?}", self.file()),
                    "none, linear, yarn, and tensors of frequency factors",
                ));
            }
        };
        match (self.rope_factors("rope_freqs.weight")?, scaling) {
            (None, scaling) => Ok(scaling),
            (Some(factors), RopeScaling::None) => Ok(RopeScaling::Factors(factors)),
            (Some(_), _) => Err(Error::unsupported(
                format!("{}: key rope.scaling.type {kind:?} beside the tensor rope_freqs.weight", self.file()),
                "one of the two",
            )),
        }
    }

    /// The yarn of a GGUF file, as llama.cpp reads it.
    fn gguf_yarn(&self, original_context: usize) -> Result<RopeScaling> {
        let factor = self.scaling("factor", 1.0)?;
        let attention = if factor <= 1.0 { 1.0 } else { 0.1 * factor.ln() + 1.0 };
        // Converters write the configuration's attention_factor here, llama.cpp's own files 1;
        // llama.cpp reads neither.
        let stated = self.scaling("yarn_attn_factor", 1.0)?;
        if stated != 1.0 && (stated / attention - 1.0).abs() > 1e-4 {
            return Err(Error::unsupported(
                format!("{}: key {}.rope.scaling.yarn_attn_factor = {stated}", self.file(), self.family),
                format!("{attention}, which is usual for this factor"),
            ));
        }
        Ok(RopeScaling::Yarn {
            factor,
            original_context,
            beta_fast: self.scaling("yarn_beta_fast", 32.0)?,
            beta_slow: self.scaling("yarn_beta_slow", 1.0)?,
            attention_factor: attention * self.scaling("attn_factor", 1.0)?,
            truncate: true,
        })
    }

    /// A number below `rope.scaling` in a GGUF file. As in llama.cpp, 0 stands for "not stated".
    fn scaling(&self, name: &str, default: f64) -> Result<f64> {
        let Some(value) = self.gguf_value(&format!("rope.scaling.{name}"))? else { return Ok(default) };
        match value.as_f64() {
            Some(0.0) => Ok(default),
            Some(x) if x.is_finite() && x > 0.0 => Ok(x),
            _ => {
                let why = format!("key rope.scaling.{name} is {value}, expected a positive number");
                Err(Error::corrupt(self.file(), why))
            }
        }
    }

    /// Whether a Granite of a GGUF file rotates: `rope.scaling.finetuned`, which llama.cpp reads as
    /// that switch.
    pub fn rotates(&self) -> Result<bool> {
        match self.gguf_value("rope.scaling.finetuned")? {
            None => Ok(true),
            Some(Json::Bool(on)) => Ok(on),
            Some(other) => {
                let why = format!("key {}.rope.scaling.finetuned is {other}, expected true or false", self.family);
                Err(Error::corrupt(self.file(), why))
            }
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
    fn a_part_of_each_head_rotates_where_the_file_says_so_and_transformers_heeds_it() {
        let of = |family: &str, mut config: Json| {
            config["model_type"] = json!(family);
            ropes(config).map(|ropes| ropes.0.dims).map_err(|error| error.to_string())
        };
        for config in [json!({"partial_rotary_factor": 0.75}), json!({"rope_parameters": {"partial_rotary_factor": 0.75}})] {
            assert_eq!(of("phi3", config.clone()), Ok(48));
            assert_eq!(of("llama", config), Ok(64));
        }
        assert_eq!(of("phi3", json!({"partial_rotary_factor": null})), Ok(64));
        let scaled = json!({"partial_rotary_factor": 0.75, "rope_scaling": {"rope_type": "linear", "factor": 2.0}});
        for (family, config) in [("phi3", json!({"partial_rotary_factor": 1.5})), ("llama", scaled)] {
            let error = of(family, config).unwrap_err();
            assert!(error.contains("partial_rotary_factor"), "{error}");
        }
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
