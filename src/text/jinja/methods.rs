//! Methods of lists, dictionaries and the rest; those of texts are in `strings.rs`. Methods that would change a value are
//! hidden, as transformers' sandbox hides them.

use super::args::Args;
use super::fault::{Fault, Kind, Result, type_error, value_error};
use super::iter::Loop;
use super::machine::Machine;
use super::value::{Dict, Function, Value, View};
use std::cell::RefCell;
use std::rc::Rc;

#[rustfmt::skip]
const STR: &[&str] = &[
    "capitalize", "casefold", "center", "count", "encode", "endswith", "expandtabs", "find", "format", "format_map",
    "index", "isalnum", "isalpha", "isascii", "isdecimal", "isdigit", "isidentifier", "islower", "isnumeric", "isprintable",
    "isspace", "istitle", "isupper", "join", "ljust", "lower", "lstrip", "maketrans", "partition", "removeprefix",
    "removesuffix", "replace", "rfind", "rindex", "rjust", "rpartition", "rsplit", "rstrip", "split", "splitlines",
    "startswith", "strip", "swapcase", "title", "translate", "upper", "zfill",
];
const MARKUP: &[&str] = &["unescape", "striptags", "escape"];
const LIST: &[&str] = &["copy", "count", "index"];
const LIST_HIDDEN: &[&str] = &["append", "clear", "extend", "insert", "pop", "remove", "reverse", "sort"];
const DICT: &[&str] = &["copy", "fromkeys", "get", "items", "keys", "values"];
const DICT_HIDDEN: &[&str] = &["clear", "pop", "popitem", "setdefault", "update"];
const INT: &[&str] = &["as_integer_ratio", "bit_count", "bit_length", "conjugate"];
const FLOAT: &[&str] = &["as_integer_ratio", "conjugate", "is_integer"];

/// The method of this name that `value` has.
pub(super) fn named(value: &Value, name: &str) -> Option<&'static str> {
    let find = |names: &[&'static str]| names.iter().find(|n| **n == name).copied();
    match value {
        Value::Str(_) => find(STR),
        Value::Markup(_) => find(STR).or_else(|| find(MARKUP)),
        Value::Bytes(_) => find(&["decode", "hex"]),
        Value::List(_) => find(LIST),
        Value::Tuple(_) | Value::Range(_) => find(&["count", "index"]),
        Value::Dict(_) => find(DICT),
        Value::View(View::Keys | View::Items, _) => find(&["isdisjoint"]),
        Value::Int(_) | Value::Bool(_) => find(INT),
        Value::Float(_) => find(FLOAT),
        Value::Loop(_) => find(&["cycle", "changed"]),
        Value::Cycler(_) => find(&["next", "reset"]),
        Value::Function(Function::Dict) => find(&["fromkeys"]),
        _ => None,
    }
}

/// What every object of Python has, like `__class__`.
pub(super) fn is_internal(name: &str) -> bool {
    name.len() > 4 && name.starts_with("__") && name.ends_with("__")
}

/// What exists in Python and a template must not see.
pub(super) fn is_hidden(value: &Value, name: &str) -> bool {
    is_internal(name)
        || match value {
            Value::List(_) => LIST_HIDDEN.contains(&name),
            Value::Dict(_) => DICT_HIDDEN.contains(&name),
            Value::Generator(_) => matches!(name, "gi_frame" | "gi_code"),
            _ => false,
        }
}

impl Machine<'_> {
    /// Calls a method.
    pub(super) fn call_method(&mut self, value: &Value, name: &'static str, args: Args) -> Result<Value> {
        match value {
            Value::Str(text) => self.str_method(text, name, args),
            Value::Markup(text) => self.markup_method(text, name, args),
            Value::Bytes(bytes) => bytes_method(bytes, name, args),
            Value::List(_) | Value::Tuple(_) | Value::Range(_) => self.sequence_method(value, name, args),
            Value::Dict(dict) => self.dict_method(dict, name, args),
            Value::Function(_) => self.dict_of_keys(args),
            Value::View(..) => {
                let other = args.one(name)?;
                for item in self.collect(&other)? {
                    if self.contains(value, &item)? {
                        return Ok(Value::Bool(false));
                    }
                }
                Ok(Value::Bool(true))
            }
            Value::Int(_) | Value::Bool(_) => int_method(value.as_int().unwrap_or(0), name, args),
            Value::Float(x) => float_method(*x, name, args),
            Value::Loop(this) => self.loop_method(this, name, args),
            Value::Cycler(cycler) => {
                args.none(name)?;
                let at = cycler.1.get();
                if name == "reset" {
                    cycler.1.set(0);
                    return Ok(Value::None);
                }
                cycler.1.set((at + 1) % cycler.0.len());
                Ok(cycler.0[at].clone())
            }
            other => type_error(format!("'{}' object has no method '{name}'", other.type_name())),
        }
    }

    fn sequence_method(&mut self, value: &Value, name: &'static str, args: Args) -> Result<Value> {
        if name == "copy" {
            args.none(name)?;
            return Ok(value.clone());
        }
        let most = if name == "index" && !matches!(value, Value::Range(_)) { 3 } else { 1 };
        if args.positional.len() > most {
            return type_error(format!("{name} takes at most {most} arguments"));
        }
        let [wanted, start, stop] = args.bind(name, ["", "", ""], 1)?;
        let wanted = wanted.unwrap_or(Value::None);
        let items = self.collect(value)?;
        if name == "count" {
            let mut count = 0;
            for item in &items {
                count += i128::from(self.equal(item, &wanted)?);
            }
            return Ok(Value::Int(count));
        }
        let (start, stop) = super::strings::window(start, stop, items.len())?;
        for (at, item) in items.iter().enumerate().take(stop).skip(start) {
            if self.equal(item, &wanted)? {
                return Ok(Value::Int(at as i128));
            }
        }
        value_error(format!("the value is not in the {}", value.type_name()))
    }

    fn dict_method(&mut self, dict: &Rc<Dict>, name: &'static str, args: Args) -> Result<Value> {
        Ok(match name {
            "get" => {
                let [key, default] = args.bind(name, ["", ""], 1)?;
                let found = dict.get(&key.unwrap_or(Value::None))?.cloned();
                found.or(default).unwrap_or(Value::None)
            }
            "fromkeys" => return self.dict_of_keys(args),
            _ => {
                args.none(name)?;
                match name {
                    "keys" => Value::View(View::Keys, dict.clone()),
                    "values" => Value::View(View::Values, dict.clone()),
                    "items" => Value::View(View::Items, dict.clone()),
                    _ => Value::Dict(dict.clone()),
                }
            }
        })
    }

    /// `dict.fromkeys`.
    fn dict_of_keys(&mut self, args: Args) -> Result<Value> {
        let [keys, value] = args.bind("fromkeys", ["", ""], 1)?;
        let mut dict = Dict::default();
        for key in self.collect(&keys.unwrap_or(Value::None))? {
            self.take(96)?;
            dict.insert(key, value.clone().unwrap_or(Value::None))?;
        }
        Ok(Value::dict(dict))
    }

    fn loop_method(&mut self, this: &Rc<RefCell<Loop>>, name: &'static str, args: Args) -> Result<Value> {
        let values = args.all(name)?;
        if name == "cycle" {
            let Some(at) = usize::try_from(this.borrow().index0).unwrap_or(0).checked_rem(values.len()) else {
                return type_error("no items for cycling given");
            };
            return Ok(values[at].clone());
        }
        let before = this.borrow().changed.clone();
        let same = match before {
            Some(before) => {
                let (before, now) = (Value::tuple(before)?, Value::tuple(values.clone())?);
                self.equal(&before, &now)?
            }
            None => false,
        };
        if !same {
            this.borrow_mut().changed = Some(values);
        }
        Ok(Value::Bool(!same))
    }
}

fn bytes_method(bytes: &[u8], name: &str, args: Args) -> Result<Value> {
    if name == "hex" {
        args.none(name)?;
        return Ok(Value::str(bytes.iter().map(|b| format!("{b:02x}")).collect::<String>()));
    }
    args.bind::<2>(name, ["encoding", "errors"], 0)?;
    match std::str::from_utf8(bytes) {
        Ok(text) => Ok(Value::str(text)),
        Err(_) => value_error("the bytes are not UTF-8"),
    }
}

fn int_method(n: i128, name: &str, args: Args) -> Result<Value> {
    args.none(name)?;
    Ok(match name {
        "bit_length" => Value::Int((128 - n.unsigned_abs().leading_zeros()).into()),
        "bit_count" => Value::Int(n.unsigned_abs().count_ones().into()),
        "as_integer_ratio" => Value::tuple(vec![Value::Int(n), Value::Int(1)])?,
        _ => Value::Int(n),
    })
}

fn float_method(x: f64, name: &str, args: Args) -> Result<Value> {
    args.none(name)?;
    Ok(match name {
        "is_integer" => Value::Bool(x.fract() == 0.0 && x.is_finite()),
        "as_integer_ratio" => {
            if !x.is_finite() {
                return Fault::kind(Kind::Overflow, "cannot convert infinity or NaN to integer ratio");
            }
            let (mut numerator, mut denominator) = (x, 1_i128);
            while numerator.fract() != 0.0 && denominator < 1 << 120 {
                numerator *= 2.0;
                denominator *= 2;
            }
            if numerator.fract() != 0.0 || numerator.abs() > 1.7e38 {
                return Fault::kind(Kind::Limit, "an integer has more than 127 bits, which is not supported");
            }
            Value::tuple(vec![Value::Int(numerator as i128), Value::Int(denominator)])?
        }
        _ => Value::Float(x),
    })
}
