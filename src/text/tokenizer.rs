//! Text to token ids and back. The only file that names the `tokenizers` crate.
//!
//! Two ways in: a `tokenizer.json`, followed to the letter (but for truncation and padding, which sentence-transformers
//! bakes in and which are not the tokenizer's business), or a GGUF's [`Vocab`], from which the same machinery is put
//! together: byte-level BPE behind the pre-tokenizer that the file names, SentencePiece BPE with merges made from scores,
//! SentencePiece Unigram, or BERT's WordPiece.
//! BOS and EOS rules become a post-processor, so that `special` means the same for both.
//!
//! The trap: added tokens are matched in the raw text before anything is split, special or not, so text that spells
//! `<|im_end|>` becomes that token, as it does in transformers. [`Tokenizer::hide_special`] keeps it text: a mark inside the
//! spelling, which [`Tokenizer::encode_hidden`] takes out again once added tokens have been looked for.

use super::pieces::Plan;
use super::special::{SpecialTokens, ends_a_turn};
use super::vocab::{SpecialIds, TokenType, Vocab};
use super::{charsmap, pre, scores};
use crate::{Error, Result};
use std::collections::HashSet;
use std::sync::Arc;
use tokenizers::decoders::byte_fallback::ByteFallback;
use tokenizers::decoders::fuse::Fuse;
use tokenizers::decoders::sequence::Sequence as Decoders;
use tokenizers::decoders::strip::Strip;
use tokenizers::decoders::wordpiece::WordPiece as WordPieceDecoder;
use tokenizers::models::bpe::BPE;
use tokenizers::models::unigram::Unigram;
use tokenizers::models::wordpiece::WordPiece;
use tokenizers::normalizers::replace::ReplacePattern;
use tokenizers::normalizers::{
    BertNormalizer, NFC, Precompiled, Prepend, Replace, Sequence as Normalizers, Strip as NormalizerStrip,
};
use tokenizers::pre_tokenizers::bert::BertPreTokenizer;
use tokenizers::pre_tokenizers::byte_level::ByteLevel;
use tokenizers::pre_tokenizers::metaspace::{Metaspace, PrependScheme};
use tokenizers::pre_tokenizers::sequence::Sequence as PreTokenizers;
use tokenizers::pre_tokenizers::split::{Split, SplitPattern};
use tokenizers::pre_tokenizers::whitespace::WhitespaceSplit;
use tokenizers::processors::template::{SpecialToken, TemplateProcessing};
use tokenizers::{
    AddedToken, Model, NormalizerWrapper, OffsetType, PostProcessor, PreTokenizer, PreTokenizerWrapper, SplitDelimiterBehavior,
    TruncationDirection,
};

/// The mark in a special token's spelling that keeps it text: a character that Unicode will never give a meaning.
const HIDDEN: char = '\u{FDD0}';

/// Turns text into token ids and ids into text. Cheap to clone: clones share one vocabulary.
#[derive(Clone)]
pub struct Tokenizer {
    inner: Arc<Inner>,
    ids: SpecialIds,
}

struct Inner {
    tokenizer: tokenizers::Tokenizer,
    special: HashSet<u32>,
    plan: Plan,
}

impl Tokenizer {
    /// From the bytes of a `tokenizer.json`; `file` names it in messages.
    pub fn from_json(bytes: &[u8], file: &str) -> Result<Self> {
        // `parse` is compiled in the tokenizers crate; its generic `from_bytes` would be compiled here, again.
        let text = std::str::from_utf8(bytes).map_err(|e| Error::corrupt(file, e.to_string()))?;
        let mut tokenizer: tokenizers::Tokenizer =
            caught(|| text.parse()).map_err(|e: tokenizers::Error| Error::corrupt(file, e.to_string()))?;
        tokenizer.with_padding(None);
        tokenizer.with_truncation(None).map_err(|e| Error::corrupt(file, e.to_string()))?;
        Ok(Self::new(tokenizer, SpecialIds::default()))
    }

    /// From the vocabulary of a GGUF file.
    pub fn from_vocab(vocab: Vocab) -> Result<Self> {
        let vocab = vocab.check()?;
        let file = vocab.file.clone();
        let ids = vocab.special_ids();
        let tokenizer = match vocab.model.as_str() {
            "gpt2" => caught(|| byte_level(&vocab, &ids)),
            "llama" => caught(|| sentence_piece(&vocab, &ids)),
            "bert" => caught(|| word_piece(&vocab, &ids)),
            "t5" => caught(|| unigram(&vocab, &ids)),
            other => {
                let what = format!("{file}: the tokenizer {other:?} (tokenizer.ggml.model)");
                return Err(Error::unsupported(what, "gpt2, llama, bert, t5"));
            }
        };
        let tokenizer = tokenizer.map_err(|e| match e.downcast::<Error>() {
            Ok(ours) => *ours,
            Err(e) => Error::corrupt(file, format!("the vocabulary can not be used: {e}")),
        })?;
        Ok(Self::new(tokenizer, ids))
    }

    fn new(tokenizer: tokenizers::Tokenizer, ids: SpecialIds) -> Self {
        let special = tokenizer.get_added_tokens_decoder().iter().filter(|(_, t)| t.special).map(|(&id, _)| id).collect();
        let plan = tokenizer.get_decoder().and_then(|decoder| serde_json::to_value(decoder).ok());
        let plan = plan.map_or(Plan::Whole, |json| Plan::of(&json));
        Tokenizer { inner: Arc::new(Inner { tokenizer, special, plan }), ids }
    }

    /// The same tokenizer, told which of its tokens have a role. A `tokenizer.json` does not say so itself.
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

    /// The ids of `text`. With `special`, the tokenizer's own BOS and EOS rules are applied; special tokens that the text
    /// spells out are recognised either way.
    pub fn encode(&self, text: &str, special: bool) -> Result<Vec<u32>> {
        let encoding = caught(|| self.inner.tokenizer.encode_fast(text, special));
        let encoding = encoding.map_err(|e| Error::Input(format!("the text can not be tokenised: {e}")))?;
        Ok(encoding.get_ids().to_vec())
    }

    /// `text` with a mark in every special token that it spells, for [`Tokenizer::encode_hidden`].
    pub fn hide_special(&self, text: &str) -> String {
        let mut text = text.replace(HIDDEN, "");
        for (_, token) in self.inner.tokenizer.get_added_tokens_decoder().iter().filter(|(_, token)| token.special) {
            let mut chars = token.content.chars();
            if let Some(first) = chars.next()
                && text.contains(&token.content)
            {
                text = text.replace(&token.content, &format!("{first}{HIDDEN}{}", chars.as_str()));
            }
        }
        text
    }

    /// The ids of `text`, in which special tokens that are hidden ([`Tokenizer::hide_special`]) are plain text: what the
    /// tokenizers crate gives with `encode_special_tokens`, but for those that are not hidden.
    ///
    /// # Errors
    /// [`Error::Input`] for a text that the tokenizer refuses.
    pub fn encode_hidden(&self, text: &str, special: bool) -> Result<Vec<u32>> {
        let tokenizer = &self.inner.tokenizer;
        let encoding = caught(|| {
            let mut pieces = tokenizer.get_added_vocabulary().extract_and_normalize(tokenizer.get_normalizer(), text);
            pieces.normalize(|piece| piece.replace(HIDDEN, ""))?;
            if let Some(pre_tokenizer) = tokenizer.get_pre_tokenizer() {
                pre_tokenizer.pre_tokenize(&mut pieces)?;
            }
            pieces.tokenize(|piece| tokenizer.get_model().tokenize(piece.get()))?;
            tokenizer.post_process(pieces.into_encoding(None, 0, OffsetType::None)?, None, special)
        });
        let encoding = encoding.map_err(|e| Error::Input(format!("the text can not be tokenised: {e}")))?;
        Ok(encoding.get_ids().to_vec())
    }

    /// The ids of `text` with the tokenizer's own special tokens, at most `limit` of them, and how many there would be. The
    /// text's last tokens are left out, never the special ones.
    pub fn encode_within(&self, text: &str, limit: usize) -> Result<(Vec<u32>, usize)> {
        let wrong = |e: tokenizers::Error| Error::Input(format!("the text can not be tokenised: {e}"));
        let tokenizer = &self.inner.tokenizer;
        let mut encoding = caught(|| tokenizer.encode_fast(text, false)).map_err(wrong)?;
        let wanted = encoding.len() + self.added_tokens();
        encoding.truncate(limit.saturating_sub(self.added_tokens()), 0, TruncationDirection::Right);
        // What does not fit is kept aside, cut in pieces.
        encoding.take_overflowing();
        let encoding = caught(|| tokenizer.post_process(encoding, None, true)).map_err(wrong)?;
        Ok((encoding.get_ids().to_vec(), wanted))
    }

    /// How many special tokens every text gets.
    pub fn added_tokens(&self) -> usize {
        self.inner.tokenizer.get_post_processor().map_or(0, |processor| processor.added_tokens(false))
    }

    /// The text of `ids`; `skip_special` leaves special tokens out. Ids outside the vocabulary decode to nothing.
    pub fn decode(&self, ids: &[u32], skip_special: bool) -> Result<String> {
        let text = caught(|| self.inner.tokenizer.decode(ids, skip_special));
        text.map_err(|e| Error::Input(format!("the tokens can not be decoded: {e}")))
    }

    /// The pieces as the vocabulary spells them (`Ġthe`, `▁the`, `<0x0A>`); empty for ids outside it.
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

/// Byte-level BPE: NFC where the model has it, the named patterns, then GPT-2's byte alphabet.
fn byte_level(vocab: &Vocab, ids: &SpecialIds) -> tokenizers::Result<tokenizers::Tokenizer> {
    let rules = pre::find(vocab.pre.as_deref())?;
    let index = vocab.index()?;
    let Some(merges) = &vocab.merges else {
        return Err(Error::corrupt(&vocab.file, "tokenizer.ggml.merges is missing").into());
    };
    let merges = merges.iter().map(|merge| pair(merge).ok_or(merge));
    let merges: Result<Vec<_>, _> = merges.collect();
    let merges = merges.map_err(|merge| Error::corrupt(&vocab.file, format!("the merge {merge:?} is not a pair")))?;
    let model = BPE::builder()
        .vocab_and_merges(
            index.iter().map(|(&token, &id)| (token.to_owned(), id)).collect::<tokenizers::models::bpe::Vocab>(),
            merges,
        )
        .ignore_merges(rules.ignore_merges)
        .build()?;

    let mut steps = Vec::with_capacity(rules.split.len() + 1);
    for &pattern in rules.split {
        let pattern = SplitPattern::Regex(pattern.to_owned());
        steps.push(PreTokenizerWrapper::Split(Split::new(pattern, SplitDelimiterBehavior::Isolated, false)?));
    }
    let bytes = ByteLevel::default().add_prefix_space(false).use_regex(false);
    steps.push(PreTokenizerWrapper::ByteLevel(bytes));

    let mut tokenizer = tokenizers::Tokenizer::new(model);
    if rules.nfc {
        tokenizer.with_normalizer(Some(NFC))?;
    }
    tokenizer.with_pre_tokenizer(Some(PreTokenizers::new(steps)));
    tokenizer.with_decoder(Some(bytes));
    finish(tokenizer, vocab, ids, rules.add_bos, false)
}

/// The two halves of a merge. The space that parts them is not the first character: a piece may begin with one.
fn pair(merge: &str) -> Option<(String, String)> {
    let (at, _) = merge.char_indices().skip(1).find(|&(_, c)| c == ' ')?;
    Some((merge[..at].to_owned(), merge[at + 1..].to_owned()))
}

/// SentencePiece BPE: spaces become `▁`, one is put in front of each stretch of text, and bytes stand in for what no piece
/// covers.
fn sentence_piece(vocab: &Vocab, ids: &SpecialIds) -> tokenizers::Result<tokenizers::Tokenizer> {
    let index = vocab.index()?;
    let token = |id: u32| vocab.tokens[id as usize].clone();
    let merges = scores::merges(vocab, &index).into_iter().map(|(left, right)| (token(left), token(right))).collect();
    let mut model = BPE::builder()
        .vocab_and_merges(
            index.iter().map(|(&token, &id)| (token.to_owned(), id)).collect::<tokenizers::models::bpe::Vocab>(),
            merges,
        )
        .fuse_unk(true)
        .byte_fallback(true);
    if let Some(unknown) = ids.unknown {
        model = model.unk_token(token(unknown));
    }
    let mut tokenizer = tokenizers::Tokenizer::new(model.build()?);

    let spaces = Replace::new(" ", "▁")?;
    let back = Replace::new("▁", " ")?;
    let prefix = vocab.add_space_prefix.unwrap_or(true);
    let mut normalizers = vec![spaces.into()];
    let mut decoders = vec![back.into(), ByteFallback::new().into(), Fuse::new().into()];
    if prefix {
        normalizers.insert(0, Prepend::new("▁".to_owned()).into());
        decoders.push(Strip::new(' ', 1, 0).into());
    }
    tokenizer.with_normalizer(Some(Normalizers::new(normalizers)))?;
    tokenizer.with_decoder(Some(Decoders::new(decoders)));
    finish(tokenizer, vocab, ids, true, false)
}

/// BERT's WordPiece (Wu et al. 2016; Devlin et al. 2018): the longest pieces from the left. A file marks the beginning of a word
/// with `▁`, where `vocab.txt` marks its continuation with `##`, and leaves control tokens bare; the oldest leave everything in
/// brackets bare. A file seldom says whether it keeps capitals: one with more than a few capitalised
/// words does.
fn word_piece(vocab: &Vocab, ids: &SpecialIds) -> tokenizers::Result<tokenizers::Tokenizer> {
    let bare = |id: u32, token: &str| {
        vocab.kind(id) != TokenType::Normal || token.len() > 2 && token.starts_with('[') && token.ends_with(']')
    };
    let spelling = |id: u32, token: &str| match token.strip_prefix('▁') {
        Some(word) => word.to_owned(),
        None if bare(id, token) => token.to_owned(),
        None => format!("##{token}"),
    };
    let index = vocab.index()?;
    let pieces: tokenizers::models::bpe::Vocab = index.iter().map(|(token, id)| (spelling(*id, token), *id)).collect();
    let Some(unknown) = ids.unknown else {
        return Err(Error::corrupt(&vocab.file, "tokenizer.ggml.unknown_token_id is missing, and there is no [UNK]").into());
    };
    let lowercase = vocab.lowercase.unwrap_or_else(|| {
        let words = || index.iter().filter(|(token, id)| !bare(**id, token) && token.starts_with('▁'));
        let capital = |c: char| c.to_lowercase().ne([c]);
        let capitals = words().filter(|(token, _)| token.chars().any(capital)).count();
        capitals * 100 <= words().count()
    });
    let model = WordPiece::builder()
        .vocab(pieces)
        .unk_token(vocab.tokens[unknown as usize].clone())
        .continuing_subword_prefix("##".to_owned())
        .max_input_chars_per_word(100);
    let mut tokenizer = tokenizers::Tokenizer::new(model.build()?);
    tokenizer.with_normalizer(Some(BertNormalizer::new(true, true, vocab.strip_accents, lowercase)))?;
    tokenizer.with_pre_tokenizer(Some(BertPreTokenizer));
    tokenizer.with_decoder(Some(WordPieceDecoder::new("##".to_owned(), true)));
    finish(tokenizer, vocab, ids, true, true)
}

/// Calls the tokenizers crate, which panics where a file is inconsistent in ways that it does not check.
fn caught<T>(work: impl FnOnce() -> tokenizers::Result<T>) -> tokenizers::Result<T> {
    std::panic::catch_unwind(std::panic::AssertUnwindSafe(work)).unwrap_or_else(|panic| {
        let text = panic.downcast_ref::<String>().map(String::as_str).or_else(|| panic.downcast_ref::<&str>().copied());
        Err(format!("the tokenizer is damaged: {}", text.unwrap_or("its rules can not be applied")).into())
    })
}

/// SentencePiece Unigram (Kudo 2018): the most probable pieces, behind the file's own normalisation of characters.
fn unigram(vocab: &Vocab, ids: &SpecialIds) -> tokenizers::Result<tokenizers::Tokenizer> {
    let corrupt = |why: &str| -> tokenizers::Error { Error::corrupt(&vocab.file, why).into() };
    let Some(scores) = &vocab.scores else { return Err(corrupt("tokenizer.ggml.scores is missing")) };
    if scores.iter().any(|score| !score.is_finite()) {
        return Err(corrupt("tokenizer.ggml.scores holds NaN or infinity"));
    }
    let Some(unknown) = ids.unknown else { return Err(corrupt("tokenizer.ggml.unknown_token_id is missing")) };
    vocab.index()?;
    // Every id needs a text of its own that is not empty, be it one that nobody writes.
    let text = |(id, token): (u32, &String)| match vocab.kind(id) {
        TokenType::Unused => format!("\0unused {id}"),
        _ => token.clone(),
    };
    let texts = (0..).zip(&vocab.tokens).map(text);
    let pieces = texts.zip(scores).map(|(token, score)| (token, f64::from(*score))).collect();
    let mut tokenizer = tokenizers::Tokenizer::new(Unigram::from(pieces, Some(unknown as usize), false)?);
    let mut normalizers: Vec<NormalizerWrapper> = Vec::new();
    if let Some(table) = vocab.charsmap.as_ref().filter(|table| !table.is_empty()) {
        if !charsmap::is_sound(table) {
            return Err(corrupt("tokenizer.ggml.precompiled_charsmap is damaged"));
        }
        normalizers.push(Precompiled::from(table)?.into());
    }
    let (prefix, trim) = (vocab.add_space_prefix.unwrap_or(true), vocab.remove_extra_spaces.unwrap_or(true));
    let mut steps: Vec<PreTokenizerWrapper> = Vec::new();
    match (trim, prefix) {
        (false, _) => {}
        // As XLM-R's tokenizer.json has it: every word gets the space that it had, or had not.
        (true, true) => steps.push(WhitespaceSplit.into()),
        (true, false) => {
            normalizers.push(Replace::new(ReplacePattern::Regex(r"\s+".to_owned()), " ")?.into());
            normalizers.push(NormalizerStrip::new(true, true).into());
        }
    }
    tokenizer.with_normalizer(Some(Normalizers::new(normalizers)))?;
    let metaspace = Metaspace::new('▁', if prefix { PrependScheme::Always } else { PrependScheme::Never }, true);
    steps.push(metaspace.clone().into());
    tokenizer.with_pre_tokenizer(Some(PreTokenizers::new(steps)));
    tokenizer.with_decoder(Some(metaspace));
    finish(tokenizer, vocab, ids, false, true)
}

/// Added tokens, and the rule for BOS and EOS where the file states none.
fn finish(
    mut tokenizer: tokenizers::Tokenizer,
    vocab: &Vocab,
    ids: &SpecialIds,
    add_bos: bool,
    add_eos: bool,
) -> tokenizers::Result<tokenizers::Tokenizer> {
    let roles = [ids.bos, ids.eos, ids.eot, ids.eom];
    let mut added = Vec::new();
    for (id, token) in (0u32..).zip(&vocab.tokens) {
        let special = match vocab.kind(id) {
            TokenType::Control | TokenType::Unknown => true,
            TokenType::UserDefined => roles.contains(&Some(id)),
            TokenType::Normal if roles.contains(&Some(id)) => true,
            // A file without types does not say which tokens are control tokens; these look the part.
            TokenType::Normal if vocab.types.is_none() && ends_a_turn(token) => true,
            TokenType::Normal | TokenType::Unused | TokenType::Byte => continue,
        };
        let strips = vocab.strip_right && special && !matches!(token.as_str(), "<unk>" | "<s>" | "<|endoftext|>");
        // Runs of spaces are matched behind the normalizer, where spaces and `▁` are one: Gemma's files spell them with spaces.
        let spaces = vocab.add_space_prefix == Some(false) && token.contains(' ');
        // RoBERTa's stands for a word with the space before it.
        let mask = special && token == "<mask>";
        added.push(AddedToken::from(token.clone(), special).normalized(spaces).rstrip(strips).lstrip(mask));
    }
    tokenizer.add_tokens(added)?;

    let bos = ids.bos.filter(|_| vocab.add_bos.unwrap_or(add_bos));
    let eos = ids.eos.filter(|_| vocab.add_eos.unwrap_or(add_eos));
    if bos.is_some() || eos.is_some() {
        let token = |name: &str, id: u32| SpecialToken::new(name.to_owned(), vec![id], vec![vocab.tokens[id as usize].clone()]);
        let mut template = vec!["$A"];
        let mut tokens = Vec::new();
        if let Some(id) = bos {
            template.insert(0, "bos");
            tokens.push(token("bos", id)?);
        }
        if let Some(id) = eos {
            template.push("eos");
            tokens.push(token("eos", id)?);
        }
        let processor = TemplateProcessing::builder().try_single(template)?.special_tokens(tokens).build()?;
        tokenizer.with_post_processor(Some(processor));
    }
    Ok(tokenizer)
}
