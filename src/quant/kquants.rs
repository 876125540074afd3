//! The "k-quants": super-blocks of 256 elements, whose groups of 16 or 32 have small integer scales of their own.
//!
//! `x = (d * scale) * q - (dmin * min)`, with the products of scales rounded to `f32` first: that order is what makes the
//! values bit-equal to other readers. Bits of neighbouring elements do not lie together: a run of 32 bytes holds the low
//! two bits of four groups of 32 elements, one group in each bit pair, and so on. Source: `ggml-quants.c` and
//! `ggml-common.h` of llama.cpp.

use super::scale;

/// Elements in a super-block.
const N: usize = 256;

/// `scale and min nibbles: [u8; 16], q: [u8; 64], d: f16, dmin: f16`; 16 groups of 16.
pub fn q2_k(block: &[u8; 84], out: &mut [f32; N]) {
    let (scales, q) = (&block[..16], &block[16..80]);
    let (d, dmin) = (scale(block, 80), scale(block, 82));
    for (group, out) in out.as_chunks_mut::<16>().0.iter_mut().enumerate() {
        let d = d * f32::from(scales[group] & 15);
        let m = dmin * f32::from(scales[group] >> 4);
        let (start, shift) = pairs(group);
        for (out, &q) in out.iter_mut().zip(&q[start..]) {
            *out = d * f32::from(q >> shift & 3) - m;
        }
    }
}

/// `inverted third bits: [u8; 32], q: [u8; 64], six-bit scales: [u8; 12], d: f16`; 16 groups of 16.
pub fn q3_k(block: &[u8; 110], out: &mut [f32; N]) {
    let (high, q) = (&block[..32], &block[32..96]);
    let d = scale(block, 108);
    let scales = q3_k_scales(&block[96..108]);
    for (group, out) in out.as_chunks_mut::<16>().0.iter_mut().enumerate() {
        let d = d * f32::from(scales[group]);
        let (start, shift) = pairs(group);
        let high = &high[start % 32..];
        for (i, out) in out.iter_mut().enumerate() {
            // A clear third bit means minus four.
            let low = (q[start + i] >> shift & 3) as i8;
            let bit = (high[i] >> (group / 2) & 1) as i8;
            *out = d * f32::from(low - 4 * (1 - bit));
        }
    }
}

/// `d: f16, dmin: f16, six-bit scales and mins: [u8; 12], q: [u8; 128]`; 8 groups of 32.
pub fn q4_k(block: &[u8; 144], out: &mut [f32; N]) {
    let (d, dmin) = (scale(block, 0), scale(block, 2));
    let (scales, mins) = scales_and_mins(&block[4..16]);
    let q = &block[16..];
    for (group, out) in out.as_chunks_mut::<32>().0.iter_mut().enumerate() {
        let d = d * f32::from(scales[group]);
        let m = dmin * f32::from(mins[group]);
        for (out, &q) in out.iter_mut().zip(&q[group / 2 * 32..]) {
            *out = d * f32::from(q >> (group % 2 * 4) & 15) - m;
        }
    }
}

/// `d: f16, dmin: f16, six-bit scales and mins: [u8; 12], fifth bits: [u8; 32], q: [u8; 128]`; 8 groups of 32.
pub fn q5_k(block: &[u8; 176], out: &mut [f32; N]) {
    let (d, dmin) = (scale(block, 0), scale(block, 2));
    let (scales, mins) = scales_and_mins(&block[4..16]);
    let (high, q) = (&block[16..48], &block[48..]);
    for (group, out) in out.as_chunks_mut::<32>().0.iter_mut().enumerate() {
        let d = d * f32::from(scales[group]);
        let m = dmin * f32::from(mins[group]);
        for (i, out) in out.iter_mut().enumerate() {
            let low = q[group / 2 * 32 + i] >> (group % 2 * 4) & 15;
            let bit = high[i] >> group & 1;
            *out = d * f32::from(low | bit << 4) - m;
        }
    }
}

/// `low nibbles: [u8; 128], high pairs: [u8; 64], scales: [i8; 16], d: f16`; 16 groups of 16; `x = (d * scale) * (q - 32)`.
pub fn q6_k(block: &[u8; 210], out: &mut [f32; N]) {
    let (low, high, scales) = (&block[..128], &block[128..192], &block[192..208]);
    let d = scale(block, 208);
    for (group, out) in out.as_chunks_mut::<16>().0.iter_mut().enumerate() {
        let d = d * f32::from(scales[group] as i8);
        // Two halves of 128 elements, each in four runs of 32: low nibbles of 64 bytes, then their high nibbles.
        let (half, run, start) = (group / 8, group / 2 % 4, group % 2 * 16);
        let low = &low[half * 64 + run % 2 * 32 + start..];
        let high = &high[half * 32 + start..];
        for (i, out) in out.iter_mut().enumerate() {
            let q = (low[i] >> (run / 2 * 4) & 15) | (high[i] >> (run * 2) & 3) << 4;
            *out = d * f32::from(q as i8 - 32);
        }
    }
}

/// Where a group of 16 finds its low two bits: the first byte, and how far to shift.
fn pairs(group: usize) -> (usize, usize) {
    (group / 8 * 32 + group % 2 * 16, group / 2 % 4 * 2)
}

/// Q3_K's sixteen scales: low nibbles in the first eight bytes, high pairs in the last four, zero point 32.
fn q3_k_scales(bytes: &[u8]) -> [i8; 16] {
    std::array::from_fn(|i| {
        let low = bytes[i % 8] >> (i / 8 * 4) & 15;
        let high = bytes[8 + i % 4] >> (i / 4 * 2) & 3;
        (low | high << 4) as i8 - 32
    })
}

/// The eight six-bit scales and mins of Q4_K and Q5_K, from their twelve bytes.
///
/// Bytes 0 to 3 hold the first four scales in their low six bits, bytes 4 to 7 the first four mins. The last four of each
/// have their low nibbles in bytes 8 to 11 (scales low, mins high), and their high pairs in the top bits of bytes 0 to 7.
pub fn scales_and_mins(bytes: &[u8]) -> ([u8; 8], [u8; 8]) {
    let (mut scales, mut mins) = ([0; 8], [0; 8]);
    for i in 0..4 {
        scales[i] = bytes[i] & 63;
        mins[i] = bytes[i + 4] & 63;
        scales[i + 4] = bytes[i + 8] & 15 | bytes[i] >> 6 << 4;
        mins[i + 4] = bytes[i + 8] >> 4 | bytes[i + 4] >> 6 << 4;
    }
    (scales, mins)
}
