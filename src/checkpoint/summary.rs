//! What can be said of a model at a summary, whether it runs or not: for lists.

use crate::files::NamedFiles;
use crate::store::local::{LocalModel, Source, quantisation_of};
use crate::tensors::Gguf;
use serde_json::Value as Json;

/// What a list says of a model. What its files do not tell is `None`.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct ModelSummary {
    /// `gguf` or `safetensors`.
    pub format: &'static str,
    /// As its file's name has it, else the type of its first matrix: `Q4_K_M`.
    pub quantisation: Option<String>,
    /// The family, as its files call it, whether tallow can run it or not.
    pub architecture: Option<String>,
    /// Positions it was made for.
    pub context: Option<u64>,
}

/// Reads the headers of a model. Nothing about it is an error: a list shows what it can.
pub fn summary(model: &LocalModel) -> ModelSummary {
    if model.path.is_dir() {
        let files = NamedFiles::on_disk(&model.path).transformer();
        let config = files.read("config.json").ok().flatten();
        let config: Json = config.and_then(|bytes| crate::json::parse(&bytes).ok()).unwrap_or_default();
        let text = |key: &str| config.get(key).and_then(Json::as_str).map(str::to_owned);
        let context = ["max_position_embeddings", "n_positions", "n_ctx"].iter().find_map(|key| config.get(*key)?.as_u64());
        let quantisation = text("dtype").or_else(|| text("torch_dtype")).map(|dtype| match dtype.as_str() {
            "bfloat16" => "BF16".to_owned(),
            "float16" => "F16".to_owned(),
            "float32" => "F32".to_owned(),
            _ => dtype,
        });
        return ModelSummary { format: "safetensors", quantisation, architecture: text("model_type"), context };
    }
    let name = model.path.file_name().unwrap_or_default().to_string_lossy();
    let named = quantisation_of(&name).map(str::to_uppercase);
    let summary = ModelSummary { format: "gguf", quantisation: named, ..ModelSummary::default() };
    if model.source == Source::Bundled {
        return summary;
    }
    let Ok(Gguf { metadata, weights }) = Gguf::open(&model.path) else { return summary };
    let architecture = metadata.string("general.architecture").ok().flatten().map(str::to_owned);
    let context = architecture.as_ref().and_then(|name| metadata.u64(&format!("{name}.context_length")).ok().flatten());
    let quantisation = || weights.forms().find(|(_, form)| form.shape.len() > 1).map(|(_, form)| form.dtype.to_string());
    ModelSummary { quantisation: summary.quantisation.or_else(quantisation), architecture, context, ..summary }
}
