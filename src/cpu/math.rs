//! The transcendental functions, as polynomials in `f32`: one definition that every vector unit repeats step by step.
//!
//! | function | method | largest error |
//! |---|---|---|
//! | `exp` | Cody and Waite's reduction, degree 6 on ±ln(2)/2 | 2 units in the last place |
//! | GELU | the normal distribution's tail as a polynomial of degree 16 | 4e-7, that of `0.5 x (1 + erf(x / sqrt(2)))` in `f32` |
//! | `tanh` | odd polynomial of degree 11 below 0.625, else from `exp` | 3 units in the last place |
//!
//! The coefficients are minimax fits (iterated reweighted least squares against SciPy in double precision) of the relative error, of the
//! tail times its argument for GELU.

use crate::spec::Activation;

/// `1 / ln 2`.
pub const LOG2_E: f32 = std::f32::consts::LOG2_E;
/// `ln 2` in two parts, the first with trailing zeroes.
pub const LN2: [f32; 2] = [355.0 / 512.0, -2.121_944_4e-4];
/// Below this `exp` is 0 and above [`EXP_CEILING`] infinity, which the rounding to powers of two gives where those end.
pub const EXP_FLOOR: f32 = -88.0;
/// See [`EXP_FLOOR`].
pub const EXP_CEILING: f32 = 89.0;
/// `1.5 * 2^23`: a small number added to it loses its fraction, and is an integer in the last bits.
pub const ROUND: f32 = 12_582_912.0;
/// `exp`'s polynomial on ±ln(2)/2, from the constant up.
pub const EXP: [f32; 7] = [1.0, 1.0, 0.499_999_94, 0.166_665_21, 0.041_668_39, 0.008_368_717_5, 0.001_381_459_6];

/// The normal distribution's tail beyond `t`, from 0 to [`GELU_END`], in powers of `2 t / GELU_END - 1`; at the end it is 0.
pub const TAIL: [f32; 17] = [
    2.979_776e-3,
    -2.500_750_7e-2,
    9.455_801_5e-2,
    -0.206_835_14,
    0.271_903_04,
    -0.176_794_68,
    -5.165_619_4e-2,
    0.216_249_99,
    -0.161_314_71,
    -2.844_547_7e-2,
    0.127_662_42,
    -5.919_61e-2,
    -3.448_330_6e-2,
    3.806_798_5e-2,
    -1.944_407_9e-3,
    -8.039_944e-3,
    2.296_248e-3,
];
/// From here on GELU is 0 or its argument.
pub const GELU_END: f32 = 5.5;

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
    let (last, rest) = coefficients.split_last().expect("a polynomial has coefficients");
    rest.iter().rev().fold(*last, |sum, &c| mul_add::<FUSED>(sum, x, c))
}

/// `x`, but no less than `floor`; NaN stays one, here and below.
#[inline(always)]
fn at_least(x: f32, floor: f32) -> f32 {
    if x < floor { floor } else { x }
}

/// `x`, but no more than `ceiling`.
#[inline(always)]
fn at_most(x: f32, ceiling: f32) -> f32 {
    if x > ceiling { ceiling } else { x }
}

/// `e^x`; 0 below -87.6, and infinity above 88.4. `FUSED` here and below: whether products and sums that follow one another are rounded together.
#[inline(always)]
pub fn exp<const FUSED: bool>(x: f32) -> f32 {
    let x = at_most(at_least(x, EXP_FLOOR), EXP_CEILING);
    // Rounds to an integer, ties to even, whose bits are the last ones of the sum: a cast, which saturates, would be done lane by lane.
    let shifted = mul_add::<FUSED>(x, LOG2_E, ROUND);
    let whole = shifted - ROUND;
    let r = mul_add::<FUSED>(-whole, LN2[1], mul_add::<FUSED>(-whole, LN2[0], x));
    // From -127, where this is 0, to 128, where it is infinity. The upper bits of `ROUND` are shifted out.
    let power = f32::from_bits(shifted.to_bits().wrapping_add(127) << 23);
    polynomial::<FUSED>(&EXP, r) * power
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

/// `x` times the normal distribution function.
#[inline(always)]
fn gelu<const FUSED: bool>(x: f32) -> f32 {
    let t = at_most(x.abs(), GELU_END);
    let tail = polynomial::<FUSED>(&TAIL, mul_add::<FUSED>(t, 2.0 / GELU_END, -1.0));
    mul_add::<FUSED>(-t, tail, at_least(x, 0.0))
}

/// An activation function.
#[inline(always)]
pub fn activation<const FUSED: bool>(act: Activation, x: f32) -> f32 {
    match act {
        Activation::Silu => x / (1.0 + exp::<FUSED>(-x)),
        Activation::Gelu => gelu::<FUSED>(x),
        Activation::GeluTanh => x * sigmoid::<FUSED>(GELU_TANH[0] * (x + GELU_TANH[1] * x * x * x)),
        Activation::QuickGelu => x * sigmoid::<FUSED>(QUICK_GELU * x),
        Activation::Relu => at_least(x, 0.0),
        Activation::Relu2 => at_least(x, 0.0) * at_least(x, 0.0),
        Activation::Tanh => tanh::<FUSED>(x),
        Activation::Sigmoid => sigmoid::<FUSED>(x),
    }
}
