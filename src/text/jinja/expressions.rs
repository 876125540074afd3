//! Tokens to expressions: a method for each level of precedence, loosest first.

use super::ast::{Binary, Compare, Const, Expr, Node, Place, Target, Unary};
use super::fault::{Fault, Kind, Result};
use super::lexer::Token;
use super::parser::{Parser, as_target};

pub(super) fn expr(line: u32, node: Node) -> Expr {
    Expr { line, node }
}

impl Parser {
    /// One expression.
    pub(super) fn expression(&mut self) -> Result<Expr> {
        self.deeper(Self::conditional)
    }

    /// One expression, or several with commas: a tuple.
    pub(super) fn tuple(&mut self, conditional: bool) -> Result<Expr> {
        self.tuple_until(conditional, &[])
    }

    /// The same, which also ends at one of the names `ends`.
    pub(super) fn tuple_until(&mut self, conditional: bool, ends: &[&str]) -> Result<Expr> {
        let item = |parser: &mut Self| if conditional { parser.expression() } else { parser.deeper(Self::or) };
        self.items(ends, false, item)
    }

    fn items(&mut self, ends: &[&str], parentheses: bool, item: impl Fn(&mut Self) -> Result<Expr>) -> Result<Expr> {
        let line = self.line();
        let mut items: Vec<Expr> = Vec::new();
        let mut is_tuple = false;
        loop {
            if !items.is_empty() {
                self.expect_operator(",")?;
            }
            let ended = matches!(self.peek(), Token::VariableEnd | Token::BlockEnd) || self.is_operator(")");
            if ended || ends.iter().any(|end| self.is_name(end)) {
                break;
            }
            items.push(item(self)?);
            if !self.is_operator(",") {
                break;
            }
            is_tuple = true;
        }
        if !is_tuple {
            if let Some(only) = items.pop() {
                return Ok(only);
            }
            if !parentheses {
                return self.fail(format!("expected an expression, got {}", self.shown()));
            }
        }
        Ok(expr(line, Node::Tuple(items)))
    }

    /// What `set`, `for` and `with` assign to: names, tuples of them, and for `set` attributes of namespaces.
    pub(super) fn target(&mut self, ends: &[&str], namespace: bool) -> Result<Target> {
        let mut targets = Vec::new();
        let mut is_tuple = false;
        loop {
            let ended = *self.peek() == Token::BlockEnd || ends.iter().any(|end| self.is_name(end));
            if ended && is_tuple {
                break;
            }
            targets.push(self.single_target(namespace)?);
            if !self.skip_operator(",") {
                break;
            }
            is_tuple = true;
        }
        match targets.pop() {
            Some(only) if !is_tuple => Ok(only),
            last => {
                targets.extend(last);
                Ok(Target::Tuple(targets))
            }
        }
    }

    fn single_target(&mut self, namespace: bool) -> Result<Target> {
        if namespace && matches!((self.peek(), self.look()), (Token::Name(_), Token::Operator("."))) {
            let name = self.assignable_name()?;
            self.next();
            return Ok(Target::Attribute(name, Place::default(), self.expect_name()?));
        }
        let line = self.line();
        match as_target(self.deeper(Self::primary)?) {
            Some(target) => Ok(target),
            None => Err(Fault::new(Kind::Syntax, "can not assign to this").at(line)),
        }
    }

    fn conditional(&mut self) -> Result<Expr> {
        let line = self.line();
        let mut value = self.or()?;
        let mut chain = 0;
        while self.skip_name("if") {
            self.chain(&mut chain)?;
            let test = self.or()?;
            let otherwise = if self.skip_name("else") { Some(Box::new(self.deeper(Self::conditional)?)) } else { None };
            value = expr(line, Node::Cond(Box::new(test), Box::new(value), otherwise));
        }
        self.unchain(chain);
        Ok(value)
    }

    fn or(&mut self) -> Result<Expr> {
        let line = self.line();
        let mut left = self.and()?;
        let mut chain = 0;
        while self.skip_name("or") {
            self.chain(&mut chain)?;
            left = expr(line, Node::Or(Box::new(left), Box::new(self.and()?)));
        }
        self.unchain(chain);
        Ok(left)
    }

    fn and(&mut self) -> Result<Expr> {
        let line = self.line();
        let mut left = self.not()?;
        let mut chain = 0;
        while self.skip_name("and") {
            self.chain(&mut chain)?;
            left = expr(line, Node::And(Box::new(left), Box::new(self.not()?)));
        }
        self.unchain(chain);
        Ok(left)
    }

    fn not(&mut self) -> Result<Expr> {
        let line = self.line();
        if self.skip_name("not") {
            let inner = self.deeper(Self::not)?;
            return Ok(expr(line, Node::Unary(Unary::Not, Box::new(inner))));
        }
        self.compare()
    }

    fn compare(&mut self) -> Result<Expr> {
        let line = self.line();
        let left = self.sum()?;
        let mut rest = Vec::new();
        while let Some(operator) = self.comparison() {
            rest.push((operator, self.sum()?));
        }
        Ok(if rest.is_empty() { left } else { expr(line, Node::Compare(Box::new(left), rest)) })
    }

    fn comparison(&mut self) -> Option<Compare> {
        let operator = match self.peek() {
            Token::Operator("==") => Compare::Eq,
            Token::Operator("!=") => Compare::Ne,
            Token::Operator("<") => Compare::Lt,
            Token::Operator("<=") => Compare::Le,
            Token::Operator(">") => Compare::Gt,
            Token::Operator(">=") => Compare::Ge,
            Token::Name(name) if &**name == "in" => Compare::In,
            Token::Name(name) if &**name == "not" && matches!(self.look(), Token::Name(n) if &**n == "in") => {
                self.next();
                Compare::NotIn
            }
            _ => return None,
        };
        self.next();
        Some(operator)
    }

    /// Operands of `next` with the operators of one level between them, from the left.
    fn left_to_right(&mut self, operators: &[(&str, Binary)], next: fn(&mut Self) -> Result<Expr>) -> Result<Expr> {
        let line = self.line();
        let mut left = next(self)?;
        let mut chain = 0;
        while let Some(&(_, operator)) = operators.iter().find(|(text, _)| self.is_operator(text)) {
            self.chain(&mut chain)?;
            self.next();
            left = expr(line, Node::Binary(operator, Box::new(left), Box::new(next(self)?)));
        }
        self.unchain(chain);
        Ok(left)
    }

    fn sum(&mut self) -> Result<Expr> {
        self.left_to_right(&[("+", Binary::Add), ("-", Binary::Sub)], Self::concat)
    }

    fn concat(&mut self) -> Result<Expr> {
        let line = self.line();
        let mut items = vec![self.product()?];
        while self.skip_operator("~") {
            items.push(self.product()?);
        }
        match items.pop() {
            Some(only) if items.is_empty() => Ok(only),
            last => {
                items.extend(last);
                Ok(expr(line, Node::Concat(items)))
            }
        }
    }

    fn product(&mut self) -> Result<Expr> {
        let operators = [("*", Binary::Mul), ("/", Binary::Div), ("//", Binary::FloorDiv), ("%", Binary::Mod)];
        self.left_to_right(&operators, Self::power)
    }

    fn power(&mut self) -> Result<Expr> {
        self.left_to_right(&[("**", Binary::Pow)], |parser| parser.unary(true))
    }

    fn unary(&mut self, filters: bool) -> Result<Expr> {
        let line = self.line();
        let sign = match self.peek() {
            Token::Operator("-") => Some(Unary::Neg),
            Token::Operator("+") => Some(Unary::Pos),
            _ => None,
        };
        let value = match sign {
            Some(sign) => {
                self.next();
                let inner = self.deeper(|parser| parser.unary(false))?;
                expr(line, Node::Unary(sign, Box::new(inner)))
            }
            None => self.primary()?,
        };
        let value = self.postfix(value)?;
        if filters { self.filters(value) } else { Ok(value) }
    }

    pub(super) fn primary(&mut self) -> Result<Expr> {
        let line = self.line();
        let node = match self.peek().clone() {
            Token::Name(name) => {
                self.next();
                match &*name {
                    "true" | "True" => Node::Const(Const::Bool(true)),
                    "false" | "False" => Node::Const(Const::Bool(false)),
                    "none" | "None" => Node::Const(Const::None),
                    _ => Node::Name(name, Place::default()),
                }
            }
            Token::Str(_) => self.strings(),
            Token::Int(value) => {
                self.next();
                Node::Const(Const::Int(value))
            }
            Token::Float(value) => {
                self.next();
                Node::Const(Const::Float(value))
            }
            Token::Operator("(") => {
                self.next();
                let inner = self.items(&[], true, Self::expression)?;
                self.expect_operator(")")?;
                return Ok(inner);
            }
            Token::Operator("[") => self.list()?,
            Token::Operator("{") => self.dict()?,
            _ => return self.fail(format!("unexpected {}", self.shown())),
        };
        Ok(expr(line, node))
    }

    /// Literals that follow each other are one.
    fn strings(&mut self) -> Node {
        let mut text = String::new();
        while let Token::Str(part) = self.peek().clone() {
            text.push_str(&part);
            self.next();
        }
        Node::Const(Const::Str(text.into()))
    }

    fn list(&mut self) -> Result<Node> {
        self.next();
        let mut items = Vec::new();
        while !self.is_operator("]") {
            if !items.is_empty() {
                self.expect_operator(",")?;
            }
            if self.is_operator("]") {
                break;
            }
            items.push(self.expression()?);
        }
        self.expect_operator("]")?;
        Ok(Node::List(items))
    }

    fn dict(&mut self) -> Result<Node> {
        self.next();
        let mut items = Vec::new();
        while !self.is_operator("}") {
            if !items.is_empty() {
                self.expect_operator(",")?;
            }
            if self.is_operator("}") {
                break;
            }
            let key = self.expression()?;
            self.expect_operator(":")?;
            items.push((key, self.expression()?));
        }
        self.expect_operator("}")?;
        Ok(Node::Dict(items))
    }
}
