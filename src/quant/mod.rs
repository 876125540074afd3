//! Element types of stored tensors, and the block formats' way from bytes to `f32`.
//!
//! One file per format family, one row in [`Dtype`]'s table each. No candle and no `unsafe` here: these are the definitions
//! that the kernels are tested against.

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
}

/// (type, name, id in GGUF files, elements in a block, bytes in a block)
const TABLE: [(Dtype, &str, u32, usize, usize); 13] = [
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
        if elements % self.block() != 0 {
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
