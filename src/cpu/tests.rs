//! Every set of kernels against definitions in `f64`, and the promise of equal bits.

mod append;
mod attention;
mod packed;

use super::input::{self, InputRecord, SCALE};
use super::panel::{BLOCK, PanelFormat};
use super::*;
use crate::Bytes;
use crate::quant::{Dtype, dequantise};
use std::slice::from_ref;

/// A small generator of test numbers (splitmix64).
pub struct Random(pub u64);

impl Random {
    pub fn bits(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// Uniform in ±1.
    pub fn float(&mut self) -> f32 {
        (self.bits() >> 40) as f32 / (1 << 23) as f32 - 1.0
    }

    /// Sums of three, with now and then a large one: more like activations.
    pub fn floats(&mut self, count: usize) -> Vec<f32> {
        let one = |r: &mut Random| (r.float() + r.float() + r.float()) * if r.bits().is_multiple_of(50) { 8.0 } else { 1.0 };
        (0..count).map(|_| one(self)).collect()
    }

    /// A stored matrix: random bits with scales of reasonable size. It starts at an odd address.
    pub fn stored(&mut self, dtype: Dtype, rows: usize, cols: usize) -> Bytes {
        let mut bytes = vec![0];
        for _ in 0..rows * cols / dtype.block() {
            let start = bytes.len();
            bytes.extend((0..dtype.block_bytes()).map(|_| self.bits() as u8));
            let mut half = |at: usize, size: f32| {
                let value = half::f16::from_f32(self.float() * size);
                bytes[start + at..start + at + 2].copy_from_slice(&value.to_le_bytes());
            };
            match dtype {
                Dtype::F32 => {
                    let value = self.float().to_le_bytes();
                    bytes[start..].copy_from_slice(&value);
                }
                Dtype::F16 => half(0, 1.0),
                Dtype::BF16 => {
                    let value = half::bf16::from_f32(self.float()).to_le_bytes();
                    bytes[start..].copy_from_slice(&value);
                }
                Dtype::Q4_0 | Dtype::Q5_0 | Dtype::Q8_0 => half(0, 0.1),
                Dtype::IQ4_NL => half(0, 0.01),
                Dtype::IQ4_XS => half(0, 0.0005),
                Dtype::Q4_1 | Dtype::Q5_1 => (half(0, 0.1), half(2, 0.5)).1,
                Dtype::Q4_K | Dtype::Q5_K => (half(0, 0.01), half(2, 0.05)).1,
                Dtype::Q2_K => (half(80, 0.01), half(82, 0.05)).1,
                Dtype::Q3_K => half(108, 0.01),
                Dtype::Q6_K => half(208, 0.01),
            }
        }
        let end = bytes.len();
        Bytes::from(bytes).slice(1..end).unwrap()
    }
}

fn sets() -> Vec<&'static Kernels> {
    Kernels::available()
}

fn matrix(dtype: Dtype, rows: usize, cols: usize, seed: u64) -> (Matrix, Vec<f32>) {
    let bytes = Random(seed).stored(dtype, rows, cols);
    let mut floats = vec![0.0; rows * cols];
    dequantise(dtype, &bytes, &mut floats);
    (Matrix::new(&Pool::new(2), dtype, rows, cols, &bytes).unwrap(), floats)
}

/// The activations as the kernels see them: dequantised int8 for quantised weights.
fn seen(dtype: Dtype, x: &[f32]) -> Vec<f64> {
    if !dtype.is_quantised() {
        return x.iter().map(|&x| x as f64).collect();
    }
    let mut out = Vec::new();
    for x in x.chunks(BLOCK) {
        let absmax = x.iter().fold(0f32, |max, x| max.max(x.abs()));
        let (scale, factor) = (f16::from_f32(absmax / 127.0).to_f32(), 127.0 / absmax);
        out.extend(x.iter().map(|x| if scale == 0.0 { 0.0 } else { (x * factor).round_ties_even() as f64 * scale as f64 }));
    }
    out
}

fn product(
    kernels: &'static Kernels,
    pool: &Pool,
    x: &[f32],
    rows: usize,
    weights: &[Matrix],
    biases: &[Option<Vec<f32>>],
) -> Vec<f32> {
    let mut input = MatmulInput::new();
    input.prepare(kernels, pool, x, rows, weights[0].cols(), weights);
    let mut out = vec![f32::NAN; rows * weights.iter().map(|w| w.rows()).sum::<usize>()];
    matmul(kernels, pool, x, &input, weights, biases, &mut out);
    out
}

fn bits(x: &[f32]) -> Vec<u32> {
    x.iter().map(|x| x.to_bits()).collect()
}

/// Columns worth testing: one block, an odd number of them, several; for floats every kind of tail.
fn widths(dtype: Dtype) -> Vec<usize> {
    match dtype.block() {
        1 => vec![1, 7, 15, 16, 17, 31, 33, 64, 100, 577],
        32 => vec![32, 96, 576],
        block => vec![block, 3 * block],
    }
}

#[test]
fn products_equal_the_definition_in_double_precision() {
    let pool = Pool::new(2);
    for kernels in sets() {
        for dtype in Dtype::all() {
            for cols in widths(dtype) {
                for outputs in [1, 15, 16, 17, 70] {
                    let (matrix, w) = matrix(dtype, outputs, cols, 7 + outputs as u64);
                    for rows in [0, 1, 2, 3, 12, 13, 17, 64] {
                        let x = Random(rows as u64).floats(rows * cols);
                        let bias = Random(9).floats(outputs);
                        let got = product(kernels, &pool, &x, rows, from_ref(&matrix), &[Some(bias.clone())]);
                        let x = seen(dtype, &x);
                        for (i, got) in got.iter().enumerate() {
                            let (row, output) = (i / outputs, i % outputs);
                            let terms = (0..cols).map(|k| x[row * cols + k] * w[output * cols + k] as f64);
                            // Formats with mins add two large parts that may cancel: errors are measured by both.
                            let size: f64 = terms.clone().map(f64::abs).sum::<f64>() + 8.0 * bias[output].abs() as f64;
                            let expected = terms.sum::<f64>() + bias[output] as f64;
                            let error = (*got as f64 - expected).abs();
                            assert!(
                                error <= 1e-6 * size + 1e-5,
                                "{kernels:?} {dtype} {rows}x{cols}x{outputs} at {row},{output}: {got}, not {expected}"
                            );
                        }
                    }
                }
            }
        }
    }
}

#[test]
fn products_have_the_same_bits_under_every_set() {
    let pool = Pool::new(1);
    for dtype in Dtype::all() {
        for cols in widths(dtype) {
            for outputs in [1, 16, 17, 70] {
                let x = Random(3).floats(33 * cols);
                let results: Vec<_> = sets()
                    .into_iter()
                    .map(|kernels| {
                        let (matrix, _) = matrix(dtype, outputs, cols, 5);
                        [1, 3, 9, 33]
                            .map(|rows| bits(&product(kernels, &pool, &x[..rows * cols], rows, from_ref(&matrix), &[None])))
                    })
                    .collect();
                assert!(results.iter().all(|r| r == &results[0]), "{dtype} {cols}x{outputs}");
            }
        }
    }
}

#[test]
fn an_output_has_the_same_bits_whatever_is_computed_beside_it() {
    let pools = [1, 2, 3].map(Pool::new);
    for kernels in sets() {
        for dtype in Dtype::all() {
            let cols = if dtype.block() == 1 { 300 } else { 768 };
            let (first, _) = matrix(dtype, 137, cols, 1);
            let (second, _) = matrix(Dtype::Q4_1, 50, 768, 2);
            let (third, _) = matrix(Dtype::F16, 10, cols, 3);
            let x = Random(4).floats(300 * cols);
            let all = bits(&product(kernels, &pools[0], &x, 300, from_ref(&first), &[None]));
            for rows in [1, 2, 4, 5, 7, 8, 9, 11, 12, 13, 15, 16, 17, 47, 64, 100, 300] {
                for pool in &pools {
                    let got = product(kernels, pool, &x[..rows * cols], rows, from_ref(&first), &[None]);
                    assert_eq!(bits(&got), all[..rows * 137], "{kernels:?} {dtype} {rows} rows, {} threads", pool.threads());
                }
            }
            let group = if cols == 768 { vec![second, first, third] } else { vec![third, first] };
            let before = group[0].rows();
            for rows in [1, 33] {
                let got = product(kernels, &pools[2], &x[..rows * cols], rows, &group, &vec![None; group.len()]);
                for (row, got) in got.chunks(got.len() / rows).enumerate() {
                    assert_eq!(bits(&got[before..before + 137]), all[row * 137..][..137], "{kernels:?} {dtype} in a group");
                }
            }
        }
    }
}

#[test]
fn every_row_comes_back_exactly_and_panels_are_hardly_larger_than_the_file() {
    for dtype in Dtype::all() {
        for (rows, cols) in [(1, 256), (16, 512), (35, 768)] {
            let (matrix, floats) = matrix(dtype, rows, cols, 11);
            let table = Matrix::table(dtype, rows, cols, Random(11).stored(dtype, rows, cols)).unwrap();
            let mut out = vec![0.0; cols];
            for row in 0..rows {
                matrix.row(row, &mut out);
                assert_eq!(bits(&out), bits(&floats[row * cols..][..cols]), "{dtype} row {row}");
                table.row(row, &mut out);
                assert_eq!(bits(&out), bits(&floats[row * cols..][..cols]), "{dtype} row {row} of a table");
            }
            let stored = dtype.bytes(rows.next_multiple_of(16) * cols).unwrap();
            // A panel whose last section has one head in place of two leaves the other's place free: 288 bytes at most.
            let bound = stored as f64 * 1.03 + (rows.div_ceil(16) * 288) as f64;
            assert!(matrix.bytes() as f64 <= bound, "{dtype}: {} for {stored}", matrix.bytes());
        }
    }
}

#[test]
fn wrong_shapes_are_errors() {
    let pool = Pool::new(1);
    let kernels = sets()[0];
    let new = |dtype, rows, cols, bytes: usize| Matrix::new(&pool, dtype, rows, cols, &vec![0; bytes].into());
    assert!(new(Dtype::Q4_0, 2, 48, 54).is_err());
    assert!(new(Dtype::Q4_K, 1, 128, 72).is_err());
    assert!(new(Dtype::Q8_0, 2, 32, 67).is_err());
    assert!(new(Dtype::F32, usize::MAX, 32, 67).is_err());
    assert_eq!(new(Dtype::Q8_0, 2, 32, 68).unwrap().bytes(), 16 * 34 + 32);
    for (rows, cols) in [(0, 32), (2, 0), (0, 0)] {
        for dtype in Dtype::all().filter(|dtype| dtype.block() <= 32) {
            let matrix = new(dtype, rows, cols, 0).unwrap();
            let bias = vec![0.5; rows];
            let got = product(kernels, &pool, &vec![1.0; 3 * cols], 3, from_ref(&matrix), &[Some(bias)]);
            assert_eq!(got, vec![0.5; 3 * rows]);
        }
    }
}

#[test]
fn records_hold_what_the_definition_says_under_every_set() {
    let mut x = Random(1).floats(20 * BLOCK);
    x[..BLOCK].fill(0.0);
    x[BLOCK..2 * BLOCK].iter_mut().for_each(|x| *x *= 1e-36);
    x[2 * BLOCK] = 3e38;
    x[3 * BLOCK + 5] = f32::INFINITY;
    x[4 * BLOCK + 31] = f32::NAN;
    x[5 * BLOCK..6 * BLOCK].iter_mut().for_each(|x| *x = x.round());
    let of = |kernels: &'static Kernels| {
        let (mut wide, mut narrow) = ([InputRecord::ZERO; 20], [InputRecord::ZERO; 20]);
        kernels.quantise(&x, &mut wide, &mut narrow);
        kernels.quantise(&x, &mut [], &mut narrow);
        (wide, narrow)
    };
    let (wide, narrow) = of(&isa::scalar::KERNELS);
    assert_eq!(wide[3].rest[SCALE], f32::INFINITY.to_bits());
    assert!(f32::from_bits(wide[4].rest[SCALE]).is_nan());
    for (block, (wide, narrow)) in wide.iter().zip(&narrow).enumerate().skip(2) {
        assert_eq!(wide.values, narrow.values);
        if block == 3 || block == 4 {
            assert_eq!(wide.values, [0; BLOCK]);
            continue;
        }
        let scale = f32::from_bits(wide.rest[SCALE]);
        for (x, q) in x[block * BLOCK..].iter().zip(wide.values) {
            // Half a step, and what rounding the scale to 11 bits moves at the far end: 127 / 2048.
            assert!((x - q as f32 * scale).abs() <= scale * 0.565, "block {block}: {x} as {q} times {scale}");
        }
        let sums = [0, 16].map(|at| wide.values[at..at + 16].iter().map(|&q| q as i32).sum::<i32>());
        assert_eq!(
            wide.rest[2..5].iter().map(|&v| v as i32).collect::<Vec<_>>(),
            [8, 16, 128].map(|z| -z * (sums[0] + sums[1]))
        );
        assert_eq!(narrow.rest[3..5].iter().map(|&v| v as i32).collect::<Vec<_>>(), sums.map(|sum| -4 * sum));
        assert_eq!(narrow.rest[5..7].iter().map(|&v| v as i32).collect::<Vec<_>>(), sums.map(|sum| -32 * sum));
    }
    // NaN payloads may differ between sets.
    let plain = |(wide, narrow): ([InputRecord; 20], [InputRecord; 20])| {
        let clean =
            |r: &InputRecord| (r.values, r.rest.map(|bits| if f32::from_bits(bits).is_nan() { u32::MAX } else { bits }));
        wide.iter()
            .chain(&narrow)
            .enumerate()
            .filter(|(i, _)| i % 20 != 3 && i % 20 != 4)
            .map(|(_, r)| clean(r))
            .collect::<Vec<_>>()
    };
    for kernels in sets() {
        let got = of(kernels);
        assert_eq!(got.0[3].rest[SCALE], f32::INFINITY.to_bits());
        assert!(f32::from_bits(got.1[4].rest[SCALE]).is_nan());
        let (mut wide, mut narrow) = (wide, narrow);
        #[cfg(target_arch = "x86_64")]
        if kernels.name() == "avx512" {
            let biased = |starts: &mut [u32]| starts.iter_mut().for_each(|x| *x = x.wrapping_add(isa::avx512::BIAS.to_bits()));
            wide.iter_mut().for_each(|record| biased(&mut record.rest[2..5]));
            narrow.iter_mut().for_each(|record| biased(&mut record.rest[3..7]));
        }
        assert_eq!(plain(got), plain((wide, narrow)), "{kernels:?}");
    }
    assert_eq!(input::start(&PanelFormat::of(Dtype::Q8_0).unwrap()), Some(4));
}

#[test]
fn a_nan_or_infinity_comes_out_as_one() {
    let pool = Pool::new(1);
    for kernels in sets() {
        for dtype in Dtype::all() {
            let (matrix, _) = matrix(dtype, 20, 256, 3);
            for bad in [f32::NAN, f32::INFINITY, f32::NEG_INFINITY] {
                let mut x = Random(5).floats(20 * 256);
                x[256 + 77] = bad;
                let got = product(kernels, &pool, &x, 20, from_ref(&matrix), &[None]);
                assert!(got[20..40].iter().all(|x| !x.is_finite()), "{kernels:?} {dtype} {bad}");
                assert!(got[..20].iter().chain(&got[40..]).all(|x| x.is_finite()), "{kernels:?} {dtype} {bad}");
            }
        }
    }
}

/// `erf` in double precision: its series, and its continued fraction further out.
fn erf(x: f64) -> f64 {
    if x.abs() < 3.0 {
        let (mut term, mut sum) = (x, x);
        for n in 1..100 {
            term *= -x * x / n as f64;
            sum += term / (2 * n + 1) as f64;
        }
        return sum * std::f64::consts::FRAC_2_SQRT_PI;
    }
    let t = x.abs();
    let fraction = (1..60).rev().fold(t, |f, k| t + k as f64 / 2.0 / f);
    (1.0 - (-t * t).exp() / (fraction * std::f64::consts::PI.sqrt())) * x.signum()
}

/// `erfc` for positive arguments, without cancellation far out.
fn normal(x: f64) -> f64 {
    let t = x.abs() * std::f64::consts::FRAC_1_SQRT_2;
    let tail = if t < 3.0 {
        0.5 * (1.0 - erf(t))
    } else {
        let fraction = (1..60).rev().fold(t, |f, k| t + k as f64 / 2.0 / f);
        0.5 * (-t * t).exp() / (fraction * std::f64::consts::PI.sqrt())
    };
    if x > 0.0 { 1.0 - tail } else { tail }
}

const ACTIVATIONS: [Activation; 8] = [
    Activation::Silu,
    Activation::Gelu,
    Activation::GeluTanh,
    Activation::QuickGelu,
    Activation::Relu,
    Activation::Relu2,
    Activation::Tanh,
    Activation::Sigmoid,
];

fn exact(act: Activation, x: f64) -> f64 {
    let sigmoid = |x: f64| 1.0 / (1.0 + (-x).exp());
    match act {
        Activation::Silu => x * sigmoid(x),
        Activation::Gelu => x * normal(x),
        Activation::GeluTanh => x * sigmoid((8.0 / std::f64::consts::PI).sqrt() * (x + 0.044715 * x * x * x)),
        Activation::QuickGelu => x * sigmoid(1.702 * x),
        Activation::Relu => x.max(0.0),
        Activation::Relu2 => x.max(0.0) * x.max(0.0),
        Activation::Tanh => x.tanh(),
        Activation::Sigmoid => sigmoid(x),
    }
}

#[test]
fn activations_are_exact_to_single_precision() {
    for kernels in sets() {
        for act in ACTIVATIONS {
            let x: Vec<f32> = (0..200_001).map(|i| (i - 100_000) as f32 * 1e-4 * if i % 7 == 0 { 9.0 } else { 1.0 }).collect();
            let mut got = x.clone();
            kernels.activate(act, &mut got);
            for (&x, &got) in x.iter().zip(&got) {
                let expected = exact(act, x as f64);
                let error = (got as f64 - expected).abs();
                // The last term is for where a function falls towards zero; GELU does so as exactly as a sum with 1 can.
                let small = if act == Activation::Gelu { 4e-7 } else { 1e-9 * x.abs() as f64 };
                assert!(error <= 1.5e-6 * expected.abs() + small, "{kernels:?} {act:?}({x}) = {got}, not {expected}");
            }
            let up = Random(1).floats(x.len());
            let mut out = vec![0.0; x.len()];
            kernels.gated(act, &x, &up, &mut out);
            let expected: Vec<f32> = got.iter().zip(&up).map(|(x, y)| x * y).collect();
            assert_eq!(bits(&out), bits(&expected), "{kernels:?} {act:?}");
        }
    }
}

#[test]
fn activations_of_special_values() {
    for kernels in sets() {
        for act in ACTIVATIONS {
            for len in [1, 5, 16, 23] {
                let mut x = vec![f32::NAN; len];
                kernels.activate(act, &mut x);
                assert!(x.iter().all(|x| x.is_nan()), "{kernels:?} {act:?}");
                let mut x = vec![1e4; len];
                kernels.activate(act, &mut x);
                assert!(x.iter().all(|&x| x == exact(act, 1e4) as f32), "{kernels:?} {act:?}: {x:?}");
                let mut x = vec![-1e4; len];
                kernels.activate(act, &mut x);
                assert!(x.iter().all(|&x| x == exact(act, -1e4) as f32), "{kernels:?} {act:?}: {x:?}");
            }
        }
    }
}

#[test]
fn an_elements_bits_do_not_depend_on_its_place() {
    for kernels in sets() {
        let x = Random(8).floats(100);
        for act in ACTIVATIONS {
            let mut all = x.clone();
            kernels.activate(act, &mut all);
            for from in [1, 3, 17, 99] {
                let mut part = x[from..].to_vec();
                kernels.activate(act, &mut part);
                assert_eq!(bits(&part), bits(&all[from..]), "{kernels:?} {act:?}");
            }
        }
    }
}

fn close(got: &[f32], expected: &[f64], tolerance: f64, what: &str) {
    assert_eq!(got.len(), expected.len());
    for (i, (got, expected)) in got.iter().zip(expected).enumerate() {
        let error = (*got as f64 - expected).abs();
        assert!(error <= tolerance * expected.abs().max(1.0), "{what} at {i}: {got}, not {expected}");
    }
}

#[test]
fn norms_equal_the_definition_in_double_precision() {
    for kernels in sets() {
        for dim in [1, 2, 15, 16, 17, 63, 64, 100, 576, 1031] {
            let mut r = Random(dim as u64);
            let (x, w, b) = (r.floats(dim), r.floats(dim), r.floats(dim));
            let n = dim as f64;
            let mut got = vec![f32::NAN; dim];
            kernels.rms_norm(&x, &w, 1e-5, &mut got);
            let square: f64 = x.iter().map(|&x| x as f64 * x as f64).sum();
            let factor = 1.0 / (square / n + 1e-5).sqrt();
            let expected: Vec<f64> = x.iter().zip(&w).map(|(&x, &w)| x as f64 * factor * w as f64).collect();
            close(&got, &expected, 2e-6, &format!("{kernels:?} rms_norm of {dim}"));

            kernels.layer_norm(&x, &w, &b, 1e-5, &mut got);
            let mean = x.iter().map(|&x| x as f64).sum::<f64>() / n;
            let variance = x.iter().map(|&x| (x as f64 - mean).powi(2)).sum::<f64>() / n;
            let factor = 1.0 / (variance + 1e-5).sqrt();
            let expected: Vec<f64> = (0..dim).map(|i| (x[i] as f64 - mean) * factor * w[i] as f64 + b[i] as f64).collect();
            // A single element is its own mean: rounding is all that is left of the difference.
            close(&got, &expected, 5e-6, &format!("{kernels:?} layer_norm of {dim}"));
        }
    }
}

#[test]
fn rope_rotates_pairs_and_leaves_the_rest() {
    for kernels in sets() {
        for (dim, n) in [(64, 32), (64, 16), (80, 40), (10, 3), (128, 64), (6, 0), (34, 17)] {
            for interleaved in [false, true] {
                let mut r = Random(n as u64);
                let head = r.floats(dim);
                let (cos, sin): (Vec<f32>, Vec<f32>) = (0..n).map(|_| r.float() * 3.0).map(|a| (a.cos(), a.sin())).unzip();
                let mut got = head.clone();
                kernels.rope(&mut got, &cos, &sin, interleaved);
                let mut expected: Vec<f64> = head.iter().map(|&x| x as f64).collect();
                for i in 0..n {
                    let (a, b) = if interleaved { (2 * i, 2 * i + 1) } else { (i, i + n) };
                    let (x, y, c, s) = (head[a] as f64, head[b] as f64, cos[i] as f64, sin[i] as f64);
                    (expected[a], expected[b]) = (x * c - y * s, y * c + x * s);
                }
                close(&got, &expected, 1e-6, &format!("{kernels:?} rope {dim} {n} {interleaved}"));
                assert_eq!(bits(&got[2 * n..]), bits(&head[2 * n..]));
            }
        }
    }
}

#[test]
fn adding_adds() {
    for kernels in sets() {
        for len in [0, 1, 15, 16, 17, 100] {
            let (mut x, y) = (Random(1).floats(len), Random(2).floats(len));
            let expected: Vec<f32> = x.iter().zip(&y).map(|(x, y)| x + y).collect();
            kernels.add(&mut x, &y);
            assert_eq!(bits(&x), bits(&expected));
        }
    }
}

#[test]
fn half_precision_rounds_as_the_half_crate_does() {
    let mut x = Random(1).floats(1000);
    x.extend([0.0, -0.0, 65504.0, 65520.0, 1e-8, 6e-8, 3e-5, f32::INFINITY, -1e30]);
    for kernels in sets() {
        let mut out = vec![half::f16::ZERO; x.len()];
        kernels.to_f16(&x, &mut out);
        for (x, out) in x.iter().zip(&out) {
            assert_eq!(out.to_bits(), half::f16::from_f32(*x).to_bits(), "{kernels:?} {x}");
        }
    }
}

#[test]
fn an_unknown_set_has_no_kernels_and_scalar_is_always_there() {
    assert!(Kernels::named("sse9").is_none());
    assert_eq!(Kernels::available().last().unwrap().name(), "scalar");
    assert!(Kernels::get().is_ok() || std::env::var(VARIABLE).is_ok());
}
