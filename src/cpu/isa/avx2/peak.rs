//! The processor's limits with these instructions: what a product is made of with nothing but registers, and reading with
//! prefetch.
//!
//! An int8 product is a `vpdpbusd` or, without AVX-VNNI, a `vpmaddubsw` and a sum in 16 bits, over and over: that is what counts as the limit.

use super::dot;
use crate::cpu::buffer::LINE;
use crate::cpu::prefetch::stream;
use std::arch::x86_64::*;
use std::hint::black_box;

/// Accumulators: 16 registers hold them and the operands.
const CHAINS: usize = 12;

/// # Safety
/// The CPU has the instructions of this folder, and AVX-VNNI if `VNNI`.
#[target_feature(enable = "avx2,fma,f16c")]
pub unsafe fn int8<const VNNI: bool>(rounds: usize) -> usize {
    let q = black_box(_mm256_set1_epi8(-2));
    let mut words = [black_box(_mm256_set1_epi8(1)); CHAINS];
    for _ in 0..rounds {
        for word in &mut words {
            *word = if VNNI {
                // SAFETY: the set `VNNI` alone has this, where `has_vnni` found the instructions.
                unsafe { dot(*word, q, q) }
            } else {
                _mm256_add_epi16(*word, _mm256_maddubs_epi16(*word, q))
            };
        }
    }
    black_box(words);
    rounds * CHAINS * 2 * 32
}

/// # Safety
/// The CPU has the instructions of this folder.
#[target_feature(enable = "avx2,fma,f16c")]
pub unsafe fn f32(rounds: usize) -> usize {
    let (x, y) = (black_box(_mm256_set1_ps(0.5)), black_box(_mm256_set1_ps(1.0)));
    let mut sums = [black_box(_mm256_set1_ps(1.0)); CHAINS];
    for _ in 0..rounds {
        for sum in &mut sums {
            *sum = _mm256_fmadd_ps(*sum, x, y);
        }
    }
    black_box(sums);
    rounds * CHAINS * 2 * super::LANES
}

/// # Safety
/// The CPU has the instructions of this folder.
#[target_feature(enable = "avx2,fma,f16c")]
pub unsafe fn read(bytes: &[u8]) {
    let mut sums = [_mm256_setzero_si256(); 4];
    for lines in bytes.as_chunks::<{ 2 * LINE }>().0 {
        let at = lines.as_ptr();
        stream(at, 2 * LINE);
        for (i, sum) in sums.iter_mut().enumerate() {
            // SAFETY: the two lines are there.
            *sum = _mm256_xor_si256(*sum, unsafe { _mm256_loadu_si256(at.add(i * 32).cast()) });
        }
    }
    black_box(sums);
}
