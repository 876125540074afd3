//! The exponential of a number that is not positive, the same bits on every machine.
//!
//! `f64::exp` is the platform's, and platforms differ in the last bit: enough to choose another token once in a while.
//! Here are only additions, multiplications and a shift, which IEEE 754 fixes: `exp(x) = 2^n * exp(r)` with
//! `r = x - n ln 2` in [-0.35, 0.35], and a Taylor sum for `exp(r)` (Cody and Waite 1980, chapter 6).

use std::f64::consts::LOG2_E;

/// ln 2 in two parts; the first has 32 bits, so that its product with `n` is exact.
const LN_2: [f64; 2] = [6.931_471_803_691_238e-1, 1.908_214_929_270_587_7e-10];

/// 1/13!, 1/12!, ..., 1/0!.
const TAYLOR: [f64; 14] = {
    let mut terms = [1.0; 14];
    let (mut k, mut factorial) = (1, 1.0);
    while k < 14 {
        factorial *= k as f64;
        terms[13 - k] = 1.0 / factorial;
        k += 1;
    }
    terms
};

/// `exp(x)` for `x <= 0`, to a relative error of 1e-15; 0 below -708, where results would lose bits.
pub(super) fn exp(x: f64) -> f64 {
    debug_assert!(x <= 0.0, "exp({x})");
    if x < -708.0 {
        return 0.0;
    }
    let n = (x * LOG2_E - 0.5) as i64;
    let r = (x - n as f64 * LN_2[0]) - n as f64 * LN_2[1];
    let sum = TAYLOR.iter().fold(0.0, |sum, term| sum * r + term);
    sum * f64::from_bits(((n + 1023) as u64) << 52)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_agrees_with_the_platforms_exponential() {
        let mut worst: f64 = 0.0;
        for i in 0..700_000 {
            let x = -f64::from(i) * 1.0113e-3;
            worst = worst.max((exp(x) / x.exp() - 1.0).abs());
        }
        assert!(worst < 1e-15, "{worst:e}");
    }

    #[test]
    fn its_ends_are_exact() {
        assert_eq!(exp(0.0), 1.0);
        assert_eq!(exp(-0.0), 1.0);
        assert!(exp(-708.0) > 0.0);
        assert_eq!(exp(-709.0), 0.0);
        assert_eq!(exp(f64::NEG_INFINITY), 0.0);
    }

    #[test]
    fn its_bits_are_fixed() {
        let bits: Vec<u64> = [-0.1, -1.0, -17.25, -300.5].iter().map(|&x| exp(x).to_bits()).collect();
        assert_eq!(bits, [0x3fec_f46d_99d5_2b3a, 0x3fd7_8b56_362c_ef38, 0x3e61_4f49_dbc5_078c, 0x24d6_29f5_b535_2a54]);
    }
}
