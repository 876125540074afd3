//! The machine's limits, measured here and now: how fast it reads, and how fast it multiplies.
//!
//! Neither is a data sheet's number. Reading is the best of several passes over a buffer larger than any cache, with
//! prefetch and in huge pages as the weights are, on all threads. Multiplying is the best that the kernel set's instructions do with nothing but registers:
//! a product can not get there, for it loads, scales and sums as well. A Q4_0 product has eight multiplies in eleven
//! instructions: 73 % of the peak at most where all of them take turns on the same units (Intel's).

use crate::cpu::{Kernels, Pool, anonymous};
use crate::device::available_memory;
use crate::quant::Dtype;
use std::hint::black_box;
use std::time::{Duration, Instant};

/// Bytes to read in a pass, where that much memory is free.
const BUFFER: u64 = 300 << 20;
/// Time for each of the three figures.
const TIME: Duration = Duration::from_millis(300);
/// Time for reading once more.
const AGAIN: Duration = Duration::from_millis(100);
/// Bytes of a task of the reading pass.
const PART: usize = 256 << 10;
/// Rounds of a multiplying task: some hundred microseconds.
const ROUNDS: usize = 10_000;

/// The limits of one number of threads.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Roofline {
    /// Threads that worked together.
    pub threads: usize,
    /// Bytes read in a second.
    pub bandwidth: f64,
    /// Additions and multiplications in a second of 8-bit integers, in registers.
    pub int8: f64,
    /// Floating-point operations in a second, in registers.
    pub f32: f64,
}

impl Roofline {
    /// Measures for about a second.
    pub fn measure(kernels: &'static Kernels, threads: usize) -> Roofline {
        let pool = Pool::new(threads);
        Roofline {
            threads,
            bandwidth: bandwidth(kernels, &pool, TIME),
            int8: multiply(&pool, |rounds| kernels.peak_int8(rounds)),
            f32: multiply(&pool, |rounds| kernels.peak_f32(rounds)),
        }
    }

    /// Bytes that `threads` threads read in a second, now: for about a tenth of a second, with some for the buffer.
    pub fn bandwidth(kernels: &'static Kernels, threads: usize) -> f64 {
        bandwidth(kernels, &Pool::new(threads), AGAIN)
    }

    /// The multiply peak that a matrix of this type is held against: quantised ones multiply int8 activations.
    pub fn peak(&self, dtype: Dtype) -> f64 {
        if dtype.is_quantised() { self.int8 } else { self.f32 }
    }
}

fn bandwidth(kernels: &'static Kernels, pool: &Pool, time: Duration) -> f64 {
    let bytes = available_memory().map_or(BUFFER, |free| BUFFER.min(free / 4)).max(PART as u64) as usize;
    // In such pages as weights are. If the system has no room for them, nothing is read, and there are no shares.
    let Ok(mut buffer) = anonymous(bytes) else { return 0.0 };
    // Not zeroes: untouched pages would all be one.
    buffer.fill(1);
    let parts: Vec<&[u8]> = buffer.chunks(PART).collect();
    best(parts.len() * PART, time, || pool.run(parts.len(), &|task| kernels.peak_read(parts[task])))
}

/// `work` on all threads at once.
fn multiply(pool: &Pool, work: impl Fn(usize) -> usize + Sync) -> f64 {
    let tasks = pool.threads() * 4;
    let units = work(1) * ROUNDS * tasks;
    best(units, TIME, || {
        pool.run(tasks, &|_| {
            black_box(work(black_box(ROUNDS)));
        });
    })
}

/// The most units in a second of the calls in a `time`, that do `units` each.
fn best(units: usize, time: Duration, mut call: impl FnMut()) -> f64 {
    let (mut best, start) = (f64::INFINITY, Instant::now());
    while start.elapsed() < time {
        let round = Instant::now();
        call();
        best = best.min(round.elapsed().as_secs_f64().max(1e-9));
    }
    units as f64 / best
}
