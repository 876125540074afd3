//! What it takes to run a model: its weights, and the cache of each context.

use super::{ModelInfo, info};
use crate::backend::CacheType;
use crate::device;
use crate::error::{Error, Result};
use crate::quant::Dtype;
use crate::spec::Spec;

/// What it takes to run a model.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub struct Cost {
    /// The family, as its files call it.
    pub family: &'static str,
    /// `gguf` or `safetensors`.
    pub format: &'static str,
    /// The element type that most weights have.
    pub quantisation: Dtype,
    /// Number of parameters.
    pub parameters: u64,
    /// Bytes of the weights.
    pub weights: u64,
    /// Of these, bytes that must be held in memory; the others may stay in the pages of the mapped file.
    pub held: u64,
    /// Bytes of key/value cache for one position that all layers hold; [`Cost::beyond_window`] is of the others.
    pub cache_per_token: u64,
    /// Positions the model was made for.
    pub context: usize,
    /// Bytes of memory there are here, where the system tells.
    pub available: Option<u64>,
    /// What the cache of a context is reckoned from: layers with a window stop growing.
    spec: Spec,
    cache_type: CacheType,
}

/// The growth of a cache whose layers with a window hold all that they ever will.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct BeyondWindow {
    /// The length of a text from which it is so.
    pub tokens: usize,
    /// Bytes of cache for each further position.
    pub cache_per_token: u64,
}

impl Cost {
    pub(super) fn new(spec: &Spec, info: &ModelInfo) -> Cost {
        let held = info.tensors.iter().filter(|tensor| tensor.1.is_quantised());
        Cost {
            family: spec.family,
            format: info.format,
            quantisation: info.quantisation,
            parameters: info.parameters,
            weights: info.bytes,
            held: held.filter_map(|(_, dtype, shape)| dtype.bytes(shape.iter().product())).map(|bytes| bytes as u64).sum(),
            cache_per_token: info.cache_bytes_per_token,
            context: spec.context,
            available: device::available_memory(),
            spec: spec.clone(),
            cache_type: info.cache_type,
        }
    }

    /// Bytes of weights and cache with a context of so many positions.
    pub fn need(&self, context: usize) -> u64 {
        self.weights.saturating_add(self.cache(context))
    }

    /// What a long text's positions cost; `None` where no layer has a window, so that each costs the same.
    pub fn beyond_window(&self) -> Option<BeyondWindow> {
        let tokens = info::window_limit(&self.spec)?;
        let cache_per_token = self.cache(tokens.saturating_add(1)).saturating_sub(self.cache(tokens));
        Some(BeyondWindow { tokens, cache_per_token })
    }

    /// Whether [`Cost::need`] is available; `None` where the system does not tell.
    pub fn fits(&self, context: usize) -> Option<bool> {
        self.available.map(|have| self.need(context) <= have)
    }

    /// The contexts that are worth a row in a table: powers of two from 2048 on, and the model's own last.
    pub fn contexts(&self) -> Vec<usize> {
        let smaller = std::iter::successors(Some(2048usize), |context| context.checked_mul(2));
        smaller.take_while(|context| *context < self.context).chain([self.context]).collect()
    }

    /// Refuses what loading would refuse for want of memory: weights that are held, and the cache of a short context.
    ///
    /// # Errors
    /// [`Error::OutOfMemory`], naming `what`.
    pub fn check(&self, what: &str) -> Result<()> {
        let context = self.context.min(512);
        let need = self.held.saturating_add(self.cache(context));
        match self.available {
            Some(have) if need > have => {
                Err(Error::OutOfMemory { what: format!("{what} with a context of {context}"), need, have })
            }
            _ => Ok(()),
        }
    }

    /// The same with a cache of this type; [`CacheType::Auto`] leaves it as it is.
    pub fn with_cache(self, cache_type: CacheType) -> Cost {
        match cache_type {
            CacheType::Auto => self,
            chosen => Cost { cache_per_token: info::cache_bytes(&self.spec, chosen, 1), cache_type: chosen, ..self },
        }
    }

    fn cache(&self, context: usize) -> u64 {
        info::cache_bytes(&self.spec, self.cache_type, context)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Checkpoint;
    use std::path::Path;

    fn opened(case: &str) -> Cost {
        Checkpoint::open(Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden").join(case)).unwrap().cost()
    }

    #[test]
    fn need_grows_with_the_context_and_the_tables_rows_end_with_the_models_own() {
        let cost = opened("gguf-f16-bpe");
        let per_token = cost.cache_per_token;
        let have = 1000 + 4096 * per_token;
        let cost = Cost { weights: 1000, held: 900, context: 5000, available: Some(have), ..cost };
        assert_eq!(cost.contexts(), [2048, 4096, 5000]);
        assert_eq!([cost.need(4096), cost.need(5000)], [have, 1000 + 5000 * per_token]);
        assert_eq!([cost.fits(4096), cost.fits(5000)], [Some(true), Some(false)]);
        assert!(cost.check("m").is_ok());
        let (short, have) = (900 + 512 * per_token, 900 + 511 * per_token);
        let error = Cost { available: Some(have), ..cost.clone() }.check("m").unwrap_err();
        assert!(matches!(error, Error::OutOfMemory { need, have: told, .. } if (need, told) == (short, have)), "{error}");
        assert_eq!(Cost { context: 512, ..cost.clone() }.contexts(), [512]);
        assert_eq!(Cost { available: None, ..cost }.fits(1), None);
    }

    #[test]
    fn layers_with_a_window_stop_growing() {
        let cost = opened("mistral-window8");
        assert!(cost.need(1_000_000) == cost.need(500_000) && cost.need(8) > cost.need(4));
    }

    #[test]
    fn what_is_beyond_the_windows_costs_the_share_of_the_layers_without_one() {
        // Three of four layers have a window of 8 in Gemma 3, two in Gemma 2; in Mistral's all have one.
        for (case, whole, share) in [("gemma3-text", 1, 4), ("gemma2", 2, 4), ("mistral-window8", 0, 2)] {
            let cost = opened(case);
            let beyond = cost.beyond_window().unwrap();
            assert_eq!(beyond.cache_per_token * share, cost.cache_per_token * whole, "{case}");
            let at = beyond.tokens;
            assert_eq!(cost.need(at) - cost.need(at - 7), 7 * cost.cache_per_token, "{case}");
            assert_eq!(cost.need(at + 1000) - cost.need(at), 1000 * beyond.cache_per_token, "{case}");
        }
        assert_eq!(opened("mistral-no-window").beyond_window(), None);
    }
}
