//! Filters on sequences and dictionaries.

use super::super::args::{Args, int_or, truth_or};
use super::super::ast::Compare;
use super::super::fault::{Result, runtime, type_error};
use super::super::iter::{Deferred, Iter};
use super::super::machine::Machine;
use super::super::text::ignore_case;
use super::super::value::{Value, View};
use super::path::Path;
use std::collections::HashSet;

/// Refuses arguments of a generator that its call would refuse.
pub(super) fn check(kind: Deferred, args: &Args) -> Result<()> {
    match kind {
        Deferred::Map | Deferred::Select | Deferred::Reject | Deferred::SelectAttr | Deferred::RejectAttr => Ok(()),
        Deferred::Unique => args.clone().bind("unique", ["case_sensitive", "attribute"], 0).map(|_| ()),
        Deferred::Batch => args.clone().bind("batch", ["linecount", "fill_with"], 1).map(|_| ()),
        Deferred::Slice => args.clone().bind("slice", ["slices", "fill_with"], 1).map(|_| ()),
        Deferred::Items => args.clone().none("items"),
    }
}

fn empty() -> Iter {
    Iter::Values(Vec::new().into_iter())
}

impl Machine<'_> {
    /// A generator's work from its first item on.
    pub(in crate::text::jinja) fn begin(&mut self, kind: Deferred, value: Value, args: Args) -> Result<Iter> {
        match kind {
            Deferred::Map => self.begin_map(&value, args),
            Deferred::Select | Deferred::Reject | Deferred::SelectAttr | Deferred::RejectAttr => {
                if !self.truth(&value)? {
                    return Ok(empty());
                }
                let by_attribute = matches!(kind, Deferred::SelectAttr | Deferred::RejectAttr);
                let mut positional = args.positional.into_iter();
                let path = match by_attribute {
                    true => match positional.next() {
                        Some(attribute) => Some(Path::new(Some(attribute), None)),
                        None => return runtime("Missing parameter for attribute name"),
                    },
                    false => None,
                };
                let test = positional.next();
                let test = test.map(|name| (name, Args { positional: positional.collect(), named: args.named }));
                let keep = matches!(kind, Deferred::Select | Deferred::SelectAttr);
                Ok(Iter::Select(Box::new(self.iter(&value)?), path, test, keep))
            }
            Deferred::Unique => {
                let [case_sensitive, attribute] = args.bind("unique", ["case_sensitive", "attribute"], 0)?;
                let source = Box::new(self.iter(&value)?);
                Ok(Iter::Unique(source, Path::new(attribute, None), truth_or(case_sensitive, false), HashSet::new()))
            }
            Deferred::Batch => {
                let [count, fill] = args.bind("batch", ["linecount", "fill_with"], 1)?;
                // A size that is no integer is never reached, and can not be filled up to.
                let count = count.unwrap_or(Value::None);
                let count = match (count.as_int(), count.as_float()) {
                    (Some(n), _) => n,
                    _ => return type_error(format!("batch: {} is not a size", count.type_name())),
                };
                Ok(Iter::Batch(Box::new(self.iter(&value)?), count, fill.unwrap_or(Value::None), Vec::new()))
            }
            Deferred::Slice => self.begin_slice(&value, args),
            Deferred::Items => match &value {
                Value::Undefined(_) => Ok(empty()),
                Value::Dict(dict) => Ok(Iter::View(dict.clone(), View::Items, 0)),
                _ => type_error("Can only get item pairs from a mapping."),
            },
        }
    }

    fn begin_map(&mut self, value: &Value, args: Args) -> Result<Iter> {
        if !self.truth(value)? {
            return Ok(empty());
        }
        let Args { positional, mut named } = args;
        let mut positional = positional.into_iter();
        let Some(name) = positional.next() else {
            let mut take = |name: &str| named.iter().position(|(n, _)| &**n == name).map(|at| named.remove(at).1);
            let Some(attribute) = take("attribute") else { return runtime("map requires a filter argument") };
            let default = take("default");
            if let Some((name, _)) = named.first() {
                return runtime(format!("Unexpected keyword argument '{name}'"));
            }
            return Ok(Iter::Map(Box::new(self.iter(value)?), Path::new(Some(attribute), default)));
        };
        let args = Args { positional: positional.collect(), named };
        Ok(Iter::MapFilter(Box::new(self.iter(value)?), name, args))
    }

    fn begin_slice(&mut self, value: &Value, args: Args) -> Result<Iter> {
        let [slices, fill] = args.bind("slice", ["slices", "fill_with"], 1)?;
        let items = self.collect(value)?;
        let slices = slices.unwrap_or(Value::None).int_arg("slice")?;
        if slices == 0 {
            return runtime("integer division or modulo by zero");
        }
        let count = usize::try_from(slices).unwrap_or(0);
        self.take_product(count as u64, 64)?;
        let mut lists = Vec::new();
        let mut rest = &items[..];
        for at in 0..count {
            let more = at < items.len() % count;
            let (part, after) = rest.split_at((items.len() / count + usize::from(more)).min(rest.len()));
            rest = after;
            let mut list = part.to_vec();
            if let Some(fill) = fill.as_ref().filter(|fill| !more && !matches!(fill, Value::None)) {
                list.push(fill.clone());
            }
            lists.push(Value::list(list)?);
        }
        Ok(Iter::Values(lists.into_iter()))
    }

    pub(super) fn sequence_filter(&mut self, name: &str, value: Value, args: Args) -> Result<Value> {
        match name {
            "first" => {
                args.none(name)?;
                let mut iter = self.iter(&value)?;
                Ok(self.next(&mut iter)?.unwrap_or_else(|| Value::hint("No first item, sequence was empty.")))
            }
            "last" => {
                args.none(name)?;
                let last = self.reversed(&value)?.into_iter().next();
                Ok(last.unwrap_or_else(|| Value::hint("No last item, sequence was empty.")))
            }
            "random" => {
                args.none(name)?;
                match value.len()? {
                    0 => Ok(Value::hint("No random item, sequence was empty.")),
                    1 => self.item(&value, &Value::Int(0)),
                    _ => runtime("random gives another item each time, which is not supported"),
                }
            }
            "length" | "count" => {
                let none: Vec<Value> = args.all(name)?;
                if !none.is_empty() {
                    return type_error("len() takes exactly one argument");
                }
                match &value {
                    Value::Loop(this) => self.length_of_loop(this).map(|n| Value::Int(n as i128)),
                    other => other.len().map(|n| Value::Int(n as i128)),
                }
            }
            "list" => {
                args.none(name)?;
                Value::list(self.collect(&value)?)
            }
            "reverse" => {
                args.none(name)?;
                match &value {
                    Value::Str(_) | Value::Markup(_) => self.slice(&value, &[Value::None, Value::None, Value::Int(-1)]),
                    Value::Generator(_) => {
                        let mut items = self.collect(&value)?;
                        items.reverse();
                        Value::list(items)
                    }
                    _ => {
                        let Ok(items) = self.reversed(&value) else { return runtime("argument must be iterable") };
                        Value::generator(Iter::Values(items.into_iter()))
                    }
                }
            }
            "sort" => {
                let [reverse, case_sensitive, attribute] = args.bind(name, ["reverse", "case_sensitive", "attribute"], 0)?;
                let paths = Path::several(attribute);
                let items = self.collect(&value)?;
                let mut keys = Vec::with_capacity(items.len());
                for item in &items {
                    let key = paths.iter().map(|path| self.key(path, item, &case_sensitive)).collect::<Result<_>>()?;
                    keys.push(Value::list(key)?);
                }
                Value::list(self.sorted(items, &keys, int_or(reverse, 0, "sort")? != 0)?)
            }
            "min" | "max" => self.extreme(name, &value, args),
            "groupby" => self.group_by(&value, args),
            "dictsort" => self.dict_sort(&value, args),
            _ => self.join(&value, args),
        }
    }

    /// What an item is compared by.
    fn key(&mut self, path: &Path, item: &Value, case_sensitive: &Option<Value>) -> Result<Value> {
        let key = self.follow(path, item.clone())?;
        Ok(if truth_or(case_sensitive.clone(), false) { key } else { ignore_case(key) })
    }

    /// `list(reversed(value))`.
    fn reversed(&mut self, value: &Value) -> Result<Vec<Value>> {
        match value {
            Value::Generator(_) | Value::Loop(_) => type_error(format!("'{}' object is not reversible", value.type_name())),
            other => {
                let mut items = self.collect(other)?;
                items.reverse();
                Ok(items)
            }
        }
    }

    fn extreme(&mut self, name: &str, value: &Value, args: Args) -> Result<Value> {
        let [case_sensitive, attribute] = args.bind(name, ["case_sensitive", "attribute"], 0)?;
        let path = Path::new(attribute, None);
        let operator = if name == "min" { Compare::Lt } else { Compare::Gt };
        let mut best: Option<(Value, Value)> = None;
        let mut iter = self.iter(value)?;
        while let Some(item) = self.next(&mut iter)? {
            let key = self.key(&path, &item, &case_sensitive)?;
            let better = match &best {
                Some((_, other)) => self.compare(operator, &key, other)?,
                None => true,
            };
            if better {
                best = Some((item, key));
            }
        }
        Ok(best.map_or_else(|| Value::hint("No aggregated item, sequence was empty."), |(item, _)| item))
    }

    fn group_by(&mut self, value: &Value, args: Args) -> Result<Value> {
        let [attribute, default, case_sensitive] = args.bind("groupby", ["attribute", "default", "case_sensitive"], 1)?;
        let path = Path::new(attribute, default);
        let items = self.collect(value)?;
        let keys = items.iter().map(|item| self.key(&path, item, &case_sensitive)).collect::<Result<Vec<_>>>()?;
        let items = self.sorted(items, &keys, false)?;
        let mut groups: Vec<(Value, Vec<Value>)> = Vec::new();
        for item in items {
            let key = self.key(&path, &item, &case_sensitive)?;
            let same = match groups.last() {
                Some((other, _)) => self.equal(&other.clone(), &key)?,
                None => false,
            };
            self.take(size_of::<Value>() as u64)?;
            match groups.last_mut() {
                Some((_, group)) if same => group.push(item),
                _ => groups.push((key, vec![item])),
            }
        }
        let mut out = Vec::new();
        for (key, group) in groups {
            let key = if truth_or(case_sensitive.clone(), false) { key } else { self.follow(&path, group[0].clone())? };
            out.push(Value::group(key, group)?);
        }
        Value::list(out)
    }

    fn dict_sort(&mut self, value: &Value, args: Args) -> Result<Value> {
        let [case_sensitive, by, reverse] = args.bind("dictsort", ["case_sensitive", "by", "reverse"], 0)?;
        let by = by.unwrap_or_else(|| Value::str("key"));
        let by_value = match by.as_str().map(|by| &**by) {
            Some("key") => false,
            Some("value") => true,
            _ => return runtime("You can only sort by either \"key\" or \"value\""),
        };
        let dict = match value {
            Value::Dict(dict) => dict,
            Value::Undefined(_) => return value.refuse(),
            other => return type_error(format!("'{}' object has no attribute 'items'", other.type_name())),
        };
        let (mut items, mut keys) = (Vec::new(), Vec::new());
        for (key, value) in dict.entries() {
            self.take(128)?;
            items.push(Value::tuple(vec![key.clone(), value.clone()])?);
            let by = if by_value { value } else { key }.clone();
            keys.push(if truth_or(case_sensitive.clone(), false) { by } else { ignore_case(by) });
        }
        Value::list(self.sorted(items, &keys, int_or(reverse, 0, "sort")? != 0)?)
    }

    fn join(&mut self, value: &Value, args: Args) -> Result<Value> {
        let [separator, attribute] = args.bind("join", ["d", "attribute"], 0)?;
        let separator = separator.unwrap_or_else(|| Value::str(""));
        let path = Path::new(attribute, None);
        let mut iter = self.iter(value)?;
        let mut items = Vec::new();
        while let Some(item) = self.next(&mut iter)? {
            items.push(self.follow(&path, item)?);
        }
        let markup = |value: &Value| matches!(value, Value::Markup(_));
        let escaped = self.autoescape && (markup(&separator) || items.iter().any(markup));
        let separator = if escaped { self.escape(&separator)? } else { self.str(&separator)? };
        let mut out = String::new();
        for (at, item) in items.iter().enumerate() {
            if at > 0 {
                self.take(separator.len() as u64)?;
                out.push_str(&separator);
            }
            match escaped {
                true => out.push_str(&self.escape(item)?),
                false => self.str_into(item, &mut out)?,
            }
        }
        Ok(if escaped { Value::Markup(out.into()) } else { Value::str(out) })
    }
}
