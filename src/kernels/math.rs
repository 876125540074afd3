//! The transcendental functions, as polynomials in `f32`: one definition that every vector unit repeats step by step.
//!
//! | function | method | largest error |
//! |---|---|---|
//! | `exp` | Cody and Waite's reduction, degree 6 on ±ln(2)/2 | 2 units in the last place |
//! | normal distribution | `erfcx` as a polynomial of degree 9 in `1 / (1 + 0.4 t)`, times `exp(-t²)` | 1e-6 of the value |
//! | `tanh` | odd polynomial of degree 11 below 0.625, else from `exp` | 3 units in the last place |
//!
//! The coefficients are relative-error minimax fits (iterated reweighted least squares against SciPy in double precision).

use crate::spec::Activation;

/// `1 / ln 2`.
pub const LOG2_E: f32 = std::f32::consts::LOG2_E;
/// `ln 2` in two parts, the first with trailing zeroes.
pub const LN2: [f32; 2] = [355.0 / 512.0, -2.121_944_4e-4];
/// Below this `exp` is 0, above its negation infinity, well past what `f32` holds.
pub const EXP_FLOOR: f32 = -104.0;
/// `1.5 * 2^23`: a small number added to it loses its fraction.
const ROUND: f32 = 12_582_912.0;
/// `exp`'s polynomial on ±ln(2)/2, from the constant up.
pub const EXP: [f32; 7] = [1.0, 1.0, 0.499_999_94, 0.166_665_21, 0.041_668_39, 0.008_368_717_5, 0.001_381_459_6];

/// `erfcx(t) = exp(t²) erfc(t)` as a polynomial in `1 / (1 + ERFCX_P t)`.
pub const ERFCX: [f32; 10] = [
    3.289_498_6e-5,
    0.224_954_72,
    0.232_433_3,
    0.172_306_15,
    0.283_656_8,
    -0.096_994_855,
    0.310_502_74,
    -0.090_109_33,
    -0.063_350_886,
    0.026_568_49,
];
/// `ERFCX_P / sqrt(2)`, for the argument of the normal distribution.
pub const PHI_P: f32 = ERFCX_P * std::f32::consts::FRAC_1_SQRT_2;
/// See [`ERFCX`].
const ERFCX_P: f32 = 0.4;
/// Beyond ± this the normal distribution is 0 or 1 in `f32`.
pub const PHI_END: f32 = 14.5;

/// `(tanh(x) / x - 1) / x²` in powers of `x²`, for |x| below [`TANH_SMALL`].
pub const TANH: [f32; 5] = [-0.333_332_84, 0.133_314_91, -0.053_743_497, 0.020_650_584, -0.005_717_041];
/// Where [`TANH`] ends.
pub const TANH_SMALL: f32 = 0.625;

/// `sqrt(8 / pi)` and the cubic term of GELU's tanh approximation, which is `x * sigmoid(GELU_TANH[0] * (x + GELU_TANH[1] x³))`.
pub const GELU_TANH: [f32; 2] = [1.595_769_2, 0.044_715];
/// QuickGELU's factor.
pub const QUICK_GELU: f32 = 1.702;

/// `a * b + c`, rounded once if `FUSED`: for callers whose instructions include that, as it is a slow call to a library elsewhere.
#[inline(always)]
fn mul_add<const FUSED: bool>(a: f32, b: f32, c: f32) -> f32 {
    if FUSED { a.mul_add(b, c) } else { a * b + c }
}

#[inline(always)]
fn polynomial<const FUSED: bool>(coefficients: &[f32], x: f32) -> f32 {
    coefficients.iter().rev().fold(0.0, |sum, &c| mul_add::<FUSED>(sum, x, c))
}

/// `e^x`. `FUSED` here and below: whether products and sums that follow one another are rounded together.
#[inline(always)]
pub fn exp<const FUSED: bool>(x: f32) -> f32 {
    if x.is_nan() {
        return x;
    }
    let x = x.clamp(EXP_FLOOR, -EXP_FLOOR);
    // Rounds to an integer, ties to even, whose bits are the last ones of the sum: a cast, which saturates, would be done lane by lane.
    let shifted = mul_add::<FUSED>(x, LOG2_E, ROUND);
    let (whole, n) = (shifted - ROUND, shifted.to_bits().wrapping_sub(ROUND.to_bits()) as i32);
    let r = mul_add::<FUSED>(-whole, LN2[1], mul_add::<FUSED>(-whole, LN2[0], x));
    // In two steps, because 2^n alone may be out of range where the product is not.
    let half = n / 2;
    let power = |n: i32| f32::from_bits(((n + 127) as u32) << 23);
    polynomial::<FUSED>(&EXP, r) * power(half) * power(n - half)
}

#[inline(always)]
fn sigmoid<const FUSED: bool>(x: f32) -> f32 {
    1.0 / (1.0 + exp::<FUSED>(-x))
}

#[inline(always)]
fn tanh<const FUSED: bool>(x: f32) -> f32 {
    if x.abs() < TANH_SMALL {
        let s = x * x;
        x + x * s * polynomial::<FUSED>(&TANH, s)
    } else {
        (1.0 - 2.0 / (exp::<FUSED>(2.0 * x.abs()) + 1.0)).copysign(x)
    }
}

/// The normal distribution function.
#[inline(always)]
fn phi<const FUSED: bool>(x: f32) -> f32 {
    let t = x.abs().min(PHI_END);
    let tail = 0.5 * polynomial::<FUSED>(&ERFCX, 1.0 / (1.0 + PHI_P * t)) * exp::<FUSED>(-0.5 * t * t);
    if x > 0.0 { 1.0 - tail } else { tail }
}

/// An activation function.
#[inline(always)]
pub fn activation<const FUSED: bool>(act: Activation, x: f32) -> f32 {
    match act {
        Activation::Silu => x / (1.0 + exp::<FUSED>(-x)),
        Activation::Gelu if x.is_nan() => x,
        Activation::Gelu => x * phi::<FUSED>(x),
        Activation::GeluTanh => x * sigmoid::<FUSED>(GELU_TANH[0] * (x + GELU_TANH[1] * x * x * x)),
        Activation::QuickGelu => x * sigmoid::<FUSED>(QUICK_GELU * x),
        Activation::Relu => relu(x),
        Activation::Relu2 => relu(x) * relu(x),
        Activation::Tanh => tanh::<FUSED>(x),
        Activation::Sigmoid => sigmoid::<FUSED>(x),
    }
}

/// `max(x, 0)` that keeps NaN.
#[inline(always)]
fn relu(x: f32) -> f32 {
    if x < 0.0 { 0.0 } else { x }
}
