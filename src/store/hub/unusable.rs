//! What a repository is that holds no model which runs: by the names of its files, before anything is fetched.

use super::kinds::{is_extra, is_gguf, is_pickle};

/// What a repository is that holds no model which runs, by the names of its files; and what to do.
pub(super) fn unusable(paths: &[&str]) -> Option<(String, &'static str)> {
    const WHOLE: &str = "safetensors with config.json, and GGUF; look for a repository with them (people publish conversions as \
                         NAME-GGUF)";
    let first = |test: &dyn Fn(&str) -> bool| paths.iter().copied().find(|path| test(path));
    let named = |names: &'static [&'static str]| first(&|path| names.contains(&path));
    let ends = |ends: &'static [&'static str]| first(&|path| ends.iter().any(|end| path.ends_with(end)));
    if let Some(file) = named(&["adapter_config.json", "adapter_model.safetensors", "adapter_model.bin"]) {
        return Some((
            format!("it is an adapter ({file}), which changes another model and is none by itself"),
            "whole models; merge it into the model that its adapter_config.json names (peft's merge_and_unload, then \
             save_pretrained)",
        ));
    }
    if let Some(file) = named(&["quantize_config.json", "quant_config.json"]) {
        let what = format!("its weights are quantised by GPTQ or AWQ ({file})");
        return Some((what, "f32, f16 and bf16 safetensors, and GGUF; look for the original model or its GGUF"));
    }
    let is_mlx = |path: &str| path.ends_with(".npz") || path == "mlx_model.safetensors";
    if let Some(file) = first(&is_mlx) {
        return Some((format!("its weights are of MLX ({file})"), WHOLE));
    }
    if let Some(file) = named(&["model_index.json"]) {
        return Some((
            format!("it is a pipeline of several models that makes images or sounds ({file})"),
            "language models and encoders",
        ));
    }
    if let Some(file) = first(&|path| is_gguf(path) && is_extra(path)) {
        let what = format!("its GGUF files are parts beside a model ({file}) and no model");
        return Some((what, "language models and encoders"));
    }
    let kinds: [(&[&str], &str); 6] = [
        (&["consolidated.safetensors", "consolidated.00.pth"], "in Mistral's or Meta's own layout"),
        (&[".onnx"], "of ONNX"),
        (&[".mlmodel", ".mlpackage/Manifest.json"], "of Core ML"),
        (&["openvino_model.xml"], "of OpenVINO"),
        (&[".tflite", ".litertlm", ".task"], "of LiteRT"),
        (&["tf_model.h5", "flax_model.msgpack", "rust_model.ot"], "of TensorFlow, Flax or rust-bert"),
    ];
    let pickles = paths.iter().any(|path| is_pickle(path) && !path.starts_with("consolidated"));
    let (file, kind) = kinds.into_iter().filter(|_| !pickles).find_map(|(names, kind)| Some((ends(names)?, kind)))?;
    Some((format!("its weights are {kind} ({file})"), WHOLE))
}

#[cfg(test)]
mod tests {
    use crate::error::Error;
    use crate::store::hub::pick::choose;
    use crate::store::hub_ref::Pick;

    #[test]
    fn what_can_not_run_says_what_it_is() {
        for (paths, words) in [
            (&["adapter_config.json", "adapter_model.safetensors", "tokenizer.json"][..], "adapter"),
            (&["adapter_config.json", "adapter_model.bin"], "merge_and_unload"),
            (&["config.json", "quantize_config.json", "gptq_model-4bit-128g.safetensors"], "GPTQ or AWQ"),
            (&["config.json", "weights.npz", "tokenizer.model"], "MLX"),
            (&["model_index.json", "unet/diffusion_pytorch_model.safetensors"], "images"),
            (&["mmproj-F16.gguf", "README.md"], "mmproj-F16.gguf"),
            (&["consolidated.safetensors", "params.json", "tekken.json"], "Mistral"),
            (&["config.json", "onnx/model.onnx", "tokenizer.json"], "ONNX"),
            (&["config.json", "tf_model.h5"], "TensorFlow"),
            (&["gemma.litertlm"], "LiteRT"),
            (&["config.json", "pytorch_model.bin", "onnx/model.onnx"], "pickles"),
        ] {
            let error = choose("org/repo", paths, &Pick::Any, &mut |_| Ok(Vec::new())).unwrap_err();
            assert!(matches!(error, Error::Unsupported { .. }), "{error:?}");
            assert!(error.to_string().contains(words), "{words}: {error}");
        }
        // A model that has an adapter beside it is a model.
        let whole = ["config.json", "model.safetensors", "tokenizer.json", "adapter_config.json"];
        assert!(choose("org/repo", &whole, &Pick::Any, &mut |_| Ok(Vec::new())).is_ok());
    }
}
