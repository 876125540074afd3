//! The reference: plain Rust for every format and every CPU.
//!
//! Quantised products repeat the vector units' arithmetic step by step and have the same bits. Elsewhere sums run in [`LANES`] lanes
//! that are added pairwise at the end, which compilers turn into whatever vectors there are.

use crate::cpu::attention::{Cached, Numbers, POSITIONS, Scores, Softmax, Weigh};
use crate::cpu::float::{FloatTask, Lanes, products};
use crate::cpu::input::{self, InputRecord, SCALE, SCALED_SUM, SLICE};
use crate::cpu::matmul::PanelTask;
use crate::cpu::matrix;
use crate::cpu::panel::{self, BLOCK, Expanded, ROWS};
use crate::cpu::{Kernels, math, peak, rows};
use crate::quant::Dtype;
use crate::spec::Activation;
use half::f16;

pub static KERNELS: Kernels = Kernels {
    name: "scalar",
    quantise,
    panels,
    floats,
    to_f16,
    scores,
    softmax,
    weigh,
    rms_norm,
    layer_norm,
    add,
    rope,
    activate: activate::<false>,
    gated: gated::<false>,
    peak: peak::SCALAR,
};

const LANES: usize = 16;

/// Adds lanes pairwise: `i` and `i + 8`, then 4, 2, 1.
#[inline(always)]
fn total(mut lanes: [f32; LANES]) -> f32 {
    for half in [8, 4, 2, 1] {
        for i in 0..half {
            lanes[i] += lanes[i + half];
        }
    }
    lanes[0]
}

#[inline(always)]
fn sum(x: &[f32], f: impl Fn(f32) -> f32) -> f32 {
    let mut lanes = [0.0; LANES];
    for chunk in x.chunks(LANES) {
        for (lane, &x) in lanes.iter_mut().zip(chunk) {
            *lane += f(x);
        }
    }
    total(lanes)
}

pub fn quantise(x: &[f32], wide: &mut [InputRecord], narrow: &mut [InputRecord]) {
    for (index, x) in x.as_chunks::<BLOCK>().0.iter().enumerate() {
        let absmax = x.iter().map(|x| x.to_bits() & 0x7fff_ffff).fold(0, u32::max);
        let (scale, factor) = input::scale(absmax);
        // `as` saturates, and turns NaN (0 times infinity) into 0.
        let values: [i8; BLOCK] = std::array::from_fn(|i| (x[i] * factor).round_ties_even() as i8);
        let sum = |values: &[i8]| values.iter().map(|&q| q as i32).sum();
        let (low, high) = values.split_at(BLOCK / 2);
        let rests = input::rest(scale, [sum(low), sum(high)]);
        if let Some(record) = wide.get_mut(index) {
            *record = InputRecord { values, rest: rests.0 };
        }
        if let Some(record) = narrow.get_mut(index) {
            *record = InputRecord { values, rest: rests.1 };
        }
    }
}

/// # Safety
/// As [`PanelTask`] says of its parts.
pub unsafe fn panels(task: &PanelTask) {
    let PanelTask { format, cols, rows, .. } = task;
    let (panel_bytes, blocks) = (format.panel_bytes(*cols), cols / BLOCK);
    let mut expanded = Expanded::ZERO;
    let mut out = vec![[0.0f32; ROWS]; *rows];
    for first in (0..task.outputs).step_by(ROWS) {
        let panel = if blocks == 0 { &[] } else { &task.panels[first / ROWS * panel_bytes..][..panel_bytes] };
        out.fill([0.0; ROWS]);
        for block in 0..blocks {
            panel::expand(format, panel, block, &mut expanded);
            for (row, out) in out.iter_mut().enumerate() {
                let records = task.records.slice(block / SLICE, row);
                multiply(format, &expanded, &records[block % SLICE], out);
            }
        }
        for (row, out) in out.iter().enumerate() {
            for (i, out) in out.iter().enumerate().take(task.outputs - first) {
                let bias = task.bias.map_or(0.0, |bias| bias[first + i]);
                // SAFETY: row and output are within the task, for which the place is valid.
                unsafe { *task.out.add(row * task.stride + first + i) = out + bias };
            }
        }
    }
}

/// One block of 16 outputs of one row.
fn multiply(format: &panel::PanelFormat, weights: &Expanded, record: &InputRecord, out: &mut [f32; ROWS]) {
    let halves = BLOCK / format.group;
    let float = |index: usize| f32::from_bits(record.rest[index]);
    for half in 0..halves {
        if format.mins {
            (0..ROWS).for_each(|r| out[r] = weights.mins[half][r].mul_add(float(SCALED_SUM + half), out[r]));
        }
        let start = input::start(format).map_or(0, |index| record.rest[index + half] as i32);
        let mut sums = [start; ROWS];
        let columns = half * format.group..(half + 1) * format.group;
        for k in columns {
            let q = record.values[k] as i32;
            let line = &weights.values[k / 4];
            (0..ROWS).for_each(|r| sums[r] += line[4 * r + k % 4] as i32 * q);
        }
        for r in 0..ROWS {
            out[r] = (sums[r] as f32 * weights.scales[half][r]).mul_add(float(SCALE), out[r]);
        }
    }
}

/// # Safety
/// As [`FloatTask`] says of its parts.
pub unsafe fn floats(task: &FloatTask) {
    // SAFETY: `matmul` made the task so; plain Rust needs no instructions.
    unsafe { products::<Sixteen, 1, 4>(task) }
}

#[derive(Clone, Copy)]
pub struct Sixteen([f32; ROWS]);

impl Lanes for Sixteen {
    unsafe fn zero() -> Self {
        Sixteen([0.0; ROWS])
    }
    unsafe fn splat(from: *const f32) -> Self {
        // SAFETY: for this and all below: `Lanes` asks for one number here, for sixteen below.
        Sixteen([unsafe { *from }; ROWS])
    }
    unsafe fn load(from: *const u8) -> Self {
        Sixteen(unsafe { widened(Dtype::F32, from) })
    }
    unsafe fn load_f16(from: *const u8) -> Self {
        Sixteen(unsafe { widened(Dtype::F16, from) })
    }
    unsafe fn load_bf16(from: *const u8) -> Self {
        Sixteen(unsafe { widened(Dtype::BF16, from) })
    }
    unsafe fn load_i8(from: *const i8) -> Self {
        Sixteen(unsafe { from.cast::<[i8; ROWS]>().read_unaligned() }.map(f32::from))
    }
    unsafe fn store(self, to: *mut f32) {
        unsafe { to.cast::<[f32; ROWS]>().write_unaligned(self.0) }
    }
    unsafe fn add(self, other: Self) -> Self {
        Sixteen(std::array::from_fn(|i| self.0[i] + other.0[i]))
    }
    unsafe fn mul(self, other: Self) -> Self {
        Sixteen(std::array::from_fn(|i| self.0[i] * other.0[i]))
    }
    unsafe fn mul_add(self, x: Self, sum: Self) -> Self {
        Sixteen(std::array::from_fn(|i| self.0[i].mul_add(x.0[i], sum.0[i])))
    }
}

/// # Safety
/// `from` points to sixteen numbers of `dtype`.
unsafe fn widened(dtype: Dtype, from: *const u8) -> [f32; ROWS] {
    let mut out = [0.0; ROWS];
    // SAFETY: sixteen numbers are that many bytes.
    matrix::floats(dtype, unsafe { std::slice::from_raw_parts(from, ROWS * dtype.block_bytes()) }, &mut out);
    out
}

fn to_f16(x: &[f32], out: &mut [f16]) {
    out.iter_mut().zip(x).for_each(|(out, x)| *out = f16::from_f32(*x));
}

/// Numbers of the cache from `from` on, widened but not scaled; gives the scales.
fn widen<'a>(cached: &Cached<'a>, from: usize, out: &mut [f32]) -> &'a [f32] {
    match cached {
        Cached::F32(Numbers { stored, scales, .. }) => {
            out.copy_from_slice(&stored[from..][..out.len()]);
            scales
        }
        Cached::F16(Numbers { stored, scales, .. }) => {
            out.iter_mut().zip(&stored[from..]).for_each(|(out, x)| *out = x.to_f32());
            scales
        }
        Cached::Q8_0(Numbers { stored, scales, .. }) => {
            out.iter_mut().zip(&stored[from..]).for_each(|(out, x)| *out = f32::from(*x));
            scales
        }
    }
}

/// A group of keys, (dim, 16).
fn widen_keys(cached: &Cached, group: usize, out: &mut [f32]) {
    let scales = widen(cached, group * out.len(), out).as_chunks::<LANES>().0;
    let blocks = out.chunks_mut(rows::SCALED * LANES);
    let scales = scales.iter().skip(group * blocks.len());
    for (block, scales) in blocks.zip(scales) {
        block.as_chunks_mut::<LANES>().0.iter_mut().for_each(|keys| (0..LANES).for_each(|i| keys[i] *= scales[i]));
    }
}

/// A row of values.
fn widen_values(cached: &Cached, position: usize, out: &mut [f32]) {
    let scales = widen(cached, position * out.len(), out);
    let blocks = out.chunks_mut(rows::SCALED);
    let scales = scales.iter().skip(position * blocks.len());
    blocks.zip(scales).for_each(|(block, scale)| block.iter_mut().for_each(|x| *x *= scale));
}

fn scores(task: &mut Scores) {
    let dim = task.dim;
    let end = task.visible.iter().map(|seen| seen.end).max().unwrap_or(0);
    let mut keys = vec![0.0; dim * LANES];
    for group in 0..end.div_ceil(LANES) {
        widen_keys(&task.keys, group, &mut keys);
        for (q, out) in task.q.chunks_exact(dim).zip(task.out.chunks_exact_mut(POSITIONS)) {
            let mut sums = [0.0; LANES];
            for (q, keys) in q.iter().zip(keys.as_chunks::<LANES>().0) {
                (0..LANES).for_each(|i| sums[i] += q * keys[i]);
            }
            out[group * LANES..][..LANES].copy_from_slice(&sums);
        }
    }
}

#[inline(always)]
pub fn softmax(task: &mut Softmax) {
    for (line, scores) in task.scores.as_chunks_mut::<POSITIONS>().0.iter_mut().enumerate() {
        let seen = task.visible[line].clone();
        let old = task.max[line];
        let max = scores[seen.clone()].iter().fold(old, |max, &x| if x > max { x } else { max });
        // Nothing seen so far: any finite reference does.
        let reference = if max == f32::NEG_INFINITY { 0.0 } else { max };
        for (i, x) in scores.iter_mut().enumerate() {
            *x = if seen.contains(&i) { math::exp::<false>(*x - reference) } else { 0.0 };
        }
        let lanes = std::array::from_fn(|i| (scores[i] + scores[16 + i]) + (scores[32 + i] + scores[48 + i]));
        let correction = math::exp::<false>(old - reference);
        task.sum[line] = task.sum[line] * correction + total(lanes);
        task.max[line] = max;
        task.correction[line] = correction;
    }
}

fn weigh(task: &mut Weigh) {
    let padded = task.padded;
    for (sums, correction) in task.sums.chunks_exact_mut(padded).zip(task.correction) {
        sums.iter_mut().for_each(|x| *x *= correction);
    }
    let mut values = vec![0.0; padded];
    let end = task.visible.iter().map(|seen| seen.end).max().unwrap_or(0);
    for position in 0..end {
        widen_values(&task.values, position, &mut values);
        for (line, sums) in task.sums.chunks_exact_mut(padded).enumerate() {
            if task.visible[line].contains(&position) {
                let weight = task.weights[line * POSITIONS + position];
                sums.iter_mut().zip(&values).for_each(|(sum, x)| *sum += weight * x);
            }
        }
    }
}

#[inline(always)]
pub fn rms_norm(x: &[f32], w: &[f32], eps: f32, out: &mut [f32]) {
    let factor = 1.0 / (sum(x, |x| x * x) / x.len() as f32 + eps).sqrt();
    out.iter_mut().zip(x).zip(w).for_each(|((out, x), w)| *out = x * factor * w);
}

#[inline(always)]
pub fn layer_norm(x: &[f32], w: &[f32], b: &[f32], eps: f32, out: &mut [f32]) {
    let mean = sum(x, |x| x) / x.len() as f32;
    let factor = 1.0 / (sum(x, |x| (x - mean) * (x - mean)) / x.len() as f32 + eps).sqrt();
    for (i, out) in out.iter_mut().enumerate() {
        *out = (x[i] - mean) * factor * w[i] + b[i];
    }
}

#[inline(always)]
pub fn add(x: &mut [f32], y: &[f32]) {
    x.iter_mut().zip(y).for_each(|(x, y)| *x += y);
}

#[inline(always)]
pub fn rope(head: &mut [f32], cos: &[f32], sin: &[f32], interleaved: bool) {
    let n = cos.len();
    for i in 0..n {
        let (a, b) = if interleaved { (2 * i, 2 * i + 1) } else { (i, i + n) };
        let (x, y) = (head[a], head[b]);
        head[a] = x * cos[i] - y * sin[i];
        head[b] = y * cos[i] + x * sin[i];
    }
}

/// Runs a loop with the activation as a constant, which leaves no choice inside.
macro_rules! with {
    ($act:ident, $body:expr) => {
        with!($act, $body, Silu Gelu GeluTanh QuickGelu Relu Relu2 Tanh Sigmoid)
    };
    ($act:ident, $body:expr, $($case:ident)*) => {
        match $act {
            $(Activation::$case => {
                let $act = Activation::$case;
                $body
            })*
        }
    };
}

#[inline(always)]
pub fn activate<const FUSED: bool>(act: Activation, x: &mut [f32]) {
    // A loop, for a function that is given a closure this long stays a call, without the caller's instructions.
    with!(act, {
        for x in x.iter_mut() {
            *x = math::activation::<FUSED>(act, *x);
        }
    })
}

#[inline(always)]
pub fn gated<const FUSED: bool>(act: Activation, gate: &[f32], up: &[f32], out: &mut [f32]) {
    with!(act, {
        for (i, out) in out.iter_mut().enumerate() {
            *out = math::activation::<FUSED>(act, gate[i]) * up[i];
        }
    })
}
