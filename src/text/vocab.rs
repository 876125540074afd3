//! A vocabulary as plain data: what a GGUF's `tokenizer.ggml.*` keys say, with the defaults that absent keys have.
//!
//! The GGUF reader fills a [`Vocab`] field by field and judges nothing; `Vocab::check` and the rules below do. Defaults are
//! llama.cpp's (`llama-vocab.cpp`), with one exception: for `gpt2` vocabularies it takes id 11 for an absent BOS and EOS (a
//! Falcon legacy), which in any other vocabulary is an ordinary piece, often the comma; here they are absent.

use crate::{Error, Result};
use std::collections::HashMap;

/// The vocabulary that a GGUF file carries. Fields that the file lacks stay `None`.
#[derive(Debug, Clone, Default)]
pub struct Vocab {
    /// The file it came from, for messages.
    pub file: String,
    /// `tokenizer.ggml.model`: `gpt2` for byte-level BPE, `llama` for SentencePiece BPE with scores, `bert` for WordPiece,
    /// `t5` for SentencePiece Unigram.
    pub model: String,
    /// `tokenizer.ggml.pre`: the name of the pre-tokenizer; only `gpt2` has them.
    pub pre: Option<String>,
    /// `tokenizer.ggml.tokens`: the text of each id. Byte-level pieces are spelt in GPT-2's alphabet.
    pub tokens: Vec<String>,
    /// `tokenizer.ggml.scores`: how early a piece is merged; the higher, the earlier.
    pub scores: Option<Vec<f32>>,
    /// `tokenizer.ggml.token_type`, one of [`TokenType`]'s numbers for each id.
    pub types: Option<Vec<i32>>,
    /// `tokenizer.ggml.merges`: pairs joined by a space, the first to merge first.
    pub merges: Option<Vec<String>>,
    /// `tokenizer.ggml.bos_token_id`.
    pub bos: Option<u32>,
    /// `tokenizer.ggml.eos_token_id`.
    pub eos: Option<u32>,
    /// `tokenizer.ggml.unknown_token_id`.
    pub unknown: Option<u32>,
    /// `tokenizer.ggml.seperator_token_id` (sic).
    pub separator: Option<u32>,
    /// `tokenizer.ggml.cls_token_id`: begins a text of BERT.
    pub class: Option<u32>,
    /// `tokenizer.ggml.padding_token_id`.
    pub padding: Option<u32>,
    /// `tokenizer.ggml.eot_token_id`: the end of a turn.
    pub eot: Option<u32>,
    /// `tokenizer.ggml.eom_token_id`: the end of a message that a tool call follows.
    pub eom: Option<u32>,
    /// `tokenizer.ggml.normalizer.lowercase`, of `bert`.
    pub lowercase: Option<bool>,
    /// `tokenizer.ggml.normalizer.strip_accents`, of `bert`.
    pub strip_accents: Option<bool>,
    /// `tokenizer.ggml.precompiled_charsmap`: SentencePiece's table of characters to normalise, of `t5`.
    pub charsmap: Option<Vec<u8>>,
    /// `tokenizer.ggml.remove_extra_whitespaces`, of `t5`.
    pub remove_extra_spaces: Option<bool>,
    /// `tokenizer.ggml.add_bos_token`.
    pub add_bos: Option<bool>,
    /// `tokenizer.ggml.add_eos_token`.
    pub add_eos: Option<bool>,
    /// `tokenizer.ggml.add_space_prefix`.
    pub add_space_prefix: Option<bool>,
    /// Whether control tokens swallow the white space to their right, but for `<unk>`, `<s>` and `<|endoftext|>`. Phi-3's do;
    /// its `tokenizer.json` says so, its GGUF files do not.
    pub strip_right: bool,
}

/// What a token is, numbered as GGUF does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TokenType {
    /// An ordinary piece.
    Normal = 1,
    /// Stands for text that no piece covers.
    Unknown = 2,
    /// Steers the model; never part of its text.
    Control = 3,
    /// Added by hand: matched before anything else is split, and printed.
    UserDefined = 4,
    /// Fills a gap in the numbering: never read from text, prints nothing.
    Unused = 5,
    /// `<0xNN>`: one byte of text that no piece covers.
    Byte = 6,
}

/// The ids that have a role.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct SpecialIds {
    /// Begins a text.
    pub bos: Option<u32>,
    /// Ends a text.
    pub eos: Option<u32>,
    /// Stands for what the vocabulary can not spell.
    pub unknown: Option<u32>,
    /// Separates two texts.
    pub separator: Option<u32>,
    /// Fills up a batch.
    pub padding: Option<u32>,
    /// Ends a turn of a chat.
    pub eot: Option<u32>,
    /// Ends a message within a turn.
    pub eom: Option<u32>,
}

impl Vocab {
    /// Refuses what can not be a vocabulary.
    pub(super) fn check(self) -> Result<Self> {
        let corrupt = |why: String| Err(Error::corrupt(&self.file, why));
        let n = self.tokens.len();
        if n == 0 {
            return corrupt("tokenizer.ggml.tokens is empty".into());
        }
        for (key, len) in [("scores", self.scores.as_ref().map(Vec::len)), ("token_type", self.types.as_ref().map(Vec::len))] {
            if let Some(len) = len
                && len < n
            {
                return corrupt(format!("tokenizer.ggml.{key} has {len} entries for {n} tokens"));
            }
        }
        Ok(self)
    }

    /// Text to id, without the ids that only fill the numbering: they are never read from text and print nothing. Two ids
    /// with one text are refused: the second could be neither written nor told apart.
    pub(super) fn index(&self) -> Result<HashMap<&str, u32>> {
        let mut index = HashMap::with_capacity(self.tokens.len());
        for (id, token) in (0..).zip(&self.tokens) {
            if self.kind(id) == TokenType::Unused {
                continue;
            }
            if let Some(first) = index.insert(token.as_str(), id) {
                return Err(Error::corrupt(&self.file, format!("tokens {first} and {id} are both {token:?}")));
            }
        }
        Ok(index)
    }

    /// The ids with a role: the keys, then the defaults of the model; ids outside the vocabulary count as absent.
    pub(super) fn special_ids(&self) -> SpecialIds {
        let spm = self.model == "llama";
        let known = |id: u32| self.kind(id) != TokenType::Unused;
        let pick =
            |key: Option<u32>, default: u32| key.filter(|&id| known(id)).or(Some(default).filter(|&id| spm && known(id)));
        let plain = |key: Option<u32>| key.filter(|&id| known(id));
        if self.model == "bert" {
            let named = |text: &str| (0..).zip(&self.tokens).find(|(_, token)| *token == text).map(|(id, _)| id);
            let role = |keys: [Option<u32>; 2], text: &str| keys.into_iter().find_map(plain).or_else(|| named(text));
            return SpecialIds {
                bos: role([self.class, self.bos], "[CLS]"),
                eos: role([self.separator, self.eos], "[SEP]"),
                unknown: role([self.unknown, None], "[UNK]"),
                separator: role([self.separator, None], "[SEP]"),
                padding: role([self.padding, None], "[PAD]"),
                ..SpecialIds::default()
            };
        }
        SpecialIds {
            bos: pick(self.bos, 1),
            eos: pick(self.eos, 2),
            unknown: pick(self.unknown, 0),
            separator: plain(self.separator),
            padding: plain(self.padding),
            eot: plain(self.eot),
            eom: plain(self.eom),
        }
    }

    /// The type of `id`. A token without text is unused, whatever its number says.
    pub(super) fn kind(&self, id: u32) -> TokenType {
        if self.tokens.get(id as usize).is_none_or(String::is_empty) {
            return TokenType::Unused;
        }
        match self.types.as_ref().and_then(|types| types.get(id as usize)) {
            Some(2) => TokenType::Unknown,
            Some(3) => TokenType::Control,
            Some(4) => TokenType::UserDefined,
            Some(5) => TokenType::Unused,
            Some(6) => TokenType::Byte,
            Some(_) | None => TokenType::Normal,
        }
    }
}
