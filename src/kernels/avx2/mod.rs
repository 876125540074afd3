//! AVX2 with FMA and F16C: every x86 server and desktop since Haswell and Zen.
//!
//! Products and attention, softmax included, are written out; norms, rope and activations are the reference's code, which the compiler vectorises well once
//! it may use these instructions.

mod attention;
mod element;
mod float;
mod peak;
mod product;
mod quantise;

use super::Kernels;
use super::peak::Peak;

pub static KERNELS: Kernels = Kernels {
    name: "avx2",
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
    is_x86_feature_detected!("avx2") && is_x86_feature_detected!("fma") && is_x86_feature_detected!("f16c")
}

/// Numbers in a register.
const LANES: usize = 8;
