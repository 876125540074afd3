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
