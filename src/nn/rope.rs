//! Rotary frequencies: what each scaling method makes of `theta`, and the cosines and sines of given positions.
//!
//! Computed like transformers' `modeling_rope_utils.py`: frequencies and angles in f32, so that long contexts round alike.
//! There is no table over the whole context, which may be 131,072 positions long.

use super::Place;
use crate::spec::{Pairing, Rope, RopeScaling};
use std::f64::consts::TAU;

/// The angles per position of one model.
#[derive(Debug, Clone, PartialEq)]
pub struct Frequencies {
    /// Radians per position, one for each of the `dims / 2` pairs.
    pub inverse: Vec<f32>,
    /// The same for texts beyond so many positions, where the model has two sets (LongRoPE).
    pub beyond: Option<(usize, Vec<f32>)>,
    /// Factor on cosines and sines.
    pub factor: f32,
    /// Which dimensions form a pair.
    pub pairing: Pairing,
}

impl Frequencies {
    /// The frequencies of `rope`.
    pub fn new(rope: &Rope) -> Frequencies {
        let half = rope.dims / 2;
        let base = |i: usize| rope.theta.powf(-(2.0 * i as f64) / rope.dims as f64);
        let mut factor = 1.0;
        let mut beyond = None;
        let divided = |factors: &[f32]| (0..half).map(|i| base(i) / f64::from(factors[i])).collect::<Vec<f64>>();
        let narrow = |frequencies: Vec<f64>| frequencies.into_iter().map(|f| f as f32).collect::<Vec<f32>>();
        let inverse = match &rope.scaling {
            RopeScaling::None => (0..half).map(base).collect::<Vec<f64>>(),
            RopeScaling::Linear { factor } => (0..half).map(|i| base(i) / factor).collect(),
            RopeScaling::Factors(factors) => divided(factors),
            RopeScaling::Long { short, long, original_context, attention_factor } => {
                factor = *attention_factor;
                beyond = Some((*original_context, narrow(divided(long))));
                divided(short)
            }
            RopeScaling::Llama3 { factor, low_freq_factor, high_freq_factor, original_context } => {
                let original = *original_context as f64;
                let stretch = |i| {
                    let wavelength = TAU / base(i);
                    if wavelength < original / high_freq_factor {
                        base(i)
                    } else if wavelength > original / low_freq_factor {
                        base(i) / factor
                    } else {
                        let smooth = (original / wavelength - low_freq_factor) / (high_freq_factor - low_freq_factor);
                        (1.0 - smooth) * base(i) / factor + smooth * base(i)
                    }
                };
                (0..half).map(stretch).collect()
            }
            RopeScaling::Yarn { factor: s, original_context, beta_fast, beta_slow, attention_factor, truncate } => {
                factor = *attention_factor;
                // The dimension that turns `rotations` times over the original context.
                let dimension = |rotations: f64| {
                    rope.dims as f64 * (*original_context as f64 / (rotations * TAU)).ln() / (2.0 * rope.theta.ln())
                };
                let (mut low, mut high) = (dimension(*beta_fast), dimension(*beta_slow));
                if *truncate {
                    (low, high) = (low.floor(), high.ceil());
                }
                let low = low.max(0.0);
                let high = high.min(rope.dims as f64 - 1.0);
                let high = if low == high { high + 0.001 } else { high };
                let blend = |i: usize| {
                    let ramp = ((i as f64 - low) / (high - low)).clamp(0.0, 1.0);
                    base(i) / s * ramp + base(i) * (1.0 - ramp)
                };
                (0..half).map(blend).collect()
            }
        };
        Frequencies { inverse: narrow(inverse), beyond, factor: factor as f32, pairing: rope.pairing }
    }

    /// Dimensions that are rotated together, by one angle: half of those that are rotated.
    pub fn pairs(&self) -> usize {
        self.inverse.len()
    }

    /// Writes cosines and sines, each `(places, pairs)`.
    pub fn rows(&self, places: &[Place], cos: &mut [f32], sin: &mut [f32]) {
        let set = |limit: usize| match &self.beyond {
            Some((original, long)) if limit > *original => long,
            Some(_) | None => &self.inverse,
        };
        let angles = places.iter().flat_map(|place| set(place.limit).iter().map(|f| place.position as f32 * f));
        for (angle, (cos, sin)) in angles.zip(cos.iter_mut().zip(sin)) {
            (*cos, *sin) = (angle.cos() * self.factor, angle.sin() * self.factor);
        }
    }
}
