//! The processor's limits with these instructions: `vpdpbusd` and FMA with nothing but registers, and reading with prefetch.
//!
//! The trap is too few chains: a multiplication takes four or five cycles, two start in each, so that fewer than ten
//! accumulators wait for one another and the figure is no limit.

use crate::cpu::buffer::LINE;
use crate::cpu::prefetch::stream;
use std::arch::x86_64::*;
use std::hint::black_box;

/// Accumulators.
const CHAINS: usize = 14;

/// # Safety
/// The CPU has the instructions of this folder.
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx512vnni,fma,f16c")]
pub unsafe fn int8(rounds: usize) -> usize {
    let (u, q) = (black_box(_mm512_set1_epi8(3)), black_box(_mm512_set1_epi8(-2)));
    let mut sums = [black_box(_mm512_setzero_si512()); CHAINS];
    for _ in 0..rounds {
        for sum in &mut sums {
            *sum = _mm512_dpbusd_epi32(*sum, u, q);
        }
    }
    black_box(sums);
    rounds * CHAINS * 2 * LINE
}

/// # Safety
/// The CPU has the instructions of this folder.
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx512vnni,fma,f16c")]
pub unsafe fn f32(rounds: usize) -> usize {
    let (x, y) = (black_box(_mm512_set1_ps(0.5)), black_box(_mm512_set1_ps(1.0)));
    let mut sums = [black_box(_mm512_set1_ps(1.0)); CHAINS];
    for _ in 0..rounds {
        for sum in &mut sums {
            *sum = _mm512_fmadd_ps(*sum, x, y);
        }
    }
    black_box(sums);
    rounds * CHAINS * 2 * super::LANES
}

/// # Safety
/// The CPU has the instructions of this folder.
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx512vnni,fma,f16c")]
pub unsafe fn read(bytes: &[u8]) {
    let mut sums = [_mm512_setzero_si512(); 4];
    for lines in bytes.as_chunks::<{ 4 * LINE }>().0 {
        let at = lines.as_ptr();
        stream(at, 4 * LINE);
        for (i, sum) in sums.iter_mut().enumerate() {
            // SAFETY: the four lines are there.
            *sum = _mm512_xor_si512(*sum, unsafe { _mm512_loadu_si512(at.add(i * LINE).cast()) });
        }
    }
    black_box(sums);
}
