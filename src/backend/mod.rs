//! The building blocks of a transformer, once as a list ([`Backend`]) and twice as code: `cpu.rs` on slices with our own
//! kernels, `candle.rs` in candle's ops for CUDA, Metal and as the reference in tests.
//!
//! The grain is the sub-layer step: a norm, a group of projections that share their input, a whole attention with rotary
//! embedding and cache, a gated activation. Coarser steps would write the wiring of a block twice; finer ones would put a
//! tensor between every two loops. A `CustomOp` per step was weighed: it returns a fresh candle tensor each time and can not
//! borrow the cache mutably, so the host path works on buffers of its own and meets candle only at the edges.

pub mod cache;
pub mod candle;
pub mod cpu;
pub mod input;
pub mod mlp;
pub mod positions;
pub mod rope;

pub use crate::cpu::Heads;
use crate::error::{Error, Result};
use crate::spec::{Activation, Norm};
use crate::tensors::Stored;
pub use cache::{CacheType, KvCache, KvLayer, WINDOW_SLACK};
pub use input::{Input, InputRow};
pub use mlp::FeedForward;
pub use positions::{Positions, RowPosition};
pub use rope::{Frequencies, RopeSet};

/// Several sequences laid end to end, without padding.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Batch {
    /// Token ids of all sequences.
    pub tokens: Vec<u32>,
    /// Where each sequence begins in `tokens`; the first is 0. Sequence i continues the i-th cache, if there are any.
    pub starts: Vec<usize>,
    /// Rows of `tokens` whose hidden state or logits are wanted, ascending.
    pub outputs: Vec<usize>,
    /// Rows that are numbers and no tokens: where in `tokens`, ascending, and what stands in the place of the embedding. The
    /// entry in `tokens` is any token.
    pub given: Vec<(usize, InputRow)>,
}

impl Batch {
    /// One sequence of which the last position's result is wanted.
    pub fn last(tokens: &[u32]) -> Batch {
        let mut batch = Batch::default();
        batch.add(tokens, true);
        batch
    }

    /// Forgets all sequences; the memory is kept.
    pub fn clear(&mut self) {
        self.tokens.clear();
        self.starts.clear();
        self.outputs.clear();
        self.given.clear();
    }

    /// Begins one more sequence, without rows so far.
    pub fn begin(&mut self) {
        self.starts.push(self.tokens.len());
    }

    /// One more row of the last sequence, and whether its result is wanted.
    pub fn push(&mut self, input: &Input, wanted: bool) {
        let row = self.tokens.len();
        match input {
            Input::Token(token) => self.tokens.push(*token),
            Input::Row(values) => {
                self.tokens.push(0);
                self.given.push((row, values.clone()));
            }
        }
        if wanted {
            self.outputs.push(row);
        }
    }

    /// One sequence more, and whether the result of its last position is wanted.
    pub fn add(&mut self, tokens: &[u32], wanted: bool) {
        self.starts.push(self.tokens.len());
        self.tokens.extend_from_slice(tokens);
        if wanted && !tokens.is_empty() {
            self.outputs.push(self.tokens.len() - 1);
        }
    }

    /// The rows of sequence `i`.
    pub fn rows(&self, i: usize) -> std::ops::Range<usize> {
        self.starts[i]..self.starts.get(i + 1).copied().unwrap_or(self.tokens.len())
    }

    /// Number of sequences.
    pub fn sequences(&self) -> usize {
        self.starts.len()
    }
}

/// One weight matrix `(outputs, inputs)` with its bias, on the way into a device.
#[derive(Debug)]
pub struct Projection {
    /// The matrix.
    pub weight: Stored,
    /// One value per output.
    pub bias: Option<Vec<f32>>,
}

/// What a transformer asks of a device. Tensors are `(rows, width)`, a row per token of the batch.
pub trait Backend: Send + Sync {
    /// Activations.
    type Tensor;
    /// One or more projections that share their input; their outputs lie side by side.
    type Linear: Send + Sync;
    /// A norm with its weights.
    type Norm: Send + Sync;
    /// Cosines and sines of one batch.
    type Rope;

    /// Takes projections in; they all have the same number of inputs.
    fn linear(&self, parts: Vec<Projection>) -> Result<Self::Linear>;
    /// Takes in a matrix of which only rows are looked up, by [`Backend::embed`].
    fn table(&self, weight: Stored) -> Result<Self::Linear>;
    /// Takes a norm in; `bias` belongs to layer norm.
    fn norm_weights(&self, norm: Norm, weight: Vec<f32>, bias: Option<Vec<f32>>) -> Result<Self::Norm>;
    /// An empty cache of one layer.
    fn cache_layer(&self, heads: &Heads, kind: CacheType) -> Result<KvLayer>;
    /// Cosines and sines for the rows of a batch.
    fn rope(&self, frequencies: &Frequencies, positions: &[RowPosition]) -> Result<Self::Rope>;

    /// Rows of a table that was taken in as a projection `(vocabulary, dim)`.
    fn embed(&self, table: &Self::Linear, rows: &[u32]) -> Result<Self::Tensor>;
    /// Replaces some rows of `x` by numbers; the rows ascend, and each has `x`'s width.
    fn replace_rows(&self, x: Self::Tensor, rows: &[(usize, InputRow)]) -> Result<Self::Tensor>;
    /// `norm(x)`.
    fn norm(&self, x: &Self::Tensor, norm: &Self::Norm) -> Result<Self::Tensor>;
    /// Normalises queries and keys with a norm each: head by head where the norm has `head_dim` weights, else all together.
    fn norm_heads(&self, qkv: Self::Tensor, heads: &Heads, norms: &(Self::Norm, Self::Norm)) -> Result<Self::Tensor>;
    /// `x W^T + b` for each of the grouped projections.
    fn project(&self, x: &Self::Tensor, linear: &Self::Linear) -> Result<Self::Tensor>;
    /// Rotates queries and keys, appends keys and values to layer `layer` of the caches, and attends; `qkv` is
    /// `(rows, qkv_width)`, the result `(rows, heads * head_dim)`. Sequence i of the batch continues `caches[i]`, whose length
    /// counts the new rows only when every layer has them.
    fn attend(
        &self,
        qkv: Self::Tensor,
        heads: &Heads,
        rope: Option<&Self::Rope>,
        batch: &Batch,
        layer: usize,
        caches: &mut [&mut KvCache],
    ) -> Result<Self::Tensor>;
    /// The same without caches: each sequence attends to itself alone, and nothing is kept.
    fn attend_packed(&self, qkv: Self::Tensor, heads: &Heads, rope: Option<&Self::Rope>, batch: &Batch)
    -> Result<Self::Tensor>;
    /// `act(x)`.
    fn activate(&self, x: Self::Tensor, act: Activation) -> Result<Self::Tensor>;
    /// `act(gate) * up`, where a row of `x` is gate and up side by side.
    fn gated(&self, x: Self::Tensor, act: Activation) -> Result<Self::Tensor>;
    /// `x + y`.
    fn add(&self, x: Self::Tensor, y: Self::Tensor) -> Result<Self::Tensor>;
    /// `x * factor`.
    fn scale(&self, x: Self::Tensor, factor: f64) -> Result<Self::Tensor>;
    /// `cap * tanh(x / cap)`.
    fn cap(&self, x: Self::Tensor, cap: f64) -> Result<Self::Tensor>;
    /// Some of the rows.
    fn select(&self, x: &Self::Tensor, rows: &[usize]) -> Result<Self::Tensor>;
    /// Zeros, as many as `x` has numbers.
    fn zeros_like(&self, x: &Self::Tensor) -> Result<Self::Tensor>;
    /// Adds `weights[i]` times row `i` of `y` to row `rows[i]` of `x`; no row is named twice.
    fn add_rows(&self, x: Self::Tensor, y: Self::Tensor, rows: &[usize], weights: &[f32]) -> Result<Self::Tensor>;
    /// Copies to the host, row after row, replacing what `out` holds.
    fn read(&self, x: Self::Tensor, out: &mut Vec<f32>) -> Result<()>;
}

/// The error for a cache that was made for another model or device.
fn foreign_cache() -> Error {
    Error::Input("this cache belongs to another model or device; use model.session()".into())
}
