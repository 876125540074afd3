//! The transformer: every family, decoder or encoder, and every device runs this one forward.
//!
//! A block is `x + attention(norm(x))`, then `x + mlp(norm(x))`, with norms before or after a sub-layer or of the sum. Which
//! norm, which positions, which activation was decided by the `Spec` at load (`loader.rs`); here are only the steps.

use super::Forward;
use crate::backend::{Backend, Batch, CacheType, FeedForward, Frequencies, Heads, InputRow, KvCache, Positions, RopeSet};
use crate::error::{Error, Result};
use crate::spec::{Head, Spec};
use std::ops::Deref;

/// A transformer on device `C`.
pub struct Transformer<C: Backend> {
    pub(super) compute: C,
    pub(super) spec: Spec,
    pub(super) cache_type: CacheType,
    /// One for each way of rotating, of which a model has two at most; a block knows its own.
    pub(super) ropes: Vec<Frequencies>,
    pub(super) embedding: C::Linear,
    pub(super) types: Option<C::Linear>,
    /// Learned positions, and the row of position 0.
    pub(super) positions: Option<(C::Linear, usize)>,
    pub(super) embed_norm: Option<C::Norm>,
    pub(super) blocks: Vec<Block<C>>,
    pub(super) norm: Option<C::Norm>,
    /// The output matrix; `None` where it is the embedding table, or where there is none.
    pub(super) head: Option<C::Linear>,
}

/// The rotations of a batch's rows, one for each way of rotating.
type Ropes<C> = [Option<<C as Backend>::Rope>; 2];

pub(super) struct Block<C: Backend> {
    pub(super) attention_norms: SublayerNorms<C>,
    pub(super) qkv: C::Linear,
    pub(super) qk_norms: Option<(C::Norm, C::Norm)>,
    pub(super) rope: Option<usize>,
    pub(super) heads: Heads,
    pub(super) out: C::Linear,
    pub(super) mlp_norms: SublayerNorms<C>,
    pub(super) mlp: FeedForward<C>,
}

/// The norms before and after a sub-layer, and of its sum with the residual stream.
pub(super) struct SublayerNorms<C: Backend> {
    pub(super) before: Option<C::Norm>,
    pub(super) after: Option<C::Norm>,
    pub(super) joined: Option<C::Norm>,
}

/// What a sub-layer reads: the residual stream itself, or its norm.
enum SublayerInput<'x, T> {
    Itself(&'x T),
    Normed(T),
}

impl<T> Deref for SublayerInput<'_, T> {
    type Target = T;
    fn deref(&self) -> &T {
        match self {
            SublayerInput::Itself(x) => x,
            SublayerInput::Normed(x) => x,
        }
    }
}

impl<C: Backend> Transformer<C> {
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
        let (mut x, ropes) = self.embedded(batch, caches)?;
        for (i, block) in self.blocks.iter().enumerate() {
            // Attention.
            let h = self.before(&x, &block.attention_norms)?;
            let mut qkv = c.project(&h, &block.qkv)?;
            if let Some(norms) = &block.qk_norms {
                qkv = c.norm_heads(qkv, &block.heads, norms)?;
            }
            let rope = block.rope.and_then(|rope| ropes[rope].as_ref());
            let mut h = match caches.is_empty() {
                true => c.attend_packed(qkv, &block.heads, rope, batch)?,
                false => c.attend(qkv, &block.heads, rope, batch, i, caches)?,
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
            let h = self.before(&x, &block.mlp_norms)?;
            let h = block.mlp.forward(c, &h)?;
            x = self.joined(x, h, &block.mlp_norms)?;
        }
        for (i, cache) in caches.iter_mut().enumerate() {
            cache.advance(batch.rows(i).len());
        }
        if batch.outputs.is_empty() { Ok(None) } else { self.normed(x, &self.norm).map(Some) }
    }

    /// The frequencies of texts that may come to `len` positions.
    fn rope_set(&self, len: usize) -> RopeSet {
        if self.rope_switch().is_some_and(|switch| len > switch) { RopeSet::Long } else { RopeSet::Usual }
    }

    /// The rows that the first block reads, and the rotations of their positions.
    fn embedded(&self, batch: &Batch, caches: &[&mut KvCache]) -> Result<(C::Tensor, Ropes<C>)> {
        let c = &self.compute;
        let mut positions = Positions::new(batch, caches, |len| self.rope_set(len));
        let rope = |i: usize| self.ropes.get(i).map(|frequencies| c.rope(frequencies, positions.as_slice())).transpose();
        let ropes = [rope(0)?, rope(1)?];
        let mut x = self.scaled(c.embed(&self.embedding, &batch.tokens)?, self.spec.scale.embed)?;
        if !batch.given.is_empty() {
            x = c.replace_rows(x, &batch.given)?;
        }
        if let Some(types) = &self.types {
            x = c.add(x, c.embed(types, positions.rows(|_| 0))?)?;
        }
        if let Some((table, offset)) = &self.positions {
            x = c.add(x, c.embed(table, positions.rows(|position| position + offset))?)?;
        }
        positions.free();
        Ok((self.normed(x, &self.embed_norm)?, ropes))
    }

    /// What a sub-layer reads of the residual stream `x`.
    fn before<'x>(&self, x: &'x C::Tensor, norms: &SublayerNorms<C>) -> Result<SublayerInput<'x, C::Tensor>> {
        if let Some(norm) = &norms.before {
            self.compute.norm(x, norm).map(SublayerInput::Normed)
        } else {
            Ok(SublayerInput::Itself(x))
        }
    }

    /// The residual stream `x` with a sub-layer's output `h`.
    fn joined(&self, x: C::Tensor, h: C::Tensor, norms: &SublayerNorms<C>) -> Result<C::Tensor> {
        let h = self.normed(h, &norms.after)?;
        let x = self.compute.add(x, self.scaled(h, self.spec.scale.residual)?)?;
        self.normed(x, &norms.joined)
    }

    fn normed(&self, x: C::Tensor, norm: &Option<C::Norm>) -> Result<C::Tensor> {
        if let Some(norm) = norm { self.compute.norm(&x, norm) } else { Ok(x) }
    }

    fn scaled(&self, x: C::Tensor, factor: f64) -> Result<C::Tensor> {
        if factor == 1.0 { Ok(x) } else { self.compute.scale(x, factor) }
    }

    /// What is asked that only a decoder with an output matrix does.
    fn reads_whole_texts(&self) -> Error {
        let family = self.spec.family;
        let what = match self.spec.is_encoder() {
            true => format!("generating text with {family}, an encoder,"),
            false => format!(
                "generating text with a {family} without an output matrix (config.json: key tie_word_embeddings is not true, and \
                 no tensor lm_head.weight)"
            ),
        };
        Error::unsupported(what, "making vectors of texts with it: `tallow embed`, `Embedder`")
    }
}

impl<C: Backend> std::fmt::Debug for Transformer<C> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Transformer").field("spec", &self.spec).field("cache_type", &self.cache_type).finish_non_exhaustive()
    }
}

impl<C: Backend> Forward for Transformer<C> {
    fn spec(&self) -> &Spec {
        &self.spec
    }

    fn cache(&self, limit: usize) -> Result<KvCache> {
        if self.spec.head == Head::None {
            return Err(self.reads_whole_texts());
        }
        let layer = |block: &Block<C>| self.compute.cache_layer(&block.heads, self.cache_type);
        let layers = self.blocks.iter().map(layer).collect::<Result<_>>()?;
        Ok(KvCache::new(layers, limit).with_rope(self.rope_set(limit)))
    }

    fn rope_switch(&self) -> Option<usize> {
        self.ropes.iter().filter_map(|rope| rope.beyond.as_ref().map(|(original, _)| *original)).min()
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
