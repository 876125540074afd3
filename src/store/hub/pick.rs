//! Which files of a repository a model needs: a function of their names, so that it says the same of the Hub's list and of
//! a snapshot on the disk. What it names and the list lacks is an error; that is how an incomplete snapshot is known.
//!
//! The choice is `hf`'s and llama.cpp's: safetensors where `config.json` is beside them, of several GGUF files `Q4_K_M`,
//! else the first by name; never pickles, never a second set of the same weights.

use super::PlannedModel;
use super::kinds::{is_extra, is_gguf, is_pickle};
use super::unusable::unusable;
use crate::error::{Error, Result};
use crate::store::hub_ref::Pick;

const SINGLE: &str = "model.safetensors";
const INDEX: &str = "model.safetensors.index.json";
const TOKENIZER: &str = "tokenizer.json";
/// What the folder of a safetensors model may hold beside its weights. `sentence_*_config.json` comes as well: there are
/// seven names of it, one for each kind of encoder that sentence-transformers once told apart.
const COMPANIONS: [&str; 19] = [
    "config.json",
    "generation_config.json",
    TOKENIZER,
    "tokenizer_config.json",
    "special_tokens_map.json",
    "chat_template.jinja",
    "chat_template.json",
    "modules.json",
    "config_sentence_transformers.json",
    "router_config.json",
    "preprocessor_config.json",
    "processor_config.json",
    "video_preprocessor_config.json",
    "image_processor_config.json",
    "quantize_config.json",
    "quant_config.json",
    "hf_quant_config.json",
    CARD,
    INDEX,
];
/// Named chat templates, beside the one that `chat_template.jinja` is.
const TEMPLATES: &str = "additional_chat_templates";
/// Vocabularies of models without `tokenizer.json`.
const VOCABULARIES: [&str; 7] = [
    "tokenizer.model",
    "sentencepiece.bpe.model",
    "spiece.model",
    "vocab.json",
    "merges.txt",
    "vocab.txt",
    "added_tokens.json",
];
const CARD: &str = "README.md";
/// An index names some hundred shards; more is an attack on the disk.
const MOST_SHARDS: usize = 10_000;

/// The files of a model and what of them is loaded.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Choice {
    pub files: Vec<String>,
    pub weights: PlannedModel,
}

/// Chooses among `paths`. `model` names the repository in messages; `read` gives a small file's contents.
pub(super) fn choose(
    model: &str,
    paths: &[&str],
    pick: &Pick,
    read: &mut dyn FnMut(&str) -> Result<Vec<u8>>,
) -> Result<Choice> {
    let not_found = |what: &str, hint: String| Err(Error::NotFound { what: format!("{what} in {model}"), hint });
    let ggufs = ggufs(paths);
    let names = || format!("it has {}", some_of(if ggufs.is_empty() { paths } else { &ggufs }));
    match pick {
        Pick::File(file) if !paths.contains(&file.as_str()) => not_found(file, names()),
        Pick::File(file) if is_gguf(file) => gguf(model, paths, file),
        Pick::File(file) => folder(model, paths, vec![file.clone()]),
        Pick::Quant(quant) if !quant.eq_ignore_ascii_case("latest") => match with_quant(&ggufs, quant) {
            Some(file) => gguf(model, paths, file),
            None => not_found(&format!("quantisation {quant}"), has_quants(&ggufs).unwrap_or_else(names)),
        },
        Pick::Any | Pick::Quant(_) => {
            if paths.contains(&"config.json") && (paths.contains(&SINGLE) || paths.contains(&INDEX)) {
                let weights = if paths.contains(&SINGLE) { vec![SINGLE.to_owned()] } else { shards(model, &read(INDEX)?)? };
                folder(model, paths, weights)
            } else if let Some(file) = with_quant(&ggufs, "Q4_K_M").or(ggufs.first().copied()) {
                gguf(model, paths, file)
            } else if let Some(root) = transformer_folder(paths) {
                let weights = match paths.contains(&format!("{root}/{SINGLE}").as_str()) {
                    true => vec![SINGLE.to_owned()],
                    false => shards(model, &read(&format!("{root}/{INDEX}"))?)?,
                };
                folder(model, paths, weights.iter().map(|file| format!("{root}/{file}")).collect())
            } else if let Some((what, supported)) = unusable(paths) {
                Err(Error::unsupported(format!("{model}: {what}; this"), supported))
            } else if let Some(pickle) = paths.iter().find(|path| is_pickle(path)) {
                Err(Error::unsupported(
                    format!(
                        "{model}: its weights are Python pickles ({pickle}), which can run any code when they are read; this"
                    ),
                    "safetensors and GGUF; look for a revision or a repository with them (people publish conversions as \
                     NAME-GGUF), ask its authors, or convert it where you trust it with transformers' save_pretrained",
                ))
            } else {
                let hint = format!("expected config.json with model.safetensors, or a .gguf file; {}", names());
                not_found("no weights that tallow reads", hint)
            }
        }
    }
}

/// A GGUF file, all parts of it, and the model card.
fn gguf(model: &str, paths: &[&str], file: &str) -> Result<Choice> {
    let mut files = match split(file) {
        None => vec![file.to_owned()],
        Some((stem, count)) => (1..=count).map(|part| format!("{stem}-{part:05}-of-{count:05}.gguf")).collect(),
    };
    present(model, paths, &files)?;
    let weights = PlannedModel::Gguf(files[0].clone());
    files.extend(paths.iter().filter(|path| **path == CARD).map(|path| (*path).to_owned()));
    Ok(Choice { files, weights })
}

/// `config.json`, the tokenizer and what else stands beside these weights.
fn folder(model: &str, paths: &[&str], weights: Vec<String>) -> Result<Choice> {
    let root = weights.first().and_then(|file| file.rsplit_once('/')).map_or("", |(root, _)| root);
    let root = if is_module(root) { root } else { "" };
    let inside = |path: &str| {
        let rest = if root.is_empty() { Some(path) } else { path.strip_prefix(root).and_then(|rest| rest.strip_prefix('/')) };
        rest.filter(|rest| !rest.contains('/')).map(str::to_owned)
    };
    let beside: Vec<String> = paths.iter().filter_map(|path| inside(path)).collect();
    if !beside.iter().any(|name| name == TOKENIZER || VOCABULARIES.contains(&name.as_str())) {
        let hint = format!("a folder of safetensors needs it beside them; it has {}", some_of(paths));
        return Err(Error::NotFound { what: format!("{TOKENIZER} in {model}"), hint });
    }
    present(model, paths, &weights)?;
    let is_single = weights.iter().any(|file| file.rsplit('/').next() == Some(SINGLE));
    let companion = |name: &str| match name {
        INDEX => !is_single,
        name if VOCABULARIES.contains(&name) => !beside.iter().any(|name| name == TOKENIZER),
        name => COMPANIONS.contains(&name) || is_sentence_config(name) || name.starts_with("LICENSE"),
    };
    let wanted = |path: &str| match path.rsplit_once('/') {
        None => companion(path),
        Some((TEMPLATES, file)) => file.ends_with(".jinja"),
        Some((folder, file)) if folder == root => companion(file),
        Some((folder, file)) => is_module(folder) && is_of_module(folder, file, paths),
    };
    let mut files: Vec<String> = paths.iter().filter(|path| wanted(path)).map(|path| (*path).to_owned()).collect();
    files.extend(weights.into_iter().filter(|file| !files.contains(file)).collect::<Vec<_>>());
    Ok(Choice { files, weights: PlannedModel::Folder })
}

/// `sentence_bert_config.json`, `sentence_xlm-roberta_config.json` and their like.
fn is_sentence_config(name: &str) -> bool {
    name.strip_prefix("sentence_").is_some_and(|rest| rest.ends_with("_config.json"))
}

/// Whether a folder is a module of sentence-transformers: `1_Pooling`, `3_Normalize`, a router's `query_0_Transformer`.
fn is_module(folder: &str) -> bool {
    let mut parts = folder.split('_').peekable();
    let is_number = |part: &str| !part.is_empty() && part.bytes().all(|b| b.is_ascii_digit());
    let is_numbered = parts.by_ref().any(is_number);
    is_numbered && parts.peek().is_some_and(|name| name.starts_with(|c: char| c.is_ascii_alphabetic())) && !folder.contains('/')
}

/// Whether a module needs a file of its folder: settings, a tokenizer, and weights of the kind that is read.
fn is_of_module(folder: &str, file: &str, paths: &[&str]) -> bool {
    let has = |name: &str| paths.contains(&format!("{folder}/{name}").as_str());
    match file {
        INDEX => !has(SINGLE),
        name if VOCABULARIES.contains(&name) => !has(TOKENIZER),
        name if name.ends_with(".json") => true,
        name if has(SINGLE) => name == SINGLE,
        name => name.ends_with(".safetensors") && has(INDEX),
    }
}

/// The folder of a sentence-transformers model in which its encoder lies, where that is not the repository's own folder.
fn transformer_folder<'a>(paths: &[&'a str]) -> Option<&'a str> {
    let folders = paths.iter().filter_map(|path| path.strip_suffix("/config.json"));
    let has = |folder: &str, name: &str| paths.contains(&format!("{folder}/{name}").as_str());
    let mut found: Vec<&str> = folders
        .filter(|folder| folder.starts_with("0_") && is_module(folder) && (has(folder, SINGLE) || has(folder, INDEX)))
        .collect();
    found.sort_unstable();
    found.first().copied().filter(|_| paths.contains(&"modules.json"))
}

fn present(model: &str, paths: &[&str], files: &[String]) -> Result<()> {
    match files.iter().find(|file| !paths.contains(&file.as_str())) {
        None => Ok(()),
        Some(lacking) => {
            let hint = "the repository is incomplete: another file of it names this one".to_owned();
            Err(Error::NotFound { what: format!("{lacking} in {model}"), hint })
        }
    }
}

/// The shards that an index names, each once.
fn shards(model: &str, index: &[u8]) -> Result<Vec<String>> {
    let file = || format!("{model}: {INDEX}");
    let index = crate::json::parse(index).map_err(|e| Error::corrupt(file(), e))?;
    let map = index.get("weight_map").and_then(|map| map.as_object());
    let map = map.ok_or_else(|| Error::corrupt(file(), "has no \"weight_map\" of tensors to files"))?;
    let mut shards: Vec<String> = map.values().filter_map(|name| Some(name.as_str()?.to_owned())).collect();
    shards.sort();
    shards.dedup();
    match shards.len() {
        1..=MOST_SHARDS => Ok(shards),
        count => Err(Error::corrupt(file(), format!("names {count} files, expected 1 to {MOST_SHARDS}"))),
    }
}

/// GGUF files with a language model in them, by name; of a split one only the first part.
pub(crate) fn ggufs<'a>(paths: &[&'a str]) -> Vec<&'a str> {
    let later = |path: &str| split(path).is_some() && !path.contains("-00001-of-");
    let mut found: Vec<&str> = paths.iter().copied().filter(|path| is_gguf(path) && !is_extra(path) && !later(path)).collect();
    found.sort_unstable();
    found
}

/// `stem` and number of parts of `stem-00001-of-00003.gguf`.
pub(crate) fn split(path: &str) -> Option<(&str, u32)> {
    let (rest, count) = path.strip_suffix(".gguf")?.rsplit_once("-of-")?;
    let (stem, part) = rest.rsplit_once('-')?;
    let five = |text: &str| text.len() == 5 && text.bytes().all(|b| b.is_ascii_digit());
    let count = Some(count).filter(|count| five(count) && five(part))?.parse().ok()?;
    (count > 0).then_some((stem, count))
}

/// The GGUF file among `paths` that a quantisation means.
pub(crate) fn of_quant<'a>(paths: &[&'a str], quant: &str) -> Option<&'a str> {
    with_quant(&ggufs(paths), quant)
}

/// The file whose name or folder holds `quant` as a word; of several the one with the shortest name.
fn with_quant<'a>(ggufs: &[&'a str], quant: &str) -> Option<&'a str> {
    let quant = quant.to_ascii_lowercase();
    let holds = |path: &str| {
        let path = path.to_ascii_lowercase();
        path.match_indices(&quant).any(|(at, _)| {
            let before = path[..at].bytes().next_back();
            let after = path[at + quant.len()..].bytes().next();
            !before.is_some_and(|b| b.is_ascii_alphanumeric()) && !after.is_some_and(|b| b.is_ascii_alphanumeric() || b == b'_')
        })
    };
    ggufs.iter().copied().filter(|path| !quant.is_empty() && holds(path)).min_by_key(|path| path.len())
}

/// The quantisations that the files' names tell.
fn has_quants(ggufs: &[&str]) -> Option<String> {
    let mut quants: Vec<&str> = ggufs.iter().filter_map(|path| quant_of(path)).collect();
    quants.sort_unstable();
    quants.dedup();
    (!quants.is_empty()).then(|| format!("it has {}", quants.join(", ")))
}

/// `Q4_K_M` of `model-Q4_K_M.gguf`, `model.Q4_K_M-00001-of-00002.gguf` or `Q4_K_M/model.gguf`.
pub(crate) fn quant_of(path: &str) -> Option<&str> {
    let is_quant = |word: &&str| {
        let upper = word.to_ascii_uppercase();
        let digits = ["IQ", "TQ", "Q"].iter().find_map(|kind| upper.strip_prefix(kind));
        ["F32", "F16", "BF16"].contains(&upper.as_str())
            || upper.starts_with("MXFP4")
            || digits.is_some_and(|rest| rest.starts_with(|c: char| c.is_ascii_digit()) && rest.contains('_'))
    };
    path.rsplit(['-', '.', '/']).find(is_quant)
}

/// The first few of a list, in words.
fn some_of(paths: &[&str]) -> String {
    match paths.len() {
        0 => "no files".to_owned(),
        count @ 9.. => format!("{} and {} more", paths[..8].join(", "), count - 8),
        _ => paths.join(", "),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn chosen(paths: &[&str], pick: Pick) -> Result<Choice> {
        let index = br#"{"weight_map": {"a": "model-1.safetensors", "b": "model-2.safetensors", "c": "model-1.safetensors"}}"#;
        choose("org/repo", paths, &pick, &mut |_| Ok(index.to_vec()))
    }

    fn files(paths: &[&str], pick: Pick) -> Vec<String> {
        let mut files = chosen(paths, pick).unwrap().files;
        files.sort();
        files
    }

    fn error(paths: &[&str], pick: Pick) -> String {
        chosen(paths, pick).unwrap_err().to_string()
    }

    fn quant(name: &str) -> Pick {
        Pick::Quant(name.to_owned())
    }

    #[test]
    fn of_a_safetensors_repository_only_one_set_of_weights_and_the_small_files_are_wanted() {
        let rest = ["config.json", "tokenizer.json", "README.md", "LICENSE.txt", "chat_template.jinja", "model.safetensors"];
        let mut all = rest.to_vec();
        all.extend([
            "pytorch_model.bin",
            "vocab.json",
            "merges.txt",
            "tf_model.h5",
            "consolidated.safetensors",
            ".gitattributes",
        ]);
        all.extend(["onnx/model.onnx", "original/params.json", "adapter_model.safetensors", "model.safetensors.index.json"]);
        all.extend(["model-q4_k_m.gguf"]);
        let mut expected = rest.to_vec();
        expected.sort_unstable();
        assert_eq!(files(&all, Pick::Any), expected);
        assert_eq!(chosen(&all, Pick::Any).unwrap().weights, PlannedModel::Folder);
    }

    #[test]
    fn shards_are_those_that_the_index_names() {
        let all = ["config.json", "model.safetensors.index.json", "model-1.safetensors", "model-2.safetensors", "vocab.txt"];
        assert_eq!(files(&all, Pick::Any).len(), 5);
        assert!(error(&[&all[..3], &all[4..]].concat(), Pick::Any).contains("model-2.safetensors"));
        assert!(error(&all[..4], Pick::Any).contains("tokenizer.json"));
    }

    #[test]
    fn an_index_that_names_no_shards_is_corrupt() {
        for index in ["", "[]", r#"{"weight_map": {}}"#] {
            assert!(matches!(shards("org/repo", index.as_bytes()), Err(Error::Corrupt { .. })), "{index}");
        }
    }

    #[test]
    fn the_modules_of_sentence_transformers_are_wanted() {
        let modules = ["1_Pooling/config.json", "2_Dense/config.json", "2_Dense/model.safetensors", "modules.json"];
        let mut all = vec!["config.json", "model.safetensors", "tokenizer.json", "2_Dense/pytorch_model.bin"];
        all.extend(modules);
        let files = files(&all, Pick::Any);
        assert!(modules.iter().all(|module| files.iter().any(|file| file == module)));
        assert!(!files.iter().any(|file| file.ends_with(".bin")));
    }

    #[test]
    fn settings_of_every_kind_come_and_other_programs_files_do_not() {
        let base = ["config.json", "model.safetensors", "tokenizer.json"];
        let wanted = [
            "sentence_bert_config.json",
            "sentence_roberta_config.json",
            "sentence_distilbert_config.json",
            "sentence_camembert_config.json",
            "sentence_albert_config.json",
            "sentence_xlm-roberta_config.json",
            "sentence_xlnet_config.json",
            "router_config.json",
            "preprocessor_config.json",
            "processor_config.json",
            "quantize_config.json",
            "additional_chat_templates/tool_use.jinja",
            "3_Normalize/config.json",
            "query_0_Transformer/config.json",
            "query_0_Transformer/model.safetensors",
            "query_0_Transformer/tokenizer.json",
            "document_0_WordEmbeddings/whitespacetokenizer_config.json",
            "2_Dense/model.safetensors",
        ];
        let others = [
            "additional_chat_templates/notes.txt",
            "query_0_Transformer/vocab.txt",
            "query_0_Transformer/pytorch_model.bin",
            "2_Dense/model.onnx",
            "2_Dense/pytorch_model.bin",
            "checkpoint-10/config.json",
            "v1_0/config.json",
            "1_Pooling/deeper/config.json",
            "onnx/config.json",
            "sentence_notes.json",
            "trainer_state.json",
            "vocab.txt",
        ];
        let found = files(&[&base[..], &wanted, &others].concat(), Pick::Any);
        for path in base.iter().chain(&wanted) {
            assert!(found.iter().any(|file| file == path), "{path} comes: {found:?}");
        }
        assert_eq!(found.len(), base.len() + wanted.len(), "{found:?}");
    }

    #[test]
    fn an_encoder_in_a_folder_of_its_own_comes_with_its_tokenizer() {
        let all = [
            "modules.json",
            "config_sentence_transformers.json",
            "README.md",
            "0_Transformer/config.json",
            "0_Transformer/model.safetensors",
            "0_Transformer/pytorch_model.bin",
            "0_Transformer/sentence_bert_config.json",
            "0_Transformer/tokenizer.json",
            "0_Transformer/vocab.txt",
            "1_Pooling/config.json",
        ];
        let mut expected = all.to_vec();
        expected.retain(|path| !path.ends_with(".bin") && !path.ends_with("vocab.txt"));
        expected.sort_unstable();
        assert_eq!(files(&all, Pick::Any), expected);
        let sharded = [
            "0_Transformer/model.safetensors.index.json",
            "0_Transformer/model-1.safetensors",
            "0_Transformer/model-2.safetensors",
        ];
        let names = [&["modules.json", "0_Transformer/config.json", "0_Transformer/vocab.txt"][..], &sharded].concat();
        assert_eq!(files(&names, Pick::Any).len(), 6);
        assert!(error(&all[..5], Pick::Any).contains("tokenizer.json"));
        assert!(chosen(&all[1..], Pick::Any).is_err(), "without modules.json nobody says what the folder is");
    }

    #[test]
    fn of_several_gguf_files_q4_k_m_is_taken_else_the_first() {
        let all = ["m-Q8_0.gguf", "mmproj-F16.gguf", "m-Q4_K_M.gguf", "a-imatrix.gguf", "README.md", "x.txt"];
        assert_eq!(files(&all, Pick::Any), ["README.md", "m-Q4_K_M.gguf"]);
        assert_eq!(files(&all, quant("latest")), ["README.md", "m-Q4_K_M.gguf"]);
        assert_eq!(files(&["m-Q8_0.gguf", "m-F16.gguf", "mmproj-A.gguf"], Pick::Any), ["m-F16.gguf"]);
    }

    #[test]
    fn a_quantisation_is_a_word_of_the_name_in_any_case() {
        let all = ["m.IQ4_XS.gguf", "m-Q4_K_M.gguf", "UD/m-UD-q4_k_xl.gguf", "Q8_0/m.gguf", "m_q4_0.gguf", "m-Q4_0_4_4.gguf"];
        for (name, file) in [
            ("q4_k_m", "m-Q4_K_M.gguf"),
            ("Q4_K_XL", "UD/m-UD-q4_k_xl.gguf"),
            ("q8_0", "Q8_0/m.gguf"),
            ("Q4_0", "m_q4_0.gguf"),
            ("iq4_xs", "m.IQ4_XS.gguf"),
        ] {
            assert_eq!(files(&all, quant(name)), [file], "{name}");
        }
        for name in ["Q4_K", "Q4_XS", "Q5_K_M", "8_0"] {
            assert!(chosen(&all, quant(name)).is_err(), "{name}");
        }
        let error = error(&all, quant("Q5_K_M"));
        assert!(error.contains("Q4_K_M") && error.contains("IQ4_XS") && error.contains("Q8_0"), "{error}");
    }

    #[test]
    fn all_parts_of_a_split_gguf_are_wanted_and_a_missing_one_is_named() {
        let all = ["q/m-Q8_0-00001-of-00003.gguf", "q/m-Q8_0-00002-of-00003.gguf", "q/m-Q8_0-00003-of-00003.gguf"];
        for pick in [Pick::Any, quant("Q8_0"), Pick::File(all[1].to_owned())] {
            let choice = chosen(&all, pick).unwrap();
            assert_eq!(
                (choice.files, choice.weights),
                (all.map(str::to_owned).to_vec(), PlannedModel::Gguf(all[0].to_owned()))
            );
        }
        assert!(error(&all[..2], quant("q8_0")).contains("00003-of-00003"));
    }

    #[test]
    fn pickles_are_refused_with_the_reason_and_nothing_usable_names_what_is_there() {
        let pickles = error(&["config.json", "pytorch_model.bin"], Pick::Any);
        assert!(pickles.contains("run any code") && pickles.contains("pytorch_model.bin"), "{pickles}");
        assert!(error(&["notes.txt"], Pick::Any).contains("notes.txt"));
        assert!(error(&["m-Q8_0.gguf"], Pick::File("n.gguf".into())).contains("m-Q8_0.gguf"));
        assert!(error(&[], Pick::Any).contains("no files"));
    }
}
