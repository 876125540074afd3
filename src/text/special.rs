//! What a Hugging Face folder says about special tokens and chat templates, read from its small JSON files.

use crate::{Error, Result};
use serde_json::Value;

/// Control tokens that end a turn.
pub(super) const TURN_ENDS: &[&str] = &[
    "<|eot_id|>",
    "<|im_end|>",
    "<|end|>",
    "<|return|>",
    "<|call|>",
    "<|flush|>",
    "<|calls|>",
    "<end_of_turn>",
    "<|endoftext|>",
    "<|end_of_text|>",
    "<|eom_id|>",
    "</s>",
    "<eos>",
    "<EOT>",
    "_<EOT>",
    "[EOT]",
    "[EOS]",
    "<end_of_utterance>",
    "<turn|>",
    "<|tool_response>",
    "<｜end▁of▁sentence｜>",
    "[e~[",
];

/// Whether a token with this text ends a turn by convention.
pub(super) fn ends_a_turn(piece: &str) -> bool {
    TURN_ENDS.contains(&piece)
}

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
    /// Tokens that `tokenizer_config.json` names otherwise (`image_token`, ...): names and texts.
    pub named: Vec<(String, String)>,
    /// `add_bos_token`. The rule that counts is in `tokenizer.json`; this is what the config claims.
    pub add_bos: Option<bool>,
    /// `add_eos_token`.
    pub add_eos: Option<bool>,
}

impl SpecialTokens {
    /// Names and texts of the tokens that exist.
    pub(super) fn variables(&self) -> impl Iterator<Item = (&str, &str)> {
        let roles = [
            ("bos_token", &self.bos),
            ("eos_token", &self.eos),
            ("unk_token", &self.unknown),
            ("pad_token", &self.padding),
            ("sep_token", &self.separator),
            ("cls_token", &self.class),
            ("mask_token", &self.mask),
        ];
        let roles = roles.into_iter().filter_map(|(name, text)| Some((name, text.as_deref()?)));
        roles.chain(self.named.iter().map(|(name, text)| (name.as_str(), text.as_str())))
    }
}

/// The places where a chat template may be, as the contents of the files that exist.
#[derive(Debug, Clone, Copy, Default)]
pub struct TemplateFiles<'a> {
    /// `chat_template.jinja`.
    pub jinja: Option<&'a str>,
    /// `additional_chat_templates/NAME.jinja`: names and contents.
    pub additional: &'a [(String, String)],
    /// `tokenizer_config.json`.
    pub tokenizer_config: Option<&'a str>,
    /// `chat_template.json`, which is a processor's.
    pub json: Option<&'a str>,
    /// `tokenizer.chat_template` of a GGUF file.
    pub gguf: Option<&'a str>,
}

/// The chat template: the first that exists, in the order of the fields, as transformers has it. Where there are several by
/// name, `default`; files of a folder hide what `tokenizer_config.json` has even where none of them is the default.
pub fn template_source(files: &TemplateFiles<'_>) -> Result<Option<String>> {
    let default = files.additional.iter().find(|(name, _)| name == "default").map(|(_, text)| text.as_str());
    if let Some(source) = default.or(files.jinja) {
        return Ok(Some(source.to_owned()));
    }
    if !files.additional.is_empty() {
        let names: Vec<_> = files.additional.iter().map(|(name, _)| name.as_str()).collect();
        return Err(no_default("additional_chat_templates", &names));
    }
    for (text, file) in [(files.tokenizer_config, "tokenizer_config.json"), (files.json, "chat_template.json")] {
        if let Some(text) = text
            && let Some(source) = named(&json(text, file)?["chat_template"], file)?
        {
            return Ok(Some(source));
        }
    }
    Ok(files.gguf.filter(|source| !source.trim().is_empty()).map(str::to_owned))
}

/// One template, a list of named ones, or an object of them.
fn named(value: &Value, file: &str) -> Result<Option<String>> {
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let all: Vec<(String, String)> = match value {
        Value::Array(list) => list.iter().map(|entry| (text(&entry["name"]), text(&entry["template"]))).collect(),
        Value::Object(map) => map.iter().map(|(name, template)| (name.clone(), text(template))).collect(),
        other => return Ok(other.as_str().map(str::to_owned)),
    };
    // Of two with one name the last counts.
    match all.iter().rev().find(|(name, _)| name == "default") {
        Some((_, source)) => Ok(Some(source.clone())),
        None => Err(no_default(file, &all.iter().map(|(name, _)| name.as_str()).collect::<Vec<_>>())),
    }
}

fn no_default(file: &str, names: &[&str]) -> Error {
    let names = if names.is_empty() { "none".to_owned() } else { names.join(", ") };
    Error::Template(format!("{file} has several templates by name ({names}), but no `default`"))
}

fn json(text: &str, file: &str) -> Result<Value> {
    crate::json::parse(text.as_bytes()).map_err(|e| Error::corrupt(file, e))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_place_that_has_a_template_counts() {
        let additional = [("default".to_owned(), "A".to_owned()), ("rag".to_owned(), "B".to_owned())];
        let list = r#"{"chat_template": [{"name": "tool_use", "template": "T"}, {"name": "default", "template": "D"}]}"#;
        let mut files = TemplateFiles {
            jinja: Some("J"),
            additional: &additional,
            json: Some(r#"{"chat_template": "C"}"#),
            tokenizer_config: Some(list),
            gguf: Some("G"),
        };
        assert_eq!(template_source(&files).unwrap().as_deref(), Some("A"));
        files.additional = &additional[1..];
        assert_eq!(template_source(&files).unwrap().as_deref(), Some("J"));
        files.jinja = None;
        let why = template_source(&files).unwrap_err().to_string();
        assert!(why.contains("additional_chat_templates") && why.contains("rag"), "{why}");
        files.additional = &[];
        assert_eq!(template_source(&files).unwrap().as_deref(), Some("D"));
        files.tokenizer_config = Some("{}");
        assert_eq!(template_source(&files).unwrap().as_deref(), Some("C"));
        files.json = None;
        assert_eq!(template_source(&files).unwrap().as_deref(), Some("G"));
        assert_eq!(template_source(&TemplateFiles::default()).unwrap(), None);
    }

    #[test]
    fn templates_by_name_need_a_default_and_an_empty_one_of_a_gguf_is_none() {
        let source =
            |config: &str| template_source(&TemplateFiles { tokenizer_config: Some(config), ..TemplateFiles::default() });
        let object = r#"{"chat_template": {"tool_use": "T", "default": "D"}}"#;
        assert_eq!(source(object).unwrap().as_deref(), Some("D"));
        let without = r#"{"chat_template": [{"name": "rag", "template": "R"}]}"#;
        assert!(source(without).unwrap_err().to_string().contains("(rag), but no `default`"));
        assert!(source(r#"{"chat_template": []}"#).is_err());
        assert_eq!(source(r#"{"chat_template": null}"#).unwrap(), None);
        assert_eq!(template_source(&TemplateFiles { gguf: Some(""), ..TemplateFiles::default() }).unwrap(), None);
    }
}
