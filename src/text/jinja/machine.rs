//! The state of a rendering: variables, the work and memory that are left, and expressions to values.

use super::args::Args;
use super::ast::{Block, CallArgs, Const, Expr, Load, Node, Place, Scope, Unary};
use super::fault::{Fault, Kind, Result, type_error};
use super::value::{Dict, Missing, Value};
use std::cell::RefCell;
use std::collections::HashMap;
use std::rc::Rc;
use std::sync::Arc;

/// How deep expressions, statements and macros may be inside of each other while they run.
const DEPTH: u32 = 2500;

/// What a rendering may take.
#[derive(Debug, Clone, Copy)]
pub(in crate::text) struct Limits {
    /// Nodes of the tree, items and the like.
    pub steps: u64,
    /// Bytes of texts and lists that are made, whether they are kept or not.
    pub bytes: u64,
}

/// Variables of a function of the template, and where its definition stands.
#[derive(Debug)]
pub(super) struct Record {
    slots: RefCell<Vec<Option<Value>>>,
    parent: Option<Rc<Record>>,
    pub context: Rc<Context>,
}

/// What a template was called with, and what it sets at its top level.
#[derive(Debug)]
pub(super) struct Context {
    given: Rc<HashMap<Arc<str>, Value>>,
    pub set: RefCell<HashMap<Arc<str>, Value>>,
}

/// What may hold itself and so is emptied at the end.
enum Kept {
    Record(Rc<Record>),
    Namespace(Rc<RefCell<Dict>>),
    Loop(Rc<RefCell<super::iter::Loop>>),
}

/// A rendering.
pub(super) struct Machine<'t> {
    limits: Limits,
    depth: u32,
    pub autoescape: bool,
    /// Whether a constant is evaluated as the compiler does it.
    pub folding: bool,
    pub blocks: &'t HashMap<Arc<str>, Arc<Block>>,
    /// The clock of `strftime_now`.
    pub now: super::time::Moment,
    /// What the blocks of `self` see.
    pub root: Option<Rc<Context>>,
    kept: Vec<Kept>,
}

impl Record {
    pub(super) fn new(slots: u16, parent: Option<Rc<Record>>, context: Rc<Context>) -> Rc<Record> {
        Rc::new(Record { slots: RefCell::new(vec![None; slots.into()]), parent, context })
    }

    fn at(&self, hops: u16) -> &Record {
        let mut record = self;
        for _ in 0..hops {
            let Some(parent) = &record.parent else { break };
            record = parent;
        }
        record
    }

    pub(super) fn get(&self, place: Place) -> Option<Value> {
        self.at(place.hops).slots.borrow().get(usize::from(place.slot)).cloned().flatten()
    }

    pub(super) fn put(&self, place: Place, value: Option<Value>) {
        if let Some(slot) = self.at(place.hops).slots.borrow_mut().get_mut(usize::from(place.slot)) {
            *slot = value;
        }
    }
}

impl Context {
    pub(super) fn new(given: HashMap<Arc<str>, Value>) -> Rc<Context> {
        Rc::new(Context { given: Rc::new(given), set: RefCell::default() })
    }

    /// The same with more variables, which what is set later does not change.
    pub(super) fn derived(&self, more: Vec<(Arc<str>, Value)>) -> Rc<Context> {
        let mut given = (*self.given).clone();
        given.extend(self.set.borrow().iter().map(|(name, value)| (name.clone(), value.clone())));
        given.extend(more);
        Context::new(given)
    }

    fn resolve(&self, name: &str) -> Option<Value> {
        self.set.borrow().get(name).or_else(|| self.given.get(name)).cloned()
    }
}

impl<'t> Machine<'t> {
    pub(super) fn new(limits: Limits, blocks: &'t HashMap<Arc<str>, Arc<Block>>, now: super::time::Moment) -> Machine<'t> {
        Machine { limits, depth: 0, autoescape: false, folding: false, blocks, now, root: None, kept: Vec::new() }
    }

    /// Takes `steps` from the work that is left.
    pub(super) fn spend(&mut self, steps: u64) -> Result<()> {
        match self.limits.steps.checked_sub(steps) {
            Some(left) => {
                self.limits.steps = left;
                Ok(())
            }
            None => Fault::kind(Kind::Limit, "it does not end: stopped after too many instructions"),
        }
    }

    /// Takes `bytes` from the memory that is left; to be called before so much is made.
    pub(super) fn take(&mut self, bytes: u64) -> Result<()> {
        match self.limits.bytes.checked_sub(bytes) {
            Some(left) => {
                self.limits.bytes = left;
                self.spend(bytes / 32)
            }
            None => Fault::kind(Kind::Limit, "it makes too much text: stopped before the memory was full"),
        }
    }

    /// The same for a number of bytes that may be any.
    pub(super) fn take_product(&mut self, a: u64, b: u64) -> Result<()> {
        self.take(a.saturating_mul(b))
    }

    /// Runs `work` one level deeper.
    pub(super) fn deeper<T>(&mut self, work: impl FnOnce(&mut Self) -> Result<T>) -> Result<T> {
        self.depth += 1;
        if self.depth > DEPTH {
            return Fault::kind(Kind::Limit, format!("maximum recursion depth exceeded: more than {DEPTH} levels"));
        }
        let result = work(self);
        self.depth -= 1;
        result
    }

    pub(super) fn keep_record(&mut self, record: &Rc<Record>) {
        if !matches!(self.kept.last(), Some(Kept::Record(last)) if Rc::ptr_eq(last, record)) {
            self.kept.push(Kept::Record(record.clone()));
        }
    }

    pub(super) fn keep_loop(&mut self, this: &Rc<RefCell<super::iter::Loop>>) {
        self.kept.push(Kept::Loop(this.clone()));
    }

    pub(super) fn namespace(&mut self, dict: Dict) -> Value {
        let namespace = Rc::new(RefCell::new(dict));
        self.kept.push(Kept::Namespace(namespace.clone()));
        Value::Namespace(namespace)
    }

    /// Empties what may hold itself, one after the other, so that it goes.
    pub(super) fn finish(&mut self) {
        for kept in &self.kept {
            match kept {
                Kept::Record(record) => record.slots.borrow_mut().clear(),
                Kept::Namespace(namespace) => drop(namespace.borrow_mut().take()),
                Kept::Loop(this) => {
                    let mut state = this.borrow_mut();
                    state.iter = super::iter::Iter::Values(Vec::new().into_iter());
                    (state.after, state.current, state.before, state.changed) = (None, None, None, None);
                    state.recursive = None;
                }
            }
        }
        self.kept.clear();
    }

    /// Sets the variables of a scope to what they begin as.
    pub(super) fn enter(&mut self, scope: &Scope, record: &Rc<Record>) -> Result<()> {
        self.spend(scope.len() as u64)?;
        for (slot, load) in scope {
            let value = match load {
                Load::Resolve(name) => record.context.resolve(name),
                Load::Alias(place) => record.get(*place),
                Load::Missing => None,
                Load::Parameter => continue,
            };
            record.put(Place { hops: 0, slot: *slot }, value);
        }
        Ok(())
    }

    /// Makes the variables of a scope undefined, for macros that still see them.
    pub(super) fn leave(&mut self, scope: &Scope, record: &Rc<Record>) {
        for (slot, _) in scope {
            record.put(Place { hops: 0, slot: *slot }, None);
        }
    }

    /// The value of an expression.
    pub(super) fn eval(&mut self, expr: &Expr, record: &Rc<Record>) -> Result<Value> {
        self.spend(1)?;
        self.deeper(|machine| machine.node(expr, record)).map_err(|fault| fault.at(expr.line))
    }

    pub(super) fn eval_all(&mut self, items: &[Expr], record: &Rc<Record>) -> Result<Vec<Value>> {
        self.take(size_of_val(items) as u64)?;
        items.iter().map(|item| self.eval(item, record)).collect()
    }

    fn node(&mut self, expr: &Expr, record: &Rc<Record>) -> Result<Value> {
        match &expr.node {
            Node::Const(literal) => Ok(constant(literal)),
            Node::Name(name, place) => {
                Ok(record.get(*place).unwrap_or_else(|| Value::Undefined(Rc::new(Missing::Name(name.clone())))))
            }
            Node::Tuple(items) => Value::tuple(self.eval_all(items, record)?),
            Node::List(items) => Value::list(self.eval_all(items, record)?),
            Node::Dict(items) => {
                let mut dict = Dict::default();
                for (key, value) in items {
                    self.take(128)?;
                    let key = self.eval(key, record)?;
                    dict.insert(key, self.eval(value, record)?)?;
                }
                Ok(Value::dict(dict))
            }
            Node::Unary(operator, inner) => {
                let value = self.eval(inner, record)?;
                match operator {
                    Unary::Not => Ok(Value::Bool(!self.truth(&value)?)),
                    Unary::Neg | Unary::Pos => super::arithmetic::sign(*operator, &value),
                }
            }
            Node::Binary(operator, left, right) => {
                let left = self.eval(left, record)?;
                let right = self.eval(right, record)?;
                self.binary(*operator, left, right)
            }
            Node::And(left, right) => {
                let left = self.eval(left, record)?;
                if self.truth(&left)? { self.eval(right, record) } else { Ok(left) }
            }
            Node::Or(left, right) => {
                let left = self.eval(left, record)?;
                if self.truth(&left)? { Ok(left) } else { self.eval(right, record) }
            }
            Node::Compare(first, rest) => {
                let mut left = self.eval(first, record)?;
                for (operator, right) in rest {
                    let right = self.eval(right, record)?;
                    if !self.compare(*operator, &left, &right)? {
                        return Ok(Value::Bool(false));
                    }
                    left = right;
                }
                Ok(Value::Bool(true))
            }
            Node::Concat(items) => {
                let values = self.eval_all(items, record)?;
                self.concat(&values)
            }
            _ => self.operation(expr, record),
        }
    }

    /// The nodes that reach into values or call something.
    fn operation(&mut self, expr: &Expr, record: &Rc<Record>) -> Result<Value> {
        match &expr.node {
            Node::Cond(test, then, otherwise) => {
                let test = self.eval(test, record)?;
                match (self.truth(&test)?, otherwise) {
                    (true, _) => self.eval(then, record),
                    (false, Some(otherwise)) => self.eval(otherwise, record),
                    (false, None) => {
                        Ok(Value::hint("the inline if-expression evaluated to false and no else section was defined."))
                    }
                }
            }
            Node::Attribute(inner, name) => {
                let value = self.eval(inner, record)?;
                self.attribute(&value, name)
            }
            Node::Item(inner, index) => {
                let value = self.eval(inner, record)?;
                if let Node::Slice(parts) = &index.node {
                    let mut bounds = [Value::None, Value::None, Value::None];
                    for (bound, part) in bounds.iter_mut().zip(parts.iter()) {
                        if let Some(part) = part {
                            *bound = self.eval(part, record)?;
                        }
                    }
                    return match self.slice(&value, &bounds) {
                        Err(fault) if self.folding && fault.kind == Kind::Type => Ok(Value::hint("a constant has no slice")),
                        sliced => sliced,
                    };
                }
                let index = self.eval(index, record)?;
                self.item(&value, &index)
            }
            Node::Call(callee, args) => {
                let callee = self.eval(callee, record)?;
                let args = self.args(args, record)?;
                self.call(&callee, args)
            }
            Node::Filter(input, name, args) => {
                let value = match input {
                    Some(input) => self.eval(input, record)?,
                    None => Value::str(""),
                };
                let args = self.args(args, record)?;
                self.filter(name, value, args)
            }
            Node::Test(input, name, args) => {
                let value = self.eval(input, record)?;
                let args = self.args(args, record)?;
                self.test(name, value, args)
            }
            Node::Folded(inner, printed) => self.folded(inner, *printed, record),
            _ => type_error("a slice stands in brackets"),
        }
    }

    /// Jinja evaluates constants while it compiles, where a slice of what has none is undefined. What fails there, or has no
    /// literal, is left to the rendering.
    fn folded(&mut self, expr: &Expr, printed: bool, record: &Rc<Record>) -> Result<Value> {
        let outer = std::mem::replace(&mut self.folding, true);
        let folded = self.eval(expr, record);
        self.folding = outer;
        match folded {
            Ok(value) if printed || outer || value.is_literal() => Ok(value),
            Err(fault) if fault.kind == Kind::Limit => Err(fault),
            _ => self.eval(expr, record),
        }
    }

    /// A filter at the head of a block, applied to the block's text.
    pub(super) fn filter_block(&mut self, filter: &Expr, text: Value, record: &Rc<Record>) -> Result<Value> {
        let Node::Filter(input, name, args) = &filter.node else { return self.eval(filter, record) };
        let value = match input {
            Some(input) => self.deeper(|machine| machine.filter_block(input, text, record))?,
            None => text,
        };
        let args = self.args(args, record)?;
        self.filter(name, value, args).map_err(|fault| fault.at(filter.line))
    }

    /// Arguments to values.
    pub(super) fn args(&mut self, args: &CallArgs, record: &Rc<Record>) -> Result<Args> {
        let mut positional = self.eval_all(&args.positional, record)?;
        let mut named = Vec::new();
        for (name, value) in &args.named {
            named.push((name.clone(), self.eval(value, record)?));
        }
        if let Some(rest) = &args.rest {
            let rest = self.eval(rest, record)?;
            positional.extend(self.collect(&rest)?);
        }
        if let Some(rest) = &args.named_rest {
            let rest = self.eval(rest, record)?;
            let Value::Dict(dict) = &rest else {
                return type_error(format!("the argument after ** must be a mapping, not {}", rest.type_name()));
            };
            for (key, value) in dict.entries() {
                self.take(64)?;
                let name = key.str_arg("keywords")?;
                if named.iter().any(|(other, _)| *other == name) {
                    return type_error(format!("got multiple values for keyword argument '{name}'"));
                }
                named.push((name, value.clone()));
            }
        }
        Ok(Args { positional, named })
    }

    /// Whether a value counts as true.
    pub(super) fn truth(&mut self, value: &Value) -> Result<bool> {
        match value {
            Value::Loop(this) => Ok(self.length_of_loop(this)? > 0),
            other => Ok(other.truth()),
        }
    }
}

fn constant(literal: &Const) -> Value {
    match literal {
        Const::None => Value::None,
        Const::Bool(b) => Value::Bool(*b),
        Const::Int(n) => Value::Int(*n),
        Const::Float(x) => Value::Float(*x),
        Const::Str(text) => Value::Str(text.clone()),
    }
}
