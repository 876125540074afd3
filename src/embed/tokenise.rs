//! Texts to tokens, on several threads: for short texts this takes a good share of the time.

use super::recipe::{EmbedModel, Recipe, Truncated};
use crate::error::{Error, Result};
use std::borrow::Cow;
use std::sync::atomic::{AtomicUsize, Ordering};

/// The most texts that a thread takes at a time.
const GRAIN: usize = 32;
/// Bytes below which it is not worth starting threads.
const FEW_BYTES: usize = 8 << 10;
/// Characters of a text that a message shows.
const SHOWN: usize = 40;

/// The tokens of `texts`, cut to the limit; the first of them is the call's text number `first`.
pub(super) fn tokenised<S: AsRef<str>>(
    model: &EmbedModel,
    recipe: &Recipe,
    texts: &[S],
    first: usize,
    truncated: &mut Vec<Truncated>,
) -> Result<Vec<Vec<u32>>> {
    let texts: Vec<&str> = texts.iter().map(AsRef::as_ref).collect();
    let mut all = Vec::with_capacity(texts.len());
    for (i, encoded) in encoded(model, recipe, &texts).into_iter().enumerate() {
        let (ids, tokens) = encoded?;
        if tokens > recipe.limit {
            if !recipe.options.truncate {
                let (index, text) = (first + i, beginning(texts[i]));
                return Err(Error::TextTooLong { index, text, tokens, limit: recipe.limit });
            }
            truncated.push(Truncated { index: first + i, tokens });
        }
        all.push(ids);
    }
    Ok(all)
}

/// The tokens of each text, and how many it would have uncut.
fn encoded(model: &EmbedModel, recipe: &Recipe, texts: &[&str]) -> Vec<Result<(Vec<u32>, usize)>> {
    let encode = |text: &&str| encode_one(model, recipe, text);
    let bytes: usize = texts.iter().map(|text| text.len()).sum();
    let threads = model.threads.min(texts.len());
    if threads < 2 || bytes < FEW_BYTES {
        return texts.iter().map(encode).collect();
    }
    let grain = (texts.len() / (4 * threads)).clamp(1, GRAIN);
    let next = AtomicUsize::new(0);
    let work = || {
        let mut mine = Vec::new();
        loop {
            let at = next.fetch_add(grain, Ordering::Relaxed);
            let Some(chunk) = texts.get(at..).filter(|chunk| !chunk.is_empty()) else { return mine };
            mine.push((at, chunk.iter().take(grain).map(encode).collect::<Vec<_>>()));
        }
    };
    let mut parts = std::thread::scope(|scope| {
        let helpers: Vec<_> = (1..threads)
            .map_while(|_| std::thread::Builder::new().name("tallow-tokens".into()).spawn_scoped(scope, work).ok())
            .collect();
        let mut parts = work();
        for helper in helpers {
            // A panic in a helper goes on here.
            parts.extend(helper.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic)));
        }
        parts
    });
    parts.sort_by_key(|(at, _)| *at);
    parts.into_iter().flat_map(|(_, part)| part).collect()
}

fn encode_one(model: &EmbedModel, recipe: &Recipe, text: &str) -> Result<(Vec<u32>, usize)> {
    let mut text = Cow::Borrowed(text);
    if !recipe.prompt.is_empty() {
        text = Cow::Owned(format!("{}{text}", recipe.prompt));
    }
    model.loaded.tokenizer.encode_within(&text, recipe.limit, recipe.options.plain)
}

fn beginning(text: &str) -> String {
    match text.char_indices().nth(SHOWN) {
        Some((at, _)) => format!("{}...", &text[..at]),
        None => text.to_owned(),
    }
}
