//! Activations to int8 records, and floats to half precision.

use super::LANES;
use crate::kernels::input::{self, Record};
use crate::kernels::panel::BLOCK;
use half::f16;
use std::arch::x86_64::*;

/// # Safety
/// The CPU has the instructions of this folder; outputs are empty or hold a record for each block of `x`.
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx512vnni,fma,f16c")]
pub unsafe fn quantise(x: &[f32], wide: &mut [Record], narrow: &mut [Record]) {
    let magnitude = _mm512_set1_epi32(0x7fff_ffff);
    for (index, x) in x.as_chunks::<BLOCK>().0.iter().enumerate() {
        // SAFETY: a block has 32 numbers.
        let (low, high) = unsafe { (_mm512_loadu_ps(x.as_ptr()), _mm512_loadu_ps(x.as_ptr().add(LANES))) };
        let bits = |x: __m512| _mm512_and_si512(_mm512_castps_si512(x), magnitude);
        let absmax = max(_mm512_max_epu32(bits(low), bits(high)));
        let (scale, factor) = input::scale(absmax);
        let factor = _mm512_set1_ps(factor);
        // Rounds to nearest, ties to even. What is not a number times 0 becomes the most negative integer: cleared.
        let round = |x: __m512| {
            let product = _mm512_mul_ps(x, factor);
            _mm512_maskz_cvtps_epi32(_mm512_cmp_ps_mask::<_CMP_ORD_Q>(product, product), product)
        };
        let (low, high) = (round(low), round(high));
        let sums = [sum(low), sum(high)];
        let rests = input::rest(scale, sums);
        let mut values = [0i8; BLOCK];
        // SAFETY: a record has 32 values.
        unsafe {
            _mm_storeu_si128(values.as_mut_ptr().cast(), _mm512_cvtepi32_epi8(low));
            _mm_storeu_si128(values.as_mut_ptr().add(LANES).cast(), _mm512_cvtepi32_epi8(high));
        }
        if let Some(record) = wide.get_mut(index) {
            *record = Record { values, rest: rests.0 };
        }
        if let Some(record) = narrow.get_mut(index) {
            *record = Record { values, rest: rests.1 };
        }
    }
}

/// The largest lane, unsigned.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx512vnni,fma,f16c")]
fn max(x: __m512i) -> u32 {
    let eight = _mm256_max_epu32(_mm512_castsi512_si256(x), _mm512_extracti64x4_epi64::<1>(x));
    let four = _mm_max_epu32(_mm256_castsi256_si128(eight), _mm256_extracti128_si256::<1>(eight));
    let two = _mm_max_epu32(four, _mm_shuffle_epi32::<0b00_00_11_10>(four));
    _mm_cvtsi128_si32(_mm_max_epu32(two, _mm_shuffle_epi32::<1>(two))) as u32
}

#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx512vnni,fma,f16c")]
fn sum(x: __m512i) -> i32 {
    let eight = _mm256_add_epi32(_mm512_castsi512_si256(x), _mm512_extracti64x4_epi64::<1>(x));
    let four = _mm_add_epi32(_mm256_castsi256_si128(eight), _mm256_extracti128_si256::<1>(eight));
    let two = _mm_add_epi32(four, _mm_shuffle_epi32::<0b00_00_11_10>(four));
    _mm_cvtsi128_si32(_mm_add_epi32(two, _mm_shuffle_epi32::<1>(two)))
}

/// # Safety
/// The CPU has the instructions of this folder; the lengths are equal.
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx512vnni,fma,f16c")]
pub unsafe fn to_f16(x: &[f32], out: &mut [f16]) {
    for (x, out) in x.chunks(LANES).zip(out.chunks_mut(LANES)) {
        let mask = super::mask(x.len());
        // SAFETY: the mask keeps to the chunk.
        unsafe {
            let halves = _mm512_cvtps_ph::<_MM_FROUND_TO_NEAREST_INT>(_mm512_maskz_loadu_ps(mask, x.as_ptr()));
            _mm256_mask_storeu_epi16(out.as_mut_ptr().cast(), mask, halves);
        }
    }
}
