//! The models in the Hub's cache, one for each GGUF file or folder of weights that can be loaded.

use super::{LocalModel, Source, are_parts, quantisation_of};
use crate::error::Result;
use crate::store::catalog;
use crate::store::files::is_model;
use crate::store::hub::{self, CachedFile, CachedRevision, HubOptions};
use crate::store::hub_ref;
use std::collections::BTreeMap;

/// Every model in the cache. A model of the catalogue has its name there; a revision that is not `main` is named by its
/// branch, tag or commit, because no shorter name finds it.
/// `taken` has the names that mean something else on this machine.
///
/// # Errors
/// [`Error::Io`](crate::Error::Io) for a cache that can not be read.
pub fn list(hub: &HubOptions, taken: &[&str]) -> Result<Vec<LocalModel>> {
    let mut found = Vec::new();
    for repo in hub::list(hub)? {
        found.extend(repo.revisions.iter().flat_map(|revision| models(&repo.repo, revision, taken)));
    }
    Ok(found)
}

fn models(repo: &str, revision: &CachedRevision, taken: &[&str]) -> Vec<LocalModel> {
    let is_main = revision.refs.iter().any(|name| name == "main");
    let at = match (is_main, revision.refs.first()) {
        (true, _) => String::new(),
        (false, Some(name)) => format!("@{name}"),
        (false, None) => format!("@{}", revision.commit),
    };
    let called = |quant: Option<&str>| {
        let name = is_main.then(|| catalog::name_of(repo, quant)).flatten();
        name.filter(|name| !taken.contains(&name.as_str()))
    };
    let written = hub_ref::written(repo);
    let paths: Vec<&str> = revision.files.iter().map(|file| file.path.as_str()).collect();
    let ggufs = revision.files.iter().filter(|file| is_model(&file.path));
    let mut found: Vec<LocalModel> = ggufs
        .map(|file| {
            let parts: Vec<&CachedFile> = revision.files.iter().filter(|other| are_parts(&file.path, &other.path)).collect();
            // Another file of the same quantisation may be the one that is found by it: this one is found by its path then.
            let quant = quantisation_of(&file.path).filter(|quant| hub::of_quant(&paths, quant) == Some(&file.path));
            let name = called(quant).unwrap_or_else(|| format!("{written}{at}:{}", quant.unwrap_or(&file.path)));
            LocalModel {
                name,
                id: file.blob.file_name().unwrap_or_default().to_string_lossy().into_owned(),
                bytes: parts.iter().map(|part| part.size).sum(),
                modified: parts.iter().map(|part| part.modified).max(),
                source: Source::Hub,
                path: revision.path.join(&file.path),
            }
        })
        .collect();
    let has = |test: fn(&str) -> bool| revision.files.iter().any(|file| test(&file.path));
    if has(|path| matches!(path, "config.json" | "0_Transformer/config.json")) && has(|path| path.ends_with(".safetensors")) {
        let own: Vec<&CachedFile> = revision.files.iter().filter(|file| !file.path.ends_with(".gguf")).collect();
        found.push(LocalModel {
            name: called(None).unwrap_or_else(|| format!("{written}{at}")),
            id: revision.commit.clone(),
            // Two names of one blob are one file.
            bytes: own.iter().map(|file| (&file.blob, file.size)).collect::<BTreeMap<_, _>>().values().sum(),
            modified: own.iter().map(|file| file.modified).max(),
            source: Source::Hub,
            path: revision.path.clone(),
        });
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::hub::testing::{COMMIT, Cache, OTHER};

    #[test]
    fn every_name_finds_the_file_that_it_stands_for() {
        let cache = Cache::new("names");
        for (repo, commit, file) in [
            ("org/two", COMMIT, "a-longer-name-Q8_0.gguf"),
            ("org/two", COMMIT, "b-Q8_0.gguf"),
            ("org/two", OTHER, "c-Q8_0.gguf"),
            ("alone", COMMIT, "d-F16.gguf"),
        ] {
            cache.add(repo, commit, file, file.as_bytes());
        }
        cache.mark("org/two", "main", COMMIT);
        cache.mark("org/two", "feature/x", OTHER);
        cache.mark("alone", "main", COMMIT);
        let found = list(&cache.options, &[]).unwrap();
        let mut names: Vec<&str> = found.iter().map(|stored| stored.name.as_str()).collect();
        names.sort_unstable();
        assert_eq!(names, ["hf://alone:F16", "org/two:Q8_0", "org/two:a-longer-name-Q8_0.gguf", "org/two@feature/x:Q8_0"]);
        for stored in &found {
            let located = hub::locate(&stored.name.parse().unwrap(), &cache.options).unwrap();
            assert_eq!(located.as_ref(), Some(&stored.path), "{}", stored.name);
        }
    }
}
