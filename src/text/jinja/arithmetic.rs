//! Arithmetic of numbers, as Python's integers and floats have it.

use super::ast::{Binary, Unary};
use super::fault::{Fault, Kind, Result, runtime, type_error, value_error};
use super::value::Value;

/// Integers are exact up to here.
const BIG: &str = "an integer has more than 127 bits, which is not supported";

fn overflow<T>() -> Result<T> {
    Fault::kind(Kind::Limit, BIG)
}

fn zero<T>() -> Result<T> {
    runtime("division by zero")
}

pub(super) fn sign_of(operator: Binary) -> &'static str {
    match operator {
        Binary::Add => "+",
        Binary::Sub => "-",
        Binary::Mul => "*",
        Binary::Div => "/",
        Binary::FloorDiv => "//",
        Binary::Mod => "%",
        Binary::Pow => "** or pow()",
    }
}

/// `-x` and `+x`.
pub(super) fn sign(operator: Unary, value: &Value) -> Result<Value> {
    let negative = operator == Unary::Neg;
    match value {
        Value::Undefined(_) => value.refuse(),
        Value::Float(x) => Ok(Value::Float(if negative { -x } else { *x })),
        other => match other.as_int() {
            Some(n) if negative => n.checked_neg().map_or_else(overflow, |n| Ok(Value::Int(n))),
            Some(n) => Ok(Value::Int(n)),
            None => type_error(format!("bad operand type for a sign: '{}'", value.type_name())),
        },
    }
}

pub(super) fn integers(operator: Binary, a: i128, b: i128) -> Result<Value> {
    let result = match operator {
        Binary::Add => a.checked_add(b),
        Binary::Sub => a.checked_sub(b),
        Binary::Mul => a.checked_mul(b),
        Binary::Div if b == 0 => return zero(),
        Binary::Div => return Ok(Value::Float(a as f64 / b as f64)),
        Binary::FloorDiv | Binary::Mod if b == 0 => return zero(),
        Binary::FloorDiv => a.checked_div_euclid(b).map(|_| floor_div(a, b)),
        Binary::Mod if b == -1 => Some(0),
        Binary::Mod => Some(a - floor_div(a, b) * b),
        Binary::Pow if b < 0 && a == 0 => return zero(),
        Binary::Pow if b < 0 => return Ok(Value::Float((a as f64).powf(b as f64))),
        Binary::Pow => match u32::try_from(b) {
            Ok(exponent) => a.checked_pow(exponent),
            Err(_) if (-1..=1).contains(&a) => Some(if b % 2 == 0 { a * a } else { a }),
            Err(_) => None,
        },
    };
    result.map_or_else(overflow, |n| Ok(Value::Int(n)))
}

fn floor_div(a: i128, b: i128) -> i128 {
    let quotient = a / b;
    if a % b != 0 && (a < 0) != (b < 0) { quotient - 1 } else { quotient }
}

pub(super) fn floats(operator: Binary, a: f64, b: f64) -> Result<Value> {
    let result = match operator {
        Binary::Add => a + b,
        Binary::Sub => a - b,
        Binary::Mul => a * b,
        Binary::Div | Binary::FloorDiv | Binary::Mod if b == 0.0 => return zero(),
        Binary::Div => a / b,
        Binary::FloorDiv => float_divmod(a, b).0,
        Binary::Mod => float_divmod(a, b).1,
        Binary::Pow if a == 0.0 && b < 0.0 => return zero(),
        Binary::Pow if a < 0.0 && a.is_finite() && b.is_finite() && b.fract() != 0.0 => {
            return value_error("a complex number is not supported");
        }
        Binary::Pow => {
            let power = a.powf(b);
            if power.is_infinite() && a.is_finite() && b.is_finite() {
                return Fault::kind(Kind::Overflow, "numerical result out of range");
            }
            power
        }
    };
    Ok(Value::Float(result))
}

/// Quotient and remainder as CPython's floats have them: the remainder has the divisor's sign.
fn float_divmod(a: f64, b: f64) -> (f64, f64) {
    let mut rest = a % b;
    let mut quotient = (a - rest) / b;
    if rest == 0.0 {
        rest = 0.0_f64.copysign(b);
    } else if (b < 0.0) != (rest < 0.0) {
        rest += b;
        quotient -= 1.0;
    }
    if quotient == 0.0 {
        return (0.0_f64.copysign(a / b), rest);
    }
    let floor = quotient.floor();
    (if quotient - floor > 0.5 { floor + 1.0 } else { floor }, rest)
}
