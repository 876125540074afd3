//! Tokens still in the race: their order, the best of them, and the best few of a whole vocabulary.
//!
//! The order is total: higher logits first, lower ids first among equals. It holds because [`best`] has refused NaN
//! before anything is compared.

use std::cmp::Ordering;

use crate::{Error, Result};

/// Logits looked at together: two AVX2 registers, or one of AVX-512.
const LANES: usize = 16;

/// A token that may be drawn.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Candidate {
    pub(super) logit: f32,
    pub(super) id: u32,
}

/// Higher logits first, then lower ids.
pub(super) fn better(a: &Candidate, b: &Candidate) -> Ordering {
    b.logit.partial_cmp(&a.logit).unwrap_or(Ordering::Equal).then(a.id.cmp(&b.id))
}

/// The token with the highest logit, the lowest id among equals.
///
/// Every row of logits passes here first: NaN, plus infinity, an empty row and a row of minus infinities are errors, for
/// nothing could be drawn from them. Minus infinity alone bans a token.
pub(super) fn best(logits: &[f32]) -> Result<Candidate> {
    if u32::try_from(logits.len()).is_err() {
        return Err(Error::Input(format!("{} logits; token ids have 32 bits", logits.len())));
    }
    let (chunks, rest) = logits.as_chunks::<LANES>();
    let mut highest = [f32::NEG_INFINITY; LANES];
    // As wide as the logits: else lanes are taken one by one. As an integer, the magnitude of NaN comes after infinity.
    let mut nan = [0i32; LANES];
    let infinity = f32::INFINITY.to_bits().cast_signed();
    let mut last = [f32::NEG_INFINITY; LANES];
    last[..rest.len()].copy_from_slice(rest);
    for chunk in [chunks, &[last]].into_iter().flatten() {
        for lane in 0..LANES {
            highest[lane] = if chunk[lane] > highest[lane] { chunk[lane] } else { highest[lane] };
            nan[lane] |= -i32::from(chunk[lane].abs().to_bits().cast_signed() > infinity);
        }
    }
    let highest = highest.into_iter().fold(f32::NEG_INFINITY, f32::max);
    if highest == f32::INFINITY || nan != [0; LANES] {
        let id = logits.iter().position(|logit| logit.is_nan() || *logit == f32::INFINITY).unwrap_or(0);
        return Err(Error::Input(format!("the logit of token {id} is {}, no token can be chosen", logits[id])));
    }
    // Without an early exit inside of a chunk, as above.
    let equals = |chunk: &[f32; LANES]| chunk.iter().fold(false, |any, &logit| any | (logit == highest));
    let from = chunks.iter().position(equals).unwrap_or(chunks.len()) * LANES;
    match logits[from..].iter().position(|&logit| logit == highest).map(|at| from + at) {
        Some(id) if highest > f32::NEG_INFINITY => Ok(Candidate { logit: highest, id: id as u32 }),
        Some(_) => Err(Error::Input("every logit is minus infinity, no token can be chosen".to_string())),
        None => Err(Error::Input("there are no logits to choose a token from".to_string())),
    }
}

/// Fills `out` with every token that is not banned, by id.
pub(super) fn all(logits: &[f32], out: &mut Vec<Candidate>) {
    out.clear();
    let candidates = (0..).zip(logits).map(|(id, &logit)| Candidate { logit, id });
    out.extend(candidates.filter(|candidate| candidate.logit > f32::NEG_INFINITY));
}

/// Fills `out` with the best `k` tokens that are not banned, best first.
///
/// A buffer of `2 k` is cut to its best `k` whenever it is full; the worst of them is a floor that later tokens must
/// exceed (an equal one has a higher id and loses), so nearly all of a vocabulary is passed over by one comparison.
pub(super) fn top_k(logits: &[f32], k: usize, out: &mut Vec<Candidate>) {
    out.clear();
    let mut floor = f32::NEG_INFINITY;
    for (first, chunk) in (0..).step_by(LANES).zip(logits.chunks(LANES)) {
        if let Ok(full) = <&[f32; LANES]>::try_from(chunk)
            && !any_above(full, floor)
        {
            continue;
        }
        for (id, &logit) in (first..).zip(chunk) {
            if logit > floor {
                out.push(Candidate { logit, id });
                if out.len() / 2 >= k {
                    keep_best(out, k);
                    floor = out.last().map_or(floor, |worst| worst.logit);
                }
            }
        }
    }
    keep_best(out, k);
    out.sort_unstable_by(better);
}

/// Whether any logit exceeds `floor`; without an early exit, so that it compiles to wide comparisons.
fn any_above(logits: &[f32; LANES], floor: f32) -> bool {
    logits.iter().fold(false, |any, &logit| any | (logit > floor))
}

/// Cuts `candidates` to the best `k`; the last one left is the worst of them.
fn keep_best(candidates: &mut Vec<Candidate>, k: usize) {
    if k > 0 && k < candidates.len() {
        candidates.select_nth_unstable_by(k - 1, better);
        candidates.truncate(k);
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    /// Numbers from 0 (included) to 1 by a linear congruence: tests need no good ones.
    pub(in super::super) fn noise(seed: u64) -> impl FnMut() -> f32 {
        let mut state = seed.wrapping_mul(2).wrapping_add(0x9e37_79b9_7f4a_7c15);
        move || {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            (state >> 40) as f32 / (1u32 << 24) as f32
        }
    }

    /// Logits of `vocab` tokens, coarse enough that many are equal.
    pub(in super::super) fn random_logits(vocab: usize, seed: u64) -> Vec<f32> {
        let mut noise = noise(seed);
        (0..vocab).map(|_| ((noise() + noise() + noise() - 1.5) * 64.0).round() / 4.0).collect()
    }

    fn message(logits: &[f32]) -> String {
        match best(logits) {
            Err(Error::Input(message)) => message,
            other => panic!("expected an input error, got {other:?}"),
        }
    }

    #[test]
    fn the_best_token_is_the_lowest_id_among_equals_at_every_length() {
        for vocab in 1..70 {
            for seed in 0..20 {
                let logits = random_logits(vocab, seed);
                let mut naive = 0;
                for id in 0..vocab {
                    if logits[id] > logits[naive] {
                        naive = id;
                    }
                }
                assert_eq!(best(&logits).unwrap(), Candidate { logit: logits[naive], id: naive as u32 });
            }
        }
    }

    #[test]
    fn unsound_logits_are_refused_wherever_they_are() {
        for at in [0, 7, 15, 16, 40] {
            for unsound in [f32::NAN, -f32::NAN, f32::INFINITY] {
                let mut logits = vec![1.0; 41];
                logits[at] = unsound;
                assert!(message(&logits).contains(&format!("token {at} is")));
            }
        }
        assert!(message(&[]).contains("no logits"));
        assert!(message(&[f32::NEG_INFINITY; 20]).contains("every logit"));
    }

    #[test]
    fn the_best_few_are_those_of_a_full_sort() {
        for (vocab, seed) in [(1, 1), (15, 2), (16, 3), (17, 4), (33, 5), (1000, 6), (5003, 7)] {
            let mut logits = random_logits(vocab, seed);
            logits[vocab / 2] = f32::NEG_INFINITY;
            let mut sorted = Vec::new();
            all(&logits, &mut sorted);
            assert_eq!(sorted.len(), vocab - 1);
            sorted.sort_by(better);
            let mut chosen = Vec::new();
            for k in [1, 2, 5, 39, 40, 41, vocab, vocab + 1, usize::MAX] {
                top_k(&logits, k, &mut chosen);
                assert_eq!(chosen, sorted[..k.min(sorted.len())], "{k} of {vocab}");
            }
        }
    }

    #[test]
    fn rising_and_falling_logits_are_no_special_case() {
        let rising: Vec<f32> = (0..1000).map(|i| i as f32).collect();
        let falling: Vec<f32> = rising.iter().map(|x| -x).collect();
        let mut chosen = Vec::new();
        top_k(&rising, 3, &mut chosen);
        assert_eq!(chosen.iter().map(|c| c.id).collect::<Vec<_>>(), [999, 998, 997]);
        top_k(&falling, 3, &mut chosen);
        assert_eq!(chosen.iter().map(|c| c.id).collect::<Vec<_>>(), [0, 1, 2]);
    }
}
