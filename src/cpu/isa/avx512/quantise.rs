//! Activations to int8 records, and floats to half precision.

use super::{BIAS, LANES};
use crate::cpu::input::{self, InputRecord};
use crate::cpu::panel::BLOCK;
use half::f16;
use std::arch::x86_64::*;

/// Blocks that are worked on together.
const BLOCKS: usize = 4;

/// # Safety
/// The CPU has the instructions of this folder; outputs are empty or hold a record for each block of `x`.
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx512vnni,fma,f16c")]
pub unsafe fn quantise(x: &[f32], wide: &mut [InputRecord], narrow: &mut [InputRecord]) {
    let (fours, rest) = x.as_chunks::<{ BLOCKS * BLOCK }>();
    for (index, x) in fours.iter().enumerate() {
        let from = (index * BLOCKS).min(wide.len());
        let (_, wide) = wide.split_at_mut(from);
        let from = (index * BLOCKS).min(narrow.len());
        let (_, narrow) = narrow.split_at_mut(from);
        four(x, wide.first_chunk_mut(), narrow.first_chunk_mut());
    }
    if rest.is_empty() {
        return;
    }
    // The last blocks, filled up with zeroes.
    let (done, count) = (fours.len() * BLOCKS, rest.len() / BLOCK);
    let mut x = [0.0; BLOCKS * BLOCK];
    x[..rest.len()].copy_from_slice(rest);
    let mut records = [[InputRecord::ZERO; BLOCKS]; 2];
    let [first, second] = &mut records;
    four(&x, Some(first), Some(second));
    for (out, records) in [wide, narrow].into_iter().zip(records) {
        if !out.is_empty() {
            out[done..].copy_from_slice(&records[..count]);
        }
    }
}

/// Four blocks: what is one number for each block is computed side by side.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx512vnni,fma,f16c")]
fn four(x: &[f32; BLOCKS * BLOCK], wide: Option<&mut [InputRecord; BLOCKS]>, narrow: Option<&mut [InputRecord; BLOCKS]>) {
    let magnitude = _mm512_set1_epi32(0x7fff_ffff);
    // SAFETY: a block has 32 numbers.
    let load = |block: usize, half: usize| unsafe { _mm512_loadu_ps(x.as_ptr().add(block * BLOCK + half * LANES)) };
    let largest = |block: usize| {
        let bits = |half: usize| _mm512_and_si512(_mm512_castps_si512(load(block, half)), magnitude);
        let both = _mm512_max_epu32(bits(0), bits(1));
        let eight = _mm256_max_epu32(_mm512_castsi512_si256(both), _mm512_extracti64x4_epi64::<1>(both));
        _mm_max_epu32(_mm256_castsi256_si128(eight), _mm256_extracti128_si256::<1>(eight))
    };
    // A transposition: lane `b` of the four registers then holds the quarters of block `b`.
    let (a, b, c, d) = (largest(0), largest(1), largest(2), largest(3));
    let (ab, cd) = (
        _mm_max_epu32(_mm_unpacklo_epi32(a, b), _mm_unpackhi_epi32(a, b)),
        _mm_max_epu32(_mm_unpacklo_epi32(c, d), _mm_unpackhi_epi32(c, d)),
    );
    let bits = _mm_max_epu32(_mm_unpacklo_epi64(ab, cd), _mm_unpackhi_epi64(ab, cd));
    let absmax = _mm_castsi128_ps(bits);
    // As in `input::scale`: infinite or NaN, too small, or ordinary. NaN compares with nothing.
    let broken = _mm_cmp_ps_mask::<_CMP_NLT_UQ>(absmax, _mm_set1_ps(f32::INFINITY));
    let ordinary = _mm_cmp_ps_mask::<_CMP_NLT_UQ>(absmax, _mm_set1_ps(input::SMALLEST)) & !broken;
    let q = _mm_set1_ps(127.0);
    let exact = _mm_castps_si128(_mm_maskz_div_ps(ordinary, absmax, q));
    let odd = _mm_and_si128(_mm_srli_epi32::<13>(exact), _mm_set1_epi32(1));
    let rounded = _mm_add_epi32(_mm_add_epi32(exact, _mm_set1_epi32(0xfff)), odd);
    let rounded = _mm_castsi128_ps(_mm_and_si128(rounded, _mm_set1_epi32(!0x1fff)));
    let scale = _mm_mask_mov_ps(rounded, broken, absmax);
    let factors = _mm_maskz_div_ps(ordinary, q, absmax);

    let mut values = [_mm256_setzero_si256(); BLOCKS];
    let mut sums = [_mm256_setzero_si256(); BLOCKS];
    for (block, (values, sums)) in values.iter_mut().zip(&mut sums).enumerate() {
        let factor = match block {
            0 => _mm512_broadcastss_ps(factors),
            1 => _mm512_broadcastss_ps(_mm_permute_ps::<0x55>(factors)),
            2 => _mm512_broadcastss_ps(_mm_permute_ps::<0xaa>(factors)),
            _ => _mm512_broadcastss_ps(_mm_permute_ps::<0xff>(factors)),
        };
        // Rounds to nearest, ties to even. What is not a number becomes 0x80000000, of which 0 is left.
        let byte = |half: usize| _mm512_cvtepi32_epi8(_mm512_cvtps_epi32(_mm512_mul_ps(load(block, half), factor)));
        *values = _mm256_inserti128_si256::<1>(_mm256_castsi128_si256(byte(0)), byte(1));
        *sums = _mm256_dpbusd_epi32(_mm256_setzero_si256(), _mm256_set1_epi8(1), *values);
    }
    // Sums of the first halves of the four blocks, then those of the second halves.
    let sums = _mm256_hadd_epi32(_mm256_hadd_epi32(sums[0], sums[1]), _mm256_hadd_epi32(sums[2], sums[3]));
    let (low, high) = (_mm256_castsi256_si128(sums), _mm256_extracti128_si256::<1>(sums));
    let scaled = |sum: __m128i| _mm_castps_si128(_mm_mul_ps(scale, _mm_cvtepi32_ps(sum)));
    let negative = |sum: __m128i| _mm_sub_epi32(_mm_setzero_si128(), sum);
    // Where sums start.
    let bias = _mm_castps_si128(_mm_set1_ps(BIAS));
    let biased = |start: __m128i| _mm_add_epi32(bias, start);
    let (scale_bits, zero) = (_mm_castps_si128(scale), _mm_setzero_si128());
    if let Some(records) = wide {
        let sum = _mm_add_epi32(low, high);
        let minus = negative(sum);
        let (eight, sixteen) = (biased(_mm_slli_epi32::<3>(minus)), biased(_mm_slli_epi32::<4>(minus)));
        let first = [scale_bits, scaled(sum), eight, sixteen];
        store(records, values, first, [biased(_mm_slli_epi32::<7>(minus)), zero, zero, zero]);
    }
    if let Some(records) = narrow {
        let minus = [negative(low), negative(high)];
        let fourth = minus.map(|x| biased(_mm_slli_epi32::<2>(x)));
        let half = minus.map(|x| biased(_mm_slli_epi32::<5>(x)));
        let first = [scale_bits, scaled(low), scaled(high), fourth[0]];
        store(records, values, first, [fourth[1], half[0], half[1], zero]);
    }
}

/// Writes four records: each register holds one element of their rests, a lane for each record.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx512vnni,fma,f16c")]
fn store(records: &mut [InputRecord; BLOCKS], values: [__m256i; BLOCKS], first: [__m128i; 4], second: [__m128i; 4]) {
    let transpose = |x: [__m128i; 4]| {
        let (ab, cd) = (_mm_unpacklo_epi32(x[0], x[1]), _mm_unpacklo_epi32(x[2], x[3]));
        let (ef, gh) = (_mm_unpackhi_epi32(x[0], x[1]), _mm_unpackhi_epi32(x[2], x[3]));
        [_mm_unpacklo_epi64(ab, cd), _mm_unpackhi_epi64(ab, cd), _mm_unpacklo_epi64(ef, gh), _mm_unpackhi_epi64(ef, gh)]
    };
    let (first, second) = (transpose(first), transpose(second));
    for (block, record) in records.iter_mut().enumerate() {
        // SAFETY: a record has 32 bytes of values and 32 of the rest.
        unsafe {
            _mm256_storeu_si256(record.values.as_mut_ptr().cast(), values[block]);
            _mm_storeu_si128(record.rest.as_mut_ptr().cast(), first[block]);
            _mm_storeu_si128(record.rest.as_mut_ptr().add(4).cast(), second[block]);
        }
    }
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
