//! Keys that change a model, in GGUF metadata, config.json and generation_config.json: honoured, or refused by name, and never
//! dropped in silence. Right values are llama.cpp's (`tests/cases`) and what transformers' code for the family reads.

#[path = "support/gguf.rs"]
mod gguf;

use gguf::{Edited, Value};
use serde_json::{Value as Json, json};
use std::cell::RefCell;
use std::path::{Path, PathBuf};
use std::sync::Once;
use tallow::ModelFiles;
use tallow::spec::{Head, Layers, Norm, Position, Spec};
use tallow::{Bytes, Checkpoint, EmbedOptions, Embedder, Error, GenerateOptions, LoadOptions, Model, SampleOptions};

// ---------------------------------------------------------------------------------------------------------------- support

thread_local! {
    static WARNINGS: RefCell<Vec<String>> = const { RefCell::new(Vec::new()) };
}

/// Keeps the warnings of each thread apart.
struct Kept;

impl log::Log for Kept {
    fn enabled(&self, metadata: &log::Metadata) -> bool {
        metadata.level() <= log::Level::Warn
    }

    fn log(&self, record: &log::Record) {
        if self.enabled(record.metadata()) {
            WARNINGS.with_borrow_mut(|kept| kept.push(record.args().to_string()));
        }
    }

    fn flush(&self) {}
}

/// What `work` gives, and what it warns of.
fn heard<T>(work: impl FnOnce() -> T) -> (T, Vec<String>) {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        log::set_logger(&Kept).unwrap();
        log::set_max_level(log::LevelFilter::Warn);
    });
    WARNINGS.take();
    (work(), WARNINGS.take())
}

fn tests(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests").join(path)
}

/// Files of every architecture that runs, and of each way of stretching the rotation.
const FILES: [&str; 18] = [
    "gguf-f16-bpe/model-f16.gguf",
    "gguf-llama-rope-freqs/model-f16.gguf",
    "gguf-llama-rope-linear/model-f16.gguf",
    "gguf-llama-rope-yarn/model-f16.gguf",
    "gguf-mixtral-f16/model-f16.gguf",
    "gguf-qwen2-q8_0/model-q8_0.gguf",
    "gguf-qwen3-f16/model-f16.gguf",
    "gguf-qwen3moe-f16/model-f16.gguf",
    "gguf-gemma1-f16/model-f16.gguf",
    "gguf-gemma2-f16/model-f16.gguf",
    "gguf-gemma3-f16/model-f16.gguf",
    "gguf-phi3-f16/model-f16.gguf",
    "gguf-phi4-longrope/model-f16.gguf",
    "gguf-smollm3-f16/model-f16.gguf",
    "gguf-olmo2-f16/model-f16.gguf",
    "gguf-granite-f16/model-f16.gguf",
    "gguf-starcoder2-f16/model-f16.gguf",
    "gguf-gpt2-f16/model-f16.gguf",
];
const ENCODERS: [&str; 2] = ["gguf-bert-f16/model-f16.gguf", "gguf-nomic-bert-f16/model-f16.gguf"];

fn golden(name: &str) -> Edited {
    Edited::read(tests("golden").join(name))
}

fn llama() -> Edited {
    golden(FILES[0])
}

fn found(file: &Edited) -> ModelFiles {
    ModelFiles::from_gguf_bytes(Bytes::from(file.bytes())).named("model.gguf")
}

fn options() -> LoadOptions {
    LoadOptions { threads: Some(1), ..LoadOptions::default() }
}

fn load(file: &Edited) -> Result<Model, Error> {
    Model::at(found(file), &options())
}

fn open(file: &Edited) -> Result<Checkpoint, Error> {
    Checkpoint::at(found(file))
}

/// The values of the last of some tokens, or why there are none.
fn logits(model: &Model) -> Result<Vec<f32>, String> {
    model.logits(&[7, 3, 11, 5, 2, 13, 9, 4, 8, 6, 12, 10], false).map_err(|error| error.to_string())
}

/// A fresh copy of a golden folder whose config.json is changed.
fn folder(case: &str, test: &str, change: impl FnOnce(&mut Json)) -> PathBuf {
    let to = Path::new(env!("CARGO_TARGET_TMPDIR")).join("keys").join(test);
    let _ = std::fs::remove_dir_all(&to);
    std::fs::create_dir_all(&to).unwrap();
    for entry in std::fs::read_dir(tests("golden").join(case)).unwrap() {
        let entry = entry.unwrap();
        if entry.path().is_file() {
            std::fs::copy(entry.path(), to.join(entry.file_name())).unwrap();
        }
    }
    let file = to.join("config.json");
    let mut config: Json = serde_json::from_slice(&std::fs::read(&file).unwrap()).unwrap();
    change(&mut config);
    std::fs::write(&file, config.to_string()).unwrap();
    to
}

fn opened(folder: &Path) -> Result<Checkpoint, Error> {
    Checkpoint::open(folder.to_str().unwrap())
}

fn assert_says(text: &str, parts: &[&str]) {
    for part in parts {
        assert!(text.contains(part), "expected {part:?} in: {text}");
    }
}

// --------------------------------------------------------------------------------------------------- GGUF: the right value

#[test]
fn a_llama_that_is_not_causal_gives_the_vectors_of_llama_cpp() {
    let file = llama().with("pooling_type", Value::Int(1)).with("attention.causal", Value::Bool(false));
    let file = file.without("tokenizer.chat_template");
    let embedder = Embedder::at(found(&file), &options(), &EmbedOptions::default()).unwrap();
    let got = embedder.embed(&["Hello world, the quick brown fox"]).unwrap();
    let expected = std::fs::read(tests("cases/bidirectional-llama/expected.json")).unwrap();
    let expected: Vec<f32> = serde_json::from_slice(&expected).unwrap();
    assert_eq!(got.len(), expected.len());
    for (got, expected) in got.iter().zip(&expected) {
        assert!((got - expected).abs() < 1e-3, "{got} is not {expected}");
    }
    let model = load(&file).unwrap();
    assert_says(&model.session().err().unwrap().to_string(), &["llama, an encoder", "Embedder"]);
}

#[test]
fn a_granite_without_positions_writes_what_llama_cpp_writes() {
    let file = llama().of_family("granite").with("rope.scaling.finetuned", Value::Bool(false));
    let file = file.with("embedding_scale", Value::Float(2.0)).with("residual_scale", Value::Float(0.5));
    let file = file.with("attention.scale", Value::Float(0.2)).with("logit_scale", Value::Float(4.0));
    let read = |name: &str| std::fs::read_to_string(tests("cases/granite-without-positions").join(name)).unwrap();
    let model = load(&file).unwrap();
    let options = GenerateOptions {
        sampling: SampleOptions::greedy(),
        max_tokens: Some(12),
        ignore_eos: true,
        ..GenerateOptions::default()
    };
    let mut session = model.session().unwrap();
    let pieces = session.generate(&read("prompt.txt"), &options).unwrap();
    let text: String = pieces.map(|piece| piece.unwrap().text).collect();
    assert_eq!(text.trim_end_matches('\n'), read("expected.txt").trim_end_matches('\n'));
}

#[test]
fn a_missing_key_has_the_familys_default_or_a_warning_that_says_what_is_taken() {
    let window = |file: Edited| open(&file).unwrap().spec().attention.window.clone().map(|window| window.size);
    assert_eq!(window(golden("gguf-gemma2-f16/model-f16.gguf").without("gemma2.attention.sliding_window")), Some(4096));
    assert_eq!(window(golden("gguf-gemma3-f16/model-f16.gguf").without("gemma3.attention.sliding_window")), None);
    let scale = open(&golden("gguf-granite-f16/model-f16.gguf").without("granite.attention.scale")).unwrap();
    assert_eq!(format!("{:?}", scale.spec().attention.scale), "HeadDim");
    for (file, key, taken) in [
        (FILES[0], "llama.attention.layer_norm_rms_epsilon", "1e-6"),
        ("gguf-phi3-f16/model-f16.gguf", "phi3.attention.layer_norm_rms_epsilon", "1e-5"),
        ("gguf-gpt2-f16/model-f16.gguf", "gpt2.attention.layer_norm_epsilon", "1e-5"),
        ("gguf-bert-f16/model-f16.gguf", "bert.attention.layer_norm_epsilon", "1e-12"),
        (FILES[0], "tokenizer.ggml.pre", "\"default\""),
    ] {
        let (opened, warnings) = heard(|| open(&golden(file).without(key)));
        opened.unwrap();
        assert_says(&warnings.join("\n"), &["model.gguf", key, taken]);
    }
}

#[test]
fn an_empty_chat_template_is_none() {
    for template in ["", "\n"] {
        let checkpoint = open(&llama().set("tokenizer.chat_template", Value::Text(template))).unwrap();
        assert!(checkpoint.template().unwrap().is_none());
    }
}

// ------------------------------------------------------------------------------------- GGUF: no key is dropped in silence

/// Keys of llama.cpp, each with a value that some architecture computes something else for.
const CHANGING: [(&str, Value); 62] = [
    ("activation_sparsity_scale", Value::Float(0.5)),
    ("altup.num_inputs", Value::Int(4)),
    ("attention.causal", Value::Bool(false)),
    ("attention.clamp_kqv", Value::Float(1.0)),
    ("attention.group_norm_groups", Value::Int(2)),
    ("attention.indexer.top_k", Value::Int(4)),
    ("attention.key_length_swa", Value::Int(2)),
    ("attention.kv_lora_rank", Value::Int(8)),
    ("attention.max_alibi_bias", Value::Float(8.0)),
    ("attention.output_scale", Value::Float(0.5)),
    ("attention.q_lora_rank", Value::Int(8)),
    ("attention.relative_buckets_count", Value::Int(32)),
    ("attention.rope_pattern", Value::Bools(&[true, false])),
    ("attention.scale", Value::Float(0.7)),
    ("attention.shared_kv_layers", Value::Int(1)),
    ("attention.sliding_window", Value::Int(3)),
    ("attention.temperature_length", Value::Int(8)),
    ("attention.temperature_scale", Value::Float(0.5)),
    ("attention.value_length", Value::Int(2)),
    ("attention.value_length_swa", Value::Int(2)),
    ("attention.what_is_new", Value::Int(1)),
    ("attn_logit_softcapping", Value::Float(0.5)),
    ("decoder_block_count", Value::Int(1)),
    ("deepstack_mapping", Value::Ints(&[0, 1])),
    ("dense_2_feat_out", Value::Int(8)),
    ("embedding_length_out", Value::Int(8)),
    ("embedding_length_per_layer_input", Value::Int(8)),
    ("embedding_scale", Value::Float(3.0)),
    ("expert_count", Value::Int(3)),
    ("expert_feed_forward_length", Value::Int(8)),
    ("expert_gating_func", Value::Int(2)),
    ("expert_group_count", Value::Int(2)),
    ("expert_shared_count", Value::Int(1)),
    ("expert_shared_feed_forward_length", Value::Int(8)),
    ("expert_weights_scale", Value::Float(2.0)),
    ("final_logit_softcapping", Value::Float(0.5)),
    ("full_attention_interval", Value::Int(2)),
    ("hidden_activation", Value::Text("relu2")),
    ("interleave_moe_layer_step", Value::Int(2)),
    ("leading_dense_block_count", Value::Int(1)),
    ("logit_scale", Value::Float(0.5)),
    ("moe_every_n_layers", Value::Int(2)),
    ("nextn_predict_layers", Value::Int(1)),
    ("num_loops", Value::Int(2)),
    ("residual_scale", Value::Float(0.3)),
    ("router_logit_softcapping", Value::Float(5.0)),
    ("rope.dimension_count", Value::Int(8)),
    ("rope.dimension_count_swa", Value::Int(2)),
    ("rope.dimension_sections", Value::Ints(&[1, 1, 0, 0])),
    ("rope.freq_base", Value::Float(77.0)),
    ("rope.freq_base_swa", Value::Float(77.0)),
    ("rope.scale_linear", Value::Float(3.0)),
    ("rope.scaling.alpha", Value::Float(50.0)),
    ("rope.scaling.attn_factor", Value::Float(0.6)),
    ("rope.scaling.factor", Value::Float(9.0)),
    ("rope.scaling.yarn_attn_factor", Value::Float(0.6)),
    ("rope.scaling.yarn_ext_factor", Value::Float(0.6)),
    ("rope.scaling.yarn_log_multiplier", Value::Float(0.1)),
    ("shortconv.l_cache", Value::Int(3)),
    ("ssm.state_size", Value::Int(8)),
    ("swiglu_clamp_exp", Value::Float(7.0)),
    ("use_parallel_residual", Value::Bool(true)),
];

/// (architecture, key): read by llama.cpp, and of no consequence in this architecture's graph.
const NO_PART: [(&str, &str); 10] = [
    ("bert", "attention.causal"),
    ("nomic-bert", "attention.causal"),
    ("gpt2", "rope.freq_base"),
    ("gpt2", "rope.dimension_count"),
    ("gpt2", "rope.scaling.factor"),
    ("bert", "rope.freq_base"),
    ("bert", "rope.dimension_count"),
    ("bert", "rope.scaling.factor"),
    ("llama", "rope.scale_linear"),
    ("gemma3", "rope.scale_linear"),
];

#[test]
fn a_key_that_changes_some_model_is_refused_by_name_or_changes_this_one() {
    let mut dropped = Vec::new();
    for file in FILES.into_iter().chain(ENCODERS) {
        let base = golden(file);
        let family = base.family();
        let spec = open(&base).unwrap().spec().clone();
        let before = logits(&load(&base).unwrap());
        for (name, value) in CHANGING {
            // Where a factor is stated, the older key of it does not count.
            if NO_PART.contains(&(&family, name)) && (family != "llama" || file.contains("linear") || file.contains("yarn")) {
                continue;
            }
            match load(&base.clone().with(name, value)) {
                Err(error @ (Error::Unsupported { .. } | Error::Corrupt { .. })) => {
                    let text = error.to_string();
                    // A size that does not fit may come out at a tensor.
                    let last = name.rsplit('.').next().unwrap();
                    let experts = name.starts_with("expert") && text.contains("expert_");
                    let size = ["tensor", "short_factor has", "rotary dimensions"].iter().any(|part| text.contains(part));
                    let named = text.contains(last) || experts || size;
                    if !named || !text.contains("model.gguf") {
                        dropped.push(format!("{file}: {name} = {value:?}: {text}"));
                    }
                }
                Err(error) => dropped.push(format!("{file}: {name} = {value:?}: {error}")),
                Ok(model) if spec.is_encoder() && *model.spec() != spec => {}
                Ok(model) if logits(&model) != before => {}
                Ok(_) => dropped.push(format!("{file}: {name} = {value:?}")),
            }
        }
    }
    assert!(dropped.is_empty(), "dropped in silence, or refused without a name:\n{}", dropped.join("\n"));
}

#[test]
fn a_key_that_says_what_is_so_anyway_changes_nothing() {
    let neutral = [
        ("attention.clamp_kqv", Value::Float(0.0)),
        ("attention.group_norm_epsilon", Value::Float(0.0)),
        ("attention.max_alibi_bias", Value::Float(0.0)),
        ("attention.q_lora_rank", Value::Int(0)),
        ("attention.shared_kv_layers", Value::Int(0)),
        ("attention.sliding_window", Value::Int(1 << 20)),
        ("classifier.output_labels", Value::Bools(&[])),
        ("decoder_block_count", Value::Int(0)),
        ("expert_group_count", Value::Int(1)),
        ("expert_shared_count", Value::Int(0)),
        ("expert_weights_norm", Value::Bool(true)),
        ("expert_weights_scale", Value::Float(1.0)),
        ("interleave_moe_layer_step", Value::Int(0)),
        ("leading_dense_block_count", Value::Int(0)),
        ("nextn_predict_layers", Value::Int(0)),
        ("pooling_type", Value::Int(3)),
        ("rope.dimension_sections", Value::Ints(&[0, 0, 0, 0])),
        ("rope.scaling.alpha", Value::Float(0.0)),
        ("rope.scaling.yarn_ext_factor", Value::Float(-1.0)),
        ("rope.scaling.yarn_log_multiplier", Value::Float(0.0)),
        ("tensor_data_layout", Value::Text("Meta AI original pth")),
        ("use_parallel_residual", Value::Bool(false)),
    ];
    for file in FILES.into_iter().chain(ENCODERS) {
        let base = golden(file);
        let spec = open(&base).unwrap().spec().clone();
        for (name, value) in neutral {
            // A window that no text outgrows is one that is honoured, in the families that have windows.
            if name.ends_with("sliding_window")
                && ["gemma2", "gemma3", "phi3", "starcoder2", "olmo2"].contains(&&*base.family())
            {
                continue;
            }
            let (opened, warnings) = heard(|| open(&base.clone().with(name, value)));
            assert_eq!(*opened.unwrap_or_else(|error| panic!("{file}: {name}: {error}")).spec(), spec, "{file}: {name}");
            assert!(warnings.is_empty(), "{file}: {name}: {warnings:?}");
        }
    }
    let causal = llama().with("attention.causal", Value::Bool(true)).with("rope.scaling.type", Value::Text("none"));
    let causal = causal.with("rope.scaling.finetuned", Value::Bool(true)).with("expert_count", Value::Int(0));
    assert_eq!(open(&causal).unwrap().spec(), open(&llama()).unwrap().spec());
}

#[test]
fn an_encoder_that_does_not_look_ahead_is_refused() {
    for file in ENCODERS {
        let error = open(&golden(file).with("attention.causal", Value::Bool(true))).err().unwrap().to_string();
        assert_says(&error, &["model.gguf", "attention.causal = true"]);
    }
}

#[test]
fn experts_that_are_weighed_otherwise_are_refused() {
    for file in ["gguf-mixtral-f16/model-f16.gguf", "gguf-qwen3moe-f16/model-f16.gguf"] {
        for key in ["expert_weights_norm", "norm_top_k_prob"] {
            assert!(open(&golden(file).with(key, Value::Bool(true))).is_ok());
            let error = open(&golden(file).with(key, Value::Bool(false))).err().unwrap().to_string();
            assert_says(&error, &["model.gguf", key, "= 0"]);
        }
    }
}

#[test]
fn the_bases_of_the_rotation_that_ollama_writes_count() {
    let file = golden("gguf-gemma3-f16/model-f16.gguf").without("gemma3.rope.freq_base");
    let file = file.with("rope.global.freq_base", Value::Float(5000.0)).with("rope.local.freq_base", Value::Float(300.0));
    let file = file.with("vision.block_count", Value::Int(27)).with("mm.tokens_per_image", Value::Int(256));
    let checkpoint = open(&file).unwrap();
    let Position::Rope(ropes) = &checkpoint.spec().position else { panic!() };
    assert_eq!(ropes.iter().map(|rope| rope.theta).collect::<Vec<_>>(), [300.0, 5000.0]);
}

#[test]
fn keys_of_the_tokenizer_are_read_harmless_or_refused() {
    let with = |key: &str, value: Value| open(&llama().set(&format!("tokenizer.ggml.{key}"), value));
    for (key, value) in [
        ("mask_token_id", Value::Int(4)),
        ("fim_pre_token_id", Value::Int(4)),
        ("middle_token_id", Value::Int(4)),
        ("token_type_count", Value::Int(2)),
        ("add_sep_token", Value::Bool(true)),
        ("add_padding_token", Value::Bool(true)),
        ("what_is_new", Value::Bool(false)),
    ] {
        assert_eq!(with(key, value).unwrap().tokenizer().encode("The river", true).unwrap().len(), {
            open(&llama()).unwrap().tokenizer().encode("The river", true).unwrap().len()
        });
    }
    for key in ["what_is_new", "byte_fallback", "ignore_merges"] {
        let error = with(key, Value::Bool(true)).err().unwrap();
        assert!(matches!(error, Error::Unsupported { .. }));
        assert_says(&error.to_string(), &["model.gguf", &format!("tokenizer.ggml.{key} = 1")]);
    }
    let ends = with("eos_token_ids", Value::Ints(&[497, 3])).unwrap();
    assert!(ends.end_ids().contains(&3) && ends.end_ids().contains(&497));
    let forbidden = with("suppress_tokens", Value::Ints(&[3, 9999])).unwrap();
    assert_eq!(forbidden.defaults().sampling.logit_bias, [(3, f32::NEG_INFINITY)]);
}

#[test]
fn files_that_are_no_model_say_what_they_are() {
    for (key, value, word) in [
        ("general.type", "adapter", "LoRA"),
        ("general.type", "imatrix", "importance matrix"),
        ("general.type", "mmproj", "mmproj"),
        ("general.architecture", "clip", "mmproj"),
    ] {
        let error = open(&llama().set(key, Value::Text(value))).err().unwrap();
        assert!(matches!(error, Error::Unsupported { .. }), "{error:?}");
        assert_says(&error.to_string(), &["model.gguf", word]);
    }
}

// --------------------------------------------------------------------------------------------------------- config.json

/// What a changed config.json comes to.
enum Comes<'a> {
    /// As without the change.
    Same,
    /// As without the change, and a warning names the key.
    Unused,
    /// To another model; the text is in its description.
    To(&'a str),
    /// To an error with these words.
    Refused(&'a [&'a str]),
}

#[test]
fn a_key_of_config_json_counts_where_transformers_reads_it() {
    use Comes::*;
    let sliding = json!(["sliding_attention", "full_attention"]);
    // transformers: `modeling_*.py` of the family reads the key, or does not.
    let cases: Vec<(&str, Json, Comes)> = vec![
        ("llama-mha", json!({"partial_rotary_factor": 0.5}), Unused),
        ("mistral-window8", json!({"partial_rotary_factor": 0.5}), Unused),
        ("qwen2", json!({"rope_parameters": {"rope_type": "default", "partial_rotary_factor": 0.5}}), Same),
        ("phi3", json!({"partial_rotary_factor": 0.5}), To("dims: 6")),
        (
            "llama-mha",
            json!({"partial_rotary_factor": 0.5, "rope_scaling": {"rope_type": "linear", "factor": 2.0}}),
            Refused(&["partial_rotary_factor"]),
        ),
        ("llama-mha", json!({"attention_bias": true}), To("qkv_bias: true, out_bias: true")),
        ("mistral-window8", json!({"attention_bias": true}), Unused),
        ("mistral-window8", json!({"mlp_bias": true}), Unused),
        ("mistral-window8", json!({"layer_types": sliding}), Unused),
        ("mistral-window8", json!({"sliding_window": null}), To("window: None")),
        ("mixtral", json!({"attention_bias": true}), Unused),
        ("qwen2", json!({"attention_bias": true}), Unused),
        ("qwen2", json!({"use_sliding_window": true, "sliding_window": 8, "max_window_layers": 1, "layer_types": null}), {
            To("size: 8, layers: Listed([false, true])")
        }),
        ("qwen2", json!({"use_sliding_window": false, "layer_types": sliding}), Refused(&["layer_types", "no window"])),
        ("qwen3", json!({"attention_bias": true}), To("qkv_bias: true, out_bias: true")),
        ("qwen3-moe", json!({"use_sliding_window": true, "sliding_window": 8, "max_window_layers": 1}), {
            To("size: 8, layers: All")
        }),
        ("qwen3-moe", json!({"norm_topk_prob": true}), To("renormalise: true")),
        ("qwen3-moe", json!({"norm_topk_prob": false}), To("renormalise: false")),
        ("qwen3-moe", json!({"decoder_sparse_step": 2}), Refused(&["experts in every layer"])),
        ("phi3", json!({"attention_bias": true}), Unused),
        ("phi3", json!({"layer_types": sliding}), Unused),
        ("gemma1", json!({"attention_bias": true}), To("qkv_bias: true, out_bias: true")),
        ("gemma1", json!({"hidden_act": "relu"}), To("act: Relu")),
        ("gemma2", json!({"hidden_act": "relu"}), Same),
        ("gemma2", json!({"hidden_activation": "relu"}), To("act: Relu")),
        ("gemma3-text", json!({"hidden_activation": "silu"}), To("act: Silu")),
        ("gemma2", json!({"sliding_window_pattern": 4}), Same),
        ("gemma2", json!({"final_logit_softcapping": null}), To("logits: 1.0, cap: None")),
        ("gemma3-text", json!({"final_logit_softcapping": 9.0}), To("logits: 1.0, cap: Some(9.0)")),
        ("gemma3-text", json!({"use_bidirectional_attention": true}), Refused(&["use_bidirectional_attention"])),
        ("mistral-window8", json!({"is_causal": false}), Refused(&["is_causal", "window"])),
        ("llama-mha", json!({"is_causal": false}), To("causal: false")),
        ("gemma3-text", json!({"layer_types": ["chunked_attention"]}), Refused(&["layer_types", "chunked_attention"])),
        ("olmo2", json!({"mlp_bias": true}), Unused),
        ("smollm3", json!({"use_sliding_window": true, "sliding_window": 8, "layer_types": null}), {
            To("size: 8, layers: Listed([false, true, false, true])")
        }),
        ("starcoder2", json!({"layer_types": sliding}), Unused),
        ("granite", json!({"logits_scaling": 3.0}), To("logits: 0.33")),
        ("llama-mha", json!({"logits_scaling": 3.0}), Unused),
        ("llama-mha", json!({"logit_scale": 0.5}), Unused),
        ("llama-mha", json!({"num_local_experts": 8, "num_experts_per_tok": 2}), Unused),
        ("llama-mha", json!({"use_cache": false, "pretraining_tp": 2, "attention_dropout": 0.3}), Same),
        ("llama-mha", json!({"rope_scaling": {"rope_type": "yarn", "factor": 4.0}}), To("Yarn")),
        ("llama-mha", json!({"rope_parameters": {"rope_type": "linear", "factor": 4.0}}), To("Linear")),
        ("gpt2-hub", json!({"scale_attn_weights": false}), To("scale: One")),
        ("gpt2-hub", json!({"reorder_and_upcast_attn": true}), Same),
        ("bert-mean", json!({"is_decoder": true}), Refused(&["is_decoder"])),
        ("bert-mean", json!({"hidden_act": "relu"}), To("act: Relu")),
        ("bert-mean", json!({"position_embedding_type": "relative_key"}), Refused(&["relative_key"])),
        ("distilbert-mean", json!({"activation": "relu"}), To("act: Relu")),
        ("nomic-bert-mean", json!({"rotary_emb_fraction": 0.5}), Refused(&["rotary_emb_fraction = 0.5"])),
    ];
    for (i, (case, change, comes)) in cases.into_iter().enumerate() {
        let before = opened(&tests("golden").join(case)).unwrap().spec().clone();
        let keys: Vec<String> = change.as_object().unwrap().keys().cloned().collect();
        let folder = folder(case, &format!("config-{i}"), |config| {
            for (key, value) in change.as_object().unwrap() {
                config[key] = value.clone();
            }
        });
        let (opened, warnings) = heard(|| opened(&folder));
        let what = format!("{case}: {change}");
        match comes {
            Refused(parts) => assert_says(&opened.err().unwrap_or_else(|| panic!("{what} opens")).to_string(), parts),
            Same | Unused | To(_) => {
                let spec = opened.unwrap_or_else(|error| panic!("{what}: {error}")).spec().clone();
                match comes {
                    To(text) => assert_says(&format!("{spec:?}"), &[text]),
                    _ => assert_eq!(spec, before, "{what}"),
                }
                let named = warnings.iter().any(|text| keys.iter().any(|key| text.contains(&format!("key {key} "))));
                assert_eq!(named, matches!(comes, Unused), "{what}: {warnings:?}");
            }
        }
    }
}

#[test]
fn a_key_that_config_json_lacks_has_the_familys_default() {
    let without = |case: &str, key: &str| -> Spec {
        let folder = folder(case, &format!("lacks-{case}-{key}"), |config| {
            config.as_object_mut().unwrap().shift_remove(key);
            config["layer_types"] = Json::Null;
            config["use_sliding_window"] = json!(true);
        });
        opened(&folder).unwrap_or_else(|error| panic!("{case} without {key}: {error}")).spec().clone()
    };
    for (case, eps) in [("phi3", 1e-5), ("mixtral", 1e-5), ("olmo2", 1e-5), ("llama-mha", 1e-6), ("gemma2", 1e-6)] {
        match without(case, "rms_norm_eps").norm {
            Norm::Rms { eps: taken, .. } => assert_eq!(taken, eps, "{case}"),
            Norm::Layer { .. } => panic!("{case}"),
        }
    }
    for case in ["gemma2", "gemma3-text", "mistral-no-window"] {
        assert_eq!(without(case, "sliding_window").attention.window.unwrap().size, 4096, "{case}");
    }
    // 28 layers come before the first with a window.
    assert_eq!(without("qwen2-window", "max_window_layers").attention.window, None);
    let everywhere = without("mistral-window8", "layer_types").attention.window.unwrap();
    assert_eq!((everywhere.size, everywhere.layers), (8, Layers::All));
    assert_eq!(without("llama-mha", "max_position_embeddings").context, 2048);
    assert_eq!(without("qwen3", "head_dim").attention.head_dim, 128);
    assert_eq!(without("gemma2", "num_key_value_heads").attention.kv_heads, 4);
}

#[test]
fn a_folder_without_an_output_matrix_makes_vectors_but_no_text() {
    let folder = folder("llama-gqa-tied", "untied", |config| config["tie_word_embeddings"] = json!(false));
    assert_eq!(opened(&folder).unwrap().spec().head, Head::None);
    let name = folder.to_str().unwrap();
    let model = Model::load_with(name, &options()).unwrap();
    for error in [logits(&model).unwrap_err(), model.session().err().unwrap().to_string()] {
        assert_says(&error, &["tie_word_embeddings", "lm_head.weight", "Embedder"]);
    }
    Embedder::load_with(name, &options(), &EmbedOptions::default()).unwrap().embed(&["The river"]).unwrap();
}

#[test]
fn what_is_right_says_nothing() {
    let mut folders: Vec<PathBuf> = Vec::new();
    for entry in std::fs::read_dir(tests("golden")).unwrap() {
        let path = entry.unwrap().path();
        if path.join("config.json").is_file() {
            folders.push(path);
        } else if path.is_dir() {
            let files = std::fs::read_dir(&path).unwrap().map(|entry| entry.unwrap().path());
            folders.extend(files.filter(|path| path.extension().is_some_and(|extension| extension == "gguf")));
        }
    }
    assert!(folders.len() > 60, "{}", folders.len());
    for path in folders {
        let (opened, warnings) = heard(|| opened(&path));
        opened.unwrap_or_else(|error| panic!("{error}"));
        assert!(warnings.is_empty(), "{}: {warnings:?}", path.display());
    }
}

#[test]
fn settings_of_generation_that_are_not_used_are_named() {
    let folder = folder("llama-gqa-tied", "generation", |_| {});
    let settings = json!({
        "do_sample": true, "temperature": 0.5, "no_repeat_ngram_size": 3, "num_beams": 4, "forced_eos_token_id": 7,
        "guidance_scale": 1.5, "max_new_tokens": 9, "begin_suppress_tokens": [1], "eta_cutoff": 0.1, "penalty_alpha": 0.6,
        "num_beam_groups": 1, "epsilon_cutoff": 0.0, "min_length": 0, "token_healing": false, "max_length": 20
    });
    std::fs::write(folder.join("generation_config.json"), settings.to_string()).unwrap();
    let (opened, warnings) = heard(|| opened(&folder));
    assert_eq!(opened.unwrap().defaults().sampling.temperature, 0.5);
    let keys = [
        "no_repeat_ngram_size",
        "num_beams",
        "forced_eos_token_id",
        "guidance_scale",
        "max_new_tokens",
        "begin_suppress_tokens",
        "eta_cutoff",
        "penalty_alpha",
    ];
    assert_eq!(warnings.len(), keys.len(), "{warnings:?}");
    for key in keys {
        assert!(warnings.iter().any(|text| text.contains(&format!("generation_config.json: key {key} "))), "{key}");
    }
}

// ------------------------------------------------------------------------------------------- folders that can not run

#[test]
fn folders_that_can_not_run_say_what_they_are() {
    let is = |test: &str, change: fn(&Path), parts: &[&str]| {
        let folder = folder("llama-gqa-tied", &format!("unfit-{test}"), |_| {});
        change(&folder);
        let error = opened(&folder).err().unwrap_or_else(|| panic!("{test} opens"));
        assert!(matches!(error, Error::Unsupported { .. }), "{test}: {error:?}");
        assert_says(&error.to_string(), parts);
    };
    fn set(folder: &Path, key: &str, value: Json) {
        let file = folder.join("config.json");
        let mut config: Json = serde_json::from_slice(&std::fs::read(&file).unwrap()).unwrap();
        config[key] = value;
        std::fs::write(file, config.to_string()).unwrap();
    }
    fn adapter(folder: &Path) {
        std::fs::remove_file(folder.join("model.safetensors")).unwrap();
        let config = json!({"base_model_name_or_path": "org/base", "peft_type": "LORA"});
        std::fs::write(folder.join("adapter_config.json"), config.to_string()).unwrap();
        std::fs::write(folder.join("adapter_model.safetensors"), "").unwrap();
    }
    fn tensor(folder: &Path, name: &str) {
        let header = json!({name: {"dtype": "I32", "shape": [1], "data_offsets": [0, 4]}}).to_string();
        let bytes = [&(header.len() as u64).to_le_bytes()[..], header.as_bytes(), &[0; 4]].concat();
        std::fs::write(folder.join("model.safetensors"), bytes).unwrap();
    }
    is("adapter", adapter, &["adapter_config.json", "LoRA", "org/base"]);
    is(
        "adapter-alone",
        |folder| {
            adapter(folder);
            std::fs::remove_file(folder.join("config.json")).unwrap();
        },
        &["adapter_config.json", "LoRA", "org/base"],
    );
    is("mlx", |folder| set(folder, "quantization", json!({"group_size": 64, "bits": 4})), &["config.json", "MLX"]);
    is("mlx-both", |folder| set(folder, "quantization_config", json!({"group_size": 64, "bits": 4})), &["MLX"]);
    is("gptq", |folder| std::fs::write(folder.join("quantize_config.json"), "{}").unwrap(), &["quantize_config", "GPTQ"]);
    is("awq", |folder| std::fs::write(folder.join("quant_config.json"), "{}").unwrap(), &["quant_config.json", "AWQ"]);
    is("qweight", |folder| tensor(folder, "model.layers.0.mlp.up_proj.qweight"), &["GPTQ or AWQ", "up_proj.qweight"]);
    is("fp8", |folder| tensor(folder, "model.layers.0.mlp.up_proj.weight_scale_inv"), &["FP8"]);
    is("bnb", |folder| tensor(folder, "model.layers.0.mlp.up_proj.weight.absmax"), &["bitsandbytes"]);
    is("vision", |folder| set(folder, "vision_config", json!({})), &["config.json", "multimodal", "vision_config"]);
    is("text-part", |folder| set(folder, "text_config", json!({})), &["multimodal", "text_config"]);
    is("sound", |folder| set(folder, "audio_config", json!({})), &["multimodal", "sounds"]);
    is("seq2seq", |folder| set(folder, "is_encoder_decoder", json!(true)), &["encoder-decoder"]);
    is(
        "pickle",
        |folder| std::fs::rename(folder.join("model.safetensors"), folder.join("pytorch_model.bin")).unwrap(),
        &["pytorch_model.bin", "pickle"],
    );
}
