//! Forwards without caches: what each position's hidden state is, alone and in any batch.
//!
//! Tolerance of tests/golden: |difference| <= 2e-4 + 1e-4 |expected|.

mod forks;

use super::*;
use crate::backend::CacheType;
use crate::backend::{Input, InputRow};
use crate::checkpoint::{self, Checkpoint, Loaded};
use crate::device::DeviceChoice;
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
    let checkpoint: Checkpoint = checkpoint::Checkpoint::open(golden(case).to_str().unwrap()).unwrap();
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
    network.hidden(&Batch { tokens, starts, outputs, ..Batch::default() }, &mut [], &mut out).unwrap();
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
            let batch = Batch { tokens: text.clone(), starts: vec![0], outputs: (0..text.len()).collect(), ..Batch::default() };
            network.hidden(&batch, &mut [&mut cache], &mut out).unwrap();
            assert_eq!(bits(&out), bits(rows), "{case} with a cache");
        }
    }
}

#[test]
fn a_batch_that_does_not_fit_together_is_an_error() {
    let model = loaded("llama-gqa-tied", DeviceChoice::Cpu, 1);
    let hidden = |tokens: &[u32], starts: &[usize], outputs: &[usize]| {
        let batch = Batch { tokens: tokens.to_vec(), starts: starts.to_vec(), outputs: outputs.to_vec(), ..Batch::default() };
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

/// The folders whose vectors sentence-transformers computed.
fn embedders() -> Vec<(String, Value)> {
    let mut cases: Vec<String> =
        std::fs::read_dir(golden("")).unwrap().map(|e| e.unwrap().file_name().into_string().unwrap()).collect();
    cases.sort();
    let read = |case: String| {
        let found = golden(&case).join("expected.json").exists();
        found.then(|| expected(&case)).filter(|expected| expected["kind"] == "embedder").map(|expected| (case, expected))
    };
    let cases: Vec<_> = cases.into_iter().filter_map(read).collect();
    assert!(!cases.is_empty());
    cases
}

/// The token ids of each text, cut as sentence-transformers cut them.
fn cut_texts(expected: &Value) -> Vec<Vec<u32>> {
    let masks = expected["attention_mask"].as_array().unwrap();
    let cut = |(row, mask): (&Value, &Value)| {
        let mask = ids(mask);
        ids(row).into_iter().zip(mask).filter(|(_, seen)| *seen == 1).map(|(id, _)| id).collect()
    };
    expected["input_ids"].as_array().unwrap().iter().zip(masks).map(cut).collect()
}

fn pooled(expected: &Value, rows: &[f32], dim: usize) -> Vec<f32> {
    let mut vector: Vec<f32> = match expected["pooling"].as_str().unwrap() {
        "mean_tokens" => (0..dim).map(|d| rows.iter().skip(d).step_by(dim).sum::<f32>() / (rows.len() / dim) as f32).collect(),
        "cls_token" => rows[..dim].to_vec(),
        "lasttoken" => rows[rows.len() - dim..].to_vec(),
        other => panic!("pooling {other}"),
    };
    if expected["normalize"] == true {
        let norm = vector.iter().map(|x| x * x).sum::<f32>().sqrt();
        vector.iter_mut().for_each(|x| *x /= norm);
    }
    vector
}

/// Vectors of length 1 within 2e-6, others within 5e-6 of the largest number; quantised weights on the host, whose activations
/// are rounded too, within 1e-2 of what sentence-transformers gives with activations rounded so.
#[test]
fn embedders_give_the_vectors_of_sentence_transformers() {
    for (case, expected) in embedders() {
        let texts = cut_texts(&expected);
        for device in [DeviceChoice::Cpu, DeviceChoice::CpuReference] {
            let model = loaded(&case, device, 2);
            let rounded = model.info.quantisation.is_quantised() && device == DeviceChoice::Cpu;
            let (field, limit) = if rounded { ("embeddings_q8_activations", 1e-2) } else { ("embeddings", 2e-6) };
            let dim = model.network.spec().dim;
            let rows = packed(&*model.network, &texts);
            if !rounded {
                let first: Vec<f32> = expected["token_embeddings_0"].as_array().unwrap().iter().flat_map(floats).collect();
                let worst = rows[0].iter().zip(&first).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max);
                assert!(worst < 2e-5 && rows[0].len() == first.len(), "{case} on {device}: hidden states differ by {worst}");
            }
            for (i, (rows, wanted)) in rows.iter().zip(expected[field].as_array().unwrap()).enumerate() {
                let wanted = floats(wanted);
                let limit = limit * wanted.iter().fold(0.4f32, |most, x| most.max(x.abs())) / 0.4;
                let got = pooled(&expected, rows, dim);
                let worst = got.iter().zip(&wanted).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max);
                assert!(
                    worst <= limit && got.len() == wanted.len(),
                    "{case} on {device}: text {i} differs by {worst}, limit {limit}"
                );
            }
        }
    }
}

#[test]
fn a_text_has_the_same_vectors_alone_and_in_any_batch() {
    for (case, expected) in embedders() {
        let mut texts = cut_texts(&expected);
        texts.push(texts[0][..1].to_vec());
        let model = loaded(&case, DeviceChoice::Cpu, 1);
        let together = packed(&*model.network, &texts);
        let other = packed(&*loaded(&case, DeviceChoice::Cpu, 3).network, &texts);
        assert!(other.iter().zip(&together).all(|(a, b)| bits(a) == bits(b)), "{case} on three threads");
        texts.reverse();
        for (text, rows) in texts.iter().rev().zip(&together) {
            assert_eq!(bits(&packed(&*model.network, std::slice::from_ref(text))[0]), bits(rows), "{case} alone");
        }
        let reversed = packed(&*model.network, &texts);
        assert!(reversed.iter().rev().zip(&together).all(|(a, b)| bits(a) == bits(b)), "{case} in another order");
    }
}

#[test]
fn only_the_wanted_rows_come_back() {
    let model = loaded("bert-mean", DeviceChoice::Cpu, 2);
    let (texts, dim) = (vec![vec![2, 87, 76, 3], vec![2, 3]], model.network.spec().dim);
    let all = packed(&*model.network, &texts);
    let batch = Batch { tokens: texts.concat(), starts: vec![0, 4], outputs: vec![0, 4], ..Batch::default() };
    let mut out = Vec::new();
    model.network.hidden(&batch, &mut [], &mut out).unwrap();
    assert_eq!(bits(&out), [bits(&all[0][..dim]), bits(&all[1][..dim])].concat());
}

#[test]
fn an_encoder_that_is_to_generate_says_what_it_is_for() {
    let model = loaded("bert-mean", DeviceChoice::Cpu, 1);
    let batch = Batch::last(&[2, 3]);
    let cache = model.network.cache(16).err().unwrap();
    let logits = model.network.logits(&batch, &mut [], &mut Vec::new()).unwrap_err();
    let mut foreign = crate::backend::KvCache::new(Vec::new(), 16);
    let hidden = model.network.hidden(&batch, &mut [&mut foreign], &mut Vec::new()).unwrap_err();
    for error in [cache, logits, hidden] {
        assert!(matches!(error, crate::Error::Unsupported { .. }));
        assert!(error.to_string().contains("an encoder") && error.to_string().contains("`Embedder`"), "{error}");
    }
}

#[test]
fn rows_that_are_the_embeddings_of_tokens_give_the_same_bits_as_the_tokens() {
    let cases = [
        ("llama-gqa-tied", "model.embed_tokens.weight"),
        ("gpt2-hub", "wte.weight"),
        ("gemma3-text", "model.embed_tokens.weight"),
    ];
    for (case, table) in cases {
        for device in [DeviceChoice::Cpu, DeviceChoice::CpuReference] {
            let network = loaded(case, device, 2).network;
            let spec = network.spec();
            let mut weights = crate::tensors::safetensors::open(golden(case)).unwrap();
            let table = weights.take(table, &[spec.vocab, spec.dim]).unwrap();
            let row = |token: u32| {
                let mut values = vec![0.0; spec.dim];
                table.row_to_f32(token as usize, &mut values);
                values.iter_mut().for_each(|value| *value *= spec.scale.embed as f32);
                InputRow::new(values)
            };
            // Rows at the beginning, in the middle of a text, alone and side by side.
            let texts: [&[u32]; 2] = [&[5, 60, 61, 62, 7, 63], &[70, 8]];
            let read = |is_row: &dyn Fn(u32) -> bool| {
                let (mut batch, mut out) = (Batch::default(), Vec::new());
                for text in texts {
                    batch.begin();
                    for token in text {
                        let input = if is_row(*token) { Input::Row(row(*token)) } else { Input::Token(*token) };
                        batch.push(&input, true);
                    }
                }
                let mut caches = [network.cache(16).unwrap(), network.cache(16).unwrap()];
                let [a, b] = &mut caches;
                network.logits(&batch, &mut [a, b], &mut out).unwrap();
                out
            };
            let tokens = read(&|_| false);
            assert_eq!(tokens.len(), 8 * spec.vocab);
            assert_eq!(bits(&read(&|token| token >= 60)), bits(&tokens), "{case} on {device}");
        }
    }
}

#[test]
fn rows_of_another_width_and_rows_beyond_the_batch_are_errors() {
    let network = loaded("llama-gqa-tied", DeviceChoice::Cpu, 1).network;
    let dim = network.spec().dim;
    let row = |width: usize| InputRow::new(vec![1.0; width]);
    for given in [vec![(0, row(dim - 1))], vec![(3, row(dim))], vec![(1, row(dim)), (0, row(dim))]] {
        let batch = Batch { given, ..Batch::last(&[1, 2, 3]) };
        let error = network.hidden(&batch, &mut [], &mut Vec::new()).unwrap_err().to_string();
        assert!(error.contains(&format!("must have {dim} numbers")), "{error}");
    }
}
