//! The read bandwidth in the moments that count.

use tallow::bench::{Measurement, Roofline, Test, peak_memory, reset_peak_memory};
use tallow::cpu::Kernels;

/// The read bandwidth, measured anew before each sample that memory limits: on a shared machine it doubles and halves within a minute.
pub struct Readings {
    /// Runner, test, threads, and bytes in a second.
    taken: Vec<(usize, Test, usize, f64)>,
    /// The most memory in use so far, but for the buffers that were read.
    peak: Option<u64>,
    /// Whether the system tells it, and forgets it.
    tells_peak: bool,
}

impl Readings {
    /// None so far. `tells_peak`: the system tells the most memory in use, and forgets it.
    pub fn new(tells_peak: bool) -> Readings {
        Readings { taken: Vec::new(), peak: None, tells_peak }
    }

    /// Reads before a sample of `runner`, which has so many threads.
    pub fn take(&mut self, runner: usize, test: Test, threads: usize) {
        // Without kernels there would have been no model on the CPU.
        let Ok(kernels) = Kernels::get() else { return };
        self.peak = self.peak();
        self.taken.push((runner, test, threads, Roofline::bandwidth(kernels, threads)));
        self.tells_peak &= reset_peak_memory();
    }

    /// The most memory that was in use, but for what was read here.
    pub fn peak(&self) -> Option<u64> {
        if self.tells_peak { self.peak.max(peak_memory()) } else { None }
    }

    /// What was read in a second, in the mean, before the samples of a measurement.
    pub fn mean(&self, of: &Measurement) -> Option<f64> {
        let read = self.taken.iter().filter(|taken| (taken.0, taken.1) == (of.runner, of.test)).map(|taken| taken.3);
        let count = read.clone().count();
        (count > 0).then(|| read.sum::<f64>() / count as f64)
    }

    /// The least and the most that so many threads read in a second, `first` included.
    pub fn range(&self, threads: usize, first: f64) -> (f64, f64) {
        let read = self.taken.iter().filter(|taken| taken.2 == threads).map(|taken| taken.3);
        read.fold((first, first), |(least, most), read| (least.min(read), most.max(read)))
    }
}
