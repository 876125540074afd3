//! Every kernel set x format x shape: one product, attention and the element-wise steps, nothing else of a model.
//!
//! ```text
//! cargo bench --bench kernels                             # everything: long
//! cargo bench --bench kernels -- 'avx512/2/Q4_1/.*/512'   # set / threads / format / shape / rows
//! ```
//!
//! Throughput is in operations (`Gelem/s` reads as GOPS) and in bytes of weights; the machine's peaks stand above, from the same
//! minutes. Weights are taken in turn from a pool larger than the caches, as a model's layers are.

use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use std::slice::from_ref;
use std::time::Duration;
use tallow::bench::Roofline;
use tallow::cpu::{AttentionJob, Heads, Kernels, KvRows, MatmulInput, Matrix, Pool, Precision, attention, matmul};
use tallow::quant::Dtype;
use tallow::spec::Activation;

/// Bytes of weights to go through before one comes again.
const COLD: usize = 150 << 20;
/// (outputs, columns): the shapes of a 135M and a 1.1B model. K formats take the next multiple of 256 columns.
const SHAPES: [(usize, usize); 4] = [(576, 1536), (1536, 576), (2048, 5632), (5632, 2048)];
/// Rows of activations: decoding, a small batch, a short and a long prompt.
const ROWS: [usize; 4] = [1, 4, 32, 512];

/// The sets worth timing: the scalar one is there to be right.
fn sets() -> Vec<&'static Kernels> {
    Kernels::available().into_iter().filter(|kernels| kernels.name() != "scalar").collect()
}

/// One thread, and as many as there are cores.
fn pools() -> Vec<Pool> {
    let cores = tallow::device::default_threads();
    [1, cores].into_iter().take(if cores > 1 { 2 } else { 1 }).map(Pool::new).collect()
}

fn peaks(_: &mut Criterion) {
    for kernels in sets() {
        for pool in pools() {
            let Roofline { threads, bandwidth, int8, f32 } = Roofline::measure(kernels, pool.threads());
            let name = kernels.name();
            let (int8, f32, bandwidth) = (int8 / 1e9, f32 / 1e9, bandwidth / 1e9);
            println!("{name}/{threads}: {int8:.0} GOPS in int8, {f32:.0} GFLOPS in f32, {bandwidth:.1} GB/s");
        }
    }
}

fn products(c: &mut Criterion) {
    for kernels in sets() {
        for pool in pools() {
            for dtype in Dtype::all() {
                let mut group = c.benchmark_group(format!("{}/{}/{dtype}", kernels.name(), pool.threads()));
                for (outputs, cols) in SHAPES {
                    let cols = cols.next_multiple_of(dtype.block());
                    let bytes = dtype.bytes(outputs * cols).expect("whole blocks");
                    // Made when the first of its benches runs: a filter leaves most out.
                    let mut weights: Vec<Matrix> = Vec::new();
                    for rows in ROWS {
                        group.throughput(Throughput::ElementsAndBytes {
                            elements: 2 * (rows * outputs * cols) as u64,
                            bytes: bytes as u64,
                        });
                        let x: Vec<f32> = (0..rows * cols).map(|i| (i as f32 * 0.7).sin()).collect();
                        let mut out = vec![0.0; rows * outputs];
                        group.bench_function(BenchmarkId::new(format!("{outputs}x{cols}"), rows), |bencher| {
                            if weights.is_empty() {
                                weights = matrices(&pool, dtype, outputs, cols, (COLD / bytes).clamp(1, 64));
                            }
                            let mut input = MatmulInput::new();
                            input.prepare(kernels, &pool, &x, rows, cols, from_ref(&weights[0]));
                            let mut turn = 0;
                            bencher.iter(|| {
                                turn += 1;
                                matmul(kernels, &pool, &x, &input, from_ref(&weights[turn % weights.len()]), &[None], &mut out);
                            });
                        });
                    }
                }
            }
        }
    }
}

fn matrices(pool: &Pool, dtype: Dtype, outputs: usize, cols: usize, count: usize) -> Vec<Matrix> {
    let bytes = dtype.bytes(outputs * cols).expect("whole blocks");
    // Such bytes are ordinary numbers in every format: subnormal ones would cost an assist each.
    let stored: Vec<u8> = (0..bytes).map(|i| (i as u32).wrapping_mul(2_654_435_761).to_be_bytes()[0] & 7 | 0x38).collect();
    let matrix = |_| Matrix::new(pool, dtype, outputs, cols, &stored.clone().into()).expect("the bytes fit");
    (0..count).map(matrix).collect()
}

fn attentions(c: &mut Criterion) {
    for kernels in sets() {
        for pool in pools() {
            let mut group = c.benchmark_group(format!("{}/{}/attention", kernels.name(), pool.threads()));
            for (heads, kv_heads, dim) in [(9, 3, 64), (32, 8, 128), (12, 12, 32)] {
                for precision in [Precision::F16, Precision::F32, Precision::Q8_0] {
                    for (rows, depth) in [(1, 512), (1, 4096), (512, 512), (512, 4096)] {
                        let numbers: Vec<f32> = (0..depth * dim).map(|i| (i as f32 * 0.3).cos()).collect();
                        let cache = |make: fn(usize, Precision) -> KvRows| -> Vec<KvRows> {
                            let one = |_| {
                                let mut rows = make(dim, precision);
                                rows.append(kernels, &numbers, dim, depth);
                                rows
                            };
                            (0..kv_heads).map(one).collect()
                        };
                        let (keys, values) = (cache(KvRows::keys), cache(KvRows::values));
                        let width = heads * dim;
                        let q: Vec<f32> = (0..rows * width).map(|i| (i as f32 * 0.1).sin()).collect();
                        let mut out = vec![0.0; rows * width];
                        let seen = rows * (2 * depth - rows + 1) / 2;
                        group.throughput(Throughput::ElementsAndBytes {
                            elements: 4 * (seen * width) as u64,
                            bytes: keys.iter().chain(&values).map(|rows| rows.bytes() as u64).sum(),
                        });
                        let (scale, cap, causal, window) = (0.125, None, true, None);
                        let shape = Heads { heads, kv_heads, head_dim: dim, scale, cap, causal, window };
                        let name =
                            BenchmarkId::new(format!("{heads}-{kv_heads}x{dim} {precision:?}"), format!("{rows} at {depth}"));
                        group.bench_function(name, |bencher| {
                            bencher.iter(|| {
                                let job = AttentionJob {
                                    q: &q,
                                    q_stride: width,
                                    rows,
                                    heads: shape,
                                    first: depth - rows,
                                    keys: &keys,
                                    values: &values,
                                    cache_start: 0,
                                };
                                attention(kernels, &pool, 1, &|_| job, &mut out);
                            });
                        });
                    }
                }
            }
        }
    }
}

fn elements(c: &mut Criterion) {
    let n = 1536;
    let x: Vec<f32> = (0..n).map(|i| (i as f32 * 0.37).sin() * 4.0).collect();
    for kernels in sets() {
        let mut group = c.benchmark_group(format!("{}/1/element", kernels.name()));
        group.throughput(Throughput::Elements(n as u64));
        let mut out = vec![0.0; n];
        let mut row = |name: &str, call: &mut dyn FnMut(&mut [f32])| {
            group.bench_function(name, |bencher| bencher.iter(|| call(&mut out)));
        };
        row("rms_norm", &mut |out| kernels.rms_norm(&x, &x, 1e-5, out));
        row("layer_norm", &mut |out| kernels.layer_norm(&x, &x, &x, 1e-5, out));
        row("add", &mut |out| kernels.add(out, &x));
        for (name, interleaved) in [("rope halves", false), ("rope interleaved", true)] {
            row(name, &mut |out| {
                out.chunks_exact_mut(64).for_each(|head| kernels.rope(head, &x[..32], &x[32..64], interleaved));
            });
        }
        for act in [Activation::Silu, Activation::Gelu, Activation::GeluTanh] {
            row(&format!("gated {act:?}"), &mut |out| kernels.gated(act, &x, &x, out));
        }
        for make in [KvRows::keys, KvRows::values] {
            let numbers = vec![0.5; 512 * 64];
            let mut rows = make(64, Precision::F16);
            group.throughput(Throughput::Elements(numbers.len() as u64));
            group.bench_function(if rows.are_keys() { "append keys" } else { "append values" }, |bencher| {
                bencher.iter(|| {
                    rows.truncate(0);
                    rows.append(kernels, &numbers, 64, 512);
                });
            });
        }
    }
    for pool in pools() {
        c.bench_function(&format!("an empty job of {} threads", pool.threads()), |bencher| {
            bencher.iter(|| pool.run(pool.threads() * 2, &|_| {}));
        });
    }
}

/// Short: there are some hundred benches, and the machine's mood changes within minutes.
fn config() -> Criterion {
    Criterion::default()
        .sample_size(20)
        .warm_up_time(Duration::from_millis(100))
        .measurement_time(Duration::from_millis(500))
        .without_plots()
}

criterion_group! { name = benches; config = config(); targets = peaks, products, attentions, elements }
criterion_main!(benches);
