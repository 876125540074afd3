//! Operators: arithmetic, comparison, membership.

use super::arithmetic::{floats, integers, sign_of};
use super::ast::{Binary, Compare};
use super::fault::{Kind, Result, type_error};
use super::machine::Machine;
use super::value::{Value, View};
use std::cmp::Ordering;
use std::sync::Arc;

impl Machine<'_> {
    /// `left operator right`.
    pub(super) fn binary(&mut self, operator: Binary, left: Value, right: Value) -> Result<Value> {
        if operator == Binary::Mod && left.as_str().is_some() {
            return self.percent(&left, right);
        }
        for value in [&left, &right] {
            if value.is_undefined() {
                return value.refuse();
            }
        }
        if let (Some(a), Some(b)) = (left.as_int(), right.as_int()) {
            return integers(operator, a, b);
        }
        if let (Some(a), Some(b)) = (left.as_float(), right.as_float()) {
            return floats(operator, a, b);
        }
        let result = match operator {
            Binary::Add => self.add(&left, &right)?,
            Binary::Mul => match (left.as_int(), right.as_int()) {
                (_, Some(n)) => self.repeat(&left, n)?,
                (Some(n), _) => self.repeat(&right, n)?,
                _ => None,
            },
            _ => None,
        };
        result.map_or_else(
            || {
                let (a, b) = (left.type_name(), right.type_name());
                type_error(format!("unsupported operand type(s) for {}: '{a}' and '{b}'", sign_of(operator)))
            },
            Ok,
        )
    }

    fn add(&mut self, left: &Value, right: &Value) -> Result<Option<Value>> {
        Ok(match (left, right) {
            (Value::Str(a), Value::Str(b)) => {
                self.take((a.len() + b.len()) as u64)?;
                Some(Value::str([&**a, &**b].concat()))
            }
            (Value::Markup(_), other) | (other, Value::Markup(_)) if other.as_str().is_some() => {
                let (a, b) = (self.escape(left)?, self.escape(right)?);
                self.take((a.len() + b.len()) as u64)?;
                Some(Value::Markup([&*a, &*b].concat().into()))
            }
            (Value::List(a), Value::List(b)) | (Value::Tuple(a), Value::Tuple(b)) => {
                self.take_product((a.items.len() + b.items.len()) as u64, size_of::<Value>() as u64)?;
                let items = a.items.iter().chain(&b.items).cloned().collect();
                Some(if matches!(left, Value::List(_)) { Value::list(items)? } else { Value::tuple(items)? })
            }
            (Value::Bytes(a), Value::Bytes(b)) => {
                self.take((a.len() + b.len()) as u64)?;
                Some(Value::Bytes([&**a, &**b].concat().into()))
            }
            _ => None,
        })
    }

    /// `value * n` for texts and lists.
    fn repeat(&mut self, value: &Value, n: i128) -> Result<Option<Value>> {
        let times = usize::try_from(n.max(0)).unwrap_or(usize::MAX);
        Ok(match value {
            Value::Str(text) => Some(Value::str(self.repeated(text, times)?)),
            Value::Markup(text) => Some(Value::Markup(self.repeated(text, times)?.into())),
            Value::Bytes(bytes) => {
                self.take_product(bytes.len() as u64, times as u64)?;
                Some(Value::Bytes(bytes.repeat(times).into()))
            }
            Value::List(seq) | Value::Tuple(seq) => {
                self.take_product((seq.items.len() * size_of::<Value>()) as u64, times as u64)?;
                let times = if seq.items.is_empty() { 0 } else { times };
                let items = std::iter::repeat_n(&seq.items, times).flatten().cloned().collect();
                Some(if matches!(value, Value::List(_)) { Value::list(items)? } else { Value::tuple(items)? })
            }
            _ => None,
        })
    }

    /// A text so many times, within the memory that is left.
    pub(super) fn repeated(&mut self, text: &str, times: usize) -> Result<String> {
        self.take_product(text.len() as u64, times as u64)?;
        Ok(if text.is_empty() { String::new() } else { text.repeat(times) })
    }

    /// `~`: texts of all items, one after the other.
    pub(super) fn concat(&mut self, values: &[Value]) -> Result<Value> {
        let markup = self.autoescape && values.iter().any(|value| matches!(value, Value::Markup(_)));
        let mut out = String::new();
        for value in values {
            match markup {
                true => out.push_str(&self.escape(value)?),
                false => self.str_into(value, &mut out)?,
            }
        }
        self.take(out.len() as u64)?;
        Ok(if markup { Value::Markup(out.into()) } else { Value::str(out) })
    }

    /// `left operator right` as a truth value.
    pub(super) fn compare(&mut self, operator: Compare, left: &Value, right: &Value) -> Result<bool> {
        Ok(match operator {
            Compare::Eq => self.equal(left, right)?,
            Compare::Ne => !self.equal(left, right)?,
            Compare::In => self.contains(right, left)?,
            Compare::NotIn => !self.contains(right, left)?,
            Compare::Lt | Compare::Le | Compare::Gt | Compare::Ge => return self.ordered(operator, left, right),
        })
    }

    /// `left == right`.
    pub(super) fn equal(&mut self, left: &Value, right: &Value) -> Result<bool> {
        self.spend(1)?;
        Ok(match (left, right) {
            (Value::Undefined(_), Value::Undefined(_)) | (Value::None, Value::None) => true,
            (Value::Str(a) | Value::Markup(a), Value::Str(b) | Value::Markup(b)) => {
                self.spend(a.len() as u64 / 64)?;
                a == b
            }
            (Value::Bytes(a), Value::Bytes(b)) => a == b,
            (Value::List(a), Value::List(b)) | (Value::Tuple(a), Value::Tuple(b)) => {
                if a.items.len() != b.items.len() {
                    return Ok(false);
                }
                for (a, b) in a.items.iter().zip(&b.items) {
                    if !self.equal(a, b)? {
                        return Ok(false);
                    }
                }
                true
            }
            (Value::Dict(a), Value::Dict(b)) => {
                if a.len() != b.len() {
                    return Ok(false);
                }
                for (key, value) in a.entries() {
                    let same = match b.get(key)? {
                        Some(other) => self.equal(value, other)?,
                        None => false,
                    };
                    if !same {
                        return Ok(false);
                    }
                }
                true
            }
            (Value::View(a, first), Value::View(b, second)) if a != &View::Values && b != &View::Values => {
                if first.len() != second.len() {
                    return Ok(false);
                }
                for at in 0..first.len() {
                    let Some(item) = first.item(*a, at).transpose()? else { break };
                    if !self.contains(right, &item)? {
                        return Ok(false);
                    }
                }
                true
            }
            _ => match (left.as_int(), right.as_int(), left.as_float(), right.as_float()) {
                (Some(a), Some(b), ..) => a == b,
                (_, _, Some(_), Some(_)) => numbers(left, right) == Some(Ordering::Equal),
                (_, _, None, None) => is_same(left, right) || (ranges(left, right) && left.key()? == right.key()?),
                _ => false,
            },
        })
    }

    fn ordered(&mut self, operator: Compare, left: &Value, right: &Value) -> Result<bool> {
        self.spend(1)?;
        for value in [left, right] {
            if value.is_undefined() {
                return value.refuse();
            }
        }
        let holds = |ordering: Ordering| match operator {
            Compare::Lt => ordering.is_lt(),
            Compare::Le => ordering.is_le(),
            Compare::Gt => ordering.is_gt(),
            _ => ordering.is_ge(),
        };
        if left.as_float().is_some() && right.as_float().is_some() {
            return Ok(numbers(left, right).is_some_and(holds));
        }
        match (left, right) {
            (Value::Str(a) | Value::Markup(a), Value::Str(b) | Value::Markup(b)) => {
                self.spend(a.len().min(b.len()) as u64 / 64)?;
                Ok(holds(a.cmp(b)))
            }
            (Value::Bytes(a), Value::Bytes(b)) => Ok(holds(a.cmp(b))),
            (Value::List(a), Value::List(b)) | (Value::Tuple(a), Value::Tuple(b)) => {
                for (a, b) in a.items.iter().zip(&b.items) {
                    if !self.equal(a, b)? {
                        return self.ordered(operator, a, b);
                    }
                }
                Ok(holds(a.items.len().cmp(&b.items.len())))
            }
            _ => {
                let sign = match operator {
                    Compare::Lt => "<",
                    Compare::Le => "<=",
                    Compare::Gt => ">",
                    _ => ">=",
                };
                let (a, b) = (left.type_name(), right.type_name());
                type_error(format!("'{sign}' not supported between instances of '{a}' and '{b}'"))
            }
        }
    }

    /// `left < right`.
    pub(super) fn less(&mut self, left: &Value, right: &Value) -> Result<bool> {
        self.ordered(Compare::Lt, left, right)
    }

    /// `item in container`.
    pub(super) fn contains(&mut self, container: &Value, item: &Value) -> Result<bool> {
        match container {
            Value::Str(text) | Value::Markup(text) => match item.as_str() {
                Some(part) => {
                    self.spend(text.len() as u64 / 16)?;
                    Ok(text.contains(&**part))
                }
                None => type_error(format!("'in <string>' requires string as left operand, not {}", item.type_name())),
            },
            Value::Dict(dict) | Value::View(View::Keys, dict) => Ok(dict.get(item)?.is_some()),
            Value::View(View::Items, dict) => match item {
                Value::Tuple(pair) if pair.items.len() == 2 => match dict.get(&pair.items[0])? {
                    Some(value) => self.equal(&value.clone(), &pair.items[1]),
                    None => Ok(false),
                },
                _ => Ok(false),
            },
            Value::Range(_) if item.as_int().is_none() && item.as_float().is_none() => Ok(false),
            _ => {
                let mut iter = match self.iter(container) {
                    Err(fault) if fault.kind == Kind::Type => {
                        return type_error(format!("argument of type '{}' is not iterable", container.type_name()));
                    }
                    other => other?,
                };
                while let Some(other) = self.next(&mut iter)? {
                    if self.equal(&other, item)? || is_same(&other, item) {
                        return Ok(true);
                    }
                }
                Ok(false)
            }
        }
    }

    /// Python's `sorted`: stable, by `<` on the keys alone.
    pub(super) fn sorted(&mut self, items: Vec<Value>, keys: &[Value], reverse: bool) -> Result<Vec<Value>> {
        self.take_product(items.len() as u64, 16)?;
        let mut order: Vec<usize> = (0..items.len()).collect();
        let mut spare = order.clone();
        let mut width = 1;
        while width < order.len() {
            for start in (0..order.len()).step_by(2 * width) {
                let middle = (start + width).min(order.len());
                let end = (start + 2 * width).min(order.len());
                let (mut left, mut right) = (start, middle);
                for slot in &mut spare[start..end] {
                    let second = right < end && (left >= middle || self.before(keys, order[right], order[left], reverse)?);
                    let from = if second { &mut right } else { &mut left };
                    *slot = order[*from];
                    *from += 1;
                }
            }
            std::mem::swap(&mut order, &mut spare);
            width *= 2;
        }
        Ok(order.into_iter().map(|at| items[at].clone()).collect())
    }

    /// Whether item `a`, which stands behind item `b`, comes before it.
    fn before(&mut self, keys: &[Value], a: usize, b: usize, reverse: bool) -> Result<bool> {
        if reverse { self.less(&keys[b], &keys[a]) } else { self.less(&keys[a], &keys[b]) }
    }
}

fn ranges(left: &Value, right: &Value) -> bool {
    let by_key = |value: &Value| matches!(value, Value::Range(_) | Value::Function(_) | Value::Method(_) | Value::Block(_));
    by_key(left) && by_key(right)
}

/// `left is right`. Numbers and texts that are equal are taken for the same, as Python keeps small ones once.
pub(super) fn is_same(left: &Value, right: &Value) -> bool {
    use std::rc::Rc;
    match (left, right) {
        (Value::Undefined(a), Value::Undefined(b)) => Rc::ptr_eq(a, b),
        (Value::None, Value::None) => true,
        (Value::Bool(a), Value::Bool(b)) => a == b,
        (Value::Int(a), Value::Int(b)) => a == b,
        (Value::Float(a), Value::Float(b)) => a.to_bits() == b.to_bits(),
        (Value::Str(a), Value::Str(b)) => Arc::ptr_eq(a, b) || a == b,
        (Value::Markup(a), Value::Markup(b)) => Arc::ptr_eq(a, b),
        (Value::Bytes(a), Value::Bytes(b)) => Rc::ptr_eq(a, b),
        (Value::List(a), Value::List(b)) => Rc::ptr_eq(a, b),
        (Value::Tuple(a), Value::Tuple(b)) => Rc::ptr_eq(a, b) || a.items.is_empty() && b.items.is_empty(),
        (Value::Dict(a), Value::Dict(b)) => Rc::ptr_eq(a, b),
        (Value::Generator(a), Value::Generator(b)) => Rc::ptr_eq(a, b),
        (Value::Loop(a), Value::Loop(b)) => Rc::ptr_eq(a, b),
        (Value::Namespace(a), Value::Namespace(b)) => Rc::ptr_eq(a, b),
        (Value::Macro(a), Value::Macro(b)) => Rc::ptr_eq(a, b),
        (Value::Cycler(a), Value::Cycler(b)) => Rc::ptr_eq(a, b),
        (Value::Joiner(a), Value::Joiner(b)) => Rc::ptr_eq(a, b),
        (Value::Function(a), Value::Function(b)) => a == b,
        _ => false,
    }
}

/// The order of two numbers, exactly: an integer is not rounded to a float for it.
fn numbers(left: &Value, right: &Value) -> Option<Ordering> {
    match (left.as_int(), right.as_int()) {
        (Some(a), Some(b)) => Some(a.cmp(&b)),
        (Some(a), None) => int_to_float(a, right.as_float()?),
        (None, Some(b)) => int_to_float(b, left.as_float()?).map(Ordering::reverse),
        (None, None) => left.as_float()?.partial_cmp(&right.as_float()?),
    }
}

fn int_to_float(a: i128, b: f64) -> Option<Ordering> {
    if b.is_nan() {
        return None;
    }
    if b.abs() >= 1.7e38 {
        return Some(if b > 0.0 { Ordering::Less } else { Ordering::Greater });
    }
    let whole = b.floor();
    Some(a.cmp(&(whole as i128)).then(if b > whole { Ordering::Less } else { Ordering::Equal }))
}
