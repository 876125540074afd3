//! llama.cpp as the judge: the default model and a file of each type that `llama-quantize` writes.
//!
//! `tests/golden/llama-cpp/README.md` says how the values were made. llama.cpp's own tokens are fed, and the best token is
//! compared at every step, so that a near tie does not end the comparison. Steps whose margin (the best logit less the
//! second) is below a threshold are left out. Against float32 the thresholds are that page's, 0.08 standard deviations of
//! the logits for the small files and 0.5 for the default model: what rounding activations to 8 bits may move. Against
//! llama.cpp, which rounds too and, for k-quants, in other blocks, half as much again: 0.12 and 0.75.

use serde_json::Value;
use std::path::{Path, PathBuf};
use tallow::{CacheType, GenerateOptions, LoadOptions, Model, SampleOptions};

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden/llama-cpp")
}

fn read(name: &str) -> Value {
    serde_json::from_str(&std::fs::read_to_string(folder().join(name)).unwrap()).unwrap()
}

fn load(path: &Path, cache_type: CacheType) -> Model {
    Model::load_with(path.to_str().unwrap(), &LoadOptions { cache_type, ..LoadOptions::default() }).unwrap()
}

fn default_model(cache_type: CacheType) -> Model {
    load(&Path::new(env!("CARGO_MANIFEST_DIR")).join("models/SmolLM2-135M-Instruct.Q4_1.gguf"), cache_type)
}

fn ids(value: &Value) -> Vec<u32> {
    value.as_array().unwrap().iter().map(|id| id.as_u64().unwrap() as u32).collect()
}

fn greedy(tokens: usize) -> GenerateOptions {
    GenerateOptions {
        sampling: SampleOptions::greedy(),
        max_tokens: Some(tokens),
        ignore_eos: true,
        ..GenerateOptions::default()
    }
}

/// The best id of a row; the lowest wins ties.
fn best(row: &[f32]) -> u32 {
    (0..row.len()).fold(0, |best, i| if row[i] > row[best] { i } else { best }) as u32
}

/// Compares the best token at each step of `continuation`; gives the steps that were compared and those left out.
fn compare(model: &Model, what: &str, prompt: &[u32], continuation: &Value, threshold: f64) -> (usize, usize) {
    let expected = ids(&continuation["ids"]);
    let tokens: Vec<u32> = prompt.iter().chain(&expected[..expected.len() - 1]).copied().collect();
    let logits = model.logits(&tokens, true).unwrap();
    let rows = logits.chunks_exact(model.spec().vocab).skip(prompt.len() - 1);
    let (mut compared, mut left_out) = (0, 0);
    for (step, (row, expected)) in rows.zip(&expected).enumerate() {
        let margin = continuation["margins"][step].as_f64().unwrap();
        if margin < threshold {
            left_out += 1;
            continue;
        }
        compared += 1;
        let got = best(row);
        assert_eq!(got, *expected, "{what}, step {step}: the margin is {margin}");
    }
    (compared, left_out)
}

#[test]
fn a_file_of_each_type_gives_the_tokens_of_llama_cpp() {
    let expected = read("quants.json");
    let files = expected["files"].as_array().unwrap();
    assert_eq!(files.len(), 14);
    for file in files {
        let model = load(&folder().join(file["file"].as_str().unwrap()), CacheType::F32);
        for (key, deviations) in [("llama_cpp", 0.12), ("float", 0.08)] {
            let threshold = deviations * file["logit_std"].as_f64().unwrap();
            let (mut compared, mut left_out) = (0, 0);
            for prompt in file["prompts"].as_array().unwrap() {
                let what = format!("{}, {key}, prompt {}", file["type"], prompt["name"]);
                let tokens = model.tokenizer().encode(prompt["prompt"].as_str().unwrap(), true).unwrap();
                assert_eq!(tokens, ids(&prompt["prompt_ids"]), "{what}");
                let (more, less) = compare(&model, &what, &tokens, &prompt[key], threshold);
                (compared, left_out) = (compared + more, left_out + less);
            }
            println!("{}, {key}: {compared} steps equal, {left_out} near ties left out", file["type"]);
            assert!(compared > 2 * left_out, "{}: too many near ties", file["type"]);
        }
    }
}

#[test]
fn a_file_of_each_type_gives_the_greedy_text_of_llama_cpp() {
    let expected = read("quants.json");
    for file in expected["files"].as_array().unwrap() {
        let model = load(&folder().join(file["file"].as_str().unwrap()), CacheType::F32);
        // Of the three prompts this is the one whose 24 steps hold no near tie in any file.
        let prompt = file["prompts"].as_array().unwrap().iter().find(|prompt| prompt["name"] == "short").unwrap();
        let theirs = ids(&prompt["llama_cpp"]["ids"]);
        let mut session = model.session().unwrap();
        let mut run = session.generate_tokens(&ids(&prompt["prompt_ids"]), &greedy(theirs.len())).unwrap();
        let text = run.text().unwrap();
        assert_eq!(run.tokens(), theirs, "{}", file["type"]);
        assert_eq!(text, model.tokenizer().decode(&theirs, true).unwrap(), "{}", file["type"]);
        let spelt = model.tokenizer().decode(&theirs, false).unwrap();
        assert_eq!(spelt, prompt["llama_cpp"]["text"].as_str().unwrap(), "{}", file["type"]);
    }
}

#[test]
fn the_default_model_gives_the_tokens_of_llama_cpp_on_fourteen_prompts() {
    let expected = read("default_model.json");
    let keys = [(CacheType::F16, "cache_f16", 0.75), (CacheType::F32, "cache_f32", 0.75), (CacheType::F32, "float", 0.5)];
    for (cache_type, key, threshold) in keys {
        let model = default_model(cache_type);
        let (mut compared, mut left_out) = (0, 0);
        for prompt in expected["prompts"].as_array().unwrap() {
            let what = format!("{key}, prompt {}", prompt["name"]);
            let tokens = model.tokenizer().encode(prompt["prompt"].as_str().unwrap(), true).unwrap();
            assert_eq!(tokens, ids(&prompt["prompt_ids"]), "{what}");
            let (more, less) = compare(&model, &what, &tokens, &prompt[key], threshold);
            (compared, left_out) = (compared + more, left_out + less);
        }
        println!("{key}: {compared} steps equal, {left_out} near ties left out");
        assert!(compared > 450);
    }
}

#[test]
fn greedy_text_of_the_default_model_is_llama_cpps_up_to_the_first_near_tie() {
    let expected = read("default_model.json");
    let model = default_model(CacheType::F16);
    let options = greedy(48);
    for prompt in expected["prompts"].as_array().unwrap() {
        let mut session = model.session().unwrap();
        let mut run = session.generate_tokens(&ids(&prompt["prompt_ids"]), &options).unwrap();
        run.text().unwrap();
        let theirs = ids(&prompt["cache_f16"]["ids"]);
        let first = run.tokens().iter().zip(&theirs).position(|(a, b)| a != b);
        println!("{}: first difference {first:?}", prompt["name"]);
        if let Some(step) = first {
            let margin = prompt["cache_f16"]["margins"][step].as_f64().unwrap();
            assert!(margin < 0.5, "{}, step {step}: llama.cpp's margin is {margin}", prompt["name"]);
        }
    }
}

#[test]
fn perplexity_of_the_default_model_is_within_one_percent_of_llama_cpps() {
    let expected = read("perplexity.json");
    let text = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden/texts/openings.txt");
    let text = std::fs::read_to_string(text).unwrap();
    let text = text.trim_end_matches('\n');
    let theirs = expected["cache_f16"]["ppl"].as_f64().unwrap();
    let ours = default_model(CacheType::Auto).perplexity(text, 512, |_, _, _| ()).unwrap().value();
    println!("tallow {ours:.4}, llama.cpp {theirs:.4}, float32 {}", expected["float"]["ppl"]);
    assert!((ours / theirs - 1.0).abs() < 0.01, "tallow {ours:.4}, llama.cpp {theirs:.4}");
}
