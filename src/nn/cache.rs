//! The key/value cache of one sequence: owned by a session, never by the model.
//!
//! On the host each KV head has its own rows, `(positions, head_dim)`, that grow in steps and are read where they lie: no
//! copy per token. On other devices a layer is a pair of tensors `(kv_heads, capacity, head_dim)` written in place. `len`
//! advances only when a whole forward has succeeded; what a failed one left behind is cut off by the next.

use crate::error::{Error, Result};
use crate::kernels::Rows;
use candle_core::Tensor;

/// Element type of a cache.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum CacheType {
    /// f32 for float weights, f16 for quantised ones.
    #[default]
    Auto,
    /// 4 bytes an element: exact.
    F32,
    /// 2 bytes an element.
    F16,
}

impl CacheType {
    /// Bytes of one element; `Auto` counts as f32.
    pub fn bytes(self) -> usize {
        match self {
            CacheType::Auto | CacheType::F32 => 4,
            CacheType::F16 => 2,
        }
    }
}

impl std::str::FromStr for CacheType {
    type Err = Error;
    fn from_str(name: &str) -> Result<Self> {
        match name {
            "auto" => Ok(CacheType::Auto),
            "f32" => Ok(CacheType::F32),
            "f16" => Ok(CacheType::F16),
            _ => Err(Error::unsupported(format!("cache type {name:?}"), "auto, f32, f16")),
        }
    }
}

/// The keys and values of every layer for one sequence.
#[derive(Clone)]
pub struct KvCache {
    pub(crate) layers: Vec<KvLayer>,
    len: usize,
    limit: usize,
}

/// The keys and values of one layer.
#[derive(Clone)]
pub enum KvLayer {
    /// One entry per KV head.
    Host {
        /// Keys, rotated.
        keys: Vec<Rows>,
        /// Values.
        values: Vec<Rows>,
    },
    /// Tensors `(kv_heads, capacity, head_dim)`; `None` until something is written.
    Device(Option<(Tensor, Tensor)>),
}

impl KvCache {
    /// An empty cache that holds at most `limit` positions.
    pub fn new(layers: Vec<KvLayer>, limit: usize) -> KvCache {
        KvCache { layers, len: 0, limit }
    }

    /// Positions held.
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether nothing is held.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Positions this cache may hold.
    pub fn limit(&self) -> usize {
        self.limit
    }

    /// Forgets everything after the first `len` positions; a longer `len` changes nothing.
    pub fn truncate(&mut self, len: usize) {
        self.len = self.len.min(len);
    }

    /// An independent copy.
    pub fn fork(&self) -> Result<KvCache> {
        let mut copy = self.clone();
        for layer in &mut copy.layers {
            // A clone of a candle tensor shares its storage, which appending writes to.
            if let KvLayer::Device(Some((keys, values))) = layer {
                (*keys, *values) = (keys.copy()?, values.copy()?);
            }
        }
        Ok(copy)
    }

    /// Checks that `tokens` more positions fit.
    pub(crate) fn reserve(&self, tokens: usize) -> Result<()> {
        let wanted = self.len + tokens;
        if wanted > self.limit { Err(Error::ContextOverflow { wanted, limit: self.limit }) } else { Ok(()) }
    }

    /// Counts `tokens` positions that every layer now holds.
    pub(crate) fn advance(&mut self, tokens: usize) {
        self.len += tokens;
    }
}
