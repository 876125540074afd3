//! What sentence-transformers' own file says about tokenising: where texts are cut, and whether
//! capitals count.
//!
//! `sentence_bert_config.json` holds the arguments of the module around the transformer: until
//! version 5 a length and whether to lower-case, since then what its tokenizer is made with and
//! called with. What of that changes tokens is followed or refused by its name.

use super::EmbedSpec;
use crate::checkpoint::folder::json;
use crate::error::{Error, Result};
use crate::files::NamedFiles;
use serde_json::Value as Json;

/// Older models name the file after their family.
const LENGTHS: [&str; 7] = [
    "sentence_bert_config.json",
    "sentence_roberta_config.json",
    "sentence_distilbert_config.json",
    "sentence_camembert_config.json",
    "sentence_albert_config.json",
    "sentence_xlm-roberta_config.json",
    "sentence_xlnet_config.json",
];

/// Where texts are cut, and what else sentence-transformers' own file says about tokenising: that
/// file, else the tokenizer's.
pub(super) fn read(spec: &mut EmbedSpec, root: &NamedFiles) -> Result<()> {
    let files = &root.transformer();
    let mut found = None;
    for name in LENGTHS {
        // An empty one counts as none.
        if let Some(Json::Object(config)) = json(files, name)?
            && !config.is_empty()
        {
            found = Some((files.label(name), Json::Object(config)));
            break;
        }
    }
    if let Some((file, config)) = &found {
        spec.lower_case = config["do_lower_case"].as_bool().unwrap_or(false);
        spec.max_tokens = tokens(&config["max_seq_length"]);
        module_settings(spec, file, config)?;
    }
    if spec.max_tokens.is_none()
        && let Some(config) = json(files, "tokenizer_config.json")?
    {
        spec.max_tokens = tokens(&config["model_max_length"]).or_else(|| tokens(&config["max_len"]));
    }
    Ok(())
}

/// A number of tokens. Tokenizers without a limit state 1e30.
fn tokens(value: &Json) -> Option<usize> {
    value.as_f64().filter(|n| *n >= 1.0 && *n < 1e9).map(|n| n as usize)
}

/// What the transformer's module of sentence-transformers 5 and 6 is made and called with.
fn module_settings(spec: &mut EmbedSpec, file: &str, config: &Json) -> Result<()> {
    let refused = |key: &str, value: &Json| Err(Error::unsupported(format!("{file}: {key} {value}"), "models without it"));
    for key in ["processor_kwargs", "tokenizer_args"] {
        for (name, value) in config[key].as_object().into_iter().flatten() {
            match name.as_str() {
                "model_max_length" => spec.max_tokens = tokens(value).or(spec.max_tokens),
                name if HARMLESS.contains(&name) || value.is_null() => {}
                name => return refused(&format!("{key}.{name}"), value),
            }
        }
    }
    // What holds for every kind of input comes after what holds for texts.
    for kind in ["text", "common"] {
        for (name, value) in config["processing_kwargs"][kind].as_object().into_iter().flatten() {
            match (name.as_str(), value) {
                ("max_length", value) => spec.max_tokens = tokens(value).or(spec.max_tokens),
                ("truncation", Json::Bool(false)) => spec.max_tokens = None,
                ("truncation", Json::Bool(true) | Json::String(_)) => {}
                (name, _) if HARMLESS.contains(&name) || value.is_null() => {}
                (name, value) => return refused(&format!("processing_kwargs.{kind}.{name}"), value),
            }
        }
    }
    for (name, key) in [("query", "query_length"), ("document", "document_length")] {
        spec.prompt_tokens.extend(tokens(&config[key]).map(|limit| (name, limit)));
    }
    if let Some(task) = config["transformer_task"].as_str().filter(|task| !matches!(*task, "feature-extraction" | "fill-mask"))
    {
        return Err(Error::unsupported(format!("{file}: transformer_task {task:?}"), "feature-extraction"));
    }
    if !config["query_expansion"].is_null() {
        return refused("query_expansion", &config["query_expansion"]);
    }
    match config["modality_config"].as_object() {
        Some(kinds) if !kinds.contains_key("text") => refused("modality_config", &config["modality_config"]),
        Some(_) | None => Ok(()),
    }
}

/// Arguments of tokenizers that change no token: they are about padding, files and the form of what
/// comes back.
const HARMLESS: [&str; 16] = [
    "cache_dir",
    "fix_mistral_regex",
    "local_files_only",
    "pad_to_multiple_of",
    "padding",
    "padding_side",
    "return_attention_mask",
    "return_length",
    "return_offsets_mapping",
    "return_special_tokens_mask",
    "return_tensors",
    "return_token_type_ids",
    "revision",
    "token",
    "trust_remote_code",
    "use_fast",
];
