//! What the machine could do with a kernel set's instructions if nothing else were in the way: the roofline's limits.

use super::Kernels;
use std::hint::black_box;

/// A set's loops that do nothing but reach a limit.
pub struct Peak {
    /// Multiplies and adds 8-bit integers in registers; returns the number of operations.
    pub int8: unsafe fn(usize) -> usize,
    /// Multiplies and adds floats in registers; returns the number of operations.
    pub f32: unsafe fn(usize) -> usize,
    /// Reads bytes.
    pub read: unsafe fn(&[u8]),
}

impl Kernels {
    /// Multiplies and adds 8-bit integers in registers, some thousand a round; returns how many operations that were.
    pub fn peak_int8(&self, rounds: usize) -> usize {
        // SAFETY: the CPU has the instructions.
        unsafe { (self.peak.int8)(rounds) }
    }

    /// Multiplies and adds floats in registers; returns how many operations that were.
    pub fn peak_f32(&self, rounds: usize) -> usize {
        // SAFETY: the CPU has the instructions.
        unsafe { (self.peak.f32)(rounds) }
    }

    /// Reads `bytes` as fast as products read weights, but for a few at the end.
    pub fn peak_read(&self, bytes: &[u8]) {
        // SAFETY: the CPU has the instructions.
        unsafe { (self.peak.read)(bytes) }
    }
}

/// The reference set's: what the compiler makes of plain loops.
pub const SCALAR: Peak = Peak { int8, f32, read };

/// Numbers that are worked on side by side.
const WIDE: usize = 64;

fn int8(rounds: usize) -> usize {
    let (u, q) = (black_box([3i32; WIDE]), black_box([-2i32; WIDE]));
    let mut sums = [0i32; WIDE];
    for _ in 0..rounds {
        for i in 0..WIDE {
            sums[i] = sums[i].wrapping_mul(u[i]).wrapping_add(q[i]);
        }
    }
    black_box(sums);
    rounds * 2 * WIDE
}

fn f32(rounds: usize) -> usize {
    let (x, y) = (black_box([0.5f32; WIDE]), black_box([1.0f32; WIDE]));
    let mut sums = [1.0f32; WIDE];
    for _ in 0..rounds {
        for i in 0..WIDE {
            sums[i] = sums[i] * x[i] + y[i];
        }
    }
    black_box(sums);
    rounds * 2 * WIDE
}

fn read(bytes: &[u8]) {
    let mut sums = [0u64; 8];
    for line in bytes.as_chunks::<64>().0 {
        for (sum, word) in sums.iter_mut().zip(line.as_chunks::<8>().0) {
            *sum ^= u64::from_le_bytes(*word);
        }
    }
    black_box(sums);
}
