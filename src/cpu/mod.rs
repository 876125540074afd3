//! The CPU's inner loops: slices in, slices out.
//!
//! A [`Kernels`] is one instruction set's table of functions, chosen once by [`Kernels::get`]. Weights become a [`Matrix`], activations
//! a [`MatmulInput`], `matmul` multiplies them on a [`Pool`]; `attention` walks a cache of [`KvRows`]; what is done element by element
//! are methods of [`Kernels`].
//!
//! **The property that everything here keeps:** for one set of kernels, an output element has the same bits whatever the number of
//! threads, the number of rows beside it and the grouping of matrices. So each output of a product is one chain of float operations
//! over the columns in order, never cut between threads: for each group of columns `out = fma(min, scaled sum of activations, out)` where
//! there are mins, then `out = fma(sum, scale * activation scale, out)` with an exact sum of integers. Quantised products
//! have the same bits under every set, and so do products with float matrices; norms, softmax and activations differ between sets.
//!
//! `unsafe` lives here (and at one memory mapping). The traps: a `Kernels` proves that the CPU has its instructions, so its functions may be
//! called; sizes are checked where slices come in, and pointers do not leave this folder.

// Tiles run over several arrays by the same index; iterators over one of them say less. A table holds functions of many arguments.
#![allow(clippy::needless_range_loop, clippy::type_complexity)]

mod append;
mod attention;
mod buffer;
mod float;
mod heads;
mod input;
mod isa;
mod math;
mod matmul;
mod matrix;
mod panel;
mod parts;
mod peak;
mod pool;
mod prefetch;
mod rows;
#[cfg(test)]
mod tests;

pub use append::append;
pub use attention::{AttentionJob, PackedAttention, attention, packed_attention};
pub(crate) use buffer::{anonymous, trim_heap};
pub use heads::Heads;
pub use input::MatmulInput;
pub use matmul::matmul;
pub use matrix::Matrix;
pub use pool::{MOST_THREADS, Pool, SERIAL};
pub use rows::{KvRows, Precision};

use crate::spec::Activation;
use crate::{Error, Result};
use half::f16;
use std::sync::OnceLock;

/// One instruction set's functions. To hold a `&'static Kernels` is proof that the CPU has the instructions.
pub struct Kernels {
    name: &'static str,
    quantise: unsafe fn(&[f32], &mut [input::InputRecord], &mut [input::InputRecord]),
    panels: unsafe fn(&matmul::PanelTask),
    floats: unsafe fn(&float::FloatTask),
    to_f16: unsafe fn(&[f32], &mut [f16]),
    scores: unsafe fn(&mut attention::Scores),
    softmax: unsafe fn(&mut attention::Softmax),
    weigh: unsafe fn(&mut attention::Weigh),
    rms_norm: unsafe fn(&[f32], &[f32], f32, &mut [f32]),
    layer_norm: unsafe fn(&[f32], &[f32], &[f32], f32, &mut [f32]),
    add: unsafe fn(&mut [f32], &[f32]),
    rope: unsafe fn(&mut [f32], &[f32], &[f32], bool),
    activate: unsafe fn(Activation, &mut [f32]),
    gated: unsafe fn(Activation, &[f32], &[f32], &mut [f32]),
    peak: peak::Peak,
}

/// The environment variable that forces a set.
const VARIABLE: &str = "TALLOW_KERNELS";

impl Kernels {
    /// The best set for this CPU, or the one that the environment variable `TALLOW_KERNELS` names.
    ///
    /// # Errors
    /// [`Error::Unsupported`] if the variable names no set, or one that this CPU lacks.
    pub fn get() -> Result<&'static Kernels> {
        static CHOICE: OnceLock<std::result::Result<&'static Kernels, String>> = OnceLock::new();
        let choice = CHOICE.get_or_init(|| match std::env::var(VARIABLE) {
            Err(_) => Ok(Kernels::available()[0]),
            Ok(wanted) if wanted.is_empty() => Ok(Kernels::available()[0]),
            Ok(wanted) => Kernels::named(&wanted).ok_or(wanted),
        });
        choice.as_ref().copied().map_err(|wanted| {
            let names: Vec<_> = Kernels::available().iter().map(|kernels| kernels.name).collect();
            Error::unsupported(format!("{VARIABLE}={wanted}"), format!("on this CPU: {}", names.join(", ")))
        })
    }

    /// The set of this name, if there is one and the CPU has it.
    pub fn named(name: &str) -> Option<&'static Kernels> {
        Kernels::available().into_iter().find(|kernels| kernels.name == name)
    }

    /// The sets that this CPU can run, best first; the last is `scalar`.
    pub fn available() -> Vec<&'static Kernels> {
        [
            #[cfg(target_arch = "x86_64")]
            isa::avx512::available().then_some(&isa::avx512::KERNELS),
            #[cfg(target_arch = "x86_64")]
            isa::avx2::has_vnni().then_some(&isa::avx2::VNNI),
            #[cfg(target_arch = "x86_64")]
            isa::avx2::has_avx2().then_some(&isa::avx2::AVX2),
            #[cfg(target_arch = "aarch64")]
            isa::neon::has_dotprod().then_some(&isa::neon::DOTPROD),
            #[cfg(target_arch = "aarch64")]
            isa::neon::has_neon().then_some(&isa::neon::NEON),
            Some(&isa::scalar::KERNELS),
        ]
        .into_iter()
        .flatten()
        .collect()
    }

    /// `avx512`, `avxvnni`, `avx2`, `dotprod`, `neon` or `scalar`.
    pub fn name(&self) -> &'static str {
        self.name
    }

    /// Quantises rows of whole blocks; either output may be empty if it is not wanted.
    fn quantise(&self, x: &[f32], wide: &mut [input::InputRecord], narrow: &mut [input::InputRecord]) {
        let blocks = x.len() / panel::BLOCK;
        assert!(x.len().is_multiple_of(panel::BLOCK));
        assert!(wide.is_empty() || wide.len() == blocks);
        assert!(narrow.is_empty() || narrow.len() == blocks);
        // SAFETY: the CPU has the instructions, and the lengths fit.
        unsafe { (self.quantise)(x, wide, narrow) }
    }

    /// Rounds to half precision, to nearest, ties to even.
    fn to_f16(&self, x: &[f32], out: &mut [f16]) {
        assert_eq!(x.len(), out.len());
        // SAFETY: the CPU has the instructions, and the lengths are equal.
        unsafe { (self.to_f16)(x, out) }
    }

    /// `out = x / sqrt(mean(x²) + eps) * w`; all (dim).
    ///
    /// # Panics
    /// If the lengths differ.
    pub fn rms_norm(&self, x: &[f32], w: &[f32], eps: f32, out: &mut [f32]) {
        assert!(x.len() == w.len() && x.len() == out.len());
        // SAFETY: the CPU has the instructions, and the lengths are equal.
        unsafe { (self.rms_norm)(x, w, eps, out) }
    }

    /// `out = (x - mean(x)) / sqrt(var(x) + eps) * w + b`; all (dim).
    ///
    /// # Panics
    /// If the lengths differ.
    pub fn layer_norm(&self, x: &[f32], w: &[f32], b: &[f32], eps: f32, out: &mut [f32]) {
        assert!(x.len() == w.len() && x.len() == b.len() && x.len() == out.len());
        // SAFETY: the CPU has the instructions, and the lengths are equal.
        unsafe { (self.layer_norm)(x, w, b, eps, out) }
    }

    /// `x += y`.
    ///
    /// # Panics
    /// If the lengths differ.
    pub fn add(&self, x: &mut [f32], y: &[f32]) {
        assert_eq!(x.len(), y.len());
        // SAFETY: the CPU has the instructions, and the lengths are equal.
        unsafe { (self.add)(x, y) }
    }

    /// Rotates the first `2 n` dimensions of a head by `n` angles: dimensions `i` and `i + n`, or `2i` and `2i + 1` if `interleaved`.
    ///
    /// # Panics
    /// If `cos` and `sin` differ in length, or `head` is shorter than `2 n`.
    pub fn rope(&self, head: &mut [f32], cos: &[f32], sin: &[f32], interleaved: bool) {
        assert!(cos.len() == sin.len() && head.len() >= 2 * cos.len());
        // SAFETY: the CPU has the instructions, and the lengths fit.
        unsafe { (self.rope)(head, cos, sin, interleaved) }
    }

    /// Applies an activation function to every element.
    pub fn activate(&self, act: Activation, x: &mut [f32]) {
        // SAFETY: the CPU has the instructions.
        unsafe { (self.activate)(act, x) }
    }

    /// `x = cap * tanh(x / cap)`: a soft-cap.
    pub fn cap(&self, x: &mut [f32], cap: f32) {
        x.iter_mut().for_each(|x| *x /= cap);
        self.activate(Activation::Tanh, x);
        x.iter_mut().for_each(|x| *x *= cap);
    }

    /// `out = act(gate) * up`.
    ///
    /// # Panics
    /// If the lengths differ.
    pub fn gated(&self, act: Activation, gate: &[f32], up: &[f32], out: &mut [f32]) {
        assert!(gate.len() == up.len() && gate.len() == out.len());
        // SAFETY: the CPU has the instructions, and the lengths are equal.
        unsafe { (self.gated)(act, gate, up, out) }
    }
}

impl std::fmt::Debug for Kernels {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Kernels({})", self.name)
    }
}
