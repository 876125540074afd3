//! Offline is offline for the program too: each of its commands on a cached model, in a process that dies for a socket.

use super::offline::shut_in;
use super::*;
use std::os::unix::process::ExitStatusExt;
use std::process::{Command, Output, Stdio};

/// The program with a home of its own and this Hub; nothing else of the environment reaches it.
fn tallow(home: &Path, hub: &Hub, args: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_tallow"));
    command.args(args).env_clear().env("HOME", home).env("HF_HOME", home).env("HF_ENDPOINT", hub.endpoint());
    command.env("OLLAMA_MODELS", home.join("none")).env("TALLOW_HUB_BACKOFF_MS", "0");
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    command
}

#[track_caller]
fn ok(output: &Output) -> String {
    assert!(output.status.success(), "{}: {}", output.status, String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout.clone()).expect("output is UTF-8")
}

/// A Hub with a tiny model that runs.
fn with_model() -> Hub {
    let model = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden/gguf-q8_0-spm/model-q8_0.gguf");
    let hub = Hub::start();
    hub.push("org/tiny", Commit::default().lfs("tiny-Q8_0.gguf", std::fs::read(model).unwrap()).file("README.md", "a card"));
    hub
}

const RUN: [&str; 9] = ["run", "org/tiny", "-p", "The river", "--raw", "--temp", "0", "-n", "4"];

#[test]
fn the_program_needs_no_socket_for_a_model_that_is_cached() {
    let (home, hub) = (folder("program"), with_model());
    let pulled = ok(&tallow(&home, &hub, &["pull", "-q", "org/tiny"]).output().unwrap());
    let answer = ok(&tallow(&home, &hub, &RUN).output().unwrap());
    let connections = hub.connections();
    // Nothing says offline here: everything is cached.
    assert_eq!(ok(&shut_in(tallow(&home, &hub, &RUN)).output().unwrap()), answer);
    for args in [&["list"][..], &["show", "org/tiny"], &["tokenize", "org/tiny", "a b"], &["rm", "org/tiny", "--dry-run"]] {
        ok(&shut_in(tallow(&home, &hub, args)).output().unwrap());
    }
    // A pull asks whether a branch has moved, unless it must not.
    assert_eq!(ok(&shut_in(tallow(&home, &hub, &["pull", "-q", "org/tiny", "--offline"])).output().unwrap()), pulled);
    for args in [&["pull", "-q", "org/tiny"][..], &RUN] {
        let mut command = tallow(&home, &hub, args);
        command.env("HF_HUB_OFFLINE", "1");
        ok(&shut_in(command).output().unwrap());
    }
    assert_eq!(hub.connections(), connections);
}

#[test]
fn the_program_refuses_offline_what_is_not_cached_without_a_socket() {
    let (home, hub) = (folder("program_missing"), with_model());
    for args in [&["pull", "org/tiny", "--offline"][..], &[&RUN[..], &["--offline"]].concat()] {
        let output = shut_in(tallow(&home, &hub, args)).output().unwrap();
        assert_eq!(output.status.code(), Some(3), "{output:?}");
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(said.contains("org/tiny") && said.contains("--offline"), "{said}");
    }
}

#[test]
fn the_program_dies_for_its_socket_where_it_has_to_fetch() {
    let (home, hub) = (folder("program_dies"), with_model());
    for args in [&["pull", "org/tiny"][..], &RUN] {
        let output = shut_in(tallow(&home, &hub, args)).output().unwrap();
        assert_eq!(output.status.signal(), Some(libc::SIGSYS), "{output:?}");
    }
    assert_eq!(hub.connections(), 0);
}
