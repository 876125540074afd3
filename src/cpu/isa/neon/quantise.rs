//! Activations to int8 records, and floats to half precision.

use super::LANES;
use crate::cpu::input::{self, InputRecord};
use crate::cpu::panel::BLOCK;
use half::f16;
use std::arch::aarch64::*;

/// # Safety
/// The CPU has NEON; outputs are empty or hold a record for each block of `x`.
#[target_feature(enable = "neon")]
pub unsafe fn quantise(x: &[f32], wide: &mut [InputRecord], narrow: &mut [InputRecord]) {
    for (index, x) in x.as_chunks::<BLOCK>().0.iter().enumerate() {
        let mut parts = [vdupq_n_f32(0.0); BLOCK / LANES];
        let mut largest = vdupq_n_u32(0);
        for (i, part) in parts.iter_mut().enumerate() {
            // SAFETY: a block has 32 numbers.
            *part = unsafe { vld1q_f32(x.as_ptr().add(i * LANES)) };
            // As integers, so that what is not a number counts as the largest.
            largest = vmaxq_u32(largest, vreinterpretq_u32_f32(vabsq_f32(*part)));
        }
        let (scale, factor) = input::scale(vmaxvq_u32(largest));
        // Rounds to nearest, ties to even; what is not a number becomes 0.
        let q = parts.map(|x| vcvtnq_s32_f32(vmulq_n_f32(x, factor)));
        let mut values = [0i8; BLOCK];
        let mut sums = [0; 2];
        for (half, sum) in sums.iter_mut().enumerate() {
            let [a, b, c, d] = [0, 1, 2, 3].map(|i| q[4 * half + i]);
            *sum = vaddvq_s32(vaddq_s32(vaddq_s32(a, b), vaddq_s32(c, d)));
            let words = (vqmovn_high_s32(vqmovn_s32(a), b), vqmovn_high_s32(vqmovn_s32(c), d));
            let bytes = vqmovn_high_s16(vqmovn_s16(words.0), words.1);
            // SAFETY: a record has 32 values.
            unsafe { vst1q_s8(values.as_mut_ptr().add(half * BLOCK / 2), bytes) };
        }
        let rests = input::rest(scale, sums);
        if let Some(record) = wide.get_mut(index) {
            *record = InputRecord { values, rest: rests.0 };
        }
        if let Some(record) = narrow.get_mut(index) {
            *record = InputRecord { values, rest: rests.1 };
        }
    }
}

/// # Safety
/// The CPU has NEON; the lengths are equal.
#[target_feature(enable = "neon")]
pub unsafe fn to_f16(x: &[f32], out: &mut [f16]) {
    let (x, x_tail) = x.as_chunks::<LANES>();
    let (out, out_tail) = out.as_chunks_mut::<LANES>();
    for (x, out) in x.iter().zip(out) {
        // SAFETY: a chunk has four numbers, and `f16` is its 16 bits.
        unsafe {
            let halves = vcvt_f16_f32(vld1q_f32(x.as_ptr()));
            vst1_u16(out.as_mut_ptr().cast(), vreinterpret_u16_f16(halves));
        }
    }
    out_tail.iter_mut().zip(x_tail).for_each(|(out, x)| *out = f16::from_f32(*x));
}
