//! Element types of stored tensors, and the block formats' way from bytes to `f32`.
//!
//! One file per format family, one row in [`Dtype`]'s table each. No candle and no `unsafe` here: these are the definitions
//! that the kernels are tested against.

mod finite;
mod float;
pub(crate) mod iquants;
pub(crate) mod kquants;
mod legacy;

use crate::error::{Error, Result};
pub use finite::first_non_finite;
pub use legacy::quantise_q8_0;

/// How the elements of a stored tensor are encoded. Names are GGUF's.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[allow(non_camel_case_types, missing_docs)]
pub enum Dtype {
    F32,
    F16,
    BF16,
    Q4_0,
    Q4_1,
    Q5_0,
    Q5_1,
    Q8_0,
    Q2_K,
    Q3_K,
    Q4_K,
    Q5_K,
    Q6_K,
    IQ4_NL,
    IQ4_XS,
}

/// (type, name, id in GGUF files, elements in a block, bytes in a block)
const TABLE: [(Dtype, &str, u32, usize, usize); 15] = [
    (Dtype::F32, "F32", 0, 1, 4),
    (Dtype::F16, "F16", 1, 1, 2),
    (Dtype::BF16, "BF16", 30, 1, 2),
    (Dtype::Q4_0, "Q4_0", 2, 32, 18),
    (Dtype::Q4_1, "Q4_1", 3, 32, 20),
    (Dtype::Q5_0, "Q5_0", 6, 32, 22),
    (Dtype::Q5_1, "Q5_1", 7, 32, 24),
    (Dtype::Q8_0, "Q8_0", 8, 32, 34),
    (Dtype::Q2_K, "Q2_K", 10, 256, 84),
    (Dtype::Q3_K, "Q3_K", 11, 256, 110),
    (Dtype::Q4_K, "Q4_K", 12, 256, 144),
    (Dtype::Q5_K, "Q5_K", 13, 256, 176),
    (Dtype::Q6_K, "Q6_K", 14, 256, 210),
    (Dtype::IQ4_NL, "IQ4_NL", 20, 32, 18),
    (Dtype::IQ4_XS, "IQ4_XS", 23, 256, 136),
];

impl Dtype {
    /// Every type, in the table's order.
    pub fn all() -> impl Iterator<Item = Dtype> {
        TABLE.iter().map(|row| row.0)
    }

    fn row(self) -> &'static (Dtype, &'static str, u32, usize, usize) {
        &TABLE[self as usize]
    }

    /// The type with this id in a GGUF file.
    pub fn from_ggml(id: u32) -> Option<Dtype> {
        TABLE.iter().find(|row| row.2 == id).map(|row| row.0)
    }

    /// The name that GGUF tools use: `Q4_K`, `F16`.
    pub fn name(self) -> &'static str {
        self.row().1
    }

    /// Elements in a block; 1 for float types.
    pub fn block(self) -> usize {
        self.row().3
    }

    /// Bytes in a block.
    pub fn block_bytes(self) -> usize {
        self.row().4
    }

    /// Whether elements share a scale, so that only whole blocks can be read.
    pub fn is_quantised(self) -> bool {
        self.block() > 1
    }

    /// Bytes of `elements` elements; `None` if they are no whole number of blocks, or too many to count.
    pub fn bytes(self, elements: usize) -> Option<usize> {
        if !elements.is_multiple_of(self.block()) {
            return None;
        }
        (elements / self.block()).checked_mul(self.block_bytes())
    }
}

impl std::fmt::Display for Dtype {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.pad(self.name())
    }
}

/// By its name, in any case.
impl std::str::FromStr for Dtype {
    type Err = Error;

    fn from_str(name: &str) -> Result<Dtype> {
        let found = TABLE.iter().find(|row| row.1.eq_ignore_ascii_case(name));
        found.map(|row| row.0).ok_or_else(|| {
            let names: Vec<_> = TABLE.iter().map(|row| row.1).collect();
            Error::unsupported(format!("the element type {name:?}"), names.join(", "))
        })
    }
}

/// Writes the values of `bytes`, whole blocks of `dtype`, to `out`: bit for bit what the `gguf` package's `dequantize` gives.
///
/// # Panics
///
/// When `bytes` is not exactly as long as `out.len()` elements of `dtype` are. Readers check lengths against the file.
pub fn dequantise(dtype: Dtype, bytes: &[u8], out: &mut [f32]) {
    assert_eq!(Some(bytes.len()), dtype.bytes(out.len()), "{dtype}: bytes for {} elements", out.len());
    match dtype {
        Dtype::F32 => blocks(bytes, out, float::f32),
        Dtype::F16 => blocks(bytes, out, float::f16),
        Dtype::BF16 => blocks(bytes, out, float::bf16),
        Dtype::Q4_0 => blocks(bytes, out, legacy::q4_0),
        Dtype::Q4_1 => blocks(bytes, out, legacy::q4_1),
        Dtype::Q5_0 => blocks(bytes, out, legacy::q5_0),
        Dtype::Q5_1 => blocks(bytes, out, legacy::q5_1),
        Dtype::Q8_0 => blocks(bytes, out, legacy::q8_0),
        Dtype::Q2_K => blocks(bytes, out, kquants::q2_k),
        Dtype::Q3_K => blocks(bytes, out, kquants::q3_k),
        Dtype::Q4_K => blocks(bytes, out, kquants::q4_k),
        Dtype::Q5_K => blocks(bytes, out, kquants::q5_k),
        Dtype::Q6_K => blocks(bytes, out, kquants::q6_k),
        Dtype::IQ4_NL => blocks(bytes, out, iquants::iq4_nl),
        Dtype::IQ4_XS => blocks(bytes, out, iquants::iq4_xs),
    }
}

/// Calls `block` for each block of `B` bytes and its `N` elements.
fn blocks<const B: usize, const N: usize>(bytes: &[u8], out: &mut [f32], block: impl Fn(&[u8; B], &mut [f32; N])) {
    for (bytes, out) in bytes.as_chunks().0.iter().zip(out.as_chunks_mut().0) {
        block(bytes, out);
    }
}

/// The little-endian f16 at `at`: a block's scale or minimum.
fn scale(block: &[u8], at: usize) -> f32 {
    half::f16::from_le_bytes([block[at], block[at + 1]]).to_f32()
}

#[cfg(test)]
mod tests {
    use super::*;
    use safetensors::SafeTensors;

    #[test]
    fn every_type_decodes_bit_equal_to_the_gguf_package() {
        let file = std::fs::read(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/golden/blocks/blocks.safetensors")).unwrap();
        let golden = SafeTensors::deserialize(&file).unwrap();
        for dtype in Dtype::all() {
            let bytes = golden.tensor(&format!("{dtype}.bytes")).unwrap();
            let values = golden.tensor(&format!("{dtype}.values")).unwrap();
            let expected: Vec<u32> = values.data().as_chunks().0.iter().map(|b| u32::from_le_bytes(*b)).collect();
            assert!(expected.len() >= 8 * dtype.block(), "{dtype}: too few blocks to mean anything");
            let mut got = vec![f32::NAN; expected.len()];
            dequantise(dtype, bytes.data(), &mut got);
            for (i, (got, expected)) in got.iter().zip(expected).enumerate() {
                assert_eq!(got.to_bits(), expected, "{dtype} element {i}: {got} instead of {}", f32::from_bits(expected));
            }
        }
    }

    #[test]
    fn q8_0_is_quantised_to_the_bytes_of_the_gguf_package() {
        // Values that are whole multiples of a scale come back as they were, and their bytes too.
        let mut values: Vec<f32> = (0..32).map(|i| (i as f32 * 8.0 - 124.0) * 0.5).collect();
        values[0] = -63.5;
        let mut bytes = Vec::new();
        quantise_q8_0(&values, &mut bytes);
        assert_eq!(bytes[..2], half::f16::from_f32(0.5).to_le_bytes());
        let mut back = [0.0; 32];
        dequantise(Dtype::Q8_0, &bytes, &mut back);
        assert_eq!(back.as_slice(), values);
        // Half-way values go away from zero, and a block of zeros has a scale of zero.
        let mut halves = [0.0; 64];
        (halves[0], halves[1], halves[2]) = (127.0, 0.5, -1.5);
        bytes.clear();
        quantise_q8_0(&halves, &mut bytes);
        assert_eq!(bytes[2..5], [127, 1, (-2i8) as u8]);
        assert!(bytes[34..].iter().all(|byte| *byte == 0));
        // A scale beyond f16 would be infinite.
        bytes.clear();
        quantise_q8_0(&[f32::MAX; 32], &mut bytes);
        assert_eq!(first_non_finite(Dtype::Q8_0, &bytes), None);
    }

    #[test]
    fn the_table_lists_types_in_their_order() {
        for (i, dtype) in Dtype::all().enumerate() {
            assert_eq!(dtype as usize, i);
            assert_eq!(dtype.row().0, dtype);
            assert_eq!(Dtype::from_ggml(dtype.row().2), Some(dtype));
        }
    }

    #[test]
    fn bytes_counts_whole_blocks_only() {
        assert_eq!(Dtype::Q4_K.bytes(512), Some(288));
        assert_eq!(Dtype::Q4_K.bytes(128), None);
        assert_eq!(Dtype::F32.bytes(3), Some(12));
        assert_eq!(Dtype::F32.bytes(usize::MAX / 2), None);
    }

    #[test]
    #[should_panic(expected = "Q8_0: bytes for 32 elements")]
    fn dequantise_refuses_lengths_that_disagree() {
        dequantise(Dtype::Q8_0, &[0; 33], &mut [0.0; 32]);
    }
}
