//! Which files a reference and the options of a pull mean, among those of a repository or a snapshot.

use super::pick::{Choice, choose};
use super::{PlannedModel, PullOptions};
use crate::error::{Error, Result};
use crate::store::hub_ref::HubRef;

/// The files that a reference and the options mean among `paths`.
pub(super) fn select(
    reference: &HubRef,
    paths: &[&str],
    pull: &PullOptions,
    read: &mut dyn FnMut(&str) -> Result<Vec<u8>>,
) -> Result<Choice> {
    let model = reference.to_string();
    let excluded = globs(&pull.exclude)?;
    let paths: Vec<&str> = paths.iter().copied().filter(|path| !excluded(path)).collect();
    if pull.include.is_empty() {
        return choose(&model, &paths, &reference.pick, read);
    }
    let included = globs(&pull.include)?;
    let paths: Vec<&str> = paths.into_iter().filter(|path| included(path)).collect();
    if paths.is_empty() {
        let hint = "no file of the repository matches; look at its list of files on the Hub".to_owned();
        return Err(Error::NotFound { what: format!("{} in {model}", pull.include.join(" ")), hint });
    }
    let weights = choose(&model, &paths, &reference.pick, read).map_or(PlannedModel::Folder, |choice| choice.weights);
    Ok(Choice { files: paths.into_iter().map(str::to_owned).collect(), weights })
}

/// Whether a path matches one of `patterns`. As in Python's `fnmatch`, which `hf` uses, `*` matches slashes too, and a
/// folder's name with a slash behind it means all that is in it.
#[cfg(feature = "hub")]
fn globs(patterns: &[String]) -> Result<impl Fn(&str) -> bool> {
    let mut set = globset::GlobSetBuilder::new();
    for pattern in patterns {
        let whole = if pattern.ends_with('/') { format!("{pattern}*") } else { pattern.clone() };
        let glob = globset::GlobBuilder::new(&whole).literal_separator(false).backslash_escape(false).build();
        set.add(glob.map_err(|e| Error::Input(format!("pattern {pattern:?}: {}", e.kind())))?);
    }
    let set = set.build().map_err(|e| Error::Input(e.to_string()))?;
    Ok(move |path: &str| set.is_match(path))
}

/// No path matches; patterns are not understood in a build without the feature `hub`, which fetches nothing.
#[cfg(not(feature = "hub"))]
fn globs(patterns: &[String]) -> Result<impl Fn(&str) -> bool> {
    if patterns.is_empty() {
        return Ok(|_: &str| false);
    }
    Err(Error::unsupported("patterns of files in a build without the feature `hub`", "builds with it"))
}

#[cfg(all(test, feature = "hub"))]
mod tests {
    use super::*;

    #[test]
    fn include_means_exactly_the_matching_files_and_exclude_none_of_them() {
        let paths = ["config.json", "tokenizer.json", "model.safetensors", "README.md", "sub/a.txt", "b.txt"];
        let files = |include: &[&str], exclude: &[&str]| {
            let list = |globs: &[&str]| globs.iter().map(|glob| (*glob).to_owned()).collect();
            let pull = PullOptions { include: list(include), exclude: list(exclude), force: false };
            let reference = "org/name".parse().unwrap();
            select(&reference, &paths, &pull, &mut |_| Ok(Vec::new())).map(|choice| choice.files)
        };
        assert_eq!(files(&["*.txt"], &[]).unwrap(), ["sub/a.txt", "b.txt"]);
        assert_eq!(files(&["*.txt", "config.json"], &["sub/*"]).unwrap(), ["config.json", "b.txt"]);
        assert_eq!(files(&[], &["README*"]).unwrap(), ["config.json", "tokenizer.json", "model.safetensors"]);
        assert!(files(&["*.bin"], &[]).unwrap_err().to_string().contains("*.bin"));
        assert!(files(&["[a"], &[]).unwrap_err().to_string().contains("[a"));
    }
}
