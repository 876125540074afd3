//! The key/value cache of one sequence: owned by a session, never by the model.
//!
//! On the host each KV head has its own rows, `(positions, head_dim)`, that grow in pages and are read where they lie: no
//! copy per token. On other devices a layer is a pair of tensors `(kv_heads, capacity, head_dim)` written in place. `len`
//! advances only when a whole forward has succeeded; what a failed one left behind is cut off by the next.
//!
//! A clone shares memory with the original. What one of them writes to is copied first: on the host
//! the page of 64 positions, on other devices the tensors of the layer.
//!
//! A layer with a sliding window forgets what no later query can see, in steps of 256 positions, so its memory is that of the
//! window, one step and one chunk of a prompt, however long the text grows. The trap: such a cache can not always go back.
//! [`KvCache::truncate`] keeps nothing where a window layer has forgotten too much, and whoever owns the tokens reads them
//! again.

use super::{Heads, RopeSet};
use crate::cpu::KvRows;
use crate::error::{Error, Result};
use candle_core::Tensor;
use std::collections::HashSet;
use std::sync::Arc;

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
    /// One byte an element and a scale of two for each 32 of a head: GGML's Q8_0. On the CPU only.
    Q8_0,
}

/// The types and the words for them.
const NAMES: [(&str, CacheType); 4] =
    [("auto", CacheType::Auto), ("f32", CacheType::F32), ("f16", CacheType::F16), ("q8_0", CacheType::Q8_0)];

impl CacheType {
    /// Bytes of the keys, or the values, of one head at one position; `Auto` counts as f32.
    pub fn bytes(self, head_dim: usize) -> u64 {
        let dim = head_dim as u64;
        match self {
            CacheType::Auto | CacheType::F32 => dim.saturating_mul(4),
            CacheType::F16 => dim.saturating_mul(2),
            CacheType::Q8_0 => dim.saturating_add(2 * dim.div_ceil(KvRows::SCALED as u64)),
        }
    }
}

impl std::str::FromStr for CacheType {
    type Err = Error;
    fn from_str(name: &str) -> Result<Self> {
        let found = NAMES.iter().find(|row| row.0 == name);
        found.map(|row| row.1).ok_or_else(|| Error::unsupported(format!("cache type {name:?}"), "auto, f32, f16, q8_0"))
    }
}

impl std::fmt::Display for CacheType {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.pad(NAMES.iter().find(|row| row.1 == *self).map_or("", |row| row.0))
    }
}

/// Positions beyond its window that a layer may hold: a step, and a chunk of a prompt.
pub const WINDOW_SLACK: usize = 1024;

/// The keys and values of every layer for one sequence. A clone continues by itself, and takes
/// memory only for what it writes.
#[derive(Clone)]
pub struct KvCache {
    pub(crate) layers: Vec<KvLayer>,
    len: usize,
    limit: usize,
    rope: RopeSet,
}

/// The keys and values of one layer.
#[derive(Clone)]
pub struct KvLayer {
    window: Option<usize>,
    /// Position of the first row held.
    pub(super) start: usize,
    pub(super) held: KvStorage,
}

/// Where keys and values are.
#[derive(Clone)]
pub(super) enum KvStorage {
    /// One entry per KV head.
    Cpu {
        /// Keys, rotated.
        keys: Vec<KvRows>,
        /// Values.
        values: Vec<KvRows>,
    },
    /// Tensors `(kv_heads, capacity, head_dim)`; `None` until something is written. They are written
    /// in place, so only by a cache that is alone in holding them.
    Device(Option<Arc<(Tensor, Tensor)>>),
}

impl KvLayer {
    pub(super) fn new(window: Option<usize>, held: KvStorage) -> KvLayer {
        KvLayer { window, start: 0, held }
    }

    /// The first position that a query at `position`, or at any later one, sees.
    pub(super) fn needed(&self, position: usize) -> usize {
        self.window.map_or(0, |window| (position + 1).saturating_sub(window))
    }

    /// Forgets whole steps of rows that queries from `position` on do not see. Other devices do so when they grow.
    pub(super) fn forget_before(&mut self, position: usize) {
        let steps = self.needed(position).saturating_sub(self.start) / KvRows::STEP * KvRows::STEP;
        if let KvStorage::Cpu { keys, values } = &mut self.held
            && steps > 0
        {
            keys.iter_mut().chain(values).for_each(|rows| rows.drop_front(steps));
            self.start += steps;
        }
    }

    /// Keys and values of each KV head; none if they are on another device.
    pub(super) fn rows(&self) -> (&[KvRows], &[KvRows]) {
        match &self.held {
            KvStorage::Cpu { keys, values } => (keys, values),
            KvStorage::Device(_) => (&[], &[]),
        }
    }

    /// Whether these are keys and values of so many heads of that width; what holds nothing yet is of any.
    pub(crate) fn is_of(&self, heads: &Heads) -> bool {
        let fits = match &self.held {
            KvStorage::Cpu { keys, .. } => keys.len() == heads.kv_heads && keys.iter().all(|k| k.dim() == heads.head_dim),
            KvStorage::Device(None) => true,
            KvStorage::Device(Some(tensors)) => {
                matches!(*tensors.0.dims(), [n, _, dim] if (n, dim) == (heads.kv_heads, heads.head_dim))
            }
        };
        fits && self.window == heads.window
    }

    fn clear(&mut self) {
        self.start = 0;
        if let KvStorage::Cpu { keys, values } = &mut self.held {
            keys.iter_mut().chain(values).for_each(|rows| rows.truncate(0));
        }
    }

    /// Calls `part` with the address and the size in bytes of each piece of memory held.
    fn memory(&self, mut part: impl FnMut((usize, usize))) {
        match &self.held {
            KvStorage::Cpu { keys, values } => keys.iter().chain(values).flat_map(KvRows::memory).for_each(part),
            KvStorage::Device(None) => {}
            KvStorage::Device(Some(tensors)) => {
                let bytes = |x: &Tensor| x.elem_count() * x.dtype().size_in_bytes();
                part((Arc::as_ptr(tensors).addr(), bytes(&tensors.0) + bytes(&tensors.1)));
            }
        }
    }
}

impl KvCache {
    /// An empty cache that holds at most `limit` positions.
    pub fn new(layers: Vec<KvLayer>, limit: usize) -> KvCache {
        KvCache { layers, len: 0, limit, rope: RopeSet::Usual }
    }

    /// The same for a text that is rotated with `rope`.
    pub(crate) fn with_rope(self, rope: RopeSet) -> KvCache {
        KvCache { rope, ..self }
    }

    /// The frequencies that rotate the text.
    pub(super) fn rope(&self) -> RopeSet {
        self.rope
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

    /// Forgets everything after the first `len` positions, and says how many are held now: `len`, or all there were if that
    /// is less, or none, where a window layer no longer has what the next position sees. Going back to where the last
    /// forward began always works.
    pub fn truncate(&mut self, len: usize) -> usize {
        if len < self.len {
            self.len = len;
            if self.layers.iter().any(|layer| layer.start > layer.needed(len)) {
                self.len = 0;
                self.layers.iter_mut().for_each(KvLayer::clear);
            }
        }
        self.len
    }

    /// Bytes of memory held; other caches may hold the same. [`KvCache::bytes_of`] counts what is
    /// shared once.
    pub fn bytes(&self) -> usize {
        KvCache::bytes_of([self])
    }

    /// Bytes of memory that `caches` take together: what several of them share counts once.
    pub fn bytes_of<'a>(caches: impl IntoIterator<Item = &'a KvCache>) -> usize {
        let (mut seen, mut sum) = (HashSet::new(), 0);
        for layer in caches.into_iter().flat_map(|cache| &cache.layers) {
            layer.memory(|(address, bytes)| sum += if seen.insert(address) { bytes } else { 0 });
        }
        sum
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
