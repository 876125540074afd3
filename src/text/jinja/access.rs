//! `a.b`, `a[b]` and `a[b:c]`: attributes, items and slices, with what the sandbox hides.

use super::fault::{Fault, Kind, Result, type_error, value_error};
use super::machine::Machine;
use super::methods;
use super::value::{Missing, Value};
use std::rc::Rc;
use std::sync::Arc;

impl Machine<'_> {
    /// `value.name`: an attribute first, then an item.
    pub(super) fn attribute(&mut self, value: &Value, name: &Arc<str>) -> Result<Value> {
        if value.is_undefined() && !methods::is_internal(name) {
            return value.refuse();
        }
        if let Some(found) = self.own_attribute(value, name)? {
            return Ok(found);
        }
        match value {
            Value::Dict(dict) if let Some(item) = dict.get_str(name) => Ok(item.clone()),
            Value::Blocks if self.blocks.contains_key(&**name) => Ok(Value::Block(name.clone())),
            _ => Ok(missing(value, format!("'{name}'"))),
        }
    }

    /// `value[index]`: an item first, then an attribute.
    pub(super) fn item(&mut self, value: &Value, index: &Value) -> Result<Value> {
        if value.is_undefined() {
            return value.refuse();
        }
        let found = match value {
            Value::Dict(dict) => match dict.get(index) {
                Err(fault) if fault.kind == Kind::Type => None,
                found => found?.cloned(),
            },
            Value::Blocks => index.as_str().filter(|name| self.blocks.contains_key(&***name)).map(|n| Value::Block(n.clone())),
            _ => match index.as_int() {
                Some(at) => self.at(value, at)?,
                None => None,
            },
        };
        if let Some(found) = found {
            return Ok(found);
        }
        match index.as_str() {
            Some(name) => match self.own_attribute(value, name)? {
                Some(found) => Ok(found),
                None => Ok(missing(value, format!("'{name}'"))),
            },
            None => {
                let mut shown = String::new();
                self.repr_into(index, &mut shown)?;
                Ok(missing(value, shown))
            }
        }
    }

    /// An attribute that Python's object itself has; undefined where the sandbox hides it.
    pub(super) fn own_attribute(&mut self, value: &Value, name: &Arc<str>) -> Result<Option<Value>> {
        if let Value::Namespace(namespace) = value {
            return Ok(namespace.borrow().get_str(name).cloned());
        }
        if methods::is_hidden(value, name) {
            return Ok(Some(Value::Undefined(Rc::new(Missing::Unsafe(value.type_name(), name.to_string())))));
        }
        if let Some(method) = methods::named(value, name) {
            return Ok(Some(Value::Method(Rc::new((value.clone(), method)))));
        }
        Ok(match value {
            Value::Int(_) | Value::Bool(_) => match &**name {
                "real" | "numerator" => value.as_int().map(Value::Int),
                "imag" => Some(Value::Int(0)),
                "denominator" => Some(Value::Int(1)),
                _ => None,
            },
            Value::Float(x) => match &**name {
                "real" => Some(Value::Float(*x)),
                "imag" => Some(Value::Float(0.0)),
                _ => None,
            },
            Value::Range(range) => match &**name {
                "start" => Some(Value::Int(range.start)),
                "stop" => Some(Value::Int(range.stop)),
                "step" => Some(Value::Int(range.step)),
                _ => None,
            },
            Value::Tuple(seq) if seq.group => match &**name {
                "grouper" => Some(seq.items[0].clone()),
                "list" => Some(seq.items[1].clone()),
                _ => None,
            },
            Value::View(_, dict) if &**name == "mapping" => Some(Value::Dict(dict.clone())),
            Value::Loop(this) => self.loop_attribute(&this.clone(), name)?,
            Value::Macro(this) => macro_attribute(&this.node, name)?,
            Value::Cycler(cycler) => match &**name {
                "current" => Some(cycler.0[cycler.1.get()].clone()),
                "items" => Some(Value::tuple(cycler.0.clone())?),
                "pos" => Some(Value::Int(cycler.1.get() as i128)),
                _ => None,
            },
            Value::Joiner(joiner) => match &**name {
                "sep" => Some(joiner.0.clone()),
                "used" => Some(Value::Bool(joiner.1.get())),
                _ => None,
            },
            Value::Block(block) => match &**name {
                "name" => Some(Value::Str(block.clone())),
                "super" => Some(Value::hint(format!("there is no parent block called '{block}'."))),
                _ => None,
            },
            _ => None,
        })
    }

    fn loop_attribute(&mut self, this: &Rc<std::cell::RefCell<super::iter::Loop>>, name: &str) -> Result<Option<Value>> {
        let index0 = this.borrow().index0;
        Ok(Some(match name {
            "index0" => Value::Int(index0),
            "index" => Value::Int(index0 + 1),
            "length" => Value::Int(self.length_of_loop(this)? as i128),
            "revindex0" => Value::Int(self.length_of_loop(this)? as i128 - index0 - 1),
            "revindex" => Value::Int(self.length_of_loop(this)? as i128 - index0),
            "first" => Value::Bool(index0 == 0),
            "last" => Value::Bool(self.peek_of_loop(this)?.is_none()),
            "depth0" => Value::Int(this.borrow().depth0),
            "depth" => Value::Int(this.borrow().depth0 + 1),
            "previtem" => match this.borrow().before.clone().filter(|_| index0 > 0) {
                Some(item) => item,
                None => Value::hint("there is no previous item"),
            },
            "nextitem" => self.peek_of_loop(this)?.unwrap_or_else(|| Value::hint("there is no next item")),
            _ => return Ok(None),
        }))
    }

    /// Item number `at` of a sequence, from the end if it is negative.
    fn at(&mut self, value: &Value, at: i128) -> Result<Option<Value>> {
        let len = match value {
            Value::Str(_) | Value::Markup(_) | Value::Bytes(_) | Value::List(_) | Value::Tuple(_) | Value::Range(_) => {
                value.len()?
            }
            _ => return Ok(None),
        };
        let from_start = if at < 0 { at + len as i128 } else { at };
        let Some(at) = usize::try_from(from_start).ok().filter(|&at| at < len) else { return Ok(None) };
        Ok(match value {
            Value::Str(text) => self.char_at(text, at)?.map(Value::str),
            Value::Markup(text) => self.char_at(text, at)?.map(|c| Value::Markup(c.into())),
            Value::Bytes(bytes) => Some(Value::Int(bytes[at].into())),
            Value::List(seq) | Value::Tuple(seq) => Some(seq.items[at].clone()),
            Value::Range(range) => Some(Value::Int(range.get(at as i128))),
            _ => None,
        })
    }

    fn char_at(&mut self, text: &str, at: usize) -> Result<Option<String>> {
        let c = if text.is_ascii() { text.as_bytes().get(at).map(|&b| char::from(b)) } else { text.chars().nth(at) };
        self.spend(text.len() as u64 / 64)?;
        self.take(24)?;
        Ok(c.map(String::from))
    }

    /// `value[start:stop:step]`.
    pub(super) fn slice(&mut self, value: &Value, bounds: &[Value; 3]) -> Result<Value> {
        if value.is_undefined() {
            return value.refuse();
        }
        let len = match value {
            Value::Str(_) | Value::Markup(_) | Value::Bytes(_) | Value::List(_) | Value::Tuple(_) | Value::Range(_) => {
                value.len()?
            }
            Value::Dict(_) => return type_error("unhashable type: 'slice'"),
            other => return type_error(format!("'{}' object is not subscriptable", other.type_name())),
        };
        let (start, count, step) = bounds_of(bounds, len as i128)?;
        if let Value::Range(range) = value {
            let first = range.get(start);
            let sliced = super::value::Range { start: first, step: range.step * step, stop: first + range.step * step * count };
            return Ok(Value::Range(sliced));
        }
        let count = usize::try_from(count).unwrap_or(0);
        let at = |n: usize| usize::try_from(start + n as i128 * step).unwrap_or(usize::MAX);
        match value {
            Value::Str(text) | Value::Markup(text) => {
                let out = self.slice_text(text, (start, count, step))?;
                Ok(if matches!(value, Value::Markup(_)) { Value::Markup(out.into()) } else { Value::str(out) })
            }
            Value::Bytes(bytes) => {
                self.take(count as u64)?;
                Ok(Value::Bytes((0..count).map(|n| bytes[at(n)]).collect()))
            }
            Value::List(seq) | Value::Tuple(seq) => {
                self.take_product(count as u64, size_of::<Value>() as u64)?;
                let items = (0..count).map(|n| seq.items[at(n)].clone()).collect();
                if matches!(value, Value::List(_)) { Value::list(items) } else { Value::tuple(items) }
            }
            _ => type_error("not subscriptable"),
        }
    }

    fn slice_text(&mut self, text: &str, (start, count, step): (i128, usize, i128)) -> Result<String> {
        self.spend(text.len() as u64 / 16)?;
        if step == 1 {
            let skip = usize::try_from(start).unwrap_or(0);
            let from = super::text::byte_of(text, skip);
            let to = from + super::text::byte_of(&text[from..], count);
            self.take((to - from) as u64)?;
            return Ok(text[from..to].to_owned());
        }
        self.take(text.len() as u64 * 4)?;
        let chars: Vec<char> = text.chars().collect();
        Ok((0..count).map(|n| chars[usize::try_from(start + n as i128 * step).unwrap_or(0)]).collect())
    }
}

/// Start, number of items and step of a slice of `len` items.
fn bounds_of(bounds: &[Value; 3], len: i128) -> Result<(i128, i128, i128)> {
    let bound = |value: &Value| match value {
        Value::None => Ok(None),
        other => match other.as_int() {
            // Far enough outside of every sequence, and safe to calculate with.
            Some(n) => Ok(Some(n.clamp(-(1 << 62), 1 << 62))),
            None => Fault::kind(Kind::Type, "slice indices must be integers or None or have an __index__ method"),
        },
    };
    let step = bound(&bounds[2])?.unwrap_or(1);
    if step == 0 {
        return value_error("slice step cannot be zero");
    }
    let (lowest, highest) = if step > 0 { (0, len) } else { (-1, len - 1) };
    let clamp = |n: i128| (if n < 0 { n + len } else { n }).clamp(lowest, highest);
    let start = bound(&bounds[0])?.map_or(if step > 0 { lowest } else { highest }, clamp);
    let stop = bound(&bounds[1])?.map_or(if step > 0 { highest } else { lowest }, clamp);
    let span = if step > 0 { stop - start } else { start - stop };
    let count = if span <= 0 { 0 } else { (span - 1) / step.abs() + 1 };
    Ok((start, count, step))
}

fn macro_attribute(node: &super::ast::Macro, name: &str) -> Result<Option<Value>> {
    Ok(Some(match name {
        "name" => node.name.clone().map_or(Value::None, Value::Str),
        "arguments" => Value::tuple(node.args.iter().map(|(name, _)| Value::Str(name.clone())).collect())?,
        "catch_kwargs" => Value::Bool(node.kwargs.is_some()),
        "catch_varargs" => Value::Bool(node.varargs.is_some()),
        "caller" => Value::Bool(node.caller.is_some()),
        "explicit_caller" => Value::Bool(node.args.iter().any(|(name, _)| &**name == "caller")),
        _ => return Ok(None),
    }))
}

/// Undefined: `value` has nothing of this name.
pub(super) fn missing(value: &Value, name: String) -> Value {
    Value::Undefined(Rc::new(Missing::Item(value.type_name(), name)))
}
