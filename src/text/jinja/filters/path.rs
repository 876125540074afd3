//! The attributes that filters name: `"a.b.0"`, a number, or nothing.

use super::super::fault::Result;
use super::super::machine::Machine;
use super::super::value::Value;

/// Attributes of attributes, with what stands in for one that is missing.
#[derive(Debug, Clone, Default)]
pub(in crate::text::jinja) struct Path {
    parts: Vec<Value>,
    default: Option<Value>,
}

impl Path {
    pub(in crate::text::jinja) fn new(attribute: Option<Value>, default: Option<Value>) -> Path {
        let default = default.filter(|value| !matches!(value, Value::None));
        let parts = match attribute {
            None | Some(Value::None) => Vec::new(),
            Some(value) => match value.as_str() {
                Some(text) => text.split('.').map(part).collect(),
                None => vec![value],
            },
        };
        Path { parts, default }
    }

    /// One path for each of the names between commas.
    pub(in crate::text::jinja) fn several(attribute: Option<Value>) -> Vec<Path> {
        match attribute.as_ref().and_then(Value::as_str) {
            Some(text) => text.split(',').map(|one| Path::new(Some(Value::str(one)), None)).collect(),
            None => vec![Path::new(attribute, None)],
        }
    }
}

fn part(text: &str) -> Value {
    match text.parse() {
        Ok(n) if text.bytes().all(|b| b.is_ascii_digit()) => Value::Int(n),
        _ => Value::str(text),
    }
}

impl Machine<'_> {
    /// What the path leads to from `value`.
    pub(in crate::text::jinja) fn follow(&mut self, path: &Path, value: Value) -> Result<Value> {
        let mut value = value;
        for part in &path.parts {
            value = self.item(&value, part)?;
            if value.is_undefined()
                && let Some(default) = &path.default
            {
                value = default.clone();
            }
        }
        Ok(value)
    }
}
