//! The sampling defaults a model was published with, over tallow's own.

use crate::error::Result;
use crate::sample::SampleOptions;
use crate::tensors::Metadata;
use serde_json::Value as Json;

/// The sampling options that llama.cpp writes below `general.sampling`.
pub(super) fn of_gguf(metadata: &Metadata) -> Result<SampleOptions> {
    let number = |key: &str| metadata.f64(&format!("general.sampling.{key}"));
    let mut sampling = SampleOptions::default();
    set(&mut sampling.temperature, number("temp")?);
    set(&mut sampling.top_p, number("top_p")?);
    set(&mut sampling.min_p, number("min_p")?);
    set(&mut sampling.repeat_penalty, number("penalty_repeat")?);
    sampling.repeat_last_n = number("penalty_last_n")?.map_or(sampling.repeat_last_n, |n| n as i32);
    sampling.top_k = number("top_k")?.map_or(sampling.top_k, |k| k.max(0.0) as usize);
    Ok(sampling)
}

/// The sampling options of generation_config.json.
pub(super) fn of_config(generation: &Json) -> SampleOptions {
    let number = |key: &str| generation.get(key).and_then(Json::as_f64);
    let mut sampling = SampleOptions::default();
    set(&mut sampling.temperature, number("temperature"));
    set(&mut sampling.top_p, number("top_p"));
    set(&mut sampling.min_p, number("min_p"));
    set(&mut sampling.typical_p, number("typical_p"));
    set(&mut sampling.repeat_penalty, number("repetition_penalty"));
    sampling.top_k = number("top_k").map_or(sampling.top_k, |k| k.max(0.0) as usize);
    sampling
}

fn set(option: &mut f32, value: Option<f64>) {
    if let Some(value) = value {
        *option = value as f32;
    }
}
