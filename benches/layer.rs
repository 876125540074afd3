//! One real layer of the default model through both bodies of the forward: candle's ops (with weights widened to f32) and
//! the host's kernels on slices.
//!
//! `cargo bench --bench layer`. The runs alternate; medians in microseconds. It settles the grain of `nn::Backend`.

use std::time::Instant;
use tallow::backend::{Batch, CacheType, candle::Candle, cpu::Cpu};
use tallow::cpu::Kernels;
use tallow::model::{Forward, Transformer};
use tallow::tensors::Gguf;
use tallow::{Checkpoint, Result};

const FILE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/models/SmolLM2-135M-Instruct.Q4_1.gguf");

fn microseconds(network: &dyn Forward, rows: usize, depth: usize) -> Result<f64> {
    let mut cache = network.cache(4096)?;
    let mut out = Vec::new();
    let batch = |n: usize| Batch { tokens: (0..n as u32).collect(), starts: vec![0], outputs: Vec::new(), ..Batch::default() };
    if depth > 0 {
        network.hidden(&batch(depth), &mut [&mut cache], &mut out)?;
    }
    let clock = Instant::now();
    network.hidden(&batch(rows), &mut [&mut cache], &mut out)?;
    Ok(clock.elapsed().as_secs_f64() * 1e6)
}

fn main() -> Result<()> {
    let spec = tallow::spec::Spec { layers: 1, ..Checkpoint::open(FILE)?.spec().clone() };
    let weights = || Gguf::open(FILE).map(|gguf| gguf.weights);
    let threads = tallow::device::default_threads();
    let kernels = Kernels::get()?;
    let host = Transformer::load(Cpu::new(kernels, threads), spec.clone(), weights()?, CacheType::F16)?;
    let generic = Transformer::load(Candle::new(candle_core::Device::Cpu), spec, weights()?, CacheType::F32)?;
    let networks: [(&str, &dyn Forward); 2] = [("host", &host), ("candle", &generic)];
    println!("one layer of SmolLM2-135M Q4_1, {threads} threads, kernels {}", kernels.name());
    for (rows, depth) in [(1, 0), (1, 1024), (16, 0), (128, 0), (512, 0)] {
        let mut times = [Vec::new(), Vec::new()];
        for round in 0..12 {
            for i in if round % 2 == 0 { [0, 1] } else { [1, 0] } {
                times[i].push(microseconds(networks[i].1, rows, depth)?);
            }
        }
        let median = |times: &mut Vec<f64>| {
            times.sort_by(f64::total_cmp);
            times[times.len() / 2]
        };
        let (a, b) = (median(&mut times[0]), median(&mut times[1]));
        println!(
            "{rows:4} rows at depth {depth:4}: {} {a:9.0} us   {} {b:9.0} us   ratio {:.1}",
            networks[0].0,
            networks[1].0,
            b / a
        );
    }
    Ok(())
}
