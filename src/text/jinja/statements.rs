//! Statements to text: output, conditions, loops, assignments, blocks and macros.

use super::args::Args;
use super::ast::{self, Block, For, Place, Stmt, StmtKind, Target};
use super::fault::{Result, runtime, type_error, value_error};
use super::iter::{Iter, Loop};
use super::machine::{Machine, Record};
use super::value::{Dict, Macro, Value};
use std::cell::RefCell;
use std::rc::Rc;
use std::sync::Arc;

/// How statements ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Flow {
    Next,
    Break,
    Continue,
}

impl Machine<'_> {
    /// Runs statements; what they print goes behind `out`.
    pub(super) fn run(&mut self, body: &[Stmt], record: &Rc<Record>, out: &mut String) -> Result<Flow> {
        for stmt in body {
            self.spend(1)?;
            let flow = self.deeper(|machine| machine.statement(stmt, record, out)).map_err(|fault| fault.at(stmt.line))?;
            if flow != Flow::Next {
                return Ok(flow);
            }
        }
        Ok(Flow::Next)
    }

    fn statement(&mut self, stmt: &Stmt, record: &Rc<Record>, out: &mut String) -> Result<Flow> {
        match &stmt.kind {
            StmtKind::Text(text) => self.write(text, out)?,
            StmtKind::Print(items) => {
                for item in items {
                    let value = self.eval(item, record)?;
                    self.print(&value, out)?;
                }
            }
            StmtKind::If(branches) => {
                for (test, body) in branches {
                    let holds = match test {
                        Some(test) => {
                            let value = self.eval(test, record)?;
                            self.truth(&value)?
                        }
                        None => true,
                    };
                    if holds {
                        return self.run(body, record, out);
                    }
                }
            }
            StmtKind::For(node) => return self.for_loop(node, record, out),
            StmtKind::Set(target, value, toplevel) => {
                let value = self.eval(value, record)?;
                self.assign(target, value, record, *toplevel)?;
            }
            StmtKind::SetBlock(_) | StmtKind::With(..) | StmtKind::Autoescape(..) | StmtKind::FilterBlock(..) => {
                return self.scoped(&stmt.kind, record, out);
            }
            StmtKind::Macro(node, place, toplevel) => {
                let value = self.macro_value(node, record);
                if *toplevel && let Some(name) = &node.name {
                    record.context.set.borrow_mut().insert(name.clone(), value.clone());
                }
                record.put(*place, Some(value));
            }
            StmtKind::CallBlock(call, node) => {
                let caller = self.macro_value(node, record);
                self.call_with(call, caller, record, out)?;
            }
            StmtKind::Generation(node) => {
                let body = self.macro_value(node, record);
                let text = self.call(&body, Args::default())?;
                self.print(&text, out)?;
            }
            StmtKind::Block(_, block) => self.block(block, record, out)?,
            StmtKind::Foreign(template) => {
                self.eval(template, record)?;
                return type_error("no loader for this environment specified: a chat template stands alone");
            }
            StmtKind::Break => return Ok(Flow::Break),
            StmtKind::Continue => return Ok(Flow::Continue),
        }
        Ok(Flow::Next)
    }

    /// The statements that have a scope of their own.
    fn scoped(&mut self, kind: &StmtKind, record: &Rc<Record>, out: &mut String) -> Result<Flow> {
        match kind {
            StmtKind::SetBlock(set) => {
                let mut text = String::new();
                self.enter(&set.scope, record)?;
                let flow = self.run(&set.body, record, &mut text)?;
                if flow != Flow::Next {
                    return Ok(flow);
                }
                let mut value = self.captured(text);
                if let Some(filter) = &set.filter {
                    value = self.filter_block(filter, value, record)?;
                }
                self.leave(&set.scope, record);
                self.assign(&set.target, value, record, set.toplevel)?;
            }
            StmtKind::With(bound, body, scope) => {
                self.enter(scope, record)?;
                for (target, value) in bound {
                    let value = self.eval(value, record)?;
                    self.assign(target, value, record, false)?;
                }
                let flow = self.run(body, record, out)?;
                self.leave(scope, record);
                return Ok(flow);
            }
            StmtKind::Autoescape(on, body, scope) => {
                self.enter(scope, record)?;
                let on = self.eval(on, record)?;
                let before = std::mem::replace(&mut self.autoescape, on.truth());
                let flow = self.run(body, record, out)?;
                self.autoescape = before;
                self.leave(scope, record);
                return Ok(flow);
            }
            StmtKind::FilterBlock(filter, body, scope) => {
                let mut text = String::new();
                self.enter(scope, record)?;
                let flow = self.run(body, record, &mut text)?;
                if flow != Flow::Next {
                    return Ok(flow);
                }
                let text = self.captured(text);
                let value = self.filter_block(filter, text, record)?;
                self.print(&value, out)?;
                self.leave(scope, record);
            }
            _ => {}
        }
        Ok(Flow::Next)
    }

    /// Appends text to the output.
    fn write(&mut self, text: &str, out: &mut String) -> Result<()> {
        self.take(text.len() as u64)?;
        out.push_str(text);
        Ok(())
    }

    /// Prints a value: `str`, escaped where that is on.
    fn print(&mut self, value: &Value, out: &mut String) -> Result<()> {
        if self.autoescape {
            let escaped = self.escape(value)?;
            return self.write(&escaped, out);
        }
        match value.as_str() {
            Some(text) => self.write(text, out),
            None => self.str_into(value, out),
        }
    }

    /// Text of a block as a value.
    fn captured(&self, text: String) -> Value {
        if self.autoescape { Value::Markup(text.into()) } else { Value::str(text) }
    }

    fn macro_value(&mut self, node: &Arc<ast::Macro>, record: &Rc<Record>) -> Value {
        self.keep_record(record);
        Value::Macro(Rc::new(Macro { node: node.clone(), record: record.clone() }))
    }

    fn call_with(&mut self, call: &ast::Expr, caller: Value, record: &Rc<Record>, out: &mut String) -> Result<()> {
        let ast::Node::Call(callee, args) = &call.node else { return type_error("expected a call") };
        let callee = self.eval(callee, record)?;
        let mut args = self.args(args, record)?;
        if args.named.iter().any(|(name, _)| &**name == "caller") {
            return type_error("got multiple values for keyword argument 'caller'");
        }
        args.named.push(("caller".into(), caller));
        let value = self.call(&callee, args).map_err(|fault| fault.at(call.line))?;
        self.print(&value, out)
    }

    /// Assigns to a target; at the top level the context gets a copy.
    pub(super) fn assign(&mut self, target: &Target, value: Value, record: &Rc<Record>, toplevel: bool) -> Result<()> {
        match target {
            Target::Name(name, place) => {
                if toplevel {
                    record.context.set.borrow_mut().insert(name.clone(), value.clone());
                }
                record.put(*place, Some(value));
            }
            Target::Attribute(_, place, attribute) => {
                let Some(Value::Namespace(namespace)) = record.get(*place) else {
                    return runtime("cannot assign attribute on non-namespace object");
                };
                self.set_attribute(&namespace, attribute, value)?;
            }
            Target::Tuple(targets) => {
                let items = self.unpack(&value, targets.len())?;
                for (target, item) in targets.iter().zip(items) {
                    self.assign(target, item, record, toplevel)?;
                }
            }
        }
        Ok(())
    }

    pub(super) fn set_attribute(&mut self, namespace: &Rc<RefCell<Dict>>, name: &Arc<str>, value: Value) -> Result<()> {
        if name.starts_with('_') {
            return runtime(format!("chat templates cannot store the underscore-prefixed attribute '{name}' on a namespace"));
        }
        self.take(128)?;
        namespace.borrow_mut().insert(Value::Str(name.clone()), value)
    }

    /// Exactly `count` items.
    fn unpack(&mut self, value: &Value, count: usize) -> Result<Vec<Value>> {
        let mut iter = match self.iter(value) {
            Ok(iter) => iter,
            Err(fault) if fault.kind == super::fault::Kind::Type => {
                return type_error(format!("cannot unpack non-iterable {} object", value.type_name()));
            }
            Err(fault) => return Err(fault),
        };
        let mut items = Vec::new();
        while let Some(item) = self.next(&mut iter)? {
            if items.len() == count {
                return value_error(format!("too many values to unpack (expected {count})"));
            }
            items.push(item);
        }
        match items.len() == count {
            true => Ok(items),
            false => value_error(format!("not enough values to unpack (expected {count}, got {})", items.len())),
        }
    }

    fn for_loop(&mut self, node: &Arc<For>, record: &Rc<Record>, out: &mut String) -> Result<Flow> {
        let items = self.eval(&node.iter, record)?;
        self.loop_over(node, record, &items, 0, out)
    }

    /// Runs a loop over `items`. One that may call itself has variables of its own each time.
    pub(super) fn loop_over(
        &mut self,
        node: &Arc<For>,
        outer: &Rc<Record>,
        items: &Value,
        depth0: i128,
        out: &mut String,
    ) -> Result<Flow> {
        let record = &match node.recursive {
            Some(slots) => Record::new(slots, Some(outer.clone()), outer.context.clone()),
            None => outer.clone(),
        };
        let mut iter = self.iter(items)?;
        let mut length = items.len().ok();
        if node.test.is_some() {
            iter = Iter::Filtered(Box::new(iter), node.clone(), outer.clone());
            length = None;
        }
        let empty = match node.loop_slot {
            Some(slot) => self.extended(node, (outer, record), iter, length, (slot, depth0), out)?,
            None => self.plain(node, record, iter, out)?,
        };
        self.leave(&node.scope, record);
        if empty && let Some((body, scope)) = &node.otherwise {
            self.enter(scope, record)?;
            let flow = self.run(body, record, out)?;
            self.leave(scope, record);
            return Ok(flow);
        }
        Ok(Flow::Next)
    }

    /// A loop that does not use `loop`; whether it had no items.
    fn plain(&mut self, node: &For, record: &Rc<Record>, mut iter: Iter, out: &mut String) -> Result<bool> {
        let mut empty = true;
        while let Some(item) = self.next(&mut iter)? {
            match self.turn(node, record, item, out)? {
                Flow::Break => break,
                Flow::Continue => {}
                Flow::Next => empty = false,
            }
        }
        Ok(empty)
    }

    /// A loop that uses `loop`; whether it had no items.
    fn extended(
        &mut self,
        node: &Arc<For>,
        (outer, record): (&Rc<Record>, &Rc<Record>),
        iter: Iter,
        length: Option<usize>,
        (slot, depth0): (u16, i128),
        out: &mut String,
    ) -> Result<bool> {
        let recursive = node.recursive.map(|_| (node.clone(), outer.clone()));
        let state =
            Loop { iter, length, index0: -1, after: None, current: None, before: None, changed: None, depth0, recursive };
        self.take(size_of::<Loop>() as u64)?;
        let this = Rc::new(RefCell::new(state));
        self.keep_loop(&this);
        let mut empty = true;
        while let Some(item) = self.next_of_loop(&this)? {
            record.put(Place { hops: 0, slot }, Some(Value::Loop(this.clone())));
            match self.turn(node, record, item, out)? {
                Flow::Break => break,
                Flow::Continue => {}
                Flow::Next => empty = false,
            }
        }
        record.put(Place { hops: 0, slot }, None);
        Ok(empty)
    }

    /// One turn of a loop. As Jinja compiles it, the `else` part runs unless some turn came to its end.
    fn turn(&mut self, node: &For, record: &Rc<Record>, item: Value, out: &mut String) -> Result<Flow> {
        self.assign(&node.target, item, record, false)?;
        self.enter(&node.scope, record)?;
        self.run(&node.body, record, out)
    }

    /// A block where it stands.
    fn block(&mut self, block: &Arc<Block>, record: &Rc<Record>, out: &mut String) -> Result<()> {
        if block.required {
            return runtime("a required block was not found");
        }
        let context = match block.scoped {
            true => {
                let visible = block.visible.iter().filter_map(|(name, place)| Some((name.clone(), record.get(*place)?)));
                record.context.derived(visible.collect())
            }
            false => record.context.clone(),
        };
        self.block_in(block, context, out)
    }

    pub(super) fn block_in(
        &mut self,
        block: &Arc<Block>,
        context: Rc<super::machine::Context>,
        out: &mut String,
    ) -> Result<()> {
        let record = Record::new(block.slots, None, context);
        if let Some(slot) = block.own {
            record.put(Place { hops: 0, slot }, Some(Value::Blocks));
        }
        if let Some(slot) = block.parent {
            record.put(Place { hops: 0, slot }, Some(Value::hint("there is no parent block.")));
        }
        self.enter(&block.scope, &record)?;
        self.run(&block.body, &record, out).map(|_| ())
    }

    /// Calls a macro.
    pub(super) fn call_macro(&mut self, this: &Rc<Macro>, args: Args) -> Result<Value> {
        let node = &this.node;
        let record = Record::new(node.slots, Some(this.record.clone()), this.record.context.clone());
        self.take(u64::from(node.slots) * 48 + 64)?;
        self.enter(&node.scope, &record)?;
        self.bind_macro(node, args, &record)?;
        let first = node.args.len() - node.defaults.len();
        for (at, (name, slot)) in node.args.iter().enumerate() {
            let place = Place { hops: 0, slot: *slot };
            if record.get(place).is_none() {
                let value = match at.checked_sub(first) {
                    Some(n) => self.eval(&node.defaults[n], &record)?,
                    None => Value::hint(format!("parameter '{name}' was not provided")),
                };
                record.put(place, Some(value));
            }
        }
        let mut text = String::new();
        self.run(&node.body, &record, &mut text)?;
        Ok(self.captured(text))
    }

    /// Puts arguments where a macro looks for them.
    fn bind_macro(&mut self, node: &ast::Macro, args: Args, record: &Rc<Record>) -> Result<()> {
        let what = node.name.as_deref().unwrap_or("caller");
        let (mut positional, mut named) = (args.positional, args.named);
        let mut take = |name: &str| named.iter().position(|(n, _)| &**n == name).map(|at| named.remove(at).1);
        let extra = positional.split_off(positional.len().min(node.args.len()));
        let given = positional.len();
        for ((_, slot), value) in node.args.iter().zip(positional) {
            record.put(Place { hops: 0, slot: *slot }, Some(value));
        }
        for (name, slot) in &node.args[given..] {
            record.put(Place { hops: 0, slot: *slot }, take(name));
        }
        if let Some(slot) = node.caller {
            let caller = take("caller").filter(|caller| !matches!(caller, Value::None));
            record.put(Place { hops: 0, slot }, Some(caller.unwrap_or_else(|| Value::hint("No caller defined"))));
        }
        match (node.kwargs, named.first()) {
            (Some(slot), _) => {
                let mut dict = Dict::default();
                for (name, value) in named {
                    dict.insert(Value::Str(name), value)?;
                }
                record.put(Place { hops: 0, slot }, Some(Value::dict(dict)));
            }
            (None, Some((name, _))) if &**name == "caller" => {
                return type_error(format!("macro '{what}' was invoked with two values for the special caller argument"));
            }
            (None, Some((name, _))) => return type_error(format!("macro '{what}' takes no keyword argument '{name}'")),
            (None, None) => {}
        }
        match node.varargs {
            Some(slot) => record.put(Place { hops: 0, slot }, Some(Value::tuple(extra)?)),
            None if !extra.is_empty() => {
                return type_error(format!("macro '{what}' takes not more than {} argument(s)", node.args.len()));
            }
            None => {}
        }
        Ok(())
    }
}
