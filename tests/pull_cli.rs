//! Pulling, as a user meets it: the real binary and a Hub on 127.0.0.1 (`tests/support/hub`).

#![cfg(feature = "hub")]

#[path = "support/hub/mod.rs"]
mod server;

use serde_json::{Value, json};
use server::{At, Commit, Hub, Kind};
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

fn golden(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden").join(path)
}

/// A tiny model.
fn model() -> Vec<u8> {
    std::fs::read(golden("gguf-f16-bpe/model-f16.gguf")).unwrap()
}

/// The tiny model with so much behind its tensors that a look at its header is little of it.
fn large_model() -> Vec<u8> {
    [model(), vec![7; 4 << 20]].concat()
}

/// A user's home folder, empty.
fn home(test: &str) -> PathBuf {
    let path = Path::new(env!("CARGO_TARGET_TMPDIR")).join("pull_cli").join(test);
    let _ = std::fs::remove_dir_all(&path);
    std::fs::create_dir_all(&path).expect("a folder for the test");
    path
}

/// The program with this home and this Hub, and nothing else from the environment.
fn tallow(home: &Path, hub: &Hub, args: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_tallow"));
    command.args(args).env_clear().stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    for name in ["PATH", "SYSTEMROOT", "TEMP"] {
        if let Some(value) = std::env::var_os(name) {
            command.env(name, value);
        }
    }
    command.env("HOME", home).env("HF_HOME", home.join("hf")).env("OLLAMA_MODELS", home.join("none"));
    command.env("HF_ENDPOINT", hub.endpoint()).env("TALLOW_HUB_BACKOFF_MS", "0");
    command
}

fn run(home: &Path, hub: &Hub, args: &[&str]) -> Output {
    tallow(home, hub, args).output().expect("the program starts")
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8(bytes.to_vec()).expect("output is UTF-8")
}

#[track_caller]
fn ok(output: &Output) -> String {
    assert!(output.status.success(), "{:?}\n{}", output.status, text(&output.stderr));
    text(&output.stdout)
}

const RUN: [&str; 10] = ["run", "org/tiny", "The river", "--raw", "--temp", "0", "-n", "4", "--cpu", "--json"];

#[test]
fn a_pull_says_ollamas_lines_on_stderr_and_with_q_only_the_path() {
    let (home, hub) = (home("lines"), Hub::start());
    let commit =
        hub.push("org/tiny", Commit::default().lfs("tiny-f16.gguf", model()).file("README.md", "---\nlicense: mit\n---\n"));
    let output = run(&home, &hub, &["pull", "org/tiny"]);
    assert_eq!(ok(&output), "");
    let (lines, digest) = (text(&output.stderr), server::sha256(&model()));
    let (first, last) = ("pulling manifest\n", "verifying sha256 digest\nsuccess\n");
    assert!(lines.starts_with(first) && lines.ends_with(last), "{lines}");
    assert!(lines.contains(&format!("pulling {}... 100% ", &digest[..12])), "{lines}");
    assert!(!lines.contains('\r') && !lines.contains('\u{1b}'), "nothing is animated here: {lines:?}");

    let quiet = run(&home, &hub, &["pull", "-q", "org/tiny"]);
    let path = home.join(format!("hf/hub/models--org--tiny/snapshots/{commit}/tiny-f16.gguf"));
    assert_eq!((ok(&quiet), text(&quiet.stderr)), (format!("{}\n", path.display()), String::new()));
    assert_eq!(std::fs::read(path).unwrap(), model());
    let told: Value = serde_json::from_str(&ok(&run(&home, &hub, &["pull", "-q", "org/tiny", "--json"]))).unwrap();
    assert_eq!((&told["models"][0]["commit"], &told["models"][0]["fetched"]), (&json!(commit), &json!(0)));
}

#[test]
fn a_dry_run_tells_files_bytes_and_memory_from_headers_alone() {
    let (home, hub) = (home("dry"), Hub::start());
    let weights = large_model();
    hub.push("org/large", Commit::default().lfs("m-F16.gguf", weights.clone()).lfs("m-Q8_0.gguf", vec![0; 99]));
    let told = ok(&run(&home, &hub, &["pull", "org/large:F16", "--dry-run"]));
    for part in ["m-F16.gguf", "4.5 MB", "to fetch", "llama, ", "parameters, F16", "CONTEXT", "MEMORY"] {
        assert!(told.contains(part), "expected {part:?} in {told}");
    }
    assert!(hub.bytes_served() < weights.len() / 2, "{} bytes were served", hub.bytes_served());
    let blobs = home.join("hf/hub/models--org--large/blobs");
    assert!(!blobs.exists() || std::fs::read_dir(blobs).unwrap().count() == 0, "nothing is kept");
    let told: Value = serde_json::from_str(&ok(&run(&home, &hub, &["pull", "org/large:f16", "--dry-run", "--json"]))).unwrap();
    let told = &told["models"][0];
    assert_eq!((&told["to_fetch"], &told["files"][0]["cached"]), (&json!(weights.len()), &json!(false)));
    let shown: Value = serde_json::from_str(&ok(&run(
        &home,
        &hub,
        &["show", golden("gguf-f16-bpe/model-f16.gguf").to_str().unwrap(), "--json"],
    )))
    .unwrap();
    assert_eq!(told["memory"]["context_length"], shown["model"]["context_length"]);
    assert_eq!(told["memory"]["contexts"], shown["memory"]["contexts"]);
    assert_eq!(told["memory"].get("beyond_window"), Some(&Value::Null), "no layer of it has a window");
    let dry = ["pull", "org/large:f16", "--dry-run", "--json", "--cache-type", "q8_0"];
    let narrow: Value = serde_json::from_str(&ok(&run(&home, &hub, &dry))).unwrap();
    let per_token = |told: &Value| told["memory"]["cache_per_token"].as_u64().unwrap();
    // Heads of 16 numbers, which take 18 bytes; as f32, which float weights have, 64.
    assert_eq!(per_token(told) * 18, per_token(&narrow["models"][0]) * 64);
}

#[test]
fn run_fetches_what_is_not_here_and_once_it_is_asks_nobody() {
    let (home, hub) = (home("run"), Hub::start());
    hub.push("org/tiny", Commit::default().lfs("tiny-f16.gguf", model()));
    let offline = run(&home, &hub, &[&RUN[..], &["--offline"]].concat());
    assert_eq!(offline.status.code(), Some(3));
    assert_eq!(hub.connections(), 0);
    let first: Value = serde_json::from_str(&ok(&run(&home, &hub, &RUN))).unwrap();
    assert_eq!(first["tokens"].as_array().unwrap().len(), 4);
    let connections = hub.connections();
    let again = run(&home, &hub, &RUN);
    let second: Value = serde_json::from_str(&ok(&again)).unwrap();
    assert_eq!(first["tokens"], second["tokens"]);
    assert_eq!((hub.connections(), text(&again.stderr)), (connections, String::new()));
}

#[test]
fn safetensors_with_shards_are_looked_into_fetched_and_run() {
    let (home, hub) = (home("shards"), Hub::start());
    let mut commit = Commit::default();
    for file in std::fs::read_dir(golden("llama-sharded-bf16")).unwrap().flatten() {
        let (name, bytes) = (file.file_name().into_string().unwrap(), std::fs::read(file.path()).unwrap());
        commit = if name.ends_with(".safetensors") { commit.lfs(&name, bytes) } else { commit.file(&name, bytes) };
    }
    hub.push("org/tiny", commit);
    let told = ok(&run(&home, &hub, &["pull", "org/tiny", "--dry-run"]));
    assert!(told.contains("model-00003-of-00003.safetensors") && told.contains("BF16"), "{told}");
    let fetched: Value = serde_json::from_str(&ok(&run(&home, &hub, &RUN))).unwrap();
    let path = golden("llama-sharded-bf16");
    let args = [&["run", path.to_str().unwrap()], &RUN[2..]].concat();
    let local: Value = serde_json::from_str(&ok(&run(&home, &hub, &args))).unwrap();
    assert_eq!(fetched["tokens"], local["tokens"]);
    let shown: Value = serde_json::from_str(&ok(&run(&home, &hub, &["show", "org/tiny", "--json"]))).unwrap();
    assert_eq!(shown["model"]["name"], "org/tiny");
}

#[test]
fn a_model_that_can_not_run_is_refused_before_its_weights_are_fetched() {
    let (home, hub) = (home("refused"), Hub::start());
    let config = r#"{"model_type": "whisper"}"#;
    let files = Commit::default().file("config.json", config).file("tokenizer.json", "{}");
    hub.push("org/other", files.lfs("model.safetensors", vec![0; 5000]));
    for args in [&["run", "org/other", "hi"][..], &["pull", "org/other"], &["pull", "org/other", "--dry-run"]] {
        let output = run(&home, &hub, args);
        let stderr = text(&output.stderr);
        assert_eq!(output.status.code(), Some(1), "{stderr}");
        assert!(stderr.contains("org/other/config.json") && stderr.contains("the family \"whisper\""), "{stderr}");
    }
    assert!(hub.bytes_served() < 3000, "{}", hub.bytes_served());
}

#[test]
fn the_ways_a_pull_fails_have_their_exit_codes_and_say_what_to_do() {
    let (home, hub) = (home("failures"), Hub::start());
    // Other contents than below: the store knows files by their digest.
    let other = std::fs::read(golden("gguf-q4_0-bpe/model-q4_0.gguf")).unwrap();
    hub.push("org/gated", Commit::default().lfs("g-Q4_0.gguf", other));
    hub.gate("org/gated", "manual");
    let (code, stderr) = {
        let output = run(&home, &hub, &["pull", "org/gated"]);
        (output.status.code(), text(&output.stderr))
    };
    assert_eq!(code, Some(5), "{stderr}");
    assert!(stderr.contains("HF_TOKEN") && stderr.contains("no token was sent"), "{stderr}");
    hub.token("hf_good", true);
    ok(&run(&home, &hub, &["pull", "org/gated", "--token", "hf_good"]));

    hub.push("org/tiny", Commit::default().lfs("tiny-f16.gguf", model()));
    // The header is read first; what is spoilt is the download.
    hub.faults(At::Bytes, "tiny-f16.gguf", Kind::Flip(200_000), 99);
    let output = run(&home, &hub, &["pull", "org/tiny"]);
    assert_eq!(output.status.code(), Some(6), "{}", text(&output.stderr));
    hub.heal();
    ok(&run(&home, &hub, &["pull", "org/tiny"]));
}

/// A signal ends the program with 130; what has come stays, and the next pull fetches only the rest.
#[cfg(unix)]
#[test]
fn ctrl_c_ends_a_pull_with_130_and_the_next_one_goes_on() {
    let (home, hub) = (home("interrupt"), Hub::start());
    let weights = large_model();
    let half = weights.len() / 2;
    hub.push("org/large", Commit::default().lfs("m-F16.gguf", weights.clone()));
    let child = tallow(&home, &hub, &["pull", "org/large", "--include", "*.gguf"]);
    hub.fault(At::Bytes, "m-F16.gguf", Kind::Stall(half));
    let child = { child }.spawn().expect("the program starts");
    hub.wait_for_stall();
    let blobs = home.join("hf/hub/models--org--large/blobs");
    let partial = |path: &Path| {
        let files = std::fs::read_dir(path).into_iter().flatten().flatten();
        files.filter_map(|file| file.metadata().ok()).map(|meta| meta.len()).sum::<u64>()
    };
    // Bytes that were sent are on their way to the disk; how many have arrived is not for this test to say.
    let killed = Command::new("kill").args(["-INT", &child.id().to_string()]).status().expect("kill starts");
    assert!(killed.success());
    let output = child.wait_with_output().unwrap();
    assert_eq!(output.status.code(), Some(130), "{}", text(&output.stderr));
    assert!(text(&output.stderr).contains("the same command goes on"), "{}", text(&output.stderr));
    let kept = partial(&blobs);
    hub.release();
    hub.forget();
    ok(&run(&home, &hub, &["pull", "org/large", "--include", "*.gguf"]));
    assert_eq!(hub.bytes_served() as u64, weights.len() as u64 - kept);
}
