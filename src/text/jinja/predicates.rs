//! Tests: what stands behind `is`.

use super::args::Args;
use super::ast::{Binary, Compare};
use super::fault::{Kind, Result, runtime, type_error};
use super::machine::Machine;
use super::ops::is_same;
use super::value::Value;

#[rustfmt::skip]
const NAMES: [&str; 39] = [
    "odd", "even", "divisibleby", "defined", "undefined", "filter", "test", "none", "boolean", "false", "true", "integer",
    "float", "lower", "upper", "string", "mapping", "number", "sequence", "iterable", "callable", "sameas", "escaped", "in",
    "==", "eq", "equalto", "!=", "ne", ">", "gt", "greaterthan", "ge", ">=", "<", "lt", "lessthan", "<=", "le",
];

/// Whether a test has this name.
pub(super) fn exists(name: &str) -> bool {
    NAMES.contains(&name)
}

impl Machine<'_> {
    /// A test that `select` and the like name.
    pub(super) fn test_by_name(&mut self, name: &Value, value: Value, args: Args) -> Result<Value> {
        name.key()?;
        match name.as_str() {
            Some(name) => self.test(&name.clone(), value, args),
            None => runtime("no test is named so"),
        }
    }

    /// `value is name(args)`.
    pub(super) fn test(&mut self, name: &str, value: Value, args: Args) -> Result<Value> {
        let compare = match name {
            "==" | "eq" | "equalto" => Some(Compare::Eq),
            "!=" | "ne" => Some(Compare::Ne),
            ">" | "gt" | "greaterthan" => Some(Compare::Gt),
            ">=" | "ge" => Some(Compare::Ge),
            "<" | "lt" | "lessthan" => Some(Compare::Lt),
            "<=" | "le" => Some(Compare::Le),
            _ => None,
        };
        if let Some(operator) = compare {
            let other = args.one(name)?;
            return self.compare(operator, &value, &other).map(Value::Bool);
        }
        let holds = match name {
            "divisibleby" => {
                let [num] = args.bind(name, ["num"], 1)?;
                self.leaves(value, num.unwrap_or(Value::None), 0)?
            }
            "sameas" => {
                let [other] = args.bind(name, ["other"], 1)?;
                is_same(&value, &other.unwrap_or(Value::None))
            }
            "in" => {
                let [seq] = args.bind(name, ["seq"], 1)?;
                self.contains(&seq.unwrap_or(Value::None), &value)?
            }
            _ if !exists(name) => return runtime(format!("No test named '{name}' found.")),
            _ => {
                args.none(name)?;
                self.holds(name, value)?
            }
        };
        Ok(Value::Bool(holds))
    }

    /// Tests without arguments.
    fn holds(&mut self, name: &str, value: Value) -> Result<bool> {
        Ok(match name {
            "odd" => self.leaves(value, Value::Int(2), 1)?,
            "even" => self.leaves(value, Value::Int(2), 0)?,
            "defined" => !value.is_undefined(),
            "undefined" => value.is_undefined(),
            "filter" | "test" => {
                value.key()?;
                let known = if name == "filter" { super::filters::exists } else { exists };
                value.as_str().is_some_and(|name| known(name))
            }
            "none" => matches!(value, Value::None),
            "boolean" => matches!(value, Value::Bool(_)),
            "false" => matches!(value, Value::Bool(false)),
            "true" => matches!(value, Value::Bool(true)),
            "integer" => matches!(value, Value::Int(_)),
            "float" => matches!(value, Value::Float(_)),
            "lower" | "upper" => super::text::all_cased(&self.str(&value)?, name == "upper"),
            "string" => value.as_str().is_some(),
            "mapping" => matches!(value, Value::Dict(_)),
            "number" => value.as_float().is_some(),
            "sequence" => value.is_undefined() || (value.len().is_ok() && !matches!(value, Value::View(..))),
            "iterable" => !matches!(self.iter(&value), Err(fault) if fault.kind == Kind::Type),
            "callable" => matches!(
                value,
                Value::Macro(_)
                    | Value::Function(_)
                    | Value::Method(_)
                    | Value::Joiner(_)
                    | Value::Loop(_)
                    | Value::Block(_)
                    | Value::Undefined(_)
            ),
            "escaped" => matches!(value, Value::Markup(_)),
            other => return type_error(format!("no test is named '{other}'")),
        })
    }

    /// `value % num == rest`.
    fn leaves(&mut self, value: Value, num: Value, rest: i128) -> Result<bool> {
        let left = self.binary(Binary::Mod, value, num)?;
        self.equal(&left, &Value::Int(rest))
    }
}
