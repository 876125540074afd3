//! Every case in `tests/golden` against the values that transformers computed for it: logits, greedy tokens and text. The hidden
//! states of the embedders among them are compared in `src/model/tests.rs`.
//!
//! Tolerance: weights in any float type, |difference| <= 2e-4 + 1e-4 |expected| (tests/golden/README.md says how far
//! float32 itself is from float64). Quantised matrices: on `cpu-reference`, which widens them to f32, the same; on the CPU
//! path, which rounds activations to int8, 0.05 to the logits that transformers gives with activations rounded so.

use serde_json::Value;
use std::path::{Path, PathBuf};
use tallow::{CacheType, Checkpoint, DeviceChoice, DoneReason, GenerateOptions, LoadOptions, Message, Model, SampleOptions};

/// The folders of one kind, each with its expected values.
fn cases(kind: &str) -> Vec<(PathBuf, Value)> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden");
    let mut folders: Vec<_> = std::fs::read_dir(root).unwrap().map(|entry| entry.unwrap().path()).collect();
    folders.sort();
    let read = |folder: PathBuf| {
        let text = std::fs::read_to_string(folder.join("expected.json")).ok()?;
        let expected: Value = serde_json::from_str(&text).unwrap();
        Some((folder, expected))
    };
    let cases: Vec<_> = folders.into_iter().filter_map(read).filter(|(_, e)| e["kind"] == kind).collect();
    assert!(!cases.is_empty(), "no case of kind {kind}");
    cases
}

fn load(folder: &Path, device: DeviceChoice, threads: usize) -> Model {
    load_with(folder, device, threads, CacheType::F32)
}

fn load_with(folder: &Path, device: DeviceChoice, threads: usize, cache_type: CacheType) -> Model {
    let options = LoadOptions { device, threads: Some(threads), cache_type, ..LoadOptions::default() };
    Model::load_with(folder.to_str().unwrap(), &options).unwrap()
}

/// Every type that a cache on the CPU can have.
const CACHES: [CacheType; 3] = [CacheType::F32, CacheType::F16, CacheType::Q8_0];

fn ids(value: &Value) -> Vec<u32> {
    value.as_array().unwrap().iter().map(|id| id.as_u64().unwrap() as u32).collect()
}

fn floats(value: &Value) -> Vec<f32> {
    value.as_array().unwrap().iter().map(|x| x.as_f64().unwrap() as f32).collect()
}

fn assert_close(what: &str, got: &[f32], expected: &[f32], absolute: f32, relative: f32) {
    assert_eq!(got.len(), expected.len(), "{what}: number of values");
    for (i, (got, expected)) in got.iter().zip(expected).enumerate() {
        let limit = absolute + relative * expected.abs();
        assert!((got - expected).abs() <= limit, "{what}: value {i} is {got}, expected {expected}");
    }
}

fn greedy(tokens: usize, ignore_eos: bool) -> GenerateOptions {
    GenerateOptions { sampling: SampleOptions::greedy(), max_tokens: Some(tokens), ignore_eos, ..GenerateOptions::default() }
}

/// Tokens and text of a greedy continuation, and whether an end token ended it.
fn continuation(model: &Model, prompt: &[u32], options: &GenerateOptions) -> (Vec<u32>, String, bool) {
    let mut session = model.session().unwrap();
    let mut run = session.generate_tokens(prompt, options).unwrap();
    let text = run.text().unwrap();
    (run.tokens().to_vec(), text, run.done_reason() == Some(DoneReason::Stop))
}

/// The tokens `got` give the text that transformers has of them alone, and `text` is what they add to that of the prompt.
fn check_text(model: &Model, prompt: &[u32], got: &[u32], text: &str, expected: &Value, what: &str) {
    let decoded = |ids: &[u32]| model.tokenizer().decode(ids, true).unwrap();
    assert_eq!(decoded(got), expected.as_str().unwrap(), "{what}: greedy text");
    let whole = decoded(&[prompt, got].concat());
    // Bytes that make no character are decoded run by run, and a run may begin in the prompt.
    if !whole.contains(char::REPLACEMENT_CHARACTER) {
        assert_eq!(format!("{}{text}", decoded(prompt)), whole, "{what}: the prompt and what follows it are one text");
    }
}

fn check_float_case(folder: &Path, expected: &Value, device: DeviceChoice) {
    let model = load(folder, device, 2);
    for prompt in expected["prompts"].as_array().unwrap() {
        let what = format!("{} on {device}, prompt {}", folder.display(), prompt["name"]);
        let tokens = ids(&prompt["input_ids"]);
        if let Some(rows) = prompt["logits"].as_array() {
            let all: Vec<f32> = rows.iter().flat_map(floats).collect();
            assert_close(&what, &model.logits(&tokens, true).unwrap(), &all, 2e-4, 1e-4);
        }
        assert_close(&what, &model.logits(&tokens, false).unwrap(), &floats(&prompt["last_logits"]), 2e-4, 1e-4);

        let expected_ids = ids(&prompt["greedy_ids"]);
        let (got, text, _) = continuation(&model, &tokens, &greedy(expected_ids.len(), true));
        assert_eq!(got, expected_ids, "{what}: greedy tokens");
        check_text(&model, &tokens, &got, &text, &prompt["greedy_text"], &what);

        let mut generated = ids(&prompt["generate_ids"]);
        let ends = ids(&expected["eos_token_ids"]);
        let stopped = generated.last().is_some_and(|last| ends.contains(last));
        generated.truncate(generated.len() - usize::from(stopped));
        let (got, _, stop) = continuation(&model, &tokens, &greedy(24, false));
        assert_eq!((got, stop), (generated, stopped), "{what}: tokens up to an end token");
    }
}

#[test]
fn float_checkpoints_give_the_logits_and_greedy_text_of_transformers() {
    for (folder, expected) in cases("causal") {
        check_float_case(&folder, &expected, DeviceChoice::Cpu);
    }
}

#[test]
fn candle_ops_give_the_logits_and_greedy_text_of_transformers() {
    for kind in ["causal", "gguf"] {
        for (folder, expected) in cases(kind) {
            check_float_case(&folder, &expected, DeviceChoice::CpuReference);
        }
    }
}

#[test]
fn gguf_files_give_the_logits_of_transformers_with_activations_rounded_alike() {
    for (folder, expected) in cases("gguf") {
        let model = load(&folder, DeviceChoice::Cpu, 2);
        if !model.info().quantisation.is_quantised() {
            check_float_case(&folder, &expected, DeviceChoice::Cpu);
            continue;
        }
        for prompt in expected["prompts"].as_array().unwrap() {
            let what = format!("{}, prompt {}", folder.display(), prompt["name"]);
            let tokens = ids(&prompt["input_ids"]);
            let rounded = floats(&prompt["last_logits_q8_activations"]);
            assert_close(&what, &model.logits(&tokens, false).unwrap(), &rounded, 0.05, 0.0);
            if prompt["name"] == "short" {
                let expected_ids = ids(&prompt["greedy_ids"]);
                let (got, text, _) = continuation(&model, &tokens, &greedy(expected_ids.len(), true));
                assert_eq!(got, expected_ids, "{what}: greedy tokens");
                check_text(&model, &tokens, &got, &text, &prompt["greedy_text"], &what);
            }
        }
    }
}

#[test]
fn logits_are_bit_identical_for_any_number_of_threads() {
    for kind in ["causal", "gguf"] {
        for (folder, expected) in cases(kind) {
            let tokens = ids(&expected["prompts"][1]["input_ids"]);
            for cache in CACHES {
                let one = load_with(&folder, DeviceChoice::Cpu, 1, cache).logits(&tokens, true).unwrap();
                for threads in [2, 3, 5] {
                    let more = load_with(&folder, DeviceChoice::Cpu, threads, cache).logits(&tokens, true).unwrap();
                    assert!(one.iter().zip(&more).all(|(a, b)| a.to_bits() == b.to_bits()), "{} {cache}", folder.display());
                }
            }
        }
    }
}

#[test]
fn a_seed_gives_the_same_text_at_any_number_of_threads() {
    for (folder, expected) in cases("gguf") {
        let prompt = ids(&expected["prompts"][0]["input_ids"]);
        let options = GenerateOptions { seed: Some(7), max_tokens: Some(40), ignore_eos: true, ..GenerateOptions::default() };
        let one = continuation(&load(&folder, DeviceChoice::Cpu, 1), &prompt, &options);
        for threads in [2, 3] {
            assert_eq!(
                continuation(&load(&folder, DeviceChoice::Cpu, threads), &prompt, &options),
                one,
                "{}",
                folder.display()
            );
        }
        let other = GenerateOptions { seed: Some(8), ..options };
        assert_ne!(continuation(&load(&folder, DeviceChoice::Cpu, 1), &prompt, &other), one, "{}", folder.display());
    }
}

#[test]
fn texts_that_are_written_together_have_the_same_bits_as_alone() {
    let files = ["gguf-q4_0-bpe/model-q4_0.gguf", "gguf-gpt2-f16/model-f16.gguf", "gguf-mixtral-q4_0/model-q4_0.gguf"];
    let cases = ["llama-gqa-tied", "mistral-window8"].into_iter().chain(files);
    for (case, cache) in cases.flat_map(|case| CACHES.map(|cache| (case, cache))) {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden").join(case);
        let model = load_with(&folder, DeviceChoice::Cpu, 2, cache);
        let prompts = ["The river runs", "a", "Once upon a time there was a river, and it ran north", "1, 2, 3"];
        let options = |i: usize| GenerateOptions {
            seed: Some(i as u64),
            max_tokens: Some(12 + 5 * i),
            ignore_eos: true,
            logprobs: Some(3),
            ..GenerateOptions::default()
        };
        let mut batch = model.generate_batch();
        let mut together = vec![Vec::new(); prompts.len()];
        for (i, prompt) in prompts.iter().enumerate() {
            batch.join(prompt, &options(i)).unwrap();
            batch.step().unwrap().into_iter().for_each(|(i, piece)| together[i].push(piece.unwrap()));
        }
        while batch.running() > 0 {
            batch.step().unwrap().into_iter().for_each(|(i, piece)| together[i].push(piece.unwrap()));
        }
        for (i, prompt) in prompts.iter().enumerate() {
            let mut session = model.session().unwrap();
            let alone: Vec<_> = session.generate(prompt, &options(i)).unwrap().map(|piece| piece.unwrap()).collect();
            assert!(alone.len() >= 12 + 5 * i);
            assert_eq!(together[i], alone, "{case}, cache {cache}, {prompt:?}");
        }
    }
}

#[test]
fn a_session_that_reads_token_by_token_gives_the_same_bits_as_one_that_reads_at_once() {
    let cases = ["causal", "gguf"].into_iter().flat_map(cases);
    for (folder, expected) in cases {
        for cache in CACHES {
            let model = load_with(&folder, DeviceChoice::Cpu, 2, cache);
            let tokens = ids(&expected["prompts"][1]["input_ids"]);
            let options = GenerateOptions { logprobs: Some(3), ..greedy(4, true) };
            let pieces = |session: &mut tallow::Session, tokens: &[u32]| -> Vec<_> {
                session.generate_tokens(tokens, &options).unwrap().map(|piece| piece.unwrap().logprobs).collect()
            };
            let at_once = pieces(&mut model.session().unwrap(), &tokens);
            let mut session = model.session().unwrap();
            for token in &tokens[..tokens.len() - 1] {
                // One token read, none kept: the first piece is never asked for.
                drop(session.generate_tokens(&[*token], &options).unwrap());
            }
            let last = &tokens[tokens.len() - 1..];
            assert_eq!(pieces(&mut session.fork().unwrap(), last), at_once, "{} {cache}: a fork", folder.display());
            assert_eq!(pieces(&mut session, last), at_once, "{} {cache}", folder.display());
        }
    }
}

#[test]
fn texts_become_the_ids_of_transformers_and_ids_become_text() {
    for kind in ["causal", "gguf", "embedder"] {
        for (folder, expected) in cases(kind) {
            let checkpoint = Checkpoint::open(folder.to_str().unwrap()).unwrap();
            let tokenizer = checkpoint.tokenizer();
            for record in expected["tokenizer"].as_array().unwrap() {
                let text = record["text"].as_str().unwrap();
                let what = format!("{}: {text:?}", folder.display());
                let with_special = ids(&record["ids"]);
                assert_eq!(tokenizer.encode(text, true).unwrap(), with_special, "{what}");
                assert_eq!(tokenizer.encode(text, false).unwrap(), ids(&record["ids_no_special"]), "{what}");
                assert_eq!(tokenizer.decode(&with_special, false).unwrap(), record["decoded"].as_str().unwrap(), "{what}");
                let skipped = record["decoded_skip_special"].as_str().unwrap();
                assert_eq!(tokenizer.decode(&with_special, true).unwrap(), skipped, "{what}");
            }
            for (text, untruncated) in expected["texts"]
                .as_array()
                .into_iter()
                .flatten()
                .zip(expected["ids_untruncated"].as_array().into_iter().flatten())
            {
                assert_eq!(
                    tokenizer.encode(text.as_str().unwrap(), true).unwrap(),
                    ids(untruncated),
                    "{}: {text}",
                    folder.display()
                );
            }
            for prompt in expected["prompts"].as_array().into_iter().flatten() {
                let tokens = tokenizer.encode(prompt["text"].as_str().unwrap(), true).unwrap();
                assert_eq!(tokens, ids(&prompt["input_ids"]), "{}: {}", folder.display(), prompt["name"]);
            }
        }
    }
}

#[test]
fn chat_prompts_are_byte_equal_to_those_of_transformers() {
    let mut compared = 0;
    for (folder, expected) in cases("causal") {
        let checkpoint = Checkpoint::open(folder.to_str().unwrap()).unwrap();
        for chat in expected["chat"].as_array().unwrap() {
            let what = format!("{}: {}", folder.display(), chat["name"]);
            let messages: Vec<Message> = serde_json::from_value(chat["messages"].clone()).unwrap();
            let template = checkpoint.template().unwrap().unwrap();
            if let Some(error) = chat["error"].as_str() {
                let ours = template.render(&messages, true).unwrap_err().to_string();
                assert!(ours.contains(error), "{what}: {ours}, expected {error}");
                continue;
            }
            let text = template.render(&messages, true).unwrap();
            assert_eq!(text, chat["text"].as_str().unwrap(), "{what}");
            assert_eq!(
                template.render(&messages, false).unwrap(),
                chat["text_no_generation_prompt"].as_str().unwrap(),
                "{what}"
            );
            assert_eq!(checkpoint.tokenizer().encode(&text, false).unwrap(), ids(&chat["ids"]), "{what}");
            compared += 1;
        }
    }
    assert!(compared > 20, "only {compared} chats");
}

#[test]
fn the_spec_of_each_case_is_as_written_down() {
    let mut text = String::new();
    for kind in ["causal", "gguf", "embedder"] {
        for (folder, _) in cases(kind) {
            let checkpoint = Checkpoint::open(folder.to_str().unwrap()).unwrap();
            text.push_str(&format!("{}: {:?}\n", folder.file_name().unwrap().to_str().unwrap(), checkpoint.spec()));
        }
    }
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden/specs.txt");
    if std::env::var_os("TALLOW_BLESS").is_some() {
        std::fs::write(&file, &text).unwrap();
    }
    let expected = std::fs::read_to_string(&file).unwrap();
    for (got, expected) in text.lines().zip(expected.lines()) {
        assert_eq!(got, expected, "TALLOW_BLESS=1 writes the new specs");
    }
    assert_eq!(text.lines().count(), expected.lines().count());
}
