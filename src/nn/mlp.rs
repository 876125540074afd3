//! The feed-forward sub-layer: dense, or a mixture of experts.
//!
//! Experts are computed one after another, each for all the tokens that chose it: their rows are gathered, go through the
//! same grouped projections as everything else, and are added back, weighted. So a prompt costs one product for each expert
//! and matrix, not one for each token. A token's experts are added in the order of their numbers, whatever else is in the
//! batch, so that results do not depend on it.

use super::Compute;
use crate::error::Result;
use crate::spec::Activation;

/// A feed-forward sub-layer with its weights on device `C`.
pub enum FeedForward<C: Compute> {
    /// The same for every token.
    Dense(Dense<C>),
    /// Some of many, for each token.
    Experts(Experts<C>),
}

/// `down(act(up(x)))`, or `down(act(gate(x)) * up(x))` where `up` is gate and up side by side.
pub struct Dense<C: Compute> {
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
pub struct Experts<C: Compute> {
    /// A score for each expert.
    pub router: C::Linear,
    /// The experts.
    pub experts: Vec<Dense<C>>,
    /// How many of them a token goes to.
    pub used: usize,
    /// Whether the weights of the chosen ones are scaled to sum up to 1.
    pub renormalise: bool,
}

impl<C: Compute> FeedForward<C> {
    /// The sub-layer's output for each row of `x`.
    pub fn forward(&self, c: &C, x: &C::Tensor) -> Result<C::Tensor> {
        match self {
            FeedForward::Dense(dense) => dense.forward(c, x),
            FeedForward::Experts(experts) => experts.forward(c, x),
        }
    }
}

impl<C: Compute> Dense<C> {
    fn forward(&self, c: &C, x: &C::Tensor) -> Result<C::Tensor> {
        let h = c.project(x, &self.up)?;
        let h = if self.gated { c.gated(h, self.act)? } else { c.activate(h, self.act)? };
        c.project(&h, &self.down)
    }
}

impl<C: Compute> Experts<C> {
    fn forward(&self, c: &C, x: &C::Tensor) -> Result<C::Tensor> {
        let mut scores = Vec::new();
        c.read(c.project(x, &self.router)?, &mut scores)?;
        let mut chosen: Vec<(Vec<usize>, Vec<f32>)> = self.experts.iter().map(|_| Default::default()).collect();
        for (row, scores) in scores.chunks_exact(self.experts.len()).enumerate() {
            for (expert, weight) in route(scores, self.used, self.renormalise) {
                chosen[expert].0.push(row);
                chosen[expert].1.push(weight);
            }
        }
        let mut out = c.zeros_like(x)?;
        for (expert, (rows, weights)) in self.experts.iter().zip(&chosen).filter(|(_, chosen)| !chosen.0.is_empty()) {
            let h = expert.forward(c, &c.select(x, rows)?)?;
            out = c.add_rows(out, h, rows, weights)?;
        }
        Ok(out)
    }
}

/// The experts of one token with their weights: the softmax over all scores, of which the `used` largest are kept. Of equal
/// scores the first counts.
fn route(scores: &[f32], used: usize, renormalise: bool) -> Vec<(usize, f32)> {
    let max = scores.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    let weights: Vec<f32> = scores.iter().map(|score| (score - max).exp()).collect();
    let all: f32 = weights.iter().sum();
    let mut order: Vec<usize> = (0..scores.len()).collect();
    order.sort_by(|a, b| scores[*b].total_cmp(&scores[*a]));
    order.truncate(used);
    let total = if renormalise { order.iter().map(|expert| weights[*expert]).sum() } else { all };
    order.into_iter().map(|expert| (expert, weights[expert] / total)).collect()
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
        near(route(&scores, 2, false), &[(1, 0.5), (2, 0.25)]);
        near(route(&scores, 2, true), &[(1, 2.0 / 3.0), (2, 1.0 / 3.0)]);
        near(route(&scores, 3, true), &[(1, 4.0 / 7.0), (2, 2.0 / 7.0), (0, 1.0 / 7.0)]);
        near(route(&scores, 9, true), &[(1, 0.5), (2, 0.25), (0, 0.125), (3, 0.125)]);
    }
}
