//! Filters that make numbers.

use super::super::args::{Args, int_or, truth_or};
use super::super::ast::{Binary, Unary};
use super::super::fault::{Fault, Kind, Result, runtime, type_error, value_error};
use super::super::machine::Machine;
use super::super::text::{decimal, is_space};
use super::super::value::Value;
use super::path::Path;

/// `int(x)`.
pub(in crate::text::jinja) fn truncated(x: f64) -> Result<i128> {
    if x.is_nan() {
        return value_error("cannot convert float NaN to integer");
    }
    if x.is_infinite() {
        return Fault::kind(Kind::Overflow, "cannot convert float infinity to integer");
    }
    if x.abs() >= 1.7e38 {
        return Fault::kind(Kind::Limit, "an integer has more than 127 bits, which is not supported");
    }
    Ok(x.trunc() as i128)
}

/// `float(text)`.
fn parse_float(text: &str) -> Result<f64> {
    let plain = ascii_digits(text.trim_matches(is_space));
    let bytes = plain.as_bytes();
    let digit = |at: usize| bytes.get(at).is_some_and(u8::is_ascii_digit);
    let lone = |(at, &b): (usize, &u8)| b == b'_' && !(at > 0 && digit(at - 1) && digit(at + 1));
    if bytes.iter().enumerate().any(lone) {
        return value_error("could not convert string to float");
    }
    plain.replace('_', "").parse().or_else(|_| value_error("could not convert string to float"))
}

/// Digits of every script as those of ASCII.
fn ascii_digits(text: &str) -> String {
    text.chars().map(|c| decimal(c).and_then(|n| char::from_digit(n, 10)).unwrap_or(c)).collect()
}

/// `int(text, base)`.
fn parse_int(text: &str, base: i128) -> Result<i128> {
    let fail = || value_error("invalid literal for int()");
    let plain = ascii_digits(text.trim_matches(is_space)).to_lowercase();
    let negative = plain.starts_with('-');
    let mut digits = plain.strip_prefix(['+', '-']).unwrap_or(&plain);
    let mut radix = match u32::try_from(base) {
        Ok(radix) if radix == 0 || (2..=36).contains(&radix) => radix,
        _ => return value_error("int() base must be >= 2 and <= 36, or 0"),
    };
    for (prefix, of) in [("0x", 16), ("0o", 8), ("0b", 2)] {
        if let Some(rest) = digits.strip_prefix(prefix).filter(|_| radix == 0 || radix == of) {
            digits = rest.strip_prefix('_').unwrap_or(rest);
            radix = of;
        }
    }
    if radix == 0 {
        radix = 10;
        if digits.len() > 1 && digits.starts_with('0') && digits.bytes().any(|b| b != b'0' && b != b'_') {
            return fail();
        }
    }
    if digits.is_empty() || digits.starts_with('_') || digits.ends_with('_') || digits.contains("__") {
        return fail();
    }
    let mut value: i128 = 0;
    for c in digits.chars().filter(|&c| c != '_') {
        let Some(digit) = c.to_digit(radix) else { return fail() };
        let next = value.checked_mul(radix.into()).and_then(|v| v.checked_add(digit.into()));
        value = match next {
            Some(next) => next,
            None if digits.chars().all(|c| c == '_' || c.is_digit(radix)) => {
                return Fault::kind(Kind::Limit, "an integer has more than 127 bits, which is not supported");
            }
            None => return fail(),
        };
    }
    Ok(if negative { -value } else { value })
}

/// What Python converts, or its type error.
fn to_float(value: &Value) -> Result<f64> {
    match value {
        Value::Undefined(_) => value.refuse(),
        other => match (other.as_str(), other.as_float()) {
            (Some(text), _) => parse_float(text),
            (_, Some(x)) => Ok(x),
            _ => type_error(format!("float() argument must be a string or a real number, not '{}'", value.type_name())),
        },
    }
}

fn to_int(value: &Value, base: i128) -> Result<i128> {
    match value {
        Value::Undefined(_) => value.refuse(),
        Value::Float(x) => truncated(*x),
        other => match (other.as_str(), other.as_int()) {
            (Some(text), _) => parse_int(text, base),
            (_, Some(n)) => Ok(n),
            _ => type_error(format!("int() argument must be a string or a real number, not '{}'", value.type_name())),
        },
    }
}

impl Machine<'_> {
    pub(super) fn number_filter(&mut self, name: &str, value: Value, args: Args) -> Result<Value> {
        match name {
            "abs" => {
                args.none(name)?;
                match (value.as_int(), &value) {
                    (Some(n), _) if n < 0 => super::super::arithmetic::sign(Unary::Neg, &Value::Int(n)),
                    (Some(n), _) => Ok(Value::Int(n)),
                    (_, Value::Float(x)) => Ok(Value::Float(x.abs())),
                    _ => type_error(format!("bad operand type for abs(): '{}'", value.type_name())),
                }
            }
            "int" => {
                let [default, base] = args.bind(name, ["default", "base"], 0)?;
                let base = base.unwrap_or(Value::Int(10));
                let caught = |kind: Kind| matches!(kind, Kind::Type | Kind::Value);
                let parsed = match (value.as_str(), base.as_int()) {
                    (Some(_), None) => type_error("an integer is needed as base"),
                    (_, base) => to_int(&value, base.unwrap_or(10)),
                };
                match parsed {
                    Ok(n) => Ok(Value::Int(n)),
                    Err(fault) if caught(fault.kind) => match to_float(&value).and_then(truncated) {
                        Ok(n) => Ok(Value::Int(n)),
                        Err(fault) if caught(fault.kind) || fault.kind == Kind::Overflow => {
                            Ok(default.unwrap_or(Value::Int(0)))
                        }
                        Err(fault) => Err(fault),
                    },
                    Err(fault) => Err(fault),
                }
            }
            "float" => {
                let [default] = args.bind(name, ["default"], 0)?;
                match to_float(&value) {
                    Ok(x) => Ok(Value::Float(x)),
                    Err(fault) if matches!(fault.kind, Kind::Type | Kind::Value) => Ok(default.unwrap_or(Value::Float(0.0))),
                    Err(fault) => Err(fault),
                }
            }
            "round" => self.round(value, args),
            "filesizeformat" => {
                let [binary] = args.bind(name, ["binary"], 0)?;
                Ok(Value::str(file_size(to_float(&value)?, truth_or(binary, false))?))
            }
            _ => self.sum(value, args),
        }
    }

    fn sum(&mut self, value: Value, args: Args) -> Result<Value> {
        let [attribute, start] = args.bind("sum", ["attribute", "start"], 0)?;
        let path = Path::new(attribute, None);
        let mut sum = start.unwrap_or(Value::Int(0));
        if sum.as_str().is_some() {
            return type_error("sum() can't sum strings [use ''.join(seq) instead]");
        }
        let mut iter = self.iter(&value)?;
        while let Some(item) = self.next(&mut iter)? {
            let item = self.follow(&path, item)?;
            sum = self.binary(Binary::Add, sum, item)?;
        }
        Ok(sum)
    }

    fn round(&mut self, value: Value, args: Args) -> Result<Value> {
        let [precision, method] = args.bind("round", ["precision", "method"], 0)?;
        let method = method.unwrap_or_else(|| Value::str("common"));
        method.key()?;
        match method.as_str().map(|m| &**m) {
            Some("common") => {}
            Some(method @ ("ceil" | "floor")) => {
                let power = self.binary(Binary::Pow, Value::Int(10), precision.unwrap_or(Value::Int(0)))?;
                let scaled = self.binary(Binary::Mul, value, power.clone())?;
                let whole = match (&scaled, scaled.as_int()) {
                    (_, Some(n)) => n,
                    (Value::Float(x), _) => truncated(if method == "ceil" { x.ceil() } else { x.floor() })?,
                    _ => return type_error("must be real number"),
                };
                return self.binary(Binary::Div, Value::Int(whole), power);
            }
            _ => return runtime("method must be common, ceil or floor"),
        }
        let to_whole = matches!(precision, Some(Value::None));
        let digits = int_or(precision.filter(|_| !to_whole), 0, "round")?;
        match (&value, value.as_int()) {
            (_, Some(n)) => Ok(Value::Int(if to_whole { n } else { round_int(n, digits) })),
            (Value::Float(x), _) if to_whole => truncated(round_float(*x, 0)?).map(Value::Int),
            (Value::Float(x), _) => round_float(*x, digits).map(Value::Float),
            _ => type_error(format!("type {} doesn't define __round__ method", value.type_name())),
        }
    }
}

/// To a power of ten, halves to the even side.
fn round_int(n: i128, digits: i128) -> i128 {
    let Some(unit) = u32::try_from(-digits).ok().filter(|&d| d > 0).map(|d| 10_i128.checked_pow(d)) else { return n };
    let Some(unit) = unit else { return 0 };
    let below = n.rem_euclid(unit);
    let floor = n - below;
    let up = match (below * 2).cmp(&unit) {
        std::cmp::Ordering::Less => false,
        std::cmp::Ordering::Equal => (floor / unit) % 2 != 0,
        std::cmp::Ordering::Greater => true,
    };
    if up { floor + unit } else { floor }
}

/// `round(x, digits)`: of the number as it is in memory, not as it prints; halves to the even side.
fn round_float(x: f64, digits: i128) -> Result<f64> {
    if !x.is_finite() || digits > 323 {
        return Ok(x);
    }
    let exponent: i128 = format!("{x:e}").split_once('e').and_then(|(_, e)| e.parse().ok()).unwrap_or(0);
    let text = match usize::try_from(digits) {
        Ok(digits) => format!("{x:.digits$}"),
        Err(_) => match exponent + 1 + digits {
            significant @ 1.. => format!("{x:.*e}", usize::try_from(significant - 1).unwrap_or(0)),
            0 => {
                let unit = 10_f64.powi(i32::try_from(-digits).unwrap_or(i32::MAX));
                return Ok(if x.abs() > unit / 2.0 { unit.copysign(x) } else { 0.0_f64.copysign(x) });
            }
            _ => return Ok(0.0_f64.copysign(x)),
        },
    };
    match text.parse::<f64>() {
        Ok(rounded) if rounded.is_finite() => Ok(rounded),
        _ => Fault::kind(Kind::Overflow, "rounded value too large to represent"),
    }
}

/// `filesizeformat`.
fn file_size(bytes: f64, binary: bool) -> Result<String> {
    let base = if binary { 1024.0_f64 } else { 1000.0 };
    let prefixes = match binary {
        true => ["KiB", "MiB", "GiB", "TiB", "PiB", "EiB", "ZiB", "YiB"],
        false => ["kB", "MB", "GB", "TB", "PB", "EB", "ZB", "YB"],
    };
    if bytes == 1.0 {
        return Ok("1 Byte".into());
    }
    if bytes < base {
        return Ok(format!("{} Bytes", truncated(bytes)?));
    }
    let mut unit = base;
    for (at, prefix) in prefixes.iter().enumerate() {
        unit *= base;
        if bytes < unit || at + 1 == prefixes.len() {
            let shown = super::super::numbers::signed(base * bytes / unit, 'f', 1, &super::super::numbers::Spec::default());
            return Ok(format!("{shown} {prefix}"));
        }
    }
    value_error("not a number of bytes")
}
