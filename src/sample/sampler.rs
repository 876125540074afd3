//! The sampler: the steps in their order, and the seeded draw at the end.
//!
//! One random number is drawn for each token, also where only one candidate is left, so that a text can be resumed by
//! counting its tokens. Greedy sampling draws none.

use rand_chacha::ChaCha12Rng;
use rand_chacha::rand_core::{Rng, SeedableRng};

use super::SampleOptions;
use super::candidates::{Candidate, all, best, top_k};
use super::exp::exp;
use super::filters::{min_p, top_p, typical_p};
use super::penalties::Penalties;
use crate::{Error, Result};

/// Chooses tokens, one after the other, for one text.
///
/// ```
/// use tallow::sample::{SampleOptions, Sampler};
///
/// let mut sampler = Sampler::new(&SampleOptions::default(), 7)?;
/// let token = sampler.sample(&[0.5, 2.0, -1.0, f32::NEG_INFINITY], &[0])?;
/// assert!(token < 3);
/// # Ok::<(), tallow::Error>(())
/// ```
#[derive(Debug, Clone)]
pub struct Sampler {
    logit_bias: Vec<(u32, f32)>,
    penalties: Option<Penalties>,
    top_k: Option<usize>,
    typical_p: Option<f32>,
    top_p: Option<f32>,
    min_p: Option<f32>,
    /// `None` is greedy.
    temperature: Option<f32>,
    random: ChaCha12Rng,
    /// The logits with bias and penalties, where there are any.
    adjusted: Vec<f32>,
    candidates: Vec<Candidate>,
}

impl Sampler {
    /// A sampler that follows `options`, which it checks; the random numbers are ChaCha12's for `seed`.
    pub fn new(options: &SampleOptions, seed: u64) -> Result<Self> {
        options.validate()?;
        Ok(Sampler {
            logit_bias: options.logit_bias.clone(),
            penalties: Penalties::new(options),
            top_k: (options.top_k > 0).then_some(options.top_k),
            typical_p: (options.typical_p < 1.0).then_some(options.typical_p),
            top_p: (options.top_p < 1.0).then_some(options.top_p),
            min_p: (options.min_p > 0.0).then_some(options.min_p),
            temperature: (options.temperature > 0.0).then_some(options.temperature),
            random: ChaCha12Rng::seed_from_u64(seed),
            adjusted: Vec::new(),
            candidates: Vec::new(),
        })
    }

    /// The next token's id, for `logits` of shape `(vocab,)`; `history` holds the ids so far, the prompt's included.
    ///
    /// An error where nothing can be chosen: no logits, NaN, plus infinity, or nothing but minus infinity; and for a bias
    /// on a token that has no logit.
    pub fn sample(&mut self, logits: &[f32], history: &[u32]) -> Result<u32> {
        let logits = if self.logit_bias.is_empty() && self.penalties.is_none() {
            logits
        } else {
            self.adjust(logits, history)?;
            &self.adjusted
        };
        let mut best = best(logits)?;
        let Some(temperature) = self.temperature else { return Ok(best.id) };
        match self.top_k {
            Some(k) => top_k(logits, k, &mut self.candidates),
            None => all(logits, &mut self.candidates),
        }
        if let Some(p) = self.typical_p {
            typical_p(&mut self.candidates, best.logit, p);
            best = self.candidates[0];
        }
        if let Some(p) = self.top_p {
            top_p(&mut self.candidates, best.logit, p);
        }
        if let Some(p) = self.min_p {
            min_p(&mut self.candidates, best.logit, p);
        }
        let uniform = uniform(&mut self.random);
        Ok(draw(&self.candidates, best, temperature, uniform))
    }

    /// Draws the random number of a token that somebody else has chosen.
    pub fn skip(&mut self) {
        if self.temperature.is_some() {
            uniform(&mut self.random);
        }
    }

    /// Adds the biases to a copy of `logits` and penalises it.
    fn adjust(&mut self, logits: &[f32], history: &[u32]) -> Result<()> {
        self.adjusted.clear();
        self.adjusted.extend_from_slice(logits);
        for (token, bias) in &self.logit_bias {
            let Some(logit) = self.adjusted.get_mut(*token as usize) else {
                let many = logits.len();
                return Err(Error::Input(format!("logit_bias: token {token} is outside the vocabulary of {many}")));
            };
            let moved = *logit + bias;
            // Biases may be given twice and go beyond what a number holds.
            *logit = if logit.is_finite() { moved.min(f32::MAX) } else { moved };
        }
        if let Some(penalties) = &mut self.penalties {
            penalties.apply(&mut self.adjusted, history);
        }
        Ok(())
    }
}

/// A number from 0 (included) to 1 (excluded) in steps of 2^-53.
fn uniform(random: &mut ChaCha12Rng) -> f64 {
    (random.next_u64() >> 11) as f64 / (1u64 << 53) as f64
}

/// The first candidate at which the cumulated probability exceeds `uniform`.
fn draw(candidates: &[Candidate], best: Candidate, temperature: f32, uniform: f64) -> u32 {
    // The difference is divided, not the logits: the best weighs 1 at the smallest temperature too.
    let weight = |candidate: &Candidate| exp((f64::from(candidate.logit) - f64::from(best.logit)) / f64::from(temperature));
    let total: f64 = candidates.iter().map(weight).sum();
    let mut mass = 0.0;
    for candidate in candidates {
        mass += weight(candidate);
        if mass > uniform * total {
            return candidate.id;
        }
    }
    best.id
}

#[cfg(test)]
mod tests {
    use super::super::candidates::{better, tests::random_logits};
    use super::*;
    use crate::Error;

    /// Every filter off, temperature 1.
    fn plain() -> SampleOptions {
        SampleOptions { temperature: 1.0, top_k: 0, top_p: 1.0, ..SampleOptions::default() }
    }

    fn draws(options: &SampleOptions, seed: u64, logits: &[f32], count: usize) -> Vec<u32> {
        let mut sampler = Sampler::new(options, seed).unwrap();
        (0..count).map(|_| sampler.sample(logits, &[]).unwrap()).collect()
    }

    /// What the documentation says, step by step, with full sorts and no thought of speed.
    fn reference(options: &SampleOptions, logits: &[f32], history: &[u32], uniform: f64) -> u32 {
        let mut tokens: Vec<Candidate> = (0..).zip(logits).map(|(id, &logit)| Candidate { logit, id }).collect();
        let window = &history[history.len().saturating_sub(options.repeat_last_n as usize)..];
        for (id, bias) in &options.logit_bias {
            tokens[*id as usize].logit += bias;
        }
        for token in &mut tokens {
            let count = window.iter().filter(|&&id| id == token.id).count() as f32;
            if count > 0.0 {
                token.logit *= if token.logit > 0.0 { 1.0 / options.repeat_penalty } else { options.repeat_penalty };
                token.logit -= count * options.frequency_penalty + options.presence_penalty;
            }
        }
        tokens.sort_by(better);
        let best = tokens[0].logit;
        let softmax = |tokens: &[Candidate], temperature: f32| -> Vec<f64> {
            let weights: Vec<f64> = tokens.iter().map(|t| (f64::from(t.logit - best) / f64::from(temperature)).exp()).collect();
            let sum: f64 = weights.iter().sum();
            weights.iter().map(|weight| weight / sum).collect()
        };
        if options.top_k > 0 {
            tokens.truncate(options.top_k);
        }
        if options.typical_p < 1.0 {
            let probabilities = softmax(&tokens, 1.0);
            let entropy: f64 = probabilities.iter().map(|p| -p * p.ln()).sum();
            let mut order: Vec<usize> = (0..tokens.len()).collect();
            // Surprises that differ in the last bits only are equal, and the better token goes first.
            order.sort_by_key(|&i| ((-probabilities[i].ln() - entropy).abs() * 1e9).round() as i64);
            let (mut mass, mut kept) = (0.0, Vec::new());
            for i in order {
                if kept.is_empty() || mass < f64::from(options.typical_p) {
                    kept.push(tokens[i]);
                }
                mass += probabilities[i];
            }
            kept.sort_by(better);
            tokens = kept;
        }
        let best = tokens[0].logit;
        let (mut mass, mut nucleus) = (0.0, 0);
        for probability in softmax(&tokens, 1.0) {
            if mass < f64::from(options.top_p) {
                nucleus += 1;
            }
            mass += probability;
        }
        tokens.truncate(nucleus.max(1));
        tokens.retain(|token| f64::from(token.logit - best).exp() >= f64::from(options.min_p));
        let mut mass = 0.0;
        for (token, probability) in tokens.iter().zip(softmax(&tokens, options.temperature)) {
            mass += probability;
            if mass > uniform {
                return token.id;
            }
        }
        tokens[0].id
    }

    #[test]
    fn it_draws_what_a_plain_reading_of_the_steps_draws() {
        let base = SampleOptions { repeat_penalty: 2.0, presence_penalty: 0.5, frequency_penalty: 0.25, ..Default::default() };
        let sets = [
            base.clone(),
            SampleOptions { top_k: 7, top_p: 1.0, temperature: 2.0, ..base.clone() },
            SampleOptions { top_k: 0, top_p: 0.97, temperature: 1.5, ..base.clone() },
            SampleOptions { top_k: 100, min_p: 0.02, temperature: 3.0, repeat_last_n: 3, ..base.clone() },
            SampleOptions { top_k: 0, typical_p: 0.5, temperature: 1.5, min_p: 0.3, top_p: 1.0, ..base.clone() },
            SampleOptions { typical_p: 0.8, logit_bias: vec![(3, 4.0), (9, f32::NEG_INFINITY), (3, 0.5)], ..base },
        ];
        for options in sets {
            let mut sampler = Sampler::new(&options, 99).unwrap();
            let mut random = ChaCha12Rng::seed_from_u64(99);
            let mut history = vec![5, 5, 17];
            let mut different = std::collections::BTreeSet::new();
            for step in 0..200 {
                let mut logits = random_logits(700, step);
                logits.iter_mut().for_each(|logit| *logit /= 4.0);
                let expected = reference(&options, &logits, &history, uniform(&mut random));
                assert_eq!(sampler.sample(&logits, &history).unwrap(), expected, "step {step} of {}", options.describe());
                history.push(expected);
                different.insert(expected);
            }
            assert!(different.len() > 50, "only {} tokens were ever drawn", different.len());
        }
    }

    #[test]
    fn tokens_are_drawn_as_often_as_their_probabilities_say() {
        // Chi square with 4 degrees of freedom: above 18.5 once in a thousand seeds, and the seed is fixed.
        let logits = [0.3, 1.2, -0.7, 2.0, 0.0f32];
        for (temperature, top_k) in [(1.0, 0), (0.7, 0), (1.8, 5)] {
            let options = SampleOptions { temperature, top_k, ..plain() };
            let count = 20_000;
            let mut seen = [0.0; 5];
            draws(&options, 12, &logits, count).iter().for_each(|&id| seen[id as usize] += 1.0);
            let sum: f64 = logits.iter().map(|x| f64::from(x / temperature).exp()).sum();
            let chi_square: f64 = (0..5)
                .map(|i| {
                    let expected = f64::from(logits[i] / temperature).exp() / sum * count as f64;
                    (seen[i] - expected).powi(2) / expected
                })
                .sum();
            assert!(chi_square < 18.5, "temperature {temperature}: chi square {chi_square}, seen {seen:?}");
        }
    }

    #[test]
    fn the_same_seed_gives_the_same_tokens_and_another_seed_others() {
        let logits = random_logits(1000, 4);
        let options = SampleOptions { temperature: 4.0, ..SampleOptions::default() };
        let tokens = draws(&options, 7, &logits, 50);
        assert_eq!(tokens, draws(&options, 7, &logits, 50));
        assert_ne!(tokens, draws(&options, 8, &logits, 50));
    }

    #[test]
    fn the_tokens_of_a_seed_are_the_same_in_every_version() {
        let logits: Vec<f32> = (0..100).map(|id| ((id * 37) % 100) as f32 / 25.0).collect();
        assert_eq!(draws(&plain(), 42, &logits, 8), [53, 54, 62, 40, 5, 40, 72, 83]);
    }

    #[test]
    fn temperature_zero_is_greedy_and_the_lowest_id_wins_ties() {
        let logits = [1.0, 3.0, 3.0, 2.0];
        assert_eq!(draws(&SampleOptions::greedy(), 1, &logits, 3), [1, 1, 1]);
    }

    #[test]
    fn greedy_sampling_follows_the_penalties() {
        let options = SampleOptions { repeat_penalty: 2.0, ..SampleOptions::greedy() };
        let mut sampler = Sampler::new(&options, 0).unwrap();
        assert_eq!(sampler.sample(&[3.0, 2.0], &[]).unwrap(), 0);
        assert_eq!(sampler.sample(&[3.0, 2.0], &[0]).unwrap(), 1);
        assert_eq!(sampler.sample(&[3.0, 2.0], &[0, 1]).unwrap(), 0);
    }

    #[test]
    fn a_bias_moves_a_token_and_minus_infinity_forbids_it() {
        let biased = |bias: &[(u32, f32)]| SampleOptions { logit_bias: bias.to_vec(), ..SampleOptions::greedy() };
        assert_eq!(draws(&biased(&[(0, 2.5)]), 1, &[1.0, 3.0, 2.0], 1), [0]);
        assert_eq!(draws(&biased(&[(1, f32::NEG_INFINITY)]), 1, &[1.0, 3.0, 2.0], 1), [2]);
        // Before the penalties: the biased logit is 4, and half of it is less than 3.
        let penalised = SampleOptions { repeat_penalty: 2.0, ..biased(&[(0, 3.0)]) };
        assert_eq!(Sampler::new(&penalised, 0).unwrap().sample(&[1.0, 3.0], &[0]).unwrap(), 1);
        let outside = Sampler::new(&biased(&[(7, 1.0)]), 0).unwrap().sample(&[1.0, 3.0], &[]).unwrap_err().to_string();
        assert!(outside.contains("token 7") && outside.contains('2'), "{outside}");
    }

    #[test]
    fn the_smallest_and_largest_temperatures_do_not_overflow() {
        let logits = [1e30, -1e30, 0.9e30, f32::NEG_INFINITY];
        let cold = SampleOptions { temperature: f32::MIN_POSITIVE, ..plain() };
        assert_eq!(draws(&cold, 3, &logits, 5), [0; 5]);
        let hot = SampleOptions { temperature: f32::MAX, ..plain() };
        let seen = draws(&hot, 3, &logits, 200);
        assert!((0..3).all(|id| seen.contains(&id)) && !seen.contains(&3));
    }

    #[test]
    fn a_banned_token_is_never_drawn() {
        let mut logits = vec![f32::NEG_INFINITY; 50];
        logits[17] = -5.0;
        for options in [plain(), SampleOptions::default(), SampleOptions { min_p: 0.5, ..plain() }] {
            assert_eq!(draws(&options, 5, &logits, 3), [17; 3]);
        }
    }

    #[test]
    fn every_token_costs_one_random_number_whatever_the_filters() {
        let logits = random_logits(300, 9);
        let one = Sampler::new(&SampleOptions { top_k: 1, ..plain() }, 5).unwrap();
        let many = Sampler::new(&plain(), 5).unwrap();
        let after = |mut sampler: Sampler| {
            for _ in 0..10 {
                sampler.sample(&logits, &[]).unwrap();
            }
            sampler.random.next_u64()
        };
        assert_eq!(after(one), after(many));
    }

    #[test]
    fn rows_that_hold_nothing_to_choose_are_errors_for_every_kind_of_sampling() {
        for options in [SampleOptions::greedy(), SampleOptions::default(), plain()] {
            let mut sampler = Sampler::new(&options, 0).unwrap();
            for logits in [&[][..], &[0.0, f32::NAN], &[f32::INFINITY, 0.0], &[f32::NEG_INFINITY; 3]] {
                assert!(matches!(sampler.sample(logits, &[]), Err(Error::Input(_))), "{logits:?}");
            }
            assert_eq!(sampler.sample(&[0.0], &[]).unwrap(), 0);
        }
    }

    #[test]
    fn options_out_of_range_make_no_sampler() {
        assert!(Sampler::new(&SampleOptions { top_p: f32::NAN, ..plain() }, 0).is_err());
    }

    #[test]
    fn the_buffers_do_not_grow_after_the_first_token() {
        let options = SampleOptions { repeat_penalty: 1.1, ..SampleOptions::default() };
        let mut sampler = Sampler::new(&options, 0).unwrap();
        sampler.sample(&random_logits(2000, 0), &[1, 2, 3]).unwrap();
        let capacity = sampler.candidates.capacity();
        for seed in 1..100 {
            sampler.sample(&random_logits(2000, seed), &[1, 2, 3]).unwrap();
        }
        assert_eq!(sampler.candidates.capacity(), capacity);
    }
}
