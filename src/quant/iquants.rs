//! The "i-quants" of four bits: nibbles that index a table of 16 values, spaced closer around zero, where most weights lie.
//!
//! Source: `ggml-quants.c` and `ggml-common.h` of llama.cpp (`kvalues_iq4nl`).

use super::scale;

/// What a nibble means, before its scale.
pub const CODES: [i8; 16] = [-127, -104, -83, -65, -49, -35, -22, -10, 1, 13, 25, 38, 53, 69, 89, 113];

/// `d: f16, q: [u8; 16]`, nibbles as in Q4_0; `x = d * CODES[q]`.
pub fn iq4_nl(block: &[u8; 18], out: &mut [f32; 32]) {
    let d = scale(block, 0);
    coded(d, &block[2..], out);
}

/// `d: f16, high pairs of scales: u16, low nibbles of scales: [u8; 4], q: [u8; 128]`; 8 groups of 32;
/// `x = (d * (scale - 32)) * CODES[q]`.
pub fn iq4_xs(block: &[u8; 136], out: &mut [f32; 256]) {
    let d = scale(block, 0);
    let scales = iq4_xs_scales(&block[2..8]);
    for (group, out) in out.as_chunks_mut::<32>().0.iter_mut().enumerate() {
        coded(d * f32::from(scales[group]), &block[8 + 16 * group..][..16], out);
    }
}

/// IQ4_XS's eight scales less 32: the high pairs in a 16-bit word, then the low nibbles in four bytes.
pub fn iq4_xs_scales(bytes: &[u8]) -> [i8; 8] {
    let high = u16::from_le_bytes([bytes[0], bytes[1]]);
    std::array::from_fn(|i| {
        let low = bytes[2 + i / 2] >> (i % 2 * 4) & 15;
        (low | ((high >> (2 * i) & 3) << 4) as u8) as i8 - 32
    })
}

fn coded(d: f32, bytes: &[u8], out: &mut [f32; 32]) {
    for (i, &byte) in bytes.iter().enumerate() {
        out[i] = d * f32::from(CODES[usize::from(byte & 15)]);
        out[i + 16] = d * f32::from(CODES[usize::from(byte >> 4)]);
    }
}
