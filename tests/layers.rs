//! The structure, held: who may import whom, where candle and `unsafe` may appear, and how long a file may grow.

#[path = "support/source.rs"]
mod source;

use source::{Module, Names, Source};
use std::collections::{BTreeMap, BTreeSet};

/// Layers from the bottom up; a module imports only from lower ones (or itself).
const LAYERS: [(&str, u8); 22] = [
    ("error", 0),
    ("bytes", 1),
    ("cancel", 1),
    ("json", 1),
    ("files", 2),
    ("spec", 2),
    ("quant", 2),
    ("sample", 2),
    ("text", 2),
    ("cpu", 3),
    ("device", 3),
    ("tensors", 4),
    ("hparams", 5),
    ("backend", 5),
    ("arch", 6),
    ("model", 7),
    ("store", 7),
    ("options", 8),
    ("checkpoint", 9),
    ("embed", 10),
    ("engine", 10),
    ("bench", 11),
];

/// Names that lib.rs re-exports from the lowest modules.
const ROOT: [&str; 4] = ["Error", "Result", "Bytes", "{"];

/// Rings that are known, by their folder. Each is to go; none may come.
const RINGS: [(&str, &[&str]); 3] =
    [("cpu", &["float", "matmul"]), ("embed", &["call", "pool", "tokenise"]), ("engine", &["generation", "session"])];

/// Library files whose messages still name a flag. Each is to go; none may come.
const FLAGS: [&str; 1] = ["engine/session.rs"];

/// Every library source.
fn library() -> Vec<Source> {
    source::all().into_iter().filter(|source| !matches!(source.layer(), "" | "cli")).collect()
}

fn layer(module: &str) -> Option<u8> {
    LAYERS.iter().find(|row| row.0 == module).map(|row| row.1)
}

#[test]
fn every_module_has_a_layer_and_imports_only_from_below() {
    for Source { name, module, code } in library() {
        let module = module[0].clone();
        let own = layer(&module).unwrap_or_else(|| panic!("src/{name}: give the module {module} a layer"));
        for (at, _) in code.match_indices("crate::") {
            let path = &code[at + "crate::".len()..];
            let used: String = path.chars().take_while(|c| c.is_alphanumeric() || *c == '_').collect();
            if used == module || ROOT.contains(&used.as_str()) || path.starts_with('{') {
                continue;
            }
            let below = layer(&used).unwrap_or_else(|| panic!("src/{name} names crate::{used}, which has no layer"));
            assert!(below < own, "src/{name} (layer {own}) imports crate::{used} (layer {below})");
        }
    }
}

#[test]
fn candle_appears_only_where_tensors_are_its_own() {
    for Source { name, code, .. } in library() {
        let allowed = ["error.rs", "device.rs", "backend/candle.rs", "backend/cache.rs"];
        assert!(allowed.contains(&name.as_str()) || !code.contains("candle_"), "src/{name} names candle");
    }
}

#[test]
fn unsafe_appears_only_in_the_kernels_and_at_the_mapping_of_a_file() {
    for Source { name, module, code } in library() {
        let words = code.split(|c: char| !c.is_alphanumeric() && c != '_');
        let count = words.filter(|word| *word == "unsafe").count();
        let most = match (module[0].as_str(), name.as_str()) {
            ("cpu", _) => usize::MAX,
            (_, "bytes.rs") => 2,
            _ => 0,
        };
        assert!(count <= most, "src/{name} has {count} unsafe");
    }
}

#[test]
fn the_forward_stays_short() {
    let file = library().into_iter().find(|file| file.name == "model/transformer.rs").unwrap();
    assert!(file.code.lines().count() < 350);
}

/// For each folder, which of its files and folders name which others of them.
fn siblings(sources: &[Source]) -> BTreeMap<Module, BTreeMap<String, BTreeSet<String>>> {
    let names = Names::of(sources);
    let mut edges = BTreeMap::<Module, BTreeMap<String, BTreeSet<String>>>::new();
    for source in sources.iter().filter(|source| !source.module.is_empty()) {
        for path in source::paths(source) {
            let home = names.home(&path);
            let shared = source.module.iter().zip(&home).take_while(|(a, b)| a == b).count();
            if let (Some(from), Some(to)) = (source.module.get(shared), home.get(shared)) {
                edges.entry(home[..shared].to_vec()).or_default().entry(from.clone()).or_default().insert(to.clone());
            }
        }
    }
    edges
}

/// What can be reached from `from`.
fn reached<'a>(edges: &'a BTreeMap<String, BTreeSet<String>>, from: &'a str) -> BTreeSet<&'a str> {
    let (mut found, mut open) = (BTreeSet::new(), vec![from]);
    while let Some(at) = open.pop() {
        for next in edges.get(at).into_iter().flatten() {
            if found.insert(next.as_str()) {
                open.push(next);
            }
        }
    }
    found
}

#[test]
fn no_files_of_a_folder_import_each_other_in_a_ring() {
    let mut found = Vec::new();
    let folders = siblings(&source::all());
    for (folder, edges) in &folders {
        let in_ring: Vec<_> = edges.keys().filter(|file| reached(edges, file).contains(file.as_str())).collect();
        let mut rings = BTreeSet::new();
        for file in &in_ring {
            let back = |other: &&&String| {
                reached(edges, file).contains(other.as_str()) && reached(edges, other).contains(file.as_str())
            };
            rings.insert(in_ring.iter().filter(back).map(|file| file.as_str()).collect::<Vec<_>>());
        }
        found.extend(rings.into_iter().map(|ring| (folder.join("/"), ring)));
    }
    let known: Vec<_> = RINGS.iter().map(|(folder, ring)| ((*folder).to_owned(), ring.to_vec())).collect();
    assert_eq!(found, known, "rings found, and those that are known");
}

#[test]
fn commands_stand_on_arguments_and_both_on_what_is_shown() {
    let edges = siblings(&source::all()).remove(&vec!["cli".to_owned()]).unwrap();
    let edges: Vec<_> = edges.iter().flat_map(|(from, to)| to.iter().map(move |to| (from.as_str(), to.as_str()))).collect();
    assert_eq!(edges, [("args", "ui"), ("commands", "args"), ("commands", "ui")]);
}

/// Where each public type is defined, by its name.
fn public_types() -> BTreeMap<String, BTreeSet<String>> {
    let sources = source::all();
    let names = Names::of(&sources);
    let file = |module: &Module| sources.iter().find(|source| source.module == *module);
    let mut types = BTreeMap::<String, BTreeSet<String>>::new();
    let mut open: Vec<Module> = vec![Vec::new()];
    while let Some(module) = open.pop() {
        let source = file(&module).unwrap();
        for line in source.code.lines().map(str::trim_start) {
            let word = |kind: &str| {
                let rest = line.strip_prefix(kind)?;
                Some(rest.split(|c: char| !c.is_alphanumeric() && c != '_').next().unwrap_or_default().to_owned())
            };
            if let Some(child) = word("pub mod ") {
                open.push([module.as_slice(), &[child]].concat());
            }
            for kind in ["pub struct ", "pub enum ", "pub trait ", "pub type ", "pub union "] {
                // A type inside a function or another module is none of this one's.
                if let Some(name) = word(kind).filter(|_| source.code.contains(&format!("\n{kind}"))) {
                    types.entry(name).or_default().insert(source.name.clone());
                }
            }
        }
        for (name, path) in names.reexports(&module) {
            if let Some(home) = file(&names.home(path)).filter(|_| name.starts_with(|c: char| c.is_uppercase())) {
                types.entry(name.to_owned()).or_default().insert(home.name.clone());
            }
        }
    }
    types
}

#[test]
fn no_two_public_types_share_a_name() {
    let types = public_types();
    assert!(types.len() > 100 && types["Model"].len() == 1, "{} types were found", types.len());
    let shared: Vec<_> = types.iter().filter(|(_, files)| files.len() > 1).collect();
    assert!(shared.is_empty(), "{shared:#?}");
}

#[test]
fn messages_of_the_library_name_no_flag_and_no_command_of_the_program() {
    for Source { name, code, .. } in library().into_iter().filter(|source| !FLAGS.contains(&source.name.as_str())) {
        // Cargo's flags are for those who build.
        for text in code.split('"').skip(1).step_by(2).filter(|text| !text.contains("cargo")) {
            let is_flag = |word: &str| {
                word.trim_start_matches(['`', '('])
                    .strip_prefix("--")
                    .is_some_and(|rest| rest.starts_with(|c: char| c.is_ascii_lowercase()))
            };
            assert!(!text.contains("`tallow ") && !text.split_whitespace().any(is_flag), "src/{name}: {text:?}");
        }
    }
}

/// Who calls the network: the engine's step (generating, scoring, perplexity, `tallow logits`), the measuring of forwards alone,
/// and the vectors of texts.
#[test]
fn the_forward_is_called_from_one_function_of_the_engine_and_one_each_for_measuring_and_for_vectors() {
    let mut calls = Vec::new();
    for source in library().into_iter().filter(|source| source.layer() != "model") {
        let Source { name, code, .. } = source;
        let code: String = code.split_whitespace().collect();
        // Whose first argument is a batch, lent.
        let count = code.matches(".logits(&").count() + code.matches(".hidden(&").count();
        calls.extend((count > 0).then_some((name, count)));
    }
    calls.sort();
    let expected = [("bench/measure.rs", 1), ("embed/run.rs", 1), ("engine/step.rs", 1)];
    assert_eq!(calls, expected.map(|(name, count)| (name.to_owned(), count)));
}
