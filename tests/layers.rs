//! The structure, held: who may import whom, where candle and `unsafe` may appear, and how long a file may grow.

use std::path::{Path, PathBuf};

/// Layers from the bottom up; a module imports only from lower ones (or itself).
const LAYERS: [(&str, u8); 22] = [
    ("error", 0),
    ("bytes", 1),
    ("json", 1),
    ("reference", 1),
    ("catalog", 2),
    ("hub", 2),
    ("sources", 3),
    ("spec", 2),
    ("quant", 2),
    ("sample", 2),
    ("text", 2),
    ("kernels", 3),
    ("device", 3),
    ("weights", 4),
    ("nn", 5),
    ("arch", 5),
    ("model", 6),
    ("options", 6),
    ("load", 7),
    ("embed", 8),
    ("engine", 8),
    ("bench", 9),
];

/// Names that lib.rs re-exports from the lowest modules.
const ROOT: [&str; 4] = ["Error", "Result", "Bytes", "{"];

fn sources(folder: &Path) -> Vec<PathBuf> {
    let mut files = Vec::new();
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            files.extend(sources(&path));
        } else if path.extension().is_some_and(|e| e == "rs") {
            files.push(path);
        }
    }
    files
}

/// Every library source: path below src, module, text without its tests and comments.
fn library() -> Vec<(String, String, String)> {
    let src = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut found = Vec::new();
    for file in sources(&src) {
        let name = file.strip_prefix(&src).unwrap().to_str().unwrap().to_owned();
        let module = name.split(['/', '.']).next().unwrap().to_owned();
        if matches!(module.as_str(), "main" | "lib" | "cli") || name.contains("tests") {
            continue;
        }
        let text = std::fs::read_to_string(&file).unwrap();
        let code = text.split("#[cfg(test)]\nmod tests {").next().unwrap();
        let code: Vec<_> = code.lines().filter(|line| !line.trim_start().starts_with("//")).collect();
        found.push((name, module, code.join("\n")));
    }
    found
}

fn layer(module: &str) -> Option<u8> {
    LAYERS.iter().find(|row| row.0 == module).map(|row| row.1)
}

#[test]
fn every_module_has_a_layer_and_imports_only_from_below() {
    for (name, module, code) in library() {
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
    for (name, _, code) in library() {
        let allowed = ["error.rs", "device.rs", "nn/generic.rs", "nn/cache.rs"];
        assert!(allowed.contains(&name.as_str()) || !code.contains("candle_"), "src/{name} names candle");
    }
}

#[test]
fn unsafe_appears_only_in_the_kernels_and_at_the_mapping_of_a_file() {
    for (name, module, code) in library() {
        let words = code.split(|c: char| !c.is_alphanumeric() && c != '_');
        let count = words.filter(|word| *word == "unsafe").count();
        let most = match (module.as_str(), name.as_str()) {
            ("kernels", _) => usize::MAX,
            (_, "bytes.rs") => 2,
            _ => 0,
        };
        assert!(count <= most, "src/{name} has {count} unsafe");
    }
}

#[test]
fn the_forward_stays_short() {
    let (_, _, code) = library().into_iter().find(|file| file.0 == "model/transformer.rs").unwrap();
    assert!(code.lines().count() < 350);
}
