//! Sixteen numbers in four registers, for [`products`].

use crate::cpu::float::{FloatTask, Lanes, products};
use std::arch::aarch64::*;

/// # Safety
/// The CPU has NEON; the task's parts are as [`FloatTask`] says.
#[target_feature(enable = "neon")]
pub unsafe fn floats(task: &FloatTask) {
    // SAFETY: `matmul` made the task so, and `Kernels::available` found the instructions.
    unsafe { products::<Four, 1, 6>(task) }
}

#[derive(Clone, Copy)]
pub struct Four([float32x4_t; 4]);

// The functions are compiled into `floats`, which has the instructions.
impl Lanes for Four {
    #[inline(always)]
    unsafe fn zero() -> Self {
        // SAFETY: for this and all below: what `Lanes` asks of callers, instructions and sixteen numbers at a pointer, is all that is used.
        unsafe { Four([vdupq_n_f32(0.0); 4]) }
    }
    #[inline(always)]
    unsafe fn splat(from: *const f32) -> Self {
        unsafe { Four([vdupq_n_f32(*from); 4]) }
    }
    #[inline(always)]
    unsafe fn load(from: *const u8) -> Self {
        Four([0, 16, 32, 48].map(|at| unsafe { vreinterpretq_f32_u8(vld1q_u8(from.add(at))) }))
    }
    #[inline(always)]
    unsafe fn load_f16(from: *const u8) -> Self {
        unsafe {
            let ([a, b], [c, d]) = (super::halves(from), super::halves(from.add(16)));
            Four([a, b, c, d])
        }
    }
    #[inline(always)]
    unsafe fn load_bf16(from: *const u8) -> Self {
        unsafe {
            let (low, high) = (vreinterpretq_u16_u8(vld1q_u8(from)), vreinterpretq_u16_u8(vld1q_u8(from.add(16))));
            let words = [
                vshll_n_u16::<16>(vget_low_u16(low)),
                vshll_high_n_u16::<16>(low),
                vshll_n_u16::<16>(vget_low_u16(high)),
                vshll_high_n_u16::<16>(high),
            ];
            let [a, b, c, d] = words;
            Four([vreinterpretq_f32_u32(a), vreinterpretq_f32_u32(b), vreinterpretq_f32_u32(c), vreinterpretq_f32_u32(d)])
        }
    }
    #[inline(always)]
    unsafe fn load_i8(from: *const i8) -> Self {
        unsafe {
            let bytes = vld1q_s8(from);
            let (low, high) = (vmovl_s8(vget_low_s8(bytes)), vmovl_high_s8(bytes));
            Four([
                vcvtq_f32_s32(vmovl_s16(vget_low_s16(low))),
                vcvtq_f32_s32(vmovl_high_s16(low)),
                vcvtq_f32_s32(vmovl_s16(vget_low_s16(high))),
                vcvtq_f32_s32(vmovl_high_s16(high)),
            ])
        }
    }
    #[inline(always)]
    unsafe fn store(self, to: *mut f32) {
        for (i, four) in self.0.into_iter().enumerate() {
            unsafe { vst1q_f32(to.add(4 * i), four) }
        }
    }
    #[inline(always)]
    unsafe fn add(self, other: Self) -> Self {
        Four(std::array::from_fn(|i| unsafe { vaddq_f32(self.0[i], other.0[i]) }))
    }
    #[inline(always)]
    unsafe fn mul(self, other: Self) -> Self {
        Four(std::array::from_fn(|i| unsafe { vmulq_f32(self.0[i], other.0[i]) }))
    }
    #[inline(always)]
    unsafe fn mul_add(self, x: Self, sum: Self) -> Self {
        Four(std::array::from_fn(|i| unsafe { vfmaq_f32(sum.0[i], self.0[i], x.0[i]) }))
    }
}
