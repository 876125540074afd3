//! The fault table: every kind of failure, at every chunk boundary of a small file, of either kind.
//!
//! Each row is done twice: the fault happens once, and the pull gets over it or fails with the named error; the fault never
//! ends, and the pull fails with the named error. After a failure the model is not there; then the Hub is sound again, a
//! clean pull succeeds, the bytes are right, blobs are named by their digests and nothing is left over.

use super::*;
use Outcome::{Checksum, Network, Recovers};

const CHUNK: usize = 64;
/// No multiple of the chunk.
const LARGE: usize = 1000;
const SMALL: usize = 421;

#[derive(Debug, Clone, PartialEq, Eq)]
enum Outcome {
    Recovers,
    Network,
    Checksum,
    Other(String),
}

fn outcome(result: &Result<Pulled, Error>) -> Outcome {
    match result {
        Ok(_) => Recovers,
        Err(Error::Network { .. }) => Network,
        Err(Error::Checksum { .. }) => Checksum,
        Err(other) => Outcome::Other(format!("{other:?}")),
    }
}

struct Row {
    name: &'static str,
    /// The faults of a file's transfer for a chunk boundary; the last of them is the one that never ends.
    faults: fn(usize) -> Vec<(At, Kind)>,
    once: fn(usize) -> Outcome,
    always: fn(usize) -> Outcome,
}

fn always_network(_: usize) -> Outcome {
    Network
}

fn always_checksum(_: usize) -> Outcome {
    Checksum
}

fn recovers(_: usize) -> Outcome {
    Recovers
}

/// A pull that gets some bytes each time comes to the end.
fn network_without_a_byte(boundary: usize) -> Outcome {
    if boundary == 0 { Network } else { Recovers }
}

/// What spoils the transfer of a file's bytes.
const BYTES: &[Row] = &[
    Row {
        name: "closed before the headers",
        faults: |_| vec![(At::Bytes, Kind::Close)],
        once: recovers,
        always: always_network,
    },
    Row { name: "dropped", faults: |n| vec![(At::Bytes, Kind::Cut(n))], once: recovers, always: network_without_a_byte },
    Row {
        name: "dropped where no length was announced",
        faults: |n| vec![(At::Bytes, Kind::CutUnannounced(n))],
        once: recovers,
        always: network_without_a_byte,
    },
    Row {
        name: "dropped, then closed before the headers",
        faults: |n| vec![(At::Bytes, Kind::Cut(n)), (At::Bytes, Kind::Close)],
        once: recovers,
        always: always_network,
    },
    Row {
        name: "a length that is too long",
        faults: |n| vec![(At::Bytes, Kind::Longer(n + 1))],
        once: recovers,
        always: always_network,
    },
    Row {
        name: "a length that is too short",
        faults: |n| vec![(At::Bytes, Kind::Shorter(n + 1))],
        once: recovers,
        always: always_network,
    },
    Row { name: "a wrong bit", faults: |n| vec![(At::Bytes, Kind::Flip(n))], once: recovers, always: always_checksum },
    Row {
        name: "dropped, then a wrong bit at the start of the rest",
        faults: |n| vec![(At::Bytes, Kind::Cut(n)), (At::Bytes, Kind::Flip(n))],
        once: recovers,
        always: always_checksum,
    },
    Row {
        name: "dropped, then the range is ignored",
        faults: |n| vec![(At::Bytes, Kind::Cut(n)), (At::Bytes, Kind::IgnoreRange)],
        once: recovers,
        always: recovers,
    },
    Row {
        name: "dropped, then another range than was asked for",
        faults: |n| vec![(At::Bytes, Kind::Cut(n)), (At::Bytes, Kind::Shifted)],
        once: recovers,
        always: always_network,
    },
    Row {
        name: "dropped, then a wrong total",
        faults: |n| vec![(At::Bytes, Kind::Cut(n)), (At::Bytes, Kind::Total)],
        once: recovers,
        always: always_network,
    },
    Row {
        name: "dropped, then 416",
        faults: |n| vec![(At::Bytes, Kind::Cut(n)), (At::Bytes, Kind::Unsatisfiable)],
        once: recovers,
        always: always_network,
    },
    Row {
        name: "dropped, then 429 with Retry-After: 0",
        faults: |n| vec![(At::Bytes, Kind::Cut(n)), (At::Bytes, Kind::RateLimit(0))],
        once: recovers,
        always: always_network,
    },
    Row {
        name: "dropped, then 500",
        faults: |n| vec![(At::Bytes, Kind::Cut(n)), (At::Bytes, Kind::Status(500))],
        once: recovers,
        always: always_network,
    },
    Row {
        name: "dropped, then 503",
        faults: |n| vec![(At::Bytes, Kind::Cut(n)), (At::Bytes, Kind::Status(503))],
        once: recovers,
        always: always_network,
    },
    Row {
        name: "dropped, then a page of HTML",
        faults: |n| vec![(At::Bytes, Kind::Cut(n)), (At::Bytes, Kind::Html)],
        once: recovers,
        always: always_network,
    },
    Row {
        name: "dropped, then half of the rest",
        faults: |n| vec![(At::Bytes, Kind::Cut(n)), (At::Bytes, Kind::Half)],
        once: recovers,
        always: always_network,
    },
    Row {
        name: "dropped, then redirected to itself without end",
        faults: |n| vec![(At::Bytes, Kind::Cut(n)), (At::Resolve, Kind::Loop)],
        once: recovers,
        always: always_network,
    },
];

/// The file of the large store, and one without which the model would still load, but answer wrongly.
const FILES: [(&str, usize); 2] = [("model.safetensors", LARGE), ("tokenizer_config.json", SMALL)];

struct Stage {
    hub: Hub,
    cache: PathBuf,
    plan: PullPlan,
    files: Vec<(&'static str, Vec<u8>)>,
}

impl Stage {
    fn new(name: &str) -> Stage {
        let (hub, cache) = (Hub::start(), folder(&format!("faults/{}", name.replace(|c: char| !c.is_alphanumeric(), "_"))));
        let mut files: Vec<_> = FILES.iter().map(|(path, size)| (*path, bytes(*size, *size as u64))).collect();
        files.extend([("config.json", b"{}".to_vec()), ("tokenizer.json", b"{ }".to_vec())]);
        let commit = files.iter().fold(Commit::default(), |commit, (path, bytes)| match *path {
            "model.safetensors" => commit.lfs(path, bytes.clone()),
            _ => commit.file(path, bytes.clone()),
        });
        hub.push("org/model", commit);
        let plan = hub::plan(&reference("org/model"), &options(&hub, &cache), &PullOptions::default()).expect("a plan");
        Stage { hub, cache, plan, files }
    }

    /// An empty cache, and faults in the transfer of `file`.
    fn set(&self, file: &str, faults: &[(At, Kind)], never_ends: bool) {
        let _ = std::fs::remove_dir_all(&self.cache);
        self.hub.forget();
        for (number, (at, kind)) in faults.iter().enumerate() {
            let times = if never_ends && number + 1 == faults.len() { usize::MAX } else { 1 };
            self.hub.faults(*at, file, kind.clone(), times);
        }
    }

    /// The model is nowhere, by no name of it.
    fn is_absent(&self) -> Result<(), String> {
        for text in ["org/model".to_owned(), format!("org/model@{}", self.plan.commit)] {
            match hub::locate(&reference(&text), &options(&self.hub, &self.cache)) {
                Ok(None) => {}
                other => return Err(format!("{text} is located: {other:?}")),
            }
        }
        Ok(())
    }

    /// A clean pull succeeds, and leaves what it should and nothing else.
    fn is_sound_after(&self, pull: impl FnOnce() -> Result<Pulled, Error>) -> Result<(), String> {
        let pulled = pull().map_err(|error| format!("a clean pull: {error}"))?;
        let located = hub::locate(&reference("org/model"), &options(&self.hub, &self.cache)).map_err(|e| e.to_string())?;
        if located.as_ref() != Some(&pulled.path) {
            return Err(format!("located at {located:?}"));
        }
        let files: Vec<(&str, &[u8])> = self.files.iter().map(|(path, bytes)| (*path, bytes.as_slice())).collect();
        check_cache(&self.cache, &self.plan.commit, &files)
    }

    /// One fault and what follows. What is wrong, if anything is.
    fn run(&self, file: &str, faults: &[(At, Kind)], never_ends: bool, expected: &Outcome) -> Result<(), String> {
        self.set(file, faults, never_ends);
        let options = options(&self.hub, &self.cache);
        // The plan is of the same commit each time; making it anew would cost most of the test's time.
        let first = hub::fetch(&self.plan, &options, &());
        let unused = self.hub.heal();
        if outcome(&first) != *expected {
            return Err(format!("expected {expected:?}, got {first:?}"));
        }
        if !never_ends && unused > 0 {
            return Err("the fault did not happen".into());
        }
        match &first {
            Ok(_) => self.is_sound_after(|| hub::fetch(&self.plan, &options, &())),
            Err(error) if !error.to_string().contains(file) => Err(format!("{file} is not named: {error}")),
            Err(_) => self.is_absent().and_then(|()| self.is_sound_after(|| pull("org/model", &options))),
        }
    }
}

/// What of a row does not hold.
fn failures(row: &Row) -> Vec<String> {
    let stage = Stage::new(row.name);
    let mut failures = Vec::new();
    for (file, size) in FILES {
        for boundary in (0..size).step_by(CHUNK) {
            for (never_ends, expected) in [(false, row.once), (true, row.always)] {
                if let Err(why) = stage.run(file, &(row.faults)(boundary), never_ends, &expected(boundary)) {
                    let how = if never_ends { "always" } else { "once" };
                    failures.push(format!("{} {how}, {file} at {boundary}: {why}", row.name));
                }
            }
        }
    }
    failures
}

#[test]
fn after_every_fault_at_every_chunk_boundary_a_clean_pull_succeeds() {
    let failures: Vec<String> = std::thread::scope(|scope| {
        let rows: Vec<_> = BYTES.iter().map(|row| scope.spawn(|| failures(row))).collect();
        rows.into_iter().flat_map(|row| row.join().expect("a row")).collect()
    });
    assert!(failures.is_empty(), "{} failures:\n{}", failures.len(), failures[..failures.len().min(40)].join("\n"));
}

#[test]
fn a_connection_that_falls_silent_is_given_up_and_the_rest_comes_by_another() {
    // Generous for a busy machine: a sound request that times out too is only another attempt.
    let patience =
        |stage: &Stage| HubOptions { timeout: Duration::from_millis(250), attempts: 10, ..options(&stage.hub, &stage.cache) };
    std::thread::scope(|scope| {
        for boundary in (0..LARGE).step_by(CHUNK) {
            scope.spawn(move || {
                let stage = Stage::new(&format!("silent {boundary}"));
                stage.set(".safetensors", &[(At::Bytes, Kind::Stall(boundary))], false);
                hub::fetch(&stage.plan, &patience(&stage), &()).unwrap();
                assert_eq!(stage.hub.heal(), 0);
                stage.is_sound_after(|| pull("org/model", &options(&stage.hub, &stage.cache))).unwrap();
            });
        }
    });
    let stage = Stage::new("silent always");
    stage.set(".safetensors", &[(At::Bytes, Kind::Stall(0))], true);
    let error = hub::fetch(&stage.plan, &HubOptions { attempts: 2, ..patience(&stage) }, &()).unwrap_err();
    assert!(matches!(error, Error::Network { .. }), "{error:?}");
    assert_says(&error, &["model.safetensors"]);
}

#[test]
fn retry_after_is_obeyed_and_told() {
    struct Waits(Mutex<Vec<Duration>>);
    impl Progress for Waits {
        fn retry(&self, _: &str, _: &str, wait: Duration) {
            self.0.lock().unwrap().push(wait);
        }
    }
    let stage = Stage::new("retry after");
    stage.hub.fault(At::Bytes, ".safetensors", Kind::RateLimit(1));
    let waits = Waits(Mutex::default());
    hub::fetch(&stage.plan, &options(&stage.hub, &stage.cache), &waits).unwrap();
    assert_eq!(*waits.0.lock().unwrap(), [Duration::from_secs(1)], "the back-off is zero, the Hub asks for a second");
}

#[test]
fn a_digest_that_changes_between_the_list_and_the_file_is_never_taken_for_the_files() {
    let stage = Stage::new("etag");
    for at in [At::Head, At::Resolve, At::Bytes] {
        for (file, _) in FILES {
            stage.set(file, &[(at, Kind::Etag)], true);
            let result = pull("org/model", &options(&stage.hub, &stage.cache));
            stage.hub.heal();
            // The list named the digest before; a pull that holds on to it may also succeed.
            assert!(matches!(outcome(&result), Recovers | Network | Checksum), "{at:?} {file}: {result:?}");
            stage.is_sound_after(|| pull("org/model", &options(&stage.hub, &stage.cache))).unwrap();
        }
    }
}

#[test]
fn information_that_does_not_come_whole_is_asked_for_again_or_named() {
    let stage = Stage::new("information");
    stage.hub.page(1);
    for at in [At::Info, At::Tree, At::Head] {
        for (kind, must_recover) in [
            (Kind::Close, true),
            (Kind::Cut(10), true),
            (Kind::Status(500), true),
            (Kind::Status(503), true),
            (Kind::RateLimit(0), true),
            (Kind::Html, false),
            (Kind::Half, false),
            (Kind::Loop, false),
        ] {
            // Of an answer without a body nothing can be lacking.
            if at == At::Head && matches!(kind, Kind::Cut(_) | Kind::Html | Kind::Half) {
                continue;
            }
            for never_ends in [false, true] {
                stage.set("", &[(at, kind.clone())], never_ends);
                let result = pull("org/model", &options(&stage.hub, &stage.cache));
                stage.hub.heal();
                let case = format!("{at:?} {kind:?}, always: {never_ends}: {result:?}");
                match outcome(&result) {
                    Recovers => assert!(!never_ends, "{case}"),
                    Network => assert!(never_ends || !must_recover, "{case}"),
                    Checksum | Outcome::Other(_) => panic!("{case}"),
                }
                if let Err(error) = &result {
                    assert_says(error, &["org/model"]);
                    stage.is_absent().unwrap();
                }
            }
        }
    }
    stage.is_sound_after(|| pull("org/model", &options(&stage.hub, &stage.cache))).unwrap();
}

#[test]
fn a_path_that_leads_out_of_the_cache_is_never_written() {
    let stage = Stage::new("paths");
    for path in
        ["../evil.gguf", "a/../../../evil.gguf", "/tmp/tallow-evil.gguf", "..\\evil.gguf", "C:\\evil.gguf", "a//evil.gguf"]
    {
        for include in ["", "*evil*", "**"] {
            stage.set("", &[(At::Tree, Kind::ExtraPath(path.to_owned()))], true);
            let include = Some(include.to_owned()).filter(|glob| !glob.is_empty()).into_iter().collect();
            let wanted = PullOptions { include, ..PullOptions::default() };
            let result = hub::pull(&reference("org/model"), &options(&stage.hub, &stage.cache), &wanted, &());
            stage.hub.heal();
            assert!(!stage.hub.requests().iter().any(|request| request.target.contains("evil")), "{path:?} was asked for");
            let everything = files(stage.cache.parent().unwrap());
            assert!(!everything.iter().any(|file| file.contains("evil")), "{path:?}: {everything:?}");
            if let Err(error) = result {
                assert!(matches!(
                    error,
                    Error::Corrupt { .. } | Error::NotFound { .. } | Error::Network { .. } | Error::Input(_)
                ));
                assert_says(&error, &["org/model"]);
            }
        }
    }
    assert!(!Path::new("/tmp/tallow-evil.gguf").exists());
}
