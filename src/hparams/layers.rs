//! Which layers do something: have a window, rotate.

use super::{Hparams, Source};
use crate::error::{Error, Result};
use crate::spec::{Layers, Window};
use crate::tensors::{Array, Value};
use serde_json::Value as Json;

impl Hparams<'_> {
    /// The sliding window of some layers, if one is stated. `layer_types` or a pattern in the file says which; else the last
    /// of every `period` layers sees everything. A period of 0 is all windows.
    pub fn window(&self, layers: usize, period: usize) -> Result<Option<Window>> {
        let default = match period {
            0 => vec![true; layers],
            period => (1..=layers).map(|n| n % period != 0).collect(),
        };
        self.window_of(self.optional_size("window")?, default)
    }

    /// The sliding window of every layer: families whose config.json is not asked for a pattern.
    pub fn window_everywhere(&self, layers: usize) -> Result<Option<Window>> {
        match self.is_gguf() {
            true => self.window(layers, 0),
            false => Ok(self.optional_size("window")?.map(|size| Window { size, layers: Layers::All })),
        }
    }

    /// The sliding window of the layers from `max_window_layers` on, where `use_sliding_window`
    /// says that there is one (Qwen2).
    pub fn window_from(&self, layers: usize) -> Result<Option<Window>> {
        let first = self.optional_size("window_first")?.unwrap_or(0);
        self.window_of(self.switched_window()?, (0..layers).map(|layer| layer >= first).collect())
    }

    /// The size of the window where `use_sliding_window` says that there is one. GGUF files have no
    /// such switch.
    pub fn switched_window(&self) -> Result<Option<usize>> {
        if self.is_gguf() {
            return Ok(None);
        }
        let (size, on) = (self.optional_size("window")?, self.flag("use_sliding_window", false)?);
        Ok(size.filter(|_| on))
    }

    /// A window of `size` in the layers that the file lists; else in those of `default`.
    pub fn window_of(&self, size: Option<usize>, default: Vec<bool>) -> Result<Option<Window>> {
        let layers = default.len();
        let (listed, is_stated) = match self.window_pattern()? {
            Pattern::Listed(listed) => (listed, true),
            Pattern::Period(0) => (vec![true; layers], false),
            // The last of one layer sees everything: there is no window.
            Pattern::Period(period) => ((1..=layers).map(|n| n % period != 0).collect(), false),
            Pattern::Unstated => (default, false),
        };
        self.check_list("the list of windows", listed.len(), layers)?;
        let Some(size) = size else {
            return match is_stated && !self.is_gguf() && listed.contains(&true) {
                true => Err(Error::corrupt(self.file(), "layer_types has sliding_attention, but there is no window")),
                false => Ok(None),
            };
        };
        let layers = match listed.iter().all(|has| *has) && !is_stated {
            true => Layers::All,
            false => Layers::Listed(listed.clone()),
        };
        Ok(listed.contains(&true).then_some(Window { size, layers }))
    }

    /// Layers that a list of config.json marks with numbers other than 0.
    pub fn marked_layers(&self, key: &str, layers: usize) -> Result<Option<Layers>> {
        let Source::Config(config) = &self.source else { return Ok(None) };
        let Some(value) = config.some(key) else { return Ok(None) };
        let marks: Option<Vec<bool>> = value.as_array().and_then(|list| list.iter().map(|v| Some(v.as_u64()? != 0)).collect());
        let marks =
            marks.ok_or_else(|| Error::corrupt(&config.file, format!("key {key} is {value}, expected a list of numbers")))?;
        self.check_list(key, marks.len(), layers)?;
        Ok(Some(Layers::Listed(marks)))
    }

    fn check_list(&self, what: &str, len: usize, layers: usize) -> Result<()> {
        match len == layers {
            true => Ok(()),
            false => Err(Error::corrupt(self.file(), format!("{what} has {len} entries for {layers} layers"))),
        }
    }

    fn window_pattern(&self) -> Result<Pattern> {
        match &self.source {
            Source::Config(config) => {
                if let Some(types) = config.some("layer_types").and_then(Json::as_array) {
                    return Ok(Pattern::Listed(types.iter().map(|kind| self.is_window(kind)).collect::<Result<_>>()?));
                }
                if !self.family.starts_with("gemma3") {
                    return Ok(Pattern::Unstated);
                }
            }
            Source::Gguf(metadata) => {
                let key = format!("{}.attention.sliding_window_pattern", self.family);
                match metadata.get(&key) {
                    Some(Value::Array(Array::Bool(listed))) => return Ok(Pattern::Listed(listed.clone())),
                    Some(Value::Array(_)) => {
                        let listed = metadata.ints(&key)?.unwrap_or_default();
                        return Ok(Pattern::Listed(listed.into_iter().map(|mark| mark != 0).collect()));
                    }
                    Some(_) | None => {}
                }
            }
        }
        Ok(self.size("window_pattern")?.map_or(Pattern::Unstated, Pattern::Period))
    }

    /// Whether a layer of this kind has a window.
    fn is_window(&self, kind: &Json) -> Result<bool> {
        match kind.as_str() {
            Some("sliding_attention") => Ok(true),
            Some("full_attention") => Ok(false),
            _ => Err(Error::unsupported(
                format!("{}: key layer_types: a layer of the kind {kind}", self.file()),
                "full_attention, sliding_attention",
            )),
        }
    }
}

/// What a file says about the layers with a window.
enum Pattern {
    Unstated,
    Period(usize),
    Listed(Vec<bool>),
}
