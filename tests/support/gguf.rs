//! GGUF files with other keys: a real file, taken apart, changed and put together again.

use std::path::Path;

/// What a key is set to.
#[derive(Debug, Clone, Copy)]
pub enum Value<'a> {
    Int(u32),
    Float(f32),
    Bool(bool),
    Text(&'a str),
    Ints(&'a [i32]),
    Bools(&'a [bool]),
}

/// The pairs of a file by key, and the rest of it as it is.
#[derive(Clone)]
pub struct Edited {
    pairs: Vec<(String, Vec<u8>)>,
    tensors: Vec<u8>,
    count: u64,
    data: Vec<u8>,
}

/// A place in the bytes of a header.
struct Reader<'a>(&'a [u8]);

impl Reader<'_> {
    fn take(&mut self, len: usize) -> Vec<u8> {
        let (head, tail) = self.0.split_at(len);
        self.0 = tail;
        head.to_vec()
    }

    fn u32(&mut self) -> u32 {
        u32::from_le_bytes(self.take(4).try_into().unwrap())
    }

    fn u64(&mut self) -> u64 {
        u64::from_le_bytes(self.take(8).try_into().unwrap())
    }

    fn text(&mut self) -> String {
        let len = self.u64() as usize;
        String::from_utf8(self.take(len)).unwrap()
    }

    /// Passes over a value of the type with this number.
    fn pass(&mut self, kind: u32) {
        match kind {
            0 | 1 | 7 => drop(self.take(1)),
            2 | 3 => drop(self.take(2)),
            4..=6 => drop(self.take(4)),
            10..=12 => drop(self.take(8)),
            8 => {
                let len = self.u64() as usize;
                self.take(len);
            }
            9 => {
                let (kind, count) = (self.u32(), self.u64());
                (0..count).for_each(|_| self.pass(kind));
            }
            _ => panic!("a value of the type {kind}"),
        }
    }
}

fn text(text: &str) -> Vec<u8> {
    [&(text.len() as u64).to_le_bytes(), text.as_bytes()].concat()
}

impl Value<'_> {
    fn bytes(&self) -> Vec<u8> {
        let array = |kind: u32, count: usize, elements: Vec<u8>| {
            [&9u32.to_le_bytes()[..], &kind.to_le_bytes(), &(count as u64).to_le_bytes(), &elements].concat()
        };
        match self {
            Value::Int(n) => [4u32.to_le_bytes(), n.to_le_bytes()].concat(),
            Value::Float(x) => [6u32.to_le_bytes(), x.to_le_bytes()].concat(),
            Value::Bool(on) => [&7u32.to_le_bytes()[..], &[u8::from(*on)]].concat(),
            Value::Text(string) => [&8u32.to_le_bytes()[..], &text(string)].concat(),
            Value::Ints(list) => array(5, list.len(), list.iter().flat_map(|n| n.to_le_bytes()).collect()),
            Value::Bools(list) => array(7, list.len(), list.iter().map(|on| u8::from(*on)).collect()),
        }
    }
}

impl Edited {
    /// Takes the file at `path` apart.
    pub fn read(path: impl AsRef<Path>) -> Edited {
        let bytes = std::fs::read(path).unwrap();
        let mut reader = Reader(&bytes);
        assert_eq!((reader.take(4), reader.u32()), (b"GGUF".to_vec(), 3));
        let (count, pairs) = (reader.u64(), reader.u64());
        let pairs = (0..pairs).map(|_| {
            let key = reader.text();
            let start = reader.0;
            let kind = reader.u32();
            reader.pass(kind);
            (key, start[..start.len() - reader.0.len()].to_vec())
        });
        let pairs = pairs.collect();
        let start = reader.0;
        for _ in 0..count {
            reader.text();
            let dims = reader.u32() as usize;
            reader.take(8 * dims + 4 + 8);
        }
        let tensors = start[..start.len() - reader.0.len()].to_vec();
        let header = bytes.len() - reader.0.len();
        Edited { pairs, tensors, count, data: bytes[header.next_multiple_of(32)..].to_vec() }
    }

    /// `general.architecture`.
    pub fn family(&self) -> String {
        let pair = self.pairs.iter().find(|pair| pair.0 == "general.architecture").unwrap();
        String::from_utf8(pair.1[12..].to_vec()).unwrap()
    }

    /// The same file as one of another architecture.
    pub fn of_family(mut self, family: &str) -> Edited {
        let old = format!("{}.", self.family());
        for (key, _) in &mut self.pairs {
            if let Some(name) = key.strip_prefix(&old) {
                *key = format!("{family}.{name}");
            }
        }
        self.set("general.architecture", Value::Text(family))
    }

    /// The same with `key` at `value`, whether or not it was there.
    pub fn set(self, key: &str, value: Value) -> Edited {
        let mut edited = self.without(key);
        edited.pairs.push((key.to_owned(), value.bytes()));
        edited
    }

    /// The same with a key below the architecture's name at `value`.
    pub fn with(self, name: &str, value: Value) -> Edited {
        let key = format!("{}.{name}", self.family());
        self.set(&key, value)
    }

    /// The same without `key`.
    pub fn without(mut self, key: &str) -> Edited {
        self.pairs.retain(|pair| pair.0 != key);
        self
    }

    /// The file's bytes.
    pub fn bytes(&self) -> Vec<u8> {
        let mut bytes = b"GGUF".to_vec();
        bytes.extend(3u32.to_le_bytes());
        bytes.extend(self.count.to_le_bytes());
        bytes.extend((self.pairs.len() as u64).to_le_bytes());
        for (key, value) in &self.pairs {
            bytes.extend(text(key));
            bytes.extend(value);
        }
        bytes.extend(&self.tensors);
        bytes.resize(bytes.len().next_multiple_of(32), 0);
        bytes.extend(&self.data);
        bytes
    }
}
