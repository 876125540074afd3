//! The reference's element-wise code, compiled for AVX2.

use crate::cpu::isa::scalar;
use crate::spec::Activation;

/// # Safety
/// The CPU has the instructions of this folder.
#[target_feature(enable = "avx2,fma,f16c")]
pub unsafe fn rms_norm(x: &[f32], w: &[f32], eps: f32, out: &mut [f32]) {
    scalar::rms_norm(x, w, eps, out);
}

/// # Safety
/// The CPU has the instructions of this folder.
#[target_feature(enable = "avx2,fma,f16c")]
pub unsafe fn layer_norm(x: &[f32], w: &[f32], b: &[f32], eps: f32, out: &mut [f32]) {
    scalar::layer_norm(x, w, b, eps, out);
}

/// # Safety
/// The CPU has the instructions of this folder.
#[target_feature(enable = "avx2,fma,f16c")]
pub unsafe fn add(x: &mut [f32], y: &[f32]) {
    scalar::add(x, y);
}

/// # Safety
/// The CPU has the instructions of this folder.
#[target_feature(enable = "avx2,fma,f16c")]
pub unsafe fn rope(head: &mut [f32], cos: &[f32], sin: &[f32], interleaved: bool) {
    scalar::rope(head, cos, sin, interleaved);
}

/// # Safety
/// The CPU has the instructions of this folder.
#[target_feature(enable = "avx2,fma,f16c")]
pub unsafe fn activate(act: Activation, x: &mut [f32]) {
    scalar::activate::<true>(act, x);
}

/// # Safety
/// The CPU has the instructions of this folder.
#[target_feature(enable = "avx2,fma,f16c")]
pub unsafe fn gated(act: Activation, gate: &[f32], up: &[f32], out: &mut [f32]) {
    scalar::gated::<true>(act, gate, up, out);
}
