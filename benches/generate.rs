//! Whole generation against candle-transformers on the same files, and a batch of eight texts against one.
//!
//! `RAYON_NUM_THREADS=2 cargo bench --bench generate -- [MODEL...]`: GGUF files of the architectures llama and gemma3, and folders of Llama
//! in safetensors; the default model if none is named. Both read the same files on the same number of threads; the runs alternate
//! A B B A, so that a machine that speeds up or slows down meets both alike. Prints medians, spreads and the ratio. Of a folder candle runs
//! float32 and bfloat16 in turn. criterion, which times the kernels, would run one after the other.

use candle_core::{DType, Device, Result, Tensor, quantized::gguf_file};
use candle_nn::VarBuilder;
use candle_transformers::models::{llama, quantized_gemma3, quantized_llama};
use std::path::Path;
use std::time::Instant;
use tallow::{GenerateOptions, LoadOptions, Model, SampleOptions};

const PROMPT: usize = 128;
const TOKENS: usize = 32;
const PAIRS: usize = 5;
const BATCH: usize = 8;
const FILE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/models/SmolLM2-135M-Instruct.Q4_1.gguf");

/// Tokens per second of one run: (prompt, decode).
type Rates = (f64, f64);
/// A model of candle's: the logits after some tokens at a position. A run from position 0 begins anew.
type Peer = Box<dyn FnMut(&[u32], usize) -> Result<Tensor>>;

fn prompt() -> Vec<u32> {
    (0..PROMPT as u32).map(|i| 1000 + i * 37 % 40_000).collect()
}

fn options(tokens: usize) -> GenerateOptions {
    let sampling = SampleOptions { temperature: 0.0, ..SampleOptions::default() };
    GenerateOptions { sampling, max_tokens: Some(tokens), ignore_eos: true, ..GenerateOptions::default() }
}

fn tallow_run(model: &Model) -> Rates {
    let mut session = model.session().expect("a session");
    let mut run = session.generate_tokens(&prompt(), &options(TOKENS + 1)).expect("the prompt is read");
    run.next().expect("a first token").expect("a first token");
    let clock = Instant::now();
    run.by_ref().for_each(|piece| drop(piece.expect("a token")));
    let decode = TOKENS as f64 / clock.elapsed().as_secs_f64();
    (PROMPT as f64 / run.usage().prompt_time.as_secs_f64(), decode)
}

/// Tokens per second of `texts` texts that are written together.
fn batch_run(model: &Model, texts: usize) -> f64 {
    let mut batch = model.generate_batch();
    for _ in 0..texts {
        batch.join("The lighthouse keeper said that", &options(TOKENS + 1)).expect("the prompt is read");
    }
    batch.step().expect("the first tokens");
    let clock = Instant::now();
    while batch.running() > 0 {
        batch.step().expect("tokens");
    }
    (texts * TOKENS) as f64 / clock.elapsed().as_secs_f64()
}

fn gguf(path: &str) -> Peer {
    let mut file = std::fs::File::open(path).expect("the model");
    let content = gguf_file::Content::read(&mut file).expect("a GGUF file");
    let architecture = content.metadata["general.architecture"].to_string().expect("a name").clone();
    if architecture == "gemma3" {
        let mut model = quantized_gemma3::ModelWeights::from_gguf(content, &mut file, &Device::Cpu).expect("candle loads it");
        return Box::new(move |tokens, at| model.forward(&input(tokens)?, at));
    }
    assert_eq!(architecture, "llama", "this bench runs candle's Llama and Gemma 3");
    let mut model = quantized_llama::ModelWeights::from_gguf(content, &mut file, &Device::Cpu).expect("candle loads it");
    Box::new(move |tokens, at| model.forward(&input(tokens)?, at))
}

fn folder(path: &str, dtype: DType) -> Peer {
    let config = std::fs::read(Path::new(path).join("config.json")).expect("config.json");
    let config: llama::LlamaConfig = serde_json::from_slice(&config).expect("a configuration of Llama");
    let config = config.into_config(false);
    let tensors = candle_core::safetensors::load(Path::new(path).join("model.safetensors"), &Device::Cpu).expect("tensors");
    let model = llama::Llama::load(VarBuilder::from_tensors(tensors, dtype, &Device::Cpu), &config).expect("candle loads it");
    let mut cache = None;
    Box::new(move |tokens, at| {
        if at == 0 {
            cache = Some(llama::Cache::new(true, dtype, &config, &Device::Cpu)?);
        }
        model.forward(&input(tokens)?, at, cache.as_mut().expect("a run begins at 0"))
    })
}

fn input(tokens: &[u32]) -> Result<Tensor> {
    Tensor::new(tokens, &Device::Cpu)?.unsqueeze(0)
}

fn candle_run(model: &mut Peer) -> Rates {
    let mut forward = |tokens: &[u32], at: usize| -> u32 {
        let logits = model(tokens, at).and_then(|logits| logits.flatten_all()).expect("candle's forward");
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

/// The middle value, the least and the largest.
fn median(values: impl Iterator<Item = f64>) -> (f64, f64, f64) {
    let mut values: Vec<f64> = values.collect();
    values.sort_by(f64::total_cmp);
    (values[values.len() / 2], values[0], values[values.len() - 1])
}

/// Runs both in turn, A B B A.
fn in_turn<A, B>(mut ours: impl FnMut() -> A, mut theirs: impl FnMut() -> B) -> (Vec<A>, Vec<B>) {
    let (mut a, mut b) = (Vec::new(), Vec::new());
    for pair in 0..PAIRS {
        if pair % 2 == 0 {
            a.push(ours());
            b.push(theirs());
        } else {
            b.push(theirs());
            a.push(ours());
        }
    }
    (a, b)
}

fn row(what: &str, names: [&str; 2], ours: &[f64], theirs: &[f64]) {
    let (a, a0, a1) = median(ours.iter().copied());
    let (b, b0, b1) = median(theirs.iter().copied());
    let ratio = median(ours.iter().zip(theirs).map(|(a, b)| a / b)).0;
    let [us, them] = names;
    println!("{what:8} {us} {a:8.1} t/s ({a0:.1}-{a1:.1})   {them} {b:8.1} t/s ({b0:.1}-{b1:.1})   ratio {ratio:.2}");
}

fn compare(model: &Model, name: &str, mut peer: Peer) {
    tallow_run(model);
    candle_run(&mut peer);
    let (ours, theirs) = in_turn(|| tallow_run(model), || candle_run(&mut peer));
    for (what, pick) in [("prefill", (|r: &Rates| r.0) as fn(&Rates) -> f64), ("decode", |r| r.1)] {
        let rates = |runs: &[Rates]| runs.iter().map(pick).collect::<Vec<_>>();
        row(what, ["tallow", name], &rates(&ours), &rates(&theirs));
    }
}

fn main() {
    let threads = tallow::device::default_threads();
    // The way to give candle the same threads: its pool reads the variable once, before its first use.
    if std::env::var_os("RAYON_NUM_THREADS").is_none() {
        println!("set RAYON_NUM_THREADS={threads} to give candle exactly as many threads as tallow takes");
    }
    let named: Vec<String> = std::env::args().skip(1).filter(|argument| !argument.starts_with("--")).collect();
    for path in if named.is_empty() { vec![FILE.to_string()] } else { named } {
        let model = Model::load_with(&path, &LoadOptions { threads: Some(threads), ..LoadOptions::default() });
        let model = model.expect("the model loads");
        let name = Path::new(&path).file_name().unwrap_or_default().display().to_string();
        println!("{name}, {threads} threads, kernels {}, prompt {PROMPT}, {TOKENS} tokens", model.info().kernels);
        if Path::new(&path).is_dir() {
            compare(&model, "candle f32", folder(&path, DType::F32));
            compare(&model, "candle bf16", folder(&path, DType::BF16));
        } else {
            compare(&model, "candle", gguf(&path));
        }
        let (many, one) = in_turn(|| batch_run(&model, BATCH), || batch_run(&model, 1));
        row("batch", ["eight", "one"], &many, &one);
    }
}
