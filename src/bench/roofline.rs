//! The machine's limits, measured here and now: how fast it reads, and how fast it multiplies.
//!
//! Neither is a data sheet's number. Reading is the best of several passes over a buffer larger than any cache, on all
//! threads. Multiplying is the best that the matmul kernel does on a matrix that stays in the caches: what instructions could do
//! without loads, scales and sums is more (by about half for int8), so 100 % is what this kernel reaches when memory and
//! everything else costs nothing.

use crate::bytes::Bytes;
use crate::device::available_memory;
use crate::error::Result;
use crate::kernels::{Input, Kernels, Matrix, Pool, matmul};
use crate::quant::Dtype;
use std::hint::black_box;
use std::time::{Duration, Instant};

/// Bytes to read in a pass, where that much memory is free.
const BUFFER: u64 = 300 << 20;
/// Time for each of the three figures.
const TIME: Duration = Duration::from_millis(300);
/// Bytes of a task of the reading pass.
const PART: usize = 256 << 10;
/// Outputs for each thread, columns and rows of the resident product: what a thread works on lies in its second-level cache.
const SHAPE: (usize, usize, usize) = (128, 1024, 128);

/// The limits of one number of threads.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Roofline {
    /// Threads that worked together.
    pub threads: usize,
    /// Bytes read in a second.
    pub bandwidth: f64,
    /// Additions and multiplications in a second by the int8 kernels.
    pub int8: f64,
    /// Floating-point operations in a second by the f32 kernel.
    pub f32: f64,
}

impl Roofline {
    /// Measures for about a second.
    pub fn measure(kernels: &'static Kernels, threads: usize) -> Result<Roofline> {
        let pool = Pool::new(threads);
        let bandwidth = bandwidth(&pool);
        let int8 = product(kernels, &pool, Dtype::Q8_0)?.max(product(kernels, &pool, Dtype::Q4_0)?);
        Ok(Roofline { threads, bandwidth, int8, f32: product(kernels, &pool, Dtype::F32)? })
    }

    /// The multiply peak that a matrix of this type is held against: quantised ones multiply int8 activations.
    pub fn peak(&self, dtype: Dtype) -> f64 {
        if dtype.is_quantised() { self.int8 } else { self.f32 }
    }
}

fn bandwidth(pool: &Pool) -> f64 {
    let bytes = available_memory().map_or(BUFFER, |free| BUFFER.min(free / 4)).max(PART as u64) as usize;
    // Not zeroes: untouched pages would all be one.
    let buffer = vec![1u64; bytes / 8];
    let parts: Vec<&[u64]> = buffer.chunks(PART / 8).collect();
    best(parts.len() * PART, || {
        pool.run(parts.len(), &|task| {
            black_box(sum(parts[task]));
        });
    })
}

/// Words that are added side by side.
const LANES: usize = 8;

fn eights(words: &[u64]) -> impl Iterator<Item = &[u64; LANES]> {
    words.as_chunks::<LANES>().0.iter()
}

/// Reads everything, from four places at a time: the hardware's prefetchers then have four streams to follow.
fn sum(words: &[u64]) -> u64 {
    let quarter = words.len() / 4 / LANES * LANES;
    let (streams, rest) = words.split_at(4 * quarter);
    let (a, b) = streams.split_at(2 * quarter);
    let ((a, b), (c, d)) = (a.split_at(quarter), b.split_at(quarter));
    let mut sums = [[0u64; LANES]; 4];
    for (((a, b), c), d) in eights(a).zip(eights(b)).zip(eights(c)).zip(eights(d)) {
        for (sums, words) in sums.iter_mut().zip([a, b, c, d]) {
            for (sum, word) in sums.iter_mut().zip(words) {
                *sum = sum.wrapping_add(*word);
            }
        }
    }
    sums.iter().flatten().chain(rest).fold(0, |sum, word| sum.wrapping_add(*word))
}

fn product(kernels: &'static Kernels, pool: &Pool, dtype: Dtype) -> Result<f64> {
    let (each, cols, rows) = SHAPE;
    let outputs = each * pool.threads().max(2);
    let bytes = dtype.bytes(outputs * cols).unwrap_or_default();
    // Such bytes are ordinary numbers in every format: subnormal ones would cost an assist each.
    let stored: Vec<u8> = (0..bytes).map(|i| (i as u32).wrapping_mul(2_654_435_761).to_be_bytes()[0] & 7 | 0x38).collect();
    let matrix = Matrix::new(kernels, pool, dtype, outputs, cols, &Bytes::from(stored))?;
    let x: Vec<f32> = (0..rows * cols).map(|i| (i as f32 * 0.7).sin()).collect();
    let (mut input, mut out) = (Input::new(), vec![0.0; rows * outputs]);
    input.prepare(kernels, pool, &x, rows, cols, &[&matrix]);
    Ok(best(2 * outputs * cols * rows, || matmul(kernels, pool, &input, &[&matrix], &[None], &mut out)))
}

/// The most units in a second of many calls that do `units` each.
fn best(units: usize, mut call: impl FnMut()) -> f64 {
    let (mut best, start) = (f64::INFINITY, Instant::now());
    while start.elapsed() < TIME {
        let round = Instant::now();
        call();
        best = best.min(round.elapsed().as_secs_f64().max(1e-9));
    }
    units as f64 / best
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_reading_pass_reads_every_word() {
        for len in [0, 1, 7, 31, 32, 33, 1000, 4096] {
            let words: Vec<u64> = (0..len).map(|i| i * i + 1).collect();
            assert_eq!(sum(&words), words.iter().sum::<u64>(), "{len}");
        }
    }
}
