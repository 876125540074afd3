//! Norms, rotary embedding, activations: sixteen elements at a time, the last ones by a mask.
//!
//! A masked tail runs through the same instructions, so that an element's bits do not depend on its place.

use super::{LANES, mask, total};
use crate::cpu::math::*;
use crate::spec::Activation;
use std::arch::x86_64::*;

/// Calls `f` with the start and the mask of every sixteen elements.
#[inline(always)]
fn each(len: usize, mut f: impl FnMut(usize, __mmask16)) {
    for at in (0..len).step_by(LANES) {
        f(at, mask(len - at));
    }
}

/// # Safety
/// The CPU has the instructions of this folder; the lengths are equal.
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx512vnni,fma,f16c")]
pub unsafe fn rms_norm(x: &[f32], w: &[f32], eps: f32, out: &mut [f32]) {
    let mut square = _mm512_setzero_ps();
    each(x.len(), |at, mask| {
        // SAFETY: the mask keeps to the slice.
        let x = unsafe { _mm512_maskz_loadu_ps(mask, x.as_ptr().add(at)) };
        square = _mm512_fmadd_ps(x, x, square);
    });
    let factor = _mm512_set1_ps(1.0 / (total(square) / x.len() as f32 + eps).sqrt());
    // SAFETY: the mask keeps to the slices, which are of equal length.
    each(x.len(), |at, mask| unsafe {
        let x = _mm512_maskz_loadu_ps(mask, x.as_ptr().add(at));
        let w = _mm512_maskz_loadu_ps(mask, w.as_ptr().add(at));
        _mm512_mask_storeu_ps(out.as_mut_ptr().add(at), mask, _mm512_mul_ps(_mm512_mul_ps(x, factor), w));
    });
}

/// # Safety
/// The CPU has the instructions of this folder; the lengths are equal.
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx512vnni,fma,f16c")]
pub unsafe fn layer_norm(x: &[f32], w: &[f32], b: &[f32], eps: f32, out: &mut [f32]) {
    let n = x.len() as f32;
    let mut sum = _mm512_setzero_ps();
    each(x.len(), |at, mask| {
        // SAFETY: the mask keeps to the slice.
        sum = _mm512_add_ps(sum, unsafe { _mm512_maskz_loadu_ps(mask, x.as_ptr().add(at)) });
    });
    let mean = _mm512_set1_ps(total(sum) / n);
    let mut square = _mm512_setzero_ps();
    each(x.len(), |at, mask| {
        // SAFETY: the mask keeps to the slice.
        let x = unsafe { _mm512_maskz_loadu_ps(mask, x.as_ptr().add(at)) };
        let x = _mm512_maskz_sub_ps(mask, x, mean);
        square = _mm512_fmadd_ps(x, x, square);
    });
    let factor = _mm512_set1_ps(1.0 / (total(square) / n + eps).sqrt());
    // SAFETY: the mask keeps to the slices, which are of equal length.
    each(x.len(), |at, mask| unsafe {
        let x = _mm512_sub_ps(_mm512_maskz_loadu_ps(mask, x.as_ptr().add(at)), mean);
        let w = _mm512_maskz_loadu_ps(mask, w.as_ptr().add(at));
        let b = _mm512_maskz_loadu_ps(mask, b.as_ptr().add(at));
        let y = _mm512_fmadd_ps(_mm512_mul_ps(x, factor), w, b);
        _mm512_mask_storeu_ps(out.as_mut_ptr().add(at), mask, y);
    });
}

/// # Safety
/// The CPU has the instructions of this folder; the lengths are equal.
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx512vnni,fma,f16c")]
pub unsafe fn add(x: &mut [f32], y: &[f32]) {
    x.iter_mut().zip(y).for_each(|(x, y)| *x += y);
}

/// # Safety
/// The CPU has the instructions of this folder; `head` has twice the length of `cos` and `sin`, which are equal.
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx512vnni,fma,f16c")]
pub unsafe fn rope(head: &mut [f32], cos: &[f32], sin: &[f32], interleaved: bool) {
    let n = cos.len();
    if interleaved {
        // Eight pairs at a time: the partner is the lane beside, the angle that of both.
        let double = _mm512_setr_epi32(0, 0, 1, 1, 2, 2, 3, 3, 4, 4, 5, 5, 6, 6, 7, 7);
        return each(2 * n, |at, mask| {
            let half = (at / 2, super::mask((2 * n - at).div_ceil(2)) & 0xff);
            // SAFETY: the masks keep to the slices.
            unsafe {
                let x = _mm512_maskz_loadu_ps(mask, head.as_ptr().add(at));
                let angle = |x: &[f32]| _mm512_permutexvar_ps(double, _mm512_maskz_loadu_ps(half.1, x.as_ptr().add(half.0)));
                let partner = _mm512_permute_ps::<0b10_11_00_01>(x);
                // Even lanes: x cos - partner sin; odd lanes: x cos + partner sin.
                let y = _mm512_fmaddsub_ps(x, angle(cos), _mm512_mul_ps(partner, angle(sin)));
                _mm512_mask_storeu_ps(head.as_mut_ptr().add(at), mask, y);
            }
        });
    }
    each(n, |at, mask| {
        // SAFETY: the mask keeps to the slices; `head` has `2 n` numbers.
        unsafe {
            let (first, second) = (head.as_mut_ptr().add(at), head.as_mut_ptr().add(n + at));
            let (x, y) = (_mm512_maskz_loadu_ps(mask, first), _mm512_maskz_loadu_ps(mask, second));
            let c = _mm512_maskz_loadu_ps(mask, cos.as_ptr().add(at));
            let s = _mm512_maskz_loadu_ps(mask, sin.as_ptr().add(at));
            _mm512_mask_storeu_ps(first, mask, _mm512_fmsub_ps(x, c, _mm512_mul_ps(y, s)));
            _mm512_mask_storeu_ps(second, mask, _mm512_fmadd_ps(y, c, _mm512_mul_ps(x, s)));
        }
    });
}

#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx512vnni,fma,f16c")]
fn polynomial(coefficients: &[f32], x: __m512) -> __m512 {
    let (last, rest) = coefficients.split_last().expect("a polynomial has coefficients");
    let add = |sum, &c: &f32| _mm512_fmadd_ps(sum, x, _mm512_set1_ps(c));
    rest.iter().rev().fold(_mm512_set1_ps(*last), add)
}

/// Below this `exp` is 0: it would be subnormal, which takes a processor ten times as long.
const EXP_START: f32 = -87.33;
/// Above this `exp` is infinity, well past what `f32` holds.
const EXP_END: f32 = 104.0;

/// `e^x`, see [`crate::cpu::math`].
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx512vnni,fma,f16c")]
pub fn exp(x: __m512) -> __m512 {
    // Where one operand is NaN, this returns the second, and the comparison holds.
    let x = _mm512_min_ps(_mm512_set1_ps(EXP_END), x);
    let normal = _mm512_cmp_ps_mask::<_CMP_NLT_UQ>(x, _mm512_set1_ps(EXP_START));
    let n = _mm512_roundscale_ps::<{ _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC }>(_mm512_mul_ps(x, _mm512_set1_ps(LOG2_E)));
    let r = _mm512_fnmadd_ps(n, _mm512_set1_ps(LN2[0]), x);
    let r = _mm512_fnmadd_ps(n, _mm512_set1_ps(LN2[1]), r);
    _mm512_maskz_scalef_ps(normal, polynomial(&EXP, r), n)
}

#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx512vnni,fma,f16c")]
fn negative(x: __m512) -> __m512 {
    _mm512_xor_ps(x, _mm512_set1_ps(-0.0))
}

#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx512vnni,fma,f16c")]
fn sigmoid(x: __m512) -> __m512 {
    let one = _mm512_set1_ps(1.0);
    _mm512_div_ps(one, _mm512_add_ps(one, exp(negative(x))))
}

#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx512vnni,fma,f16c")]
fn tanh(x: __m512) -> __m512 {
    let (one, two) = (_mm512_set1_ps(1.0), _mm512_set1_ps(2.0));
    let size = _mm512_abs_ps(x);
    let s = _mm512_mul_ps(x, x);
    let small = _mm512_fmadd_ps(_mm512_mul_ps(x, s), polynomial(&TANH, s), x);
    let large = _mm512_sub_ps(one, _mm512_div_ps(two, _mm512_add_ps(exp(_mm512_mul_ps(two, size)), one)));
    let large = _mm512_or_ps(large, _mm512_and_ps(x, _mm512_set1_ps(-0.0)));
    _mm512_mask_blend_ps(_mm512_cmp_ps_mask::<_CMP_LT_OQ>(size, _mm512_set1_ps(TANH_SMALL)), large, small)
}

#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx512vnni,fma,f16c")]
fn gelu(x: __m512) -> __m512 {
    // As in `exp`.
    let t = _mm512_min_ps(_mm512_set1_ps(GELU_END), _mm512_abs_ps(x));
    let tail = polynomial(&TAIL, _mm512_fmsub_ps(t, _mm512_set1_ps(2.0 / GELU_END), _mm512_set1_ps(1.0)));
    _mm512_fnmadd_ps(t, tail, _mm512_max_ps(_mm512_setzero_ps(), x))
}

#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx512vnni,fma,f16c")]
fn activation<const ACT: u8>(x: __m512) -> __m512 {
    let one = _mm512_set1_ps(1.0);
    if ACT == Activation::Silu as u8 {
        _mm512_div_ps(x, _mm512_add_ps(one, exp(negative(x))))
    } else if ACT == Activation::Gelu as u8 {
        gelu(x)
    } else if ACT == Activation::GeluTanh as u8 {
        let square = _mm512_mul_ps(x, x);
        let cubic = _mm512_fmadd_ps(_mm512_mul_ps(_mm512_set1_ps(GELU_TANH[1]), square), x, x);
        _mm512_mul_ps(x, sigmoid(_mm512_mul_ps(_mm512_set1_ps(GELU_TANH[0]), cubic)))
    } else if ACT == Activation::QuickGelu as u8 {
        _mm512_mul_ps(x, sigmoid(_mm512_mul_ps(_mm512_set1_ps(QUICK_GELU), x)))
    } else if ACT == Activation::Relu as u8 {
        _mm512_max_ps(_mm512_setzero_ps(), x)
    } else if ACT == Activation::Relu2 as u8 {
        let x = _mm512_max_ps(_mm512_setzero_ps(), x);
        _mm512_mul_ps(x, x)
    } else if ACT == Activation::Tanh as u8 {
        tanh(x)
    } else {
        sigmoid(x)
    }
}

/// Runs a function with the activation as a constant.
macro_rules! with {
    ($act:expr, $function:ident, $($argument:expr),*) => {
        match $act {
            Activation::Silu => $function::<{ Activation::Silu as u8 }>($($argument),*),
            Activation::Gelu => $function::<{ Activation::Gelu as u8 }>($($argument),*),
            Activation::GeluTanh => $function::<{ Activation::GeluTanh as u8 }>($($argument),*),
            Activation::QuickGelu => $function::<{ Activation::QuickGelu as u8 }>($($argument),*),
            Activation::Relu => $function::<{ Activation::Relu as u8 }>($($argument),*),
            Activation::Relu2 => $function::<{ Activation::Relu2 as u8 }>($($argument),*),
            Activation::Tanh => $function::<{ Activation::Tanh as u8 }>($($argument),*),
            Activation::Sigmoid => $function::<{ Activation::Sigmoid as u8 }>($($argument),*),
        }
    };
}

/// # Safety
/// The CPU has the instructions of this folder.
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx512vnni,fma,f16c")]
pub unsafe fn activate(act: Activation, x: &mut [f32]) {
    with!(act, activate_all, x)
}

#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx512vnni,fma,f16c")]
fn activate_all<const ACT: u8>(x: &mut [f32]) {
    each(x.len(), |at, mask| {
        // SAFETY: the mask keeps to the slice.
        unsafe {
            let y = activation::<ACT>(_mm512_maskz_loadu_ps(mask, x.as_ptr().add(at)));
            _mm512_mask_storeu_ps(x.as_mut_ptr().add(at), mask, y);
        }
    });
}

/// # Safety
/// The CPU has the instructions of this folder; the lengths are equal.
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx512vnni,fma,f16c")]
pub unsafe fn gated(act: Activation, gate: &[f32], up: &[f32], out: &mut [f32]) {
    with!(act, gated_all, gate, up, out)
}

#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx512vnni,fma,f16c")]
fn gated_all<const ACT: u8>(gate: &[f32], up: &[f32], out: &mut [f32]) {
    each(out.len(), |at, mask| {
        // SAFETY: the mask keeps to the slices, whose lengths were compared where they came in.
        unsafe {
            let y = activation::<ACT>(_mm512_maskz_loadu_ps(mask, gate.as_ptr().add(at)));
            let y = _mm512_mul_ps(y, _mm512_maskz_loadu_ps(mask, up.as_ptr().add(at)));
            _mm512_mask_storeu_ps(out.as_mut_ptr().add(at), mask, y);
        }
    });
}
