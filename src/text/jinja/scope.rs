//! Names to slots, with the scopes that Jinja's compiler gives them.
//!
//! Jinja turns a template into Python functions: the template, each macro, each call block, each block and each loop that
//! calls itself is one, and its variables are that function's. Inside, a loop, a `with`, a `set` block and a filter block
//! open a scope. A scope's names are known before it runs: one that it assigns is its own and begins as a copy of the outer
//! one; one that it only reads is the outer one; and one that no scope around it has is looked up among what the template
//! was called with. What a name means does not depend on the order in which things happen to run.

use super::ast::{Block, CallArgs, Const, Expr, For, Load, Macro, Node, Place, Scope, Stmt, StmtKind, Target};
use super::fault::{Fault, Kind, Result};
use super::symbols::{Frame, Slots, Symbols, bodies, fails_to_fold, has_scoped_block, has_slice, is_folded, uses};
use super::{filters, predicates};
use std::collections::HashMap;
use std::sync::Arc;

/// Python nests at most so many loops.
const LOOPS: u16 = 20;

/// What holds for the statements around a place.
#[derive(Clone, Copy, Default)]
struct Around {
    /// At the top level of the template.
    toplevel: bool,
    /// Inside of a condition, where unknown filters and tests matter only once they run.
    soft: bool,
    /// Loops around it within its function.
    loops: u16,
}

/// What holds for a part of an expression.
#[derive(Clone, Copy)]
struct Inside {
    soft: bool,
    /// Whether there is a slice, without which it does not matter when a constant is evaluated.
    folds: bool,
    /// Whether it is part of an operation.
    operation: bool,
}

struct Resolver {
    frames: Vec<Frame>,
    /// Slots of each function around the current place.
    slots: Vec<Slots>,
}

/// The scope of a template's top level, the number of its slots, and that of `self` where it is used.
pub(super) type Top = (Scope, u16, Option<u16>);

/// Resolves all names of a template.
pub(super) fn resolve(body: &mut [Stmt]) -> Result<Top> {
    let mut resolver = Resolver { frames: Vec::new(), slots: vec![Slots::new()] };
    resolver.open();
    let own = (!uses(body, &["self"]).is_empty()).then(|| resolver.declare(&"self".into())).and_then(|()| resolver.own("self"));
    resolver.symbols(|symbols, slots, outer| symbols.statements(body, slots, outer));
    resolver.statements(body, Around { toplevel: true, ..Around::default() })?;
    let scope = resolver.close();
    Ok((scope, resolver.function_end()?, own))
}

impl Resolver {
    fn open(&mut self) {
        let function = u16::try_from(self.slots.len() - 1).unwrap_or(u16::MAX);
        self.frames.push(Frame { symbols: Symbols::default(), function });
    }

    /// The number of slots of the function that ends.
    fn function_end(&mut self) -> Result<u16> {
        match self.slots.pop() {
            Some(Slots { copies: 0, .. }) => Fault::kind(Kind::Syntax, "it has too many names and conditions"),
            slots => Ok(slots.map_or(0, |slots| slots.next)),
        }
    }

    fn close(&mut self) -> Scope {
        self.frames.pop().map(|frame| frame.symbols.scope(frame.function)).unwrap_or_default()
    }

    /// Runs `work` on the innermost scope's symbols, the slots of its function, and the scopes around it.
    fn symbols(&mut self, work: impl FnOnce(&mut Symbols, &mut Slots, &[Frame])) {
        if let (Some((inner, outer)), Some(slots)) = (self.frames.split_last_mut(), self.slots.last_mut()) {
            work(&mut inner.symbols, slots, outer);
        }
    }

    fn place(&self, name: &str, line: u32) -> Result<Place> {
        let here = self.frames.last().map_or(0, |frame| frame.function);
        for frame in self.frames.iter().rev() {
            if let Some(slot) = frame.symbols.find(name) {
                return Ok(Place { hops: here - frame.function, slot });
            }
        }
        Err(Fault::new(Kind::Syntax, format!("the name '{name}' can not be resolved here")).at(line))
    }

    fn own(&self, name: &str) -> Option<u16> {
        self.frames.last().and_then(|frame| frame.symbols.find(name))
    }

    fn declare(&mut self, name: &Arc<str>) {
        self.symbols(|symbols, slots, _| symbols.declare(name, slots));
    }

    fn statements(&mut self, body: &mut [Stmt], around: Around) -> Result<()> {
        for stmt in body {
            let line = stmt.line;
            self.statement(stmt, around).map_err(|fault| fault.at(line))?;
        }
        Ok(())
    }

    fn statement(&mut self, stmt: &mut Stmt, around: Around) -> Result<()> {
        let line = stmt.line;
        match &mut stmt.kind {
            StmtKind::Text(_) => Ok(()),
            StmtKind::Print(items) => items.iter_mut().try_for_each(|item| {
                if is_folded(item) {
                    fold(item, true);
                }
                self.expr(item, around.soft)
            }),
            StmtKind::If(branches) => branches.iter_mut().try_for_each(|(test, body)| {
                test.iter_mut().try_for_each(|test| self.expr(test, true))?;
                self.statements(body, Around { soft: true, ..around })
            }),
            StmtKind::For(node) => self.for_loop(Arc::make_mut(node), around, line),
            StmtKind::Set(target, value, toplevel) => {
                *toplevel = around.toplevel;
                self.expr(value, around.soft)?;
                self.target(target, line)
            }
            StmtKind::SetBlock(set) => {
                set.toplevel = around.toplevel;
                self.open();
                self.symbols(|symbols, slots, outer| symbols.statements(&set.body, slots, outer));
                self.statements(&mut set.body, Around { loops: around.loops, ..Around::default() })?;
                set.filter.iter_mut().try_for_each(|filter| self.expr(filter, false))?;
                set.scope = self.close();
                self.target(&mut set.target, line)
            }
            StmtKind::With(bound, body, scope) => self.with(bound, body, scope, around, line),
            StmtKind::Autoescape(on, body, scope) => {
                self.open();
                self.symbols(|symbols, slots, outer| {
                    symbols.expr(on, slots, outer);
                    symbols.statements(body, slots, outer);
                });
                self.expr(on, false)?;
                self.statements(body, Around { loops: around.loops, ..Around::default() })?;
                *scope = self.close();
                Ok(())
            }
            StmtKind::FilterBlock(filter, body, scope) => {
                self.open();
                self.symbols(|symbols, slots, outer| {
                    symbols.statements(body, slots, outer);
                    symbols.expr(filter, slots, outer);
                });
                self.statements(body, Around { loops: around.loops, ..Around::default() })?;
                self.expr(filter, false)?;
                *scope = self.close();
                Ok(())
            }
            StmtKind::Macro(node, place, toplevel) => {
                *toplevel = around.toplevel;
                self.function(Arc::make_mut(node))?;
                *place = self.place(node.name.as_deref().unwrap_or_default(), line)?;
                Ok(())
            }
            StmtKind::CallBlock(call, node) => {
                self.function(Arc::make_mut(node))?;
                self.expr(call, around.soft)
            }
            StmtKind::Generation(node) => self.function(Arc::make_mut(node)),
            StmtKind::Block(_, block) => self.block(Arc::make_mut(block)),
            StmtKind::Foreign(template) => self.expr(template, around.soft),
            StmtKind::Break | StmtKind::Continue if around.loops == 0 => {
                Fault::kind(Kind::Syntax, "break and continue stand in a loop")
            }
            StmtKind::Break | StmtKind::Continue => Ok(()),
        }
    }

    fn inner(&mut self, body: &mut [Stmt], around: Around) -> Result<Scope> {
        self.open();
        self.symbols(|symbols, slots, outer| symbols.statements(body, slots, outer));
        self.statements(body, Around { loops: around.loops, ..Around::default() })?;
        Ok(self.close())
    }

    fn with(
        &mut self,
        bound: &mut [(Target, Expr)],
        body: &mut [Stmt],
        scope: &mut Scope,
        around: Around,
        line: u32,
    ) -> Result<()> {
        bound.iter_mut().try_for_each(|(_, value)| self.expr(value, around.soft))?;
        self.open();
        for (target, _) in bound.iter() {
            names(target).iter().for_each(|name| self.declare(name));
        }
        self.symbols(|symbols, slots, outer| symbols.statements(body, slots, outer));
        bound.iter_mut().try_for_each(|(target, _)| self.target(target, line))?;
        self.statements(body, Around { loops: around.loops, ..Around::default() })?;
        *scope = self.close();
        Ok(())
    }

    fn for_loop(&mut self, node: &mut For, around: Around, line: u32) -> Result<()> {
        if assigns_loop(node) {
            return Fault::kind(Kind::Syntax, "the variable 'loop' can not be assigned in a loop");
        }
        let loops = if node.recursive.is_some() { 1 } else { around.loops + 1 };
        if loops > LOOPS {
            return Fault::kind(Kind::Syntax, format!("more than {LOOPS} loops are inside of each other"));
        }
        self.expr(&mut node.iter, around.soft)?;
        if let Some((target, test, scope)) = &mut node.test {
            self.open();
            names(target).iter().for_each(|name| self.declare(name));
            self.symbols(|symbols, slots, outer| symbols.expr(test, slots, outer));
            self.expr(test, false)?;
            self.target(target, line)?;
            *scope = self.close();
        }
        if node.recursive.is_some() {
            self.slots.push(Slots::new());
        }
        let otherwise = node.otherwise.iter().any(|(body, _)| has_scoped_block(body));
        let blocks = otherwise || has_scoped_block(&node.body);
        let extended = node.recursive.is_some() || blocks || !uses(&node.body, &["loop"]).is_empty();
        self.open();
        if extended {
            self.declare(&"loop".into());
            node.loop_slot = self.own("loop");
        }
        names(&node.target).iter().for_each(|name| self.declare(name));
        self.symbols(|symbols, slots, outer| symbols.statements(&node.body, slots, outer));
        self.target(&mut node.target, line)?;
        self.statements(&mut node.body, Around { loops, ..Around::default() })?;
        node.scope = self.close();
        if let Some((body, scope)) = &mut node.otherwise {
            let outside = if node.recursive.is_some() { 0 } else { around.loops };
            *scope = self.inner(body, Around { loops: outside, ..Around::default() })?;
        }
        if node.recursive.is_some() {
            node.recursive = Some(self.function_end()?);
        }
        Ok(())
    }

    /// A macro or the body of a call block.
    fn function(&mut self, node: &mut Macro) -> Result<()> {
        self.slots.push(Slots::new());
        self.open();
        for (name, _) in &node.args {
            self.declare(name);
        }
        self.symbols(|symbols, slots, outer| {
            node.defaults.iter().for_each(|default| symbols.expr(default, slots, outer));
            symbols.statements(&node.body, slots, outer);
        });
        let used = uses(&node.body, &["caller", "kwargs", "varargs"]);
        let special = |resolver: &mut Self, name: &str, args: &[(Arc<str>, u16)]| {
            let wanted = used.contains(name) && !args.iter().any(|(arg, _)| &**arg == name);
            wanted.then(|| resolver.declare(&name.into())).and_then(|()| resolver.own(name))
        };
        let explicit = node.args.iter().position(|(name, _)| &**name == "caller");
        if used.contains("caller") && explicit.is_some_and(|at| at < node.args.len() - node.defaults.len()) {
            return Fault::kind(Kind::Syntax, "the argument 'caller' of a macro is left out or has a default");
        }
        node.caller = special(self, "caller", &node.args);
        node.kwargs = special(self, "kwargs", &node.args);
        node.varargs = special(self, "varargs", &node.args);
        for (name, slot) in &mut node.args {
            *slot = self.own(name).unwrap_or_default();
        }
        node.defaults.iter_mut().try_for_each(|default| self.expr(default, false))?;
        self.statements(&mut node.body, Around::default())?;
        node.scope = self.close();
        node.slots = self.function_end()?;
        Ok(())
    }

    /// A block knows nothing of the scopes around it.
    fn block(&mut self, block: &mut Block) -> Result<()> {
        if block.scoped {
            let mut seen = HashMap::new();
            for frame in &self.frames {
                seen.extend(frame.symbols.stores().map(|name| (name.clone(), ())));
            }
            block.visible = seen.into_keys().map(|name| Ok((name.clone(), self.place(&name, 0)?))).collect::<Result<_>>()?;
        }
        let frames = std::mem::take(&mut self.frames);
        let slots = std::mem::replace(&mut self.slots, vec![Slots::new()]);
        self.open();
        let used = uses(&block.body, &["self", "super"]);
        for name in ["self", "super"] {
            if used.contains(name) {
                self.declare(&name.into());
            }
        }
        (block.own, block.parent) = (self.own("self"), self.own("super"));
        self.symbols(|symbols, slots, _| symbols.statements(&block.body, slots, &[]));
        self.statements(&mut block.body, Around::default())?;
        block.scope = self.close();
        block.slots = self.function_end()?;
        self.frames = frames;
        self.slots = slots;
        Ok(())
    }

    fn target(&self, target: &mut Target, line: u32) -> Result<()> {
        match target {
            Target::Name(name, place) | Target::Attribute(name, place, _) => *place = self.place(name, line)?,
            Target::Tuple(items) => items.iter_mut().try_for_each(|item| self.target(item, line))?,
        }
        Ok(())
    }

    fn expr(&self, expr: &mut Expr, soft: bool) -> Result<()> {
        let folds = has_slice(expr);
        self.part(expr, Inside { soft, folds, operation: false })
    }

    fn part(&self, expr: &mut Expr, inside: Inside) -> Result<()> {
        let line = expr.line;
        let operation =
            !matches!(expr.node, Node::Tuple(_) | Node::List(_) | Node::Dict(_) | Node::Slice(_) | Node::Folded(..));
        if operation && !inside.operation && fails_to_fold(expr) {
            return Err(Fault::new(Kind::Syntax, "a list or dictionary can not be a key").at(line));
        }
        if operation && inside.folds && is_folded(expr) {
            fold(expr, false);
        }
        let inside = Inside { operation: inside.operation || operation, ..inside };
        let branch = Inside { soft: true, ..inside };
        match &mut expr.node {
            Node::Const(_) | Node::Folded(..) => {}
            Node::Name(name, place) => *place = self.place(name, line)?,
            Node::Tuple(items) | Node::List(items) | Node::Concat(items) => {
                items.iter_mut().try_for_each(|item| self.part(item, inside))?;
            }
            Node::Dict(items) => items.iter_mut().try_for_each(|(key, value)| {
                self.part(key, inside)?;
                self.part(value, inside)
            })?,
            Node::Unary(_, inner) | Node::Attribute(inner, _) => self.part(inner, inside)?,
            Node::Binary(_, left, right) | Node::And(left, right) | Node::Or(left, right) | Node::Item(left, right) => {
                self.part(left, inside)?;
                self.part(right, inside)?;
            }
            Node::Compare(first, rest) => {
                self.part(first, inside)?;
                rest.iter_mut().try_for_each(|(_, item)| self.part(item, inside))?;
            }
            Node::Cond(test, then, otherwise) => {
                self.part(test, branch)?;
                self.part(then, branch)?;
                otherwise.iter_mut().try_for_each(|other| self.part(other, branch))?;
            }
            Node::Slice(parts) => parts.iter_mut().flatten().try_for_each(|part| self.part(part, inside))?,
            Node::Call(callee, args) => {
                self.part(callee, inside)?;
                self.args(args, inside)?;
            }
            Node::Filter(input, name, args) => {
                if !inside.soft && !filters::exists(name) {
                    return Err(Fault::new(Kind::Syntax, format!("no filter is named '{name}'")).at(line));
                }
                input.iter_mut().try_for_each(|input| self.part(input, inside))?;
                self.args(args, inside)?;
            }
            Node::Test(input, name, args) => {
                if !inside.soft && !predicates::exists(name) {
                    return Err(Fault::new(Kind::Syntax, format!("no test is named '{name}'")).at(line));
                }
                self.part(input, inside)?;
                self.args(args, inside)?;
            }
        }
        Ok(())
    }

    fn args(&self, args: &mut CallArgs, inside: Inside) -> Result<()> {
        let named = args.named.iter_mut().map(|(_, value)| value);
        let rest = args.rest.iter_mut().chain(&mut args.named_rest).map(|rest| &mut **rest);
        args.positional.iter_mut().chain(named).chain(rest).try_for_each(|arg| self.part(arg, inside))
    }
}

fn fold(expr: &mut Expr, printed: bool) {
    let inner = std::mem::replace(&mut expr.node, Node::Const(Const::None));
    expr.node = Node::Folded(Box::new(Expr { line: expr.line, node: inner }), printed);
}

/// The names that a target assigns.
pub(super) fn names(target: &Target) -> Vec<Arc<str>> {
    match target {
        Target::Name(name, _) => vec![name.clone()],
        Target::Tuple(items) => items.iter().flat_map(names).collect(),
        Target::Attribute(..) => Vec::new(),
    }
}

/// Whether a loop, or what is inside of it, assigns the name `loop`.
fn assigns_loop(node: &For) -> bool {
    let is_loop = |target: &Target| names(target).iter().any(|name| &**name == "loop");
    fn inside(body: &[Stmt], is_loop: &dyn Fn(&Target) -> bool) -> bool {
        body.iter().any(|stmt| {
            let here = match &stmt.kind {
                StmtKind::Set(target, ..) => is_loop(target),
                StmtKind::SetBlock(set) => is_loop(&set.target),
                StmtKind::For(node) => is_loop(&node.target),
                StmtKind::Block(_, block) => inside(&block.body, is_loop),
                _ => false,
            };
            here || bodies(stmt).into_iter().any(|body| inside(body, is_loop))
        })
    }
    let otherwise = node.otherwise.iter().any(|(body, _)| inside(body, &is_loop));
    is_loop(&node.target) || inside(&node.body, &is_loop) || otherwise
}

impl Symbols {
    /// How each variable begins, for a scope in `function`.
    fn scope(self, function: u16) -> Scope {
        let local = |load: Load| match load {
            // The place is held as function and slot until here.
            Load::Alias(place) => Load::Alias(Place { hops: function - place.hops, slot: place.slot }),
            other => other,
        };
        self.loads()
            .into_iter()
            .map(|(slot, load)| (slot, local(load)))
            .filter(|(_, l)| !matches!(l, Load::Parameter))
            .collect()
    }
}
