//! The building blocks on slices: our own kernels, threads and buffers.
//!
//! Every step is a parallel loop over rows, heads or panels; the order of float operations for one output never depends on
//! how the loop was cut, so results are bit-identical for any number of threads, chunk size and batch. Buffers go back to a
//! free list when they are dropped: a token allocates nothing once the first has been read.

use super::cache::Held;
use super::{Batch, CacheType, Compute, Frequencies, Heads, InputRow, KvCache, KvLayer, Place, Projection, foreign_cache};
use crate::error::Result;
use crate::kernels::{self, AttentionJob, Input, Kernels, Matrix, PackedAttention, Pool, Precision, Rows, SERIAL};
use crate::spec::{Activation, Norm, Pairing};
use crate::weights::Stored;
use std::ops::{Deref, DerefMut};
use std::sync::{Arc, Mutex};

/// The host's processors as a device.
pub struct Host {
    kernels: &'static Kernels,
    pool: Pool,
    free: Arc<FreeList>,
}

/// Buffers that wait for their next use.
#[derive(Default)]
struct FreeList {
    buffers: Mutex<Vec<Vec<f32>>>,
    inputs: Mutex<Vec<Input>>,
}

/// Activations `(rows, width)` in memory that is used again after its drop.
pub struct Buffer {
    /// At least `len` numbers: what was written once is not cleared for the next use.
    memory: Vec<f32>,
    len: usize,
    width: usize,
    free: Arc<FreeList>,
}

impl Drop for Buffer {
    fn drop(&mut self) {
        if let Ok(mut buffers) = self.free.buffers.lock() {
            buffers.push(std::mem::take(&mut self.memory));
        }
    }
}

impl Buffer {
    fn rows(&self) -> usize {
        self.len / self.width
    }
}

impl Deref for Buffer {
    type Target = [f32];
    fn deref(&self) -> &[f32] {
        &self.memory[..self.len]
    }
}

impl DerefMut for Buffer {
    fn deref_mut(&mut self) -> &mut [f32] {
        &mut self.memory[..self.len]
    }
}

/// Projections that share their input.
pub struct Group {
    matrices: Vec<Matrix>,
    biases: Vec<Option<Vec<f32>>>,
}

/// A norm and its weights.
pub struct NormWeights {
    norm: Norm,
    weight: Vec<f32>,
    bias: Vec<f32>,
}

impl NormWeights {
    fn apply(&self, kernels: &Kernels, x: &[f32], out: &mut [f32]) {
        match self.norm {
            Norm::Rms { eps, .. } => kernels.rms_norm(x, &self.weight, eps as f32, out),
            Norm::Layer { eps } => kernels.layer_norm(x, &self.weight, &self.bias, eps as f32, out),
        }
    }
}

/// Cosines and sines, `(rows, pairs)`.
pub struct RopeRows {
    cos: Buffer,
    sin: Buffer,
    interleaved: bool,
}

impl RopeRows {
    /// Rotates the heads that lie side by side in `heads` for row `row` of the batch.
    fn rotate(&self, kernels: &Kernels, row: usize, heads: &mut [f32], head_dim: usize) {
        let at = row * self.cos.width..(row + 1) * self.cos.width;
        for head in heads.chunks_exact_mut(head_dim) {
            kernels.rope(head, &self.cos[at.clone()], &self.sin[at.clone()], self.interleaved);
        }
    }
}

impl Host {
    /// The host with `threads` threads.
    pub fn new(kernels: &'static Kernels, threads: usize) -> Host {
        Host { kernels, pool: Pool::new(threads), free: Arc::default() }
    }

    /// The kernel set in use.
    pub fn kernels(&self) -> &'static Kernels {
        self.kernels
    }

    /// The threads in use.
    pub fn threads(&self) -> usize {
        self.pool.threads()
    }

    /// A buffer with unspecified contents.
    fn buffer(&self, rows: usize, width: usize) -> Buffer {
        let len = rows * width;
        let mut free = self.free.buffers.lock().unwrap_or_else(|e| e.into_inner());
        // The smallest that is large enough, so that the output matrix's buffer is not lent to a norm.
        let best = (0..free.len()).filter(|i| free[*i].len() >= len).min_by_key(|i| free[*i].len());
        // Else the largest grows: there are never more buffers than were in use at once.
        let best = best.or_else(|| (0..free.len()).max_by_key(|i| free[*i].len()));
        let mut memory = best.map(|i| free.swap_remove(i)).unwrap_or_default();
        drop(free);
        if memory.len() < len {
            drop(memory);
            memory = vec![0.0; len];
        }
        Buffer { memory, len, width, free: self.free.clone() }
    }

    /// Rotates the queries and keys of every row.
    fn rotate(&self, qkv: &mut Buffer, heads: &Heads, rope: Option<&RopeRows>) {
        let Some(rope) = rope else { return };
        let rotated = (heads.heads + heads.kv_heads) * heads.head_dim;
        self.each_row(qkv, |row, x| rope.rotate(self.kernels, row, &mut x[..rotated], heads.head_dim));
    }

    /// Runs `body(row, out_row)` for every row of `out`.
    fn each_row(&self, out: &mut Buffer, body: impl Fn(usize, &mut [f32]) + Sync) {
        let width = out.width;
        if out.len < SERIAL {
            out.chunks_exact_mut(width).enumerate().for_each(|(row, out)| body(row, out));
            return;
        }
        self.pool.each_row(out, width, &body);
    }
}

impl Compute for Host {
    type Tensor = Buffer;
    type Linear = Group;
    type Norm = NormWeights;
    type Rope = RopeRows;

    fn linear(&self, parts: Vec<Projection>) -> Result<Group> {
        let mut group = Group { matrices: Vec::new(), biases: Vec::new() };
        for Projection { weight, bias } in parts {
            let (rows, cols) = weight.matrix()?;
            group.matrices.push(Matrix::new(self.kernels, &self.pool, weight.dtype, rows, cols, &weight.data)?);
            group.biases.push(bias);
        }
        Ok(group)
    }

    fn table(&self, weight: Stored) -> Result<Group> {
        let (rows, cols) = weight.matrix()?;
        Ok(Group { matrices: vec![Matrix::table(weight.dtype, rows, cols, weight.data)?], biases: vec![None] })
    }

    fn norm_weights(&self, norm: Norm, weight: Vec<f32>, bias: Option<Vec<f32>>) -> Result<NormWeights> {
        let bias = bias.unwrap_or_else(|| vec![0.0; weight.len()]);
        Ok(NormWeights { norm, weight, bias })
    }

    fn cache_layer(&self, heads: &Heads, kind: CacheType) -> Result<KvLayer> {
        let precision = match kind {
            CacheType::Auto | CacheType::F32 => Precision::F32,
            CacheType::F16 => Precision::F16,
            CacheType::Q8_0 => Precision::Q8_0,
        };
        let keys = (0..heads.kv_heads).map(|_| Rows::keys(heads.head_dim, precision)).collect();
        let values = (0..heads.kv_heads).map(|_| Rows::values(heads.head_dim, precision)).collect();
        Ok(KvLayer::new(heads.window, Held::Host { keys, values }))
    }

    fn rope(&self, frequencies: &Frequencies, places: &[Place]) -> Result<RopeRows> {
        let buffer = || self.buffer(places.len(), frequencies.pairs());
        let (mut cos, mut sin) = (buffer(), buffer());
        frequencies.rows(places, &mut cos, &mut sin);
        Ok(RopeRows { cos, sin, interleaved: frequencies.pairing == Pairing::Interleaved })
    }

    fn embed(&self, table: &Group, rows: &[u32]) -> Result<Buffer> {
        let table = &table.matrices[0];
        let mut out = self.buffer(rows.len(), table.cols());
        self.each_row(&mut out, |i, out| table.row(rows[i] as usize, out));
        Ok(out)
    }

    fn replace_rows(&self, mut x: Buffer, rows: &[(usize, InputRow)]) -> Result<Buffer> {
        let width = x.width;
        rows.iter().for_each(|(row, values)| x[row * width..][..width].copy_from_slice(values.values()));
        Ok(x)
    }

    fn norm(&self, x: &Buffer, norm: &NormWeights) -> Result<Buffer> {
        let mut out = self.buffer(x.rows(), x.width);
        self.each_row(&mut out, |i, out| norm.apply(self.kernels, &x[i * x.width..][..x.width], out));
        Ok(out)
    }

    fn norm_heads(&self, mut qkv: Buffer, heads: &Heads, norms: &(NormWeights, NormWeights)) -> Result<Buffer> {
        let (q, k) = (heads.heads * heads.head_dim, heads.kv_heads * heads.head_dim);
        let mut copy = self.buffer(qkv.rows(), q + k);
        self.each_row(&mut copy, |i, copy| copy.copy_from_slice(&qkv[i * qkv.width..][..q + k]));
        self.each_row(&mut qkv, |i, x| {
            let copy = &copy[i * (q + k)..][..q + k];
            for (norm, part) in [(&norms.0, 0..q), (&norms.1, q..q + k)] {
                let width = norm.weight.len();
                let inputs = copy[part.clone()].chunks_exact(width);
                inputs.zip(x[part].chunks_exact_mut(width)).for_each(|(x, out)| norm.apply(self.kernels, x, out));
            }
        });
        Ok(qkv)
    }

    fn project(&self, x: &Buffer, linear: &Group) -> Result<Buffer> {
        let mut input = {
            let mut inputs = self.free.inputs.lock().unwrap_or_else(|e| e.into_inner());
            inputs.pop().unwrap_or_default()
        };
        let Group { matrices, biases } = linear;
        let mut out = self.buffer(x.rows(), matrices.iter().map(Matrix::rows).sum());
        input.prepare(self.kernels, &self.pool, x, x.rows(), x.width, matrices);
        kernels::matmul(self.kernels, &self.pool, x, &input, matrices, biases, &mut out);
        self.free.inputs.lock().unwrap_or_else(|e| e.into_inner()).push(input);
        Ok(out)
    }

    fn attend(
        &self,
        mut qkv: Buffer,
        heads: &Heads,
        rope: Option<&RopeRows>,
        batch: &Batch,
        layer: usize,
        caches: &mut [&mut KvCache],
    ) -> Result<Buffer> {
        let Heads { heads: query_heads, kv_heads, head_dim, scale, cap, causal, window } = *heads;
        let (width, q_width) = (qkv.width, query_heads * head_dim);
        self.rotate(&mut qkv, heads, rope);
        for cache in caches.iter_mut() {
            let first = cache.len();
            let layer = &mut cache.layers[layer];
            layer.forget_before(first);
            let Held::Host { keys, values } = &mut layer.held else { return Err(foreign_cache()) };
            keys.iter_mut().chain(values).for_each(|held| held.truncate(first - layer.start));
        }
        let append = |i: usize, cache: &mut KvCache| {
            let Held::Host { keys, values } = &mut cache.layers[layer].held else { return };
            let rows = batch.rows(i);
            let kv = qkv[rows.start * width..rows.end * width].get(q_width..).unwrap_or_default();
            kernels::append(self.kernels, &self.pool, keys, values, kv, width, rows.len());
        };
        // A token each: the sequences are shared among the threads. Else the parts of each sequence are, by `append`.
        if qkv.rows() == caches.len() {
            self.pool.each_row(caches, 1, &|i, cache| append(i, cache[0]));
        } else {
            caches.iter_mut().enumerate().for_each(|(i, cache)| append(i, cache));
        }
        let mut out = self.buffer(qkv.rows(), q_width);
        let job = |i: usize| {
            let (cache, rows) = (&caches[i], batch.rows(i));
            let layer = &cache.layers[layer];
            let (keys, values) = layer.rows();
            AttentionJob {
                q: &qkv[rows.start * width..rows.end * width],
                q_stride: width,
                rows: rows.len(),
                heads: query_heads,
                kv_heads,
                head_dim,
                scale,
                cap,
                first: cache.len(),
                causal,
                window,
                keys,
                values,
                cache_start: layer.start,
            }
        };
        kernels::attention(self.kernels, &self.pool, caches.len(), &job, &mut out);
        Ok(out)
    }

    fn attend_packed(&self, mut qkv: Buffer, heads: &Heads, rope: Option<&RopeRows>, batch: &Batch) -> Result<Buffer> {
        let Heads { heads: query_heads, kv_heads, head_dim, scale, cap, causal, window } = *heads;
        self.rotate(&mut qkv, heads, rope);
        let sequences: Vec<_> = (0..batch.sequences()).map(|i| batch.rows(i)).collect();
        let mut out = self.buffer(qkv.rows(), query_heads * head_dim);
        let (qkv, sequences, out_rows) = (&*qkv, &sequences, &mut *out);
        let heads = query_heads;
        let job = PackedAttention { qkv, sequences, heads, kv_heads, head_dim, scale, cap, causal, window, out: out_rows };
        kernels::packed_attention(self.kernels, &self.pool, job);
        Ok(out)
    }

    fn activate(&self, mut x: Buffer, act: Activation) -> Result<Buffer> {
        self.each_row(&mut x, |_, x| self.kernels.activate(act, x));
        Ok(x)
    }

    fn gated(&self, x: Buffer, act: Activation) -> Result<Buffer> {
        let dim = x.width / 2;
        let mut out = self.buffer(x.rows(), dim);
        self.each_row(&mut out, |i, out| {
            let (gate, up) = x[i * 2 * dim..][..2 * dim].split_at(dim);
            self.kernels.gated(act, gate, up, out);
        });
        Ok(out)
    }

    fn add(&self, mut x: Buffer, y: Buffer) -> Result<Buffer> {
        let width = x.width;
        self.each_row(&mut x, |i, x| self.kernels.add(x, &y[i * width..][..width]));
        Ok(x)
    }

    fn scale(&self, mut x: Buffer, factor: f64) -> Result<Buffer> {
        self.each_row(&mut x, |_, x| x.iter_mut().for_each(|x| *x *= factor as f32));
        Ok(x)
    }

    fn cap(&self, mut x: Buffer, cap: f64) -> Result<Buffer> {
        self.each_row(&mut x, |_, x| self.kernels.cap(x, cap as f32));
        Ok(x)
    }

    fn select(&self, x: &Buffer, rows: &[usize]) -> Result<Buffer> {
        let mut out = self.buffer(rows.len(), x.width);
        self.each_row(&mut out, |i, out| out.copy_from_slice(&x[rows[i] * x.width..][..x.width]));
        Ok(out)
    }

    fn zeros_like(&self, x: &Buffer) -> Result<Buffer> {
        let mut out = self.buffer(x.rows(), x.width);
        out.fill(0.0);
        Ok(out)
    }

    fn add_rows(&self, mut x: Buffer, y: Buffer, rows: &[usize], weights: &[f32]) -> Result<Buffer> {
        let width = x.width;
        for ((row, weight), y) in rows.iter().zip(weights).zip(y.chunks_exact(width)) {
            x[row * width..][..width].iter_mut().zip(y).for_each(|(x, y)| *x += weight * y);
        }
        Ok(x)
    }

    fn read(&self, mut x: Buffer, out: &mut Vec<f32>) -> Result<()> {
        if out.len() == x.memory.len() {
            // The memory changes hands: logits of a batch are some megabytes.
            std::mem::swap(&mut x.memory, out);
            out.truncate(x.len);
        } else {
            out.clear();
            out.extend_from_slice(&x);
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn buffers_are_used_again_and_never_more_than_were_in_use_at_once() {
        let host = Host::new(Kernels::get().unwrap(), 1);
        for rows in 1..200 {
            let (a, b) = (host.buffer(rows, 8), host.buffer(rows, 16));
            assert_eq!((a.rows(), b.len()), (rows, 16 * rows));
        }
        assert_eq!(host.free.buffers.lock().unwrap().len(), 2);
    }
}
