//! From the tensors of a file to a network on a device: which tensors a `Spec` needs, under which names and in which shapes.
//!
//! A tensor is taken out of the weights, handed to the device and dropped before the next one is touched, so that the
//! weights are held once.

use super::transformer::{Block, SublayerNorms, Transformer};
use crate::backend::mlp::{DenseMlp, Experts};
use crate::backend::{Backend, CacheType, FeedForward, Frequencies, Heads, Projection};
use crate::error::Result;
use crate::spec::{Activation, Head, Mlp, Norm, Position, QkNorm, Spec, Wiring};
use crate::tensors::Weights;

impl<C: Backend> Transformer<C> {
    /// Moves the tensors of `weights` to the device.
    ///
    /// # Errors
    /// [`Error::Corrupt`](crate::Error::Corrupt) for a tensor that is missing, misshapen or not finite.
    pub fn load(compute: C, spec: Spec, mut weights: Weights, cache_type: CacheType) -> Result<Self> {
        let mut load = Loader { compute: &compute, spec: &spec, weights: &mut weights };
        let embedding = match spec.head {
            Head::Tied => load.linear(&[("token_embd", spec.vocab)], spec.dim, false)?,
            Head::Own | Head::None => load.table("token_embd", spec.vocab)?,
        };
        let types = spec.token_types.map(|count| load.table("token_types", count)).transpose()?;
        let positions = match spec.position {
            Position::Learned { offset } => Some((load.table("position_embd", spec.context + offset)?, offset)),
            Position::Rope(_) => None,
        };
        let embed_norm = spec.embed_norm.then(|| load.norm("token_embd_norm", spec.dim)).transpose()?;
        let ropes = match &spec.position {
            Position::Rope(ropes) => ropes.iter().map(Frequencies::new).collect::<Vec<_>>(),
            Position::Learned { .. } => Vec::new(),
        };
        assert!(ropes.len() <= 2, "a forward knows two ways of rotating");
        let blocks = (0..spec.layers).map(|layer| load.block(layer)).collect::<Result<_>>()?;
        let norm = (spec.wiring != Wiring::PostNorm).then(|| load.norm("output_norm", spec.dim)).transpose()?;
        let head = match spec.head {
            Head::Tied | Head::None => None,
            Head::Own => Some(load.linear(&[("output", spec.vocab)], spec.dim, false)?),
        };
        Ok(Transformer { compute, spec, cache_type, ropes, embedding, types, positions, embed_norm, blocks, norm, head })
    }
}

/// Takes tensors out of the weights, checks their shapes, and hands them to the device.
struct Loader<'a, C: Backend> {
    compute: &'a C,
    spec: &'a Spec,
    weights: &'a mut Weights,
}

impl<C: Backend> Loader<'_, C> {
    fn block(&mut self, layer: usize) -> Result<Block<C>> {
        let spec = self.spec;
        let name = |part: &str| format!("blk.{layer}.{part}");
        let heads = Heads::new(&spec.attention, layer);
        let (q, kv) = (heads.q_width(), heads.kv_width());
        let bias = spec.attention.qkv_bias;
        let qkv = match self.weights.contains(&name("attn_qkv.weight")) {
            true => self.linear(&[(&name("attn_qkv"), heads.qkv_width())], spec.dim, bias)?,
            false => self.linear(&[(&name("attn_q"), q), (&name("attn_k"), kv), (&name("attn_v"), kv)], spec.dim, bias)?,
        };
        let qk_widths = match spec.attention.qk_norm {
            QkNorm::None => None,
            QkNorm::Head => Some((heads.head_dim, heads.head_dim)),
            QkNorm::Row => Some((q, kv)),
        };
        let qk_norms = match qk_widths {
            Some((q, k)) => Some((self.norm(&name("attn_q_norm"), q)?, self.norm(&name("attn_k_norm"), k)?)),
            None => None,
        };
        let rope = match &spec.position {
            Position::Rope(ropes) => ropes.iter().position(|rope| rope.layers.has(layer)),
            Position::Learned { .. } => None,
        };
        Ok(Block {
            attention_norms: self.sublayer_norms(
                &name("attn_norm"),
                &name("post_attention_norm"),
                &name("attn_output_norm"),
            )?,
            qkv,
            qk_norms,
            rope,
            heads,
            out: self.linear(&[(&name("attn_output"), spec.dim)], q, spec.attention.out_bias)?,
            mlp_norms: self.sublayer_norms(&name("ffn_norm"), &name("post_ffw_norm"), &name("layer_output_norm"))?,
            mlp: self.mlp(layer)?,
        })
    }

    fn sublayer_norms(&mut self, before: &str, after: &str, joined: &str) -> Result<SublayerNorms<C>> {
        let (has_before, has_after, has_joined) = match self.spec.wiring {
            Wiring::PreNorm => (true, false, false),
            Wiring::Sandwich => (true, true, false),
            Wiring::NormOutput => (false, true, false),
            Wiring::PostNorm => (false, false, true),
        };
        let mut norm = |name, has: bool| has.then(|| self.norm(name, self.spec.dim)).transpose();
        let (before, after) = (norm(before, has_before)?, norm(after, has_after)?);
        Ok(SublayerNorms { before, after, joined: norm(joined, has_joined)? })
    }

    fn mlp(&mut self, layer: usize) -> Result<FeedForward<C>> {
        let dim = self.spec.dim;
        let name = |part: &str| format!("blk.{layer}.{part}");
        let (gate, up, down) = (name("ffn_gate"), name("ffn_up"), name("ffn_down"));
        let dense = match self.spec.mlp {
            Mlp::Gated { act, dim: width, bias } => {
                let up = match self.weights.contains(&format!("{gate}.weight")) {
                    true => self.linear(&[(&gate, width), (&up, width)], dim, bias)?,
                    false => self.linear(&[(&up, 2 * width)], dim, bias)?,
                };
                DenseMlp { act, gated: true, up, down: self.linear(&[(&down, dim)], width, bias)? }
            }
            Mlp::Plain { act, dim: width, bias } => DenseMlp {
                act,
                gated: false,
                up: self.linear(&[(&up, width)], dim, bias)?,
                down: self.linear(&[(&down, dim)], width, bias)?,
            },
            Mlp::Experts { act, dim: width, count, used, renormalise } => {
                let router = self.linear(&[(&name("ffn_gate_inp"), count)], dim, false)?;
                let experts = (0..count).map(|i| self.expert(layer, i, width, act)).collect::<Result<_>>()?;
                return Ok(FeedForward::Experts(Experts { router, experts, used, renormalise }));
            }
        };
        Ok(FeedForward::Dense(dense))
    }

    fn expert(&mut self, layer: usize, expert: usize, width: usize, act: Activation) -> Result<DenseMlp<C>> {
        let dim = self.spec.dim;
        let name = |part: &str| format!("blk.{layer}.ffn_{part}.{expert}");
        let up = self.linear(&[(&name("gate"), width), (&name("up"), width)], dim, false)?;
        Ok(DenseMlp { act, gated: true, up, down: self.linear(&[(&name("down"), dim)], width, false)? })
    }

    fn table(&mut self, name: &str, rows: usize) -> Result<C::Linear> {
        self.compute.table(self.weights.take(&format!("{name}.weight"), &[rows, self.spec.dim])?)
    }

    fn linear(&mut self, parts: &[(&str, usize)], inputs: usize, bias: bool) -> Result<C::Linear> {
        let mut taken = Vec::with_capacity(parts.len());
        for (name, outputs) in parts {
            let weight = self.weights.take(&format!("{name}.weight"), &[*outputs, inputs])?;
            let bias = bias.then(|| self.weights.take_vector(&format!("{name}.bias"), *outputs)).transpose()?;
            taken.push(Projection { weight, bias });
        }
        self.compute.linear(taken)
    }

    fn norm(&mut self, name: &str, width: usize) -> Result<C::Norm> {
        let mut weight = self.weights.take_vector(&format!("{name}.weight"), width)?;
        let bias = match self.spec.norm {
            Norm::Rms { offset, .. } => {
                weight.iter_mut().for_each(|w| *w += offset);
                None
            }
            Norm::Layer { .. } => Some(self.weights.take_vector(&format!("{name}.bias"), width)?),
        };
        self.compute.norm_weights(self.spec.norm, weight, bias)
    }
}
