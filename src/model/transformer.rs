//! The decoder: every family and every device runs this one forward.
//!
//! A block is `x + attention(norm(x))`, then `x + mlp(norm(x))` (pre-norm, as in GPT-2 and Llama). Which norm, which
//! positions, which activation was decided by the `Spec` at load; here are only the steps.

use crate::error::{Error, Result};
use crate::model::Forward;
use crate::nn::{Batch, CacheType, Compute, Frequencies, Heads, KvCache, KvLayer, Projection};
use crate::spec::{Activation, Head, Mlp, Norm, Position, Spec};
use crate::weights::{Stored, Weights};

/// A decoder-only transformer on device `C`.
pub struct Transformer<C: Compute> {
    compute: C,
    spec: Spec,
    cache_type: CacheType,
    frequencies: Option<Frequencies>,
    embedding: C::Linear,
    positions: Option<C::Linear>,
    blocks: Vec<Block<C>>,
    norm: C::Norm,
    /// The output matrix; `None` where it is the embedding table.
    head: Option<C::Linear>,
}

struct Block<C: Compute> {
    attention_norm: C::Norm,
    heads: Heads,
    qkv: C::Linear,
    out: C::Linear,
    mlp_norm: C::Norm,
    act: Activation,
    gated: bool,
    up: C::Linear,
    down: C::Linear,
}

impl<C: Compute> Transformer<C> {
    /// Moves the tensors of `weights` to the device.
    ///
    /// # Errors
    /// [`Error::Corrupt`] for a tensor that is missing, misshapen or not finite.
    pub fn load(compute: C, spec: Spec, mut weights: Weights, cache_type: CacheType) -> Result<Self> {
        let mut load = Loader { compute: &compute, spec: &spec, weights: &mut weights };
        let embedding = load.linear(&[("token_embd", spec.vocab)], spec.dim, false)?;
        let positions = match spec.position {
            Position::Learned => Some(load.linear(&[("position_embd", spec.context)], spec.dim, false)?),
            Position::Rope(_) => None,
        };
        let blocks = (0..spec.layers).map(|layer| load.block(layer)).collect::<Result<_>>()?;
        let norm = load.norm("output_norm")?;
        let head = match spec.head {
            Head::Tied => None,
            Head::Own => Some(load.linear(&[("output", spec.vocab)], spec.dim, false)?),
        };
        let frequencies = match &spec.position {
            Position::Rope(rope) => Some(Frequencies::new(rope)),
            Position::Learned => None,
        };
        Ok(Transformer { compute, spec, cache_type, frequencies, embedding, positions, blocks, norm, head })
    }

    fn check(&self, batch: &Batch, caches: &[&mut KvCache]) -> Result<()> {
        if let Some(token) = batch.tokens.iter().find(|token| **token as usize >= self.spec.vocab) {
            return Err(Error::Input(format!("token {token} is outside the vocabulary of {}", self.spec.vocab)));
        }
        if batch.sequences() != caches.len() || caches.iter().any(|cache| cache.layers.len() != self.blocks.len()) {
            return Err(Error::Input("a batch needs one cache of this model for each sequence".into()));
        }
        caches.iter().enumerate().try_for_each(|(i, cache)| cache.reserve(batch.rows(i).len()))
    }

    /// The final hidden states of the wanted rows; `None` where none is wanted.
    fn forward(&self, batch: &Batch, caches: &mut [&mut KvCache]) -> Result<Option<C::Tensor>> {
        self.check(batch, caches)?;
        let c = &self.compute;
        let firsts: Vec<usize> = caches.iter().map(|cache| cache.len()).collect();
        let positions: Vec<usize> = (0..batch.sequences())
            .flat_map(|i| (0..batch.rows(i).len()).map(move |j| (i, j)))
            .map(|(i, j)| firsts[i] + j)
            .collect();
        let rope = self.frequencies.as_ref().map(|f| c.rope(f, &positions)).transpose()?;

        // Embedding.
        let mut x = c.embed(&self.embedding, &batch.tokens)?;
        if let Some(table) = &self.positions {
            let rows: Vec<u32> = positions.iter().map(|p| *p as u32).collect();
            x = c.add(x, c.embed(table, &rows)?)?;
        }

        for (i, block) in self.blocks.iter().enumerate() {
            // Attention.
            let h = c.norm(&x, &block.attention_norm)?;
            let qkv = c.project(&h, &block.qkv)?;
            let mut layers: Vec<&mut KvLayer> = caches.iter_mut().map(|cache| &mut cache.layers[i]).collect();
            let mut h = c.attend(qkv, &block.heads, rope.as_ref(), batch, &firsts, &mut layers)?;
            if i + 1 == self.blocks.len() {
                // Behind the last attention only the wanted rows matter.
                if batch.outputs.is_empty() {
                    break;
                }
                (h, x) = (c.select(h, &batch.outputs)?, c.select(x, &batch.outputs)?);
            }
            x = c.add(x, c.project(&h, &block.out)?)?;

            // Feed-forward.
            let h = c.norm(&x, &block.mlp_norm)?;
            let h = c.project(&h, &block.up)?;
            let h = if block.gated { c.gated(h, block.act)? } else { c.activate(h, block.act)? };
            x = c.add(x, c.project(&h, &block.down)?)?;
        }
        for (i, cache) in caches.iter_mut().enumerate() {
            cache.advance(batch.rows(i).len());
        }
        if batch.outputs.is_empty() {
            return Ok(None);
        }
        c.norm(&x, &self.norm).map(Some)
    }
}

impl<C: Compute> Forward for Transformer<C> {
    fn spec(&self) -> &Spec {
        &self.spec
    }

    fn cache(&self, limit: usize) -> Result<KvCache> {
        let layer = |block: &Block<C>| self.compute.cache_layer(&block.heads, self.cache_type);
        Ok(KvCache::new(self.blocks.iter().map(layer).collect::<Result<_>>()?, limit))
    }

    fn hidden(&self, batch: &Batch, caches: &mut [&mut KvCache], out: &mut Vec<f32>) -> Result<()> {
        out.clear();
        match self.forward(batch, caches)? {
            Some(x) => self.compute.read(x, out),
            None => Ok(()),
        }
    }

    fn logits(&self, batch: &Batch, caches: &mut [&mut KvCache], out: &mut Vec<f32>) -> Result<()> {
        out.clear();
        let head = self.head.as_ref().unwrap_or(&self.embedding);
        match self.forward(batch, caches)? {
            Some(x) => self.compute.read(self.compute.project(&x, head)?, out),
            None => Ok(()),
        }
    }
}

/// Takes tensors out of the weights, checks their shapes, and hands them to the device.
struct Loader<'a, C: Compute> {
    compute: &'a C,
    spec: &'a Spec,
    weights: &'a mut Weights,
}

impl<C: Compute> Loader<'_, C> {
    fn block(&mut self, layer: usize) -> Result<Block<C>> {
        let spec = self.spec;
        let name = |part: &str| format!("blk.{layer}.{part}");
        let heads = Heads::new(&spec.attention, layer);
        let (q, kv) = (heads.heads * heads.head_dim, heads.kv_heads * heads.head_dim);
        let bias = spec.attention.qkv_bias;
        let qkv = match self.weights.contains(&name("attn_qkv.weight")) {
            true => self.linear(&[(&name("attn_qkv"), q + 2 * kv)], spec.dim, bias)?,
            false => self.linear(&[(&name("attn_q"), q), (&name("attn_k"), kv), (&name("attn_v"), kv)], spec.dim, bias)?,
        };
        let (act, gated, dim, bias) = match spec.mlp {
            Mlp::Gated { act, dim, bias } => (act, true, dim, bias),
            Mlp::Plain { act, dim, bias } => (act, false, dim, bias),
        };
        let (gate, up) = (name("ffn_gate"), name("ffn_up"));
        let up = if gated { vec![(gate.as_str(), dim), (&up, dim)] } else { vec![(up.as_str(), dim)] };
        Ok(Block {
            attention_norm: self.norm(&name("attn_norm"))?,
            heads,
            qkv,
            out: self.linear(&[(&name("attn_output"), spec.dim)], q, spec.attention.out_bias)?,
            mlp_norm: self.norm(&name("ffn_norm"))?,
            act,
            gated,
            up: self.linear(&up, spec.dim, bias)?,
            down: self.linear(&[(&name("ffn_down"), spec.dim)], dim, bias)?,
        })
    }

    fn linear(&mut self, parts: &[(&str, usize)], inputs: usize, bias: bool) -> Result<C::Linear> {
        let mut taken = Vec::with_capacity(parts.len());
        for (name, outputs) in parts {
            let weight: Stored = self.weights.take(&format!("{name}.weight"), &[*outputs, inputs])?;
            let bias = bias.then(|| self.weights.take_vector(&format!("{name}.bias"), *outputs)).transpose()?;
            taken.push(Projection { weight, bias });
        }
        self.compute.linear(taken)
    }

    fn norm(&mut self, name: &str) -> Result<C::Norm> {
        let weight = self.weights.take_vector(&format!("{name}.weight"), self.spec.dim)?;
        let bias = match self.spec.norm {
            Norm::Rms { .. } => None,
            Norm::Layer { .. } => Some(self.weights.take_vector(&format!("{name}.bias"), self.spec.dim)?),
        };
        self.compute.norm_weights(self.spec.norm, weight, bias)
    }
}
