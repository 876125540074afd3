//! A tokenizer put together from a GGUF file's vocabulary: byte-level BPE behind the pre-tokenizer
//! that the file names, SentencePiece BPE with merges made from scores, SentencePiece Unigram, or
//! BERT's WordPiece. BOS and EOS rules become a post-processor.

use crate::text::special::ends_a_turn;
use crate::text::vocab::{SpecialIds, TokenType, Vocab};
use crate::text::{charsmap, pre, scores};
use crate::{Error, Result};
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
use tokenizers::{AddedToken, NormalizerWrapper, PreTokenizerWrapper, SplitDelimiterBehavior};

/// The tokenizer of a vocabulary whose roles are `ids`.
pub(super) fn build(vocab: &Vocab, ids: &SpecialIds) -> tokenizers::Result<tokenizers::Tokenizer> {
    match vocab.model.as_str() {
        "gpt2" => byte_level(vocab, ids),
        "llama" => sentence_piece(vocab, ids),
        "bert" => word_piece(vocab, ids),
        "t5" => unigram(vocab, ids),
        other => {
            let what = format!("{}: the tokenizer {other:?} (tokenizer.ggml.model)", vocab.file);
            Err(Error::unsupported(what, "gpt2, llama, bert, t5").into())
        }
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

/// The two halves of a merge. The space that parts them is not the first character: a piece may
/// begin with one.
fn pair(merge: &str) -> Option<(String, String)> {
    let (at, _) = merge.char_indices().skip(1).find(|&(_, c)| c == ' ')?;
    Some((merge[..at].to_owned(), merge[at + 1..].to_owned()))
}

/// SentencePiece BPE: spaces become `▁`, one is put in front of each stretch of text, and bytes
/// stand in for what no piece covers.
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

/// BERT's WordPiece (Wu et al. 2016; Devlin et al. 2018): the longest pieces from the left. A file
/// marks the beginning of a word with `▁`, where `vocab.txt` marks its continuation with `##`, and
/// leaves control tokens bare; the oldest leave everything in brackets bare. A file seldom says
/// whether it keeps capitals: one with more than a few capitalised words does.
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

/// SentencePiece Unigram (Kudo 2018): the most probable pieces, behind the file's own normalisation
/// of characters.
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
            // A file without types does not say which tokens are control tokens; these look the
            // part.
            TokenType::Normal if vocab.types.is_none() && ends_a_turn(token) => true,
            TokenType::Normal | TokenType::Unused | TokenType::Byte => continue,
        };
        let strips = vocab.strip_right && special && !matches!(token.as_str(), "<unk>" | "<s>" | "<|endoftext|>");
        // Runs of spaces are matched behind the normalizer, where spaces and `▁` are one: Gemma's
        // files spell them with spaces.
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
