//! Forwards without caches: what each position's hidden state is, alone and in any batch.
//!
//! Tolerance of tests/golden: |difference| <= 2e-4 + 1e-4 |expected|.

use super::*;
use crate::device::DeviceChoice;
use crate::load::{self, Checkpoint, Loaded};
use crate::nn::CacheType;
use crate::options::LoadOptions;
use serde_json::Value;
use std::path::{Path, PathBuf};

fn golden(case: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden").join(case)
}

fn expected(case: &str) -> Value {
    serde_json::from_str(&std::fs::read_to_string(golden(case).join("expected.json")).unwrap()).unwrap()
}

fn loaded(case: &str, device: DeviceChoice, threads: usize) -> Loaded {
    let options = LoadOptions { device, threads: Some(threads), cache_type: CacheType::F32, ..LoadOptions::default() };
    let checkpoint: Checkpoint = load::Checkpoint::open(golden(case).to_str().unwrap()).unwrap();
    checkpoint.load(&options).unwrap()
}

fn ids(value: &Value) -> Vec<u32> {
    value.as_array().unwrap().iter().map(|id| id.as_u64().unwrap() as u32).collect()
}

fn floats(value: &Value) -> Vec<f32> {
    value.as_array().unwrap().iter().map(|x| x.as_f64().unwrap() as f32).collect()
}

/// Hidden states of every position of every text, read in one batch.
fn packed(network: &dyn Forward, texts: &[Vec<u32>]) -> Vec<Vec<f32>> {
    let tokens = texts.concat();
    let starts = texts.iter().scan(0, |at, text| Some(std::mem::replace(at, *at + text.len()))).collect();
    let mut out = Vec::new();
    let outputs = (0..tokens.len()).collect();
    network.hidden(&Batch { tokens, starts, outputs }, &mut [], &mut out).unwrap();
    let mut rest = out.as_slice();
    let rows = texts.iter().map(|text| rest.split_off(..text.len() * network.spec().dim).unwrap().to_vec()).collect();
    assert!(rest.is_empty());
    rows
}

fn bits(x: &[f32]) -> Vec<u32> {
    x.iter().map(|x| x.to_bits()).collect()
}

fn assert_close(what: &str, got: &[f32], expected: &[f32]) {
    assert_eq!(got.len(), expected.len(), "{what}");
    for (i, (got, expected)) in got.iter().zip(expected).enumerate() {
        assert!((got - expected).abs() <= 2e-4 + 1e-4 * expected.abs(), "{what}: value {i} is {got}, expected {expected}");
    }
}

const DECODERS: [&str; 12] = [
    "llama-gqa-tied",
    "llama3-rope-scaling",
    "mistral-window8",
    "gemma2",
    "gemma3-text",
    "gpt2-hub",
    "qwen3",
    "phi3",
    "phi3-longrope",
    "mixtral",
    "olmo2",
    "smollm3",
];

#[test]
fn decoders_without_a_cache_give_the_hidden_states_of_transformers() {
    for case in DECODERS {
        let prompts = expected(case)["prompts"].as_array().unwrap().clone();
        let texts: Vec<Vec<u32>> = prompts.iter().map(|prompt| ids(&prompt["input_ids"])).collect();
        for device in [DeviceChoice::Cpu, DeviceChoice::CpuReference] {
            let model = loaded(case, device, 2);
            let dim = model.network.spec().dim;
            for (prompt, rows) in prompts.iter().zip(packed(&*model.network, &texts)) {
                let what = format!("{case} on {device}, {}", prompt["name"]);
                assert_close(&what, &rows[rows.len() - dim..], &floats(&prompt["last_hidden"]));
                let count = (rows.len() / dim) as f32;
                let mean: Vec<f32> = (0..dim).map(|d| rows.iter().skip(d).step_by(dim).sum::<f32>() / count).collect();
                assert_close(&what, &mean, &floats(&prompt["mean_hidden"]));
            }
        }
    }
}

#[test]
fn a_text_has_the_same_bits_alone_in_a_batch_with_a_cache_and_on_any_number_of_threads() {
    for case in DECODERS {
        let prompts = expected(case)["prompts"].as_array().unwrap().clone();
        let mut texts: Vec<Vec<u32>> = prompts.iter().map(|prompt| ids(&prompt["input_ids"])).collect();
        texts.push(texts[0][..1].to_vec());
        texts.insert(1, Vec::new());
        let model = loaded(case, DeviceChoice::Cpu, 1);
        let network = &*model.network;
        let together = packed(network, &texts);
        for threads in [2, 5] {
            let other = loaded(case, DeviceChoice::Cpu, threads);
            let rows = packed(&*other.network, &texts);
            assert!(rows.iter().zip(&together).all(|(a, b)| bits(a) == bits(b)), "{case} on {threads} threads");
        }
        for (text, rows) in texts.iter().zip(&together).filter(|(text, _)| !text.is_empty()) {
            assert_eq!(bits(&packed(network, std::slice::from_ref(text))[0]), bits(rows), "{case} alone");
            let mut cache = network.cache(text.len()).unwrap();
            let mut out = Vec::new();
            let batch = Batch { tokens: text.clone(), starts: vec![0], outputs: (0..text.len()).collect() };
            network.hidden(&batch, &mut [&mut cache], &mut out).unwrap();
            assert_eq!(bits(&out), bits(rows), "{case} with a cache");
        }
    }
}

#[test]
fn a_batch_that_does_not_fit_together_is_an_error() {
    let model = loaded("llama-gqa-tied", DeviceChoice::Cpu, 1);
    let hidden = |tokens: &[u32], starts: &[usize], outputs: &[usize]| {
        let batch = Batch { tokens: tokens.to_vec(), starts: starts.to_vec(), outputs: outputs.to_vec() };
        model.network.hidden(&batch, &mut [], &mut Vec::new())
    };
    hidden(&[1, 2, 3], &[0, 2], &[2]).unwrap();
    for (starts, outputs) in [(&[1, 2][..], &[][..]), (&[0, 2, 1], &[]), (&[0, 4], &[]), (&[], &[]), (&[0], &[3])] {
        assert!(matches!(hidden(&[1, 2, 3], starts, outputs), Err(crate::Error::Input(_))), "{starts:?} {outputs:?}");
    }
    let context = model.network.spec().context;
    let long = hidden(&vec![1; context + 1], &[0], &[]).unwrap_err().to_string();
    assert!(long.contains(&format!("{} tokens wanted, the context holds {context}", context + 1)), "{long}");
}
