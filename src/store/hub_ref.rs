//! What a user may write for a model of the Hub: `org/repo`, `org/repo@revision`, `org/repo:QUANT`, `org/repo:file.gguf`,
//! `hf.co/...`, `hf://...`, or the address that a browser shows. `hf://repo` is one of the old repositories without an organisation.
//!
//! Only the words are read here; which files they mean is decided where the repository's file list is known. A path that
//! exists and a name of the catalogue come before any of these, so nothing here looks at the disk.

use crate::error::{Error, Result};

/// A model repository of the Hugging Face Hub, and what is wanted of it.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct HubRef {
    /// `organisation/name`, or a name alone.
    pub repo: String,
    /// A branch, a tag, `refs/pr/N` or a commit; `None`: `main`.
    pub revision: Option<String>,
    /// Which of its weights.
    pub pick: Pick,
}

/// Which weights of a repository are wanted.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Default)]
pub enum Pick {
    /// safetensors where it has them with a `config.json`; of several GGUF files `Q4_K_M`, else the first.
    #[default]
    Any,
    /// The GGUF file of this quantisation, whatever its case: `Q4_K_M`.
    Quant(String),
    /// This file, by its path in the repository: a `.gguf` (the first, if it is split) or a `.safetensors`.
    File(String),
}

impl HubRef {
    /// Whether `text` has the form of a Hub reference, even if it is a wrong one; other words are names or paths.
    pub fn looks_like(text: &str) -> bool {
        stripped(text).is_some()
            || (text.split('@').next().is_some_and(|repo| repo.matches('/').count() == 1)
                && !text.starts_with(['.', '/', '~'])
                && !text.contains('\\'))
    }

    /// The revision, `main` where none is named.
    pub fn revision(&self) -> &str {
        self.revision.as_deref().unwrap_or("main")
    }
}

/// What follows the prefix that names the Hub, if there is one.
fn stripped(text: &str) -> Option<&str> {
    ["hf://", "https://huggingface.co/", "https://hf.co/", "huggingface.co/", "hf.co/"]
        .iter()
        .find_map(|prefix| text.strip_prefix(prefix))
}

impl std::str::FromStr for HubRef {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        let wrong = |why: &str| {
            Error::Input(format!(
                "model {text:?}: {why}; expected org/repo, org/repo@revision, org/repo:QUANT, org/repo:file.gguf or hf://org/repo@revision/file"
            ))
        };
        let address = stripped(text);
        // What a browser adds: `?download=true`, `#files`.
        let rest = address.map_or(text, |rest| rest.split(['?', '#']).next().unwrap_or_default()).trim_end_matches('/');
        let (organisation, rest) = match rest.split_once('/') {
            Some((organisation, rest)) if !organisation.contains(['@', ':']) => (Some(organisation), rest),
            _ if address.is_some() => (None, rest),
            _ => return Err(wrong("no organisation before the repository")),
        };
        // The name ends where one of the marks begins; a revision may hold slashes only behind `@` with no path after it.
        let end = rest.find(['@', ':', '/']).unwrap_or(rest.len());
        let (name, rest) = rest.split_at(end);
        for part in organisation.into_iter().chain([name]) {
            let is_plain = part.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.'));
            if part.is_empty() || !is_plain || part.starts_with('.') || part.contains("..") {
                return Err(wrong(&format!("{part:?} is no name of the Hub")));
            }
        }
        let (revision, wanted) = match rest.strip_prefix('@') {
            Some(rest) => {
                // Before the path of a file a revision has no slash, but for `refs/pr/1`; else it may have some.
                let end = rest.find(':').unwrap_or(rest.len());
                let from = if rest.starts_with("refs/") { rest.match_indices('/').nth(1).map_or(0, |at| at.0 + 1) } else { 0 };
                let end = match rest[from..end].find('/') {
                    Some(at) if is_file(&rest[..end]) => from + at,
                    _ => end,
                };
                (Some(rest[..end].to_owned()), &rest[end..])
            }
            None => in_address(rest),
        };
        if revision.as_deref().is_some_and(|revision| revision.is_empty() || revision.contains("..")) {
            return Err(wrong("the revision is not one"));
        }
        let by_path = wanted.starts_with('/');
        let wanted = wanted.strip_prefix([':', '/']).unwrap_or(wanted);
        if wanted.split('/').any(|part| part == "..") || (wanted.is_empty() && rest.ends_with([':', '@'])) {
            return Err(wrong("what follows the repository is neither a quantisation nor a file"));
        }
        let pick = match wanted {
            "" => Pick::Any,
            file if is_file(file) => Pick::File(file.to_owned()),
            quant if !by_path && !quant.contains('/') => Pick::Quant(quant.to_owned()),
            _ => return Err(wrong(&format!("{wanted:?} is neither a quantisation nor a .gguf or .safetensors file"))),
        };
        let repo = organisation.map_or_else(|| name.to_owned(), |organisation| format!("{organisation}/{name}"));
        Ok(HubRef { repo, revision, pick })
    }
}

fn is_file(path: &str) -> bool {
    [".gguf", ".safetensors"].iter().any(|end| path.to_ascii_lowercase().ends_with(end))
}

/// How a user would write a repository: one without an organisation by its address.
pub(crate) fn written(repo: &str) -> String {
    if repo.contains('/') { repo.to_owned() } else { format!("hf://{repo}") }
}

/// The revision in `/tree/REV`, `/blob/REV/file` and `/resolve/REV/file`, as a browser shows them.
fn in_address(rest: &str) -> (Option<String>, &str) {
    let behind = ["/tree/", "/blob/", "/resolve/"].iter().find_map(|word| rest.strip_prefix(word));
    match behind {
        Some(rest) => {
            let end = rest.find('/').unwrap_or(rest.len());
            (Some(rest[..end].replace("%2F", "/").replace("%2f", "/")), &rest[end..])
        }
        None => (None, rest),
    }
}

/// As a user would write it: `org/repo@revision:pick`.
impl std::fmt::Display for HubRef {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&written(&self.repo))?;
        if let Some(revision) = &self.revision {
            write!(f, "@{revision}")?;
        }
        match &self.pick {
            Pick::Any => Ok(()),
            Pick::Quant(wanted) | Pick::File(wanted) => write!(f, ":{wanted}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(repo: &str, revision: Option<&str>, pick: Pick) -> HubRef {
        HubRef { repo: repo.to_owned(), revision: revision.map(str::to_owned), pick }
    }

    #[test]
    fn every_way_to_write_a_model_of_the_hub_is_read() {
        let quant = |name: &str| Pick::Quant(name.to_owned());
        let file = |name: &str| Pick::File(name.to_owned());
        for (text, expected) in [
            ("org/repo", of("org/repo", None, Pick::Any)),
            ("org/Repo-1.5_x", of("org/Repo-1.5_x", None, Pick::Any)),
            ("org/repo@v1.0", of("org/repo", Some("v1.0"), Pick::Any)),
            ("org/repo@refs/pr/7", of("org/repo", Some("refs/pr/7"), Pick::Any)),
            ("org/repo@refs/pr/7:Q8_0", of("org/repo", Some("refs/pr/7"), quant("Q8_0"))),
            ("org/repo@feature/x", of("org/repo", Some("feature/x"), Pick::Any)),
            ("org/repo@feature/x:Q8_0", of("org/repo", Some("feature/x"), quant("Q8_0"))),
            ("org/repo@feature/x:a/b.gguf", of("org/repo", Some("feature/x"), file("a/b.gguf"))),
            ("hf://distilgpt2", of("distilgpt2", None, Pick::Any)),
            ("hf://distilgpt2@v1:F16", of("distilgpt2", Some("v1"), quant("F16"))),
            ("org/repo:Q4_K_M", of("org/repo", None, quant("Q4_K_M"))),
            ("org/repo@main:Q4_K_M", of("org/repo", Some("main"), quant("Q4_K_M"))),
            ("org/repo:model.Q8_0.gguf", of("org/repo", None, file("model.Q8_0.gguf"))),
            ("org/repo:Q8_0/model-00001-of-00002.gguf", of("org/repo", None, file("Q8_0/model-00001-of-00002.gguf"))),
            ("hf.co/org/repo:IQ4_XS", of("org/repo", None, quant("IQ4_XS"))),
            ("hf://org/repo@abc123/sub/model.gguf", of("org/repo", Some("abc123"), file("sub/model.gguf"))),
            ("hf://org/repo/model.gguf", of("org/repo", None, file("model.gguf"))),
            ("https://huggingface.co/org/repo/", of("org/repo", None, Pick::Any)),
            ("https://huggingface.co/org/repo/tree/dev", of("org/repo", Some("dev"), Pick::Any)),
            ("https://huggingface.co/org/repo/tree/refs%2Fpr%2F1", of("org/repo", Some("refs/pr/1"), Pick::Any)),
            ("https://huggingface.co/org/repo?show_file_info=m.gguf", of("org/repo", None, Pick::Any)),
            ("https://huggingface.co/org/repo/resolve/main/m.gguf?download=true", of("org/repo", Some("main"), file("m.gguf"))),
            ("https://huggingface.co/org/repo/blob/main/m.gguf", of("org/repo", Some("main"), file("m.gguf"))),
        ] {
            assert_eq!(text.parse::<HubRef>().map_err(|e| e.to_string()), Ok(expected), "{text}");
        }
    }

    #[test]
    fn what_is_no_reference_is_refused_with_the_forms_that_are() {
        for text in [
            "org",
            "/repo",
            "org/",
            "org/re po",
            "org/..",
            "org/repo@",
            "org/repo:",
            "org/repo/../x.gguf",
            "org/repo/notes.txt",
            "o/r@../x",
        ] {
            let error = text.parse::<HubRef>().expect_err(text).to_string();
            assert!(error.contains("expected org/repo") && error.contains(text), "{text}: {error}");
        }
    }

    #[test]
    fn a_reference_is_written_as_it_is_read() {
        for text in [
            "org/repo",
            "org/repo@v1",
            "org/repo:Q4_K_M",
            "org/repo@v1:a/b.gguf",
            "org/repo@feature/x:Q8_0",
            "hf://distilgpt2:F16",
        ] {
            assert_eq!(text.parse::<HubRef>().map(|reference| reference.to_string()).ok().as_deref(), Some(text));
        }
    }

    #[test]
    fn paths_and_names_do_not_look_like_references() {
        for text in ["smollm2", "smollm2:135m", "./org/repo", "/org/repo", "a/b/c", "models\\a/b", "~/m"] {
            assert!(!HubRef::looks_like(text), "{text}");
        }
        for text in ["org/repo", "org/repo:Q4", "org/repo@feature/x", "hf.co/org/repo/x/y.gguf", "hf://a"] {
            assert!(HubRef::looks_like(text), "{text}");
        }
    }
}
