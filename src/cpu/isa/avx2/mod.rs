//! AVX2 with FMA and F16C, which every x86 server and desktop since Haswell and Zen has: two sets, with and without AVX-VNNI.
//!
//! `avxvnni` is for processors that have `vpdpbusd` for registers of 256 bits and no AVX-512: Intel's for desktops and notebooks since Alder Lake. It
//! differs in the quantised products alone. The instruction is written in assembly, so that nothing here is compiled *for* such processors and one code
//! serves both sets.
//!
//! Products and attention, softmax included, are written out; norms, rope and activations are the reference's code, which the compiler vectorises well once
//! it may use these instructions.

mod attention;
mod element;
mod float;
mod peak;
mod product;
mod quantise;

use crate::cpu::Kernels;
use crate::cpu::peak::Peak;
use std::arch::asm;
use std::arch::x86_64::__m256i;

/// With AVX-VNNI.
pub static VNNI: Kernels = Kernels {
    name: "avxvnni",
    panels: product::panels::<true>,
    peak: Peak { int8: peak::int8::<true>, f32: peak::f32, read: peak::read },
    ..BASE
};

/// Without.
pub static AVX2: Kernels = BASE;

const BASE: Kernels = Kernels {
    name: "avx2",
    quantise: quantise::quantise,
    panels: product::panels::<false>,
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
    peak: Peak { int8: peak::int8::<false>, f32: peak::f32, read: peak::read },
};

/// Whether this CPU can run [`VNNI`].
pub fn has_vnni() -> bool {
    has_avx2() && is_x86_feature_detected!("avxvnni")
}

/// Whether this CPU can run [`AVX2`].
pub fn has_avx2() -> bool {
    is_x86_feature_detected!("avx2") && is_x86_feature_detected!("fma") && is_x86_feature_detected!("f16c")
}

/// Numbers in a register.
const LANES: usize = 8;

/// Adds to each lane the four products of its bytes in `weights`, unsigned, with those in `x`, signed. Such statements stay in sequence, see
/// [`product`].
///
/// # Safety
/// The CPU has AVX-VNNI.
#[target_feature(enable = "avx2,fma,f16c")]
#[inline]
unsafe fn dot(sum: __m256i, weights: __m256i, x: __m256i) -> __m256i {
    let mut sum = sum;
    // SAFETY: the CPU has AVX-VNNI, as asked above; registers are all that is touched.
    unsafe {
        asm!(
            "{{vex}} vpdpbusd {sum}, {weights}, {x}",
            sum = inout(ymm_reg) sum,
            weights = in(ymm_reg) weights,
            x = in(ymm_reg) x,
            options(nomem, nostack, preserves_flags)
        );
    }
    sum
}
