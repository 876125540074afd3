//! The building blocks on slices: our own kernels, threads and buffers.
//!
//! Every step is a parallel loop over rows, heads or panels; the order of float operations for one output never depends on
//! how the loop was cut, so results are bit-identical for any number of threads, chunk size and batch. Buffers go back to a
//! free list when they are dropped: a token allocates nothing once the first has been read.

use super::cache::KvStorage;
use super::{
    Backend, Batch, CacheType, Frequencies, Heads, InputRow, KvCache, KvLayer, Projection, RowPosition, foreign_cache,
};
use crate::cpu::{self, AttentionJob, Kernels, KvRows, MatmulInput, Matrix, PackedAttention, Pool, Precision, SERIAL};
use crate::error::Result;
use crate::spec::{Activation, Norm, Pairing};
use crate::tensors::Stored;
use std::ops::{Deref, DerefMut};
use std::sync::{Arc, Mutex};

/// The host's processors as a device.
pub struct Cpu {
    kernels: &'static Kernels,
    pool: Pool,
    free: Arc<FreeList>,
}

/// Buffers that wait for their next use.
#[derive(Default)]
struct FreeList {
    buffers: Mutex<Vec<Vec<f32>>>,
    inputs: Mutex<Vec<MatmulInput>>,
}

/// Activations `(rows, width)` in memory that is used again after its drop.
pub struct CpuTensor {
    /// At least `len` numbers: what was written once is not cleared for the next use.
    memory: Vec<f32>,
    len: usize,
    width: usize,
    free: Arc<FreeList>,
}

impl Drop for CpuTensor {
    fn drop(&mut self) {
        if let Ok(mut buffers) = self.free.buffers.lock() {
            buffers.push(std::mem::take(&mut self.memory));
        }
    }
}

impl CpuTensor {
    fn rows(&self) -> usize {
        self.len / self.width
    }
}

impl Deref for CpuTensor {
    type Target = [f32];
    fn deref(&self) -> &[f32] {
        &self.memory[..self.len]
    }
}

impl DerefMut for CpuTensor {
    fn deref_mut(&mut self) -> &mut [f32] {
        &mut self.memory[..self.len]
    }
}

/// Projections that share their input.
pub struct CpuLinear {
    matrices: Vec<Matrix>,
    biases: Vec<Option<Vec<f32>>>,
}

/// A norm and its weights.
pub struct CpuNorm {
    norm: Norm,
    weight: Vec<f32>,
    bias: Vec<f32>,
}

impl CpuNorm {
    fn apply(&self, kernels: &Kernels, x: &[f32], out: &mut [f32]) {
        match self.norm {
            Norm::Rms { eps, .. } => kernels.rms_norm(x, &self.weight, eps as f32, out),
            Norm::Layer { eps } => kernels.layer_norm(x, &self.weight, &self.bias, eps as f32, out),
        }
    }
}

/// Cosines and sines, `(rows, pairs)`.
pub struct CpuRope {
    cos: CpuTensor,
    sin: CpuTensor,
    interleaved: bool,
}

impl CpuRope {
    /// Rotates the heads that lie side by side in `heads` for row `row` of the batch.
    fn rotate(&self, kernels: &Kernels, row: usize, heads: &mut [f32], head_dim: usize) {
        let at = row * self.cos.width..(row + 1) * self.cos.width;
        for head in heads.chunks_exact_mut(head_dim) {
            kernels.rope(head, &self.cos[at.clone()], &self.sin[at.clone()], self.interleaved);
        }
    }
}

impl std::fmt::Debug for Cpu {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Cpu").field("kernels", &self.kernels).field("pool", &self.pool).finish_non_exhaustive()
    }
}

impl Cpu {
    /// The host with `threads` threads.
    pub fn new(kernels: &'static Kernels, threads: usize) -> Cpu {
        Cpu { kernels, pool: Pool::new(threads), free: Arc::default() }
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
    fn buffer(&self, rows: usize, width: usize) -> CpuTensor {
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
        CpuTensor { memory, len, width, free: self.free.clone() }
    }

    /// Rotates the queries and keys of every row.
    fn rotate(&self, qkv: &mut CpuTensor, heads: &Heads, rope: Option<&CpuRope>) {
        let Some(rope) = rope else { return };
        let rotated = heads.q_width() + heads.kv_width();
        self.each_row(qkv, |row, x| rope.rotate(self.kernels, row, &mut x[..rotated], heads.head_dim));
    }

    /// Runs `body(row, out_row)` for every row of `out`.
    fn each_row(&self, out: &mut CpuTensor, body: impl Fn(usize, &mut [f32]) + Sync) {
        let width = out.width;
        if out.len < SERIAL {
            out.chunks_exact_mut(width).enumerate().for_each(|(row, out)| body(row, out));
            return;
        }
        self.pool.each_row(out, width, &body);
    }
}

impl Backend for Cpu {
    type Tensor = CpuTensor;
    type Linear = CpuLinear;
    type Norm = CpuNorm;
    type Rope = CpuRope;

    fn linear(&self, parts: Vec<Projection>) -> Result<CpuLinear> {
        let mut group = CpuLinear { matrices: Vec::new(), biases: Vec::new() };
        for Projection { weight, bias } in parts {
            let (rows, cols) = weight.matrix()?;
            group.matrices.push(Matrix::new(&self.pool, weight.dtype, rows, cols, &weight.data)?);
            group.biases.push(bias);
        }
        Ok(group)
    }

    fn table(&self, weight: Stored) -> Result<CpuLinear> {
        let (rows, cols) = weight.matrix()?;
        Ok(CpuLinear { matrices: vec![Matrix::table(weight.dtype, rows, cols, weight.data)?], biases: vec![None] })
    }

    fn norm_weights(&self, norm: Norm, weight: Vec<f32>, bias: Option<Vec<f32>>) -> Result<CpuNorm> {
        let bias = bias.unwrap_or_else(|| vec![0.0; weight.len()]);
        Ok(CpuNorm { norm, weight, bias })
    }

    fn cache_layer(&self, heads: &Heads, kind: CacheType) -> Result<KvLayer> {
        let precision = match kind {
            CacheType::Auto | CacheType::F32 => Precision::F32,
            CacheType::F16 => Precision::F16,
            CacheType::Q8_0 => Precision::Q8_0,
        };
        let keys = (0..heads.kv_heads).map(|_| KvRows::keys(heads.head_dim, precision)).collect();
        let values = (0..heads.kv_heads).map(|_| KvRows::values(heads.head_dim, precision)).collect();
        Ok(KvLayer::new(heads.window, KvStorage::Cpu { keys, values }))
    }

    fn rope(&self, frequencies: &Frequencies, positions: &[RowPosition]) -> Result<CpuRope> {
        let buffer = || self.buffer(positions.len(), frequencies.pairs());
        let (mut cos, mut sin) = (buffer(), buffer());
        frequencies.rows(positions, &mut cos, &mut sin);
        Ok(CpuRope { cos, sin, interleaved: frequencies.pairing == Pairing::Interleaved })
    }

    fn embed(&self, table: &CpuLinear, rows: &[u32]) -> Result<CpuTensor> {
        let table = &table.matrices[0];
        let mut out = self.buffer(rows.len(), table.cols());
        self.each_row(&mut out, |i, out| table.row(rows[i] as usize, out));
        Ok(out)
    }

    fn replace_rows(&self, mut x: CpuTensor, rows: &[(usize, InputRow)]) -> Result<CpuTensor> {
        let width = x.width;
        rows.iter().for_each(|(row, values)| x[row * width..][..width].copy_from_slice(values.values()));
        Ok(x)
    }

    fn norm(&self, x: &CpuTensor, norm: &CpuNorm) -> Result<CpuTensor> {
        let mut out = self.buffer(x.rows(), x.width);
        self.each_row(&mut out, |i, out| norm.apply(self.kernels, &x[i * x.width..][..x.width], out));
        Ok(out)
    }

    fn norm_heads(&self, mut qkv: CpuTensor, heads: &Heads, norms: &(CpuNorm, CpuNorm)) -> Result<CpuTensor> {
        let (q, k) = (heads.q_width(), heads.kv_width());
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

    fn project(&self, x: &CpuTensor, linear: &CpuLinear) -> Result<CpuTensor> {
        let mut input = {
            let mut inputs = self.free.inputs.lock().unwrap_or_else(|e| e.into_inner());
            inputs.pop().unwrap_or_default()
        };
        let CpuLinear { matrices, biases } = linear;
        let mut out = self.buffer(x.rows(), matrices.iter().map(Matrix::rows).sum());
        input.prepare(self.kernels, &self.pool, x, x.rows(), x.width, matrices);
        cpu::matmul(self.kernels, &self.pool, x, &input, matrices, biases, &mut out);
        self.free.inputs.lock().unwrap_or_else(|e| e.into_inner()).push(input);
        Ok(out)
    }

    fn attend(
        &self,
        mut qkv: CpuTensor,
        heads: &Heads,
        rope: Option<&CpuRope>,
        batch: &Batch,
        layer: usize,
        caches: &mut [&mut KvCache],
    ) -> Result<CpuTensor> {
        let (width, q_width) = (qkv.width, heads.q_width());
        self.rotate(&mut qkv, heads, rope);
        for cache in caches.iter_mut() {
            let first = cache.len();
            let layer = &mut cache.layers[layer];
            layer.forget_before(first);
            let KvStorage::Cpu { keys, values } = &mut layer.held else { return Err(foreign_cache()) };
            keys.iter_mut().chain(values).for_each(|held| held.truncate(first - layer.start));
        }
        let append = |i: usize, cache: &mut KvCache| {
            let KvStorage::Cpu { keys, values } = &mut cache.layers[layer].held else { return };
            let rows = batch.rows(i);
            let kv = qkv[rows.start * width..rows.end * width].get(q_width..).unwrap_or_default();
            cpu::append(self.kernels, &self.pool, keys, values, kv, width, rows.len());
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
                heads: *heads,
                first: cache.len(),
                keys,
                values,
                cache_start: layer.start,
            }
        };
        cpu::attention(self.kernels, &self.pool, caches.len(), &job, &mut out);
        Ok(out)
    }

    fn attend_packed(&self, mut qkv: CpuTensor, heads: &Heads, rope: Option<&CpuRope>, batch: &Batch) -> Result<CpuTensor> {
        self.rotate(&mut qkv, heads, rope);
        let sequences: Vec<_> = (0..batch.sequences()).map(|i| batch.rows(i)).collect();
        let mut out = self.buffer(qkv.rows(), heads.q_width());
        let job = PackedAttention { qkv: &qkv, sequences: &sequences, heads: *heads, out: &mut out };
        cpu::packed_attention(self.kernels, &self.pool, job);
        Ok(out)
    }

    fn activate(&self, mut x: CpuTensor, act: Activation) -> Result<CpuTensor> {
        self.each_row(&mut x, |_, x| self.kernels.activate(act, x));
        Ok(x)
    }

    fn gated(&self, x: CpuTensor, act: Activation) -> Result<CpuTensor> {
        let dim = x.width / 2;
        let mut out = self.buffer(x.rows(), dim);
        self.each_row(&mut out, |i, out| {
            let (gate, up) = x[i * 2 * dim..][..2 * dim].split_at(dim);
            self.kernels.gated(act, gate, up, out);
        });
        Ok(out)
    }

    fn add(&self, mut x: CpuTensor, y: CpuTensor) -> Result<CpuTensor> {
        let width = x.width;
        self.each_row(&mut x, |i, x| self.kernels.add(x, &y[i * width..][..width]));
        Ok(x)
    }

    fn scale(&self, mut x: CpuTensor, factor: f64) -> Result<CpuTensor> {
        self.each_row(&mut x, |_, x| x.iter_mut().for_each(|x| *x *= factor as f32));
        Ok(x)
    }

    fn cap(&self, mut x: CpuTensor, cap: f64) -> Result<CpuTensor> {
        self.each_row(&mut x, |_, x| self.kernels.cap(x, cap as f32));
        Ok(x)
    }

    fn select(&self, x: &CpuTensor, rows: &[usize]) -> Result<CpuTensor> {
        let mut out = self.buffer(rows.len(), x.width);
        self.each_row(&mut out, |i, out| out.copy_from_slice(&x[rows[i] * x.width..][..x.width]));
        Ok(out)
    }

    fn zeros_like(&self, x: &CpuTensor) -> Result<CpuTensor> {
        let mut out = self.buffer(x.rows(), x.width);
        out.fill(0.0);
        Ok(out)
    }

    fn add_rows(&self, mut x: CpuTensor, y: CpuTensor, rows: &[usize], weights: &[f32]) -> Result<CpuTensor> {
        let width = x.width;
        for ((row, weight), y) in rows.iter().zip(weights).zip(y.chunks_exact(width)) {
            x[row * width..][..width].iter_mut().zip(y).for_each(|(x, y)| *x += weight * y);
        }
        Ok(x)
    }

    fn read(&self, mut x: CpuTensor, out: &mut Vec<f32>) -> Result<()> {
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
        let host = Cpu::new(Kernels::get().unwrap(), 1);
        for rows in 1..200 {
            let (a, b) = (host.buffer(rows, 8), host.buffer(rows, 16));
            assert_eq!((a.rows(), b.len()), (rows, 16 * rows));
        }
        assert_eq!(host.free.buffers.lock().unwrap().len(), 2);
    }
}
