//! Sixteen numbers in two registers, for [`products`].

use crate::cpu::float::{FloatTask, Lanes, products};
use std::arch::x86_64::*;

/// # Safety
/// The CPU has the instructions of this folder; the task's parts are as [`FloatTask`] says.
#[target_feature(enable = "avx2,fma,f16c")]
pub unsafe fn floats(task: &FloatTask) {
    // SAFETY: `matmul` made the task so, and `Kernels::available` found the instructions.
    unsafe { products::<Two, 1, 6>(task) }
}

#[derive(Clone, Copy)]
pub struct Two([__m256; 2]);

// The functions are compiled into `floats`, which has the instructions.
impl Lanes for Two {
    #[inline(always)]
    unsafe fn zero() -> Self {
        // SAFETY: for this and all below: what `Lanes` asks of callers, instructions and sixteen numbers at a pointer, is all that is used.
        unsafe { Two([_mm256_setzero_ps(); 2]) }
    }
    #[inline(always)]
    unsafe fn splat(from: *const f32) -> Self {
        unsafe { Two([_mm256_set1_ps(*from); 2]) }
    }
    #[inline(always)]
    unsafe fn load(from: *const u8) -> Self {
        unsafe { Two([_mm256_loadu_ps(from.cast()), _mm256_loadu_ps(from.add(32).cast())]) }
    }
    #[inline(always)]
    unsafe fn load_f16(from: *const u8) -> Self {
        unsafe { Two([_mm256_cvtph_ps(_mm_loadu_si128(from.cast())), _mm256_cvtph_ps(_mm_loadu_si128(from.add(16).cast()))]) }
    }
    #[inline(always)]
    unsafe fn load_bf16(from: *const u8) -> Self {
        unsafe {
            let low = _mm256_slli_epi32::<16>(_mm256_cvtepu16_epi32(_mm_loadu_si128(from.cast())));
            let high = _mm256_slli_epi32::<16>(_mm256_cvtepu16_epi32(_mm_loadu_si128(from.add(16).cast())));
            Two([_mm256_castsi256_ps(low), _mm256_castsi256_ps(high)])
        }
    }
    #[inline(always)]
    unsafe fn load_i8(from: *const i8) -> Self {
        unsafe {
            let low = _mm256_cvtepi8_epi32(_mm_loadl_epi64(from.cast()));
            let high = _mm256_cvtepi8_epi32(_mm_loadl_epi64(from.add(8).cast()));
            Two([_mm256_cvtepi32_ps(low), _mm256_cvtepi32_ps(high)])
        }
    }
    #[inline(always)]
    unsafe fn store(self, to: *mut f32) {
        unsafe {
            _mm256_storeu_ps(to, self.0[0]);
            _mm256_storeu_ps(to.add(8), self.0[1]);
        }
    }
    #[inline(always)]
    unsafe fn add(self, other: Self) -> Self {
        unsafe { Two([_mm256_add_ps(self.0[0], other.0[0]), _mm256_add_ps(self.0[1], other.0[1])]) }
    }
    #[inline(always)]
    unsafe fn mul(self, other: Self) -> Self {
        unsafe { Two([_mm256_mul_ps(self.0[0], other.0[0]), _mm256_mul_ps(self.0[1], other.0[1])]) }
    }
    #[inline(always)]
    unsafe fn mul_add(self, x: Self, sum: Self) -> Self {
        unsafe { Two([_mm256_fmadd_ps(self.0[0], x.0[0], sum.0[0]), _mm256_fmadd_ps(self.0[1], x.0[1], sum.0[1])]) }
    }
}
