//! Sixteen numbers in one register, for [`products`].

use crate::cpu::float::{FloatTask, Lanes, products};
use std::arch::x86_64::*;

/// # Safety
/// The CPU has the instructions of this folder; the task's parts are as [`FloatTask`] says.
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx512vnni,fma,f16c")]
pub unsafe fn floats(task: &FloatTask) {
    // SAFETY: `matmul` made the task so, and `Kernels::available` found the instructions.
    unsafe { products::<__m512, 4, 6>(task) }
}

// The functions are compiled into `floats`, which has the instructions.
impl Lanes for __m512 {
    #[inline(always)]
    unsafe fn zero() -> Self {
        // SAFETY: for this and all below: what `Lanes` asks of callers, instructions and sixteen numbers at a pointer, is all that is used.
        unsafe { _mm512_setzero_ps() }
    }
    #[inline(always)]
    unsafe fn splat(from: *const f32) -> Self {
        unsafe { _mm512_set1_ps(*from) }
    }
    #[inline(always)]
    unsafe fn load(from: *const u8) -> Self {
        unsafe { _mm512_loadu_ps(from.cast()) }
    }
    #[inline(always)]
    unsafe fn load_f16(from: *const u8) -> Self {
        unsafe { _mm512_cvtph_ps(_mm256_loadu_si256(from.cast())) }
    }
    #[inline(always)]
    unsafe fn load_bf16(from: *const u8) -> Self {
        unsafe {
            let words = _mm512_cvtepu16_epi32(_mm256_loadu_si256(from.cast()));
            _mm512_castsi512_ps(_mm512_slli_epi32::<16>(words))
        }
    }
    #[inline(always)]
    unsafe fn load_i8(from: *const i8) -> Self {
        unsafe { _mm512_cvtepi32_ps(_mm512_cvtepi8_epi32(_mm_loadu_si128(from.cast()))) }
    }
    #[inline(always)]
    unsafe fn store(self, to: *mut f32) {
        unsafe { _mm512_storeu_ps(to, self) }
    }
    #[inline(always)]
    unsafe fn add(self, other: Self) -> Self {
        unsafe { _mm512_add_ps(self, other) }
    }
    #[inline(always)]
    unsafe fn mul(self, other: Self) -> Self {
        unsafe { _mm512_mul_ps(self, other) }
    }
    #[inline(always)]
    unsafe fn mul_add(self, x: Self, sum: Self) -> Self {
        unsafe { _mm512_fmadd_ps(self, x, sum) }
    }
}
