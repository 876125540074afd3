//! The catalogue: names people know, such as `llama3.2:1b`, and the repositories of the Hub they stand for.
//!
//! The table is `models/catalog.toml`, compiled in. It holds names and families only; what a model weighs and which files it
//! has is known when it is pulled. Whether a family can run is for the registry of families to say, not for this table.

use crate::store::hub_ref::{HubRef, Pick};
use std::collections::BTreeMap;
use std::sync::LazyLock;

static CATALOG: LazyLock<BTreeMap<String, Row>> = LazyLock::new(|| {
    let rows: BTreeMap<String, TomlRow> =
        toml::from_str(include_str!("../../models/catalog.toml")).expect("a test reads the table that is compiled in");
    rows.into_iter().map(|(name, row)| (name, row.checked())).collect()
});

#[derive(serde::Deserialize)]
#[serde(deny_unknown_fields)]
struct TomlRow {
    family: String,
    default: String,
    tags: BTreeMap<String, String>,
}

impl TomlRow {
    fn checked(self) -> Row {
        let reference = |text: String| text.parse().expect("a test reads every reference of the table");
        let tags = self.tags.into_iter().map(|(tag, text)| (tag, reference(text))).collect();
        Row { family: self.family, default: self.default, tags }
    }
}

struct Row {
    family: String,
    default: String,
    tags: BTreeMap<String, HubRef>,
}

/// What a name stands for.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct CatalogEntry {
    /// The name and its tag, as the catalogue writes them: `llama3.2:3b`.
    pub name: String,
    /// The family the model belongs to, as its files call it.
    pub family: &'static str,
    /// Where it lies on the Hub.
    pub reference: HubRef,
}

/// The entry called `name`, `name:latest` or `name:tag`, in any case. A tag may end in a quantisation, as Ollama's do:
/// `llama3.2:1b-instruct-q8_0`. The Hub's habit of a hyphen before the size is understood, too: `gpt2-xl`.
pub fn get(name: &str) -> Option<CatalogEntry> {
    let name = name.to_lowercase();
    let (model, tag) = split(&name);
    entry(model, tag)
        .or_else(|| name.split_once(':').is_none().then(|| name.rsplit_once('-')).flatten().and_then(|(m, t)| entry(m, t)))
}

fn entry(model: &str, tag: &str) -> Option<CatalogEntry> {
    let (model, row) = CATALOG.get_key_value(model)?;
    let tag = if tag == "latest" { &row.default } else { tag };
    let (tag, reference) = match row.tags.get(tag) {
        Some(reference) => (tag, reference.clone()),
        None => {
            let (base, quant) = tag.rsplit_once('-')?;
            let reference = row.tags.get(base).filter(|found| matches!(found.pick, Pick::Quant(_)))?;
            (tag, HubRef { pick: Pick::Quant(quantisation(quant)?), ..reference.clone() })
        }
    };
    Some(CatalogEntry { name: format!("{model}:{tag}"), family: &row.family, reference })
}

/// The tags of the model `name` (whatever tag it has); `None` if there is no such model.
pub fn tags(name: &str) -> Option<Vec<&'static str>> {
    let name = name.to_lowercase();
    Some(CATALOG.get(split(&name).0)?.tags.keys().map(String::as_str).collect())
}

/// Every name, with and without its tags, sorted.
pub fn names() -> Vec<String> {
    let with_tags = |(name, row): (&String, &Row)| {
        let tagged: Vec<_> = row.tags.keys().map(|tag| format!("{name}:{tag}")).collect();
        std::iter::once(name.clone()).chain(tagged)
    };
    CATALOG.iter().flat_map(with_tags).collect()
}

/// The shortest name that stands for the quantisation `quant` of `repo`; `None` for `quant`: for the repository as a whole.
pub fn name_of(repo: &str, quant: Option<&str>) -> Option<String> {
    let is_it = |reference: &HubRef| {
        reference.repo == repo
            && match (&reference.pick, quant) {
                (Pick::Quant(listed), Some(quant)) => listed.eq_ignore_ascii_case(quant),
                (Pick::Any, None) => true,
                _ => false,
            }
    };
    let tags = CATALOG.iter().flat_map(|(name, row)| row.tags.iter().map(move |(tag, reference)| (name, tag, reference)));
    let names = tags.filter(|(_, _, reference)| is_it(reference)).map(|(name, tag, _)| format!("{name}:{tag}"));
    names.min_by_key(|name| (name.len(), name.clone()))
}

/// The names among `known` that `word` may have been meant for, likeliest first, three at most.
pub fn nearest<S: AsRef<str>>(word: &str, known: impl IntoIterator<Item = S>) -> Vec<String> {
    let word = word.to_lowercase();
    let likeness = |name: &str| {
        let name = name.to_lowercase();
        // Who leaves out the organisation or the tag has still written most of the name.
        let parts = [name.as_str(), name.rsplit('/').next().unwrap_or(&name), name.split(':').next().unwrap_or(&name)];
        let score = |part: &str| strsim::jaro_winkler(&word, part).max(strsim::normalized_damerau_levenshtein(&word, part));
        parts.into_iter().map(score).fold(0.0, f64::max)
    };
    let mut scored: Vec<_> =
        known.into_iter().map(|name| (likeness(name.as_ref()), name)).filter(|row| row.0 >= 0.82).collect();
    scored.sort_by(|a, b| b.0.total_cmp(&a.0).then_with(|| a.1.as_ref().len().cmp(&b.1.as_ref().len())));
    let mut names: Vec<String> = Vec::new();
    for (_, name) in scored {
        // `llama3.2` stands for its tags too.
        let name = name.as_ref();
        if names.len() < 3 && !names.iter().any(|kept| kept == name || name.split(':').next() == Some(kept)) {
            names.push(name.to_owned());
        }
    }
    names
}

/// The name and the tag, `latest` where there is none.
fn split(name: &str) -> (&str, &str) {
    match name.split_once(':') {
        Some((name, tag)) if !tag.is_empty() => (name, tag),
        Some((name, _)) => (name, "latest"),
        None => (name, "latest"),
    }
}

/// The Hub's spelling of a quantisation that Ollama's tags end in.
fn quantisation(tag: &str) -> Option<String> {
    let is_quant = tag.starts_with('q') || tag.starts_with("iq");
    match tag {
        "fp16" | "f16" => Some("F16".to_owned()),
        "bf16" => Some("BF16".to_owned()),
        "fp32" | "f32" => Some("F32".to_owned()),
        _ if is_quant && tag.contains('_') && tag.contains(|c: char| c.is_ascii_digit()) => Some(tag.to_uppercase()),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_row_of_the_table_is_sound() {
        let rows: BTreeMap<String, TomlRow> = toml::from_str(include_str!("../../models/catalog.toml")).expect("it parses");
        assert!(rows.len() > 20);
        for (name, row) in &rows {
            let is_plain = |text: &str| text.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || "-._".contains(c));
            assert!(is_plain(name) && !name.is_empty(), "{name}");
            assert!(row.tags.contains_key(&row.default), "{name}: the default tag {} is none", row.default);
            assert!(is_plain(&row.family) && !row.family.is_empty(), "{name}");
            for (tag, text) in &row.tags {
                assert!(is_plain(tag) && !tag.is_empty() && tag != "latest", "{name}:{tag}");
                let reference: HubRef = text.parse().unwrap_or_else(|e| panic!("{name}:{tag}: {e}"));
                assert_eq!(&reference.to_string(), text, "{name}:{tag}");
                let is_gguf = reference.repo.to_lowercase().ends_with("-gguf");
                assert_eq!(is_gguf, matches!(reference.pick, Pick::Quant(_)), "{name}:{tag}: {text}");
                assert_eq!(get(&format!("{name}:{tag}")).map(|entry| entry.reference), Some(reference));
            }
        }
    }

    #[test]
    fn names_are_found_in_any_case_with_and_without_a_tag() {
        let reference = |name: &str| get(name).map(|entry| entry.reference.to_string());
        let expected = Some("bartowski/Llama-3.2-3B-Instruct-GGUF:Q4_K_M".to_owned());
        for name in ["llama3.2", "Llama3.2", "llama3.2:latest", "llama3.2:3b", "LLAMA3.2:3B", "llama3.2:"] {
            assert_eq!(reference(name), expected, "{name}");
        }
        assert_eq!(get("llama3.2").map(|entry| entry.name).as_deref(), Some("llama3.2:3b"));
        assert_eq!(reference("gpt2:xl").as_deref(), Some("openai-community/gpt2-xl"));
        assert_eq!(reference("gpt2-xl"), reference("gpt2:xl"));
        for name in ["llama9", "llama3.2:9b", "", ":3b", "org/repo", "gpt2-"] {
            assert_eq!(reference(name), None, "{name}");
        }
        assert_eq!(tags("smollm2:9b"), Some(vec!["1.7b", "135m", "360m"]));
        assert_eq!(tags("llama9"), None);
    }

    #[test]
    fn a_tag_may_end_in_a_quantisation() {
        let reference = |name: &str| get(name).map(|entry| entry.reference.to_string());
        let repo = "bartowski/Llama-3.2-1B-Instruct-GGUF";
        assert_eq!(reference("llama3.2:1b-instruct-q8_0"), Some(format!("{repo}:Q8_0")));
        assert_eq!(reference("llama3.2:1b-q4_K_M"), Some(format!("{repo}:Q4_K_M")));
        assert_eq!(reference("llama3.2:1b-instruct-fp16"), Some(format!("{repo}:F16")));
        assert_eq!(reference("llama3.2:1b-instruct-fast"), None);
        assert_eq!(reference("gpt2:xl-q8_0"), None);
    }

    #[test]
    fn a_repository_is_called_by_its_shortest_name() {
        assert_eq!(name_of("bartowski/Llama-3.2-1B-Instruct-GGUF", Some("q4_k_m")).as_deref(), Some("llama3.2:1b"));
        assert_eq!(name_of("bartowski/Llama-3.2-1B-Instruct-GGUF", Some("Q8_0")), None);
        assert_eq!(name_of("openai-community/gpt2-xl", None).as_deref(), Some("gpt2:xl"));
    }

    #[test]
    fn misspelt_names_find_the_nearest() {
        assert_eq!(nearest("lama3.2", names())[0], "llama3.2");
        assert_eq!(nearest("smolm2", names()), ["smollm2"]);
        assert!(nearest("mistal:7b", names()).contains(&"mistral:7b".to_owned()));
        assert_eq!(nearest("Meta-Llama-4", ["meta/Meta-Llama-4", "x/y"]), ["meta/Meta-Llama-4"]);
        assert!(nearest("zzzzzz", names()).is_empty());
    }
}
