//! Vectors of 500 texts of mixed length against candle-transformers' BERT, on the same files.
//!
//! `TALLOW_MINILM=DIR RAYON_NUM_THREADS=2 cargo bench --bench embed`, where DIR is the folder of
//! sentence-transformers/all-MiniLM-L6-v2. The runs alternate A B B A. candle's side gets its tokens for nothing and its texts
//! sorted by length, in padded batches of 32; ours is the whole way from text to vector. A third row is ours with int8 weights.

use candle_core::{DType, Device, Tensor};
use candle_nn::VarBuilder;
use candle_transformers::models::bert::{BertModel, Config};
use std::path::Path;
use std::time::Instant;
use tallow::quant::Dtype;
use tallow::{EmbedOptions, Embedder, LoadOptions};

const TEXTS: usize = 500;
const PAIRS: usize = 3;
const BATCH: usize = 32;
const WORDS: &str = include_str!("../tests/golden/texts/openings.txt");

/// Texts of 2 to 150 words, most of them short.
fn texts() -> Vec<String> {
    let words: Vec<&str> = WORDS.split_whitespace().collect();
    let text = |i: usize| {
        let len = [2, 5, 8, 12, 16, 24, 32, 48, 80, 150][i * 7 % 10];
        (0..len).map(|j| words[(i * 131 + j) % words.len()]).collect::<Vec<_>>().join(" ")
    };
    (0..TEXTS).map(text).collect()
}

fn candle(folder: &Path) -> candle_core::Result<BertModel> {
    let config = std::fs::read(folder.join("config.json"))?;
    let config: Config = serde_json::from_slice(&config).expect("a configuration of BERT");
    let tensors = candle_core::safetensors::load(folder.join("model.safetensors"), &Device::Cpu)?;
    BertModel::load(VarBuilder::from_tensors(tensors, DType::F32, &Device::Cpu), &config)
}

/// Means of the last hidden states, normalised; the last batch's, so that nothing is left out as unused.
fn candle_run(model: &BertModel, tokens: &[Vec<u32>]) -> candle_core::Result<Tensor> {
    let mut last = None;
    for batch in tokens.chunks(BATCH) {
        let longest = batch.iter().map(Vec::len).max().unwrap_or(0);
        let padded: Vec<u32> = batch.iter().flat_map(|t| t.iter().copied().chain(std::iter::repeat(0)).take(longest)).collect();
        let mask: Vec<u32> = batch.iter().flat_map(|t| (0..longest).map(|i| u32::from(i < t.len()))).collect();
        let shape = (batch.len(), longest);
        let ids = Tensor::from_vec(padded, shape, &Device::Cpu)?;
        let mask = Tensor::from_vec(mask, shape, &Device::Cpu)?;
        let hidden = model.forward(&ids, &ids.zeros_like()?, Some(&mask))?;
        let mask = mask.to_dtype(DType::F32)?.unsqueeze(2)?;
        let mean = hidden.broadcast_mul(&mask)?.sum(1)?.broadcast_div(&mask.sum(1)?)?;
        last = Some(mean.broadcast_div(&mean.sqr()?.sum_keepdim(1)?.sqrt()?)?);
    }
    last.ok_or_else(|| candle_core::Error::Msg("no texts".into()))
}

fn seconds(run: impl FnOnce()) -> f64 {
    let clock = Instant::now();
    run();
    clock.elapsed().as_secs_f64()
}

fn median(mut values: Vec<f64>) -> (f64, f64, f64) {
    values.sort_by(f64::total_cmp);
    (values[values.len() / 2], values[0], values[values.len() - 1])
}

fn main() {
    let Ok(folder) = std::env::var("TALLOW_MINILM") else {
        println!("left out: TALLOW_MINILM names no folder of sentence-transformers/all-MiniLM-L6-v2");
        return;
    };
    let threads = tallow::device::default_threads();
    // The way to give candle the same threads: its pool reads the variable once, before its first use.
    if std::env::var_os("RAYON_NUM_THREADS").is_none() {
        println!("set RAYON_NUM_THREADS={threads} to give candle exactly as many threads as tallow takes");
    }
    let load = |quantise| {
        let options = LoadOptions { threads: Some(threads), quantise, ..LoadOptions::default() };
        Embedder::load_with(&folder, &options, &EmbedOptions::default()).expect("the model loads")
    };
    let (f32, int8) = (load(None), load(Some(Dtype::Q8_0)));
    let texts = texts();
    let mut tokens: Vec<Vec<u32>> =
        texts.iter().map(|text| f32.tokenizer().encode_within(text, f32.max_tokens(), false).expect("a text").0).collect();
    tokens.sort_by_key(Vec::len);
    let count: usize = tokens.iter().map(Vec::len).sum();
    println!("{TEXTS} texts, {count} tokens, {threads} threads, kernels {}", f32.info().kernels);
    let candle = candle(Path::new(&folder)).expect("candle loads the model");

    let ours = |embedder: &Embedder| seconds(|| drop(std::hint::black_box(embedder.embed(&texts).expect("vectors"))));
    let theirs = || seconds(|| drop(std::hint::black_box(candle_run(&candle, &tokens).expect("candle's vectors"))));
    ours(&f32);
    ours(&int8);
    let (mut a, mut b, mut c) = (Vec::new(), Vec::new(), Vec::new());
    for pair in 0..PAIRS {
        if pair % 2 == 0 {
            a.push(ours(&f32));
            b.push(theirs());
            c.push(ours(&int8));
        } else {
            c.push(ours(&int8));
            b.push(theirs());
            a.push(ours(&f32));
        }
    }
    let ratio = |ours: &[f64]| median(ours.iter().zip(&b).map(|(ours, theirs)| theirs / ours).collect()).0;
    let ratios = [ratio(&a), 1.0, ratio(&c)];
    for ((name, times), ratio) in [("tallow f32", a), ("candle f32", b), ("tallow q8_0", c)].into_iter().zip(ratios) {
        let (middle, least, most) = median(times);
        let rate = |count: usize| count as f64 / middle;
        println!(
            "{name:12} {:8.1} texts/s {:9.1} tokens/s   {middle:.2} s ({least:.2} to {most:.2})   {ratio:.2} x candle",
            rate(TEXTS),
            rate(count)
        );
    }
}
