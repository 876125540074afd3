//! The building blocks in candle's ops: what CUDA and Metal run, and, on the CPU, the reference that the host path is
//! compared with.
//!
//! Quantised matrices stay quantised on a GPU (`QMatMul`). On the CPU they are widened to f32, so that the reference has
//! float activations and no rounding of its own.

use super::cache::KvStorage;
use super::{
    Backend, Batch, CacheType, Frequencies, Heads, InputRow, KvCache, KvLayer, Projection, RowPosition, foreign_cache,
};
use crate::error::{Error, Result};
use crate::quant::Dtype;
use crate::spec::{Activation, Norm, Pairing};
use crate::tensors::Stored;
use candle_core::quantized::{GgmlDType, QMatMul, QStorage, QTensor};
use candle_core::{D, DType, Device, Module, Tensor};
use std::borrow::Cow;
use std::ops::Range;
use std::sync::Arc;

/// A candle device with the type that activations are computed in.
#[derive(Debug)]
pub struct Candle {
    device: Device,
    dtype: DType,
}

/// Projections that share their input.
pub struct CandleLinear {
    parts: Vec<(Weight, Option<Tensor>)>,
}

enum Weight {
    /// `(outputs, inputs)` in the computing type.
    Dense(Tensor),
    /// Quantised on the device; the stored rows stay at hand for look-ups.
    Quantised(QMatMul, Stored),
}

/// A norm and its weights.
pub struct CandleNorm {
    norm: Norm,
    weight: Tensor,
    bias: Tensor,
}

/// Cosines and sines, `(rows, pairs)`.
pub struct CandleRope {
    cos: Tensor,
    sin: Tensor,
    pairing: Pairing,
}

/// Positions by which a cache grows.
const STEP: usize = 256;

impl Candle {
    /// Computes in f32 on `device`.
    pub fn new(device: Device) -> Candle {
        Candle { device, dtype: DType::F32 }
    }

    fn vector(&self, values: Vec<f32>) -> Result<Tensor> {
        let len = values.len();
        Ok(Tensor::from_vec(values, len, &self.device)?.to_dtype(self.dtype)?)
    }

    fn indices(&self, rows: &[usize]) -> Result<Tensor> {
        let rows: Vec<u32> = rows.iter().map(|row| *row as u32).collect();
        Ok(Tensor::new(rows, &self.device)?)
    }

    fn weight(&self, stored: Stored) -> Result<Weight> {
        let shape = stored.matrix()?;
        match ggml_type(stored.dtype).filter(|_| !self.device.is_cpu()) {
            Some(dtype) => {
                // candle casts the bytes to its block types: an owned copy is aligned for them, a mapped file need not be.
                let storage = QStorage::from_data(Cow::Owned(stored.data.to_vec()), &self.device, dtype)?;
                Ok(Weight::Quantised(QMatMul::from_qtensor(QTensor::new(storage, shape)?)?, stored))
            }
            None => {
                let tensor = Tensor::from_vec(stored.to_f32(), shape, &Device::Cpu)?;
                Ok(Weight::Dense(tensor.to_dtype(self.dtype)?.to_device(&self.device)?))
            }
        }
    }

    /// Rotates heads `(rows, heads, head_dim)`; only the leading dimensions turn if the table is narrower than a head.
    fn rotate(&self, x: &Tensor, rope: &CandleRope) -> Result<Tensor> {
        let (dims, head_dim) = (2 * rope.cos.dim(1)?, x.dim(2)?);
        let turned = x.narrow(2, 0, dims)?.transpose(0, 1)?.unsqueeze(0)?.contiguous()?;
        let turned = match rope.pairing {
            Pairing::Halves => candle_nn::rotary_emb::rope(&turned, &rope.cos, &rope.sin)?,
            Pairing::Interleaved => candle_nn::rotary_emb::rope_i(&turned, &rope.cos, &rope.sin)?,
        };
        let turned = turned.squeeze(0)?.transpose(0, 1)?;
        if dims == head_dim {
            return Ok(turned.contiguous()?);
        }
        Ok(Tensor::cat(&[&turned, &x.narrow(2, dims, head_dim - dims)?], 2)?)
    }

    /// Queries, keys and values of all rows, (rows, heads, head_dim), rotated.
    fn split(&self, qkv: &Tensor, heads: &Heads, rope: Option<&CandleRope>) -> Result<[Tensor; 3]> {
        let Heads { heads: query_heads, kv_heads, head_dim, .. } = *heads;
        let rows = qkv.dim(0)?;
        let part = |at: usize, n: usize| qkv.narrow(1, at * head_dim, n * head_dim)?.reshape((rows, n, head_dim));
        let (mut q, mut k) = (part(0, query_heads)?, part(query_heads, kv_heads)?);
        if let Some(rope) = rope {
            (q, k) = (self.rotate(&q, rope)?, self.rotate(&k, rope)?);
        }
        Ok([q, k, part(query_heads + kv_heads, kv_heads)?])
    }

    /// Attention of one sequence's queries `(heads, rows, head_dim)` to keys and values `(kv_heads, len, head_dim)`. `places` are the
    /// positions of the queries, and that of the first key.
    fn attention(
        &self,
        q: &Tensor,
        keys: &Tensor,
        values: &Tensor,
        heads: &Heads,
        places: (Range<usize>, usize),
    ) -> Result<Tensor> {
        let Heads { heads: query_heads, kv_heads, head_dim, scale, cap, .. } = *heads;
        let (rows, len) = (places.0.len(), keys.dim(1)?);
        // Query heads of one group lie below each other, so that each KV head is read once.
        let lines = query_heads / kv_heads * rows;
        let q = q.reshape((kv_heads, lines, head_dim))?;
        let scores = (q.matmul(&keys.transpose(1, 2)?.contiguous()?)? * f64::from(scale))?;
        let scores = cap.map_or(Ok(scores.clone()), |cap| self.cap(scores, f64::from(cap)))?;
        let scores = scores.reshape((query_heads, rows, len))?;
        let scores = scores.broadcast_add(&self.mask(places.0, places.1, heads)?)?;
        let scores = candle_nn::ops::softmax_last_dim(&scores)?.reshape((kv_heads, lines, len))?;
        let out = scores.matmul(&values.contiguous()?)?;
        let out = out.reshape((query_heads, rows, head_dim))?.transpose(0, 1)?;
        Ok(out.reshape((rows, query_heads * head_dim))?)
    }

    /// `0` where the query at position `i` of `queries` sees position `j`, the cache beginning at `start`, and minus infinity
    /// elsewhere.
    fn mask(&self, queries: Range<usize>, start: usize, heads: &Heads) -> Result<Tensor> {
        let shape = (1, queries.len(), queries.end - start);
        let sees = |i: usize, j: usize| (j <= i || !heads.causal) && heads.window.is_none_or(|w| i < j + w);
        let row = |i: usize| (start..queries.end).map(move |j| if sees(i, j) { 0.0 } else { f32::NEG_INFINITY });
        let values: Vec<f32> = queries.clone().flat_map(row).collect();
        Ok(Tensor::from_vec(values, shape, &self.device)?.to_dtype(self.dtype)?)
    }
}

/// candle's name for a quantised type.
fn ggml_type(dtype: Dtype) -> Option<GgmlDType> {
    Some(match dtype {
        Dtype::F32 | Dtype::F16 | Dtype::BF16 => return None,
        // Unknown to candle: widened when they are loaded.
        Dtype::IQ4_NL | Dtype::IQ4_XS => return None,
        Dtype::Q4_0 => GgmlDType::Q4_0,
        Dtype::Q4_1 => GgmlDType::Q4_1,
        Dtype::Q5_0 => GgmlDType::Q5_0,
        Dtype::Q5_1 => GgmlDType::Q5_1,
        Dtype::Q8_0 => GgmlDType::Q8_0,
        Dtype::Q2_K => GgmlDType::Q2K,
        Dtype::Q3_K => GgmlDType::Q3K,
        Dtype::Q4_K => GgmlDType::Q4K,
        Dtype::Q5_K => GgmlDType::Q5K,
        Dtype::Q6_K => GgmlDType::Q6K,
    })
}

/// Rows of one sequence, `(heads, rows, head_dim)`.
fn own(x: &Tensor, rows: &Range<usize>) -> Result<Tensor> {
    Ok(x.narrow(0, rows.start, rows.len())?.transpose(0, 1)?.contiguous()?)
}

/// Writes keys and values `(kv_heads, rows, head_dim)` at position `first`. Grows by whole steps, and then leaves behind what
/// the layer's window has passed. Copies first what a fork shares.
fn append(layer: &mut KvLayer, keys: &Tensor, values: &Tensor, first: usize) -> Result<(Tensor, Tensor)> {
    let (kv_heads, rows, head_dim) = keys.dims3()?;
    let (end, old_start, needed) = (first + rows, layer.start, layer.needed(first));
    let KvStorage::Device(held) = &mut layer.held else { return Err(foreign_cache()) };
    let capacity = held.as_ref().map_or(0, |held| held.0.dim(1).unwrap_or(0));
    if end > old_start + capacity {
        let start = needed.max(old_start);
        let shape = (kv_heads, (end - start).next_multiple_of(STEP), head_dim);
        let grow = |old: Option<&Tensor>| -> Result<Tensor> {
            let new = Tensor::zeros(shape, keys.dtype(), keys.device())?;
            if let Some(old) = old.filter(|_| first > start) {
                new.slice_set(&old.narrow(1, start - old_start, first - start)?.contiguous()?, 1, 0)?;
            }
            Ok(new)
        };
        *held = Some(Arc::new((grow(held.as_ref().map(|h| &h.0))?, grow(held.as_ref().map(|h| &h.1))?)));
        layer.start = start;
    }
    let held = held.as_mut().expect("a cache with too little room was grown above");
    // Tensors are written in place: a fork that holds them too must not see it.
    if Arc::get_mut(held).is_none() {
        *held = Arc::new((held.0.copy()?, held.1.copy()?));
    }
    let (k, v) = &**held;
    k.slice_set(&keys.contiguous()?, 1, first - layer.start)?;
    v.slice_set(&values.contiguous()?, 1, first - layer.start)?;
    Ok((k.narrow(1, 0, end - layer.start)?, v.narrow(1, 0, end - layer.start)?))
}

impl Backend for Candle {
    type Tensor = Tensor;
    type Linear = CandleLinear;
    type Norm = CandleNorm;
    type Rope = CandleRope;

    fn linear(&self, parts: Vec<Projection>) -> Result<CandleLinear> {
        let part = |p: Projection| Ok((self.weight(p.weight)?, p.bias.map(|b| self.vector(b)).transpose()?));
        Ok(CandleLinear { parts: parts.into_iter().map(part).collect::<Result<_>>()? })
    }

    fn table(&self, weight: Stored) -> Result<CandleLinear> {
        self.linear(vec![Projection { weight, bias: None }])
    }

    fn norm_weights(&self, norm: Norm, weight: Vec<f32>, bias: Option<Vec<f32>>) -> Result<CandleNorm> {
        let bias = bias.unwrap_or_else(|| vec![0.0; weight.len()]);
        Ok(CandleNorm { norm, weight: self.vector(weight)?, bias: self.vector(bias)? })
    }

    fn cache_layer(&self, heads: &Heads, kind: CacheType) -> Result<KvLayer> {
        match kind {
            CacheType::Auto | CacheType::F32 => Ok(KvLayer::new(heads.window, KvStorage::Device(None))),
            CacheType::F16 | CacheType::Q8_0 => {
                Err(Error::unsupported(format!("a cache of {kind} in candle's ops"), "f32; f16 and q8_0 on the host"))
            }
        }
    }

    fn rope(&self, frequencies: &Frequencies, positions: &[RowPosition]) -> Result<CandleRope> {
        let shape = (positions.len(), frequencies.pairs());
        let (mut cos, mut sin) = (vec![0.0; shape.0 * shape.1], vec![0.0; shape.0 * shape.1]);
        frequencies.rows(positions, &mut cos, &mut sin);
        let tensor = |x| Ok::<_, Error>(Tensor::from_vec(x, shape, &self.device)?.to_dtype(self.dtype)?);
        Ok(CandleRope { cos: tensor(cos)?, sin: tensor(sin)?, pairing: frequencies.pairing })
    }

    fn embed(&self, table: &CandleLinear, rows: &[u32]) -> Result<Tensor> {
        match &table.parts[0].0 {
            Weight::Dense(table) => Ok(table.index_select(&Tensor::new(rows, &self.device)?, 0)?),
            Weight::Quantised(_, stored) => {
                let (_, dim) = stored.matrix()?;
                let mut out = vec![0.0; rows.len() * dim];
                for (row, out) in rows.iter().zip(out.chunks_exact_mut(dim)) {
                    stored.row_to_f32(*row as usize, out);
                }
                Ok(Tensor::from_vec(out, (rows.len(), dim), &self.device)?.to_dtype(self.dtype)?)
            }
        }
    }

    fn replace_rows(&self, mut x: Tensor, rows: &[(usize, InputRow)]) -> Result<Tensor> {
        for run in rows.chunk_by(|a, b| a.0 + 1 == b.0) {
            let values: Vec<f32> = run.iter().flat_map(|(_, row)| row.values()).copied().collect();
            let values = Tensor::from_vec(values, (run.len(), x.dim(1)?), &self.device)?.to_dtype(self.dtype)?;
            x = x.slice_scatter(&values, 0, run[0].0)?;
        }
        Ok(x)
    }

    fn norm(&self, x: &Tensor, norm: &CandleNorm) -> Result<Tensor> {
        Ok(match norm.norm {
            Norm::Rms { eps, .. } => candle_nn::ops::rms_norm(x, &norm.weight, eps as f32)?,
            Norm::Layer { eps } => candle_nn::ops::layer_norm(x, &norm.weight, &norm.bias, eps as f32)?,
        })
    }

    fn norm_heads(&self, qkv: Tensor, heads: &Heads, norms: &(CandleNorm, CandleNorm)) -> Result<Tensor> {
        let (rows, width) = qkv.dims2()?;
        let (q, k) = (heads.q_width(), heads.kv_width());
        let part = |at: usize, len: usize, norm: &CandleNorm| -> Result<Tensor> {
            let x = qkv.narrow(1, at, len)?.contiguous()?.reshape((rows, (), norm.weight.dim(0)?))?;
            Ok(self.norm(&x, norm)?.reshape((rows, len))?)
        };
        let (normed_q, normed_k) = (part(0, q, &norms.0)?, part(q, k, &norms.1)?);
        Ok(Tensor::cat(&[normed_q, normed_k, qkv.narrow(1, q + k, width - q - k)?], 1)?)
    }

    fn project(&self, x: &Tensor, linear: &CandleLinear) -> Result<Tensor> {
        let project = |(weight, bias): &(Weight, Option<Tensor>)| -> Result<Tensor> {
            let y = match weight {
                Weight::Dense(weight) => x.matmul(&weight.t()?)?,
                Weight::Quantised(weight, _) => weight.forward(x)?,
            };
            Ok(match bias {
                Some(bias) => y.broadcast_add(bias)?,
                None => y,
            })
        };
        let outputs = linear.parts.iter().map(project).collect::<Result<Vec<_>>>()?;
        Ok(Tensor::cat(&outputs, 1)?)
    }

    fn attend(
        &self,
        qkv: Tensor,
        heads: &Heads,
        rope: Option<&CandleRope>,
        batch: &Batch,
        layer: usize,
        caches: &mut [&mut KvCache],
    ) -> Result<Tensor> {
        let [q, k, v] = self.split(&qkv, heads, rope)?;
        let mut outputs = Vec::with_capacity(caches.len());
        for (i, cache) in caches.iter_mut().enumerate() {
            let (first, rows) = (cache.len(), batch.rows(i));
            let layer = &mut cache.layers[layer];
            let (keys, values) = append(layer, &own(&k, &rows)?, &own(&v, &rows)?, first)?;
            let places = (first..first + rows.len(), layer.start);
            outputs.push(self.attention(&own(&q, &rows)?, &keys, &values, heads, places)?);
        }
        Ok(Tensor::cat(&outputs, 0)?)
    }

    fn attend_packed(&self, qkv: Tensor, heads: &Heads, rope: Option<&CandleRope>, batch: &Batch) -> Result<Tensor> {
        let [q, k, v] = self.split(&qkv, heads, rope)?;
        let alone = |i: usize| {
            let rows = batch.rows(i);
            self.attention(&own(&q, &rows)?, &own(&k, &rows)?, &own(&v, &rows)?, heads, (0..rows.len(), 0))
        };
        let sequences = (0..batch.sequences()).filter(|i| !batch.rows(*i).is_empty());
        Ok(Tensor::cat(&sequences.map(alone).collect::<Result<Vec<_>>>()?, 0)?)
    }

    fn activate(&self, x: Tensor, act: Activation) -> Result<Tensor> {
        Ok(match act {
            Activation::Silu => x.silu()?,
            Activation::Gelu => x.gelu_erf()?,
            Activation::GeluTanh => x.gelu()?,
            Activation::QuickGelu => (candle_nn::ops::sigmoid(&(&x * 1.702)?)? * x)?,
            Activation::Relu => x.relu()?,
            Activation::Relu2 => x.relu()?.sqr()?,
            Activation::Tanh => x.tanh()?,
            Activation::Sigmoid => candle_nn::ops::sigmoid(&x)?,
        })
    }

    fn gated(&self, x: Tensor, act: Activation) -> Result<Tensor> {
        let dim = x.dim(D::Minus1)? / 2;
        let gate = self.activate(x.narrow(1, 0, dim)?.contiguous()?, act)?;
        Ok((gate * x.narrow(1, dim, dim)?.contiguous()?)?)
    }

    fn add(&self, x: Tensor, y: Tensor) -> Result<Tensor> {
        Ok((x + y)?)
    }

    fn scale(&self, x: Tensor, factor: f64) -> Result<Tensor> {
        Ok((x * factor)?)
    }

    fn cap(&self, x: Tensor, cap: f64) -> Result<Tensor> {
        Ok(((x / cap)?.tanh()? * cap)?)
    }

    fn select(&self, x: &Tensor, rows: &[usize]) -> Result<Tensor> {
        Ok(x.index_select(&self.indices(rows)?, 0)?)
    }

    fn zeros_like(&self, x: &Tensor) -> Result<Tensor> {
        Ok(x.zeros_like()?)
    }

    fn add_rows(&self, x: Tensor, y: Tensor, rows: &[usize], weights: &[f32]) -> Result<Tensor> {
        let weights = Tensor::from_slice(weights, (weights.len(), 1), &self.device)?.to_dtype(self.dtype)?;
        Ok(x.index_add(&self.indices(rows)?, &y.broadcast_mul(&weights)?, 0)?)
    }

    fn read(&self, x: Tensor, out: &mut Vec<f32>) -> Result<()> {
        *out = x.to_dtype(DType::F32)?.flatten_all()?.to_vec1()?;
        Ok(())
    }
}
