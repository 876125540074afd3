//! AVX-512 with VNNI: F, BW, DQ, VL and VNNI, as every server core since Cascade Lake and Zen 4 has; no VBMI, no GFNI.
//!
//! Nor AMX. Its matrix unit was tried on a Xeon that has it. Quantised: 32 columns are multiplied in a quarter of the time, but their sums go through memory
//! to be scaled, and the unit shares a port with what scales them: no faster than `vpdpbusd`, in Q6_K slower. Floats, as sums of products of bfloat16
//! parts: prompts in bf16 1.4 times as fast, f32 embeddings 1.1 times, but decoding at 0.7, which must go the same way for the same bits.

mod attention;
mod element;
mod float;
mod peak;
mod product;
mod quantise;

use crate::cpu::peak::Peak;
use crate::cpu::{Kernels, math};
use std::arch::x86_64::*;

pub static KERNELS: Kernels = Kernels {
    name: "avx512",
    quantise: quantise::quantise,
    panels: product::panels,
    floats: float::floats,
    to_f16: quantise::to_f16,
    scores: attention::scores,
    softmax: attention::softmax,
    weigh: attention::weigh,
    rms_norm: element::rms_norm,
    layer_norm: element::layer_norm,
    add: element::add,
    rope: element::rope,
    activate: element::activate,
    gated: element::gated,
    peak: Peak { int8: peak::int8, f32: peak::f32, read: peak::read },
};

/// Whether this CPU has all that the functions here are compiled for.
pub fn available() -> bool {
    is_x86_feature_detected!("avx512f")
        && is_x86_feature_detected!("avx512bw")
        && is_x86_feature_detected!("avx512dq")
        && is_x86_feature_detected!("avx512vl")
        && is_x86_feature_detected!("avx512vnni")
        && is_x86_feature_detected!("fma")
        && is_x86_feature_detected!("f16c")
}

/// Numbers in a register.
const LANES: usize = 16;

/// Integer sums start at the bits of this float: for any sum `n` below 2^22 in magnitude they are then those of the float `BIAS + n`, and need
/// no conversion. InputRecords of this set hold their starts with it.
pub const BIAS: f32 = math::ROUND;

/// The lowest `count` lanes.
fn mask(count: usize) -> __mmask16 {
    if count >= LANES { !0 } else { (1 << count) - 1 }
}

/// Adds the lanes pairwise: `i` and `i + 8`, then 4, 2, 1.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx512vnni,fma,f16c")]
fn total(x: __m512) -> f32 {
    let eight = _mm256_add_ps(_mm512_castps512_ps256(x), _mm512_extractf32x8_ps::<1>(x));
    let four = _mm_add_ps(_mm256_castps256_ps128(eight), _mm256_extractf128_ps::<1>(eight));
    let two = _mm_add_ps(four, _mm_movehl_ps(four, four));
    _mm_cvtss_f32(_mm_add_ss(two, _mm_movehdup_ps(two)))
}
