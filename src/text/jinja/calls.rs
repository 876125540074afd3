//! Calls: macros, methods and the global functions.

use super::args::Args;
use super::fault::{Fault, Kind, Result, runtime, type_error, value_error};
use super::machine::Machine;
use super::value::{Dict, Function, Range, Value};
use std::cell::Cell;
use std::collections::HashMap;
use std::rc::Rc;
use std::sync::Arc;

/// The longest range, as Jinja's sandbox has it.
const LONGEST_RANGE: i128 = 100_000;

/// What every template sees.
pub(super) fn globals() -> HashMap<Arc<str>, Value> {
    let functions = [
        ("range", Function::Range),
        ("dict", Function::Dict),
        ("namespace", Function::Namespace),
        ("cycler", Function::Cycler),
        ("joiner", Function::Joiner),
        ("lipsum", Function::Lipsum),
        ("raise_exception", Function::Raise),
        ("strftime_now", Function::Now),
    ];
    functions.into_iter().map(|(name, function)| (name.into(), Value::Function(function))).collect()
}

impl Machine<'_> {
    /// `callee(args)`.
    pub(super) fn call(&mut self, callee: &Value, args: Args) -> Result<Value> {
        self.deeper(|machine| match callee {
            Value::Undefined(_) => callee.refuse(),
            Value::Macro(this) => machine.call_macro(this, args),
            Value::Method(method) => machine.call_method(&method.0, method.1, args),
            Value::Function(function) => machine.call_function(*function, args),
            Value::Joiner(joiner) => {
                args.none("joiner")?;
                Ok(if joiner.1.replace(true) { joiner.0.clone() } else { Value::str("") })
            }
            Value::Loop(this) => {
                let [items] = args.bind("loop", ["iterable"], 1)?;
                let (recursive, depth) = (this.borrow().recursive.clone(), this.borrow().depth0 + 1);
                let Some((node, record)) = recursive else {
                    return type_error("The loop must have the 'recursive' marker to be called recursively.");
                };
                let mut out = String::new();
                machine.loop_over(&node, &record, &items.unwrap_or(Value::None), depth, &mut out)?;
                Ok(if machine.autoescape { Value::Markup(out.into()) } else { Value::str(out) })
            }
            Value::Block(name) => {
                args.none(name)?;
                machine.call_block(name)
            }
            other => type_error(format!("'{}' object is not callable", other.type_name())),
        })
    }

    fn call_block(&mut self, name: &Arc<str>) -> Result<Value> {
        let (Some(block), Some(context)) = (self.blocks.get(name).cloned(), self.root.clone()) else {
            return runtime(format!("there is no block called '{name}'"));
        };
        let mut out = String::new();
        self.block_in(&block, context, &mut out)?;
        Ok(Value::str(out))
    }

    fn call_function(&mut self, function: Function, args: Args) -> Result<Value> {
        match function {
            Function::Range => range(args),
            Function::Dict => self.make_dict(args).map(Value::dict),
            Function::Namespace => {
                let dict = self.make_dict(args)?;
                for (key, _) in dict.entries() {
                    if key.as_str().is_some_and(|name| name.starts_with('_')) {
                        return runtime("chat templates cannot store underscore-prefixed attributes on a namespace");
                    }
                }
                Ok(self.namespace(dict))
            }
            Function::Cycler => {
                let items = args.all("cycler")?;
                if items.is_empty() {
                    return runtime("at least one item has to be provided");
                }
                super::value::deeper(items.iter())?;
                Ok(Value::Cycler(Rc::new((items, Cell::new(0)))))
            }
            Function::Joiner => {
                let [separator] = args.bind("joiner", ["sep"], 0)?;
                let separator = separator.unwrap_or_else(|| Value::str(", "));
                super::value::deeper([&separator].into_iter())?;
                Ok(Value::Joiner(Rc::new((separator, Cell::new(false)))))
            }
            Function::Lipsum => runtime("lipsum gives a random text, which is not supported"),
            Function::Raise => {
                let [message] = args.bind("raise_exception", ["message"], 1)?;
                let message = self.str(&message.unwrap_or(Value::None))?;
                Fault::kind(Kind::Raised, &*message)
            }
            Function::Now => {
                let [format] = args.bind("strftime_now", ["format"], 1)?;
                let format = format.unwrap_or(Value::None).str_arg("strftime_now")?;
                self.take_product(format.len() as u64, 32)?;
                let width = super::time::widest(&format);
                self.take_product(format.len() as u64, width as u64)?;
                Ok(Value::str(self.now.strftime(&format)))
            }
        }
    }

    /// `dict(...)`: of a dictionary or of pairs, and of names.
    fn make_dict(&mut self, args: Args) -> Result<Dict> {
        let mut dict = Dict::default();
        if args.positional.len() > 1 {
            return type_error(format!("dict expected at most 1 argument, got {}", args.positional.len()));
        }
        match args.positional.first() {
            Some(Value::Dict(other)) => {
                self.take_product(other.len() as u64, 96)?;
                dict = (**other).clone();
            }
            Some(value) if value.is_undefined() => return value.refuse(),
            Some(pairs) => {
                let mut iter = self.iter(pairs)?;
                while let Some(pair) = self.next(&mut iter)? {
                    self.take(96)?;
                    let pair = self.collect(&pair)?;
                    let [key, value] = &pair[..] else {
                        return value_error(format!("a dictionary's item has length {}; 2 is required", pair.len()));
                    };
                    dict.insert(key.clone(), value.clone())?;
                }
            }
            None => {}
        }
        for (name, value) in args.named {
            self.take(96)?;
            dict.insert(Value::Str(name), value)?;
        }
        Ok(dict)
    }
}

fn range(args: Args) -> Result<Value> {
    let [first, second, step] = args.bind("range", ["", "", ""], 1)?;
    let int = |value: Option<Value>| value.map(|value| value.int_arg("range")).transpose();
    let (first, second, step) = (int(first)?.unwrap_or(0), int(second)?, int(step)?.unwrap_or(1));
    let (start, stop) = second.map_or((0, first), |second| (first, second));
    let far = 1 << 64;
    if step == 0 {
        return value_error("range() arg 3 must not be zero");
    }
    if [start, stop, step].iter().any(|n| n.abs() > far) {
        return Fault::kind(Kind::Overflow, "a range reaches too far");
    }
    let range = Range { start, stop, step };
    if range.len() > LONGEST_RANGE {
        return Fault::kind(Kind::Overflow, format!("a range has more than {LONGEST_RANGE} items"));
    }
    Ok(Value::Range(range))
}
