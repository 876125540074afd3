//! The block formats of 32 elements: a scale `d`, in the `_1` formats a minimum `m`, and 4, 5 or 8 bits an element.
//!
//! Element i of the first half is in the low nibble of byte i, element i of the second half in the high nibble. Formats
//! without a minimum store quants with a zero point in the middle of their range. The fifth bits lie together in one
//! 32-bit word, bit i for element i. Source: `ggml-quants.c` and `ggml-common.h` of llama.cpp.

use super::scale;

/// Elements in a block.
const N: usize = 32;
const HALF: usize = N / 2;

/// `d: f16, q: [u8; 16]`; `x = d * (q - 8)`.
pub fn q4_0(block: &[u8; 18], out: &mut [f32; N]) {
    let d = scale(block, 0);
    nibbles(&block[2..], |i, q| out[i] = d * (f32::from(q) - 8.0));
}

/// `d: f16, m: f16, q: [u8; 16]`; `x = d * q + m`.
pub fn q4_1(block: &[u8; 20], out: &mut [f32; N]) {
    let (d, m) = (scale(block, 0), scale(block, 2));
    nibbles(&block[4..], |i, q| out[i] = d * f32::from(q) + m);
}

/// `d: f16, fifth bits: u32, q: [u8; 16]`; `x = d * (q - 16)`.
pub fn q5_0(block: &[u8; 22], out: &mut [f32; N]) {
    let d = scale(block, 0);
    let fifth = word(block, 2);
    nibbles(&block[6..], |i, q| out[i] = d * (f32::from(q | fifth_bit(fifth, i)) - 16.0));
}

/// `d: f16, m: f16, fifth bits: u32, q: [u8; 16]`; `x = d * q + m`.
pub fn q5_1(block: &[u8; 24], out: &mut [f32; N]) {
    let (d, m) = (scale(block, 0), scale(block, 2));
    let fifth = word(block, 4);
    nibbles(&block[8..], |i, q| out[i] = d * f32::from(q | fifth_bit(fifth, i)) + m);
}

/// `d: f16, q: [i8; 32]`; `x = d * q`.
pub fn q8_0(block: &[u8; 34], out: &mut [f32; N]) {
    let d = scale(block, 0);
    for (out, &q) in out.iter_mut().zip(&block[2..]) {
        *out = d * f32::from(q as i8);
    }
}

/// Appends `values`, whole blocks, as Q8_0: the scale is the largest magnitude over 127, quants are rounded to nearest, ties
/// away from zero, as in llama.cpp. The remainder that makes no block is left out.
pub fn quantise_q8_0(values: &[f32], out: &mut Vec<u8>) {
    for block in values.as_chunks::<N>().0 {
        let largest = block.iter().fold(0.0f32, |max, x| max.max(x.abs()));
        let scale = (largest / 127.0).min(half::f16::MAX.to_f32());
        let inverse = if scale > 0.0 { 1.0 / scale } else { 0.0 };
        out.extend(half::f16::from_f32(scale).to_le_bytes());
        out.extend(block.map(|x| (x * inverse).round() as i8 as u8));
    }
}

/// Calls `each` with every element's index and four bits.
fn nibbles(bytes: &[u8], mut each: impl FnMut(usize, u8)) {
    for (i, &byte) in bytes.iter().enumerate() {
        each(i, byte & 15);
        each(i + HALF, byte >> 4);
    }
}

fn word(block: &[u8], at: usize) -> u32 {
    u32::from_le_bytes([block[at], block[at + 1], block[at + 2], block[at + 3]])
}

/// Element i's fifth bit, in its place above the other four.
fn fifth_bit(bits: u32, i: usize) -> u8 {
    ((bits >> i & 1) << 4) as u8
}
