//! Models in Ollama's store: what their Modelfile says applies, flags win over it, and what can not be applied is a line.

use serde_json::{Value, json};
use std::hash::{BuildHasher, BuildHasherDefault, DefaultHasher};
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use tallow::{GenerateOptions, LoadOptions, Message, Model, ModelFiles};

/// A store of Ollama's with one model, `mine`, of these layers beside its weights.
struct Store(PathBuf);

fn weights() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden/gguf-qwen2-q8_0/model-q8_0.gguf")
}

impl Store {
    fn new(test: &str, layers: &[(&str, &str)]) -> Store {
        let path = Path::new(env!("CARGO_TARGET_TMPDIR")).join("ollama").join(test);
        let _ = std::fs::remove_dir_all(&path);
        let store = Store(path);
        let model = store.layer("model", &std::fs::read(weights()).unwrap());
        let layers: Vec<Value> = layers.iter().map(|(kind, text)| store.layer(kind, text.as_bytes())).collect();
        let layers = [vec![model], layers].concat();
        let manifest = json!({ "schemaVersion": 2, "layers": layers }).to_string();
        store.write("manifests/registry.ollama.ai/library/mine/latest", manifest.as_bytes());
        store
    }

    fn layer(&self, kind: &str, bytes: &[u8]) -> Value {
        let hash = BuildHasherDefault::<DefaultHasher>::default().hash_one(bytes);
        // Nobody computes it again.
        let digest = format!("{hash:016x}").repeat(4);
        self.write(&format!("blobs/sha256-{digest}"), bytes);
        json!({ "mediaType": format!("application/vnd.ollama.image.{kind}"), "digest": format!("sha256:{digest}"), "size": bytes.len() })
    }

    fn write(&self, name: &str, bytes: &[u8]) {
        let path = self.0.join(name);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, bytes).unwrap();
    }

    fn run(&self, args: &[&str]) -> Output {
        let mut command = Command::new(env!("CARGO_BIN_EXE_tallow"));
        command.args(args).env_clear().stdin(Stdio::null()).env("HOME", &self.0).env("OLLAMA_MODELS", &self.0);
        command.env("HF_HUB_OFFLINE", "1").output().expect("the program starts")
    }

    /// What a run says on stdout as JSON, and on stderr.
    #[track_caller]
    fn json(&self, args: &[&str]) -> (Value, String) {
        let output = self.run(args);
        let stderr = String::from_utf8(output.stderr).unwrap();
        assert!(output.status.success(), "{args:?}: {stderr}");
        (serde_json::from_slice(&output.stdout).unwrap(), stderr)
    }
}

/// Of an answer, what a prompt and the options decide.
fn decided(answer: &Value) -> Vec<Value> {
    ["prompt_tokens", "tokens", "sampler", "done_reason", "response"].iter().map(|key| answer[*key].clone()).collect()
}

#[test]
fn a_modelfile_applies_as_the_flags_of_the_same_meaning_do_and_flags_win() {
    let params = r#"{"temperature": 0.5, "top_k": 7, "top_p": 0.75, "min_p": 0.05, "repeat_penalty": 1.5, "repeat_last_n": 12,
        "seed": 42, "num_predict": 5, "num_gpu": 99, "use_mmap": true}"#;
    let same = [
        "--temp",
        "0.5",
        "--top-k",
        "7",
        "--top-p",
        "0.75",
        "--min-p",
        "0.05",
        "--repeat-penalty",
        "1.5",
        "--repeat-last-n",
        "12",
        "--seed",
        "42",
        "-n",
        "5",
    ];
    // Flags that win leave the rest of what the Modelfile says.
    let replaced = [&same[2..14], &["--temp", "0", "-n", "3"]].concat();
    let greedy = ["--temp", "0", "-n", "4"];
    let system = ("system", "Talk like a pirate.");
    type Case<'a> = (&'a [(&'a str, &'a str)], &'a [&'a str], &'a [&'a str]);
    let cases: [Case<'_>; 11] = [
        (&[system], &greedy, &["--system", "Talk like a pirate.", "--temp", "0", "-n", "4"]),
        (&[system], &["--system", "B", "--temp", "0", "-n", "4"], &["--system", "B", "--temp", "0", "-n", "4"]),
        (&[system], &["--raw", "--temp", "0", "-n", "4"], &["--raw", "--temp", "0", "-n", "4"]),
        // Of two the last holds, and an empty one says nothing.
        (&[("system", "first"), ("system", "second")], &greedy, &["--system", "second", "--temp", "0", "-n", "4"]),
        (&[("system", "")], &greedy, &greedy),
        (&[("params", params)], &[], &same),
        (&[("params", params)], &["--temp", "0", "-n", "3"], &replaced),
        (&[("params", r#"{"temperature": 0, "num_predict": 9.0}"#)], &["-o", "num_predict=2"], &["--temp", "0", "-n", "2"]),
        (&[("params", r#"{"temperature": 0, "num_predict": -1, "seed": -1}"#)], &["-n", "3"], &["--temp", "0", "-n", "3"]),
        (
            &[("params", r#"{"temperature": 0.5, "top_k": -1, "seed": 7}"#)],
            &["-n", "3"],
            &["--temp", "0.5", "--top-k", "0", "--seed", "7", "-n", "3"],
        ),
        (
            &[("params", r#"{"temperature": 1}"#), ("params", r#"{"temperature": 0}"#)],
            &["-n", "3"],
            &["--temp", "0", "-n", "3"],
        ),
    ];
    for (number, (layers, flags, plain)) in cases.into_iter().enumerate() {
        let store = Store::new(&format!("flags_{number}"), layers);
        let path = weights();
        let (applied, stderr) = store.json(&[&["run", "mine", "Hello", "--json"], flags].concat());
        let (expected, _) = store.json(&[&["run", path.to_str().unwrap(), "Hello", "--json"], plain].concat());
        assert_eq!(decided(&applied), decided(&expected), "{number}: {layers:?} {flags:?}");
        assert_eq!(stderr, "", "{number}");
    }
}

#[test]
fn stop_texts_add_up_and_the_context_is_a_default() {
    let greedy = r#"{"temperature": 0, "num_predict": 12, "num_ctx": 96, "stop": ["STOP-A", ""]}"#;
    let store = Store::new("stop", &[("params", greedy)]);
    let said = |args: &[&str]| String::from_utf8(store.run(args).stderr).unwrap();
    let verbose = said(&["run", "mine", "Hello", "-v", "--stop", "STOP-B"]);
    for words in ["num_ctx 96", "stop \"STOP-A\", stop \"STOP-B\"", "num_predict 12"] {
        assert!(verbose.contains(words), "{words}: {verbose}");
    }
    assert!(said(&["run", "mine", "Hello", "-v", "-c", "80"]).contains("num_ctx 80"));
    // More than the model has is what it has, as with Ollama.
    let large = Store::new("large", &[("params", r#"{"num_ctx": 1000000, "num_predict": 1, "num_thread": 1}"#)]);
    let output = large.run(&["run", "mine", "Hello", "-v"]);
    let verbose = String::from_utf8(output.stderr).unwrap();
    let own = Model::load(weights()).unwrap().context();
    assert!(output.status.success() && verbose.contains(&format!("num_ctx {own},")), "{verbose}");
    // The text ends at a stop of the Modelfile.
    let (whole, _) = store.json(&["run", "mine", "Hello", "--json"]);
    let text = whole["response"].as_str().unwrap();
    let cut: String = text.chars().skip(2).take(3).collect();
    let stopped =
        Store::new("stopped", &[("params", &json!({"temperature": 0, "num_predict": 12, "stop": [cut]}).to_string())]);
    let (answer, _) = stopped.json(&["run", "mine", "Hello", "--json"]);
    assert_eq!(answer["response"].as_str().unwrap(), text.split(cut.as_str()).next().unwrap());
    assert_eq!(answer["done_reason"], "stop");
}

#[test]
fn first_messages_stand_behind_the_system_message_and_before_the_prompt() {
    let messages = r#"[{"role": "user", "content": "Ahoy?"}, {"role": "assistant", "content": "Aye."}]"#;
    let store = Store::new("messages", &[("system", "Be brief."), ("messages", messages)]);
    let (answer, _) = store.json(&["run", "mine", "Hello", "--json", "--temp", "0", "-n", "3"]);
    let talk = [Message::system("Be brief."), Message::user("Ahoy?"), Message::assistant("Aye."), Message::user("Hello")];
    let model = Model::at(ModelFiles::at(weights()).unwrap(), &LoadOptions::default()).unwrap();
    let options = GenerateOptions { max_tokens: Some(1), ..model.defaults() };
    let mut session = model.session().unwrap();
    let generation = session.chat(&talk, &options).unwrap();
    assert_eq!(answer["prompt_tokens"], json!(generation.prompt_tokens()));
}

#[test]
fn show_has_the_system_message_the_parameters_and_the_licence() {
    let params = r#"{"temperature": 0.25, "top_k": 7, "num_ctx": 48, "seed": 3, "num_predict": 9, "stop": ["<end>"]}"#;
    let layers = [("system", "Be brief.\n\nAnd kind."), ("params", params), ("license", "Licence of mine\n")];
    let store = Store::new("show", &layers);
    let out = String::from_utf8(store.run(&["show", "mine"]).stdout).unwrap();
    for line in ["  System\n    Be brief.\n    And kind.\n", "num_ctx", "\"<end>\"", "    Licence of mine\n"] {
        assert!(out.contains(line), "{line}: {out}");
    }
    let (shown, _) = store.json(&["show", "mine", "--json"]);
    assert_eq!(shown["system"], "Be brief.\n\nAnd kind.");
    for (name, value) in [
        ("temperature", json!(0.25)),
        ("top_k", json!(7)),
        ("num_ctx", json!(48)),
        ("seed", json!(3)),
        ("num_predict", json!(9)),
    ] {
        assert_eq!(shown["parameters"][name], value, "{name}");
    }
    let stop = shown["parameters"]["stop"].as_array().unwrap();
    assert!(stop.contains(&json!("<end>")) && stop.len() > 1, "{stop:?}");
    assert_eq!(String::from_utf8(store.run(&["show", "mine", "--system"]).stdout).unwrap(), "Be brief.\n\nAnd kind.\n");
    let plain = store.run(&["show", weights().to_str().unwrap(), "--system"]);
    assert!(!plain.status.success() && String::from_utf8_lossy(&plain.stderr).contains("system message"));
}

#[test]
fn what_can_not_be_applied_is_one_line_and_the_model_runs() {
    let go = "{{ if .System }}<|im_start|>system\n{{ .System }}<|im_end|>\n{{ end }}{{ .Prompt }}";
    for (number, (layer, words)) in [
        (("template", go), &["template", "Go", "chat_template"][..]),
        (("prompt", go), &["template", "Go"]),
        (("adapter", "GGUF of a LoRA"), &["adapter", "LoRA"]),
        (("projector", "GGUF of an encoder"), &["projector", "images"]),
        (("params", r#"{"mirostat": 2}"#), &["mirostat", "not applied"]),
    ]
    .into_iter()
    .enumerate()
    {
        let store = Store::new(&format!("lines_{number}"), &[layer]);
        let (answer, stderr) = store.json(&["run", "mine", "Hello", "--json", "--temp", "0", "-n", "2"]);
        assert_eq!(answer["done"], true);
        assert_eq!(stderr.lines().count(), 1, "{stderr}");
        assert!(words.iter().all(|word| stderr.contains(word)), "{words:?}: {stderr}");
    }
    // A template that the caller gives makes the line pointless, and so does one that is the file's own.
    let store = Store::new("lines_own", &[("template", go)]);
    store.write("own.jinja", b"{{ messages[0].content }}");
    let file = store.0.join("own.jinja");
    let (_, stderr) = store.json(&["run", "mine", "Hello", "--json", "-n", "1", "--chat-template", file.to_str().unwrap()]);
    assert_eq!(stderr, "");
    let model = Model::load(weights()).unwrap();
    let own = model.info().template.clone().unwrap();
    let store = Store::new("lines_same", &[("template", &own)]);
    assert_eq!(store.json(&["run", "mine", "Hello", "--json", "-n", "1"]).1, "");
}

#[test]
fn a_parameter_of_a_wrong_type_and_a_broken_layer_are_errors_that_name_them() {
    for (number, (layer, words)) in [
        (("params", r#"{"top_k": "many"}"#), &["top_k", "\"many\"", "a number"][..]),
        (("params", r#"{"stop": [1]}"#), &["stop", "a list of texts"]),
        (("params", r#"{"top_p": 7}"#), &["top_p"]),
        (("params", "[]"), &["sha256-", "layer"]),
        (("params", "{"), &["sha256-"]),
        (("messages", r#"{"role": "user"}"#), &["sha256-"]),
    ]
    .into_iter()
    .enumerate()
    {
        let store = Store::new(&format!("broken_{number}"), &[layer]);
        let output = store.run(&["run", "mine", "Hello", "-n", "1"]);
        let stderr = String::from_utf8(output.stderr).unwrap();
        assert!(!output.status.success() && !stderr.contains("panicked"), "{layer:?}: {stderr}");
        assert!(words.iter().all(|word| stderr.contains(word)), "{words:?}: {stderr}");
    }
    let store = Store::new("gone", &[("system", "Be brief.")]);
    for entry in std::fs::read_dir(store.0.join("blobs")).unwrap().flatten() {
        if entry.metadata().unwrap().len() < 100 {
            std::fs::remove_file(entry.path()).unwrap();
        }
    }
    let stderr = String::from_utf8(store.run(&["run", "mine", "Hello", "-n", "1"]).stderr).unwrap();
    assert!(stderr.contains("blobs"), "{stderr}");
}
