//! The feed-forward sub-layer: dense, or a mixture of experts.
//!
//! Experts are computed one after another, each for all the tokens that chose it: their rows are gathered, go through the
//! same grouped projections as everything else, and are added back, weighted. So a prompt costs one product for each expert
//! and matrix, not one for each token. A token's experts are added in the order of their numbers, whatever else is in the
//! batch, so that results do not depend on it.

use super::Backend;
use crate::error::Result;
use crate::spec::Activation;
use std::cell::Cell;

/// A feed-forward sub-layer with its weights on device `C`.
pub enum FeedForward<C: Backend> {
    /// The same for every token.
    Dense(DenseMlp<C>),
    /// Some of many, for each token.
    Experts(Experts<C>),
}

/// `down(act(up(x)))`, or `down(act(gate(x)) * up(x))` where `up` is gate and up side by side.
pub struct DenseMlp<C: Backend> {
    /// The activation.
    pub act: Activation,
    /// Whether there is a gate.
    pub gated: bool,
    /// From the model's width.
    pub up: C::Linear,
    /// Back to it.
    pub down: C::Linear,
}

/// A mixture of experts.
pub struct Experts<C: Backend> {
    /// A score for each expert.
    pub router: C::Linear,
    /// The experts.
    pub experts: Vec<DenseMlp<C>>,
    /// How many of them a token goes to.
    pub used: usize,
    /// Whether the weights of the chosen ones are scaled to sum up to 1.
    pub renormalise: bool,
}

impl<C: Backend> FeedForward<C> {
    /// The sub-layer's output for each row of `x`.
    pub fn forward(&self, c: &C, x: &C::Tensor) -> Result<C::Tensor> {
        match self {
            FeedForward::Dense(dense) => dense.forward(c, x),
            FeedForward::Experts(experts) => experts.forward(c, x),
        }
    }
}

impl<C: Backend> DenseMlp<C> {
    fn forward(&self, c: &C, x: &C::Tensor) -> Result<C::Tensor> {
        let h = c.project(x, &self.up)?;
        let h = if self.gated { c.gated(h, self.act)? } else { c.activate(h, self.act)? };
        c.project(&h, &self.down)
    }
}

/// Which tokens go to which experts.
#[derive(Default)]
struct Routes {
    /// A score for each token and expert.
    scores: Vec<f32>,
    /// The experts of one token, best first.
    best: Vec<usize>,
    /// An expert, a token that goes to it, and the expert's weight.
    all: Vec<(usize, usize, f32)>,
    /// Those of one expert.
    rows: Vec<usize>,
    weights: Vec<f32>,
}

thread_local! {
    /// Memory that the next mixture uses again: a token allocates nothing.
    static ROUTES: Cell<Routes> = Cell::default();
}

impl<C: Backend> Experts<C> {
    fn forward(&self, c: &C, x: &C::Tensor) -> Result<C::Tensor> {
        let mut routes = ROUTES.take();
        let Routes { scores, best, all, rows, weights } = &mut routes;
        c.read(c.project(x, &self.router)?, scores)?;
        all.clear();
        for (row, scores) in scores.chunks_exact(self.experts.len()).enumerate() {
            all.extend(route(scores, self.used, self.renormalise, best).map(|(expert, weight)| (expert, row, weight)));
        }
        all.sort_unstable_by_key(|(expert, row, _)| (*expert, *row));
        let mut out = c.zeros_like(x)?;
        for same in all.chunk_by(|a, b| a.0 == b.0) {
            rows.clear();
            rows.extend(same.iter().map(|route| route.1));
            weights.clear();
            weights.extend(same.iter().map(|route| route.2));
            let h = self.experts[same[0].0].forward(c, &c.select(x, rows)?)?;
            out = c.add_rows(out, h, rows, weights)?;
        }
        ROUTES.set(routes);
        Ok(out)
    }
}

/// The experts of one token with their weights: the softmax over all scores, of which the `used` largest are kept. Of equal
/// scores the first counts.
fn route(scores: &[f32], used: usize, renormalise: bool, best: &mut Vec<usize>) -> impl Iterator<Item = (usize, f32)> {
    let max = scores.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    let weight = move |score: f32| (score - max).exp();
    best.clear();
    best.extend(0..scores.len());
    best.sort_unstable_by(|a, b| scores[*b].total_cmp(&scores[*a]).then(a.cmp(b)));
    best.truncate(used);
    let chosen = best.iter().map(move |expert| (*expert, weight(scores[*expert])));
    let total: f32 =
        if renormalise { chosen.clone().map(|(_, weight)| weight).sum() } else { scores.iter().copied().map(weight).sum() };
    chosen.map(move |(expert, weight)| (expert, weight / total))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_goes_to_its_best_experts_with_weights_of_a_softmax() {
        let scores = [1.0f32.ln(), 4.0f32.ln(), 2.0f32.ln(), 1.0f32.ln()];
        let near = |got: Vec<(usize, f32)>, expected: &[(usize, f32)]| {
            assert_eq!(got.len(), expected.len());
            got.iter().zip(expected).for_each(|(a, b)| assert!(a.0 == b.0 && (a.1 - b.1).abs() < 1e-6, "{got:?}"));
        };
        near(route(&scores, 2, false, &mut vec![]).collect(), &[(1, 0.5), (2, 0.25)]);
        near(route(&scores, 2, true, &mut vec![]).collect(), &[(1, 2.0 / 3.0), (2, 1.0 / 3.0)]);
        near(route(&scores, 3, true, &mut vec![]).collect(), &[(1, 4.0 / 7.0), (2, 2.0 / 7.0), (0, 1.0 / 7.0)]);
        near(route(&scores, 9, true, &mut vec![]).collect(), &[(1, 0.5), (2, 0.25), (0, 0.125), (3, 0.125)]);
    }
}
