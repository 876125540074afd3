//! The processor's limits with these instructions: what a product is made of with nothing but registers, and reading with
//! prefetch.

use super::{LANES, dot};
use crate::cpu::buffer::LINE;
use crate::cpu::prefetch::stream;
use std::arch::aarch64::*;
use std::hint::black_box;

/// Accumulators: 32 registers hold them and the operands.
const CHAINS: usize = 24;

/// # Safety
/// The CPU has dot products if `DOT`.
#[target_feature(enable = "neon")]
pub unsafe fn int8<const DOT: bool>(rounds: usize) -> usize {
    let (weights, x) = (black_box(vdupq_n_s8(3)), black_box(vdupq_n_s8(-2)));
    let mut sums = [black_box(vdupq_n_s32(1)); CHAINS];
    for _ in 0..rounds {
        for sum in &mut sums {
            // SAFETY: `DOTPROD` alone has `DOT`, where `has_dotprod` found the instructions.
            *sum = unsafe { dot::<DOT, 0>(*sum, weights, x) };
        }
    }
    black_box(sums);
    rounds * CHAINS * 2 * 16
}

/// # Safety
/// The CPU has NEON.
#[target_feature(enable = "neon")]
pub unsafe fn f32(rounds: usize) -> usize {
    let (x, y) = (black_box(vdupq_n_f32(0.5)), black_box(vdupq_n_f32(1.0)));
    let mut sums = [black_box(vdupq_n_f32(1.0)); CHAINS];
    for _ in 0..rounds {
        for sum in &mut sums {
            *sum = vfmaq_f32(*sum, x, y);
        }
    }
    black_box(sums);
    rounds * CHAINS * 2 * LANES
}

/// # Safety
/// The CPU has NEON.
#[target_feature(enable = "neon")]
pub unsafe fn read(bytes: &[u8]) {
    let mut sums = [vdupq_n_u8(0); 8];
    for lines in bytes.as_chunks::<{ 2 * LINE }>().0 {
        let at = lines.as_ptr();
        stream(at, 2 * LINE);
        for (i, sum) in sums.iter_mut().enumerate() {
            // SAFETY: the two lines are there.
            *sum = veorq_u8(*sum, unsafe { vld1q_u8(at.add(i * 16)) });
        }
    }
    black_box(sums);
}
