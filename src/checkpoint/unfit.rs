//! Models that can not run here, known by their files: what they are, and what to look for in their
//! place.
//!
//! Without this a folder of quantised weights fails at a tensor that is missing, one with images at
//! a size that is, and a user has to guess.

use super::folder::json;
use crate::error::{Error, Result};
use crate::files::NamedFiles;
use crate::tensors::{Metadata, Weights};
use serde_json::Value as Json;

const FLOATS: &str = "f32, f16 and bf16 safetensors, and GGUF files";

/// Refuses a folder for what its config.json says, before its family is looked up; `file` is that
/// file.
pub(super) fn check_config(config: &Json, file: &str) -> Result<()> {
    let unsupported = |what: String, runs: &str| Err(Error::unsupported(format!("{file}: {what}"), runs));
    let is_object = |key: &&str| config.get(key).is_some_and(Json::is_object);
    let name = config.get("model_type").and_then(Json::as_str).unwrap_or_default();
    let parts = ["vision_config", "audio_config", "text_config", "thinker_config"];
    if let Some(key) = parts.iter().find(|key| is_object(key)) {
        let what = format!("a multimodal model ({name}, which has a {key}), that is, one of images or sounds as well as text,");
        return unsupported(what, "models of text; some are published as a repository of their text part alone, or as GGUF");
    }
    if let Some(quantised) = config.get("quantization_config").filter(|q| q.is_object()) {
        let method = quantised.get("quant_method").and_then(Json::as_str);
        return match (method, quantised.get("group_size").is_some()) {
            (None, true) => unsupported("weights quantised by MLX (quantization_config)".into(), FLOATS),
            (method, _) => {
                let method = method.unwrap_or("unnamed");
                unsupported(format!("weights quantised by the method {method:?}"), FLOATS)
            }
        };
    }
    if is_object(&"quantization") {
        return unsupported("weights quantised by MLX (quantization)".into(), FLOATS);
    }
    if config.get("is_encoder_decoder").and_then(Json::as_bool) == Some(true) {
        return unsupported(format!("an encoder-decoder ({name})"), "decoders, and encoders for vectors");
    }
    Ok(())
}

/// Refuses a folder for what lies beside its weights.
pub(super) fn check_folder(files: &NamedFiles) -> Result<()> {
    let has = |name: &str| files.has(name);
    let unsupported =
        |name: &str, what: &str, runs: &str| Err(Error::unsupported(format!("{}: {what}", files.label(name)), runs));
    let has_weights = has("model.safetensors") || has("model.safetensors.index.json");
    if has("adapter_config.json") && !has_weights {
        let base = json(files, "adapter_config.json").ok().flatten();
        let base = base.as_ref().and_then(|config| config.get("base_model_name_or_path")).and_then(Json::as_str);
        let base = base.map(|base| format!(" for {base}")).unwrap_or_default();
        let what = format!("an adapter{base} (LoRA) without the model that it belongs to,");
        return unsupported("adapter_config.json", &what, "whole models; peft's merge_and_unload makes one of the two");
    }
    // Repositories of 2023 keep the settings of the quantisation here, and config.json says
    // nothing.
    for (name, what) in [
        ("quantize_config.json", "weights quantised by GPTQ"),
        ("quant_config.json", "weights quantised by AWQ"),
        ("hqq_config.json", "weights quantised by HQQ"),
    ] {
        if has(name) {
            return unsupported(name, what, FLOATS);
        }
    }
    Ok(())
}

/// Refuses weights for the names of tensors that only a method of quantisation stores.
pub(super) fn check_tensors(weights: &Weights) -> Result<()> {
    const ENDINGS: [(&str, &str); 11] = [
        (".qweight", "GPTQ or AWQ"),
        (".qzeros", "GPTQ or AWQ"),
        (".g_idx", "GPTQ"),
        (".weight_packed", "compressed-tensors"),
        (".weight_scale", "compressed-tensors or FP8"),
        (".weight_scale_inv", "FP8"),
        (".absmax", "bitsandbytes"),
        (".SCB", "bitsandbytes"),
        (".q_weight", "EXL2"),
        (".trellis", "EXL3"),
        (".W_q", "HQQ"),
    ];
    // MLX keeps `scales` and `biases` beside each `weight`.
    let of_mlx = |name: &str| {
        let stem = name.strip_suffix(".scales")?;
        weights.contains(&format!("{stem}.biases")).then_some("MLX")
    };
    let method = |name: &str| ENDINGS.iter().find(|row| name.ends_with(row.0)).map(|row| row.1).or_else(|| of_mlx(name));
    match weights.names().find_map(|name| Some((name, method(name)?))) {
        None => Ok(()),
        Some((name, method)) => {
            let what = format!("{}: weights quantised by {method} (tensor {name})", weights.file());
            Err(Error::unsupported(what, FLOATS))
        }
    }
}

/// Refuses GGUF files that hold something else than a model.
pub(super) fn check_gguf(metadata: &Metadata) -> Result<()> {
    let kind = metadata.string("general.type")?.unwrap_or("model");
    let architecture = metadata.string("general.architecture")?.unwrap_or_default();
    let what = match (kind, architecture) {
        ("adapter", _) => "an adapter (LoRA) without the model that it belongs to,",
        ("imatrix", _) => "an importance matrix, made for quantising a model,",
        ("mmproj", _) | (_, "clip") => "the part of a multimodal model that reads images or sounds (mmproj)",
        _ => return Ok(()),
    };
    Err(Error::unsupported(format!("{}: {what}", metadata.file()), "GGUF files of whole models"))
}
