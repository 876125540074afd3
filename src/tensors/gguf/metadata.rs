//! GGUF's key/value pairs: typed values, and accessors whose errors name the file and the key.

use super::cursor::Cursor;
use crate::{Error, Result};
use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};

/// Arrays may hold arrays; none that we know of does so even once.
const DEEPEST: usize = 4;

const NO_BOOL: &str = "holds neither true nor false";

/// What a key holds. Integers of all widths are widened; text that is not UTF-8 has U+FFFD in its bad places.
#[derive(Debug, Clone, PartialEq)]
#[allow(missing_docs)]
pub enum Value {
    U64(u64),
    I64(i64),
    F32(f32),
    F64(f64),
    Bool(bool),
    String(String),
    Array(Array),
}

/// Elements of one type, as compact as in the file.
#[derive(Debug, Clone, PartialEq)]
#[allow(missing_docs)]
pub enum Array {
    U8(Vec<u8>),
    I8(Vec<i8>),
    U16(Vec<u16>),
    I16(Vec<i16>),
    U32(Vec<u32>),
    I32(Vec<i32>),
    U64(Vec<u64>),
    I64(Vec<i64>),
    F32(Vec<f32>),
    F64(Vec<f64>),
    Bool(Vec<bool>),
    String(Vec<String>),
    Array(Vec<Array>),
}

impl Value {
    /// The value of the type with this number.
    fn read(cursor: &mut Cursor, kind: u32) -> Result<Self> {
        Ok(match kind {
            0 => Value::U64(u8::from_le_bytes(cursor.array()?).into()),
            1 => Value::I64(i8::from_le_bytes(cursor.array()?).into()),
            2 => Value::U64(u16::from_le_bytes(cursor.array()?).into()),
            3 => Value::I64(i16::from_le_bytes(cursor.array()?).into()),
            4 => Value::U64(cursor.u32()?.into()),
            5 => Value::I64(i32::from_le_bytes(cursor.array()?).into()),
            6 => Value::F32(f32::from_le_bytes(cursor.array()?)),
            7 => Value::Bool(boolean(u8::from_le_bytes(cursor.array()?)).ok_or_else(|| cursor.corrupt(NO_BOOL))?),
            8 => Value::String(text(cursor.string()?)),
            9 => Value::Array(Array::read(cursor, 1)?),
            10 => Value::U64(cursor.u64()?),
            11 => Value::I64(i64::from_le_bytes(cursor.array()?)),
            12 => Value::F64(f64::from_le_bytes(cursor.array()?)),
            _ => return Err(cursor.corrupt(format_args!("has the unknown value type {kind}"))),
        })
    }

    /// What it is, for messages.
    fn kind(&self) -> &'static str {
        match self {
            Value::U64(_) | Value::I64(_) => "an integer",
            Value::F32(_) | Value::F64(_) => "a float",
            Value::Bool(_) => "a boolean",
            Value::String(_) => "a string",
            Value::Array(_) => "an array",
        }
    }
}

impl Array {
    fn read(cursor: &mut Cursor, depth: usize) -> Result<Self> {
        if depth > DEEPEST {
            return Err(cursor.corrupt(format_args!("has arrays in arrays, more than {DEEPEST} deep")));
        }
        let kind = cursor.u32()?;
        let size = match kind {
            0 | 1 | 7 => 1,
            2 | 3 => 2,
            4..=6 => 4,
            8 | 10..=12 => 8,
            9 => 12,
            _ => return Err(cursor.corrupt(format_args!("has the unknown element type {kind}"))),
        };
        let count = cursor.count("elements", size)?;
        Ok(match kind {
            0 => Array::U8(cursor.bytes(count)?.to_vec()),
            1 => Array::I8(cursor.numbers(count, i8::from_le_bytes)?),
            2 => Array::U16(cursor.numbers(count, u16::from_le_bytes)?),
            3 => Array::I16(cursor.numbers(count, i16::from_le_bytes)?),
            4 => Array::U32(cursor.numbers(count, u32::from_le_bytes)?),
            5 => Array::I32(cursor.numbers(count, i32::from_le_bytes)?),
            6 => Array::F32(cursor.numbers(count, f32::from_le_bytes)?),
            7 => {
                let bools: Option<_> = cursor.bytes(count)?.iter().map(|&byte| boolean(byte)).collect();
                Array::Bool(bools.ok_or_else(|| cursor.corrupt(NO_BOOL))?)
            }
            8 => Array::String(each(count, || Ok(text(cursor.string()?)))?),
            9 => Array::Array(each(count, || Array::read(cursor, depth + 1))?),
            10 => Array::U64(cursor.numbers(count, u64::from_le_bytes)?),
            11 => Array::I64(cursor.numbers(count, i64::from_le_bytes)?),
            _ => Array::F64(cursor.numbers(count, f64::from_le_bytes)?),
        })
    }

    /// Number of elements.
    pub fn len(&self) -> usize {
        match self {
            Array::U8(v) => v.len(),
            Array::I8(v) => v.len(),
            Array::U16(v) => v.len(),
            Array::I16(v) => v.len(),
            Array::U32(v) => v.len(),
            Array::I32(v) => v.len(),
            Array::U64(v) => v.len(),
            Array::I64(v) => v.len(),
            Array::F32(v) => v.len(),
            Array::F64(v) => v.len(),
            Array::Bool(v) => v.len(),
            Array::String(v) => v.len(),
            Array::Array(v) => v.len(),
        }
    }

    /// Whether it has no elements.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The elements, if they are integers that an `i64` holds.
    fn ints(&self) -> Option<Vec<i64>> {
        fn widened<T: Copy + Into<i64>>(v: &[T]) -> Option<Vec<i64>> {
            Some(v.iter().map(|&i| i.into()).collect())
        }
        match self {
            Array::U8(v) => widened(v),
            Array::I8(v) => widened(v),
            Array::U16(v) => widened(v),
            Array::I16(v) => widened(v),
            Array::U32(v) => widened(v),
            Array::I32(v) => widened(v),
            Array::U64(v) => v.iter().map(|&i| i.try_into().ok()).collect(),
            Array::I64(v) => Some(v.clone()),
            Array::F32(_) | Array::F64(_) | Array::Bool(_) | Array::String(_) | Array::Array(_) => None,
        }
    }
}

/// `count` things of changing size. The vector grows as they turn up, not by what the file promises.
fn each<T>(count: usize, mut one: impl FnMut() -> Result<T>) -> Result<Vec<T>> {
    let mut all = Vec::with_capacity(count.min(1 << 18));
    for _ in 0..count {
        all.push(one()?);
    }
    Ok(all)
}

fn boolean(byte: u8) -> Option<bool> {
    match byte {
        0 => Some(false),
        1 => Some(true),
        _ => None,
    }
}

fn text(bytes: &[u8]) -> String {
    // Nearly always UTF-8, and the strict check is the faster one: vocabularies have 100,000 strings.
    std::str::from_utf8(bytes).map_or_else(|_| String::from_utf8_lossy(bytes).into_owned(), str::to_owned)
}

/// The keys of a file and their values, sorted by key.
///
/// Accessors give `None` for an absent key, and [`Error::Corrupt`] with the file and the key for
/// one of another type. They note which keys they were asked for: [`Metadata::unasked`] has the
/// others, which nobody honours.
#[derive(Debug)]
pub struct Metadata {
    file: String,
    values: BTreeMap<String, Entry>,
}

#[derive(Debug)]
struct Entry {
    value: Value,
    asked: AtomicBool,
}

impl Entry {
    fn asked(&self) -> &Value {
        self.asked.store(true, Ordering::Relaxed);
        &self.value
    }
}

impl Metadata {
    /// Reads `count` pairs.
    pub(super) fn read(cursor: &mut Cursor, count: usize, file: &str) -> Result<Self> {
        let mut values = BTreeMap::new();
        for i in 0..count {
            cursor.place = format!("metadata entry {} of {count}", i + 1);
            let key = cursor.name()?;
            cursor.place = format!("metadata key {key}");
            let kind = cursor.u32()?;
            let value = Value::read(cursor, kind)?;
            if values.insert(key, Entry { value, asked: AtomicBool::new(false) }).is_some() {
                return Err(cursor.corrupt("occurs twice"));
            }
        }
        Ok(Metadata { file: file.to_owned(), values })
    }

    /// The file, for messages.
    pub fn file(&self) -> &str {
        &self.file
    }

    /// All keys and values, sorted by key.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &Value)> {
        self.values.iter().map(|(key, entry)| (key.as_str(), &entry.value))
    }

    /// The keys that begin with `prefix` and that no accessor was asked for, with their values,
    /// sorted by key.
    pub fn unasked(&self, prefix: &str) -> impl Iterator<Item = (&str, &Value)> {
        let below = self.values.range(prefix.to_owned()..).take_while(move |(key, _)| key.starts_with(prefix));
        let unasked = below.filter(|(_, entry)| !entry.asked.load(Ordering::Relaxed));
        unasked.map(|(key, entry)| (key.as_str(), &entry.value))
    }

    /// What a key holds, of whatever type.
    pub fn get(&self, key: &str) -> Option<&Value> {
        self.values.get(key).map(Entry::asked)
    }

    /// The error for a key that has to be there.
    pub fn missing(&self, key: &str) -> Error {
        Error::corrupt(&self.file, format!("key {key} is missing"))
    }

    /// A string.
    pub fn string(&self, key: &str) -> Result<Option<&str>> {
        self.typed(key, "a string", |value| match value {
            Value::String(text) => Some(text.as_str()),
            _ => None,
        })
    }

    /// An integer of any width that is not negative.
    pub fn u64(&self, key: &str) -> Result<Option<u64>> {
        self.typed(key, "an integer, 0 or more", |value| match *value {
            Value::U64(int) => Some(int),
            Value::I64(int) => int.try_into().ok(),
            _ => None,
        })
    }

    /// An integer of any width.
    pub fn i64(&self, key: &str) -> Result<Option<i64>> {
        self.typed(key, "an integer below 2^63", |value| match *value {
            Value::U64(int) => int.try_into().ok(),
            Value::I64(int) => Some(int),
            _ => None,
        })
    }

    /// A float; an integer where one is expected counts as well.
    pub fn f64(&self, key: &str) -> Result<Option<f64>> {
        self.typed(key, "a float", |value| match *value {
            Value::F32(float) => Some(float.into()),
            Value::F64(float) => Some(float),
            Value::U64(int) => Some(int as f64),
            Value::I64(int) => Some(int as f64),
            _ => None,
        })
    }

    /// True or false.
    pub fn bool(&self, key: &str) -> Result<Option<bool>> {
        self.typed(key, "a boolean", |value| match *value {
            Value::Bool(bool) => Some(bool),
            _ => None,
        })
    }

    /// An array of strings.
    pub fn strings(&self, key: &str) -> Result<Option<&[String]>> {
        self.typed(key, "an array of strings", |value| match value {
            Value::Array(Array::String(strings)) => Some(strings.as_slice()),
            _ => None,
        })
    }

    /// An array of integers of any width.
    pub fn ints(&self, key: &str) -> Result<Option<Vec<i64>>> {
        self.typed(key, "an array of integers", |value| match value {
            Value::Array(array) => array.ints(),
            _ => None,
        })
    }

    /// An array of 32-bit floats.
    pub fn f32s(&self, key: &str) -> Result<Option<&[f32]>> {
        self.typed(key, "an array of 32-bit floats", |value| match value {
            Value::Array(Array::F32(floats)) => Some(floats.as_slice()),
            _ => None,
        })
    }

    /// Takes an array of strings out, without a copy: a vocabulary has some 100,000.
    pub fn take_strings(&mut self, key: &str) -> Result<Option<Vec<String>>> {
        self.strings(key)?;
        Ok(match self.values.remove(key) {
            Some(Entry { value: Value::Array(Array::String(strings)), .. }) => Some(strings),
            _ => None,
        })
    }

    fn typed<'a, T: 'a>(&'a self, key: &str, kind: &str, value: impl Fn(&'a Value) -> Option<T>) -> Result<Option<T>> {
        let Some(found) = self.get(key) else { return Ok(None) };
        match value(found) {
            Some(value) => Ok(Some(value)),
            None => {
                let shown = match found {
                    Value::U64(int) => format!("{int}"),
                    Value::I64(int) => format!("{int}"),
                    other => other.kind().to_owned(),
                };
                Err(Error::corrupt(&self.file, format!("key {key} is {shown}, expected {kind}")))
            }
        }
    }
}
