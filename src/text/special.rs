//! What a Hugging Face folder says about special tokens and chat templates, read from its small JSON files.

use crate::{Error, Result};
use serde_json::Value;

/// The special tokens' texts, under the names that chat templates know (`bos_token`, ...), and whether they are added.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct SpecialTokens {
    /// Begins a text.
    pub bos: Option<String>,
    /// Ends a text.
    pub eos: Option<String>,
    /// Stands for what the vocabulary can not spell.
    pub unknown: Option<String>,
    /// Fills up a batch.
    pub padding: Option<String>,
    /// Separates two texts.
    pub separator: Option<String>,
    /// Stands for a whole text.
    pub class: Option<String>,
    /// Stands for a hidden word.
    pub mask: Option<String>,
    /// `add_bos_token`. The rule that counts is in `tokenizer.json`; this is what the config claims.
    pub add_bos: Option<bool>,
    /// `add_eos_token`.
    pub add_eos: Option<bool>,
}

impl SpecialTokens {
    /// From the contents of `tokenizer_config.json` and `special_tokens_map.json`, of which the first counts more.
    pub fn from_json(tokenizer_config: Option<&str>, special_tokens_map: Option<&str>) -> Result<Self> {
        let config = tokenizer_config.map(|text| json(text, "tokenizer_config.json")).transpose()?.unwrap_or_default();
        let map = special_tokens_map.map(|text| json(text, "special_tokens_map.json")).transpose()?.unwrap_or_default();
        let text = |key: &str| token(&config[key]).or_else(|| token(&map[key]));
        Ok(SpecialTokens {
            bos: text("bos_token"),
            eos: text("eos_token"),
            unknown: text("unk_token"),
            padding: text("pad_token"),
            separator: text("sep_token"),
            class: text("cls_token"),
            mask: text("mask_token"),
            add_bos: config["add_bos_token"].as_bool(),
            add_eos: config["add_eos_token"].as_bool(),
        })
    }

    /// Names and texts of the tokens that exist.
    pub(super) fn variables(&self) -> impl Iterator<Item = (&'static str, &str)> {
        let all = [
            ("bos_token", &self.bos),
            ("eos_token", &self.eos),
            ("unk_token", &self.unknown),
            ("pad_token", &self.padding),
            ("sep_token", &self.separator),
            ("cls_token", &self.class),
            ("mask_token", &self.mask),
        ];
        all.into_iter().filter_map(|(name, text)| Some((name, text.as_deref()?)))
    }
}

/// A token is spelt as a string, or as an object with its settings.
fn token(value: &Value) -> Option<String> {
    value.as_str().or_else(|| value["content"].as_str()).map(str::to_owned)
}

/// The places where a chat template may be, as the contents of the files that exist.
#[derive(Debug, Clone, Copy, Default)]
pub struct TemplateFiles<'a> {
    /// `chat_template.jinja`.
    pub jinja: Option<&'a str>,
    /// `chat_template.json`.
    pub json: Option<&'a str>,
    /// `tokenizer_config.json`.
    pub tokenizer_config: Option<&'a str>,
    /// `tokenizer.chat_template` of a GGUF file.
    pub gguf: Option<&'a str>,
}

/// The chat template: the first that exists, in the order of the fields. Where a file has several by name, `default`.
pub fn template_source(files: &TemplateFiles<'_>) -> Result<Option<String>> {
    if let Some(source) = files.jinja {
        return Ok(Some(source.to_owned()));
    }
    for (text, file) in [(files.json, "chat_template.json"), (files.tokenizer_config, "tokenizer_config.json")] {
        if let Some(text) = text
            && let Some(source) = named(&json(text, file)?["chat_template"], file)?
        {
            return Ok(Some(source));
        }
    }
    Ok(files.gguf.map(str::to_owned))
}

fn named(value: &Value, file: &str) -> Result<Option<String>> {
    let Some(list) = value.as_array() else { return Ok(value.as_str().map(str::to_owned)) };
    let found = list.iter().find(|entry| entry["name"] == "default").and_then(|entry| entry["template"].as_str());
    if found.is_none() && !list.is_empty() {
        let names: Vec<_> = list.iter().filter_map(|entry| entry["name"].as_str()).collect();
        return Err(Error::Template(format!("{file} has templates named {}, but no `default`", names.join(", "))));
    }
    Ok(found.map(str::to_owned))
}

fn json(text: &str, file: &str) -> Result<Value> {
    crate::json::parse(text.as_bytes()).map_err(|e| Error::corrupt(file, e))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tokens_are_strings_or_objects_and_the_config_counts_more() {
        let config = r#"{"bos_token": {"content": "<s>", "lstrip": false}, "pad_token": null, "add_bos_token": true}"#;
        let map = r#"{"bos_token": "<no>", "eos_token": "</s>", "pad_token": {"content": "<pad>"}}"#;
        let tokens = SpecialTokens::from_json(Some(config), Some(map)).unwrap();
        assert_eq!(tokens.bos.as_deref(), Some("<s>"));
        assert_eq!(tokens.eos.as_deref(), Some("</s>"));
        assert_eq!(tokens.padding.as_deref(), Some("<pad>"));
        assert_eq!((tokens.unknown, tokens.add_bos), (None, Some(true)));
        let broken = SpecialTokens::from_json(Some("{"), None).unwrap_err().to_string();
        assert!(broken.starts_with("tokenizer_config.json: "), "{broken}");
    }

    #[test]
    fn the_first_place_that_has_a_template_counts() {
        let list = r#"{"chat_template": [{"name": "tool_use", "template": "T"}, {"name": "default", "template": "D"}]}"#;
        let mut files = TemplateFiles {
            jinja: Some("J"),
            json: Some(r#"{"chat_template": "C"}"#),
            tokenizer_config: Some(list),
            gguf: Some("G"),
        };
        assert_eq!(template_source(&files).unwrap().as_deref(), Some("J"));
        files.jinja = None;
        assert_eq!(template_source(&files).unwrap().as_deref(), Some("C"));
        files.json = None;
        assert_eq!(template_source(&files).unwrap().as_deref(), Some("D"));
        files.tokenizer_config = Some("{}");
        assert_eq!(template_source(&files).unwrap().as_deref(), Some("G"));
        files.tokenizer_config = Some(r#"{"chat_template": [{"name": "rag", "template": "R"}]}"#);
        assert!(template_source(&files).unwrap_err().to_string().contains("rag"));
        assert_eq!(template_source(&TemplateFiles::default()).unwrap(), None);
    }
}
