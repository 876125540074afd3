//! Puts what `tokenizer_config.json` and its like say over a tokenizer that was made from
//! `tokenizer.json`.

use crate::text::class::Class;
use crate::text::settings::{Added, Cleaning, Settings};
use std::collections::HashMap;
use tokenizers::decoders::sequence::Sequence as Decoders;
use tokenizers::normalizers::{Lowercase, Sequence as Normalizers};
use tokenizers::pre_tokenizers::metaspace::{Metaspace, PrependScheme};
use tokenizers::pre_tokenizers::sequence::Sequence as PreTokenizers;
use tokenizers::{AddedToken, DecoderWrapper, NormalizerWrapper, PreTokenizerWrapper, Result, Tokenizer};

/// Whether bytes are spelt in GPT-2's alphabet.
pub(super) fn is_byte_level(tokenizer: &Tokenizer) -> bool {
    let is_bytes = |step: &PreTokenizerWrapper| matches!(step, PreTokenizerWrapper::ByteLevel(_));
    match tokenizer.get_pre_tokenizer() {
        Some(PreTokenizerWrapper::Sequence(steps)) => steps.as_ref().iter().any(is_bytes),
        Some(step) => is_bytes(step),
        None => false,
    }
}

/// Changes `tokenizer` as `settings` say.
pub(super) fn configure(tokenizer: &mut Tokenizer, settings: &Settings) -> Result<()> {
    if let (Some(cleaning), Some(NormalizerWrapper::BertNormalizer(old))) = (settings.cleaning, tokenizer.get_normalizer()) {
        let mut new = *old;
        let Cleaning { lowercase, strip_accents, chinese } = cleaning;
        (new.lowercase, new.strip_accents, new.handle_chinese_chars) = (lowercase, strip_accents, chinese);
        tokenizer.with_normalizer(Some(new))?;
    }
    if let Some(prefix) = settings.prefix_space {
        prefix_space(tokenizer, prefix, settings.class)?;
    }
    add(tokenizer, settings)?;
    tokenizer.set_encode_special_tokens(settings.split_special);
    Ok(())
}

/// Puts lower-casing in front of the normaliser.
pub(super) fn lowercase(tokenizer: &mut Tokenizer) -> Result<()> {
    let mut steps: Vec<NormalizerWrapper> = vec![Lowercase.into()];
    match tokenizer.get_normalizer().cloned() {
        Some(NormalizerWrapper::Sequence(more)) => steps.extend(more),
        Some(one) => steps.push(one),
        None => {}
    }
    tokenizer.with_normalizer(Some(Normalizers::new(steps)))?;
    Ok(())
}

/// Adds tokens, and changes how those match that are there with other settings.
fn add(tokenizer: &mut Tokenizer, settings: &Settings) -> Result<()> {
    let have: HashMap<String, AddedToken> =
        tokenizer.get_added_tokens_decoder().into_values().map(|token| (token.content.clone(), token)).collect();
    let mut new: Vec<AddedToken> = settings.added.iter().map(token).collect();
    new.retain(|token| have.get(&token.content) != Some(token));
    for special in &settings.special {
        let known = have.contains_key(&special.content) || new.iter().any(|token| token.content == special.content);
        if !known {
            new.push(token(special));
        }
    }
    if !new.is_empty() {
        tokenizer.add_tokens(new)?;
    }
    Ok(())
}

fn token(added: &Added) -> AddedToken {
    AddedToken::from(added.content.clone(), added.special)
        .single_word(added.single_word)
        .lstrip(added.lstrip)
        .rstrip(added.rstrip)
        .normalized(added.normalized)
}

/// Sets whether the first word gets a space before it, where the class of the tokenizer lets the
/// key count.
fn prefix_space(tokenizer: &mut Tokenizer, prefix: bool, class: Class) -> Result<()> {
    match (tokenizer.get_pre_tokenizer().cloned(), class) {
        (Some(PreTokenizerWrapper::ByteLevel(bytes)), _) => {
            tokenizer.with_pre_tokenizer(Some(bytes.add_prefix_space(prefix)));
        }
        (Some(PreTokenizerWrapper::Sequence(steps)), Class::Qwen2) => {
            let step = |step: PreTokenizerWrapper| match step {
                PreTokenizerWrapper::ByteLevel(bytes) => bytes.add_prefix_space(prefix).into(),
                other => other,
            };
            tokenizer.with_pre_tokenizer(Some(PreTokenizers::new(steps.into_iter().map(step).collect())));
        }
        (_, Class::Llama | Class::XlmRoberta) if !prefix => never_prepend(tokenizer)?,
        _ => {}
    }
    Ok(())
}

/// Takes away what puts SentencePiece's space before a text, and what takes it away when decoding.
fn never_prepend(tokenizer: &mut Tokenizer) -> Result<()> {
    let bare = |space: &Metaspace| Metaspace::new(space.get_replacement(), PrependScheme::Never, space.split);
    match tokenizer.get_normalizer().cloned() {
        Some(NormalizerWrapper::Prepend(_)) => {
            tokenizer.with_normalizer(None::<NormalizerWrapper>)?;
        }
        Some(NormalizerWrapper::Sequence(steps)) => {
            let kept = steps.into_iter().filter(|step| !matches!(step, NormalizerWrapper::Prepend(_))).collect();
            tokenizer.with_normalizer(Some(Normalizers::new(kept)))?;
        }
        _ => {}
    }
    let step = |step: PreTokenizerWrapper| match step {
        PreTokenizerWrapper::Metaspace(space) => bare(&space).into(),
        other => other,
    };
    match tokenizer.get_pre_tokenizer().cloned() {
        Some(PreTokenizerWrapper::Sequence(steps)) => {
            tokenizer.with_pre_tokenizer(Some(PreTokenizers::new(steps.into_iter().map(step).collect())));
        }
        Some(other) => {
            tokenizer.with_pre_tokenizer(Some(step(other)));
        }
        None => {}
    }
    match tokenizer.get_decoder().cloned() {
        Some(DecoderWrapper::Metaspace(space)) => {
            tokenizer.with_decoder(Some(bare(&space)));
        }
        Some(DecoderWrapper::Sequence(steps)) => {
            let kept = steps.get_decoders().iter().filter(|step| !matches!(step, DecoderWrapper::Strip(_))).cloned();
            tokenizer.with_decoder(Some(Decoders::new(kept.collect())));
        }
        _ => {}
    }
    Ok(())
}
