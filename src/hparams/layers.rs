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
        let Some(size) = self.optional_size("window")? else { return Ok(None) };
        let period = match self.window_pattern()? {
            Pattern::Listed(listed) => {
                self.check_list("the list of windows", listed.len(), layers)?;
                return Ok(listed.contains(&true).then_some(Window { size, layers: Layers::Listed(listed) }));
            }
            Pattern::Period(stated) => stated,
            Pattern::Unstated => period,
        };
        let layers = match period {
            0 => Layers::All,
            1 => return Ok(None),
            period => Layers::Listed((1..=layers).map(|n| n % period != 0).collect()),
        };
        Ok(Some(Window { size, layers }))
    }

    /// The sliding window of the layers from `max_window_layers` on (Qwen2).
    pub fn window_from(&self, layers: usize) -> Result<Option<Window>> {
        let first = self.optional_size("window_first")?.unwrap_or(0);
        let listed = match self.window_pattern()? {
            Pattern::Listed(listed) => listed,
            Pattern::Period(_) | Pattern::Unstated => (0..layers).map(|layer| layer >= first).collect(),
        };
        self.check_list("the list of windows", listed.len(), layers)?;
        let size = self.optional_size("window")?.filter(|_| listed.contains(&true));
        Ok(size.map(|size| Window { size, layers: Layers::Listed(listed) }))
    }

    /// Layers that a list of config.json marks with numbers other than 0.
    pub fn marked_layers(&self, key: &str, layers: usize) -> Result<Option<Layers>> {
        let Source::Config { config, file } = &self.source else { return Ok(None) };
        let Some(value) = config.get(key).filter(|v| !v.is_null()) else { return Ok(None) };
        let marks: Option<Vec<bool>> = value.as_array().and_then(|list| list.iter().map(|v| Some(v.as_u64()? != 0)).collect());
        let marks = marks.ok_or_else(|| Error::corrupt(file, format!("key {key} is {value}, expected a list of numbers")))?;
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
            Source::Config { config, .. } => {
                if let Some(types) = config.get("layer_types").and_then(Json::as_array) {
                    return Ok(Pattern::Listed(types.iter().map(|kind| kind == "sliding_attention").collect()));
                }
            }
            Source::Gguf { metadata, family } => {
                let key = format!("{family}.attention.sliding_window_pattern");
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
}

/// What a file says about the layers with a window.
enum Pattern {
    Unstated,
    Period(usize),
    Listed(Vec<bool>),
}
