//! The names of one scope: what it reads, what it assigns, and so how each begins.

use super::ast::{CallArgs, Expr, Load, Macro, Node, Place, Stmt, StmtKind, Target};
use super::scope::names;
use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::Arc;

/// A scope while its statements are resolved.
#[derive(Debug, Default)]
pub(super) struct Frame {
    pub symbols: Symbols,
    /// How many functions are around it.
    pub function: u16,
}

/// The scopes around one, the innermost last.
type Outer<'o> = &'o [Frame];

/// The slots of a function.
#[derive(Debug)]
pub(super) struct Slots {
    pub next: u16,
    /// Names that its conditions may still copy: each of their branches begins with all that came before.
    pub copies: usize,
}

impl Slots {
    pub(super) fn new() -> Slots {
        Slots { next: 0, copies: 2_000_000 }
    }
}

/// The outer variable of this name, as function and slot.
fn around(outer: Outer<'_>, name: &str) -> Option<Place> {
    outer.iter().rev().find_map(|frame| frame.symbols.find(name).map(|slot| Place { hops: frame.function, slot }))
}

/// A scope's names.
#[derive(Debug, Clone, Default)]
pub(super) struct Symbols {
    refs: HashMap<Arc<str>, u16>,
    loads: BTreeMap<u16, Load>,
    stores: HashSet<Arc<str>>,
    /// Slots by name, also those of branches.
    own: HashMap<Arc<str>, u16>,
}

impl Symbols {
    pub(super) fn find(&self, name: &str) -> Option<u16> {
        self.refs.get(name).copied()
    }

    pub(super) fn stores(&self) -> impl Iterator<Item = &Arc<str>> {
        self.stores.iter()
    }

    pub(super) fn loads(self) -> BTreeMap<u16, Load> {
        self.loads
    }

    fn define(&mut self, name: &Arc<str>, load: Load, slots: &mut Slots) {
        let slot = *self.own.entry(name.clone()).or_insert_with(|| {
            slots.next += 1;
            slots.next - 1
        });
        self.refs.insert(name.clone(), slot);
        self.loads.insert(slot, load);
    }

    /// A variable that the caller sets.
    pub(super) fn declare(&mut self, name: &Arc<str>, slots: &mut Slots) {
        self.stores.insert(name.clone());
        self.define(name, Load::Parameter, slots);
    }

    fn load(&mut self, name: &Arc<str>, slots: &mut Slots, outer: Outer<'_>) {
        if !self.refs.contains_key(name) && around(outer, name).is_none() {
            self.define(name, Load::Resolve(name.clone()), slots);
        }
    }

    fn store(&mut self, name: &Arc<str>, slots: &mut Slots, outer: Outer<'_>) {
        self.stores.insert(name.clone());
        if !self.refs.contains_key(name) {
            let load = around(outer, name).map_or(Load::Missing, Load::Alias);
            self.define(name, load, slots);
        }
    }

    fn target(&mut self, target: &Target, slots: &mut Slots, outer: Outer<'_>) {
        match target {
            Target::Name(name, _) => self.store(name, slots, outer),
            Target::Tuple(items) => items.iter().for_each(|item| self.target(item, slots, outer)),
            Target::Attribute(name, ..) => self.load(name, slots, outer),
        }
    }

    /// The names of statements that belong to this scope.
    pub(super) fn statements(&mut self, body: &[Stmt], slots: &mut Slots, outer: Outer<'_>) {
        for stmt in body {
            match &stmt.kind {
                StmtKind::Print(items) => items.iter().for_each(|item| self.expr(item, slots, outer)),
                StmtKind::If(branches) => self.branches(branches, slots, outer),
                StmtKind::For(node) => self.expr(&node.iter, slots, outer),
                StmtKind::Set(target, value, _) => {
                    self.expr(value, slots, outer);
                    self.target(target, slots, outer);
                }
                StmtKind::SetBlock(set) => self.target(&set.target, slots, outer),
                StmtKind::With(bound, ..) => bound.iter().for_each(|(_, value)| self.expr(value, slots, outer)),
                StmtKind::FilterBlock(expr, ..) | StmtKind::CallBlock(expr, _) | StmtKind::Foreign(expr) => {
                    self.expr(expr, slots, outer);
                }
                StmtKind::Macro(node, ..) => node.name.iter().for_each(|name| self.store(name, slots, outer)),
                StmtKind::Text(_) | StmtKind::Autoescape(..) | StmtKind::Generation(_) => {}
                StmtKind::Block(..) | StmtKind::Break | StmtKind::Continue => {}
            }
        }
    }

    /// Branches see what came before them, not each other; what one of them assigns is the outer variable otherwise.
    fn branches(&mut self, branches: &[(Option<Expr>, Vec<Stmt>)], slots: &mut Slots, outer: Outer<'_>) {
        let Some(((test, body), rest)) = branches.split_first() else { return };
        test.iter().for_each(|test| self.expr(test, slots, outer));
        slots.copies = slots.copies.saturating_sub(3 * self.own.len());
        if slots.copies == 0 {
            return;
        }
        let elifs = rest.iter().take_while(|(test, _)| test.is_some()).count();
        let mut first = self.clone();
        first.statements(body, slots, outer);
        let mut second = self.clone();
        second.own.clone_from(&first.own);
        for branch in &rest[..elifs] {
            second.branches(std::slice::from_ref(branch), slots, outer);
        }
        let mut third = self.clone();
        third.own.clone_from(&second.own);
        rest[elifs..].iter().for_each(|(_, body)| third.statements(body, slots, outer));
        self.own.clone_from(&third.own);
        let mut stores = HashSet::new();
        for branch in [&first, &second, &third] {
            stores.extend(branch.stores.difference(&self.stores).cloned());
        }
        for branch in [first, second, third] {
            self.refs.extend(branch.refs);
            self.loads.extend(branch.loads);
            self.stores.extend(branch.stores);
        }
        for name in stores {
            let load = around(outer, &name).map_or_else(|| Load::Resolve(name.clone()), Load::Alias);
            self.define(&name, load, slots);
        }
    }

    /// The names that an expression reads.
    pub(super) fn expr(&mut self, expr: &Expr, slots: &mut Slots, outer: Outer<'_>) {
        walk(expr, &mut |name| self.load(name, slots, outer));
    }
}

/// The parts of an expression.
fn parts(expr: &Expr) -> Vec<&Expr> {
    match &expr.node {
        Node::Const(_) | Node::Name(..) => Vec::new(),
        Node::Tuple(items) | Node::List(items) | Node::Concat(items) => items.iter().collect(),
        Node::Dict(items) => items.iter().flat_map(|(key, value)| [key, value]).collect(),
        Node::Unary(_, inner) | Node::Attribute(inner, _) | Node::Folded(inner, _) => vec![inner],
        Node::Binary(_, left, right) | Node::And(left, right) | Node::Or(left, right) | Node::Item(left, right) => {
            vec![left, right]
        }
        Node::Compare(first, rest) => std::iter::once(&**first).chain(rest.iter().map(|(_, item)| item)).collect(),
        Node::Cond(test, then, other) => [test, then].into_iter().chain(other).map(|part| &**part).collect(),
        Node::Slice(bounds) => bounds.iter().flatten().collect(),
        Node::Call(callee, args) => std::iter::once(&**callee).chain(arguments(args)).collect(),
        Node::Filter(input, _, args) => input.iter().map(|input| &**input).chain(arguments(args)).collect(),
        Node::Test(input, _, args) => std::iter::once(&**input).chain(arguments(args)).collect(),
    }
}

fn arguments(args: &CallArgs) -> impl Iterator<Item = &Expr> {
    let named = args.named.iter().map(|(_, value)| value);
    let rest = args.rest.iter().chain(&args.named_rest).map(|rest| &**rest);
    args.positional.iter().chain(named).chain(rest)
}

/// Whether `holds` for an expression or some part of it.
fn any(expr: &Expr, holds: fn(&Node) -> bool) -> bool {
    holds(&expr.node) || parts(expr).into_iter().any(|part| any(part, holds))
}

pub(super) fn has_slice(expr: &Expr) -> bool {
    any(expr, |node| matches!(node, Node::Slice(_)))
}

/// Whether Jinja evaluates an expression while it compiles, and it matters: one without names and calls that has a slice.
pub(super) fn is_folded(expr: &Expr) -> bool {
    let runs = |node: &Node| match node {
        Node::Name(..) | Node::Call(..) | Node::Filter(None, ..) => true,
        Node::Filter(_, name, _) => {
            matches!(&**name, "map" | "select" | "reject" | "selectattr" | "rejectattr" | "random")
        }
        _ => false,
    };
    has_slice(expr) && !any(expr, runs)
}

/// Whether Jinja fails while it compiles an operation: on a dictionary in it, constant as far as a key that can be none.
pub(super) fn fails_to_fold(expr: &Expr) -> bool {
    let constant = |expr: &Expr| !any(expr, |node| matches!(node, Node::Name(..) | Node::Call(..)));
    let failing = |items: &Vec<(Expr, Expr)>| {
        let known = items.iter().take_while(|(key, value)| constant(key) && constant(value));
        known.into_iter().any(|(key, _)| matches!(key.node, Node::List(_) | Node::Dict(_)))
    };
    matches!(&expr.node, Node::Dict(items) if failing(items)) || parts(expr).into_iter().any(fails_to_fold)
}

/// Calls `see` for each name that `expr` reads.
fn walk(expr: &Expr, see: &mut impl FnMut(&Arc<str>)) {
    if let Node::Name(name, _) = &expr.node {
        see(name);
    }
    parts(expr).into_iter().for_each(|part| walk(part, see));
}

/// Whether a block among the statements, at any depth, sees the variables around it.
pub(super) fn has_scoped_block(body: &[Stmt]) -> bool {
    body.iter().any(|stmt| match &stmt.kind {
        StmtKind::Block(_, block) => block.scoped || has_scoped_block(&block.body),
        _ => bodies(stmt).into_iter().any(has_scoped_block),
    })
}

/// The statements inside of a statement, other than a block.
pub(super) fn bodies(stmt: &Stmt) -> Vec<&[Stmt]> {
    match &stmt.kind {
        StmtKind::If(branches) => branches.iter().map(|(_, body)| &body[..]).collect(),
        StmtKind::For(node) => {
            std::iter::once(&node.body).chain(node.otherwise.iter().map(|(b, _)| b)).map(|b| &b[..]).collect()
        }
        StmtKind::SetBlock(set) => vec![&set.body],
        StmtKind::With(_, body, _) | StmtKind::Autoescape(_, body, _) | StmtKind::FilterBlock(_, body, _) => vec![body],
        StmtKind::Macro(node, ..) | StmtKind::CallBlock(_, node) | StmtKind::Generation(node) => vec![&node.body],
        _ => Vec::new(),
    }
}

/// Which of `wanted` the statements read, at any depth, before they assign them; blocks are left out.
pub(super) fn uses(body: &[Stmt], wanted: &[&'static str]) -> HashSet<&'static str> {
    let mut uses = Uses { wanted: wanted.to_vec(), found: HashSet::new() };
    uses.statements(body);
    uses.found
}

struct Uses {
    wanted: Vec<&'static str>,
    found: HashSet<&'static str>,
}

impl Uses {
    fn expr(&mut self, expr: &Expr) {
        let (wanted, found) = (&self.wanted, &mut self.found);
        walk(expr, &mut |name| found.extend(wanted.iter().find(|w| ***w == **name)));
    }

    fn assigned(&mut self, target: &Target) {
        let names = names(target);
        self.wanted.retain(|wanted| !names.iter().any(|name| &**name == *wanted));
    }

    fn function(&mut self, node: &Macro) {
        self.wanted.retain(|wanted| !node.args.iter().any(|(name, _)| &**name == *wanted));
        node.defaults.iter().for_each(|default| self.expr(default));
        self.statements(&node.body);
    }

    fn statements(&mut self, body: &[Stmt]) {
        for stmt in body {
            match &stmt.kind {
                StmtKind::Print(items) => items.iter().for_each(|item| self.expr(item)),
                StmtKind::If(branches) => branches.iter().for_each(|(test, body)| {
                    test.iter().for_each(|test| self.expr(test));
                    self.statements(body);
                }),
                StmtKind::For(node) => {
                    self.assigned(&node.target);
                    self.expr(&node.iter);
                    self.statements(&node.body);
                    node.otherwise.iter().for_each(|(body, _)| self.statements(body));
                    node.test.iter().for_each(|(_, test, _)| self.expr(test));
                }
                StmtKind::Set(target, value, _) => {
                    self.assigned(target);
                    self.expr(value);
                }
                StmtKind::SetBlock(set) => {
                    self.assigned(&set.target);
                    set.filter.iter().for_each(|filter| self.expr(filter));
                    self.statements(&set.body);
                }
                StmtKind::With(bound, body, _) => {
                    bound.iter().for_each(|(target, _)| self.assigned(target));
                    bound.iter().for_each(|(_, value)| self.expr(value));
                    self.statements(body);
                }
                StmtKind::Autoescape(expr, body, _) => {
                    self.expr(expr);
                    self.statements(body);
                }
                StmtKind::FilterBlock(filter, body, _) => {
                    self.statements(body);
                    self.expr(filter);
                }
                StmtKind::Macro(node, ..) | StmtKind::Generation(node) => self.function(node),
                StmtKind::CallBlock(call, node) => {
                    self.expr(call);
                    self.function(node);
                }
                StmtKind::Foreign(expr) => self.expr(expr),
                StmtKind::Text(_) | StmtKind::Block(..) | StmtKind::Break | StmtKind::Continue => {}
            }
        }
    }
}
