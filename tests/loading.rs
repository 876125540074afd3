//! How a program gets a model: by a name or a path of any kind, from memory, with a switch that ends it.

use std::path::{Path, PathBuf};
use tallow::{Bytes, Cancel, Checkpoint, EmbedOptions, Embedder, Error, LoadOptions, Model, ModelFiles};

fn golden(case: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden").join(case)
}

/// The files of a folder with their names, those of its folders too, as a program that holds them in memory has them.
fn contents(folder: &Path) -> Vec<(String, Vec<u8>)> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_name().unwrap().to_str().unwrap().to_owned();
        if path.is_dir() {
            found.extend(contents(&path).into_iter().map(|(below, bytes)| (format!("{name}/{below}"), bytes)));
        } else {
            found.push((name, std::fs::read(&path).unwrap()));
        }
    }
    found
}

#[test]
fn a_model_is_loaded_by_paths_and_names_of_every_kind() {
    let path = golden("llama-mha");
    let text = path.to_str().unwrap();
    let dims = [
        Model::load(text).unwrap().spec().dim,
        Model::load(text.to_owned()).unwrap().spec().dim,
        Model::load(&path).unwrap().spec().dim,
        Model::load(path.as_path()).unwrap().spec().dim,
        Model::load_with(path.clone(), &LoadOptions::default()).unwrap().spec().dim,
        Checkpoint::open(&path).unwrap().spec().dim,
    ];
    assert!(dims.iter().all(|dim| *dim == dims[0]));
    let bert = golden("bert-mean");
    assert_eq!(Embedder::load(&bert).unwrap().dimensions(), Embedder::load(bert.to_str().unwrap()).unwrap().dimensions());
}

#[test]
fn a_model_in_memory_is_the_one_of_its_folder() {
    for case in ["llama-sharded-bf16", "llama-mha"] {
        let folder = golden(case);
        let logits = |model: Model| model.logits(&[1, 5, 9, 2], true).unwrap();
        let options = LoadOptions::default();
        let from_disk = Model::load(&folder).unwrap();
        let from_memory = Model::at(ModelFiles::from_memory(contents(&folder)), &options).unwrap();
        assert_eq!(from_disk.defaults().sampling, from_memory.defaults().sampling, "{case}");
        assert_eq!((from_memory.info().path.as_ref(), from_memory.info().name.as_str()), (None, "memory"));
        assert_eq!(logits(from_disk), logits(from_memory), "{case}");
    }
}

#[test]
fn an_embedder_in_memory_is_the_one_of_its_files() {
    let texts = ["The lamp is lit at dusk.", "Soup"];
    let (load, options) = (LoadOptions::default(), EmbedOptions::default());
    let folder = golden("bert-mean");
    let from_memory = Embedder::at(ModelFiles::from_memory(contents(&folder)), &load, &options).unwrap();
    assert_eq!(from_memory.embed(&texts).unwrap(), Embedder::load(&folder).unwrap().embed(&texts).unwrap());
    let file = golden("gguf-bert-f16/model-f16.gguf");
    let from_bytes = Embedder::from_gguf_bytes(std::fs::read(&file).unwrap(), &load, &options).unwrap();
    assert_eq!(from_bytes.embed(&texts).unwrap(), Embedder::load(&file).unwrap().embed(&texts).unwrap());
}

#[test]
fn files_in_memory_that_are_missing_or_damaged_are_named() {
    let all = contents(&golden("llama-sharded-bf16"));
    let without = |name: &str| {
        let files = all.iter().filter(|file| file.0 != name).cloned();
        Model::at(ModelFiles::from_memory(files).named("mine"), &LoadOptions::default()).unwrap_err().to_string()
    };
    for (name, expected) in [
        ("config.json", "memory: config.json is missing"),
        ("tokenizer.json", "memory: a model without tokenizer.json"),
        ("model-00002-of-00003.safetensors", "model not found: memory/model-00002-of-00003.safetensors"),
        ("model.safetensors.index.json", "model not found: memory; expected model.safetensors"),
    ] {
        let error = without(name);
        assert!(error.starts_with(expected), "{name}: {error}");
    }
    let damaged = all.iter().map(|(name, bytes)| (name.clone(), bytes[..bytes.len() / 2].to_vec()));
    let error = Model::at(ModelFiles::from_memory(damaged), &LoadOptions::default()).unwrap_err();
    assert!(matches!(&error, Error::Corrupt { file, .. } if file.starts_with("memory/")), "{error}");
    let none: [(String, Bytes); 0] = [];
    assert!(Model::at(ModelFiles::from_memory(none), &LoadOptions::default()).is_err());
}

#[test]
fn a_cancelled_load_is_an_error_of_its_own() {
    let cancel = Cancel::default();
    let load = LoadOptions { cancel: Some(cancel.clone()), ..LoadOptions::default() };
    assert!(Model::load_with(golden("llama-mha"), &load).is_ok());
    let opened = Checkpoint::open(golden("llama-mha")).unwrap();
    cancel.cancel();
    assert!(matches!(Model::load_with(golden("llama-mha"), &load), Err(Error::Cancelled)));
    assert!(matches!(Model::from_checkpoint(opened, &load), Err(Error::Cancelled)));
    let embedder = Embedder::load_with(golden("bert-mean"), &load, &EmbedOptions::default());
    assert!(matches!(embedder, Err(Error::Cancelled)));
}
