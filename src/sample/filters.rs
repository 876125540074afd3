//! Drops candidates: typical_p, top_p (nucleus) and min_p. Each keeps at least one; the last two keep the best.
//!
//! Probabilities are those of the candidates that are left, at temperature 1. Weights are relative to the best candidate,
//! `exp(logit - best)`, so that nothing overflows, and are summed in f64 in the candidates' order.
//! Locally typical sampling: Meister and others 2023, TACL, arXiv:2202.00666.
//! Nucleus sampling: Holtzman and others 2020, arXiv:1904.09751. Min-p: Nguyen and others 2025, arXiv:2407.01082.

use super::candidates::{Candidate, better};
use super::exp::exp;

/// The candidate's probability relative to that of a token with the logit `best`.
pub(super) fn weight(candidate: &Candidate, best: f32) -> f64 {
    exp(f64::from(candidate.logit) - f64::from(best))
}

/// Keeps the candidates whose surprise is nearest to the expected one until their probabilities reach `p`, the one that
/// reaches it included; leaves them best first. `best` is the highest logit, and may go.
///
/// Surprise is `ln Z - logit` and entropy its mean, so `ln Z` cancels: what counts is the distance of a logit from the mean
/// logit, and no logarithm is taken. Of two at the same distance the better goes first.
pub(super) fn typical_p(candidates: &mut Vec<Candidate>, best: f32, p: f32) {
    let below = |candidate: &Candidate| f64::from(candidate.logit) - f64::from(best);
    let (mut total, mut sum) = (0.0, 0.0);
    for candidate in candidates.iter() {
        let weight = weight(candidate, best);
        total += weight;
        // A weight of 0 counts for nothing, however far below.
        sum += if weight > 0.0 { weight * below(candidate) } else { 0.0 };
    }
    let mean = sum / total;
    let distance = |candidate: &Candidate| (below(candidate) - mean).abs();
    candidates.sort_unstable_by(|a, b| distance(a).total_cmp(&distance(b)).then_with(|| better(a, b)));
    let mut mass = 0.0;
    let reach = candidates.iter().position(|candidate| {
        mass += weight(candidate, best);
        mass >= f64::from(p) * total
    });
    candidates.truncate(reach.map_or(candidates.len(), |at| at + 1));
    candidates.sort_unstable_by(better);
}

/// Keeps the best candidates until their probabilities reach `p`, the one that reaches it included; leaves them best first.
///
/// Without a top_k before it this meets the whole vocabulary, of which a few hundred tokens usually suffice: only as much
/// is sorted as is needed.
pub(super) fn top_p(candidates: &mut Vec<Candidate>, best: f32, p: f32) {
    let total: f64 = candidates.iter().map(|candidate| weight(candidate, best)).sum();
    let wanted = f64::from(p) * total;
    let (mut sorted, mut mass, mut block) = (0, 0.0, 64);
    while sorted < candidates.len() {
        let rest = &mut candidates[sorted..];
        if block < rest.len() {
            rest.select_nth_unstable_by(block - 1, better);
        }
        let end = block.min(rest.len());
        let next = &mut rest[..end];
        next.sort_unstable_by(better);
        for (i, candidate) in next.iter().enumerate() {
            mass += weight(candidate, best);
            if mass >= wanted {
                candidates.truncate(sorted + i + 1);
                return;
            }
        }
        sorted += next.len();
        block *= 4;
    }
}

/// Keeps the candidates that are at least `p` times as probable as the best; their order stays.
pub(super) fn min_p(candidates: &mut Vec<Candidate>, best: f32, p: f32) {
    candidates.retain(|candidate| weight(candidate, best) >= f64::from(p));
}

#[cfg(test)]
mod tests {
    use super::super::candidates::{all, best, tests::random_logits};
    use super::*;

    fn of_probabilities(probabilities: &[f64]) -> (Vec<Candidate>, f32) {
        let logits: Vec<f32> = probabilities.iter().map(|p| p.ln() as f32).collect();
        let mut candidates = Vec::new();
        all(&logits, &mut candidates);
        (candidates, best(&logits).unwrap().logit)
    }

    fn ids(candidates: &[Candidate]) -> Vec<u32> {
        candidates.iter().map(|candidate| candidate.id).collect()
    }

    #[test]
    fn typical_p_keeps_the_tokens_nearest_to_the_entropy() {
        // What is left by transformers 5.23: TypicalLogitsWarper(p)(None, torch.tensor([[0.32, ...]]).log()). The likeliest
        // token is far from the entropy and goes first.
        let probabilities = [0.32, 0.17, 0.13, 0.11, 0.09, 0.08, 0.06, 0.04];
        for (p, expected) in [
            (0.05, &[1][..]),
            (0.25, &[1, 2]),
            (0.5, &[1, 2, 3, 4]),
            (0.7, &[0, 1, 2, 3, 4, 5]),
            (0.92, &[0, 1, 2, 3, 4, 5, 6]),
            (0.97, &[0, 1, 2, 3, 4, 5, 6, 7]),
        ] {
            let (mut candidates, best) = of_probabilities(&probabilities);
            typical_p(&mut candidates, best, p);
            candidates.sort_by_key(|candidate| candidate.id);
            assert_eq!(ids(&candidates), expected, "typical_p {p}");
        }
    }

    #[test]
    fn typical_p_does_what_its_definition_says() {
        for seed in 0..20 {
            for scale in [0.05, 0.3, 1.0] {
                let logits: Vec<f32> = random_logits(500, seed).iter().map(|logit| logit * scale).collect();
                let mut candidates = Vec::new();
                all(&logits, &mut candidates);
                let best = best(&logits).unwrap().logit;
                let log_sum = logits.iter().map(|l| f64::from(*l).exp()).sum::<f64>().ln();
                let surprise = |candidate: &Candidate| log_sum - f64::from(candidate.logit);
                let entropy: f64 = candidates.iter().map(|c| (-surprise(c)).exp() * surprise(c)).sum();
                let mut sorted = candidates.clone();
                // Distances that differ in the last bits only are equal.
                let key = |c: &Candidate| ((surprise(c) - entropy).abs() * 1e9).round() as i64;
                sorted.sort_by(|a, b| key(a).cmp(&key(b)).then_with(|| better(a, b)));
                for p in [0.0, 0.1, 0.5, 0.9, 0.99] {
                    let mut mass = 0.0;
                    let kept = sorted.iter().take_while(|c| {
                        let goes_on = mass < f64::from(p) || mass == 0.0;
                        mass += (-surprise(c)).exp();
                        goes_on
                    });
                    let mut kept: Vec<_> = kept.copied().collect();
                    kept.sort_by(better);
                    let mut candidates = candidates.clone();
                    typical_p(&mut candidates, best, p);
                    assert_eq!(candidates, kept, "typical_p {p}, seed {seed}, scale {scale}");
                }
            }
        }
    }

    #[test]
    fn top_p_includes_the_token_that_reaches_it() {
        for (p, expected) in [(0.0, 1), (0.3, 1), (0.5, 2), (0.69, 2), (0.71, 3), (0.89, 3), (0.91, 4), (1.0, 4)] {
            let (mut candidates, best) = of_probabilities(&[0.1, 0.4, 0.2, 0.3]);
            top_p(&mut candidates, best, p);
            assert_eq!(ids(&candidates), [1, 3, 2, 0][..expected], "top_p {p}");
        }
    }

    #[test]
    fn top_p_does_what_a_full_sort_would() {
        for seed in 0..10 {
            let mut logits = random_logits(3000, seed);
            // A flat and a steep distribution: the first needs several blocks, the second only a part of one.
            for scale in [0.01, 1.0] {
                logits.iter_mut().for_each(|logit| *logit *= scale);
                let mut sorted = Vec::new();
                all(&logits, &mut sorted);
                let best = best(&logits).unwrap().logit;
                let total: f64 = sorted.iter().map(|c| weight(c, best)).sum();
                sorted.sort_by(better);
                for p in [0.001, 0.1, 0.5, 0.9, 0.99] {
                    let mut mass = 0.0;
                    let reach = sorted.iter().position(|c| {
                        mass += weight(c, best);
                        mass >= f64::from(p) * total
                    });
                    let mut candidates = Vec::new();
                    all(&logits, &mut candidates);
                    top_p(&mut candidates, best, p);
                    assert_eq!(candidates, sorted[..=reach.unwrap()], "top_p {p}, scale {scale}");
                }
                logits.iter_mut().for_each(|logit| *logit /= scale);
            }
        }
    }

    #[test]
    fn min_p_is_relative_to_the_best_token() {
        for (p, expected) in [(1.0, vec![1]), (0.6, vec![1, 3]), (0.4, vec![1, 2, 3]), (0.2, vec![0, 1, 2, 3])] {
            let (mut candidates, best) = of_probabilities(&[0.1, 0.4, 0.2, 0.3]);
            min_p(&mut candidates, best, p);
            assert_eq!(ids(&candidates), expected, "min_p {p}");
        }
    }

    #[test]
    fn the_best_token_survives_both() {
        let (mut candidates, best) = of_probabilities(&[1e-30, 1.0]);
        top_p(&mut candidates, best, 0.0);
        min_p(&mut candidates, best, 1.0);
        assert_eq!(ids(&candidates), [1]);
    }
}
