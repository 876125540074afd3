//! `tallow::Embedder` on real files: the hidden states that transformers computed, any batch and number of threads, and what
//! the layout of sentence-transformers says.

use ndarray::{Array2, Axis};
use serde_json::Value;
use std::path::{Path, PathBuf};
use tallow::{Cancel, DeviceChoice, EmbedOptions, Embedder, Error, LoadOptions, Pooling, Prompt, ndarray};

fn golden(case: &str) -> (PathBuf, Value) {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden").join(case);
    let expected = serde_json::from_slice(&std::fs::read(folder.join("expected.json")).unwrap()).unwrap();
    (folder, expected)
}

fn floats(value: &Value) -> Vec<f32> {
    value.as_array().unwrap().iter().map(|x| x.as_f64().unwrap() as f32).collect()
}

fn load(folder: &Path, threads: usize, options: &EmbedOptions) -> Embedder {
    on(folder, DeviceChoice::Cpu, Some(threads), options)
}

fn on(folder: &Path, device: DeviceChoice, threads: Option<usize>, options: &EmbedOptions) -> Embedder {
    let load = LoadOptions { device, threads, ..LoadOptions::default() };
    Embedder::load_with(folder.to_str().unwrap(), &load, options).unwrap()
}

fn pooled(pooling: Pooling) -> EmbedOptions {
    EmbedOptions { pooling: Some(pooling), ..EmbedOptions::default() }
}

fn assert_close(what: &str, got: &[f32], expected: &[f32], absolute: f32, relative: f32) {
    assert_eq!(got.len(), expected.len(), "{what}");
    for (i, (got, expected)) in got.iter().zip(expected).enumerate() {
        let limit = absolute + relative * expected.abs();
        assert!((got - expected).abs() <= limit, "{what}: value {i} is {got}, expected {expected}");
    }
}

const DECODERS: [&str; 8] =
    ["llama-gqa-tied", "gpt2-prefixed", "gpt2-hub", "qwen3", "mistral-window8", "gemma2", "gemma3-text", "llama-sharded-bf16"];

#[test]
fn decoders_give_the_mean_and_the_last_hidden_state_of_transformers() {
    for device in [DeviceChoice::Cpu, DeviceChoice::CpuReference] {
        for case in DECODERS {
            let (folder, expected) = golden(case);
            let embedder = on(&folder, device, None, &pooled(Pooling::Mean));
            let prompts = expected["prompts"].as_array().unwrap();
            let texts: Vec<&str> = prompts.iter().map(|prompt| prompt["text"].as_str().unwrap()).collect();
            for (pooling, key) in [(Pooling::Mean, "mean_hidden"), (Pooling::Last, "last_hidden")] {
                let all = embedder.embed_with(&texts, &pooled(pooling)).unwrap();
                for (i, prompt) in prompts.iter().enumerate() {
                    let what = format!("{case} on {device}: {key} of {}", prompt["name"]);
                    assert_eq!(all.tokens[i], prompt["input_ids"].as_array().unwrap().len(), "{what}");
                    assert_close(&what, &all.vectors.row(i).to_vec(), &floats(&prompt[key]), 2e-4, 1e-4);
                }
            }
        }
    }
}

/// Texts of very different lengths.
fn varied() -> Vec<String> {
    let words = ["lighthouse", "sea", "über", "灯台", "маяк", "🌊", "the", "keeper", "light", "\t"];
    let text = |i: usize| (0..i * i % 61).map(|j| words[(i + j * j) % words.len()]).collect::<Vec<_>>().join(" ");
    (0..60).map(text).collect()
}

/// Bit for bit, so that also zeros of either sign differ.
fn bits(vectors: &Array2<f32>) -> Vec<u32> {
    vectors.iter().map(|x| x.to_bits()).collect()
}

#[test]
fn a_vector_has_the_same_bits_alone_in_any_batch_and_on_any_number_of_threads() {
    for case in ["llama-gqa-tied", "gpt2-prefixed", "gguf-q4_0-bpe/model-q4_0.gguf"] {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden").join(case);
        let texts = varied();
        let together = bits(&load(&folder, 1, &EmbedOptions::default()).embed(&texts).unwrap());
        for threads in [1, 2, 5] {
            let embedder = load(&folder, threads, &EmbedOptions::default());
            for batch_tokens in [1, 50, 300, 16384] {
                let options = EmbedOptions { batch_tokens, ..EmbedOptions::default() };
                assert_eq!(bits(&embedder.embed_with(&texts, &options).unwrap().vectors), together, "{case}, {batch_tokens}");
            }
            let dim = embedder.dimensions();
            for (i, text) in texts.iter().enumerate() {
                assert_eq!(bits(&embedder.embed(&[text]).unwrap()), together[i * dim..(i + 1) * dim], "{case}: {text:?}");
            }
        }
    }
}

#[test]
fn ten_threads_use_one_embedder_and_each_gets_its_own_texts_vectors() {
    let (folder, _) = golden("llama-gqa-tied");
    let embedder = load(&folder, 2, &EmbedOptions::default());
    let texts = varied();
    let expected = embedder.embed(&texts).unwrap();
    std::thread::scope(|scope| {
        for thread in 0..10 {
            let (embedder, texts, expected) = (embedder.clone(), &texts, &expected);
            scope.spawn(move || {
                for round in 0..10 {
                    let from = (thread * 7 + round * 3) % texts.len();
                    let got = embedder.embed(&texts[from..]).unwrap();
                    assert_eq!(got, expected.slice(ndarray::s![from.., ..]));
                }
            });
        }
    });
}

/// `TALLOW_SOAK=60 cargo test --release --test embed soak` takes that many seconds. The memory is Linux's to tell.
#[test]
fn a_soak_of_ten_threads_on_one_embedder_leaves_the_memory_as_it_was() {
    let Some(seconds) = std::env::var("TALLOW_SOAK").ok().and_then(|text| text.parse::<u64>().ok()) else {
        eprintln!("left out: TALLOW_SOAK names no number of seconds");
        return;
    };
    let (folder, _) = golden("bert-mean");
    let embedder = load(&folder, 2, &EmbedOptions::default());
    let texts = varied();
    let expected = embedder.embed(&texts).unwrap();
    let until = |share: u64| std::time::Instant::now() + std::time::Duration::from_millis(seconds * 10 * share);
    let run = |end: std::time::Instant| {
        std::thread::scope(|scope| {
            for thread in 0..10 {
                let (embedder, texts, expected) = (embedder.clone(), &texts, &expected);
                scope.spawn(move || {
                    for round in (thread..).take_while(|_| std::time::Instant::now() < end) {
                        let from = round * 7 % texts.len();
                        assert_eq!(embedder.embed(&texts[from..]).unwrap(), expected.slice(ndarray::s![from.., ..]));
                    }
                });
            }
        });
    };
    let resident = || {
        let status = std::fs::read_to_string("/proc/self/status").ok()?;
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"))?.trim().to_owned();
        line.strip_suffix("kB")?.trim().parse::<u64>().ok()
    };
    run(until(20));
    let before = resident();
    run(until(80));
    let after = resident();
    println!("resident: {before:?} kB, then {after:?} kB");
    if let (Some(before), Some(after)) = (before, after) {
        assert!(after < before + before / 10 + 4096, "{before} kB became {after} kB");
    }
}

#[test]
fn an_embedder_crosses_threads_and_is_taken_by_reference() {
    fn shared<T: Send + Sync + Clone + 'static>(_: &T) {}
    let (folder, _) = golden("gpt2-prefixed");
    let embedder = load(&folder, 1, &EmbedOptions::default());
    shared(&embedder);
    let clone = embedder.clone();
    let there = std::thread::spawn(move || clone.embed(&["a text"]).unwrap()).join().unwrap();
    assert_eq!(there, embedder.embed(&["a text"]).unwrap());
}

#[test]
fn a_folder_without_a_layout_is_not_normalised_and_a_gguf_file_is() {
    let (folder, _) = golden("llama-gqa-tied");
    let embedder = load(&folder, 1, &EmbedOptions::default());
    assert_eq!((embedder.pooling(), embedder.normalises()), (Pooling::Mean, false));
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden/gguf-f16-bpe/model-f16.gguf");
    let embedder = load(&file, 1, &EmbedOptions::default());
    assert_eq!((embedder.pooling(), embedder.normalises()), (Pooling::Mean, true));
    let vectors = embedder.embed(&varied()).unwrap();
    for (text, row) in varied().iter().zip(vectors.axis_iter(Axis(0))) {
        let length = row.iter().map(|x| f64::from(*x).powi(2)).sum::<f64>().sqrt();
        // A text without tokens has no direction.
        let empty = embedder.tokenizer().encode(text, true).unwrap().is_empty();
        assert!((length - if empty { 0.0 } else { 1.0 }).abs() < 1e-6, "{text:?}: {length}");
    }
}

/// A folder of a test's own, removed afterwards.
struct Folder(PathBuf);

impl Folder {
    /// The files of a golden case, and others.
    fn of(case: &str, files: &[(&str, &str)]) -> Folder {
        let path = std::env::temp_dir().join(format!("tallow-embed-{}-{case}", std::process::id()));
        std::fs::create_dir_all(&path).unwrap();
        for entry in std::fs::read_dir(golden(case).0).unwrap() {
            let entry = entry.unwrap();
            std::fs::copy(entry.path(), path.join(entry.file_name())).unwrap();
        }
        for (name, text) in files {
            let file = path.join(name);
            std::fs::create_dir_all(file.parent().unwrap()).unwrap();
            std::fs::write(file, text).unwrap();
        }
        Folder(path)
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

#[test]
fn the_layout_of_sentence_transformers_decides_and_options_override_it() {
    let modules = r#"[{"path": "", "type": "sentence_transformers.models.Transformer"},
        {"path": "1_Pooling", "type": "sentence_transformers.models.Pooling"},
        {"path": "2_Normalize", "type": "sentence_transformers.models.Normalize"}]"#;
    let folder = Folder::of(
        "qwen3",
        &[
            ("modules.json", modules),
            ("1_Pooling/config.json", r#"{"pooling_mode_lasttoken": true}"#),
            ("sentence_bert_config.json", r#"{"max_seq_length": 9}"#),
            ("config_sentence_transformers.json", r#"{"prompts": {"query": "Find: ", "document": ""}}"#),
        ],
    );
    let embedder = load(&folder.0, 1, &EmbedOptions::default());
    assert_eq!((embedder.pooling(), embedder.normalises(), embedder.max_tokens()), (Pooling::Last, true, 9));
    let text = "A lighthouse keeper lights the lamp every evening, before the fog comes in.";
    let cut = embedder.embed_with(&[text], embedder.options()).unwrap();
    assert_eq!((cut.tokens[0], cut.truncated.len()), (9, 1));

    // The whole is the parts: the hidden state of the last token that is read, divided by its length.
    let options = EmbedOptions { pooling: Some(Pooling::None), normalise: Some(false), ..EmbedOptions::default() };
    let hidden = embedder.embed_with(&[text], &options).unwrap().vectors;
    let last = hidden.row(8);
    let length = last.iter().map(|x| f64::from(*x).powi(2)).sum::<f64>().sqrt();
    let expected: Vec<f32> = last.iter().map(|x| (f64::from(*x) / length) as f32).collect();
    assert_close("last", &cut.vectors.row(0).to_vec(), &expected, 1e-7, 0.0);

    let query = EmbedOptions { prompt: Prompt::Named("query".into()), ..EmbedOptions::default() };
    let with_prompt = embedder.embed_with(&["fog"], &query).unwrap().vectors;
    assert_eq!(with_prompt, embedder.embed(&["Find: fog"]).unwrap());

    let half = embedder.dimensions() / 2;
    let fewer = embedder.with(&EmbedOptions { dimensions: Some(half), ..EmbedOptions::default() }).unwrap();
    let vectors = fewer.embed(&["fog"]).unwrap();
    assert_eq!(vectors.dim(), (1, half));
    // They are the first ones of the whole vector, which is normalised; they themselves are where that is asked for.
    let whole = embedder.embed(&["fog"]).unwrap();
    assert_eq!(vectors, whole.slice(ndarray::s![.., ..half]));
    let unit = EmbedOptions { dimensions: Some(half), normalise: Some(true), ..EmbedOptions::default() };
    let unit = embedder.with(&unit).unwrap().embed(&["fog"]).unwrap();
    assert!((unit.iter().map(|x| x * x).sum::<f32>() - 1.0).abs() < 1e-6);
}

#[test]
fn a_cancelled_embedder_stops_between_batches() {
    let (folder, _) = golden("gpt2-prefixed");
    let cancel = Cancel::default();
    let embedder = load(&folder, 1, &EmbedOptions { cancel: Some(cancel.clone()), ..EmbedOptions::default() });
    let texts = std::iter::repeat_with(|| {
        cancel.cancel();
        "text"
    });
    assert!(matches!(embedder.embed_iter(texts).next(), Some(Err(Error::Cancelled))));
}

#[test]
fn a_model_that_is_missing_is_told_like_any_other() {
    assert!(matches!(Embedder::load("/no/such/model.gguf"), Err(Error::NotFound { .. })));
}

#[test]
fn an_encoder_gives_the_vectors_of_sentence_transformers() {
    let (folder, expected) = golden("bert-mean");
    let texts: Vec<&str> = expected["texts"].as_array().unwrap().iter().map(|text| text.as_str().unwrap()).collect();
    for device in [DeviceChoice::Cpu, DeviceChoice::CpuReference] {
        let embedder = on(&folder, device, None, &EmbedOptions::default());
        assert_eq!(embedder.max_tokens(), expected["max_seq_length"].as_u64().unwrap() as usize);
        assert!(embedder.normalises());
        let all = embedder.embed_with(&texts, embedder.options()).unwrap();
        for (i, row) in expected["embeddings"].as_array().unwrap().iter().enumerate() {
            let what = format!("{device}: {:?}", texts[i]);
            assert_close(&what, &all.vectors.row(i).to_vec(), &floats(row), 2e-6, 0.0);
            let mask = expected["attention_mask"][i].as_array().unwrap();
            assert_eq!(all.tokens[i] as u64, mask.iter().map(|x| x.as_u64().unwrap()).sum::<u64>(), "{what}");
        }
        let likeness = embedder.similarity(&all.vectors, &all.vectors);
        for (i, row) in expected["cosine"].as_array().unwrap().iter().enumerate() {
            assert_close(&format!("{device}: cosine"), &likeness.row(i).to_vec(), &floats(row), 5e-6, 0.0);
        }
    }
}

#[test]
fn matrices_that_are_quantised_at_load_give_nearly_the_same_vectors_with_the_same_bits_in_any_batch() {
    let (folder, _) = golden("llama-gqa-tied");
    let quantised = |threads| {
        let load = LoadOptions { quantise: Some(tallow::quant::Dtype::Q8_0), threads: Some(threads), ..LoadOptions::default() };
        Embedder::load_with(folder.to_str().unwrap(), &load, &EmbedOptions::default())
    };
    let texts = varied();
    let exact = load(&folder, 1, &EmbedOptions::default());
    let embedder = quantised(2).unwrap();
    assert!(embedder.info().bytes < exact.info().bytes);
    let (a, b) = (exact.embed(&texts).unwrap(), embedder.embed(&texts).unwrap());
    assert_ne!(a, b);
    let likeness = exact.similarity(&a, &b);
    for (i, text) in texts.iter().enumerate().filter(|(_, text)| !text.is_empty()) {
        // The golden models are random, and so more sensitive than any that was trained.
        assert!(likeness[[i, i]] > 0.98, "{text:?}: {}", likeness[[i, i]]);
        assert_eq!(bits(&quantised(1).unwrap().embed(&[text]).unwrap()), bits(&embedder.embed(&[text]).unwrap()));
    }
    assert_eq!(bits(&quantised(1).unwrap().embed(&texts).unwrap()), bits(&b));
}
