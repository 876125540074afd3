//! Random overrides of tokenizers by `tokenizer_config.json`, `special_tokens_map.json` and `added_tokens.json`, against what
//! transformers' `AutoTokenizer` makes of texts: rows on which its versions 4 and 5 agree.
//!
//! `tests/golden/make_tokenizer_overrides.py` makes the rows; `TALLOW_OVERRIDES` names a longer file of them.

use serde_json::{Map, Value, json};
use std::path::Path;
use tallow::text::{Tokenizer, TokenizerFiles};

fn golden(name: &str) -> std::path::PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden").join(name)
}

fn file(base: &str, name: &str) -> Option<String> {
    std::fs::read_to_string(golden(base).join(name)).ok()
}

/// The tokenizer of a row: the files of its base with the row's changes.
fn tokenizer(row: &Value) -> tallow::Result<Tokenizer> {
    let base = row["base"].as_str().unwrap();
    let parsed = |name: &str| file(base, name).map(|text| serde_json::from_str::<Value>(&text).unwrap());
    let mut config: Map<String, Value> = parsed("tokenizer_config.json").and_then(|c| c.as_object().cloned()).unwrap();
    row["drop"].as_array().unwrap().iter().for_each(|key| drop(config.shift_remove(key.as_str().unwrap())));
    config.extend(row["set"].as_object().unwrap().clone());
    let config = Value::Object(config).to_string();
    let changed = |name: &str| match row["files"].get(name) {
        Some(Value::Null) => None,
        Some(value) => Some(value.to_string()),
        None => file(base, name),
    };
    let model = parsed("config.json").unwrap_or_default();
    let tokenizer = file(base, "tokenizer.json").unwrap();
    let (special_tokens_map, added_tokens) = (changed("special_tokens_map.json"), changed("added_tokens.json"));
    let files = TokenizerFiles {
        file: "tokenizer.json",
        tokenizer: tokenizer.as_bytes(),
        config: Some(&config),
        special_tokens_map: special_tokens_map.as_deref(),
        added_tokens: added_tokens.as_deref(),
        class: model["tokenizer_class"].as_str(),
        family: model["model_type"].as_str().unwrap_or_default(),
    };
    Tokenizer::from_files(&files).map(|made| made.0)
}

/// What differs in a row: text, expected, got.
fn differences(row: &Value) -> Vec<String> {
    let tokenizer = match tokenizer(row) {
        Ok(tokenizer) => tokenizer,
        Err(error) => return vec![format!("no tokenizer: {error}")],
    };
    let mut found = Vec::new();
    for case in row["rows"].as_array().unwrap() {
        let text = case[0].as_str().unwrap();
        match tokenizer.encode(text, true) {
            Ok(ids) if json!(ids) == case[1] => {
                if let Some(expected) = case.get(2)
                    && tokenizer.decode(&ids, false).ok().as_deref() != expected.as_str()
                {
                    found.push(format!("decoded {ids:?}: expected {expected}, got {:?}", tokenizer.decode(&ids, false)));
                }
            }
            Ok(ids) => found.push(format!("{text:?}: expected {}, got {ids:?}", case[1])),
            Err(error) => found.push(format!("{text:?}: {error}")),
        }
    }
    found
}

#[test]
fn random_overrides_make_the_tokens_that_transformers_makes() {
    let path = std::env::var_os("TALLOW_OVERRIDES").map_or_else(|| golden("tokenizer_overrides.json"), Into::into);
    let rows: Vec<Value> = serde_json::from_str(&std::fs::read_to_string(path).unwrap()).unwrap();
    assert!(rows.len() >= 200);
    let mut wrong = Vec::new();
    for row in &rows {
        let found = differences(row);
        if !found.is_empty() {
            wrong.push(format!("{} {} {} {}\n  {}", row["base"], row["set"], row["drop"], row["files"], found.join("\n  ")));
        }
    }
    let shown: Vec<&str> = wrong.iter().take(12).map(String::as_str).collect();
    assert!(wrong.is_empty(), "{} of {} rows differ\n{}", wrong.len(), rows.len(), shown.join("\n"));
}
