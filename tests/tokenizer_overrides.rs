//! Random overrides of tokenizers by `tokenizer_config.json`, `special_tokens_map.json` and
//! `added_tokens.json`, against what transformers' `AutoTokenizer` makes of texts: rows on which
//! its versions 4 and 5 agree.
//!
//! `tests/golden/make_tokenizer_overrides.py` makes the rows; `TALLOW_OVERRIDES` names a longer
//! file of them.

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

#[test]
fn a_value_of_the_wrong_kind_is_an_error_that_names_the_file_and_the_key() {
    for (name, text, expected) in [
        ("tokenizer_config.json", r#"{"added_tokens_decoder": [1]}"#, "key added_tokens_decoder is [1]"),
        (
            "tokenizer_config.json",
            r#"{"added_tokens_decoder": {"x": {"content": "a"}}}"#,
            "added_tokens_decoder: x is not a token id",
        ),
        ("tokenizer_config.json", r#"{"added_tokens_decoder": {"7": {"lstrip": true}}}"#, "added_tokens_decoder: 7"),
        ("tokenizer_config.json", r#"{"eos_token": 5}"#, "key eos_token is 5"),
        ("tokenizer_config.json", r#"{"additional_special_tokens": "<a>"}"#, "key additional_special_tokens"),
        ("tokenizer_config.json", r#"{"extra_special_tokens": [1]}"#, "key extra_special_tokens is 1"),
        ("tokenizer_config.json", r#"{"split_special_tokens": "yes"}"#, "key split_special_tokens"),
        ("tokenizer_config.json", r#"{"do_lower_case": 1}"#, "key do_lower_case is 1"),
        ("tokenizer_config.json", r#"{"truncation_side": "up"}"#, "key truncation_side"),
        ("tokenizer_config.json", "[]", "not a JSON object"),
        ("added_tokens.json", r#"{"a": -1}"#, "the id of \"a\""),
    ] {
        let tokenizer = file("bert-mean", "tokenizer.json").unwrap();
        let config = Some(text).filter(|_| name == "tokenizer_config.json");
        let added_tokens = Some(text).filter(|_| name == "added_tokens.json");
        let files = TokenizerFiles {
            file: "tokenizer.json",
            tokenizer: tokenizer.as_bytes(),
            config,
            added_tokens,
            family: "bert",
            ..TokenizerFiles::default()
        };
        let error = Tokenizer::from_files(&files).unwrap_err().to_string();
        assert!(error.starts_with(name) && error.contains(expected), "{text}: {error}");
    }
}

#[test]
fn a_run_of_a_million_spaces_becomes_the_tokens_of_its_parts() {
    for base in ["llama3-rope-scaling", "gpt2-hub", "qwen2", "starcoder2"] {
        let json = file(base, "tokenizer.json").unwrap();
        let tokenizer = Tokenizer::from_json(json.as_bytes(), "tokenizer.json").unwrap();
        // The last space belongs to the word.
        let (run, word) = (" ".repeat(1_099_999), " river");
        let parts = [tokenizer.encode(&run, false).unwrap(), tokenizer.encode(&format!("{word} a b c"), false).unwrap()];
        let whole = tokenizer.encode(&format!("{run}{word} a b c"), false).unwrap();
        assert!(whole == parts.concat(), "{base}: {} tokens, expected {}", whole.len(), parts.concat().len());
    }
}
