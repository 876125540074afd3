//! Merges for a SentencePiece vocabulary: what BPE needs, derived from the scores that SentencePiece keeps instead.
//!
//! SentencePiece joins the neighbours whose union has the highest score. Ranked pairs give the same result: every way to cut
//! a piece into two pieces is a merge, and merges are ranked by the score of what they make. Cuts of one piece share its
//! score; they are ranked by the ids of their halves, as transformers does when it converts such a model.
//!
//! The work is one look-up per character boundary, so a vocabulary of 262 thousand pieces takes a fraction of a second.
//! See Kudo and Richardson, "SentencePiece", <https://aclanthology.org/D18-2012>, and `bpe_model.cc`.

use super::vocab::{TokenType, Vocab};
use std::collections::HashMap;

/// Pairs of ids to join, the first to join first.
pub(super) fn merges(vocab: &Vocab, index: &HashMap<&str, u32>) -> Vec<(u32, u32)> {
    let piece = |id: u32| matches!(vocab.kind(id), TokenType::Normal | TokenType::UserDefined);
    let lookup = |text: &str| index.get(text).copied().filter(|&id| piece(id));
    let mut ranked = Vec::with_capacity(vocab.tokens.len() * 2);
    for (id, token) in (0u32..).zip(&vocab.tokens) {
        if !piece(id) {
            continue;
        }
        let score = vocab.scores.as_ref().map_or(0.0, |scores| scores[id as usize]);
        let from = ranked.len();
        for (cut, _) in token.char_indices().skip(1) {
            if let Some(left) = lookup(&token[..cut])
                && let Some(right) = lookup(&token[cut..])
            {
                ranked.push((score, left, right));
            }
        }
        ranked[from..].sort_unstable_by_key(|&(_, left, right)| (left, right));
    }
    ranked.sort_by(|a, b| b.0.total_cmp(&a.0));
    ranked.into_iter().map(|(_, left, right)| (left, right)).collect()
}
