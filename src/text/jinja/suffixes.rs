//! What stands behind a value: attributes, items, calls, filters and tests.

use super::ast::{CallArgs, Const, Expr, Node, Unary};
use super::expressions::expr;
use super::fault::Result;
use super::lexer::Token;
use super::parser::{Parser, no_args};
use std::sync::Arc;

impl Parser {
    /// Attributes, items and calls behind a value.
    pub(super) fn postfix(&mut self, mut value: Expr) -> Result<Expr> {
        let mut chain = 0;
        loop {
            let line = self.line();
            self.chain(&mut chain)?;
            value = match self.peek() {
                Token::Operator(".") => {
                    self.next();
                    self.attribute(value, line)?
                }
                Token::Operator("[") => {
                    self.next();
                    expr(line, Node::Item(Box::new(value), Box::new(self.subscripts(line)?)))
                }
                Token::Operator("(") => expr(line, Node::Call(Box::new(value), self.arguments()?)),
                _ => {
                    self.unchain(chain);
                    return Ok(value);
                }
            };
        }
    }

    fn attribute(&mut self, value: Expr, line: u32) -> Result<Expr> {
        match self.next() {
            Token::Name(name) => Ok(expr(line, Node::Attribute(Box::new(value), name))),
            Token::Int(n) => Ok(expr(line, Node::Item(Box::new(value), Box::new(expr(line, Node::Const(Const::Int(n))))))),
            _ => self.fail("expected a name or number behind the point"),
        }
    }

    fn subscripts(&mut self, line: u32) -> Result<Expr> {
        let mut items = Vec::new();
        while !self.is_operator("]") {
            if !items.is_empty() {
                self.expect_operator(",")?;
            }
            items.push(self.subscript()?);
        }
        self.expect_operator("]")?;
        match items.pop() {
            Some(only) if items.is_empty() => Ok(only),
            last => {
                items.extend(last);
                match items.iter().any(|item| matches!(item.node, Node::Slice(_))) {
                    true => self.fail("a slice stands alone in its brackets"),
                    false => Ok(expr(line, Node::Tuple(items))),
                }
            }
        }
    }

    fn subscript(&mut self) -> Result<Expr> {
        let line = self.line();
        let mut parts = [None, None, None];
        if !self.is_operator(":") {
            let first = self.expression()?;
            if !self.is_operator(":") {
                return Ok(first);
            }
            parts[0] = Some(first);
        }
        for part in &mut parts[1..] {
            if !self.skip_operator(":") {
                break;
            }
            if !["]", ",", ":"].iter().any(|end| self.is_operator(end)) {
                *part = Some(self.expression()?);
            }
        }
        Ok(expr(line, Node::Slice(Box::new(parts))))
    }

    fn arguments(&mut self) -> Result<CallArgs> {
        let mut args = CallArgs::default();
        let invalid = "an argument stands where it can not stand";
        self.expect_operator("(")?;
        let mut first = true;
        while !self.is_operator(")") {
            if !first {
                self.expect_operator(",")?;
                if self.is_operator(")") {
                    break;
                }
            }
            first = false;
            let starred = args.rest.is_some() || args.named_rest.is_some();
            if self.is_operator("*") && !starred {
                self.next();
                args.rest = Some(Box::new(self.expression()?));
            } else if self.is_operator("**") && args.named_rest.is_none() {
                self.next();
                args.named_rest = Some(Box::new(self.expression()?));
            } else if matches!((self.peek(), self.look()), (Token::Name(_), Token::Operator("="))) && args.named_rest.is_none()
            {
                let name = self.expect_name()?;
                self.next();
                if args.named.iter().any(|(other, _)| *other == name) {
                    return self.fail(format!("the argument '{name}' is given twice"));
                }
                args.named.push((name, self.expression()?));
            } else if !starred && args.named.is_empty() {
                args.positional.push(self.expression()?);
            } else {
                return self.fail(invalid);
            }
        }
        self.expect_operator(")")?;
        Ok(args)
    }

    /// Filters, tests and calls behind a value.
    pub(super) fn filters(&mut self, mut value: Expr) -> Result<Expr> {
        let mut chain = 0;
        loop {
            let line = self.line();
            self.chain(&mut chain)?;
            value = match self.peek() {
                Token::Operator("|") => self.filter(Some(value), false)?,
                Token::Name(name) if &**name == "is" => self.test(value)?,
                Token::Operator("(") => expr(line, Node::Call(Box::new(value), self.arguments()?)),
                _ => {
                    self.unchain(chain);
                    return Ok(value);
                }
            };
        }
    }

    fn dotted_name(&mut self) -> Result<Arc<str>> {
        let mut name = self.expect_name()?;
        while self.skip_operator(".") {
            name = format!("{name}.{}", self.expect_name()?).into();
        }
        Ok(name)
    }

    /// `|name(...)|name...`; at the head of a filter block without the first `|`.
    pub(super) fn filter(&mut self, value: Option<Expr>, block: bool) -> Result<Expr> {
        let mut value = value;
        let mut bare = block;
        let mut chain = 0;
        while bare || self.is_operator("|") {
            self.chain(&mut chain)?;
            if !bare {
                self.next();
            }
            bare = false;
            let line = self.line();
            let name = self.dotted_name()?;
            let args = if self.is_operator("(") { self.arguments()? } else { no_args() };
            value = Some(expr(line, Node::Filter(value.map(Box::new), name, args)));
        }
        self.unchain(chain);
        match value {
            Some(value) => Ok(value),
            None => self.fail("expected a filter"),
        }
    }

    fn test(&mut self, value: Expr) -> Result<Expr> {
        let line = self.line();
        self.next();
        let negated = self.skip_name("not");
        let name = self.dotted_name()?;
        let ends = ["else", "or", "and"];
        let args = match self.peek() {
            Token::Operator("(") => self.arguments()?,
            Token::Name(n) if ends.contains(&&**n) => no_args(),
            Token::Name(n) if &**n == "is" => return self.fail("tests can not be chained with is"),
            Token::Name(_) | Token::Str(_) | Token::Int(_) | Token::Float(_) | Token::Operator("[" | "{") => {
                let argument = self.deeper(Self::primary)?;
                CallArgs { positional: vec![self.postfix(argument)?], ..no_args() }
            }
            _ => no_args(),
        };
        let test = expr(line, Node::Test(Box::new(value), name, args));
        Ok(if negated { expr(line, Node::Unary(Unary::Not, Box::new(test))) } else { test })
    }
}
