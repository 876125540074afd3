//! Models by name, as a user meets them: found in every source, listed, described, deleted, completed. Nothing here is
//! fetched, and every test has a home of its own.

use serde_json::{Value, json};
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

const COMMIT: &str = "0123456789abcdef0123456789abcdef01234567";
const OTHER: &str = "89abcdef0123456789abcdef0123456789abcdef";

/// A user's home folder.
struct Home(PathBuf);

impl Home {
    fn new(test: &str) -> Home {
        let path = Path::new(env!("CARGO_TARGET_TMPDIR")).join("models_cli").join(test);
        let _ = std::fs::remove_dir_all(&path);
        std::fs::create_dir_all(&path).expect("a folder for the test");
        Home(path)
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.join(name)
    }

    fn cache(&self) -> PathBuf {
        self.path("hf/hub")
    }

    /// Writes a file, and gives its path.
    fn write(&self, name: &str, bytes: &[u8]) -> PathBuf {
        let path = self.path(name);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(&path, bytes).unwrap();
        path
    }

    /// Puts a file into the Hub's cache as `hf download` does.
    fn cached(&self, repo: &str, commit: &str, file: &str, bytes: &[u8]) {
        let root = format!("hf/hub/models--{}", repo.replace('/', "--"));
        let digest = digest(bytes);
        self.write(&format!("{root}/blobs/{digest}"), bytes);
        let link = self.path(&format!("{root}/snapshots/{commit}/{file}"));
        std::fs::create_dir_all(link.parent().unwrap()).unwrap();
        let up = "../".repeat(2 + file.matches('/').count());
        symlink(&format!("{up}blobs/{digest}"), &link);
        if commit == COMMIT {
            self.write(&format!("{root}/refs/main"), commit.as_bytes());
        }
    }

    /// Puts a model into a store as Ollama keeps it.
    fn ollama(&self, name: &str, bytes: &[u8]) {
        let digest = digest(bytes);
        self.write(&format!("ollama/blobs/sha256-{digest}"), bytes);
        let layer =
            json!({ "mediaType": "application/vnd.ollama.image.model", "digest": format!("sha256:{digest}"), "size": 1 });
        let config = json!({ "mediaType": "application/vnd.ollama.image.license", "digest": "sha256:00", "size": 1 });
        let manifest = json!({ "schemaVersion": 2, "layers": [config, layer] }).to_string();
        self.write(&format!("ollama/manifests/registry.ollama.ai/library/{}", name.replace(':', "/")), manifest.as_bytes());
    }

    /// The program with this home, offline, and nothing else from the environment.
    fn tallow(&self, args: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_tallow"));
        command.args(args).env_clear().stdin(Stdio::null()).current_dir(&self.0);
        for name in ["PATH", "SYSTEMROOT", "TEMP"] {
            if let Some(value) = std::env::var_os(name) {
                command.env(name, value);
            }
        }
        command.env("HOME", &self.0).env("HF_HOME", self.path("hf")).env("OLLAMA_MODELS", self.path("ollama"));
        command.env("TALLOW_MODELS", self.path("models")).env("HF_HUB_OFFLINE", "1");
        command
    }

    fn run(&self, args: &[&str]) -> Output {
        self.tallow(args).output().expect("the program starts")
    }

    #[track_caller]
    fn ok(&self, args: &[&str]) -> String {
        let output = self.run(args);
        assert!(output.status.success(), "{args:?}: {:?}\n{}", output.status, text(&output.stderr));
        text(&output.stdout)
    }

    #[track_caller]
    fn json(&self, args: &[&str]) -> Value {
        let out = self.ok(args);
        serde_json::from_str(&out).unwrap_or_else(|e| panic!("{e}: {out}"))
    }

    /// The exit code and stderr of a run that must fail without a result.
    #[track_caller]
    fn failure(&self, args: &[&str]) -> (i32, String) {
        let output = self.run(args);
        assert_eq!(text(&output.stdout), "", "{args:?}");
        let stderr = text(&output.stderr);
        assert!(!stderr.contains("panicked"), "{stderr}");
        (output.status.code().expect("an exit code"), stderr)
    }

    /// The names that `list` has, sorted, but for the model of the repository.
    fn listed(&self) -> Vec<String> {
        let list = self.json(&["list", "--json"]);
        let names = list["models"].as_array().unwrap().iter().map(|model| model["name"].as_str().unwrap().to_owned());
        let mut names: Vec<String> = names.filter(|name| !in_the_repository(name)).collect();
        names.sort();
        names
    }
}

/// The folder `models` above the program is a model folder; what a developer keeps there is no business of the tests.
fn in_the_repository(name: &str) -> bool {
    let repository = Path::new(env!("CARGO_MANIFEST_DIR"));
    let folders = repository.ancestors().map(|folder| folder.join("models"));
    name == "smollm2"
        || folders.into_iter().any(|folder| folder.join(format!("{name}.gguf")).exists() || folder.join(name).exists())
}

#[cfg(unix)]
fn symlink(to: &str, at: &Path) {
    let _ = std::fs::remove_file(at);
    std::os::unix::fs::symlink(to, at).expect("a link");
}

#[cfg(windows)]
fn symlink(to: &str, at: &Path) {
    std::fs::copy(at.parent().unwrap().join(to), at).expect("a copy");
}

/// A name for contents that looks like a sha256 and is as different as the contents are.
fn digest(bytes: &[u8]) -> String {
    let hash =
        bytes.iter().fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| (hash ^ u64::from(*byte)).wrapping_mul(0x100_0000_01b3));
    format!("{hash:016x}").repeat(4)
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8(bytes.to_vec()).expect("output is UTF-8")
}

fn golden(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden").join(path)
}

/// A tiny model, and another.
fn model() -> Vec<u8> {
    std::fs::read(golden("gguf-f16-bpe/model-f16.gguf")).unwrap()
}

fn other_model() -> Vec<u8> {
    std::fs::read(golden("gguf-q4_0-bpe/model-q4_0.gguf")).unwrap()
}

const PROMPT: [&str; 8] = ["The river", "--raw", "--temp", "0", "-n", "4", "--cpu", "--json"];

#[track_caller]
fn tokens(home: &Home, name: &str) -> Value {
    home.json(&[&["run", name], &PROMPT[..]].concat())["tokens"].clone()
}

// --- finding --------------------------------------------------------------------------------------------------------------

#[test]
fn a_model_of_the_cache_runs_by_every_way_to_write_it() {
    let home = Home::new("cached");
    home.cached("org/tiny", COMMIT, "model-f16.gguf", &model());
    home.cached("org/tiny", COMMIT, "sub/model-Q4_0.gguf", &other_model());
    let path = golden("gguf-f16-bpe/model-f16.gguf");
    let expected = tokens(&home, path.to_str().unwrap());
    let at_commit = format!("org/tiny@{COMMIT}:f16");
    for name in ["org/tiny", "org/tiny:F16", "org/tiny:model-f16.gguf", "hf.co/org/tiny:f16", "org/tiny@main", &at_commit] {
        assert_eq!(tokens(&home, name), expected, "{name}");
    }
    assert_ne!(tokens(&home, "org/tiny:q4_0"), json!([]));
    let (code, stderr) = home.failure(&["run", "org/tiny:Q8_0", "hi"]);
    assert_eq!(code, 3);
    assert!(stderr.contains("org/tiny:Q8_0") && stderr.contains("offline"), "{stderr}");
}

#[test]
fn a_program_that_cargo_runs_finds_the_models_of_its_package() {
    let home = Home::new("package");
    home.write("package/models/tiny.gguf", &model());
    let show = |package: &str| home.tallow(&["show", "tiny"]).env("CARGO_MANIFEST_DIR", home.path(package)).output().unwrap();
    let output = show("package");
    assert!(output.status.success(), "{}", text(&output.stderr));
    assert_eq!(show("elsewhere").status.code(), Some(3));
}

#[test]
fn a_name_of_the_catalogue_runs_what_it_stands_for() {
    let home = Home::new("catalogue");
    let repo = "bartowski/Llama-3.2-1B-Instruct-GGUF";
    home.cached(repo, COMMIT, "Llama-3.2-1B-Instruct-Q4_K_M.gguf", &model());
    home.cached(repo, COMMIT, "Llama-3.2-1B-Instruct-Q8_0.gguf", &other_model());
    let expected = tokens(&home, golden("gguf-f16-bpe/model-f16.gguf").to_str().unwrap());
    for name in ["llama3.2:1b", "LLAMA3.2:1b", "llama3.2-1b", "llama3.2:1b-instruct-q4_K_M"] {
        assert_eq!(tokens(&home, name), expected, "{name}");
    }
    let other = tokens(&home, golden("gguf-q4_0-bpe/model-q4_0.gguf").to_str().unwrap());
    assert_eq!(tokens(&home, "llama3.2:1b-q8_0"), other);
    assert_eq!(home.listed(), [format!("{repo}:Q8_0"), "llama3.2:1b".to_owned()]);
}

#[test]
fn what_ollama_and_lm_studio_have_fetched_runs_where_it_lies() {
    let home = Home::new("elsewhere");
    home.ollama("mine:latest", &model());
    home.ollama("llama3.2:3b", &other_model());
    home.write(".lmstudio/models/org/tiny-GGUF/tiny-Q4_K_M.gguf", &other_model());
    home.write(".lmstudio/models/org/tiny-GGUF/mmproj-tiny-f16.gguf", b"no model");
    let first = tokens(&home, golden("gguf-f16-bpe/model-f16.gguf").to_str().unwrap());
    let other = tokens(&home, golden("gguf-q4_0-bpe/model-q4_0.gguf").to_str().unwrap());
    for name in ["mine", "mine:latest", "Mine"] {
        assert_eq!(tokens(&home, name), first, "{name}");
    }
    for name in ["llama3.2", "llama3.2:3b", "org/tiny-GGUF", "org/tiny-GGUF:q4_k_m", "org/tiny-GGUF:tiny-Q4_K_M.gguf"] {
        assert_eq!(tokens(&home, name), other, "{name}");
    }
    assert_eq!(home.listed(), ["llama3.2:3b", "mine:latest", "org/tiny-GGUF:Q4_K_M"]);
    let shown = home.json(&["show", "mine", "--json"]);
    assert_eq!(shown["model"]["name"], "mine");
    assert!(!home.path("hf").exists(), "nothing is copied");
}

#[test]
fn an_unknown_name_is_told_with_the_nearest_and_what_to_do() {
    let home = Home::new("unknown");
    home.cached("org/my-very-own", COMMIT, "m-Q4_0.gguf", &model());
    for (name, parts) in [
        ("smolm2", &["did you mean smollm2", "org/repo"][..]),
        ("mistrall", &["did you mean mistral"]),
        ("llama3.2:9b", &["llama3.2 with the tags 1b,"]),
        ("my-very-ownn", &["did you mean org/my-very-own:Q4_0"]),
        ("nothing-like-it", &["model folder", "catalogue", "Ollama"]),
        ("folder/none.gguf", &["no such file"]),
        ("./none", &["no such file or folder"]),
        ("org/my-very-owm", &["--offline", "tallow pull", "did you mean org/my-very-own:Q4_0"]),
        ("llama3.2:1b", &["bartowski/Llama-3.2-1B-Instruct-GGUF:Q4_K_M", "HF_HUB_OFFLINE"]),
    ] {
        let (code, stderr) = home.failure(&["show", name]);
        assert_eq!(code, 3, "{stderr}");
        assert!(stderr.starts_with("error: model not found: ") && stderr.contains(name), "{stderr}");
        for part in parts {
            assert!(stderr.contains(part), "expected {part:?} in {stderr}");
        }
    }
}

#[test]
fn a_model_whose_family_can_not_run_says_so_by_name_before_anything_else() {
    let home = Home::new("family");
    for command in [&["run", "llava", "hi"][..], &["pull", "llava"], &["show", "llava"]] {
        let (code, stderr) = home.failure(command);
        assert_eq!(code, 1, "{stderr}");
        assert!(stderr.contains("the family \"llava\" is not supported") && stderr.contains("llava-1.5-7b-hf"), "{stderr}");
    }
}

// --- listing --------------------------------------------------------------------------------------------------------------

#[test]
fn the_list_has_every_source_and_each_name_in_it_is_found_again() {
    let home = Home::new("list");
    home.write("models/own.gguf", &model());
    home.cached("org/tiny", COMMIT, "tiny-Q4_0-00001-of-00002.gguf", &other_model());
    home.cached("org/tiny", COMMIT, "tiny-Q4_0-00002-of-00002.gguf", b"a part");
    home.cached("org/tiny", OTHER, "tiny-f16.gguf", &model());
    for file in std::fs::read_dir(golden("llama-mha")).unwrap().flatten() {
        home.cached("org/folder", COMMIT, file.file_name().to_str().unwrap(), &std::fs::read(file.path()).unwrap());
    }
    home.ollama("own:latest", &model());
    home.ollama("own:7b", &model());
    home.write(".lmstudio/models/pub/m-GGUF/plain.gguf", &model());
    let list = home.json(&["ls", "--json"]);
    let find = |name: &str| {
        let models = list["models"].as_array().unwrap();
        models.iter().find(|model| model["name"] == name).unwrap_or_else(|| panic!("{name} in {list:#}")).clone()
    };
    let old = format!("org/tiny@{OTHER}:f16");
    for (name, source, format, quantization, architecture) in [
        ("own", "folder", "gguf", "F16", "llama"),
        ("org/tiny:Q4_0", "hub", "gguf", "Q4_0", "llama"),
        (&old, "hub", "gguf", "F16", "llama"),
        ("org/folder", "hub", "safetensors", "F32", "llama"),
        ("own:latest", "ollama", "gguf", "F16", "llama"),
        ("pub/m-GGUF:plain.gguf", "lm-studio", "gguf", "F16", "llama"),
    ] {
        let model = find(name);
        let expected = json!([source, format, quantization, architecture]);
        assert_eq!(json!([model["source"], model["format"], model["quantization"], model["architecture"]]), expected, "{name}");
        assert!(model["modified_at"].is_string() && model["context_length"].is_u64(), "{model}");
        // The first part of a split model is a whole one here, and does not open as a split one.
        if name != "org/tiny:Q4_0" {
            home.ok(&["show", name, "--json"]);
        }
    }
    assert_eq!(find("org/tiny:Q4_0")["size"], other_model().len() + b"a part".len());
    assert_eq!(find("own:latest")["id"], digest(&model()));

    let lines = home.ok(&["list", "org/"]);
    let rows: Vec<Vec<&str>> = lines.lines().map(|line| line.split("    ").filter(|cell| !cell.is_empty()).collect()).collect();
    assert_eq!(rows[0].iter().map(|cell| cell.trim()).collect::<Vec<_>>(), ["NAME", "ID", "SIZE", "MODIFIED"]);
    assert_eq!(rows.len(), 4, "{lines}");
    assert!(rows[1..].iter().all(|row| row[0].starts_with("org/") && row[1].trim().len() == 12), "{lines}");
    let all = home.ok(&["list", "--all", "OWN"]);
    assert!(all.lines().next().unwrap().ends_with("SOURCE") && all.contains("ollama") && all.contains("folder"), "{all}");
}

// --- describing -----------------------------------------------------------------------------------------------------------

#[test]
fn show_tells_the_cards_licence_its_intended_use_and_the_memory_of_each_context() {
    let home = Home::new("show");
    home.cached("org/tiny", COMMIT, "tiny-f16.gguf", &model());
    let card = "---\nlicense: apache-2.0\n---\n# Tiny\n\nWords.\n\n## Intended uses & limitations\n\nFor tests\nonly.\n";
    home.cached("org/tiny", COMMIT, "README.md", card.as_bytes());
    let shown = home.json(&["show", "org/tiny", "--json"]);
    assert_eq!((&shown["license"], &shown["intended_use"]), (&json!("apache-2.0"), &json!("For tests only.")));
    let context = shown["model"]["context_length"].as_u64().unwrap();
    let memory = &shown["memory"];
    let expected = memory["weights"].as_u64().unwrap() + context * memory["cache_per_token"].as_u64().unwrap();
    let last = memory["contexts"].as_array().unwrap().last().unwrap();
    assert_eq!((&last["context"], &last["bytes"]), (&json!(context), &json!(expected)));
    let text = home.ok(&["show", "org/tiny"]);
    assert!(text.contains("  Intended use\n    For tests only.\n") && text.contains("    CONTEXT    MEMORY"), "{text}");
    assert_eq!(home.ok(&["show", "org/tiny", "--license"]), "apache-2.0\n");
}

// --- deleting -------------------------------------------------------------------------------------------------------------

#[test]
fn rm_frees_only_what_no_other_revision_uses_and_says_how_much() {
    let home = Home::new("rm");
    home.cached("org/tiny", COMMIT, "tiny-f16.gguf", &model());
    home.cached("org/tiny", COMMIT, "tiny-Q4_0.gguf", &other_model());
    home.cached("org/tiny", OTHER, "tiny-f16.gguf", &model());
    let before = home.listed();
    let (code, stderr) = home.failure(&["rm", "org/tiny:Q4_0"]);
    assert_eq!(code, 2, "{stderr}");
    assert!(stderr.contains("-y"), "{stderr}");
    let told = home.ok(&["rm", "org/tiny:Q4_0", "--dry-run"]);
    assert!(told.starts_with("would delete 'org/tiny:Q4_0' and free "), "{told}");
    assert_eq!(home.listed(), before);

    let told = home.json(&["rm", "org/tiny:q4_0", "-y", "--json"]);
    assert_eq!(told["models"][0]["freed"], other_model().len());
    let told = home.ok(&["rm", &format!("org/tiny@{OTHER}"), "--yes"]);
    assert!(told.contains("deleted '") && told.contains("freed 0 B") && told.contains("1 files stay"), "{told}");
    assert_eq!(home.listed(), ["org/tiny:f16"]);
    assert_eq!(tokens(&home, "org/tiny").as_array().unwrap().len(), 4);
    home.ok(&["rm", "org/tiny", "-y"]);
    assert!(!home.cache().join("models--org--tiny").exists());
    assert_eq!(home.failure(&["rm", "org/tiny", "-y"]).0, 3);
}

#[test]
fn rm_refuses_what_it_has_not_fetched_and_says_whose_it_is() {
    let home = Home::new("rm_refused");
    home.ollama("mine:latest", &model());
    let own = home.write("models/own.gguf", &model());
    home.write(".lmstudio/models/org/tiny-GGUF/tiny-Q4_K_M.gguf", &model());
    home.cached("org/kept", COMMIT, "kept-Q4_0.gguf", &model());
    let path = own.to_str().unwrap();
    for (name, part) in [
        ("mine:latest", "ollama rm mine:latest"),
        ("own", "lies in a model folder"),
        ("org/tiny-GGUF:Q4_K_M", "LM Studio's"),
        ("smollm2", "model folder"),
        (path, "a file of yours"),
    ] {
        // Nothing goes if anything is refused.
        let (code, stderr) = home.failure(&["rm", "org/kept", name, "-y"]);
        assert_eq!(code, 2, "{name}: {stderr}");
        assert!(stderr.contains(part), "{name}: {stderr}");
    }
    assert_eq!(home.failure(&["rm", "nothing-of-the-kind", "-y"]).0, 3);
    assert!(own.exists());
    assert_eq!(home.listed().len(), 4);
}

// --- pulling what is here -------------------------------------------------------------------------------------------------

#[test]
fn a_folder_that_is_no_repository_hides_no_other_and_projectors_are_no_models() {
    let home = Home::new("odd");
    home.cached("org/tiny", COMMIT, "tiny-f16.gguf", &model());
    for odd in ["models--x--", "models--", "models--a:b--c"] {
        std::fs::create_dir_all(home.cache().join(odd)).unwrap();
    }
    let output = home.tallow(&["list"]).output().unwrap();
    assert!(output.status.success() && text(&output.stdout).contains("org/tiny:f16"), "{}", text(&output.stderr));
    home.write("folder/a-mmproj-f16.gguf", b"a projector");
    home.write("folder/z.gguf", &model());
    home.write("folder/config.json", b"{}");
    assert_eq!(tokens(&home, home.path("folder").to_str().unwrap()), tokens(&home, "org/tiny:f16"));
}

#[test]
fn the_names_of_the_default_model_mean_it_and_nothing_in_the_cache() {
    let home = Home::new("default-names");
    home.cached("bartowski/SmolLM2-135M-Instruct-GGUF", COMMIT, "SmolLM2-135M-Instruct-Q8_0.gguf", &model());
    let list = text(&home.tallow(&["list"]).output().unwrap().stdout);
    assert!(list.contains("bartowski/SmolLM2-135M-Instruct-GGUF:Q8_0"), "{list}");
    let output = home.tallow(&["rm", "smollm2", "-y"]).output().unwrap();
    assert!(!output.status.success() && output.stdout.is_empty(), "{}", text(&output.stdout));
    assert!(text(&home.tallow(&["list"]).output().unwrap().stdout).contains("bartowski/"));
}

#[test]
fn pulling_what_is_cached_needs_no_network_and_quiet_prints_the_path() {
    let home = Home::new("pull_cached");
    home.cached("org/tiny", COMMIT, "tiny-f16.gguf", &model());
    let path = home.cache().join(format!("models--org--tiny/snapshots/{COMMIT}/tiny-f16.gguf"));
    assert_eq!(home.ok(&["pull", "org/tiny", "-q"]), format!("{}\n", path.display()));
    let pulled = home.run(&["pull", "org/tiny"]);
    assert_eq!((pulled.status.code(), text(&pulled.stdout)), (Some(0), String::new()));
    let told = text(&pulled.stderr);
    assert!(told.starts_with("pulling manifest\npulling ") && told.ends_with("success\n"), "{told}");
    let plan = home.json(&["pull", "org/tiny:f16", "--dry-run", "--json"]);
    let plan = &plan["models"][0];
    assert_eq!((&plan["size"], &plan["to_fetch"]), (&json!(model().len()), &json!(0)));
    assert_eq!(plan["memory"]["architecture"], "llama");
    assert_eq!(home.failure(&["pull", "org/none", "-q"]).0, 3);
    assert_eq!(home.failure(&["pull", "smolm2", "-q"]).0, 3);
    assert_eq!(home.failure(&["pull", "org/tiny@main", "--revision", "dev", "-q"]).0, 2);
}

// --- completing -----------------------------------------------------------------------------------------------------------

/// What bash would offer for a line, with the script that `tallow completions bash` prints.
fn bash_offers(home: &Home, line: &str) -> Vec<String> {
    let script = r#"source "$1"; COMP_LINE=$2; COMP_POINT=${#2}; _tallow_complete; printf '%s\n' "${COMPREPLY[@]}""#;
    let file = home.write("complete.bash", home.ok(&["completions", "bash"]).as_bytes());
    let mut command = Command::new("bash");
    let (home_of, cache) = (&home.0, home.path("hf"));
    command.args(["--norc", "-c", script, "bash"]).arg(file).arg(line).env("HOME", home_of).env("HF_HOME", cache);
    command.env("OLLAMA_MODELS", home.path("ollama")).env("TALLOW_MODELS", home.path("models"));
    let output = command.output().expect("bash starts");
    assert_eq!(text(&output.stderr), "");
    text(&output.stdout).lines().map(str::to_owned).filter(|line| !line.is_empty()).collect()
}

#[test]
fn bash_completes_commands_flags_and_names_with_colons_in_them() {
    let home = Home::new("complete");
    if Command::new("bash").arg("--version").output().is_err() {
        eprintln!("skipped: there is no bash here");
        return;
    }
    home.cached("org/tiny", COMMIT, "tiny-f16.gguf", &model());
    assert_eq!(bash_offers(&home, "tallow doc"), ["doctor"]);
    assert!(bash_offers(&home, "tallow pull --dr").contains(&"--dry-run".to_owned()));
    assert_eq!(bash_offers(&home, "tallow show tinyl"), ["tinyllama", "tinyllama:1.1b"]);
    // bash replaces what stands after the last colon.
    assert_eq!(bash_offers(&home, "tallow show llama3.2:1b"), ["1b", "1b-instruct"]);
    assert_eq!(bash_offers(&home, "tallow rm org/"), ["org/tiny:f16"]);
    assert_eq!(bash_offers(&home, "tallow rm org/tiny:"), ["f16"]);
    assert_eq!(bash_offers(&home, "tallow rm ")[0], "org/tiny:f16");
    assert_eq!(bash_offers(&home, "tallow completions z"), ["zsh"]);
}

/// Names of files as a stranger's repository may have them.
const HOSTILE: [&str; 6] = [
    "m$(touch ran).gguf",
    "m`touch ran`.gguf",
    "m;touch ran;.gguf",
    "m'&touch ran&'.gguf",
    "m\\$(touch ran).gguf",
    "m|touch ran.gguf",
];

#[cfg(unix)]
#[test]
fn what_a_shell_completes_is_a_name_and_never_a_command() {
    let home = Home::new("hostile-names");
    for name in HOSTILE {
        home.cached("org/hostile", COMMIT, name, &model());
    }
    let folder = home.path("work");
    std::fs::create_dir_all(&folder).unwrap();
    let ran = || folder.join("ran").exists();
    if Command::new("bash").arg("--version").output().is_ok() {
        let offered = bash_offers(&home, "tallow show org/hostile:");
        assert_eq!(offered.len(), HOSTILE.len(), "{offered:?}");
        for word in offered {
            let mut bash = Command::new("bash");
            bash.args(["--norc", "-c", &format!("printf '%s' {word}")]).current_dir(&folder);
            let said = text(&bash.output().unwrap().stdout);
            assert!(HOSTILE.contains(&said.as_str()) && !ran(), "{word} is read as {said}");
            // What was completed once is completed again.
            assert_eq!(bash_offers(&home, &format!("tallow show org/hostile:{word}")), [word]);
        }
    }
    if Command::new("fish").arg("--version").output().is_ok() {
        let file = home.write("complete.fish", home.ok(&["completions", "fish"]).as_bytes());
        let script = format!("source {}; complete --do-complete 'tallow show org/hostile:'", file.display());
        let mut fish = Command::new("fish");
        fish.args(["--no-config", "-c", &script]).env("HOME", &home.0).env("HF_HOME", home.path("hf")).current_dir(&folder);
        let said = text(&fish.output().unwrap().stdout);
        assert!(HOSTILE.iter().all(|name| said.contains(name)) && !ran(), "{said}");
    }
    // PowerShell inserts what it is given.
    let mut asked = home.tallow(&["--", "tallow", "show", "org/hostile:"]);
    let said = text(&asked.env("TALLOW_COMPLETE", "powershell").output().unwrap().stdout);
    for name in HOSTILE {
        assert!(said.lines().any(|line| line == format!("'org/hostile:{}'", name.replace('\'', "''"))), "{said}");
    }
}

#[test]
fn every_shell_gets_a_script_that_calls_the_program() {
    let home = Home::new("completions");
    for shell in ["bash", "zsh", "fish", "powershell", "elvish"] {
        let script = home.ok(&["completions", shell]);
        assert!(script.contains("TALLOW_COMPLETE") && script.contains(env!("CARGO_BIN_EXE_tallow")), "{shell}: {script}");
    }
    assert_eq!(home.failure(&["completions", "tcsh"]).0, 2);
}

// --- doctor ---------------------------------------------------------------------------------------------------------------

#[test]
fn doctor_finds_nothing_wrong_with_a_sound_installation_and_never_prints_the_token() {
    let home = Home::new("doctor");
    let output = home.tallow(&["doctor", "--json"]).env("HF_TOKEN", "hf_secret").output().unwrap();
    assert_eq!(output.status.code(), Some(0), "{}", text(&output.stdout));
    assert!(!text(&output.stdout).contains("hf_secret"));
    let report: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(report["ok"], true);
    let states: Vec<_> = report["checks"].as_array().unwrap().iter().map(|check| (&check["name"], &check["state"])).collect();
    for name in ["tallow", "cpu", "memory", "devices", "cache", "environment", "token", "hub", "default model"] {
        assert!(states.iter().any(|(found, _)| *found == name), "{name} in {states:?}");
    }
    assert!(text(&home.run(&["doctor"]).stdout).contains("ok       default model"));
}

#[test]
fn doctor_tells_what_is_left_over_and_what_will_not_work() {
    let home = Home::new("doctor_bad");
    home.cached("org/tiny", COMMIT, "tiny-f16.gguf", &model());
    let blobs = "hf/hub/models--org--tiny/blobs";
    home.write(&format!("{blobs}/{}.incomplete", digest(b"x")), b"half of it");
    #[cfg(unix)]
    std::fs::remove_file(home.path(&format!("{blobs}/{}", digest(&model())))).unwrap();
    let output = home.run(&["doctor"]);
    assert_eq!(output.status.code(), Some(0), "warnings are no problems");
    let told = text(&output.stdout);
    assert!(told.contains("warning  downloads") && told.contains("10 B of an interrupted download"), "{told}");
    #[cfg(unix)]
    assert!(told.contains("warning  links") && told.contains("tallow pull org/tiny"), "{told}");

    let home = Home::new("doctor_cache");
    home.write("hf/hub", b"a file where the cache should be");
    let output = home.run(&["doctor"]);
    assert_eq!(output.status.code(), Some(1));
    assert!(text(&output.stdout).contains("problem  cache"), "{}", text(&output.stdout));
    assert!(text(&output.stderr).contains("1 problem was found"), "{}", text(&output.stderr));
}
