//! Text to token ids and back. The `tokenizers` crate is named here and in the folder beside this
//! file, nowhere else.
//!
//! Two ways in: a `tokenizer.json`, followed to the letter (but for truncation and padding, which
//! sentence-transformers bakes in and which are not the tokenizer's business) with what
//! [`TokenizerFiles`] override, or a GGUF's [`Vocab`], from which the same machinery is put
//! together. BOS and EOS rules are a post-processor, so that `special` means the same for both.
//!
//! The trap: added tokens are matched in the raw text before anything is split, special or not, so
//! text that spells `<|im_end|>` becomes that token, as it does in transformers.
//! [`Tokenizer::encode_plain`] and [`Tokenizer::hide_special`] take special tokens for the text
//! that they are.

mod build;
mod configure;
mod split;

use super::pieces::Plan;
use super::settings::{Settings, TokenizerFiles};
use super::special::SpecialTokens;
use super::vocab::{SpecialIds, Vocab};
use crate::{Error, Result};
use split::Pipeline;
use std::borrow::Cow;
use std::collections::HashSet;
use std::sync::Arc;
use tokenizers::{Encoding, ModelWrapper, PostProcessor, TruncationDirection};

/// What spaces before punctuation become where a tokenizer cleans up what it decodes, in this
/// order.
const CLEAN: [(&str, &str); 10] = [
    (" .", "."),
    (" ?", "?"),
    (" !", "!"),
    (" ,", ","),
    (" ' ", "'"),
    (" n't", "n't"),
    (" 'm", "'m"),
    (" 's", "'s"),
    (" 've", "'ve"),
    (" 're", "'re"),
];

/// Turns text into token ids and ids into text. Cheap to clone: clones share one vocabulary.
#[derive(Clone)]
pub struct Tokenizer {
    inner: Arc<Inner>,
    ids: SpecialIds,
}

struct Inner {
    tokenizer: tokenizers::Tokenizer,
    pipeline: Pipeline,
    special: HashSet<u32>,
    plan: Plan,
    /// Decoded text loses the spaces before punctuation.
    clean_up: bool,
    /// Where a text that is too long is cut.
    cut: TruncationDirection,
}

impl Tokenizer {
    /// From the bytes of a `tokenizer.json`; `file` names it in messages.
    pub fn from_json(bytes: &[u8], file: &str) -> Result<Self> {
        Self::new(parse(bytes, file)?, SpecialIds::default()).map_err(|e| Error::corrupt(file, e.to_string()))
    }

    /// From the files of a folder, and the special tokens that they name.
    ///
    /// # Errors
    /// [`Error::Corrupt`] for files that can not be read or that contradict themselves.
    pub fn from_files(files: &TokenizerFiles<'_>) -> Result<(Self, SpecialTokens)> {
        let corrupt = |e: tokenizers::Error| Error::corrupt(files.file, e.to_string());
        let mut tokenizer = parse(files.tokenizer, files.file)?;
        let settings = Settings::read(files, configure::is_byte_level(&tokenizer))?;
        caught(|| configure::configure(&mut tokenizer, &settings)).map_err(corrupt)?;
        // BPE keeps the spaces that its text had, so there is nothing to clean up unless somebody
        // insists.
        let is_bpe = matches!(tokenizer.get_model(), ModelWrapper::BPE(_));
        let mut made = Self::new(tokenizer, SpecialIds::default()).map_err(corrupt)?;
        if let Some(inner) = Arc::get_mut(&mut made.inner) {
            inner.clean_up = if is_bpe { settings.clean_up_bpe } else { settings.clean_up };
            if inner.clean_up {
                inner.plan = Plan::Whole;
            }
            if settings.truncate_left {
                inner.cut = TruncationDirection::Left;
            }
        }
        let made = made.with_special_tokens(&settings.tokens);
        made.check_claims(&settings.tokens);
        Ok((made, settings.tokens))
    }

    /// From the vocabulary of a GGUF file.
    pub fn from_vocab(vocab: Vocab) -> Result<Self> {
        let vocab = vocab.check()?;
        let ids = vocab.special_ids();
        let tokenizer = caught(|| build::build(&vocab, &ids)).and_then(|tokenizer| Self::new(tokenizer, ids));
        tokenizer.map_err(|e| match e.downcast::<Error>() {
            Ok(ours) => *ours,
            Err(e) => Error::corrupt(&vocab.file, format!("the vocabulary can not be used: {e}")),
        })
    }

    fn new(tokenizer: tokenizers::Tokenizer, ids: SpecialIds) -> tokenizers::Result<Self> {
        let added = tokenizer.get_added_vocabulary();
        let special = added.get_added_tokens_decoder().iter().filter(|(_, token)| added.is_special_token(&token.content));
        let special = special.map(|(&id, _)| id).collect();
        let plan = tokenizer.get_decoder().and_then(|decoder| serde_json::to_value(decoder).ok());
        let plan = plan.map_or(Plan::Whole, |json| Plan::of(&json));
        let pipeline = Pipeline::new(&tokenizer)?;
        let inner = Inner { tokenizer, pipeline, special, plan, clean_up: false, cut: TruncationDirection::Right };
        Ok(Tokenizer { inner: Arc::new(inner), ids })
    }

    /// The same tokenizer, told which of its tokens have a role. A `tokenizer.json` does not say so
    /// itself.
    pub fn with_special_tokens(mut self, tokens: &SpecialTokens) -> Self {
        let id = |text: &Option<String>| text.as_deref().and_then(|text| self.id(text));
        self.ids = SpecialIds {
            bos: id(&tokens.bos),
            eos: id(&tokens.eos),
            unknown: id(&tokens.unknown),
            separator: id(&tokens.separator),
            padding: id(&tokens.padding),
            ..self.ids
        };
        self
    }

    /// Says where `add_bos_token` and `add_eos_token` are at odds with the post-processor of
    /// `tokenizer.json`, which counts.
    fn check_claims(&self, tokens: &SpecialTokens) {
        let Ok(ids) = self.encode("", true) else { return };
        for (key, claim, role, adds) in [
            ("add_bos_token", tokens.add_bos, self.ids.bos, ids.first()),
            ("add_eos_token", tokens.add_eos, self.ids.eos, ids.last()),
        ] {
            if let (Some(claim), Some(_)) = (claim, role)
                && claim != (adds.copied() == role)
            {
                let does = if claim { "does not add it" } else { "adds it" };
                log::warn!("tokenizer_config.json: {key} is {claim}, and tokenizer.json {does}: tokenizer.json counts");
            }
        }
    }

    /// The ids of `text`. With `special`, the tokenizer's own BOS and EOS rules are applied;
    /// special tokens that the text spells out are recognised either way.
    pub fn encode(&self, text: &str, special: bool) -> Result<Vec<u32>> {
        self.encoded(text, special, false).map(|encoding| encoding.get_ids().to_vec())
    }

    /// The ids of `text`, whose special tokens are the plain text that they are spelt with: none of
    /// the ids stands for one, but for those that the tokenizer's own rules add where `special` is
    /// true.
    pub fn encode_plain(&self, text: &str, special: bool) -> Result<Vec<u32>> {
        self.encode_hidden(&self.hide_special(text), special)
    }

    /// `text` with a mark in each special token that it spells, for [`Tokenizer::encode_hidden`].
    /// What is not trusted can be marked before it becomes a part of a prompt whose other special
    /// tokens count: the messages of a chat, before they are rendered. The mark is U+FDD0, a
    /// character that no text is made of.
    pub fn hide_special(&self, text: &str) -> String {
        let (tokenizer, special) = (&self.inner.tokenizer, &self.inner.special);
        let mut hidden = text.replace(split::MARK, "");
        // A mark may leave a shorter token, so the text is looked through until there is none.
        loop {
            let found = split::special(tokenizer, &hidden, special);
            if found.is_empty() {
                return hidden;
            }
            for at in found.into_iter().rev() {
                let first = hidden[at..].chars().next().map_or(0, char::len_utf8);
                hidden.insert(at + first, split::MARK);
            }
        }
    }

    /// [`Tokenizer::encode`] for a text whose special tokens are hidden in parts
    /// ([`Tokenizer::hide_special`]): these are the plain text that they are spelt with, all others
    /// count.
    pub fn encode_hidden(&self, text: &str, special: bool) -> Result<Vec<u32>> {
        self.encoded(text, special, true).map(|encoding| encoding.get_ids().to_vec())
    }

    /// The ids of a prompt as it stands: [`Tokenizer::encode`] with the tokenizer's own special
    /// tokens, but for a BOS that the text begins with itself. There the tokenizer's own is left
    /// out, with a warning.
    pub fn encode_prompt(&self, text: &str) -> Result<Vec<u32>> {
        let mut ids = self.encode(text, true)?;
        if let [first, second, ..] = ids[..]
            && first == second
            && self.is_special(first)
            && ids[1..].starts_with(&self.encode(text, false)?)
        {
            let piece = self.piece(first).unwrap_or_default();
            log::warn!("the text begins with {piece} itself, so the one that the tokenizer adds is left out");
            ids.remove(0);
        }
        Ok(ids)
    }

    /// The ids of `text` with the tokenizer's own special tokens, at most `limit` of them, and how
    /// many there would be. The text's last tokens are left out (its first, where
    /// `tokenizer_config.json` says so), never the special ones. With `plain` special tokens in the
    /// text are plain text.
    pub fn encode_within(&self, text: &str, limit: usize, plain: bool) -> Result<(Vec<u32>, usize)> {
        let text = if plain { Cow::Owned(self.hide_special(text)) } else { Cow::Borrowed(text) };
        let mut encoding = self.encoded(&text, false, plain)?;
        let wanted = encoding.len() + self.added_tokens();
        encoding.truncate(limit.saturating_sub(self.added_tokens()), 0, self.inner.cut);
        // What does not fit is kept aside, cut in pieces.
        encoding.take_overflowing();
        Ok((self.post_processed(encoding)?.get_ids().to_vec(), wanted))
    }

    /// The same tokenizer behind a normaliser that makes capitals small. Special tokens are matched
    /// before it.
    pub fn lowercased(&self) -> Result<Self> {
        let wrong = |e: tokenizers::Error| Error::Input(format!("the tokenizer can not be lower-cased: {e}"));
        let mut tokenizer = self.inner.tokenizer.clone();
        caught(|| configure::lowercase(&mut tokenizer)).map_err(wrong)?;
        let mut made = Self::new(tokenizer, self.ids).map_err(wrong)?;
        if let Some(inner) = Arc::get_mut(&mut made.inner) {
            (inner.clean_up, inner.cut, inner.plan) = (self.inner.clean_up, self.inner.cut, self.inner.plan.clone());
        }
        Ok(made)
    }

    fn encoded(&self, text: &str, special: bool, hidden: bool) -> Result<Encoding> {
        let Inner { tokenizer, pipeline, special: ids, .. } = &*self.inner;
        let encoding = caught(|| pipeline.encode(tokenizer, text, hidden.then_some(ids))).map_err(not_tokenised)?;
        if special { self.post_processed(encoding) } else { Ok(encoding) }
    }

    fn post_processed(&self, encoding: Encoding) -> Result<Encoding> {
        caught(|| self.inner.tokenizer.post_process(encoding, None, true)).map_err(not_tokenised)
    }

    /// How many special tokens every text gets.
    pub fn added_tokens(&self) -> usize {
        self.inner.tokenizer.get_post_processor().map_or(0, |processor| processor.added_tokens(false))
    }

    /// The text of `ids`; `skip_special` leaves special tokens out. Ids outside the vocabulary
    /// decode to nothing.
    pub fn decode(&self, ids: &[u32], skip_special: bool) -> Result<String> {
        let text = caught(|| self.inner.tokenizer.decode(ids, skip_special));
        let mut text = text.map_err(|e| Error::Input(format!("the tokens can not be decoded: {e}")))?;
        if self.inner.clean_up {
            text = CLEAN.iter().fold(text, |text, (from, to)| text.replace(from, to));
        }
        Ok(text)
    }

    /// The pieces as the vocabulary spells them (`Ġthe`, `▁the`, `<0x0A>`); empty for ids outside
    /// it.
    pub fn pieces(&self, ids: &[u32]) -> Vec<String> {
        ids.iter().map(|&id| self.piece(id).unwrap_or_default()).collect()
    }

    /// The piece that `id` stands for, as the vocabulary spells it.
    pub fn piece(&self, id: u32) -> Option<String> {
        self.inner.tokenizer.id_to_token(id)
    }

    /// The id of a piece, spelt as the vocabulary spells it.
    pub fn id(&self, piece: &str) -> Option<u32> {
        self.inner.tokenizer.token_to_id(piece)
    }

    /// How many tokens there are, added ones included. A model's head may have more rows.
    pub fn vocab_size(&self) -> usize {
        self.inner.tokenizer.get_vocab_size(true)
    }

    /// Whether `id` is a special token: one that steers the model and is left out of decoded text.
    pub fn is_special(&self, id: u32) -> bool {
        self.inner.special.contains(&id)
    }

    /// The ids that have a role.
    pub fn special_ids(&self) -> SpecialIds {
        self.ids
    }

    /// The id that begins a text.
    pub fn bos(&self) -> Option<u32> {
        self.ids.bos
    }

    /// The id that ends a text.
    pub fn eos(&self) -> Option<u32> {
        self.ids.eos
    }

    /// The special tokens' texts, as chat templates want them.
    pub fn special_tokens(&self) -> SpecialTokens {
        let text = |id: Option<u32>| id.and_then(|id| self.piece(id));
        SpecialTokens {
            bos: text(self.ids.bos),
            eos: text(self.ids.eos),
            unknown: text(self.ids.unknown),
            separator: text(self.ids.separator),
            padding: text(self.ids.padding),
            ..SpecialTokens::default()
        }
    }

    pub(super) fn plan(&self) -> &Plan {
        &self.inner.plan
    }
}

impl std::fmt::Debug for Tokenizer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Tokenizer").field("vocab_size", &self.vocab_size()).field("ids", &self.ids).finish_non_exhaustive()
    }
}

fn parse(bytes: &[u8], file: &str) -> Result<tokenizers::Tokenizer> {
    // `parse` is compiled in the tokenizers crate; its generic `from_bytes` would be compiled here,
    // again.
    let text = std::str::from_utf8(bytes).map_err(|e| Error::corrupt(file, e.to_string()))?;
    let mut tokenizer: tokenizers::Tokenizer =
        caught(|| text.parse()).map_err(|e: tokenizers::Error| Error::corrupt(file, e.to_string()))?;
    tokenizer.with_padding(None);
    tokenizer.with_truncation(None).map_err(|e| Error::corrupt(file, e.to_string()))?;
    Ok(tokenizer)
}

fn not_tokenised(error: tokenizers::Error) -> Error {
    Error::Input(format!("the text can not be tokenised: {error}"))
}

/// Calls the tokenizers crate, which panics where a file is inconsistent in ways that it does not
/// check.
fn caught<T>(work: impl FnOnce() -> tokenizers::Result<T>) -> tokenizers::Result<T> {
    std::panic::catch_unwind(std::panic::AssertUnwindSafe(work)).unwrap_or_else(|panic| {
        let text = panic.downcast_ref::<String>().map(String::as_str).or_else(|| panic.downcast_ref::<&str>().copied());
        Err(format!("the tokenizer is damaged: {}", text.unwrap_or("its rules can not be applied")).into())
    })
}
