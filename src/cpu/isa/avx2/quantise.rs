//! Activations to int8 records, and floats to half precision.

use super::LANES;
use crate::cpu::input::{self, InputRecord};
use crate::cpu::panel::BLOCK;
use half::f16;
use std::arch::x86_64::*;

/// # Safety
/// The CPU has the instructions of this folder; outputs are empty or hold a record for each block of `x`.
#[target_feature(enable = "avx2,fma,f16c")]
pub unsafe fn quantise(x: &[f32], wide: &mut [InputRecord], narrow: &mut [InputRecord]) {
    let magnitude = _mm256_set1_epi32(0x7fff_ffff);
    for (index, x) in x.as_chunks::<BLOCK>().0.iter().enumerate() {
        let mut parts = [_mm256_setzero_ps(); BLOCK / LANES];
        let mut largest = _mm256_setzero_si256();
        for (i, part) in parts.iter_mut().enumerate() {
            // SAFETY: a block has 32 numbers.
            *part = unsafe { _mm256_loadu_ps(x.as_ptr().add(i * LANES)) };
            largest = _mm256_max_epu32(largest, _mm256_and_si256(_mm256_castps_si256(*part), magnitude));
        }
        let four = _mm_max_epu32(_mm256_castsi256_si128(largest), _mm256_extracti128_si256::<1>(largest));
        let two = _mm_max_epu32(four, _mm_shuffle_epi32::<0b00_00_11_10>(four));
        let absmax = _mm_cvtsi128_si32(_mm_max_epu32(two, _mm_shuffle_epi32::<1>(two))) as u32;
        let (scale, factor) = input::scale(absmax);
        let factor = _mm256_set1_ps(factor);
        // Rounds to nearest, ties to even. What is not a number times 0 becomes the most negative integer: cleared.
        let round = |x: __m256| {
            let product = _mm256_mul_ps(x, factor);
            let ordered = _mm256_castps_si256(_mm256_cmp_ps::<_CMP_ORD_Q>(product, product));
            _mm256_and_si256(_mm256_cvtps_epi32(product), ordered)
        };
        let q = parts.map(round);
        // Packing works within halves of a register: the order of eights is mended at the end.
        let words = (_mm256_packs_epi32(q[0], q[1]), _mm256_packs_epi32(q[2], q[3]));
        let bytes = _mm256_packs_epi16(words.0, words.1);
        let bytes = _mm256_permutevar8x32_epi32(bytes, _mm256_setr_epi32(0, 4, 1, 5, 2, 6, 3, 7));
        let sums = [sum(_mm256_add_epi32(q[0], q[1])), sum(_mm256_add_epi32(q[2], q[3]))];
        let rests = input::rest(scale, sums);
        let mut values = [0i8; BLOCK];
        // SAFETY: a record has 32 values.
        unsafe { _mm256_storeu_si256(values.as_mut_ptr().cast(), bytes) };
        if let Some(record) = wide.get_mut(index) {
            *record = InputRecord { values, rest: rests.0 };
        }
        if let Some(record) = narrow.get_mut(index) {
            *record = InputRecord { values, rest: rests.1 };
        }
    }
}

#[inline]
#[target_feature(enable = "avx2,fma,f16c")]
fn sum(x: __m256i) -> i32 {
    let four = _mm_add_epi32(_mm256_castsi256_si128(x), _mm256_extracti128_si256::<1>(x));
    let two = _mm_add_epi32(four, _mm_shuffle_epi32::<0b00_00_11_10>(four));
    _mm_cvtsi128_si32(_mm_add_epi32(two, _mm_shuffle_epi32::<1>(two)))
}

/// # Safety
/// The CPU has the instructions of this folder; the lengths are equal.
#[target_feature(enable = "avx2,fma,f16c")]
pub unsafe fn to_f16(x: &[f32], out: &mut [f16]) {
    let (x, x_tail) = x.as_chunks::<LANES>();
    let (out, out_tail) = out.as_chunks_mut::<LANES>();
    for (x, out) in x.iter().zip(out) {
        // SAFETY: a chunk has eight numbers.
        unsafe {
            let halves = _mm256_cvtps_ph::<_MM_FROUND_TO_NEAREST_INT>(_mm256_loadu_ps(x.as_ptr()));
            _mm_storeu_si128(out.as_mut_ptr().cast(), halves);
        }
    }
    out_tail.iter_mut().zip(x_tail).for_each(|(out, x)| *out = f16::from_f32(*x));
}
