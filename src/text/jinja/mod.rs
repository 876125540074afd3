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
mod arithmetic;
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
mod suffixes;
mod symbols;
mod text;
mod time;
mod unicode;
mod value;

pub(super) use fault::{Fault, Kind};
pub(super) use machine::Limits;
pub(super) use time::Moment;

use ast::{Block, Place, Stmt, StmtKind};
use fault::Result;
use machine::{Context, Machine, Record};
use serde_json::Value as Json;
use std::collections::HashMap;
use std::sync::Arc;

/// A compiled template.
#[derive(Debug, Clone)]
pub(super) struct Template {
    body: Arc<Vec<Stmt>>,
    top: Arc<scope::Top>,
    blocks: Arc<HashMap<Arc<str>, Arc<Block>>>,
}

impl Template {
    /// Compiles `source`.
    pub(super) fn new(source: &str) -> Result<Template> {
        let mut body = parser::parse(lexer::tokens(source)?)?;
        let top = scope::resolve(&mut body)?;
        let mut blocks = HashMap::new();
        find_blocks(&body, &mut blocks);
        Ok(Template { body: Arc::new(body), top: Arc::new(top), blocks: Arc::new(blocks) })
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
        let (scope, slots, own) = &*self.top;
        let record = Record::new(*slots, None, context);
        if let Some(slot) = own {
            record.put(Place { hops: 0, slot: *slot }, Some(value::Value::Blocks));
        }
        machine.keep_record(&record);
        let mut out = String::new();
        let result = machine.enter(scope, &record).and_then(|()| machine.run(&self.body, &record, &mut out));
        machine.finish();
        result.map(|_| out)
    }
}

fn find_blocks(body: &[Stmt], found: &mut HashMap<Arc<str>, Arc<Block>>) {
    for stmt in body {
        if let StmtKind::Block(name, block) = &stmt.kind {
            find_blocks(&block.body, found);
            found.insert(name.clone(), block.clone());
        }
        symbols::bodies(stmt).into_iter().for_each(|body| find_blocks(body, found));
    }
}
