//! What a few samples mean.
//!
//! The interval is the percentile bootstrap of the mean (Efron 1979): it assumes no distribution, which suits times on a
//! shared machine. With five samples it is somewhat narrow; the samples are reported beside it.

use rand_chacha::ChaCha12Rng;
use rand_chacha::rand_core::{Rng, SeedableRng};

/// Means drawn for the interval.
const RESAMPLES: usize = 2000;

/// A sample in a few numbers.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Summary {
    /// Arithmetic mean.
    pub mean: f64,
    /// The middle one, or the mean of the two in the middle.
    pub median: f64,
    /// Standard deviation of the sample (n - 1); 0 for one value.
    pub deviation: f64,
    /// 95 % interval of the mean.
    pub interval: (f64, f64),
}

impl Summary {
    /// Summarises `samples`; `None` if there are none. The same seed gives the same interval.
    pub fn of(samples: &[f64], seed: u64) -> Option<Summary> {
        if samples.is_empty() {
            return None;
        }
        let n = samples.len();
        let mean = samples.iter().sum::<f64>() / n as f64;
        let squares: f64 = samples.iter().map(|x| (x - mean).powi(2)).sum();
        let deviation = if n > 1 { (squares / (n - 1) as f64).sqrt() } else { 0.0 };
        let mut random = ChaCha12Rng::seed_from_u64(seed);
        let mut draw = || samples[(random.next_u64() % n as u64) as usize];
        let mut means: Vec<f64> = (0..RESAMPLES).map(|_| (0..n).map(|_| draw()).sum::<f64>() / n as f64).collect();
        means.sort_by(f64::total_cmp);
        let interval = (quantile(&means, 0.025), quantile(&means, 0.975));
        Some(Summary { mean, median: median(samples), deviation, interval })
    }
}

/// The middle of `samples`; NaN if there are none.
pub(super) fn median(samples: &[f64]) -> f64 {
    let mut sorted = samples.to_vec();
    sorted.sort_by(f64::total_cmp);
    quantile(&sorted, 0.5)
}

/// The value at `share` of the way through `sorted`, between two neighbours in proportion.
fn quantile(sorted: &[f64], share: f64) -> f64 {
    let Some(last) = sorted.len().checked_sub(1) else { return f64::NAN };
    let at = share * last as f64;
    let (low, high) = (sorted[at.floor() as usize], sorted[at.ceil() as usize]);
    low + (high - low) * at.fract()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn mean_median_and_deviation_are_those_of_the_textbook() {
        let summary = Summary::of(&[2.0, 4.0, 4.0, 4.0, 5.0, 5.0, 7.0, 9.0], 1).unwrap();
        assert_eq!((summary.mean, summary.median), (5.0, 4.5));
        assert!((summary.deviation - (32.0f64 / 7.0).sqrt()).abs() < 1e-12);
        assert_eq!(Summary::of(&[3.0, 1.0, 2.0], 1).unwrap().median, 2.0);
        assert_eq!(Summary::of(&[], 1), None);
    }

    #[test]
    fn the_bootstrap_interval_is_near_that_of_the_normal_distribution() {
        // 0 to 99: the mean is 49.5 and its standard error, without the n - 1, is sqrt((100^2 - 1) / 12) / 10 = 2.8866.
        let samples: Vec<f64> = (0..100).map(f64::from).collect();
        let Summary { interval: (low, high), .. } = Summary::of(&samples, 7).unwrap();
        assert!((low - (49.5 - 1.96 * 2.8866)).abs() < 0.6, "{low}");
        assert!((high - (49.5 + 1.96 * 2.8866)).abs() < 0.6, "{high}");
    }

    #[test]
    fn a_seed_gives_one_interval_and_equal_samples_a_point() {
        let samples = [10.0, 11.0, 9.5, 10.2, 30.0];
        assert_eq!(Summary::of(&samples, 5), Summary::of(&samples, 5));
        assert_ne!(Summary::of(&samples, 5).unwrap().interval, Summary::of(&samples, 6).unwrap().interval);
        for equal in [&[4.0][..], &[4.0, 4.0, 4.0]] {
            let summary = Summary::of(equal, 5).unwrap();
            assert_eq!((summary.deviation, summary.interval), (0.0, (4.0, 4.0)));
        }
    }
}
