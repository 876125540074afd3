//! Log-probabilities of tokens as the model gives them: before penalties, filters and temperature.

use super::candidates::{best, top_k};
use super::exp::exp;
use crate::{Error, Result};

/// The natural log-probability of `token`, and the `top` most probable tokens with theirs, best first.
///
/// `logits` is a row of `(vocab,)`. The sum is taken in f64, relative to the best logit. A token banned by a logit of
/// minus infinity has that log-probability, and is never among the best.
pub fn log_probabilities(logits: &[f32], token: u32, top: usize) -> Result<(f32, Vec<(u32, f32)>)> {
    let highest = f64::from(best(logits)?.logit);
    let Some(&logit) = logits.get(token as usize) else {
        return Err(Error::Input(format!("token {token} is not among {} logits", logits.len())));
    };
    let sum: f64 = logits.iter().map(|&logit| exp(f64::from(logit) - highest)).sum();
    let log_sum = highest + sum.ln();
    let log_probability = |logit: f32| (f64::from(logit) - log_sum) as f32;
    let mut chosen = Vec::new();
    if top > 0 {
        top_k(logits, top, &mut chosen);
    }
    Ok((log_probability(logit), chosen.iter().map(|candidate| (candidate.id, log_probability(candidate.logit))).collect()))
}

#[cfg(test)]
mod tests {
    use super::super::candidates::tests::random_logits;
    use super::*;

    #[test]
    fn it_is_the_log_of_the_softmax() {
        let logits = [1.0, 3.0, 2.0, f32::NEG_INFINITY];
        let sum: f64 = [1.0f64, 3.0, 2.0].iter().map(|x| x.exp()).sum();
        let (log_probability, top) = log_probabilities(&logits, 0, 9).unwrap();
        assert!((f64::from(log_probability) - (1.0 - sum.ln())).abs() < 1e-7);
        assert_eq!(top.iter().map(|(id, _)| *id).collect::<Vec<_>>(), [1, 2, 0]);
        assert!((f64::from(top[0].1) - (3.0 - sum.ln())).abs() < 1e-7);
        assert_eq!(log_probabilities(&logits, 3, 0).unwrap(), (f32::NEG_INFINITY, vec![]));
    }

    #[test]
    fn probabilities_of_a_large_vocabulary_add_up_to_one() {
        let mut logits = random_logits(50_000, 3);
        logits.iter_mut().for_each(|logit| *logit += 1e4);
        let (_, all) = log_probabilities(&logits, 0, usize::MAX).unwrap();
        let total: f64 = all.iter().map(|(_, log_probability)| f64::from(*log_probability).exp()).sum();
        assert_eq!(all.len(), logits.len());
        assert!((total - 1.0).abs() < 1e-5, "{total}");
    }

    #[test]
    fn a_token_out_of_range_and_unsound_logits_are_errors() {
        assert!(matches!(log_probabilities(&[0.0], 1, 1), Err(Error::Input(message)) if message.contains("token 1")));
        assert!(log_probabilities(&[0.0, f32::NAN], 0, 1).is_err());
        assert!(log_probabilities(&[], 0, 1).is_err());
    }
}
