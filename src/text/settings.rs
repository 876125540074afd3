//! What the small files beside a `tokenizer.json` change about it, as transformers reads them.
//!
//! `tokenizer_config.json` overrides `tokenizer.json`: it adds tokens and changes how they match,
//! names the tokens with a role, and sets how text is normalised. Which keys count depends on the
//! tokenizer's class. With `added_tokens_decoder` in it, that list is the whole truth about added
//! tokens and `special_tokens_map.json` and `added_tokens.json` are not read; without it, those two
//! override it. Every key is honoured, is on the list of harmless ones, or is named in an error or
//! a warning.
//!
//! Where versions 4 and 5 of transformers differ, `tokenizer.json` is followed. Most of all,
//! version 5 rebuilds the whole pipeline of some classes from their code, and both leave
//! `add_bos_token` to the post-processor of `tokenizer.json` (version 4 not for Llama's and Gemma's
//! classes). Source: `tokenization_utils_base.py`, `tokenization_utils_tokenizers.py`
//! (`_from_pretrained`, `__init__`) of 5.24 and their counterparts of 4.57.

use super::class::Class;
use super::special::SpecialTokens;
use crate::{Error, Result};
use serde_json::{Map, Value};
use std::collections::BTreeMap;

/// The files of a folder that say how its text is made tokens.
#[derive(Debug, Clone, Copy, Default)]
pub struct TokenizerFiles<'a> {
    /// The path of `tokenizer.json`, for messages.
    pub file: &'a str,
    /// `tokenizer.json`.
    pub tokenizer: &'a [u8],
    /// `tokenizer_config.json`.
    pub config: Option<&'a str>,
    /// `special_tokens_map.json`.
    pub special_tokens_map: Option<&'a str>,
    /// `added_tokens.json`.
    pub added_tokens: Option<&'a str>,
    /// `tokenizer_class` of `config.json`.
    pub class: Option<&'a str>,
    /// `model_type` of `config.json`.
    pub family: &'a str,
}

/// A token that is matched in the text before anything is split.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Added {
    pub content: String,
    pub lstrip: bool,
    pub rstrip: bool,
    pub single_word: bool,
    pub normalized: bool,
    pub special: bool,
}

/// How BERT's normaliser is set.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Cleaning {
    pub lowercase: bool,
    pub strip_accents: Option<bool>,
    pub chinese: bool,
}

/// What the files change.
#[derive(Debug, Clone, Default, PartialEq)]
pub(super) struct Settings {
    pub class: Class,
    /// The tokens with a role and those that are named.
    pub tokens: SpecialTokens,
    /// Tokens as the files want them, whether `tokenizer.json` has them or not, in the order in
    /// which they get new ids.
    pub added: Vec<Added>,
    /// Special tokens to add where no added token has their text.
    pub special: Vec<Added>,
    /// Special tokens in a text are plain text.
    pub split_special: bool,
    /// For classes that set it.
    pub cleaning: Option<Cleaning>,
    /// Whether the first word gets a space before it; `None`: as `tokenizer.json` has it.
    pub prefix_space: Option<bool>,
    /// Whether decoded text loses the spaces before punctuation.
    pub clean_up: bool,
    /// The same for BPE, whose spaces are the text's own.
    pub clean_up_bpe: bool,
    /// Whether the beginning of a text that is too long is cut, not its end.
    pub truncate_left: bool,
}

/// Keys that change nothing about how a text is tokenised here: they are about files, padding,
/// warnings, other parts of a model, or repeat what `tokenizer.json` says and transformers does not
/// read them for a tokenizer that has one.
const HARMLESS: &[&str] = &[
    "add_bos_token",
    "add_eos_token",
    "added_tokens_decoder",
    "audio_bos_token",
    "audio_eos_token",
    "auto_map",
    "backend",
    "bos_token_id",
    "chat_template",
    "cls_token_id",
    "device_map",
    "do_basic_tokenize",
    "encode_special_tokens",
    "eos_token_id",
    "errors",
    "file",
    "from_slow",
    "full_tokenizer_file",
    "image_seq_length",
    "image_token_id",
    "is_local",
    "legacy",
    "local_files_only",
    "mask_token_id",
    "max_len",
    "max_length",
    "max_pixels",
    "merges_file",
    "min_pixels",
    "model_id",
    "model_input_names",
    "model_max_length",
    "model_specific_special_tokens",
    "model_type",
    "name_or_path",
    "never_split",
    "num_additional_image_tokens",
    "pad_to_multiple_of",
    "pad_token_id",
    "pad_token_type_id",
    "padding",
    "padding_side",
    "patch_size",
    "processor_class",
    "return_token_type_ids",
    "response_schema",
    "response_template",
    "sep_token_id",
    "sp_model_kwargs",
    "special_tokens_map_file",
    "spaces_between_special_tokens",
    "stride",
    "token",
    "tokenizer_class",
    "tokenizer_file",
    "transformers_version",
    "trim_offsets",
    "truncation",
    "truncation_strategy",
    "trust_remote_code",
    "unk_token_id",
    "use_default_system_prompt",
    "use_fast",
    "vocab_file",
    "vocab_size",
];

/// Keys that [`Settings::read`] honours.
const HONOURED: &[&str] = &[
    "add_prefix_space",
    "additional_special_tokens",
    "clean_up_tokenization_spaces",
    CLEAN_UP_BPE,
    "do_lower_case",
    "extra_special_tokens",
    "split_special_tokens",
    "strip_accents",
    "tokenize_chinese_chars",
    "truncation_side",
];

/// The names of tokens with a role, in the order in which new ones get their ids.
pub(super) const ROLES: [&str; 7] =
    ["bos_token", "eos_token", "unk_token", "sep_token", "pad_token", "cls_token", "mask_token"];

const CLEAN_UP_BPE: &str = "clean_up_tokenization_spaces_for_bpe_even_though_it_will_corrupt_output";
const CONFIG: &str = "tokenizer_config.json";
const MAP: &str = "special_tokens_map.json";
const ADDED: &str = "added_tokens.json";

impl Settings {
    /// From the files; `byte_level` is whether `tokenizer.json` spells bytes in GPT-2's alphabet.
    pub(super) fn read(files: &TokenizerFiles<'_>, byte_level: bool) -> Result<Settings> {
        let mut config = object(files.config, CONFIG)?;
        let class = Class::of(config.get("tokenizer_class").and_then(Value::as_str).or(files.class), files.family, byte_level);
        let mut added = BTreeMap::new();
        match config.get("added_tokens_decoder").filter(|list| !list.is_null()) {
            Some(Value::Object(list)) => {
                for (id, token) in list {
                    let key = format!("key added_tokens_decoder: {id}");
                    let number = id.parse::<u32>().map_err(|_| Error::corrupt(CONFIG, format!("{key} is not a token id")))?;
                    added.insert(number, Token::read(token).ok_or_else(|| wrong(CONFIG, &key, token))?.added());
                }
            }
            Some(other) => return Err(wrong(CONFIG, "key added_tokens_decoder", other)),
            None => {
                override_with(&mut config, object(files.special_tokens_map, MAP)?);
                let special = Named::read(&config, class)?.texts();
                for (text, id) in object(files.added_tokens, ADDED)? {
                    let id = id.as_u64().and_then(|id| u32::try_from(id).ok());
                    let id = id.ok_or_else(|| Error::corrupt(ADDED, format!("the id of {text:?} is not a token id")))?;
                    let special = special.contains(&text);
                    added.insert(id, Token { text, special, ..Token::default() }.added());
                }
            }
        }
        report_unknown(&config);
        Settings::new(&config, class, added.into_values().collect())
    }

    fn new(config: &Map<String, Value>, class: Class, mut added: Vec<Added>) -> Result<Settings> {
        let named = Named::read(config, class)?;
        let texts = named.texts();
        for token in &mut added {
            token.special |= texts.contains(&token.content);
        }
        let flag = |key: &str| match config.get(key) {
            None | Some(Value::Null) => Ok(None),
            Some(Value::Bool(flag)) => Ok(Some(*flag)),
            Some(other) => Err(Error::corrupt(CONFIG, format!("key {key} is {other}, expected true or false"))),
        };
        let cleaning = match class.lowercases() {
            false => None,
            true => Some(Cleaning {
                lowercase: flag("do_lower_case")?.unwrap_or(true),
                strip_accents: flag("strip_accents")?,
                chinese: flag("tokenize_chinese_chars")?.unwrap_or(true),
            }),
        };
        let stated = config.contains_key("add_prefix_space");
        let prefix_space = flag("add_prefix_space")?.or_else(|| class.prefix_space().filter(|_| !stated));
        let truncate_left = match config.get("truncation_side").and_then(Value::as_str) {
            None | Some("right") => false,
            Some("left") => true,
            Some(other) => {
                return Err(Error::corrupt(CONFIG, format!("key truncation_side is {other:?}, expected left or right")));
            }
        };
        let clean_up = flag("clean_up_tokenization_spaces")?.unwrap_or(false);
        Ok(Settings {
            tokens: named.tokens(config),
            special: named.special(),
            added,
            split_special: flag("split_special_tokens")?.unwrap_or(false),
            cleaning,
            prefix_space,
            clean_up,
            clean_up_bpe: clean_up && flag(CLEAN_UP_BPE)?.unwrap_or(false),
            class,
            truncate_left,
        })
    }
}

/// A token as a file spells it: its text alone, or an object with its settings.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
struct Token {
    text: String,
    lstrip: bool,
    rstrip: bool,
    single_word: bool,
    normalized: Option<bool>,
    special: bool,
}

impl Token {
    fn read(value: &Value) -> Option<Token> {
        if let Some(text) = value.as_str() {
            return Some(Token { text: text.to_owned(), ..Token::default() });
        }
        let flag = |key: &str| value.get(key).and_then(Value::as_bool);
        Some(Token {
            text: value.get("content")?.as_str()?.to_owned(),
            lstrip: flag("lstrip").unwrap_or(false),
            rstrip: flag("rstrip").unwrap_or(false),
            single_word: flag("single_word").unwrap_or(false),
            normalized: flag("normalized"),
            special: flag("special").unwrap_or(false),
        })
    }

    /// Special tokens are matched in the text as it is, others behind the normaliser, unless they
    /// say so themselves.
    fn added(self) -> Added {
        let Token { text, lstrip, rstrip, single_word, normalized, special } = self;
        Added { content: text, lstrip, rstrip, single_word, normalized: normalized.unwrap_or(!special), special }
    }
}

/// Special tokens by name, then those without one.
struct Named {
    named: Vec<(String, Token)>,
    extra: Vec<Token>,
}

impl Named {
    fn read(config: &Map<String, Value>, class: Class) -> Result<Named> {
        let mut named = Vec::new();
        for role in ROLES {
            match config.get(role) {
                None => {
                    let text = class.token(role).map(str::to_owned);
                    named.extend(text.map(|text| (role.to_owned(), Token { text, ..Token::default() })));
                }
                Some(Value::Null) => {}
                Some(value) => {
                    let token = Token::read(value).ok_or_else(|| wrong(CONFIG, &format!("key {role}"), value))?;
                    named.push((role.to_owned(), token));
                }
            }
        }
        let is_other = |key: &str| key.ends_with("_token") && !ROLES.contains(&key);
        let others = config.iter().filter(|(key, _)| is_other(key));
        named.extend(others.filter_map(|(key, value)| Some((key.clone(), Token::read(value)?))));
        let mut extra = Vec::new();
        for key in ["model_specific_special_tokens", "extra_special_tokens", "additional_special_tokens"] {
            let token = |value| Token::read(value).ok_or_else(|| wrong(CONFIG, &format!("key {key}"), value));
            match config.get(key) {
                None | Some(Value::Null) => {}
                Some(Value::Object(map)) => {
                    for (name, value) in map {
                        named.push((name.clone(), token(value)?));
                    }
                }
                // The newer name of the list counts.
                Some(Value::Array(_)) if !extra.is_empty() => {}
                Some(Value::Array(list)) => extra = list.iter().map(token).collect::<Result<_>>()?,
                Some(other) => return Err(wrong(CONFIG, &format!("key {key}"), other)),
            }
        }
        Ok(Named { named, extra })
    }

    fn all(&self) -> impl Iterator<Item = &Token> {
        self.named.iter().map(|(_, token)| token).chain(&self.extra)
    }

    fn texts(&self) -> Vec<String> {
        self.all().map(|token| token.text.clone()).collect()
    }

    fn special(&self) -> Vec<Added> {
        self.all().map(|token| Token { special: true, ..token.clone() }.added()).collect()
    }

    fn tokens(&self, config: &Map<String, Value>) -> SpecialTokens {
        let text = |role: &str| self.named.iter().find(|(name, _)| name == role).map(|(_, token)| token.text.clone());
        let others = self.named.iter().filter(|(name, _)| !ROLES.contains(&name.as_str()));
        SpecialTokens {
            bos: text("bos_token"),
            eos: text("eos_token"),
            unknown: text("unk_token"),
            padding: text("pad_token"),
            separator: text("sep_token"),
            class: text("cls_token"),
            mask: text("mask_token"),
            named: others.map(|(name, token)| (name.clone(), token.text.clone())).collect(),
            add_bos: config.get("add_bos_token").and_then(Value::as_bool),
            add_eos: config.get("add_eos_token").and_then(Value::as_bool),
        }
    }
}

/// Puts what `special_tokens_map.json` says over what `tokenizer_config.json` says; lists are
/// joined.
fn override_with(config: &mut Map<String, Value>, map: Map<String, Value>) {
    for (key, value) in map {
        match (config.get_mut(&key), value) {
            (Some(Value::Array(have)), Value::Array(list)) => {
                let text = |value: &Value| Token::read(value).map(|token| token.text);
                let new = list.into_iter().filter(|token| !have.iter().any(|old| text(old) == text(token)));
                let new: Vec<Value> = new.collect();
                have.extend(new);
            }
            (_, value) => {
                config.insert(key, value);
            }
        }
    }
}

/// Says which keys are not known, once for each load: they may be another program's, or from a
/// later version.
fn report_unknown(config: &Map<String, Value>) {
    let known =
        |key: &str| key.ends_with("_token") || key.starts_with('_') || HARMLESS.contains(&key) || HONOURED.contains(&key);
    let says = |value: &Value| !matches!(value, Value::Null | Value::Bool(false)) && *value != Value::Array(Vec::new());
    let unknown: Vec<&str> =
        config.iter().filter(|(key, value)| !known(key) && says(value)).map(|(key, _)| key.as_str()).collect();
    if !unknown.is_empty() {
        log::warn!("{CONFIG}: keys that tallow does not know are left out: {}", unknown.join(", "));
    }
}

fn wrong(file: &str, key: &str, value: &Value) -> Error {
    let mut shown = value.to_string();
    if shown.len() > 80 {
        shown = format!("{}...", shown.chars().take(77).collect::<String>());
    }
    Error::corrupt(file, format!("{key} is {shown}, expected a token: its text, or an object with its \"content\""))
}

fn object(text: Option<&str>, file: &str) -> Result<Map<String, Value>> {
    let Some(text) = text else { return Ok(Map::new()) };
    match crate::json::parse(text.as_bytes()).map_err(|e| Error::corrupt(file, e))? {
        Value::Object(map) => Ok(map),
        _ => Err(Error::corrupt(file, "is not a JSON object")),
    }
}
