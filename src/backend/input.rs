//! What a text is made of: tokens, and rows of numbers such as the patches of an image.
//!
//! Inputs have an identity, because a cache is used again where two texts begin with the same inputs. A token is its id; a
//! row is its numbers, so two images share a cached prefix only as far as their rows are the same bits.

use std::hash::{Hash, Hasher};
use std::sync::Arc;

/// One position of a text.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Input {
    /// A token of the vocabulary.
    Token(u32),
    /// Numbers in the place of a token's embedding.
    Row(InputRow),
}

impl Input {
    /// The token, if it is one.
    pub fn token(&self) -> Option<u32> {
        match self {
            Input::Token(token) => Some(*token),
            Input::Row(_) => None,
        }
    }
}

/// A row of `dim` numbers that the first block reads in the place of a token's embedding. The factor by which a model scales
/// embeddings is not applied; learned positions are added. Clones share their numbers.
#[derive(Clone)]
pub struct InputRow(Arc<Content>);

struct Content {
    hash: u64,
    values: Box<[f32]>,
}

impl InputRow {
    /// A row of these numbers.
    pub fn new(values: impl Into<Box<[f32]>>) -> InputRow {
        let values = values.into();
        // FNV-1a: the same on every machine.
        let hash = values.iter().fold(0xcbf2_9ce4_8422_2325_u64, |hash, value| {
            value.to_le_bytes().iter().fold(hash, |hash, byte| (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3))
        });
        InputRow(Arc::new(Content { hash, values }))
    }

    /// The numbers.
    pub fn values(&self) -> &[f32] {
        &self.0.values
    }

    /// A hash of the numbers' bits.
    pub fn content_hash(&self) -> u64 {
        self.0.hash
    }
}

impl PartialEq for InputRow {
    /// Whether the numbers are the same bits. The hash only makes the usual answer fast.
    fn eq(&self, other: &InputRow) -> bool {
        let (a, b) = (&*self.0, &*other.0);
        let same = |(a, b): (&f32, &f32)| a.to_bits() == b.to_bits();
        Arc::ptr_eq(&self.0, &other.0)
            || a.hash == b.hash && a.values.len() == b.values.len() && a.values.iter().zip(&b.values).all(same)
    }
}

impl Eq for InputRow {}

impl Hash for InputRow {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.0.hash.hash(state);
    }
}

impl std::fmt::Debug for InputRow {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "InputRow({} numbers, {:016x})", self.0.values.len(), self.0.hash)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_are_the_same_if_their_bits_are_whatever_their_hashes_say() {
        let row = |values: &[f32]| InputRow::new(values);
        assert_eq!(row(&[1.0, 2.0]), row(&[1.0, 2.0]));
        assert_eq!(row(&[f32::NAN]), row(&[f32::NAN]));
        assert_ne!(row(&[0.0]), row(&[-0.0]));
        assert_ne!(row(&[1.0, 2.0]), row(&[2.0, 1.0]));
        let forged = InputRow(Arc::new(Content { hash: row(&[1.0]).content_hash(), values: [3.0].into() }));
        assert_ne!(row(&[1.0]), forged);
    }
}
