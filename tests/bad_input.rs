//! Damaged, lying and unusable models, and the message a user sees for each: never a panic, never an allocation that the
//! file does not justify. The readers' own tests cover the bytes of each format; here a whole model is loaded and run.

use serde_json::{Value, json};
use std::path::{Path, PathBuf};
use tallow::{Error, GenerateOptions, LoadOptions, Message, Model, SampleOptions};

fn golden(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden").join(name)
}

/// A fresh copy of a golden folder, for one test to spoil.
fn copy(case: &str, test: &str) -> PathBuf {
    let to = Path::new(env!("CARGO_TARGET_TMPDIR")).join("bad").join(test);
    let _ = std::fs::remove_dir_all(&to);
    std::fs::create_dir_all(&to).unwrap();
    for entry in std::fs::read_dir(golden(case)).unwrap() {
        let entry = entry.unwrap();
        std::fs::copy(entry.path(), to.join(entry.file_name())).unwrap();
    }
    to
}

fn edit(file: &Path, change: impl FnOnce(&mut Value)) {
    let mut value: Value = serde_json::from_slice(&std::fs::read(file).unwrap()).unwrap();
    change(&mut value);
    std::fs::write(file, value.to_string()).unwrap();
}

fn load(path: &Path) -> Result<Model, Error> {
    Model::load_with(path.to_str().unwrap(), &LoadOptions { threads: Some(1), ..LoadOptions::default() })
}

fn error(path: &Path) -> Error {
    match load(path) {
        Ok(_) => panic!("{} loads", path.display()),
        Err(error) => error,
    }
}

/// The message, which must contain all of `parts`.
fn assert_says(error: &Error, parts: &[&str]) {
    let text = error.to_string();
    for part in parts {
        assert!(text.contains(part), "expected {part:?} in: {text}");
    }
}

fn with_config(test: &str, change: impl FnOnce(&mut Value)) -> Error {
    let folder = copy("llama-mha", test);
    edit(&folder.join("config.json"), change);
    error(&folder)
}

#[test]
fn a_model_that_is_nowhere_is_not_found_and_the_message_says_where_it_was_looked_for() {
    let error = error(Path::new("no-such-model"));
    assert!(matches!(error, Error::NotFound { .. }));
    assert_says(&error, &["no-such-model", "models", "catalogue", "org/repo"]);
    let empty = Path::new(env!("CARGO_TARGET_TMPDIR")).join("bad/empty");
    std::fs::create_dir_all(&empty).unwrap();
    assert_says(&self::error(&empty), &["empty", "config.json"]);
}

#[test]
fn an_unknown_family_is_named_with_those_that_run() {
    let error = with_config("family", |c| c["model_type"] = json!("mamba"));
    assert!(matches!(error, Error::Unsupported { .. }));
    assert_says(&error, &["config.json", "model_type", "\"mamba\"", "llama, mistral, qwen2"]);
    assert_says(&with_config("no-family", |c| c["model_type"] = Value::Null), &["config.json", "model_type"]);
}

#[test]
fn absurd_config_values_are_refused_by_key() {
    let cases: [(&str, Value, &[&str]); 12] = [
        ("hidden_size", json!(0), &["hidden_size", "between 1"]),
        ("hidden_size", json!(-48), &["hidden_size"]),
        ("hidden_size", json!(1_u64 << 60), &["hidden_size"]),
        ("hidden_size", json!("48"), &["hidden_size"]),
        ("hidden_size", Value::Null, &["hidden_size", "missing"]),
        ("num_attention_heads", json!(5), &["5 heads"]),
        ("num_key_value_heads", json!(3), &["4 query heads", "3 key/value heads"]),
        ("num_hidden_layers", json!(100_000_000), &["states 100000000 layers", "tensors"]),
        ("rms_norm_eps", json!(-1.0), &["rms_norm_eps", "positive"]),
        ("rope_theta", json!("big"), &["rope_theta"]),
        ("hidden_act", json!("warp"), &["warp", "silu"]),
        ("rope_scaling", json!({"type": "dynamic", "factor": 2.0}), &["dynamic", "linear", "yarn"]),
    ];
    for (i, (key, value, parts)) in cases.into_iter().enumerate() {
        let error = with_config(&format!("config-{i}"), |config| config[key] = value);
        assert!(matches!(error, Error::Corrupt { .. } | Error::Unsupported { .. }), "{error:?}");
        assert_says(&error, parts);
    }
}

#[test]
fn a_decoder_that_sees_the_whole_text_is_an_encoder_or_refused_by_key() {
    let error = with_config("both-ways", |c| c["use_bidirectional_attention"] = json!(true));
    assert!(matches!(error, Error::Unsupported { .. }), "{error:?}");
    assert_says(&error, &["config.json", "use_bidirectional_attention"]);
    let is_encoder = |test: &str, change: fn(&mut Value)| {
        let folder = copy("llama-mha", test);
        edit(&folder.join("config.json"), change);
        load(&folder).unwrap().spec().is_encoder()
    };
    assert!(is_encoder("causal", |c| c["is_causal"] = json!(false)));
    assert!(!is_encoder("not-causal", |c| c["is_causal"] = json!(true)));
    assert!(!is_encoder("not-both-ways", |c| c["use_bidirectional_attention"] = json!(false)));
}

#[test]
fn broken_json_is_named_with_its_file() {
    for file in ["config.json", "tokenizer.json", "tokenizer_config.json"] {
        let folder = copy("llama-mha", &format!("json-{file}"));
        std::fs::write(folder.join(file), "{\"model_type\": \"llama\",").unwrap();
        let error = error(&folder);
        assert!(matches!(error, Error::Corrupt { .. }), "{error:?}");
        assert_says(&error, &[file]);
    }
}

#[test]
fn missing_and_misshapen_tensors_are_named_as_the_file_names_them() {
    let error = with_config("missing", |c| c["num_hidden_layers"] = json!(3));
    assert!(matches!(error, Error::Corrupt { .. }));
    assert_says(&error, &["tensor model.layers.2.", "is missing"]);
    let error = with_config("misshapen", |c| c["intermediate_size"] = json!(95));
    assert_says(&error, &["model.safetensors", "tensor model.layers.0.mlp.gate_proj.weight is 96x48, expected 95x48"]);
    let folder = copy("gpt2-hub", "misshapen-conv1d");
    edit(&folder.join("config.json"), |c| c["n_inner"] = json!(100));
    assert_says(&self::error(&folder), &["h.0.mlp.c_fc.weight is 40x160, read as 160x40, expected 100x40"]);
}

#[test]
fn weights_that_are_not_finite_are_an_error_that_names_the_tensor() {
    let folder = copy("llama-mha", "nan");
    let file = folder.join("model.safetensors");
    let mut bytes = std::fs::read(&file).unwrap();
    let end = bytes.len();
    bytes[end - 4..].copy_from_slice(&f32::NAN.to_le_bytes());
    std::fs::write(&file, bytes).unwrap();
    let error = error(&folder);
    assert!(matches!(error, Error::Corrupt { .. }));
    assert_says(&error, &["model.safetensors", "tensor ", "NaN or infinity"]);
}

#[test]
fn a_missing_shard_and_one_outside_the_folder_are_refused() {
    let folder = copy("llama-sharded-bf16", "shard");
    std::fs::remove_file(folder.join("model-00002-of-00003.safetensors")).unwrap();
    assert_says(&error(&folder), &["model-00002-of-00003.safetensors"]);
    let folder = copy("llama-sharded-bf16", "shard-outside");
    edit(&folder.join("model.safetensors.index.json"), |index| {
        let map = index["weight_map"].as_object_mut().unwrap();
        map.values_mut().for_each(|shard| *shard = json!("../../../etc/passwd"));
    });
    assert_says(&error(&folder), &["model.safetensors.index.json", "../../../etc/passwd"]);
}

#[test]
fn truncated_files_are_corrupt_at_any_length() {
    for (case, file) in [("llama-mha", "model.safetensors"), ("gguf-q8_0-spm", "model-q8_0.gguf")] {
        let folder = copy(case, &format!("truncated-{case}"));
        let path = folder.join(file);
        let whole = std::fs::read(&path).unwrap();
        for part in 0..24 {
            std::fs::write(&path, &whole[..whole.len() * part / 24]).unwrap();
            let target = if case == "llama-mha" { &folder } else { &path };
            let error = error(target);
            assert!(matches!(error, Error::Corrupt { .. } | Error::Unsupported { .. }), "{part}/24 of {file}: {error:?}");
            assert_says(&error, &[file]);
        }
    }
}

#[test]
fn a_folder_with_only_a_pickle_says_why_it_is_not_read() {
    let folder = copy("llama-mha", "pickle");
    std::fs::rename(folder.join("model.safetensors"), folder.join("pytorch_model.bin")).unwrap();
    let error = error(&folder);
    assert!(matches!(error, Error::Unsupported { .. }), "{error:?}");
    assert_says(&error, &["pytorch_model.bin", "pickle", "safetensors"]);
}

#[test]
fn templates_that_do_not_parse_raise_or_never_end_give_an_error() {
    let with = |template: &str| {
        let options = LoadOptions { chat_template: Some(template.into()), threads: Some(1), ..LoadOptions::default() };
        let model = Model::load_with(golden("llama-gqa-tied").to_str().unwrap(), &options)?;
        model.template()?.unwrap().render(&[Message::user("Hello")], true)
    };
    let error = |template: &str| match with(template) {
        Err(Error::Template(message)) => message,
        other => panic!("{other:?}"),
    };
    assert!(error("{% if %}").contains("line 1"));
    assert!(error("{{ raise_exception('Roles must alternate') }}").contains("Roles must alternate"));
    let endless = "{% for a in range(100000) %}{% for b in range(100000) %}{% for c in range(100000) %}x{% endfor %}{% endfor %}{% endfor %}";
    let message = error(endless);
    assert!(!message.is_empty(), "{message}");
    error("{% macro f() %}{{ f() }}{% endmacro %}{{ f() }}");
    // What goes deeper than any real template, and than a thread's usual stack.
    let chain = |part: &str| with(&format!("{{{{ 1{} }}}}", part.repeat(120_000 / part.len())));
    // Jinja ends with a RecursionError at most of these.
    let right_or_too_deep = |rendered: Result<String, Error>, right: &str| match rendered {
        Ok(text) => assert_eq!(text, right),
        Err(Error::Template(why)) => assert!(why.contains("deep"), "{why}"),
        Err(other) => panic!("{other:?}"),
    };
    right_or_too_deep(chain("+1"), "60001");
    right_or_too_deep(chain(" if 1 else 1"), "1");
    assert!(chain(".a").is_err());
    let nested = |then: &str| {
        let grow = "{% set ns.x = [[[[[[[[[[ns.x]]]]]]]]]] %}";
        with(&format!("{{% set ns = namespace(x=[]) %}}{{% for i in range(10000) %}}{grow}{{% endfor %}}{then}"))
    };
    right_or_too_deep(nested(""), "");
    right_or_too_deep(nested("{{ ns.x|string|length }}"), "200002");
    right_or_too_deep(nested("{{ ns.x|tojson|length }}"), "200002");
    assert!(error(&"x".repeat(200_000)).contains("expected at most"));
    let clock = std::time::Instant::now();
    assert_eq!(with(&"{% if 1 %}{% endif %}".repeat(6_000)).unwrap(), "");
    assert_eq!(with(&format!("{{% raw %}}{}{{% endraw %}}", "{%".repeat(60_000))).unwrap().len(), 120_000);
    assert!(clock.elapsed().as_secs() < 20, "{:?}", clock.elapsed());
}

#[test]
fn a_tokenizer_whose_rules_can_not_be_applied_is_an_error_and_no_panic() {
    let damaged = |test: &str, change: fn(&mut Value)| {
        let folder = copy("gpt2-hub", test);
        edit(&folder.join("tokenizer.json"), change);
        let encoded = load(&folder).and_then(|model| model.tokenizer().encode("The river", true));
        assert_says(&encoded.unwrap_err(), &["the tokenizer is damaged"]);
    };
    damaged("tokenizer-replace", |t| {
        t["normalizer"] = json!({"type": "Replace", "pattern": {"String": ""}, "content": "x"});
    });
    damaged("tokenizer-special", |t| {
        let single = json!([{"SpecialToken": {"id": "nope", "type_id": 0}}, {"Sequence": {"id": "A", "type_id": 0}}]);
        let pair = json!([{"Sequence": {"id": "A", "type_id": 0}}, {"Sequence": {"id": "B", "type_id": 1}}]);
        t["post_processor"] = json!({"type": "TemplateProcessing", "single": single, "pair": pair, "special_tokens": {}});
    });
    damaged("tokenizer-prefix", |t| t["model"]["continuing_subword_prefix"] = json!("##########"));
}

#[test]
fn prompts_and_options_that_can_not_be_used_are_refused() {
    let model = load(&golden("gguf-f16-bpe")).unwrap();
    let vocab = model.spec().vocab as u32;
    assert_says(&model.logits(&[vocab], false).unwrap_err(), &["outside the vocabulary"]);
    let long = vec![1; model.context() + 1];
    assert!(matches!(model.logits(&long, false), Err(Error::ContextOverflow { .. })));
    let sampling = SampleOptions { top_p: 1.5, ..SampleOptions::default() };
    let options = GenerateOptions { sampling, ..GenerateOptions::default() };
    let error = model.session().unwrap().generate("Hello", &options).err().unwrap();
    assert_says(&error, &["top_p", "1.5"]);
    let no_bos = load(&golden("llama-gqa-tied")).unwrap();
    let error = no_bos.session().unwrap().generate("", &GenerateOptions::default()).err().unwrap();
    assert_says(&error, &["the prompt gives no token"]);
}

#[test]
fn a_context_that_does_not_fit_is_out_of_memory_with_both_numbers() {
    let folder = golden("llama-mha");
    let options = LoadOptions { context: Some(100_000_000_000), threads: Some(1), ..LoadOptions::default() };
    match Model::load_with(folder.to_str().unwrap(), &options) {
        Err(Error::OutOfMemory { need, have, .. }) => assert!(need > have && have > 0),
        Err(other) => panic!("{other}"),
        // A system that does not tell its memory can not be asked.
        Ok(_) => assert!(tallow::device::available_memory().is_none()),
    }
}

#[test]
fn single_damaged_bytes_in_a_gguf_file_load_and_run_or_give_a_typed_error() {
    let whole = std::fs::read(golden("gguf-q4_0-bpe/model-q4_0.gguf")).unwrap();
    let mut state = 0x2545_f491_4f6c_dd1d_u64;
    let mut random = move || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state as usize
    };
    let options = LoadOptions { threads: Some(1), context: Some(64), ..LoadOptions::default() };
    for _ in 0..300 {
        let mut bytes = whole.clone();
        // Mostly the header, where the numbers are.
        let at = if random() % 4 == 0 { random() % bytes.len() } else { random() % 2048 };
        bytes[at] ^= 1 << (random() % 8);
        if let Ok(model) = Model::from_gguf_bytes(bytes, &options) {
            // NaN logits are an error of the sampler; anything else must run.
            let _ = model.logits(&[1, 2, 3], false);
        }
    }
}

#[test]
fn what_a_model_does_not_need_does_not_keep_it_from_running() {
    let folder = copy("llama-gqa-tied", "extras");
    std::fs::write(folder.join("chat_template.jinja"), "{% if %}").unwrap();
    std::fs::write(folder.join("README.md"), b"caf\xe9").unwrap();
    std::fs::write(folder.join("LICENSE"), b"\xff").unwrap();
    edit(&folder.join("config.json"), |c| {
        c["num_local_experts"] = json!(0);
        c["rope_scaling"] = json!({});
    });
    let model = load(&folder).unwrap();
    model.logits(&[1, 2], false).unwrap();
    assert!(matches!(model.template(), Err(Error::Template(_))));
    let error = model.session().unwrap().chat(&[Message::user("Hi")], &model.defaults()).err().unwrap();
    assert_says(&error, &["chat template", "line 1"]);
}

#[test]
fn rope_settings_that_are_not_understood_are_refused_and_the_newer_spelling_wins() {
    for (i, (key, value, parts)) in [
        ("rope_scaling", json!("yarn"), ["rope_scaling", "expected an object"]),
        ("rope_parameters", json!({"rope_type": 5}), ["rope_type", "expected a name"]),
        ("rope_parameters", json!({"full_attention": {"rope_type": "warp"}}), ["rope scaling", "warp"]),
        (
            "rope_parameters",
            json!({"rope_type": "linear", "factor": 2.0, "partial_rotary_factor": 1.5}),
            ["partial_rotary_factor", "above 0"],
        ),
    ]
    .into_iter()
    .enumerate()
    {
        assert_says(&with_config(&format!("rope-{i}"), |c| c[key] = value), &parts);
    }
    let folder = copy("llama-mha", "rope-newer");
    edit(&folder.join("config.json"), |c| c["rope_parameters"] = json!({"rope_theta": 500000.0, "rope_type": "default"}));
    let spec = format!("{:?}", load(&folder).unwrap().spec().position);
    assert!(spec.contains("theta: 500000.0"), "{spec}");
}

#[test]
fn contexts_too_short_to_generate_and_foreign_quantisation_are_refused() {
    assert_says(&with_config("context-1", |c| c["max_position_embeddings"] = json!(1)), &["context of 1"]);
    assert_says(&with_config("gptq", |c| c["quantization_config"] = json!({"quant_method": "gptq"})), &["gptq", "GGUF"]);
    assert_says(&with_config("wide", |c| c["hidden_size"] = json!(1 << 27)), &["embedding table is [512, 48]"]);
    let short = LoadOptions { context: Some(1), ..LoadOptions::default() };
    assert!(matches!(Model::load_with(golden("llama-mha").to_str().unwrap(), &short), Err(Error::Input(_))));
    let long = LoadOptions { context: Some(5000), ..LoadOptions::default() };
    let error = Model::load_with(golden("gpt2-hub").to_str().unwrap(), &long).err().unwrap();
    assert_says(&error, &["learned positions for 104"]);
}
