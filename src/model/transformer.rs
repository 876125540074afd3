//! The transformer: every family, decoder or encoder, and every device runs this one forward.
//!
//! A block is `x + attention(norm(x))`, then `x + mlp(norm(x))`, with norms before or after a sub-layer or of the sum. Which
//! norm, which positions, which activation was decided by the `Spec` at load; here are only the steps.

use crate::error::{Error, Result};
use crate::model::Forward;
use crate::nn::mlp::{Dense, Experts};
use crate::nn::{Batch, CacheType, Compute, FeedForward, Frequencies, Heads, InputRow, KvCache, Places, Projection};
use crate::spec::{Activation, Head, Mlp, Norm, Position, QkNorm, Spec, Wiring};
use crate::weights::{Stored, Weights};

/// A transformer on device `C`.
pub struct Transformer<C: Compute> {
    compute: C,
    spec: Spec,
    cache_type: CacheType,
    /// One for each way of rotating, of which a model has two at most; a block knows its own.
    ropes: Vec<Frequencies>,
    embedding: C::Linear,
    types: Option<C::Linear>,
    /// Learned positions, and the row of position 0.
    positions: Option<(C::Linear, usize)>,
    embed_norm: Option<C::Norm>,
    blocks: Vec<Block<C>>,
    norm: Option<C::Norm>,
    /// The output matrix; `None` where it is the embedding table, or where there is none.
    head: Option<C::Linear>,
}

struct Block<C: Compute> {
    attention_norms: Around<C>,
    qkv: C::Linear,
    qk_norms: Option<(C::Norm, C::Norm)>,
    rope: Option<usize>,
    heads: Heads,
    out: C::Linear,
    mlp_norms: Around<C>,
    mlp: FeedForward<C>,
}

/// The norms before and after a sub-layer, and of its sum with the residual stream.
struct Around<C: Compute> {
    before: Option<C::Norm>,
    after: Option<C::Norm>,
    joined: Option<C::Norm>,
}

impl<C: Compute> Transformer<C> {
    /// Moves the tensors of `weights` to the device.
    ///
    /// # Errors
    /// [`Error::Corrupt`] for a tensor that is missing, misshapen or not finite.
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

    fn check(&self, batch: &Batch, caches: &[&mut KvCache]) -> Result<()> {
        if let Some(token) = batch.tokens.iter().find(|token| **token as usize >= self.spec.vocab) {
            return Err(Error::Input(format!("token {token} is outside the vocabulary of {}", self.spec.vocab)));
        }
        let is_ours = |(row, given): &(usize, InputRow)| *row < batch.tokens.len() && given.values().len() == self.spec.dim;
        if !batch.given.iter().all(is_ours) || !batch.given.is_sorted_by(|a, b| a.0 < b.0) {
            return Err(Error::Input(format!("rows in the place of tokens must have {} numbers, and ascend", self.spec.dim)));
        }
        let ends = batch.starts.iter().copied().chain([batch.tokens.len()]);
        if !ends.is_sorted() || batch.starts.first().is_some_and(|first| *first != 0) {
            return Err(Error::Input("the sequences of a batch must lie end to end from its first token on".into()));
        }
        if batch.starts.is_empty() && !batch.tokens.is_empty() || batch.outputs.iter().any(|row| *row >= batch.tokens.len()) {
            return Err(Error::Input("a batch asks for rows that none of its sequences has".into()));
        }
        if !caches.is_empty() && self.spec.is_encoder() {
            return Err(self.reads_whole_texts());
        }
        if caches.is_empty() && batch.sequences() > 0 {
            let longest = (0..batch.sequences()).map(|i| batch.rows(i).len()).max().unwrap_or(0);
            let limit = self.spec.context;
            return if longest > limit { Err(Error::ContextOverflow { wanted: longest, limit }) } else { Ok(()) };
        }
        let is_ours = |cache: &&mut KvCache| {
            let mut layers = cache.layers.iter().zip(&self.blocks);
            cache.layers.len() == self.blocks.len() && layers.all(|(layer, block)| layer.is_of(&block.heads))
        };
        if batch.sequences() != caches.len() || !caches.iter().all(is_ours) {
            return Err(Error::Input("a batch needs one cache of this model for each sequence".into()));
        }
        caches.iter().enumerate().try_for_each(|(i, cache)| cache.reserve(batch.rows(i).len()))
    }

    /// The final hidden states of the wanted rows; `None` where none is wanted.
    fn forward(&self, batch: &Batch, caches: &mut [&mut KvCache]) -> Result<Option<C::Tensor>> {
        self.check(batch, caches)?;
        let c = &self.compute;
        let packed = caches.is_empty();
        let mut places = Places::new(batch, caches);
        let rope = |i: usize| self.ropes.get(i).map(|frequencies| c.rope(frequencies, places.as_slice())).transpose();
        let ropes = [rope(0)?, rope(1)?];

        // Embedding.
        let mut x = self.scaled(c.embed(&self.embedding, &batch.tokens)?, self.spec.scale.embed)?;
        if !batch.given.is_empty() {
            x = c.replace_rows(x, &batch.given)?;
        }
        if let Some(types) = &self.types {
            x = c.add(x, c.embed(types, places.rows(|_| 0))?)?;
        }
        if let Some((table, offset)) = &self.positions {
            x = c.add(x, c.embed(table, places.rows(|place| place.position + offset))?)?;
        }
        x = self.normed(&x, &self.embed_norm)?.unwrap_or(x);
        places.free();

        for (i, block) in self.blocks.iter().enumerate() {
            // Attention.
            let h = self.normed(&x, &block.attention_norms.before)?;
            let mut qkv = c.project(h.as_ref().unwrap_or(&x), &block.qkv)?;
            if let Some(norms) = &block.qk_norms {
                qkv = c.norm_heads(qkv, &block.heads, norms)?;
            }
            let rope = block.rope.and_then(|rope| ropes[rope].as_ref());
            let mut h = if packed {
                c.attend_packed(qkv, &block.heads, rope, batch)?
            } else {
                c.attend(qkv, &block.heads, rope, batch, i, caches)?
            };
            if i + 1 == self.blocks.len() {
                // Behind the last attention only the wanted rows matter.
                if batch.outputs.is_empty() {
                    break;
                }
                if !batch.outputs.iter().copied().eq(0..batch.tokens.len()) {
                    (h, x) = (c.select(&h, &batch.outputs)?, c.select(&x, &batch.outputs)?);
                }
            }
            x = self.joined(x, c.project(&h, &block.out)?, &block.attention_norms)?;

            // Feed-forward.
            let h = self.normed(&x, &block.mlp_norms.before)?;
            let h = block.mlp.forward(c, h.as_ref().unwrap_or(&x))?;
            x = self.joined(x, h, &block.mlp_norms)?;
        }
        for (i, cache) in caches.iter_mut().enumerate() {
            cache.advance(batch.rows(i).len());
        }
        if batch.outputs.is_empty() {
            return Ok(None);
        }
        Ok(Some(self.normed(&x, &self.norm)?.unwrap_or(x)))
    }

    fn normed(&self, x: &C::Tensor, norm: &Option<C::Norm>) -> Result<Option<C::Tensor>> {
        norm.as_ref().map(|norm| self.compute.norm(x, norm)).transpose()
    }

    /// The residual stream `x` with a sub-layer's output `h`.
    fn joined(&self, x: C::Tensor, h: C::Tensor, norms: &Around<C>) -> Result<C::Tensor> {
        let h = self.normed(&h, &norms.after)?.unwrap_or(h);
        let x = self.compute.add(x, self.scaled(h, self.spec.scale.residual)?)?;
        Ok(self.normed(&x, &norms.joined)?.unwrap_or(x))
    }

    /// What an encoder is asked that only a decoder does.
    fn reads_whole_texts(&self) -> Error {
        let what = format!("generating text with {}, an encoder,", self.spec.family);
        Error::unsupported(what, "making vectors of texts with it: `tallow embed`, `Embedder`")
    }

    fn scaled(&self, x: C::Tensor, factor: f64) -> Result<C::Tensor> {
        if factor == 1.0 { Ok(x) } else { self.compute.scale(x, factor) }
    }
}

impl<C: Compute> Forward for Transformer<C> {
    fn spec(&self) -> &Spec {
        &self.spec
    }

    fn cache(&self, limit: usize) -> Result<KvCache> {
        if self.spec.is_encoder() {
            return Err(self.reads_whole_texts());
        }
        let layer = |block: &Block<C>| self.compute.cache_layer(&block.heads, self.cache_type);
        Ok(KvCache::new(self.blocks.iter().map(layer).collect::<Result<_>>()?, limit))
    }

    fn cache_limit(&self, len: usize, context: usize) -> usize {
        let originals = self.ropes.iter().filter_map(|rope| rope.beyond.as_ref().map(|(original, _)| *original));
        originals.filter(|original| len <= *original).fold(context, usize::min)
    }

    fn hidden(&self, batch: &Batch, caches: &mut [&mut KvCache], out: &mut Vec<f32>) -> Result<()> {
        match self.forward(batch, caches)? {
            Some(x) => self.compute.read(x, out)?,
            None => out.clear(),
        }
        Ok(())
    }

    fn logits(&self, batch: &Batch, caches: &mut [&mut KvCache], out: &mut Vec<f32>) -> Result<()> {
        if self.spec.head == Head::None {
            return Err(self.reads_whole_texts());
        }
        let head = self.head.as_ref().unwrap_or(&self.embedding);
        let Some(x) = self.forward(batch, caches)? else {
            out.clear();
            return Ok(());
        };
        let mut logits = self.scaled(self.compute.project(&x, head)?, self.spec.scale.logits)?;
        if let Some(cap) = self.spec.scale.cap {
            logits = self.compute.cap(logits, cap)?;
        }
        self.compute.read(logits, out)
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
            attention_norms: self.around(&name("attn_norm"), &name("post_attention_norm"), &name("attn_output_norm"))?,
            qkv,
            qk_norms,
            rope,
            heads,
            out: self.linear(&[(&name("attn_output"), spec.dim)], q, spec.attention.out_bias)?,
            mlp_norms: self.around(&name("ffn_norm"), &name("post_ffw_norm"), &name("layer_output_norm"))?,
            mlp: self.mlp(layer)?,
        })
    }

    fn around(&mut self, before: &str, after: &str, joined: &str) -> Result<Around<C>> {
        let (has_before, has_after, has_joined) = match self.spec.wiring {
            Wiring::PreNorm => (true, false, false),
            Wiring::Sandwich => (true, true, false),
            Wiring::NormOutput => (false, true, false),
            Wiring::PostNorm => (false, false, true),
        };
        let mut norm = |name, has: bool| has.then(|| self.norm(name, self.spec.dim)).transpose();
        let (before, after) = (norm(before, has_before)?, norm(after, has_after)?);
        Ok(Around { before, after, joined: norm(joined, has_joined)? })
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
                Dense { act, gated: true, up, down: self.linear(&[(&down, dim)], width, bias)? }
            }
            Mlp::Plain { act, dim: width, bias } => Dense {
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

    fn expert(&mut self, layer: usize, expert: usize, width: usize, act: Activation) -> Result<Dense<C>> {
        let dim = self.spec.dim;
        let name = |part: &str| format!("blk.{layer}.ffn_{part}.{expert}");
        let up = self.linear(&[(&name("gate"), width), (&name("up"), width)], dim, false)?;
        Ok(Dense { act, gated: true, up, down: self.linear(&[(&name("down"), dim)], width, false)? })
    }

    fn table(&mut self, name: &str, rows: usize) -> Result<C::Linear> {
        self.compute.table(self.weights.take(&format!("{name}.weight"), &[rows, self.spec.dim])?)
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
