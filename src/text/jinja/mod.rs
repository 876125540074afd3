//! Jinja templates as transformers renders them, byte for byte or with an error where it raises one.
//!
//! A small evaluator of our own, because the differences between implementations of Jinja lie in the parser, in the values
//! and in the operators, where they can not be patched: `lexer` and `parser` read the source, `scope` gives each name its
//! slot, `machine` and `statements` run the tree over Python's values (`value`). The specification is Jinja 3.1.6 with the
//! environment of transformers' `apply_chat_template`: its sandbox, `trim_blocks`, `lstrip_blocks`, `break` and `continue`,
//! `{% generation %}`, and its own `tojson`, `raise_exception`, `strftime_now`, `dict` and `namespace`.
//!
//! A template is not to be trusted. Each rendering has a number of steps and of bytes; whatever makes a text or a list takes
//! its size from them before it is made. The tree, values and calls nest only so deep, so that recursion ends.

mod access;
mod args;
mod ast;
mod calls;
mod escapes;
mod expressions;
mod fault;
mod filters;
mod format;
mod html;
mod iter;
mod json;
mod lexer;
mod links;
mod machine;
mod methods;
mod numbers;
mod ops;
mod parser;
mod predicates;
mod pretty;
mod repr;
mod scope;
mod statements;
mod strings;
mod symbols;
mod text;
mod time;
mod unicode;
mod value;

pub(super) use fault::{Fault, Kind};
pub(super) use machine::Limits;
pub(super) use time::Moment;

use ast::{Block, Scope, Stmt, StmtKind};
use fault::Result;
use machine::{Context, Machine, Record};
use serde_json::Value as Json;
use std::collections::HashMap;
use std::sync::Arc;

/// A compiled template.
#[derive(Debug, Clone)]
pub(super) struct Template {
    body: Arc<Vec<Stmt>>,
    scope: Arc<Scope>,
    slots: u16,
    blocks: Arc<HashMap<Arc<str>, Arc<Block>>>,
}

impl Template {
    /// Compiles `source`.
    pub(super) fn new(source: &str) -> Result<Template> {
        let mut body = parser::parse(lexer::tokens(source)?)?;
        let (scope, slots) = scope::resolve(&mut body)?;
        let mut blocks = HashMap::new();
        find_blocks(&body, &mut blocks);
        Ok(Template { body: Arc::new(body), scope: Arc::new(scope), slots, blocks: Arc::new(blocks) })
    }

    /// Renders with these variables.
    pub(super) fn render(&self, variables: &[(&str, &Json)], limits: Limits, now: Moment) -> Result<String> {
        let mut machine = Machine::new(limits, &self.blocks, now);
        let mut given = calls::globals();
        for (name, value) in variables {
            given.insert((*name).into(), value::from_json(value)?);
        }
        let context = Context::new(given);
        machine.root = Some(context.clone());
        let record = Record::new(self.slots, None, context);
        machine.keep_record(&record);
        let mut out = String::new();
        let result = machine.enter(&self.scope, &record).and_then(|()| machine.run(&self.body, &record, &mut out));
        machine.finish();
        result.map(|_| out)
    }
}

fn find_blocks(body: &[Stmt], found: &mut HashMap<Arc<str>, Arc<Block>>) {
    for stmt in body {
        match &stmt.kind {
            StmtKind::If(branches) => branches.iter().for_each(|(_, body)| find_blocks(body, found)),
            StmtKind::For(node) => {
                find_blocks(&node.body, found);
                node.otherwise.iter().for_each(|(body, _)| find_blocks(body, found));
            }
            StmtKind::SetBlock(set) => find_blocks(&set.body, found),
            StmtKind::With(_, body, _) | StmtKind::Autoescape(_, body, _) | StmtKind::FilterBlock(_, body, _) => {
                find_blocks(body, found);
            }
            StmtKind::Macro(node, ..) | StmtKind::CallBlock(_, node) | StmtKind::Generation(node) => {
                find_blocks(&node.body, found);
            }
            StmtKind::Block(name, block) => {
                find_blocks(&block.body, found);
                found.insert(name.clone(), block.clone());
            }
            _ => {}
        }
    }
}
