//! Every kernel set x format x shape: the time of one product, attention and the element-wise steps, nothing else of a model.
//!
//! ```text
//! cargo bench --bench kernels -- [--sets avx512,avx2] [--formats Q4_1,Q8_0] [--rows 1,4,512] [--threads 1,2] [--only matmul|attention|element]
//! ```
//!
//! Each figure is the best of many short rounds: on a shared machine the rest is other people's noise. Weights are taken in turn from a
//! pool larger than the caches, as a model's layers are.

use std::time::{Duration, Instant};
use tallow::kernels::{AttentionJob, Input, Kernels, Matrix, Pool, Precision, Rows, attention, matmul};
use tallow::quant::Dtype;
use tallow::spec::Activation;

/// Bytes of weights to go through before one comes again.
const COLD: usize = 150 << 20;
/// Time spent on a figure, and on one round of it.
const TIME: Duration = Duration::from_millis(300);
const BATCH: Duration = Duration::from_micros(50);
/// (outputs, columns): the shapes of a 135M and a 1.1B model. K formats take the next multiple of 256 columns.
const SHAPES: [(usize, usize); 4] = [(576, 1536), (1536, 576), (2048, 5632), (5632, 2048)];

fn main() {
    let args: Vec<String> = std::env::args().collect();
    let list = |name: &str| -> Option<Vec<String>> {
        let at = args.iter().position(|arg| arg == name)?;
        Some(args.get(at + 1)?.split(',').map(str::to_owned).collect())
    };
    let wanted = |name: &str, value: &str| list(name).is_none_or(|list| list.iter().any(|v| v == value));
    let numbers = |name: &str, default: &[usize]| {
        list(name).map_or(default.to_vec(), |list| list.iter().filter_map(|v| v.parse().ok()).collect())
    };
    for kernels in Kernels::available() {
        // The reference is there to be right.
        if !wanted("--sets", kernels.name()) || (list("--sets").is_none() && kernels.name() == "scalar") {
            continue;
        }
        for threads in numbers("--threads", &[1, 2]) {
            let pool = Pool::new(threads);
            println!("# {} with {threads} threads", kernels.name());
            if wanted("--only", "matmul") {
                for dtype in Dtype::all().filter(|dtype| wanted("--formats", dtype.name())) {
                    products(kernels, &pool, dtype, &numbers("--rows", &[1, 4, 32, 512]));
                }
            }
            if wanted("--only", "attention") {
                attentions(kernels, &pool);
            }
            if wanted("--only", "element") {
                elements(kernels, &pool);
            }
        }
    }
}

/// The best time of one call. Short calls are timed in batches of some tens of microseconds, which mostly fit between two
/// interruptions.
fn best(mut call: impl FnMut()) -> f64 {
    let first = Instant::now();
    call();
    let batch = (BATCH.as_secs_f64() / first.elapsed().as_secs_f64()).clamp(1.0, 1000.0) as u32;
    let (mut best, start) = (f64::INFINITY, Instant::now());
    while start.elapsed() < TIME {
        let round = Instant::now();
        (0..batch).for_each(|_| call());
        best = best.min(round.elapsed().as_secs_f64() / batch as f64);
    }
    best
}

fn products(kernels: &'static Kernels, pool: &Pool, dtype: Dtype, rows: &[usize]) {
    println!("{:>6} {:>11} {:>5} {:>9} {:>8} {:>7} {:>9}", "format", "shape", "rows", "µs", "GOPS", "GB/s", "quant µs");
    for (outputs, cols) in SHAPES {
        let cols = cols.next_multiple_of(dtype.block());
        let bytes = dtype.bytes(outputs * cols).unwrap();
        // Such bytes are ordinary numbers in every format: subnormal ones would cost an assist each.
        let stored: Vec<u8> = (0..bytes).map(|i| (i as u32).wrapping_mul(2_654_435_761).to_be_bytes()[0] & 7 | 0x38).collect();
        let stored = tallow::Bytes::from(stored);
        let copies = (COLD / bytes).clamp(1, 64);
        let copy = |_| {
            let stored = if dtype.is_quantised() { stored.clone() } else { stored.to_vec().into() };
            Matrix::new(kernels, pool, dtype, outputs, cols, &stored).unwrap()
        };
        let weights: Vec<Matrix> = (0..copies).map(copy).collect();
        for &rows in rows {
            let x: Vec<f32> = (0..rows * cols).map(|i| (i as f32 * 0.7).sin()).collect();
            let mut input = Input::new();
            let mut out = vec![0.0; rows * outputs];
            let prepare = best(|| input.prepare(kernels, pool, &x, rows, cols, &[&weights[0]]));
            let mut turn = 0;
            let time = best(|| {
                matmul(kernels, pool, &input, &[&weights[turn % copies]], &[None], &mut out);
                turn += 1;
            });
            println!(
                "{:>6} {:>11} {:>5} {:>9.1} {:>8.1} {:>7.2} {:>9.1}",
                dtype.name(),
                format!("{outputs}x{cols}"),
                rows,
                time * 1e6,
                2e-9 * (rows * outputs * cols) as f64 / time,
                1e-9 * weights[0].bytes() as f64 / time,
                prepare * 1e6,
            );
        }
    }
}

fn attentions(kernels: &'static Kernels, pool: &Pool) {
    println!("{:>22} {:>5} {:>6} {:>9} {:>8} {:>7}", "attention", "rows", "depth", "µs", "GFLOPS", "GB/s");
    for (heads, kv_heads, dim) in [(9, 3, 64), (32, 8, 128), (12, 12, 32)] {
        for precision in [Precision::F16, Precision::F32] {
            for (rows, depth) in [(1, 512), (1, 4096), (512, 512), (512, 4096)] {
                let numbers: Vec<f32> = (0..depth * dim).map(|i| (i as f32 * 0.3).cos()).collect();
                let cache = |make: fn(usize, Precision) -> Rows| -> Vec<Rows> {
                    let one = |_| {
                        let mut rows = make(dim, precision);
                        rows.append(kernels, &numbers, dim, depth);
                        rows
                    };
                    (0..kv_heads).map(one).collect()
                };
                let (keys, values) = (cache(Rows::keys), cache(Rows::values));
                let width = heads * dim;
                let q: Vec<f32> = (0..rows * width).map(|i| (i as f32 * 0.1).sin()).collect();
                let mut out = vec![0.0; rows * width];
                let time = best(|| {
                    let job = AttentionJob {
                        q: &q,
                        q_stride: width,
                        rows,
                        heads,
                        kv_heads,
                        head_dim: dim,
                        scale: 0.125,
                        first: depth - rows,
                        causal: true,
                        window: None,
                        keys: &keys,
                        values: &values,
                        cache_start: 0,
                        out: &mut out,
                        out_stride: width,
                    };
                    attention(kernels, pool, &mut [job]);
                });
                let seen = rows * (2 * depth - rows + 1) / 2;
                let bytes: usize = keys.iter().chain(&values).map(Rows::bytes).sum();
                println!(
                    "{:>22} {:>5} {:>6} {:>9.1} {:>8.1} {:>7.2}",
                    format!("{heads}/{kv_heads}x{dim} {precision:?}"),
                    rows,
                    depth,
                    time * 1e6,
                    4e-9 * (seen * width) as f64 / time,
                    1e-9 * bytes as f64 / time,
                );
            }
        }
    }
}

fn elements(kernels: &'static Kernels, pool: &Pool) {
    println!("{:>22} {:>9}", "one thread", "ns/number");
    let n = 1536;
    let x: Vec<f32> = (0..n).map(|i| (i as f32 * 0.37).sin() * 4.0).collect();
    let mut out = vec![0.0; n];
    let mut row = |name: &str, call: &mut dyn FnMut(&mut [f32])| {
        println!("{name:>22} {:>9.3}", best(|| call(&mut out)) * 1e9 / n as f64);
    };
    row("rms_norm", &mut |out| kernels.rms_norm(&x, &x, 1e-5, out));
    row("layer_norm", &mut |out| kernels.layer_norm(&x, &x, &x, 1e-5, out));
    row("add", &mut |out| kernels.add(out, &x));
    row("rope halves", &mut |out| out.chunks_exact_mut(64).for_each(|h| kernels.rope(h, &x[..32], &x[32..64], false)));
    row("rope interleaved", &mut |out| out.chunks_exact_mut(64).for_each(|h| kernels.rope(h, &x[..32], &x[32..64], true)));
    for act in [Activation::Silu, Activation::Gelu, Activation::GeluTanh] {
        row(&format!("gated {act:?}"), &mut |out| kernels.gated(act, &x, &x, out));
    }
    for make in [Rows::keys, Rows::values] {
        let numbers = vec![0.5; 512 * 64];
        let mut rows = make(64, Precision::F16);
        let time = best(|| {
            rows.truncate(0);
            rows.append(kernels, &numbers, 64, 512);
        });
        let name = if rows.are_keys() { "append keys" } else { "append values" };
        println!("{name:>22} {:>9.3}", time * 1e9 / numbers.len() as f64);
    }
    let time = best(|| pool.run(pool.threads() * 2, &|_| {}));
    println!("an empty job of the pool takes {:.2} µs", time * 1e6);
}
