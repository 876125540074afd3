//! Arguments of calls, and how they meet parameters.

use super::fault::{Result, type_error};
use super::value::Value;
use std::sync::Arc;

/// The arguments of a call.
#[derive(Debug, Clone, Default)]
pub(super) struct Args {
    pub positional: Vec<Value>,
    pub named: Vec<(Arc<str>, Value)>,
}

impl Args {
    /// The arguments of the parameters `names`, of which the first `required` must be there. A parameter without a name takes
    /// no named argument.
    pub(super) fn bind<const N: usize>(self, what: &str, names: [&str; N], required: usize) -> Result<[Option<Value>; N]> {
        let given = self.positional.len();
        if given > N {
            return type_error(format!("{what} takes at most {N} arguments, {given} were given"));
        }
        let mut bound: [Option<Value>; N] = [const { None }; N];
        for (slot, value) in bound.iter_mut().zip(self.positional) {
            *slot = Some(value);
        }
        for (name, value) in self.named {
            let Some(at) = names.iter().position(|n| **n == *name && !n.is_empty()) else {
                return type_error(format!("{what} got an unexpected keyword argument '{name}'"));
            };
            if bound[at].replace(value).is_some() {
                return type_error(format!("{what} got multiple values for argument '{name}'"));
            }
        }
        match bound.iter().take(required).position(Option::is_none) {
            Some(at) => type_error(format!("{what} misses its argument {} ({})", at + 1, names[at])),
            None => Ok(bound),
        }
    }

    /// One argument, which must be there.
    pub(super) fn one(self, what: &str) -> Result<Value> {
        let [value] = self.bind(what, [""], 1)?;
        Ok(value.unwrap_or(Value::None))
    }

    /// No arguments.
    pub(super) fn none(self, what: &str) -> Result<()> {
        self.bind::<0>(what, [], 0).map(|_| ())
    }

    /// Only positional ones.
    pub(super) fn all(self, what: &str) -> Result<Vec<Value>> {
        match self.named.first() {
            Some((name, _)) => type_error(format!("{what} got an unexpected keyword argument '{name}'")),
            None => Ok(self.positional),
        }
    }
}

impl Value {
    /// An integer argument.
    pub(super) fn int_arg(&self, what: &str) -> Result<i128> {
        match self.as_int() {
            Some(n) => Ok(n),
            None => type_error(format!("{what}: '{}' object cannot be interpreted as an integer", self.type_name())),
        }
    }

    /// A text argument.
    pub(super) fn str_arg(&self, what: &str) -> Result<Arc<str>> {
        match self.as_str() {
            Some(text) => Ok(text.clone()),
            None => type_error(format!("{what}: the argument must be str, not {}", self.type_name())),
        }
    }
}

/// An optional integer.
pub(super) fn int_or(value: Option<Value>, default: i128, what: &str) -> Result<i128> {
    value.map_or(Ok(default), |value| value.int_arg(what))
}

/// An optional truth value; every value has one.
pub(super) fn truth_or(value: Option<Value>, default: bool) -> bool {
    value.map_or(default, |value| value.truth())
}
