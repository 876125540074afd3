//! The generation options a model was published with, over tallow's own.
//!
//! Of what transformers reads from generation_config.json, what can be done here is done, and the
//! rest is a warning that names the key. Left out of both are limits on the whole length
//! (`max_length`), which are the context's, and whatever does not change the text: caches,
//! compilation, what is returned beside it, the settings of speculative decoding.

use crate::error::{Error, Result};
use crate::options::GenerateOptions;
use crate::sample::SampleOptions;
use crate::tensors::Metadata;
use serde_json::Value as Json;

/// The options that llama.cpp writes below `general.sampling`, and the tokens that a file forbids,
/// of `vocab` tokens.
pub(super) fn of_gguf(metadata: &Metadata, vocab: usize) -> Result<GenerateOptions> {
    let number = |key: &str| metadata.f64(&format!("general.sampling.{key}"));
    let mut sampling = SampleOptions::default();
    set(&mut sampling.temperature, number("temp")?);
    set(&mut sampling.top_p, number("top_p")?);
    set(&mut sampling.min_p, number("min_p")?);
    set(&mut sampling.repeat_penalty, number("penalty_repeat")?);
    sampling.repeat_last_n = number("penalty_last_n")?.map_or(sampling.repeat_last_n, |n| n as i32);
    sampling.top_k = number("top_k")?.map_or(sampling.top_k, |k| k.max(0.0) as usize);
    let forbidden = metadata.ints("tokenizer.ggml.suppress_tokens")?.unwrap_or_default();
    sampling.logit_bias = forbid(forbidden.into_iter().filter_map(|id| u32::try_from(id).ok()), vocab);
    // A probability of 0 and Mirostat 0 are off; tau, eta, the threshold and the order count only
    // beside them.
    for key in ["xtc_probability", "mirostat"] {
        if let Some(value) = number(key)?.filter(|value| *value != 0.0) {
            log::warn!("{}: key general.sampling.{key} = {value} is not used", metadata.file());
        }
    }
    Ok(GenerateOptions { sampling, ..GenerateOptions::default() })
}

/// Keys of generation_config.json that change the text and that are not used, with the value that
/// changes nothing.
const UNUSED: [(&str, f64); 23] = [
    ("begin_suppress_tokens", 0.0),
    ("constraints", 0.0),
    ("dola_layers", 0.0),
    ("encoder_repetition_penalty", 1.0),
    ("epsilon_cutoff", 0.0),
    ("eta_cutoff", 0.0),
    ("exponential_decay_length_penalty", 0.0),
    ("force_words_ids", 0.0),
    ("forced_bos_token_id", f64::NAN),
    ("forced_decoder_ids", 0.0),
    ("forced_eos_token_id", f64::NAN),
    ("guidance_scale", 1.0),
    ("max_new_tokens", f64::NAN),
    ("max_time", f64::NAN),
    ("min_length", 0.0),
    ("min_new_tokens", 0.0),
    ("no_repeat_ngram_size", 0.0),
    ("num_beam_groups", 1.0),
    ("num_beams", 1.0),
    ("penalty_alpha", 0.0),
    ("token_healing", 0.0),
    ("top_h", f64::NAN),
    ("watermarking_config", f64::NAN),
];

/// The options of generation_config.json, which is called `file` in warnings.
///
/// # Errors
/// [`Error::Corrupt`] for a key of another kind.
pub(super) fn of_config(generation: &Json, file: &str, vocab: usize) -> Result<GenerateOptions> {
    let get = |key: &str| generation.get(key).filter(|value| !value.is_null());
    let number = |key: &str| match get(key) {
        None => Ok(None),
        Some(value) => match value.as_f64() {
            Some(number) => Ok(Some(number)),
            None => Err(Error::corrupt(file, format!("key {key} is {value}, expected a number"))),
        },
    };
    let mut sampling = SampleOptions::default();
    set(&mut sampling.temperature, number("temperature")?);
    set(&mut sampling.top_p, number("top_p")?);
    set(&mut sampling.min_p, number("min_p")?);
    set(&mut sampling.typical_p, number("typical_p")?);
    if let Some(penalty) = number("repetition_penalty")? {
        // transformers penalises what is anywhere in the text.
        (sampling.repeat_penalty, sampling.repeat_last_n) = (penalty as f32, -1);
    }
    sampling.top_k = number("top_k")?.map_or(sampling.top_k, |k| k.max(0.0) as usize);
    if get("do_sample").and_then(Json::as_bool) == Some(false) {
        sampling.temperature = 0.0;
    }
    let ids = |key: &str| get(key).and_then(Json::as_array).into_iter().flatten();
    let id = |value: &Json| value.as_u64().and_then(|id| u32::try_from(id).ok());
    sampling.logit_bias = forbid(ids("suppress_tokens").filter_map(id), vocab);
    // A word of one token is a token with a bias; of several it is a matter of what came before.
    let one = |word: &Json| word.as_array().filter(|word| word.len() == 1).and_then(|word| id(&word[0]));
    sampling.logit_bias.extend(forbid(ids("bad_words_ids").filter_map(one), vocab));
    let biased = ids("sequence_bias").filter_map(|entry| Some((one(entry.get(0)?)?, entry.get(1)?.as_f64()? as f32)));
    sampling.logit_bias.extend(biased.filter(|(id, _)| (*id as usize) < vocab));
    let is_long = |word: Option<&Json>| word.is_some_and(|word| one(word).is_none());
    if ids("bad_words_ids").any(|word| is_long(Some(word))) || ids("sequence_bias").any(|entry| is_long(entry.get(0))) {
        log::warn!("{file}: words of several tokens in bad_words_ids and sequence_bias are not used");
    }
    for (key, off) in UNUSED {
        let Some(value) = get(key) else { continue };
        let is_off = value.as_f64() == Some(off) || *value == Json::Bool(false) || value.as_array().is_some_and(Vec::is_empty);
        if !is_off {
            log::warn!("{file}: key {key} = {value} is not used");
        }
    }
    let stop = match get("stop_strings") {
        Some(Json::String(text)) => vec![text.clone()],
        Some(Json::Array(texts)) => texts.iter().filter_map(|text| text.as_str().map(str::to_owned)).collect(),
        _ => Vec::new(),
    };
    let stop = stop.into_iter().filter(|text| !text.is_empty()).collect();
    Ok(GenerateOptions { sampling, stop, ..GenerateOptions::default() })
}

/// Biases that forbid those tokens that there are.
fn forbid(ids: impl Iterator<Item = u32>, vocab: usize) -> Vec<(u32, f32)> {
    ids.filter(|id| (*id as usize) < vocab).map(|id| (id, f32::NEG_INFINITY)).collect()
}

fn set(option: &mut f32, value: Option<f64>) {
    if let Some(value) = value {
        *option = value as f32;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn read(generation: Json) -> GenerateOptions {
        of_config(&generation, "generation_config.json", 10).unwrap()
    }

    #[test]
    fn what_transformers_would_do_to_the_text_is_done() {
        let greedy = read(json!({"do_sample": false, "temperature": 0.6}));
        assert_eq!(greedy.sampling.temperature, 0.0);
        assert_eq!(read(json!({"do_sample": true, "temperature": 0.6})).sampling.temperature, 0.6);
        let penalty = read(json!({"repetition_penalty": 1.2})).sampling;
        assert_eq!((penalty.repeat_penalty, penalty.repeat_last_n), (1.2, -1));
        let forbidden = f32::NEG_INFINITY;
        let biased = read(json!({
            "suppress_tokens": [1, 99], "bad_words_ids": [[2], [3, 4]], "sequence_bias": [[[5], -1.5], [[6, 7], 2.0]]
        }));
        assert_eq!(biased.sampling.logit_bias, [(1, forbidden), (2, forbidden), (5, -1.5)]);
        assert_eq!(read(json!({"stop_strings": ["END", ""]})).stop, ["END"]);
        assert_eq!(read(json!({"stop_strings": "END"})).stop, ["END"]);
    }

    #[test]
    fn a_key_of_another_kind_is_named() {
        let error = of_config(&json!({"temperature": "hot"}), "generation_config.json", 10).unwrap_err().to_string();
        assert_eq!(error, "generation_config.json: key temperature is \"hot\", expected a number");
    }
}
