//! Python's `huggingface_hub`, a client nobody here wrote, against the tests' Hub and tallow's cache.
//!
//! The interpreter is `TALLOW_PYTHON`, else `python3`. Where it lacks the package the tests pass with a message, unless
//! `TALLOW_REQUIRE_PYTHON` is set, as it is in CI.

use super::*;
use std::process::Command;

/// The interpreter that has the package, if there is one.
pub fn python() -> Option<String> {
    let python = std::env::var("TALLOW_PYTHON").unwrap_or_else(|_| "python3".to_owned());
    let has_it = Command::new(&python).args(["-c", "import huggingface_hub"]).output().is_ok_and(|out| out.status.success());
    if !has_it {
        let message = format!("{python} cannot import huggingface_hub (TALLOW_PYTHON names another interpreter)");
        assert!(std::env::var_os("TALLOW_REQUIRE_PYTHON").is_none(), "{message}");
        eprintln!("skipped: {message}");
    }
    has_it.then_some(python)
}

/// What `tests/interop/read_hub.py` prints.
pub fn ask(python: &str, hub: &Hub, cache: &Path, arguments: &[&str]) -> Value {
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/interop/read_hub.py");
    let mut command = Command::new(python);
    for (key, _) in std::env::vars_os().filter(|(key, _)| key.to_string_lossy().starts_with("HF_")) {
        command.env_remove(key);
    }
    command.arg(script).args(arguments).env("HF_ENDPOINT", hub.endpoint()).env("NO_PROXY", "*");
    command.env("HF_HOME", cache.join("home")).env("HF_HUB_CACHE", cache);
    let output = command.output().expect("the interpreter starts");
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{arguments:?}: {stderr}");
    serde_json::from_slice(&output.stdout).unwrap_or_else(|error| panic!("{error}: {stderr}"))
}

/// A repository with each kind of file: small, large, in a folder, empty.
fn every_kind() -> Commit {
    Commit::default()
        .file("config.json", r#"{"architectures":["LlamaForCausalLM"]}"#)
        .file("README.md", "---\nlicense: apache-2.0\n---\n")
        .file("empty.txt", "")
        .lfs("model.safetensors", bytes(5000, 1))
        .lfs("onnx/deep/model.onnx", bytes(3000, 2))
        .file("onnx/config with space.json", "{}")
}

#[test]
fn pythons_client_takes_the_tests_hub_for_the_real_one() {
    let Some(python) = python() else { return };
    let cache = folder("pythons_client");
    let hub = Hub::start();
    let sha = hub.push("org/model", every_kind());
    hub.push_to("org/model", "refs/pr/1", Commit::default().file("config.json", "{}"));
    hub.license("org/model", "apache-2.0");
    hub.push("org/gated", every_kind());
    hub.gate("org/gated", "manual");
    let said = ask(&python, &hub, &cache, &["client", "org/model", "main"]);
    assert_eq!(said["sha"], json!(sha));
    assert_eq!(said["tree"], said["siblings"]);
    assert_eq!(said["tree"].as_object().unwrap().len(), 6, "all pages are read");
    assert_eq!(said["folders"], json!(["onnx", "onnx/deep"]));
    assert_eq!(said["license"], json!("apache-2.0"));
    assert_eq!(said["gated"], json!(false));
    assert_eq!(said["tree"]["model.safetensors"], json!(server::sha256(&bytes(5000, 1))));
    // `printf '' | git hash-object --stdin`
    assert_eq!(said["tree"]["empty.txt"], json!("e69de29bb2d1d6434b8b29ae775ad8c2e48c5391"));
    for (path, metadata) in said["metadata"].as_object().unwrap() {
        assert_eq!(metadata["etag"], said["tree"][path], "{path}");
        assert_eq!(metadata["size"], said["sizes"][path], "{path}");
        assert_eq!(metadata["commit"], json!(sha), "{path}");
    }
    assert_eq!(
        said["errors"],
        json!({
            "repo": "RepositoryNotFoundError",
            "revision": "RevisionNotFoundError",
            "entry": "RemoteEntryNotFoundError",
            "gated": "GatedRepoError",
        })
    );
    let fetched = ask(&python, &hub, &cache, &["fetch", "org/model"]);
    let path = PathBuf::from(fetched["path"].as_str().unwrap());
    assert_eq!(std::fs::read(path.join("onnx/deep/model.onnx")).unwrap(), bytes(3000, 2));
    assert_eq!(std::fs::read(path.join("empty.txt")).unwrap(), b"");
    assert!(hub.requests().iter().any(|request| request.host == server::Host::Store));
}

#[test]
fn what_tallow_pulled_python_finds() {
    let Some(python) = python() else { return };
    let (cache, hub) = (folder("python_finds"), Hub::start());
    let commit = Commit::default()
        .file("config.json", "{}")
        .file("tokenizer.json", "{ }")
        .file("README.md", "a card")
        .file("1_Pooling/config.json", "{  }")
        .lfs("model.safetensors", bytes(5000, 1))
        .lfs("pytorch_model.bin", bytes(5001, 2));
    let sha = hub.push("org/model", commit);
    hub.push_to("org/model", "refs/pr/1", Commit::default().lfs("m-Q8_0.gguf", bytes(400, 3)).file("README.md", "a card"));
    let options = options(&hub, &cache);
    let pulled = pull("org/model", &options).unwrap();
    let other = pull("org/model@refs/pr/1", &options).unwrap();
    for (revision, pulled) in [("main", &pulled), (&sha, &pulled), ("refs/pr/1", &other)] {
        let said = ask(&python, &hub, &cache, &["cache", "org/model", revision]);
        assert_eq!(said["warnings"], json!([]));
        let found = PathBuf::from(said["path"].as_str().unwrap());
        assert_eq!(found.canonicalize().unwrap(), pulled.snapshot.canonicalize().unwrap(), "{revision}");
        let came = files(&pulled.snapshot);
        for path in &came {
            let wanted = pulled.snapshot.join(path).canonicalize().unwrap();
            for way in ["downloads", "loads"] {
                let found = said[way][path].as_str().unwrap_or_else(|| panic!("{way} {path}: {said}"));
                assert_eq!(Path::new(found).canonicalize().unwrap(), wanted, "{way} {path}");
            }
        }
        assert_eq!(said["downloads"].as_object().unwrap().len(), came.len());
        let repo = &said["repos"]["org/model"];
        assert_eq!(repo["type"], json!("model"));
        assert_eq!(repo["size"], json!(5000 + 2 + 3 + 6 + 4 + 400), "the card, of both commits, is one blob");
        let snapshot = &repo["revisions"][&pulled.commit];
        let refs = if pulled.commit == sha { json!(["main"]) } else { json!(["refs/pr/1"]) };
        assert_eq!(snapshot["refs"], refs);
        assert_eq!(snapshot["size"], json!(pulled.size));
        assert_eq!(snapshot["files"].as_object().unwrap().len(), came.len());
        for (path, file) in snapshot["files"].as_object().unwrap() {
            let bytes = std::fs::read(pulled.snapshot.join(path)).unwrap();
            assert_eq!(file["size"], json!(bytes.len()), "{path}");
            let digest = if bytes.len() >= 400 { server::sha256(&bytes) } else { server::git_oid(&bytes) };
            assert_eq!(file["blob"], json!(digest), "{path}");
        }
    }
    // And goes on from there: only what tallow left out comes.
    hub.forget();
    ask(&python, &hub, &cache, &["fetch", "org/model"]);
    assert_eq!(hub.bytes_served(), 5001, "{:#?}", hub.requests());
}

#[test]
fn what_python_fetched_tallow_finds() {
    let Some(python) = python() else { return };
    let (cache, hub) = (folder("tallow_finds"), Hub::start());
    let commit = Commit::default()
        .lfs("m-Q4_K_M.gguf", bytes(900, 1))
        .lfs("deep/m-Q8_0.gguf", bytes(901, 2))
        .file("README.md", "a card")
        .file("empty.txt", "");
    let sha = hub.push("org/model", commit);
    let fetched = ask(&python, &hub, &cache, &["fetch", "org/model"]);
    let snapshot = PathBuf::from(fetched["path"].as_str().unwrap());
    let options = options(&hub, &cache);
    for text in ["org/model", "org/model:Q4_K_M", &format!("org/model@{sha}")] {
        assert_eq!(hub::locate(&reference(text), &options).unwrap(), Some(snapshot.join("m-Q4_K_M.gguf")), "{text}");
    }
    assert_eq!(hub::locate(&reference("org/model:Q8_0"), &options).unwrap(), Some(snapshot.join("deep/m-Q8_0.gguf")));
    let listed = hub::list(&options).unwrap();
    assert_eq!(listed.len(), 1);
    assert_eq!((listed[0].repo.as_str(), listed[0].size, listed[0].partial), ("org/model", 900 + 901 + 6, 0));
    assert_eq!(listed[0].revisions.len(), 1);
    let revision = &listed[0].revisions[0];
    assert_eq!(
        (revision.commit.as_str(), revision.refs.as_slice(), revision.size),
        (sha.as_str(), &["main".to_owned()][..], 1807)
    );
    let paths: Vec<(&str, u64)> = revision.files.iter().map(|file| (file.path.as_str(), file.size)).collect();
    assert_eq!(paths, [("README.md", 6), ("deep/m-Q8_0.gguf", 901), ("empty.txt", 0), ("m-Q4_K_M.gguf", 900)]);
    hub.forget();
    let pulled = pull("org/model", &options).unwrap();
    assert_eq!((pulled.fetched, hub.bytes_served()), (0, 0));
    let offline = HubOptions { offline: true, ..options };
    hub.forget();
    assert_eq!(pull("org/model:Q8_0", &offline).unwrap().path, snapshot.join("deep/m-Q8_0.gguf"));
    assert_eq!(hub.requests().len(), 0);
}

/// Python's newer versions give each download a name of its own and resume nothing; older ones leave `DIGEST.incomplete`,
/// as tallow does. Either way each goes on where the other stopped, and the other's leavings harm neither.
#[test]
fn a_download_that_one_began_the_other_ends() {
    let Some(python) = python() else { return };
    let (cache, hub) = (folder("began"), Hub::start());
    let commit = hub.push("org/model", Commit::default().lfs("m-Q8_0.gguf", bytes(900, 1)).file("README.md", "a card"));
    let options = HubOptions { attempts: 1, ..options(&hub, &cache) };
    hub.fault(At::Bytes, ".gguf", Kind::Cut(300));
    hub.fault(At::Bytes, ".gguf", Kind::Close);
    pull("org/model", &options).unwrap_err();
    hub.heal();
    ask(&python, &hub, &cache, &["fetch", "org/model"]);
    let said = ask(&python, &hub, &cache, &["cache", "org/model", "main"]);
    assert_eq!(said["warnings"], json!([]));
    hub.forget();
    let pulled = pull("org/model", &options).unwrap();
    assert_eq!((pulled.fetched, hub.bytes_served()), (0, 0));
    assert_eq!(std::fs::read(&pulled.path).unwrap(), bytes(900, 1));
    let _ = std::fs::remove_dir_all(cache.join("models--org--model/trees"));
    let _ = std::fs::remove_dir_all(cache.join("home"));
    assert_cache(&cache, &commit, &[("m-Q8_0.gguf", &bytes(900, 1)), ("README.md", b"a card")]);
}
