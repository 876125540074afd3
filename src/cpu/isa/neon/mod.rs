//! NEON, which every 64-bit ARM processor has: two sets, with and without the dot product instructions.
//!
//! `dotprod` is for server cores since Neoverse N1, Apple's since A13 and M1, and Cortex cores since A55 and A75; `neon` for those
//! before, as Cortex A53 and A72. They differ in the quantised products alone. Products, attention and the quantisation of activations are
//! written out; norms, softmax, rope and activations are the reference's code, which is compiled with NEON anyway.
//!
//! `sdot` itself is written in assembly: its intrinsic is not stable yet (`stdarch_neon_dotprod`). Nothing here is compiled *for* processors with
//! dot products, so the rest may run anywhere.

mod attention;
mod float;
mod peak;
mod product;
mod quantise;

use crate::cpu::Kernels;
use crate::cpu::isa::scalar;
use crate::cpu::peak::Peak;
use std::arch::aarch64::*;
use std::arch::{asm, is_aarch64_feature_detected};

/// With dot products.
pub static DOTPROD: Kernels = Kernels {
    name: "dotprod",
    panels: product::panels::<true>,
    peak: Peak { int8: peak::int8::<true>, f32: peak::f32, read: peak::read },
    ..BASE
};

/// Without.
pub static NEON: Kernels = BASE;

const BASE: Kernels = Kernels {
    name: "neon",
    quantise: quantise::quantise,
    panels: product::panels::<false>,
    floats: float::floats,
    to_f16: quantise::to_f16,
    scores: attention::scores,
    softmax: scalar::softmax,
    weigh: attention::weigh,
    rms_norm: scalar::rms_norm,
    layer_norm: scalar::layer_norm,
    add: scalar::add,
    rope: scalar::rope,
    activate: scalar::activate::<true>,
    gated: scalar::gated::<true>,
    peak: Peak { int8: peak::int8::<false>, f32: peak::f32, read: peak::read },
};

/// Whether this CPU can run [`DOTPROD`].
pub fn has_dotprod() -> bool {
    has_neon() && is_aarch64_feature_detected!("dotprod")
}

/// Whether this CPU can run [`NEON`].
pub fn has_neon() -> bool {
    // Bytes are taken for lanes of words as they lie.
    cfg!(target_endian = "little") && is_aarch64_feature_detected!("neon")
}

/// Numbers in a register.
const LANES: usize = 4;

/// Adds to each lane the four products of its bytes in `weights` with the four bytes of `x` in lane `QUAD`.
///
/// # Safety
/// The CPU has dot products if `DOT`.
#[inline]
#[target_feature(enable = "neon")]
unsafe fn dot<const DOT: bool, const QUAD: i32>(sum: int32x4_t, weights: int8x16_t, x: int8x16_t) -> int32x4_t {
    if DOT {
        let mut sum = sum;
        // SAFETY: the CPU has dot products where `DOT` is; registers are all that is touched.
        unsafe {
            asm!(
                ".arch_extension dotprod",
                "sdot {sum:v}.4s, {weights:v}.16b, {x:v}.4b[{quad}]",
                sum = inout(vreg) sum,
                weights = in(vreg) weights,
                x = in(vreg) x,
                quad = const QUAD,
                options(pure, nomem, nostack, preserves_flags)
            );
        }
        sum
    } else {
        let x = vreinterpretq_s8_s32(vdupq_laneq_s32::<QUAD>(vreinterpretq_s32_s8(x)));
        // Activations are at most 127 in magnitude, weights 128: two products fit into 16 bits.
        let low = vmull_s8(vget_low_s8(weights), vget_low_s8(x));
        vpadalq_s16(sum, vpaddq_s16(low, vmull_high_s8(weights, x)))
    }
}

/// Eight halves, widened.
///
/// # Safety
/// `from` points to eight numbers in half precision, at any alignment.
#[inline]
#[target_feature(enable = "neon")]
unsafe fn halves(from: *const u8) -> [float32x4_t; 2] {
    // SAFETY: eight numbers are sixteen bytes.
    let halves = unsafe { vreinterpretq_f16_u8(vld1q_u8(from)) };
    [vcvt_f32_f16(vget_low_f16(halves)), vcvt_high_f32_f16(halves)]
}
