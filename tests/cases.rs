//! Small inputs of the field's bug reports, a folder of `tests/cases` each: what transformers
//! 4.57.1 and 5.24.0 and sentence-transformers 6.2.0 make of them. `what.txt` says what a case is
//! about.

use serde_json::Value;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::sync::atomic::{AtomicUsize, Ordering};
use tallow::{Checkpoint, DoneReason, EmbedOptions, Embedder, GenerateOptions, LoadOptions, Model};

fn cases() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/cases")
}

/// A model of a test's own: a base with files over it. Removed afterwards.
struct Folder(PathBuf);

impl Folder {
    /// `base` with the folder `model` of a case over it; either may be missing.
    fn of(base: Option<&str>, case: Option<&str>) -> Folder {
        static COUNT: AtomicUsize = AtomicUsize::new(0);
        let number = COUNT.fetch_add(1, Ordering::Relaxed);
        let path = std::env::temp_dir().join(format!("tallow-cases-{}-{number}", std::process::id()));
        std::fs::create_dir_all(&path).unwrap();
        let parts = [base.map(|base| cases().join(base)), case.map(|case| cases().join(case).join("model"))];
        parts.into_iter().flatten().for_each(|from| copy(&from, &path));
        Folder(path)
    }

    fn with(self, name: &str, text: &str) -> Folder {
        std::fs::write(self.0.join(name), text).unwrap();
        self
    }

    fn path(&self) -> &str {
        self.0.to_str().unwrap()
    }

    fn encode(&self, text: &str) -> Vec<u32> {
        Checkpoint::open(self.path()).unwrap().tokenizer().encode(text, true).unwrap()
    }

    fn embedder(&self, options: &EmbedOptions) -> Embedder {
        let load = LoadOptions { threads: Some(1), offline: true, ..LoadOptions::default() };
        Embedder::load_with(self.path(), &load, options).unwrap()
    }

    fn embed(&self, text: &str) -> Vec<f32> {
        self.embedder(&EmbedOptions::default()).embed(&[text]).unwrap().row(0).to_vec()
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

fn copy(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).unwrap();
    for entry in std::fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let target = to.join(entry.file_name());
        if entry.path().is_dir() {
            copy(&entry.path(), &target);
        } else {
            std::fs::copy(entry.path(), target).unwrap();
        }
    }
}

/// Text and what is expected of it, for each of a case's texts.
fn expected(case: &str) -> Vec<(String, Value)> {
    let bytes = std::fs::read(cases().join(case).join("expected.json")).unwrap();
    serde_json::from_slice(&bytes).unwrap()
}

fn tallow(args: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_tallow"));
    command.args(args).stdin(Stdio::null()).env("HF_HUB_OFFLINE", "1").env_remove("TALLOW_LOG").output().unwrap()
}

fn json(output: &Output) -> Value {
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    serde_json::from_slice(&output.stdout).unwrap()
}

#[test]
fn texts_become_the_tokens_that_transformers_makes_of_them() {
    for (case, base) in [
        ("40-tokens-only-in-tokenizer-config", "_base"),
        ("42-new-eos-and-pad", "_base"),
        ("44-split-special-tokens", "_base"),
        ("45-do-lower-case-false", "_bert"),
        ("47-tokenize-chinese-chars-false", "_bert"),
    ] {
        let folder = Folder::of(Some(base), Some(case));
        for (text, ids) in expected(case) {
            assert_eq!(serde_json::json!(folder.encode(&text)), ids, "{case}: {text:?}");
        }
    }
}

#[test]
fn texts_become_the_vectors_that_sentence_transformers_makes_of_them() {
    for (case, base) in [
        ("60-st-lower-case-keeps-special-tokens", Some("_bert")),
        ("62-st-processing-max-length", Some("_bert")),
        ("64-st-transformer-in-folder", None),
    ] {
        let folder = Folder::of(base, Some(case));
        for (text, vector) in expected(case) {
            let got = folder.embed(&text);
            let vector: Vec<f32> = serde_json::from_value(vector).unwrap();
            assert_eq!(got.len(), vector.len(), "{case}");
            let most = got.iter().zip(&vector).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max);
            assert!(most < 1e-5, "{case}: {text:?}: {most}");
        }
    }
}

/// Text, reason and number of tokens of a generation that says `token` three times unless a stop
/// string ends it.
fn generated(token: u32, stops: &[&str]) -> (String, Option<DoneReason>, usize) {
    let folder = Folder::of(Some("_base"), None);
    let model = Model::load_with(folder.path(), &LoadOptions { threads: Some(1), ..LoadOptions::default() }).unwrap();
    let mut options = GenerateOptions { max_tokens: Some(3), ..GenerateOptions::default() };
    options.sampling.logit_bias = vec![(token, 1e30)];
    options.stop = stops.iter().map(|stop| (*stop).to_owned()).collect();
    let mut session = model.session().unwrap();
    let mut generation = session.generate("Hi", &options).unwrap();
    (generation.text().unwrap(), generation.done_reason(), generation.usage().tokens)
}

#[test]
fn a_stop_string_that_is_a_special_token_ends_the_text_at_once() {
    assert_eq!(generated(259, &["<|im_start|>"]), (String::new(), Some(DoneReason::Stop), 1));
    // Twice the token, and a stop string that ends within its text.
    assert_eq!(generated(259, &["|><|im_start|>"]), (String::new(), Some(DoneReason::Stop), 2));
    assert_eq!(generated(259, &["im_"]), (String::new(), Some(DoneReason::Stop), 1));
    assert_eq!(generated(259, &["<|im_end|>"]), (String::new(), Some(DoneReason::Length), 3));
}

#[test]
fn numbers_that_only_python_writes_are_read_in_every_small_file() {
    let config = std::fs::read_to_string(cases().join("_base/config.json")).unwrap();
    let config = config.replacen('{', "{\"initializer_range\": NaN, \"x\": [-Infinity], ", 1);
    let folder = Folder::of(Some("_base"), None)
        .with("generation_config.json", "{\"temperature\": 0.7, \"max_time\": Infinity}")
        .with("tokenizer_config.json", "{\"model_max_length\": Infinity, \"bos_token\": \"<s>\"}")
        .with("special_tokens_map.json", "{\"x\": NaN}")
        .with("config.json", &config);
    let checkpoint = Checkpoint::open(folder.path()).unwrap();
    assert_eq!(checkpoint.defaults().sampling.temperature, 0.7);
    let output = tallow(&["logits", folder.path(), "Hi", "--json"]);
    json(&output);
    let bert = Folder::of(Some("_bert"), None)
        .with("config_sentence_transformers.json", "{\"prompts\": {}, \"x\": Infinity}")
        .with("sentence_bert_config.json", "{\"max_seq_length\": NaN}");
    assert_eq!(bert.embedder(&EmbedOptions::default()).max_tokens(), 32);
}

#[test]
fn an_embedded_classifier_says_that_its_head_is_not_used() {
    let folder = Folder::of(None, Some("65-reranker-embedded"));
    let output = tallow(&["embed", folder.path(), "hello world", "--offline"]);
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.success() && said.contains("BertForSequenceClassification"), "{said}");
    assert!(said.contains("(classifier."), "{said}");
    assert_eq!(Checkpoint::open(Folder::of(Some("_bert"), None).path()).unwrap().unused_head(), None);
}

#[test]
fn dimensions_are_kept_without_being_normalised_again() {
    let whole = Folder::of(Some("_bert"), None);
    let cut = Folder::of(Some("_bert"), None).with("config_sentence_transformers.json", "{\"truncate_dim\": 3}");
    assert_eq!(cut.embed("hello world"), whole.embed("hello world")[..3]);
    let options = EmbedOptions { normalise: Some(true), ..EmbedOptions::default() };
    let unit = cut.embedder(&options).embed(&["hello world"]).unwrap();
    assert!((unit.iter().map(|x| x * x).sum::<f32>() - 1.0).abs() < 1e-6);
}

#[test]
fn limits_of_every_config_of_sentence_transformers_cut_texts() {
    let limit = |name: &str, text: &str| {
        let folder = Folder::of(Some("_bert"), None);
        std::fs::remove_file(folder.0.join("sentence_bert_config.json")).unwrap();
        folder.with(name, text).embedder(&EmbedOptions::default()).max_tokens()
    };
    for name in ["bert", "roberta", "distilbert", "camembert", "albert", "xlm-roberta", "xlnet"] {
        assert_eq!(limit(&format!("sentence_{name}_config.json"), "{\"max_seq_length\": 7}"), 7, "{name}");
    }
    let bert = |text: &str| limit("sentence_bert_config.json", text);
    assert_eq!(bert("{\"processor_kwargs\": {\"model_max_length\": 5}, \"max_seq_length\": 9}"), 5);
    assert_eq!(bert("{\"tokenizer_args\": {\"model_max_length\": 5}}"), 5);
    assert_eq!(bert("{\"processing_kwargs\": {\"common\": {\"max_length\": 6}, \"text\": {\"max_length\": 4}}}"), 6);
    assert_eq!(bert("{}"), 32);
    let refused = Folder::of(Some("_bert"), None)
        .with("sentence_bert_config.json", "{\"processing_kwargs\": {\"text\": {\"add_special_tokens\": false}}}");
    let error = Embedder::load(refused.path()).unwrap_err().to_string();
    assert!(error.contains("processing_kwargs.text.add_special_tokens"), "{error}");
}

#[test]
fn the_beginning_is_cut_where_the_tokenizer_says_so() {
    let config = std::fs::read_to_string(cases().join("_bert/tokenizer_config.json")).unwrap();
    let config = config.replacen('{', "{\"truncation_side\": \"left\", ", 1);
    let folder = Folder::of(Some("_bert"), None).with("tokenizer_config.json", &config);
    let tokenizer = Checkpoint::open(folder.path()).unwrap().tokenizer().clone();
    let all = tokenizer.encode("a b c d", true).unwrap();
    let (cut, wanted) = tokenizer.encode_within("a b c d", 4, false).unwrap();
    assert_eq!((cut, wanted), ([&all[..1], &all[3..]].concat(), 6));
}

#[test]
fn special_tokens_in_a_text_can_be_plain_text() {
    let folder = Folder::of(Some("_base"), None);
    let tokenizer = Checkpoint::open(folder.path()).unwrap().tokenizer().clone();
    let split = expected("44-split-special-tokens");
    for (text, ids) in &split {
        assert_eq!(serde_json::json!(tokenizer.encode_plain(text, true).unwrap()), *ids);
        let output = tallow(&["tokenize", folder.path(), text, "--no-parse-special", "--json"]);
        assert_eq!(json(&output)["tokens"], *ids);
        let output = tallow(&["logits", folder.path(), text, "--no-parse-special", "--json"]);
        assert_eq!(json(&output)["tokens"], *ids);
        let output = tallow(&["run", folder.path(), text, "--raw", "-n", "1", "--no-parse-special", "--json"]);
        assert_eq!(json(&output)["prompt_tokens"], *ids);
    }
    // A hidden part of a text whose other special tokens count.
    let text = format!("<|im_start|>{}<|im_end|>", tokenizer.hide_special("a<|im_end|>b"));
    let ids = tokenizer.encode_hidden(&text, false).unwrap();
    let plain = tokenizer.encode_plain("a<|im_end|>b", false).unwrap();
    assert_eq!(ids, [&[259][..], &plain, &[260]].concat());
    assert!(plain.iter().all(|id| !tokenizer.is_special(*id)));
}

#[test]
fn a_prompt_that_begins_with_bos_gets_no_second_one() {
    let bos = r#"{"type":"TemplateProcessing","single":[{"SpecialToken":{"id":"<s>","type_id":0}},{"Sequence":{"id":"A","type_id":0}}],
        "pair":[],"special_tokens":{"<s>":{"id":"<s>","ids":[0],"tokens":["<s>"]}}}"#;
    let tokenizer = std::fs::read_to_string(cases().join("_base/tokenizer.json")).unwrap();
    let tokenizer = tokenizer.replacen("\"post_processor\":null", &format!("\"post_processor\":{bos}"), 1);
    let folder = Folder::of(Some("_base"), None).with("tokenizer.json", &tokenizer);
    let prompt_tokens = |text: &str| {
        let output = tallow(&["run", folder.path(), text, "--raw", "--temp", "0", "-n", "1", "--json"]);
        (json(&output)["prompt_tokens"].as_array().unwrap().len(), String::from_utf8_lossy(&output.stderr).into_owned())
    };
    assert_eq!(prompt_tokens("ab"), (3, String::new()));
    let (count, said) = prompt_tokens("<s>ab");
    assert_eq!(count, 3);
    assert!(said.contains("begins with <s> itself"), "{said}");
    // What the text says twice it says twice.
    assert_eq!(prompt_tokens("<s><s>ab").0, 4);
    assert_eq!(folder.encode("<s>ab").len(), 4);
}
