//! The tokenizer vocabulary of a GGUF file, from its metadata.

use super::Metadata;
use crate::error::{Error, Result};
use crate::text::Vocab;

/// Takes the vocabulary out of `metadata`: the long lists are moved, not copied.
pub fn vocab(metadata: &mut Metadata) -> Result<Vocab> {
    let key = |name: &str| format!("tokenizer.ggml.{name}");
    let id = |name: &str| Ok::<_, Error>(metadata.u64(&key(name))?.and_then(|id| u32::try_from(id).ok()));
    let flag = |name: &str| metadata.bool(&key(name));
    let string = |name: &str| Ok::<_, Error>(metadata.string(&key(name))?.map(str::to_owned));
    let charsmap = metadata.ints(&key("precompiled_charsmap"))?;
    let types = metadata.ints(&key("token_type"))?;
    let model = string("model")?.ok_or_else(|| metadata.missing(&key("model")))?;
    let pre = string("pre")?.filter(|pre| !pre.is_empty());
    if model == "gpt2" && pre.is_none() {
        let file = metadata.file();
        log::warn!("{file}: key {} is missing: the pre-tokenizer \"default\" is taken, as llama.cpp does", key("pre"));
    }
    let vocab = Vocab {
        strip_right: model == "llama" && metadata.string("general.architecture")? == Some("phi3"),
        file: metadata.file().to_owned(),
        model,
        pre,
        scores: metadata.f32s(&key("scores"))?.map(<[f32]>::to_vec),
        types: types.map(|types| types.into_iter().map(|t| t as i32).collect()),
        bos: id("bos_token_id")?,
        eos: id("eos_token_id")?,
        unknown: id("unknown_token_id")?,
        separator: id("seperator_token_id")?,
        class: id("cls_token_id")?,
        padding: id("padding_token_id")?,
        lowercase: flag("normalizer.lowercase")?,
        strip_accents: flag("normalizer.strip_accents")?,
        charsmap: charsmap.map(|bytes| bytes.into_iter().map(|byte| byte as u8).collect()),
        remove_extra_spaces: flag("remove_extra_whitespaces")?,
        eot: id("eot_token_id")?,
        eom: id("eom_token_id")?,
        add_bos: flag("add_bos_token")?,
        add_eos: flag("add_eos_token")?,
        add_space_prefix: flag("add_space_prefix")?,
        tokens: Vec::new(),
        merges: None,
    };
    let missing = metadata.missing(&key("tokens"));
    let merges = metadata.take_strings(&key("merges"))?;
    let tokens = metadata.take_strings(&key("tokens"))?.ok_or(missing)?;
    Ok(Vocab { tokens, merges, ..vocab })
}
