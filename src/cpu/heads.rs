//! What one layer's attention is: stated here once, for the kernels and for every device.

use crate::spec::{Attention, ScoreScale};

/// The attention of one layer, with every choice resolved.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Heads {
    /// Query heads; head `h` reads KV head `h / (heads / kv_heads)`.
    pub heads: usize,
    /// Key and value heads; divides `heads`.
    pub kv_heads: usize,
    /// Numbers in a head.
    pub head_dim: usize,
    /// What scores are multiplied by.
    pub scale: f32,
    /// If given, scores become `cap * tanh(score / cap)`.
    pub cap: Option<f32>,
    /// Whether a query sees only positions up to its own.
    pub causal: bool,
    /// If given, the query at `i` sees only positions from `i - window + 1` on.
    pub window: Option<usize>,
}

impl Heads {
    /// What `attention` means in layer `layer`.
    pub fn new(attention: &Attention, layer: usize) -> Heads {
        let root = (attention.head_dim as f64).sqrt();
        let scale = match attention.scale {
            ScoreScale::HeadDim => 1.0 / root,
            ScoreScale::One => 1.0,
            ScoreScale::HeadDimAndLayer => 1.0 / (root * (layer + 1) as f64),
            ScoreScale::Layer => 1.0 / (layer + 1) as f64,
            ScoreScale::Fixed(scale) => scale,
        };
        Heads {
            heads: attention.heads,
            kv_heads: attention.kv_heads,
            head_dim: attention.head_dim,
            scale: scale as f32,
            cap: attention.cap.map(|cap| cap as f32),
            causal: attention.causal,
            window: attention.window_of(layer),
        }
    }

    /// Query heads for each KV head.
    pub fn group(&self) -> usize {
        self.heads / self.kv_heads
    }

    /// Numbers in a row of queries, or of results.
    pub fn q_width(&self) -> usize {
        self.heads * self.head_dim
    }

    /// Numbers in a row of keys, or of values.
    pub fn kv_width(&self) -> usize {
        self.kv_heads * self.head_dim
    }

    /// Outputs of the grouped projection: queries, keys and values side by side.
    pub fn qkv_width(&self) -> usize {
        self.q_width() + 2 * self.kv_width()
    }

    /// # Panics
    /// If the numbers of heads do not fit each other, or a head has no numbers.
    pub(super) fn check(&self) {
        let Heads { heads, kv_heads, head_dim, .. } = *self;
        assert!(kv_heads > 0 && heads.is_multiple_of(kv_heads), "{heads} heads for {kv_heads} KV heads");
        assert!(head_dim > 0, "heads of no dimensions");
    }
}
