//! Which files of a repository come, and that no others are asked for.

use super::*;

/// The paths whose bytes were asked for, sorted.
fn asked(hub: &Hub) -> Vec<String> {
    let resolves = hub.requests().into_iter().filter(|request| request.host == Host::Hub && request.method == "GET");
    let mut paths: Vec<String> =
        resolves.filter_map(|request| Some(request.target.split_once("/resolve/")?.1.split_once('/')?.1.to_owned())).collect();
    paths.sort();
    paths.dedup();
    paths
}

/// What a pull of `text` brings from a repository of these files, each of some bytes of its own; LFS as the Hub's defaults have it.
fn pulled(test: &str, text: &str, paths: &[&str]) -> Result<(String, Vec<String>), Error> {
    let (cache, hub) = (folder(test), Hub::start());
    let mut commit = Commit::default();
    for (number, path) in paths.iter().enumerate() {
        let content = bytes(300 + number, number as u64);
        let is_large = [".gguf", ".safetensors", ".bin", ".onnx"].iter().any(|end| path.ends_with(end));
        commit = match is_large {
            true => commit.lfs(path, content),
            false if *path == "model.safetensors.index.json" => commit.file(
                path,
                r#"{"weight_map": {"a": "model-00001-of-00002.safetensors", "b": "model-00002-of-00002.safetensors"}}"#,
            ),
            false => commit.file(path, content),
        };
    }
    hub.push("org/model", commit);
    let pulled = pull(text, &options(&hub, &cache))?;
    let came = files(&pulled.snapshot);
    assert_eq!(asked(&hub), came, "what was asked for and what the snapshot has");
    let located = hub::locate(&reference(text), &options(&hub, &cache)).unwrap();
    assert_eq!(located.as_ref(), Some(&pulled.path));
    let loaded = pulled.path.strip_prefix(&pulled.snapshot).expect("in the snapshot").to_str().unwrap().to_owned();
    Ok((loaded, came))
}

const SMALL: [&str; 4] = ["config.json", "generation_config.json", "tokenizer.json", "tokenizer_config.json"];

#[test]
fn of_a_safetensors_repository_the_weights_come_once_and_with_the_small_files() {
    let others = ["pytorch_model.bin", "onnx/model.onnx", "vocab.json", "merges.txt", ".gitattributes", "figure.png"];
    let (loaded, came) =
        pulled("safetensors", "org/model", &[&SMALL[..], &["model.safetensors"], &others[..]].concat()).unwrap();
    assert_eq!(loaded, "");
    assert_eq!(came, ["config.json", "generation_config.json", "model.safetensors", "tokenizer.json", "tokenizer_config.json"]);
}

#[test]
fn of_a_sharded_repository_all_shards_that_the_index_names_come() {
    let shards = ["model-00001-of-00002.safetensors", "model-00002-of-00002.safetensors", "model.safetensors.index.json"];
    let others = ["consolidated.safetensors", "pytorch_model-00001-of-00002.bin"];
    let (loaded, came) = pulled("sharded", "org/model", &[&SMALL[..], &shards[..], &others[..]].concat()).unwrap();
    assert_eq!(loaded, "");
    assert_eq!(came.len(), 7, "{came:?}");
    assert!(shards.iter().all(|shard| came.iter().any(|path| path == shard)), "{came:?}");
}

const QUANTS: [&str; 4] = ["m-Q2_K.gguf", "m-Q4_K_M.gguf", "m-Q8_0.gguf", "README.md"];

#[test]
fn of_several_quantisations_one_comes() {
    for (number, (text, file)) in [
        ("org/model", "m-Q4_K_M.gguf"),
        ("org/model:Q8_0", "m-Q8_0.gguf"),
        ("hf.co/org/model:q2_k", "m-Q2_K.gguf"),
        ("hf://org/model@main/m-Q2_K.gguf", "m-Q2_K.gguf"),
        ("org/model:m-Q8_0.gguf", "m-Q8_0.gguf"),
    ]
    .into_iter()
    .enumerate()
    {
        let (loaded, came) = pulled(&format!("quant_{number}"), text, &QUANTS).unwrap();
        assert_eq!((loaded.as_str(), came), (file, vec!["README.md".to_owned(), file.to_owned()]), "{text}");
    }
}

#[test]
fn of_a_split_gguf_all_parts_come_and_the_first_is_loaded() {
    let parts = ["q8/m-Q8_0-00001-of-00003.gguf", "q8/m-Q8_0-00002-of-00003.gguf", "q8/m-Q8_0-00003-of-00003.gguf"];
    let (loaded, came) = pulled("split", "org/model:Q8_0", &[&parts[..], &["m-Q4_K_M.gguf"]].concat()).unwrap();
    assert_eq!((loaded.as_str(), came), (parts[0], parts.map(str::to_owned).to_vec()));
}

#[test]
fn a_quantisation_that_is_not_there_is_answered_with_those_that_are() {
    let error = pulled("unknown_quant", "org/model:Q5_K_M", &QUANTS).unwrap_err();
    assert!(matches!(error, Error::NotFound { .. }), "{error}");
    assert_says(&error, &["Q5_K_M", "org/model", "Q2_K", "Q4_K_M", "Q8_0"]);
}

#[test]
fn a_repository_of_pickles_is_refused_with_the_reason() {
    let error = pulled("pickles", "org/model", &[&SMALL[..], &["pytorch_model.bin"]].concat()).unwrap_err();
    assert_says(&error, &["org/model", "pytorch_model.bin", "safetensors", "GGUF"]);
}

#[test]
fn every_way_to_name_a_revision_leads_to_its_files_and_its_ref() {
    let (cache, hub) = (folder("revisions"), Hub::start());
    let revisions = ["main", "dev", "v1.0", "refs/pr/1"];
    let mut commits = BTreeMap::new();
    for (number, revision) in revisions.iter().enumerate() {
        let commit = Commit::default().lfs("m.gguf", bytes(300, number as u64)).file("README.md", "same everywhere");
        commits.insert(*revision, hub.push_to("org/model", revision, commit));
    }
    let options = options(&hub, &cache);
    for (number, revision) in revisions.iter().enumerate() {
        let text = if *revision == "main" { "org/model".to_owned() } else { format!("org/model@{revision}") };
        let pulled = pull(&text, &options).unwrap();
        assert_eq!(pulled.commit, commits[revision], "{text}");
        assert_eq!(std::fs::read(&pulled.path).unwrap(), bytes(300, number as u64), "{text}");
        let written = std::fs::read_to_string(cache.join("models--org--model/refs").join(revision)).unwrap();
        assert_eq!(written, commits[revision], "{text}");
    }
    // The commit of a revision that nothing names any more.
    let old = commits["dev"].clone();
    hub.push_to("org/model", "dev", Commit::default().lfs("m.gguf", bytes(300, 9)));
    let fresh = folder("revisions_fresh");
    let by_commit = HubOptions { cache: fresh.clone(), ..options.clone() };
    let pulled = pull(&format!("org/model@{old}"), &by_commit).unwrap();
    assert_eq!((pulled.commit.as_str(), std::fs::read(&pulled.path).unwrap()), (old.as_str(), bytes(300, 1)));
    assert!(!fresh.join("models--org--model/refs").join(&old).exists(), "a commit is no ref");
    // A branch that moved is followed; both commits stay.
    let moved = pull("org/model@dev", &options).unwrap();
    assert_eq!(std::fs::read(&moved.path).unwrap(), bytes(300, 9));
    assert!(cache.join("models--org--model/snapshots").join(&old).exists());
}

#[test]
fn what_is_there_is_not_fetched_again_and_force_fetches_it_again() {
    let (cache, hub) = (folder("again"), Hub::start());
    let commit = Commit::default().lfs("m-Q8_0.gguf", bytes(900, 1)).file("README.md", "a card");
    hub.push("org/model", commit);
    let options = options(&hub, &cache);
    let first = pull("org/model", &options).unwrap();
    assert_eq!((first.fetched, first.size), (906, 906));
    hub.forget();
    let second = pull("org/model", &options).unwrap();
    assert_eq!((second.fetched, hub.bytes_served()), (0, 0));
    assert_eq!(second.path, first.path);
    let force = PullOptions { force: true, ..PullOptions::default() };
    let third = hub::pull(&reference("org/model"), &options, &force, &()).unwrap();
    assert_eq!((third.fetched, hub.bytes_served()), (906, 906));
    assert_cache(&cache, &third.commit, &[("m-Q8_0.gguf", &bytes(900, 1)), ("README.md", b"a card")]);
}

#[test]
fn include_takes_exactly_what_matches_and_exclude_leaves_out() {
    let (cache, hub) = (folder("globs"), Hub::start());
    let mut commit = Commit::default();
    for path in ["m-Q4_K_M.gguf", "m-Q8_0.gguf", "README.md", "notes/a.txt", "notes/b.txt"] {
        commit = commit.lfs(path, path);
    }
    hub.push("org/model", commit);
    let take = |include: &[&str], exclude: &[&str]| {
        let strings = |globs: &[&str]| globs.iter().map(|glob| (*glob).to_owned()).collect();
        let wanted = PullOptions { include: strings(include), exclude: strings(exclude), ..PullOptions::default() };
        let plan = hub::plan(&reference("org/model"), &options(&hub, &cache), &wanted).unwrap();
        let mut paths: Vec<String> = plan.files.into_iter().map(|file| file.path).collect();
        paths.sort();
        paths
    };
    assert_eq!(take(&["notes/*"], &[]), ["notes/a.txt", "notes/b.txt"]);
    assert_eq!(take(&["*.gguf"], &["*Q8_0*"]), ["m-Q4_K_M.gguf"]);
    assert_eq!(take(&[], &["README.md"]), ["m-Q4_K_M.gguf"]);
    assert_eq!(hub.bytes_served(), 0, "a plan fetches no file");
}

#[test]
fn a_plan_says_every_file_and_byte_before_anything_comes() {
    let (cache, hub) = (folder("plan"), Hub::start());
    let commit = hub.push("org/model", Commit::default().lfs("m-Q8_0.gguf", bytes(900, 1)).file("README.md", "a card"));
    hub.license("org/model", "apache-2.0");
    hub.page(1);
    let plan = hub::plan(&reference("org/model"), &options(&hub, &cache), &PullOptions::default()).unwrap();
    assert_eq!((plan.commit.as_str(), plan.size(), plan.missing()), (commit.as_str(), 906, 906));
    assert_eq!(plan.license.as_deref(), Some("apache-2.0"));
    assert_eq!(plan.gated, None);
    let file = plan.files.iter().find(|file| file.path == "m-Q8_0.gguf").unwrap();
    assert_eq!((file.digest.as_str(), file.present, file.partial), (server::sha256(&bytes(900, 1)).as_str(), false, 0));
    assert_eq!(hub.bytes_served(), 0);
    assert_eq!(hub::read_range(&plan, file, &options(&hub, &cache), 100..132).unwrap(), bytes(900, 1)[100..132]);
    assert_eq!(hub.bytes_served(), 32, "of a file's header only the header");
    assert!(!files(&cache).iter().any(|path| path.contains("blobs") || path.contains("snapshots")), "{:?}", files(&cache));
}
