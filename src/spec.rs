//! The vocabulary of differences between families: what a transformer, decoder or encoder, needs to be told, and nothing else.
//!
//! Plain data. A family (`arch/`) fills a [`Spec`] once at load; afterwards nobody asks for the model's name.
//! A new setting is admitted when a paper names it and it costs one case here and at most three lines at one place of the
//! forward; what costs more implements `Forward` in a file of its own.

/// Everything that distinguishes one model of this kind from another.
#[derive(Debug, Clone, PartialEq)]
pub struct Spec {
    /// The family's name, for people to read: `llama`, `gemma3`, `gpt2`.
    pub family: &'static str,
    /// Width of the residual stream (`hidden_size`, `n_embd`).
    pub dim: usize,
    /// Number of blocks.
    pub layers: usize,
    /// Rows of the embedding table and of the output matrix; may exceed the tokenizer's vocabulary.
    pub vocab: usize,
    /// Positions the model was made for.
    pub context: usize,
    /// Rows of the table of token types, if there is one: its first row is added to every token's embedding (BERT).
    pub token_types: Option<usize>,
    /// Whether embeddings are normalised before the first block.
    pub embed_norm: bool,
    /// The normalisation used throughout.
    pub norm: Norm,
    /// Where a block normalises.
    pub wiring: Wiring,
    /// The attention sub-layer.
    pub attention: Attention,
    /// How positions enter.
    pub position: Position,
    /// The feed-forward sub-layer.
    pub mlp: Mlp,
    /// Constant factors along the way.
    pub scale: Scale,
    /// The way from the last hidden state to the logits.
    pub head: Head,
}

impl Spec {
    /// Whether this is an encoder, which reads whole texts, remembers nothing and has no logits.
    pub fn is_encoder(&self) -> bool {
        !self.attention.causal
    }
}

/// Normalisation of a hidden state.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Norm {
    /// `x / rms(x) * (offset + w)` (Zhang & Sennrich 2019).
    Rms {
        /// Added to the mean square.
        eps: f64,
        /// Added to the stored weights: 1 where they are stored around 0, as in Gemma's checkpoints.
        offset: f32,
    },
    /// `(x - mean) / sd * w + b` (Ba et al. 2016).
    Layer {
        /// Added to the variance.
        eps: f64,
    },
}

/// Where a block normalises its two sub-layers `f`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Wiring {
    /// `x + f(norm(x))` (Xiong et al. 2020).
    PreNorm,
    /// `x + norm(f(norm(x)))`: Gemma 2 and 3.
    Sandwich,
    /// `x + norm(f(x))`: OLMo 2.
    NormOutput,
    /// `norm(x + f(x))`, and none behind the last block (Vaswani et al. 2017; BERT).
    PostNorm,
}

/// Some of a model's layers, counted from 0.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Layers {
    /// Every layer.
    All,
    /// Those whose entry is true; one entry for each layer.
    Listed(Vec<bool>),
}

impl Layers {
    /// Whether `layer` is one of them.
    pub fn has(&self, layer: usize) -> bool {
        match self {
            Layers::All => true,
            Layers::Listed(listed) => listed.get(layer).copied().unwrap_or(false),
        }
    }
}

/// Multi-head attention with shared key/value heads (GQA, Ainslie et al. 2023).
#[derive(Debug, Clone, PartialEq)]
pub struct Attention {
    /// Query heads.
    pub heads: usize,
    /// Key and value heads; divides `heads`.
    pub kv_heads: usize,
    /// Width of one head; `heads * head_dim` may differ from `dim`.
    pub head_dim: usize,
    /// Whether a position sees only itself and earlier ones: a decoder. An encoder's see the whole text.
    pub causal: bool,
    /// Sliding window. `None`: nothing more is hidden in any layer.
    pub window: Option<Window>,
    /// Whether the query, key and value projections have biases.
    pub qkv_bias: bool,
    /// Whether the output projection has a bias.
    pub out_bias: bool,
    /// Whether queries and keys are normalised before they are rotated.
    pub qk_norm: QkNorm,
    /// What scores are multiplied by.
    pub scale: ScoreScale,
    /// Soft-cap: scores become `cap * tanh(score / cap)` (Bello et al. 2016; Gemma 2).
    pub cap: Option<f64>,
}

impl Attention {
    /// The window of `layer`, if it has one.
    pub fn window_of(&self, layer: usize) -> Option<usize> {
        self.window.as_ref().filter(|window| window.layers.has(layer)).map(|window| window.size)
    }
}

/// Sliding-window attention (Beltagy et al. 2020).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Window {
    /// Position i sees the positions from `i - size + 1` to `i`.
    pub size: usize,
    /// The layers that have it; the others see all positions up to `i`.
    pub layers: Layers,
}

/// Query/key normalisation (Henry et al. 2020), with the model's norm.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum QkNorm {
    /// None.
    None,
    /// Each head by itself, `head_dim` weights for queries and as many for keys: Qwen3, Gemma 3.
    Head,
    /// All heads of a position together: OLMo 2.
    Row,
}

/// The factor on attention scores.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum ScoreScale {
    /// `1 / sqrt(head_dim)`.
    HeadDim,
    /// No factor: GPT-2's `scale_attn_weights: false`.
    One,
    /// `1 / (sqrt(head_dim) * (layer + 1))`: GPT-2's `scale_attn_by_inverse_layer_idx` beside its usual scaling.
    HeadDimAndLayer,
    /// `1 / (layer + 1)`: the same with `scale_attn_weights: false`.
    Layer,
    /// A number of the model's own: Gemma's `query_pre_attn_scalar`, to the power of -1/2, Granite's `attention_multiplier`.
    Fixed(f64),
}

/// How positions enter the computation.
#[derive(Debug, Clone, PartialEq)]
pub enum Position {
    /// Rotary embeddings on queries and keys (Su et al. 2021): each layer has the first that lists it. A layer that none
    /// lists knows no positions (NoPE, Kazemnejad et al. 2023).
    Rope(Vec<Rope>),
    /// A learned vector per position, added to the token's embedding.
    Learned {
        /// Row of the table that belongs to position 0: RoBERTa keeps the first ones for padding.
        offset: usize,
    },
}

/// Rotary position embedding.
#[derive(Debug, Clone, PartialEq)]
pub struct Rope {
    /// Base of the frequencies.
    pub theta: f64,
    /// Leading dimensions of a head that are rotated; at most `head_dim`, even.
    pub dims: usize,
    /// Which dimensions form a pair.
    pub pairing: Pairing,
    /// How frequencies are stretched for longer contexts.
    pub scaling: RopeScaling,
    /// The layers that rotate so.
    pub layers: Layers,
}

/// Which two dimensions of a head are rotated together.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Pairing {
    /// `i` and `i + dims/2`: the Hugging Face layout.
    Halves,
    /// `2i` and `2i + 1`: the layout of the papers, and of Llama GGUF files, whose q and k rows are permuted to match.
    Interleaved,
}

/// Changes to the rotary frequencies.
#[derive(Debug, Clone, PartialEq)]
pub enum RopeScaling {
    /// As trained.
    None,
    /// Positions divided by `factor` (Chen et al. 2023).
    Linear {
        /// By how much the context is stretched.
        factor: f64,
    },
    /// YaRN (Peng et al. 2023): interpolates low frequencies, keeps high ones, and sharpens attention.
    Yarn {
        /// By how much the context is stretched.
        factor: f64,
        /// Context the model was trained for.
        original_context: usize,
        /// Rotations above which a frequency is kept.
        beta_fast: f64,
        /// Rotations below which a frequency is interpolated.
        beta_slow: f64,
        /// Factor on cos and sin.
        attention_factor: f64,
        /// Whether the ramp's ends are rounded to whole dimensions.
        truncate: bool,
    },
    /// Llama 3.1's smooth interpolation by wavelength.
    Llama3 {
        /// By how much low frequencies are divided.
        factor: f64,
        /// Wavelengths above `original_context / low_freq_factor` are divided by `factor`.
        low_freq_factor: f64,
        /// Wavelengths below `original_context / high_freq_factor` are kept.
        high_freq_factor: f64,
        /// Context the model was trained for.
        original_context: usize,
    },
    /// Each frequency divided by its own factor: GGUF's `rope_freqs.weight`, `dims / 2` values.
    Factors(Vec<f32>),
    /// LongRoPE (Ding et al. 2024): two such sets, one for texts within the original context, one for longer ones.
    Long {
        /// Factors up to the original context, `dims / 2` values.
        short: Vec<f32>,
        /// Factors beyond it.
        long: Vec<f32>,
        /// Context the model was trained for first.
        original_context: usize,
        /// Factor on cos and sin.
        attention_factor: f64,
    },
}

/// The feed-forward sub-layer.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Mlp {
    /// `down(act(gate(x)) * up(x))` (Shazeer 2020).
    Gated {
        /// Activation of the gate.
        act: Activation,
        /// Width between up and down.
        dim: usize,
        /// Whether the three projections have biases.
        bias: bool,
    },
    /// `down(act(up(x)))`.
    Plain {
        /// The activation.
        act: Activation,
        /// Width between up and down.
        dim: usize,
        /// Whether the two projections have biases.
        bias: bool,
    },
    /// A mixture of experts (Shazeer et al. 2017): the weighted sum of some gated feed-forwards, chosen for each token by
    /// the softmax of a router's scores.
    Experts {
        /// Activation of the gates.
        act: Activation,
        /// Width of one expert between up and down.
        dim: usize,
        /// Number of experts.
        count: usize,
        /// How many of them a token goes to.
        used: usize,
        /// Whether the weights of the chosen ones are scaled to sum up to 1.
        renormalise: bool,
    },
}

/// Element-wise activation functions, by their usual names.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Activation {
    /// `x * sigmoid(x)`.
    Silu,
    /// `x * Phi(x)` with the error function.
    Gelu,
    /// GELU's tanh approximation (`gelu_new`, `gelu_pytorch_tanh`).
    GeluTanh,
    /// `x * sigmoid(1.702 x)`.
    QuickGelu,
    /// `max(x, 0)`.
    Relu,
    /// `max(x, 0)^2`.
    Relu2,
    /// Hyperbolic tangent.
    Tanh,
    /// Logistic sigmoid.
    Sigmoid,
}

/// Constant factors along the way from tokens to logits.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Scale {
    /// On embeddings: the square root of `dim` in Gemma.
    pub embed: f64,
    /// On the output of each sub-layer before it joins the residual stream.
    pub residual: f64,
    /// On logits.
    pub logits: f64,
    /// Soft-cap on logits: `cap * tanh(logit / cap)`.
    pub cap: Option<f64>,
}

impl Scale {
    /// Nothing is scaled.
    pub const NONE: Scale = Scale { embed: 1.0, residual: 1.0, logits: 1.0, cap: None };
}

/// The output matrix.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Head {
    /// The embedding table itself.
    Tied,
    /// A matrix of its own.
    Own,
    /// None: an encoder's last hidden states are its result.
    None,
}
