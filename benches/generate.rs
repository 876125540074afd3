//! Whole generation against candle's own quantised Llama, on the default model: prompt processing and decoding.
//!
//! `cargo bench --bench generate`. Both read the same GGUF file on the same number of threads; the runs alternate
//! A B B A, so that a machine that speeds up or slows down meets both alike. Prints medians, spreads and the ratio. criterion,
//! which times the kernels, would run one after the other.

use candle_core::{Device, Tensor, quantized::gguf_file};
use candle_transformers::models::quantized_llama::ModelWeights;
use std::time::Instant;
use tallow::{GenerateOptions, LoadOptions, Model, SampleOptions};

const PROMPT: usize = 128;
const TOKENS: usize = 32;
const PAIRS: usize = 5;
const FILE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/models/SmolLM2-135M-Instruct.Q4_1.gguf");

/// Tokens per second of one run: (prompt, decode).
type Rates = (f64, f64);

fn prompt() -> Vec<u32> {
    (0..PROMPT as u32).map(|i| 1000 + i * 37 % 40_000).collect()
}

fn tallow_run(model: &Model) -> Rates {
    let sampling = SampleOptions { temperature: 0.0, ..SampleOptions::default() };
    let options = GenerateOptions { sampling, max_tokens: Some(TOKENS + 1), ignore_eos: true, ..GenerateOptions::default() };
    let mut session = model.session().expect("a session");
    let mut run = session.generate_tokens(&prompt(), &options).expect("the prompt is read");
    run.next().expect("a first token").expect("a first token");
    let clock = Instant::now();
    run.by_ref().for_each(|piece| drop(piece.expect("a token")));
    let decode = TOKENS as f64 / clock.elapsed().as_secs_f64();
    (PROMPT as f64 / run.usage().prompt_time.as_secs_f64(), decode)
}

fn candle_run() -> Rates {
    let mut file = std::fs::File::open(FILE).expect("the default model");
    let content = gguf_file::Content::read(&mut file).expect("a GGUF file");
    let mut model = ModelWeights::from_gguf(content, &mut file, &Device::Cpu).expect("candle loads the model");
    let mut forward = |tokens: &[u32], at: usize| -> u32 {
        let input = Tensor::new(tokens, &Device::Cpu).and_then(|t| t.unsqueeze(0)).expect("a tensor");
        let logits = model.forward(&input, at).and_then(|t| t.squeeze(0)).expect("candle's forward");
        logits.argmax(0).and_then(|t| t.to_scalar()).expect("a token")
    };
    let clock = Instant::now();
    let mut token = forward(&prompt(), 0);
    let read = PROMPT as f64 / clock.elapsed().as_secs_f64();
    let clock = Instant::now();
    for i in 0..TOKENS {
        token = forward(&[token], PROMPT + i);
    }
    (read, TOKENS as f64 / clock.elapsed().as_secs_f64())
}

fn median(values: impl Iterator<Item = f64>) -> (f64, f64, f64) {
    let mut values: Vec<f64> = values.collect();
    values.sort_by(f64::total_cmp);
    (values[values.len() / 2], values[0], values[values.len() - 1])
}

fn main() {
    let threads = tallow::device::default_threads();
    // The way to give candle the same threads: its pool reads the variable once, before its first use.
    if std::env::var_os("RAYON_NUM_THREADS").is_none() {
        println!("set RAYON_NUM_THREADS={threads} to give candle exactly as many threads as tallow takes");
    }
    let model = Model::load_with(FILE, &LoadOptions { threads: Some(threads), ..LoadOptions::default() });
    let model = model.expect("the default model loads");
    println!("SmolLM2-135M Q4_1, {threads} threads, kernels {}, prompt {PROMPT}, {TOKENS} tokens", model.info().kernels);
    let (mut ours, mut theirs) = (Vec::new(), Vec::new());
    tallow_run(&model);
    for pair in 0..PAIRS {
        if pair % 2 == 0 {
            ours.push(tallow_run(&model));
            theirs.push(candle_run());
        } else {
            theirs.push(candle_run());
            ours.push(tallow_run(&model));
        }
    }
    for (name, pick) in [("prefill", (|r: &Rates| r.0) as fn(&Rates) -> f64), ("decode", |r| r.1)] {
        let (a, a0, a1) = median(ours.iter().map(pick));
        let (b, b0, b1) = median(theirs.iter().map(pick));
        let ratio = median(ours.iter().zip(&theirs).map(|(a, b)| pick(a) / pick(b))).0;
        println!("{name:8} tallow {a:8.1} t/s ({a0:.1}-{a1:.1})   candle {b:8.1} t/s ({b0:.1}-{b1:.1})   ratio {ratio:.2}");
    }
}
