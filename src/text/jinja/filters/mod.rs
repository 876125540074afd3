//! Filters by name.

pub(super) mod number;
pub(super) mod path;
mod sequence;
mod words;

use super::args::{Args, int_or, truth_or};
use super::fault::{Fault, Kind, Result, runtime, type_error};
use super::iter::{Deferred, Iter};
use super::machine::Machine;
use super::text;
use super::value::Value;

#[rustfmt::skip]
const NAMES: [&str; 54] = [
    "abs", "attr", "batch", "capitalize", "center", "count", "d", "default", "dictsort", "e", "escape", "filesizeformat",
    "first", "float", "forceescape", "format", "groupby", "indent", "int", "join", "last", "length", "list", "lower",
    "items", "map", "min", "max", "pprint", "random", "reject", "rejectattr", "replace", "reverse", "round", "safe",
    "select", "selectattr", "slice", "sort", "string", "striptags", "sum", "title", "trim", "truncate", "unique", "upper",
    "urlencode", "urlize", "wordcount", "wordwrap", "xmlattr", "tojson",
];

/// Whether a filter has this name.
pub(super) fn exists(name: &str) -> bool {
    NAMES.contains(&name)
}

/// What a filter that makes text gives: text that counts as escaped stays so.
fn like(value: &Value, text: String) -> Value {
    match value {
        Value::Markup(_) => Value::Markup(text.into()),
        _ => Value::str(text),
    }
}

impl Machine<'_> {
    /// A filter that `map` names.
    pub(super) fn filter_by_name(&mut self, name: &Value, value: Value, args: Args) -> Result<Value> {
        name.key()?;
        match name.as_str() {
            Some(name) => self.filter(&name.clone(), value, args),
            None => runtime("no filter is named so"),
        }
    }

    /// `value|name(args)`.
    pub(super) fn filter(&mut self, name: &str, value: Value, args: Args) -> Result<Value> {
        self.spend(1)?;
        let deferred = match name {
            "map" => Some(Deferred::Map),
            "select" => Some(Deferred::Select),
            "reject" => Some(Deferred::Reject),
            "selectattr" => Some(Deferred::SelectAttr),
            "rejectattr" => Some(Deferred::RejectAttr),
            "unique" => Some(Deferred::Unique),
            "batch" => Some(Deferred::Batch),
            "slice" => Some(Deferred::Slice),
            "items" => Some(Deferred::Items),
            _ => None,
        };
        if let Some(kind) = deferred {
            sequence::check(kind, &args)?;
            return Value::generator(Iter::Deferred(kind, value, args));
        }
        match name {
            "abs" | "int" | "float" | "round" | "filesizeformat" | "sum" => self.number_filter(name, value, args),
            "first" | "last" | "random" | "length" | "count" | "list" | "reverse" | "sort" | "min" | "max" | "groupby"
            | "dictsort" | "join" => self.sequence_filter(name, value, args),
            "capitalize" | "center" | "indent" | "lower" | "upper" | "title" | "trim" | "truncate" | "wordcount"
            | "wordwrap" | "replace" | "string" | "format" => self.word_filter(name, value, args),
            "default" | "d" => {
                let [default, boolean] = args.bind(name, ["default_value", "boolean"], 0)?;
                let replaced = value.is_undefined() || (truth_or(boolean, false) && !self.truth(&value)?);
                Ok(if replaced { default.unwrap_or_else(|| Value::str("")) } else { value })
            }
            "attr" => {
                let [attribute] = args.bind(name, ["name"], 1)?;
                let attribute = attribute.unwrap_or(Value::None).str_arg(name)?;
                if value.is_undefined() {
                    return value.refuse();
                }
                let found = self.own_attribute(&value, &attribute)?;
                Ok(found.unwrap_or_else(|| super::access::missing(&value, format!("'{attribute}'"))))
            }
            "tojson" => self.json_text(&value, args),
            "safe" => {
                args.none(name)?;
                self.str(&value).map(Value::Markup)
            }
            "e" | "escape" => {
                args.none(name)?;
                self.escape(&value).map(Value::Markup)
            }
            "forceescape" => {
                args.none(name)?;
                let text = self.str(&value)?;
                self.escape(&Value::Str(text)).map(Value::Markup)
            }
            "striptags" | "xmlattr" | "urlencode" | "urlize" => self.html_filter(name, value, args),
            "pprint" => {
                args.none(name)?;
                self.pretty(&value).map(Value::str)
            }
            other => runtime(format!("No filter named '{other}' found.")),
        }
    }

    fn word_filter(&mut self, name: &str, value: Value, args: Args) -> Result<Value> {
        match name {
            "indent" => return self.indent(value, args),
            "truncate" => return self.truncate(value, args),
            "wordwrap" => return self.wordwrap(value, args),
            "replace" => {
                let [old, new, count] = args.bind(name, ["old", "new", "count"], 2)?;
                let text = self.str(&value)?;
                let (old, new) = (self.str(&old.unwrap_or(Value::None))?, self.str(&new.unwrap_or(Value::None))?);
                let count = int_or(count.filter(|count| !matches!(count, Value::None)), -1, name)?;
                return self.replaced(&text, &old, &new, count).map(Value::str);
            }
            "format" => {
                let text = self.soft(&value)?;
                if !args.named.is_empty() && !args.positional.is_empty() {
                    return Fault::kind(Kind::Runtime, "can't handle positional and keyword arguments at the same time");
                }
                let mut dict = super::value::Dict::default();
                for (name, value) in args.named {
                    dict.insert(Value::Str(name), value)?;
                }
                let values = if dict.len() > 0 { Value::dict(dict) } else { Value::tuple(args.positional)? };
                return self.percent(&text, values);
            }
            _ => {}
        }
        let soft = self.soft(&value)?;
        let text = soft.as_str().cloned().unwrap_or_default();
        self.take(text.len() as u64 * 2)?;
        match name {
            "center" => {
                let [width] = args.bind(name, ["width"], 0)?;
                let width = int_or(width, 80, name)?;
                let centred = self.padded(&text, width, " ", text::Side::Both)?;
                Ok(like(&soft, centred))
            }
            "trim" => {
                let [chars] = args.bind(name, ["chars"], 0)?;
                let chars = match chars {
                    None | Some(Value::None) => None,
                    Some(chars) => Some(chars.str_arg(name)?),
                };
                Ok(like(&soft, text::strip(&text, chars.as_deref(), text::Side::Both).to_owned()))
            }
            _ => {
                args.none(name)?;
                Ok(match name {
                    "lower" => like(&soft, text.to_lowercase()),
                    "upper" => like(&soft, text.to_uppercase()),
                    "capitalize" => like(&soft, text::capitalize(&text)),
                    "title" => Value::str(words::title(&text)),
                    "wordcount" => Value::Int(words::count(&text)),
                    _ => soft,
                })
            }
        }
    }

    /// Text of any value; text that counts as escaped stays so.
    fn soft(&mut self, value: &Value) -> Result<Value> {
        match value {
            Value::Str(_) | Value::Markup(_) => Ok(value.clone()),
            other => self.str(other).map(Value::Str),
        }
    }

    /// The text that a filter needs, and nothing else.
    fn only_text(&mut self, value: &Value, name: &str) -> Result<std::sync::Arc<str>> {
        match value {
            Value::Undefined(_) => value.refuse(),
            other => match other.as_str() {
                Some(text) => Ok(text.clone()),
                None => type_error(format!("{name} needs a text, not {}", value.type_name())),
            },
        }
    }
}
