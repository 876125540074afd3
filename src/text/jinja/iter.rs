//! Iteration: over values, over generators that work only when they are asked, and the `loop` of a loop.

use super::args::Args;
use super::ast;
use super::fault::{Result, runtime, type_error, value_error};
use super::filters::path::Path;
use super::machine::{Machine, Record};
use super::value::{Dict, Key, Range, Seq, Value, View};
use std::cell::RefCell;
use std::collections::HashSet;
use std::rc::Rc;
use std::sync::Arc;

/// A generator, or another object that can be iterated once.
#[derive(Debug)]
pub(super) struct Generator {
    pub iter: RefCell<Iter>,
    pub depth: u16,
}

/// Where an iteration stands.
#[derive(Debug)]
pub(super) enum Iter {
    Seq(Rc<Seq>, usize),
    Chars(Arc<str>, usize),
    Bytes(Rc<[u8]>, usize),
    Range(Range, i128),
    View(Rc<Dict>, View, usize),
    Values(std::vec::IntoIter<Value>),
    Generator(Rc<Generator>),
    /// `map`, `select` and the like before they begin.
    Deferred(Deferred, Value, Args),
    Map(Box<Iter>, Path),
    MapFilter(Box<Iter>, Value, Args),
    /// Attribute, test with arguments, and whether what passes stays.
    Select(Box<Iter>, Option<Path>, Option<(Value, Args)>, bool),
    Unique(Box<Iter>, Path, bool, HashSet<Key>),
    /// Size and what fills the last one up.
    Batch(Box<Iter>, i128, Value, Vec<Value>),
    /// The items of a loop that pass its test.
    Filtered(Box<Iter>, Arc<ast::For>, Rc<Record>),
}

/// Filters that are generators.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Deferred {
    Map,
    Select,
    Reject,
    SelectAttr,
    RejectAttr,
    Unique,
    Batch,
    Slice,
    Items,
}

/// The variable `loop`.
#[derive(Debug)]
pub(super) struct Loop {
    pub iter: Iter,
    /// Known from the beginning, or once it was asked for.
    pub length: Option<usize>,
    pub index0: i128,
    pub after: Option<Value>,
    pub current: Option<Value>,
    pub before: Option<Value>,
    pub changed: Option<Vec<Value>>,
    pub depth0: i128,
    /// The loop itself with the place where it stands, where it may call itself.
    pub recursive: Option<(Arc<ast::For>, Rc<Record>)>,
}

impl Value {
    /// A generator object.
    pub(super) fn generator(iter: Iter) -> Result<Value> {
        let depth = super::value::deeper(iter.holds().into_iter())?;
        Ok(Value::Generator(Rc::new(Generator { iter: RefCell::new(iter), depth })))
    }
}

impl Iter {
    /// The values whose depth counts.
    fn holds(&self) -> Vec<&Value> {
        match self {
            Iter::Deferred(_, value, args) => args.positional.iter().chain([value]).collect(),
            Iter::Values(values) => values.as_slice().iter().collect(),
            _ => Vec::new(),
        }
    }

    /// Characters of a text, one by one.
    fn char(text: &Arc<str>, at: &mut usize) -> Option<Value> {
        let c = text[*at..].chars().next()?;
        *at += c.len_utf8();
        Some(Value::str(c.encode_utf8(&mut [0; 4]) as &str))
    }
}

impl Machine<'_> {
    /// `iter(value)`.
    pub(super) fn iter(&mut self, value: &Value) -> Result<Iter> {
        Ok(match value {
            Value::Undefined(_) => Iter::Values(Vec::new().into_iter()),
            Value::Str(text) | Value::Markup(text) => Iter::Chars(text.clone(), 0),
            Value::Bytes(bytes) => Iter::Bytes(bytes.clone(), 0),
            Value::List(seq) | Value::Tuple(seq) => Iter::Seq(seq.clone(), 0),
            Value::Dict(dict) => Iter::View(dict.clone(), View::Keys, 0),
            Value::View(view, dict) => Iter::View(dict.clone(), *view, 0),
            Value::Range(range) => Iter::Range(*range, 0),
            Value::Generator(generator) => Iter::Generator(generator.clone()),
            Value::Loop(_) => return runtime("a loop over the variable loop is not supported"),
            other => return type_error(format!("'{}' object is not iterable", other.type_name())),
        })
    }

    /// All that `value` gives.
    pub(super) fn collect(&mut self, value: &Value) -> Result<Vec<Value>> {
        if let Value::List(seq) | Value::Tuple(seq) = value {
            self.spend(seq.items.len() as u64)?;
            self.take((seq.items.len() * size_of::<Value>()) as u64)?;
            return Ok(seq.items.clone());
        }
        let mut iter = self.iter(value)?;
        let mut items = Vec::new();
        while let Some(item) = self.next(&mut iter)? {
            self.take(size_of::<Value>() as u64)?;
            items.push(item);
        }
        Ok(items)
    }

    /// The next item, if there is one.
    pub(super) fn next(&mut self, iter: &mut Iter) -> Result<Option<Value>> {
        self.spend(1)?;
        let item = match iter {
            Iter::Seq(seq, at) => {
                *at += 1;
                seq.items.get(*at - 1).cloned()
            }
            Iter::Chars(text, at) => {
                self.take(24)?;
                Iter::char(text, at)
            }
            Iter::Bytes(bytes, at) => {
                *at += 1;
                bytes.get(*at - 1).map(|&b| Value::Int(b.into()))
            }
            Iter::Range(range, at) => {
                let item = (*at < range.len()).then(|| Value::Int(range.get(*at)));
                *at += 1;
                item
            }
            Iter::View(dict, view, at) => {
                *at += 1;
                self.take(if *view == View::Items { 96 } else { 0 })?;
                dict.item(*view, *at - 1).transpose()?
            }
            Iter::Values(values) => values.next(),
            Iter::Generator(generator) => {
                let generator = generator.clone();
                let Ok(mut inner) = generator.iter.try_borrow_mut() else {
                    return value_error("generator already executing");
                };
                return self.deeper(|machine| machine.next(&mut inner));
            }
            Iter::Deferred(kind, value, args) => {
                let (kind, value, args) = (*kind, value.clone(), std::mem::take(args));
                *iter = Iter::Values(Vec::new().into_iter());
                *iter = self.deeper(|machine| machine.begin(kind, value, args))?;
                return self.next(iter);
            }
            _ => return self.deeper(|machine| machine.next_of_generator(iter)),
        };
        Ok(item)
    }

    fn next_of_generator(&mut self, iter: &mut Iter) -> Result<Option<Value>> {
        match iter {
            Iter::Map(source, path) => match self.next(source)? {
                Some(item) => self.follow(path, item).map(Some),
                None => Ok(None),
            },
            Iter::MapFilter(source, name, args) => match self.next(source)? {
                Some(item) => self.filter_by_name(name, item, args.clone()).map(Some),
                None => Ok(None),
            },
            Iter::Select(source, path, test, keep) => {
                while let Some(item) = self.next(source)? {
                    let subject = match path {
                        Some(path) => self.follow(path, item.clone())?,
                        None => item.clone(),
                    };
                    let passed = match test {
                        Some((name, args)) => self.test_by_name(name, subject, args.clone())?.truth(),
                        None => self.truth(&subject)?,
                    };
                    if passed == *keep {
                        return Ok(Some(item));
                    }
                }
                Ok(None)
            }
            Iter::Unique(source, path, case_sensitive, seen) => {
                while let Some(item) = self.next(source)? {
                    let key = self.follow(path, item.clone())?;
                    let key = if *case_sensitive { key } else { super::text::ignore_case(key) };
                    self.take(64)?;
                    if seen.insert(key.key()?) {
                        return Ok(Some(item));
                    }
                }
                Ok(None)
            }
            Iter::Batch(source, size, fill, held) => self.next_batch(source, *size, fill, held),
            Iter::Filtered(source, node, record) => {
                let (node, record) = (node.clone(), record.clone());
                let Some((target, test, scope)) = &node.test else { return self.next(source) };
                self.enter(scope, &record)?;
                while let Some(item) = self.next(source)? {
                    self.assign(target, item.clone(), &record, false)?;
                    let passed = self.eval(test, &record)?;
                    if self.truth(&passed)? {
                        return Ok(Some(item));
                    }
                }
                Ok(None)
            }
            _ => Ok(None),
        }
    }

    /// The next full list of `batch`, or the last one filled up.
    fn next_batch(&mut self, source: &mut Iter, size: i128, fill: &Value, held: &mut Vec<Value>) -> Result<Option<Value>> {
        while let Some(item) = self.next(source)? {
            self.take(size_of::<Value>() as u64)?;
            if held.len() as i128 == size {
                let full = std::mem::replace(held, vec![item]);
                return Value::list(full).map(Some);
            }
            held.push(item);
        }
        if held.is_empty() {
            return Ok(None);
        }
        let mut last = std::mem::take(held);
        let missing = usize::try_from(size - last.len() as i128).unwrap_or(0);
        if !matches!(fill, Value::None) && missing > 0 {
            self.take((missing * size_of::<Value>()) as u64)?;
            last.extend(std::iter::repeat_n(fill.clone(), missing));
        }
        Value::list(last).map(Some)
    }

    /// The next item of a loop.
    pub(super) fn next_of_loop(&mut self, this: &Rc<RefCell<Loop>>) -> Result<Option<Value>> {
        let after = this.borrow_mut().after.take();
        let item = match after {
            Some(item) => Some(item),
            None => self.pull(this)?,
        };
        let Some(item) = item else { return Ok(None) };
        let mut state = this.borrow_mut();
        state.index0 += 1;
        state.before = state.current.replace(item.clone());
        Ok(Some(item))
    }

    /// The item after the current one, which stays where it is.
    pub(super) fn peek_of_loop(&mut self, this: &Rc<RefCell<Loop>>) -> Result<Option<Value>> {
        if this.borrow().after.is_none() {
            let item = self.pull(this)?;
            this.borrow_mut().after = item;
        }
        Ok(this.borrow().after.clone())
    }

    fn pull(&mut self, this: &Rc<RefCell<Loop>>) -> Result<Option<Value>> {
        let mut iter = std::mem::replace(&mut this.borrow_mut().iter, Iter::Values(Vec::new().into_iter()));
        let item = self.next(&mut iter);
        this.borrow_mut().iter = iter;
        item
    }

    /// How many items a loop has; a generator is run to its end for it.
    pub(super) fn length_of_loop(&mut self, this: &Rc<RefCell<Loop>>) -> Result<usize> {
        let known = this.borrow().length;
        if let Some(length) = known {
            return Ok(length);
        }
        let mut rest = Vec::new();
        while let Some(item) = self.pull(this)? {
            self.take(size_of::<Value>() as u64)?;
            rest.push(item);
        }
        let mut state = this.borrow_mut();
        let passed = usize::try_from(state.index0 + 1).unwrap_or(0) + usize::from(state.after.is_some());
        let length = rest.len() + passed;
        state.iter = Iter::Values(rest.into_iter());
        state.length = Some(length);
        Ok(length)
    }
}
