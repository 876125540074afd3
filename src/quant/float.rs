//! Plain float types: one element is one block.

/// IEEE single precision, little-endian.
pub fn f32(bytes: &[u8; 4], out: &mut [f32; 1]) {
    out[0] = f32::from_le_bytes(*bytes);
}

/// IEEE half precision.
pub fn f16(bytes: &[u8; 2], out: &mut [f32; 1]) {
    out[0] = half::f16::from_le_bytes(*bytes).to_f32();
}

/// The upper half of an `f32`.
pub fn bf16(bytes: &[u8; 2], out: &mut [f32; 1]) {
    out[0] = half::bf16::from_le_bytes(*bytes).to_f32();
}
