//! Rotary frequencies: what each scaling method makes of `theta`, and the cosines and sines of given positions.
//!
//! Computed like transformers' `modeling_rope_utils.py`: frequencies and angles in f32, step by step, so that long contexts round alike.
//! There is no table over the whole context, which may be 131,072 positions long.

use super::RowPosition;
use crate::spec::{Pairing, Rope, RopeScaling};
use std::f64::consts::TAU;

/// Which of its frequencies a model rotates a text with. All keys of a text must be rotated alike, so
/// this is a property of the text's cache, not of the length that the text has so far.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum RopeSet {
    /// Those of texts of any length, or, where there are two sets (LongRoPE), of short texts.
    #[default]
    Usual,
    /// Those of long texts, where there are two sets.
    Long,
}

/// The angles per position of one model.
#[derive(Debug, Clone, PartialEq)]
pub struct Frequencies {
    /// Radians per position, one for each of the `dims / 2` pairs.
    pub inverse: Vec<f32>,
    /// Where the model has two sets: the length up to which a text has the usual one, and the set
    /// of longer texts.
    pub beyond: Option<(usize, Vec<f32>)>,
    /// Factor on cosines and sines.
    pub factor: f32,
    /// Which dimensions form a pair.
    pub pairing: Pairing,
}

impl Frequencies {
    /// The frequencies of `rope`.
    pub fn new(rope: &Rope) -> Frequencies {
        // Each operation rounds to f32 where it does there: at position 100,000 the last bit of a frequency is seen.
        let pairs = 0..rope.dims / 2;
        let power = |i: usize| (rope.theta as f32).powf((2 * i) as f32 / rope.dims as f32);
        let base = |i: usize| 1.0 / power(i);
        let mut factor = 1.0;
        let mut beyond = None;
        let divided = |factors: &[f32]| pairs.clone().map(|i| 1.0 / (factors[i] * power(i))).collect::<Vec<f32>>();
        let inverse = match &rope.scaling {
            RopeScaling::None => pairs.map(base).collect::<Vec<f32>>(),
            RopeScaling::Linear { factor } => pairs.map(|i| base(i) / *factor as f32).collect(),
            RopeScaling::Factors(factors) => divided(factors),
            RopeScaling::Long { short, long, original_context, attention_factor } => {
                factor = *attention_factor;
                beyond = Some((*original_context, divided(long)));
                divided(short)
            }
            RopeScaling::Llama3 { factor, low_freq_factor, high_freq_factor, original_context } => {
                let original = *original_context as f64;
                let [stretched, low, high] = [factor, low_freq_factor, high_freq_factor].map(|factor| *factor as f32);
                let stretch = |i| {
                    let wavelength = TAU as f32 / base(i);
                    if wavelength < (original / high_freq_factor) as f32 {
                        base(i)
                    } else if wavelength > (original / low_freq_factor) as f32 {
                        base(i) / stretched
                    } else {
                        let smooth = (original as f32 / wavelength - low) / (high - low);
                        (1.0 - smooth) * base(i) / stretched + smooth * base(i)
                    }
                };
                pairs.map(stretch).collect()
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
                    let ramp = ((i as f32 - low as f32) / (high - low) as f32).clamp(0.0, 1.0);
                    let stay = 1.0 - ramp;
                    1.0 / (*s as f32 * power(i)) * (1.0 - stay) + base(i) * stay
                };
                pairs.map(blend).collect()
            }
        };
        Frequencies { inverse, beyond, factor: factor as f32, pairing: rope.pairing }
    }

    /// Dimensions that are rotated together, by one angle: half of those that are rotated.
    pub fn pairs(&self) -> usize {
        self.inverse.len()
    }

    /// Writes cosines and sines, each `(positions, pairs)`.
    pub fn rows(&self, positions: &[RowPosition], cos: &mut [f32], sin: &mut [f32]) {
        let set = |rope: RopeSet| match (rope, &self.beyond) {
            (RopeSet::Long, Some((_, long))) => long,
            (RopeSet::Long, None) | (RopeSet::Usual, _) => &self.inverse,
        };
        let angles = positions.iter().flat_map(|at| set(at.rope).iter().map(|f| at.position as f32 * f));
        for (angle, (cos, sin)) in angles.zip(cos.iter_mut().zip(sin)) {
            (*cos, *sin) = (angle.cos() * self.factor, angle.sin() * self.factor);
        }
    }
}
