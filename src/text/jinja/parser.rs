//! Tokens to statements.

use super::ast::{Block, CallArgs, Expr, For, Macro, Node, Place, SetBlock, Stmt, StmtKind, Target};
use super::fault::{Fault, Kind, Result};
use super::lexer::Token;
use std::collections::HashSet;
use std::sync::Arc;

/// How deep the tree may be. Python comes to the end of its stack at about 70 parentheses.
const DEPTH: u32 = 400;

/// Reads tokens one by one.
pub(super) struct Parser {
    tokens: Vec<(Token, u32)>,
    at: usize,
    depth: u32,
    /// Names of blocks; two can not share one.
    blocks: HashSet<Arc<str>>,
}

/// The statements of a template.
pub(super) fn parse(tokens: Vec<(Token, u32)>) -> Result<Vec<Stmt>> {
    let mut parser = Parser { tokens, at: 0, depth: 0, blocks: HashSet::new() };
    let body = parser.body(&[])?;
    match parser.peek() {
        Token::End => Ok(body),
        _ => parser.fail("a tag ends nothing"),
    }
}

impl Parser {
    pub(super) fn peek(&self) -> &Token {
        &self.tokens[self.at].0
    }

    pub(super) fn look(&self) -> &Token {
        self.tokens.get(self.at + 1).map_or(&Token::End, |(token, _)| token)
    }

    pub(super) fn line(&self) -> u32 {
        self.tokens[self.at].1
    }

    /// The current token; the last one stays.
    pub(super) fn next(&mut self) -> Token {
        let token = self.tokens[self.at].0.clone();
        if self.at + 1 < self.tokens.len() {
            self.at += 1;
        }
        token
    }

    pub(super) fn fail<T>(&self, message: impl Into<String>) -> Result<T> {
        Err(Fault::new(Kind::Syntax, message).at(self.line()))
    }

    pub(super) fn is_operator(&self, operator: &str) -> bool {
        matches!(self.peek(), Token::Operator(o) if *o == operator)
    }

    pub(super) fn is_name(&self, name: &str) -> bool {
        matches!(self.peek(), Token::Name(n) if &**n == name)
    }

    pub(super) fn skip_operator(&mut self, operator: &str) -> bool {
        let found = self.is_operator(operator);
        if found {
            self.next();
        }
        found
    }

    pub(super) fn skip_name(&mut self, name: &str) -> bool {
        let found = self.is_name(name);
        if found {
            self.next();
        }
        found
    }

    pub(super) fn expect_operator(&mut self, operator: &str) -> Result<()> {
        if self.skip_operator(operator) { Ok(()) } else { self.fail(format!("expected '{operator}', got {}", self.shown())) }
    }

    pub(super) fn expect_name(&mut self) -> Result<Arc<str>> {
        match self.peek().clone() {
            Token::Name(name) => {
                self.next();
                Ok(name)
            }
            _ => self.fail(format!("expected a name, got {}", self.shown())),
        }
    }

    /// The current token, for errors.
    pub(super) fn shown(&self) -> String {
        match self.peek() {
            Token::Text(_) => "text".into(),
            Token::VariableBegin => "'{{'".into(),
            Token::VariableEnd => "'}}'".into(),
            Token::BlockBegin => "'{%'".into(),
            Token::BlockEnd => "'%}'".into(),
            Token::Name(name) => format!("'{name}'"),
            Token::Str(_) => "a string".into(),
            Token::Int(_) | Token::Float(_) => "a number".into(),
            Token::Operator(operator) => format!("'{operator}'"),
            Token::End => "the end of the template".into(),
        }
    }

    /// One more operator in a row, each of which makes the tree deeper; [`Parser::unchain`] ends the row.
    pub(super) fn chain(&mut self, chain: &mut u32) -> Result<()> {
        *chain += 1;
        self.depth += 1;
        if self.depth > DEPTH { self.fail(format!("it nests deeper than {DEPTH} levels")) } else { Ok(()) }
    }

    pub(super) fn unchain(&mut self, chain: u32) {
        self.depth -= chain;
    }

    /// Runs `parse` one level deeper.
    pub(super) fn deeper<T>(&mut self, parse: impl FnOnce(&mut Self) -> Result<T>) -> Result<T> {
        self.depth += 1;
        if self.depth > DEPTH {
            return self.fail(format!("it nests deeper than {DEPTH} levels"));
        }
        let result = parse(self);
        self.depth -= 1;
        result
    }

    /// Statements up to a tag of `ends`, whose name is the current token then, or to the end of the template.
    fn body(&mut self, ends: &[&str]) -> Result<Vec<Stmt>> {
        let mut body = Vec::new();
        loop {
            let line = self.line();
            match self.peek().clone() {
                Token::Text(text) => {
                    self.next();
                    body.push(Stmt { line, kind: StmtKind::Text(text) });
                }
                Token::VariableBegin => {
                    self.next();
                    let expr = self.tuple(true)?;
                    if *self.peek() != Token::VariableEnd {
                        return self.fail(format!("expected '}}}}', got {}", self.shown()));
                    }
                    self.next();
                    body.push(Stmt { line, kind: StmtKind::Print(vec![expr]) });
                }
                Token::BlockBegin => {
                    self.next();
                    if ends.iter().any(|end| self.is_name(end)) {
                        return Ok(body);
                    }
                    let line = self.line();
                    let kind = self.deeper(Self::statement)?;
                    self.expect_block_end()?;
                    body.push(Stmt { line, kind });
                }
                Token::End if ends.is_empty() => return Ok(body),
                Token::End => return self.fail(format!("the template ends where {} was expected", ends.join(" or "))),
                _ => return self.fail(format!("unexpected {}", self.shown())),
            }
        }
    }

    fn expect_block_end(&mut self) -> Result<()> {
        if *self.peek() != Token::BlockEnd {
            return self.fail(format!("expected '%}}', got {}", self.shown()));
        }
        self.next();
        Ok(())
    }

    /// The rest of a tag, then statements up to one of `ends`, whose name is the current token then.
    fn statements(&mut self, ends: &[&str]) -> Result<Vec<Stmt>> {
        self.skip_operator(":");
        self.expect_block_end()?;
        self.body(ends)
    }

    /// The same up to `end`, which is taken.
    fn statements_to(&mut self, end: &str) -> Result<Vec<Stmt>> {
        let body = self.statements(&[end])?;
        self.next();
        Ok(body)
    }

    fn statement(&mut self) -> Result<StmtKind> {
        let Token::Name(tag) = self.peek().clone() else { return self.fail("expected the name of a tag") };
        self.next();
        match &*tag {
            "for" => self.for_loop(),
            "if" => self.condition(),
            "set" => self.set(),
            "with" => self.with(),
            "macro" => self.macro_definition(),
            "call" => self.call_block(),
            "filter" => {
                let filter = self.filter(None, true)?;
                Ok(StmtKind::FilterBlock(filter, self.statements_to("endfilter")?, Vec::new()))
            }
            "print" => self.print(),
            "autoescape" => {
                let on = self.expression()?;
                Ok(StmtKind::Autoescape(on, self.statements_to("endautoescape")?, Vec::new()))
            }
            "generation" => {
                let body = self.statements_to("endgeneration")?;
                Ok(StmtKind::Generation(Arc::new(macro_of(None, Vec::new(), Vec::new(), body))))
            }
            "break" => Ok(StmtKind::Break),
            "continue" => Ok(StmtKind::Continue),
            "block" => self.block(),
            "include" | "extends" | "import" | "from" => self.foreign(&tag),
            _ => {
                self.at -= 1;
                self.fail(format!("unknown tag '{tag}'"))
            }
        }
    }

    fn for_loop(&mut self) -> Result<StmtKind> {
        let target = self.target(&["in"], false)?;
        if !self.skip_name("in") {
            return self.fail(format!("expected 'in', got {}", self.shown()));
        }
        let iter = self.tuple_until(false, &["recursive"])?;
        let test = if self.skip_name("if") { Some((target.clone(), self.expression()?, Vec::new())) } else { None };
        let recursive = self.skip_name("recursive").then_some(0);
        let body = self.statements(&["endfor", "else"])?;
        let otherwise = if self.skip_name("else") {
            Some((self.statements_to("endfor")?, Vec::new()))
        } else {
            self.next();
            None
        };
        Ok(StmtKind::For(Arc::new(For { target, iter, test, body, scope: Vec::new(), otherwise, recursive, loop_slot: None })))
    }

    fn condition(&mut self) -> Result<StmtKind> {
        let mut branches = Vec::new();
        loop {
            let test = self.tuple(false)?;
            branches.push((Some(test), self.statements(&["elif", "else", "endif"])?));
            if self.skip_name("elif") {
                continue;
            }
            if self.skip_name("else") {
                branches.push((None, self.statements_to("endif")?));
            } else {
                self.next();
            }
            return Ok(StmtKind::If(branches));
        }
    }

    fn set(&mut self) -> Result<StmtKind> {
        let target = self.target(&[], true)?;
        if self.skip_operator("=") {
            return Ok(StmtKind::Set(target, self.tuple(true)?, false));
        }
        let filter = if self.is_operator("|") { Some(self.filter(None, false)?) } else { None };
        let body = self.statements_to("endset")?;
        Ok(StmtKind::SetBlock(Box::new(SetBlock { target, filter, body, scope: Vec::new(), toplevel: false })))
    }

    fn with(&mut self) -> Result<StmtKind> {
        let mut bound = Vec::new();
        while *self.peek() != Token::BlockEnd {
            if !bound.is_empty() {
                self.expect_operator(",")?;
            }
            let target = self.target(&[], false)?;
            self.expect_operator("=")?;
            bound.push((target, self.expression()?));
        }
        Ok(StmtKind::With(bound, self.statements_to("endwith")?, Vec::new()))
    }

    fn print(&mut self) -> Result<StmtKind> {
        let mut items = Vec::new();
        while *self.peek() != Token::BlockEnd {
            if !items.is_empty() {
                self.expect_operator(",")?;
            }
            items.push(self.expression()?);
        }
        Ok(StmtKind::Print(items))
    }

    /// Arguments of a macro or call block, and the defaults of the last ones.
    fn signature(&mut self) -> Result<(Vec<Arc<str>>, Vec<Expr>)> {
        let (mut args, mut defaults): (Vec<Arc<str>>, Vec<Expr>) = (Vec::new(), Vec::new());
        self.expect_operator("(")?;
        while !self.is_operator(")") {
            if !args.is_empty() {
                self.expect_operator(",")?;
            }
            let name = self.assignable_name()?;
            if self.skip_operator("=") {
                defaults.push(self.expression()?);
            } else if !defaults.is_empty() {
                return self.fail("an argument without a default follows one that has one");
            }
            if args.contains(&name) {
                return self.fail(format!("two arguments are called '{name}'"));
            }
            args.push(name);
        }
        self.next();
        Ok((args, defaults))
    }

    fn macro_definition(&mut self) -> Result<StmtKind> {
        let name = self.assignable_name()?;
        let (args, defaults) = self.signature()?;
        let body = self.statements_to("endmacro")?;
        Ok(StmtKind::Macro(Arc::new(macro_of(Some(name), args, defaults, body)), Place::default(), false))
    }

    fn call_block(&mut self) -> Result<StmtKind> {
        let (args, defaults) = if self.is_operator("(") { self.signature()? } else { (Vec::new(), Vec::new()) };
        let call = self.expression()?;
        if !matches!(call.node, Node::Call(..)) {
            return self.fail("expected a call");
        }
        let body = self.statements_to("endcall")?;
        Ok(StmtKind::CallBlock(call, Arc::new(macro_of(None, args, defaults, body))))
    }

    fn block(&mut self) -> Result<StmtKind> {
        let name = self.expect_name()?;
        let scoped = self.skip_name("scoped");
        let required = self.skip_name("required");
        let body = self.statements_to("endblock")?;
        self.skip_name(&name);
        if !self.blocks.insert(name.clone()) {
            return self.fail(format!("block '{name}' is defined twice"));
        }
        let blank = |stmt: &Stmt| matches!(&stmt.kind, StmtKind::Text(text) if text.chars().all(super::text::is_space));
        if required && !body.iter().all(blank) {
            return self.fail("a required block holds only white space and comments");
        }
        let block = Block { body, scope: Vec::new(), slots: 0, required, visible: Vec::new(), scoped, own: None, parent: None };
        Ok(StmtKind::Block(name, Arc::new(block)))
    }

    /// Tags that name other templates: read to their end, refused when they are reached.
    fn foreign(&mut self, tag: &str) -> Result<StmtKind> {
        let template = self.expression()?;
        match tag {
            "import" => {
                if !self.skip_name("as") {
                    return self.fail("expected 'as'");
                }
                self.assignable_name()?;
            }
            "from" => {
                if !self.skip_name("import") {
                    return self.fail("expected 'import'");
                }
                self.imported_names()?;
            }
            "include" if self.is_name("ignore") && matches!(self.look(), Token::Name(n) if &**n == "missing") => {
                self.next();
                self.next();
            }
            _ => {}
        }
        if tag != "extends" {
            self.skip_context();
        }
        Ok(StmtKind::Foreign(template))
    }

    fn skip_context(&mut self) -> bool {
        let found =
            (self.is_name("with") || self.is_name("without")) && matches!(self.look(), Token::Name(n) if &**n == "context");
        if found {
            self.next();
            self.next();
        }
        found
    }

    fn imported_names(&mut self) -> Result<()> {
        loop {
            if self.skip_context() {
                return Ok(());
            }
            if self.assignable_name()?.starts_with('_') {
                return self.fail("names with an underscore in front can not be imported");
            }
            if self.skip_name("as") {
                self.assignable_name()?;
            }
            if self.skip_context() || !self.skip_operator(",") {
                return Ok(());
            }
        }
    }

    pub(super) fn assignable_name(&mut self) -> Result<Arc<str>> {
        let name = self.expect_name()?;
        if matches!(&*name, "true" | "false" | "none" | "True" | "False" | "None") {
            return self.fail(format!("can not assign to '{name}'"));
        }
        Ok(name)
    }
}

fn macro_of(name: Option<Arc<str>>, args: Vec<Arc<str>>, defaults: Vec<Expr>, body: Vec<Stmt>) -> Macro {
    let args = args.into_iter().map(|name| (name, 0)).collect();
    Macro { name, args, defaults, body, scope: Vec::new(), slots: 0, caller: None, kwargs: None, varargs: None }
}

/// A call without arguments.
pub(super) fn no_args() -> CallArgs {
    CallArgs::default()
}

/// What an expression in the place of a target stands for.
pub(super) fn as_target(expr: Expr) -> Option<Target> {
    match expr.node {
        Node::Name(name, place) => Some(Target::Name(name, place)),
        Node::Tuple(items) => items.into_iter().map(as_target).collect::<Option<_>>().map(Target::Tuple),
        _ => None,
    }
}
