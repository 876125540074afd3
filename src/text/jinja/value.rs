//! Values of templates, as Python has them.
//!
//! Lists, tuples and dictionaries never change: transformers renders in a sandbox that refuses every method which would
//! change one. What does change is a namespace, a generator, a cycler, a joiner and the `loop` of a loop.

use super::ast;
use super::fault::{Fault, Kind, Result, runtime, type_error};
use super::iter::{Generator, Loop};
use super::machine::Record;
use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::rc::Rc;
use std::sync::Arc;

/// How deep lists, tuples and dictionaries may hold each other. Printing goes down by recursion.
const DEPTH: u16 = 200;

/// How many parts a tuple may have, at all levels, as a key of a dictionary.
const KEY: u16 = 10_000;

/// A value.
#[derive(Debug, Clone)]
pub(super) enum Value {
    Undefined(Rc<Missing>),
    None,
    Bool(bool),
    Int(i128),
    Float(f64),
    Str(Arc<str>),
    /// Text that is not escaped again: what `escape` and `safe` give.
    Markup(Arc<str>),
    Bytes(Rc<[u8]>),
    List(Rc<Seq>),
    Tuple(Rc<Seq>),
    Dict(Rc<Dict>),
    View(View, Rc<Dict>),
    Range(Range),
    Generator(Rc<Generator>),
    Loop(Rc<RefCell<Loop>>),
    Namespace(Rc<RefCell<Dict>>),
    Macro(Rc<Macro>),
    Method(Rc<(Value, &'static str)>),
    Function(Function),
    Cycler(Rc<(Vec<Value>, Cell<usize>)>),
    Joiner(Rc<(Value, Cell<bool>)>),
    /// `self` in a template: its blocks by name.
    Blocks,
    Block(Arc<str>),
}

/// Which side of a dictionary.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum View {
    Keys,
    Values,
    Items,
}

/// Global functions and classes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Function {
    Range,
    Dict,
    Namespace,
    Cycler,
    Joiner,
    Lipsum,
    Raise,
    Now,
}

/// Why a value is undefined.
#[derive(Debug)]
pub(super) enum Missing {
    Name(Arc<str>),
    /// The type of a value, and what it does not have.
    Item(&'static str, String),
    /// What the sandbox does not let a template see.
    Unsafe(&'static str, String),
    Hint(String),
}

/// What a list or a tuple holds.
#[derive(Debug)]
pub(super) struct Seq {
    pub items: Vec<Value>,
    depth: u16,
    /// A group of `groupby`, whose items have names.
    pub group: bool,
}

/// A dictionary in the order of insertion.
#[derive(Debug, Clone, Default)]
pub(super) struct Dict {
    entries: Vec<(Value, Value)>,
    index: HashMap<Key, usize>,
    depth: u16,
}

/// A key by its value: numbers that are equal are one key, whatever their type.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) enum Key {
    Undefined,
    None,
    Int(i128),
    Float(u64),
    Str(Arc<str>),
    Bytes(Vec<u8>),
    Tuple(Vec<Key>),
    /// What is equal only to itself.
    Itself(usize),
}

/// `range(start, stop, step)`.
#[derive(Debug, Clone, Copy)]
pub(super) struct Range {
    pub start: i128,
    pub stop: i128,
    pub step: i128,
}

/// A macro with the place of its definition.
#[derive(Debug)]
pub(super) struct Macro {
    pub node: Arc<ast::Macro>,
    pub record: Rc<Record>,
}

impl Range {
    pub(super) fn len(&self) -> i128 {
        let span = if self.step > 0 { self.stop - self.start } else { self.start - self.stop };
        if span <= 0 { 0 } else { (span - 1) / self.step.abs() + 1 }
    }

    pub(super) fn get(&self, at: i128) -> i128 {
        self.start + at * self.step
    }
}

impl Seq {
    fn new(items: Vec<Value>) -> Result<Rc<Seq>> {
        let depth = deeper(items.iter())?;
        Ok(Rc::new(Seq { items, depth, group: false }))
    }
}

/// One level above the deepest of `values`.
pub(super) fn deeper<'v>(values: impl Iterator<Item = &'v Value>) -> Result<u16> {
    let depth = values.map(Value::depth).max().unwrap_or(0) + 1;
    if depth > DEPTH {
        return Fault::kind(Kind::Limit, format!("values are nested deeper than {DEPTH} levels"));
    }
    Ok(depth)
}

impl Value {
    pub(super) fn str(text: impl Into<Arc<str>>) -> Value {
        Value::Str(text.into())
    }

    pub(super) fn list(items: Vec<Value>) -> Result<Value> {
        Ok(Value::List(Seq::new(items)?))
    }

    pub(super) fn tuple(items: Vec<Value>) -> Result<Value> {
        Ok(Value::Tuple(Seq::new(items)?))
    }

    /// A group of `groupby`: its key and its items.
    pub(super) fn group(key: Value, items: Vec<Value>) -> Result<Value> {
        let items = vec![key, Value::list(items)?];
        let depth = deeper(items.iter())?;
        Ok(Value::Tuple(Rc::new(Seq { items, depth, group: true })))
    }

    pub(super) fn dict(dict: Dict) -> Value {
        Value::Dict(Rc::new(dict))
    }

    /// Undefined, for a reason.
    pub(super) fn hint(hint: impl Into<String>) -> Value {
        Value::Undefined(Rc::new(Missing::Hint(hint.into())))
    }

    fn depth(&self) -> u16 {
        match self {
            Value::List(seq) | Value::Tuple(seq) => seq.depth,
            Value::Dict(dict) | Value::View(_, dict) => dict.depth,
            Value::Generator(generator) => generator.depth,
            Value::Cycler(items) => items.0.iter().map(Value::depth).max().unwrap_or(0) + 1,
            Value::Method(method) => method.0.depth() + 1,
            Value::Joiner(joiner) => joiner.0.depth() + 1,
            _ => 0,
        }
    }

    /// Text, escaped or not.
    pub(super) fn as_str(&self) -> Option<&Arc<str>> {
        match self {
            Value::Str(text) | Value::Markup(text) => Some(text),
            _ => None,
        }
    }

    /// Integers, of which truth values are two.
    pub(super) fn as_int(&self) -> Option<i128> {
        match self {
            Value::Int(n) => Some(*n),
            Value::Bool(b) => Some(i128::from(*b)),
            _ => None,
        }
    }

    /// Any number as a float.
    pub(super) fn as_float(&self) -> Option<f64> {
        match self {
            Value::Float(x) => Some(*x),
            other => other.as_int().map(|n| n as f64),
        }
    }

    pub(super) fn is_undefined(&self) -> bool {
        matches!(self, Value::Undefined(_))
    }

    /// Python's name of the type.
    pub(super) fn type_name(&self) -> &'static str {
        match self {
            Value::Undefined(_) => "Undefined",
            Value::None => "NoneType",
            Value::Bool(_) => "bool",
            Value::Int(_) => "int",
            Value::Float(_) => "float",
            Value::Str(_) => "str",
            Value::Markup(_) => "Markup",
            Value::Bytes(_) => "bytes",
            Value::List(_) => "list",
            Value::Tuple(_) => "tuple",
            Value::Dict(_) => "dict",
            Value::View(View::Keys, _) => "dict_keys",
            Value::View(View::Values, _) => "dict_values",
            Value::View(View::Items, _) => "dict_items",
            Value::Range(_) => "range",
            Value::Generator(_) => "generator",
            Value::Loop(_) => "LoopContext",
            Value::Namespace(_) => "Namespace",
            Value::Macro(_) => "Macro",
            Value::Method(_) => "builtin_function_or_method",
            Value::Function(_) => "function",
            Value::Cycler(_) => "Cycler",
            Value::Joiner(_) => "Joiner",
            Value::Blocks => "TemplateReference",
            Value::Block(_) => "BlockReference",
        }
    }

    /// As a key of a dictionary.
    pub(super) fn key(&self) -> Result<Key> {
        self.key_within(&mut KEY.into())
    }

    fn key_within(&self, parts: &mut usize) -> Result<Key> {
        *parts = parts.saturating_sub(1);
        if *parts == 0 {
            return Fault::kind(Kind::Limit, format!("a key of a dictionary has more than {KEY} parts"));
        }
        let itself = |pointer: *const ()| Ok(Key::Itself(pointer.addr()));
        Ok(match self {
            Value::Undefined(_) => Key::Undefined,
            Value::None => Key::None,
            Value::Bool(b) => Key::Int(i128::from(*b)),
            Value::Int(n) => Key::Int(*n),
            Value::Float(x) if x.fract() == 0.0 && x.abs() < 1e37 => Key::Int(*x as i128),
            Value::Float(x) => Key::Float(x.to_bits()),
            Value::Str(text) | Value::Markup(text) => Key::Str(text.clone()),
            Value::Bytes(bytes) => Key::Bytes(bytes.to_vec()),
            Value::Tuple(seq) => Key::Tuple(seq.items.iter().map(|item| item.key_within(parts)).collect::<Result<_>>()?),
            Value::Range(range) => {
                let first = if range.len() > 0 { range.start } else { 0 };
                Key::Tuple(vec![Key::Itself(0), Key::Int(range.len()), Key::Int(first), Key::Int(range.step)])
            }
            Value::List(_) | Value::Dict(_) | Value::View(..) => {
                return type_error(format!("unhashable type: '{}'", self.type_name()));
            }
            Value::Generator(rc) => return itself(Rc::as_ptr(rc).cast()),
            Value::Loop(rc) => return itself(Rc::as_ptr(rc).cast()),
            Value::Namespace(rc) => return itself(Rc::as_ptr(rc).cast()),
            Value::Macro(rc) => return itself(Rc::as_ptr(rc).cast()),
            Value::Cycler(rc) => return itself(Rc::as_ptr(rc).cast()),
            Value::Joiner(rc) => return itself(Rc::as_ptr(rc).cast()),
            Value::Method(method) => Key::Tuple(vec![method.0.key().unwrap_or(Key::None), Key::Str(method.1.into())]),
            Value::Function(function) => Key::Itself(1 + *function as usize),
            Value::Blocks => Key::Itself(100),
            Value::Block(name) => Key::Tuple(vec![Key::Itself(101), Key::Str(name.clone())]),
        })
    }

    /// Whether it can be written down as a literal.
    pub(super) fn is_literal(&self) -> bool {
        match self {
            Value::None | Value::Bool(_) | Value::Int(_) | Value::Float(_) | Value::Str(_) | Value::Markup(_) => true,
            Value::Range(_) => true,
            Value::List(seq) | Value::Tuple(seq) => !seq.group && seq.items.iter().all(Value::is_literal),
            Value::Dict(dict) => dict.entries.iter().all(|(key, value)| key.is_literal() && value.is_literal()),
            _ => false,
        }
    }

    /// Whether it counts as true.
    pub(super) fn truth(&self) -> bool {
        match self {
            Value::Undefined(_) | Value::None => false,
            Value::Bool(b) => *b,
            Value::Int(n) => *n != 0,
            Value::Float(x) => *x != 0.0,
            Value::Str(text) | Value::Markup(text) => !text.is_empty(),
            Value::Bytes(bytes) => !bytes.is_empty(),
            Value::List(seq) | Value::Tuple(seq) => !seq.items.is_empty(),
            Value::Dict(dict) | Value::View(_, dict) => dict.len() > 0,
            Value::Range(range) => range.len() > 0,
            _ => true,
        }
    }

    /// `len`, for what has one without being run.
    pub(super) fn len(&self) -> Result<usize> {
        Ok(match self {
            Value::Undefined(_) => 0,
            Value::Str(text) | Value::Markup(text) => super::text::chars(text),
            Value::Bytes(bytes) => bytes.len(),
            Value::List(seq) | Value::Tuple(seq) => seq.items.len(),
            Value::Dict(dict) | Value::View(_, dict) => dict.len(),
            Value::Range(range) => usize::try_from(range.len()).unwrap_or(usize::MAX),
            other => return type_error(format!("object of type '{}' has no len()", other.type_name())),
        })
    }

    /// The error of everything that can not be done with what is undefined.
    pub(super) fn refuse<T>(&self) -> Result<T> {
        match self {
            Value::Undefined(missing) => runtime(missing.message()),
            other => runtime(format!("{} is refused here", other.type_name())),
        }
    }
}

impl Missing {
    pub(super) fn message(&self) -> String {
        match self {
            Missing::Name(name) => format!("'{name}' is undefined"),
            Missing::Item(kind, name) => {
                let kind = if *kind == "NoneType" { "None".to_owned() } else { format!("'{kind} object'") };
                format!("{kind} has no attribute {name}")
            }
            Missing::Unsafe(kind, name) => format!("access to attribute '{name}' of '{kind}' object is unsafe."),
            Missing::Hint(hint) => hint.clone(),
        }
    }
}

impl Dict {
    pub(super) fn len(&self) -> usize {
        self.entries.len()
    }

    pub(super) fn entries(&self) -> &[(Value, Value)] {
        &self.entries
    }

    pub(super) fn get(&self, key: &Value) -> Result<Option<&Value>> {
        Ok(self.index.get(&key.key()?).map(|&at| &self.entries[at].1))
    }

    pub(super) fn get_str(&self, key: &Arc<str>) -> Option<&Value> {
        self.index.get(&Key::Str(key.clone())).map(|&at| &self.entries[at].1)
    }

    /// Sets a key; one that exists keeps its place.
    pub(super) fn insert(&mut self, key: Value, value: Value) -> Result<()> {
        self.depth = self.depth.max(deeper([&key, &value].into_iter())?);
        match self.index.entry(key.key()?) {
            std::collections::hash_map::Entry::Occupied(entry) => self.entries[*entry.get()].1 = value,
            std::collections::hash_map::Entry::Vacant(entry) => {
                entry.insert(self.entries.len());
                self.entries.push((key, value));
            }
        }
        Ok(())
    }

    /// Takes everything out.
    pub(super) fn take(&mut self) -> Vec<(Value, Value)> {
        self.index.clear();
        std::mem::take(&mut self.entries)
    }

    /// Item `at` of a view.
    pub(super) fn item(&self, view: View, at: usize) -> Option<Result<Value>> {
        let (key, value) = self.entries.get(at)?;
        Some(match view {
            View::Keys => Ok(key.clone()),
            View::Values => Ok(value.clone()),
            View::Items => Value::tuple(vec![key.clone(), value.clone()]),
        })
    }
}

/// JSON as Python's `json` reads it: integers are integers, however they are stored.
pub(super) fn from_json(json: &serde_json::Value) -> Result<Value> {
    use serde_json::Value as Json;
    Ok(match json {
        Json::Null => Value::None,
        Json::Bool(b) => Value::Bool(*b),
        Json::Number(number) => match (number.as_i64(), number.as_u64()) {
            (Some(n), _) => Value::Int(n.into()),
            (_, Some(n)) => Value::Int(n.into()),
            _ => Value::Float(number.as_f64().unwrap_or(f64::NAN)),
        },
        Json::String(text) => Value::str(text.as_str()),
        Json::Array(items) => Value::list(items.iter().map(from_json).collect::<Result<_>>()?)?,
        Json::Object(map) => {
            let mut dict = Dict::default();
            for (key, value) in map {
                dict.insert(Value::str(key.as_str()), from_json(value)?)?;
            }
            Value::dict(dict)
        }
    })
}
