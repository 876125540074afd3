//! What a model's files say about making vectors of texts: the layout of sentence-transformers, or a GGUF file's pooling.
//!
//! `modules.json` lists the steps: the transformer, a pooling, dense layers, a normalisation, of which the last has no folder.
//! `sentence_bert_config.json` has the length at which texts are cut, `config_sentence_transformers.json` the prompts. A folder
//! without `modules.json` is pooled by the mean and not normalised, which is what sentence-transformers does with it; a GGUF
//! file says no word about normalising, and its vectors are normalised, as llama.cpp does.
//! Source: sentence-transformers 6, `base/modules` and `sentence_transformer/modules`.

mod limits;
#[cfg(test)]
mod tests;

use super::folder::json;
use super::info::ModelInfo;
use crate::error::{Error, Result};
use crate::files::NamedFiles;
use crate::options::{Pooling, Prompt};
use crate::spec::Activation;
use crate::tensors::safetensors;
use serde_json::Value as Json;
use std::path::Path;

/// The poolings of sentence-transformers, their flags in older files, and ours; `None` for those that tallow lacks.
const POOLINGS: [(&str, &str, Option<Pooling>); 6] = [
    ("pooling_mode_cls_token", "cls", Some(Pooling::Cls)),
    ("pooling_mode_max_tokens", "max", Some(Pooling::Max)),
    ("pooling_mode_mean_tokens", "mean", Some(Pooling::Mean)),
    ("pooling_mode_mean_sqrt_len_tokens", "mean_sqrt_len_tokens", None),
    ("pooling_mode_weightedmean_tokens", "weightedmean", None),
    ("pooling_mode_lasttoken", "lasttoken", Some(Pooling::Last)),
];

/// How a model makes vectors of texts.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub struct EmbedSpec {
    /// How the hidden states of tokens become one vector; else the name of a pooling that tallow lacks.
    pub pooling: Result<Pooling, String>,
    /// Whether the tokens of a prompt are pooled with those of the text.
    pub include_prompt: bool,
    /// Layers between the pooling and the vector.
    pub dense: Vec<DenseLayer>,
    /// Whether vectors are divided by their length.
    pub normalise: bool,
    /// Dimensions that are kept, where the model keeps fewer than it has.
    pub dimensions: Option<usize>,
    /// The prompts: names and texts.
    pub prompts: Vec<(String, String)>,
    /// The prompt that is used where none is named.
    pub default_prompt: Option<String>,
    /// Tokens at which texts are cut, where that is less than the transformer reads.
    pub max_tokens: Option<usize>,
    /// The same for texts with the prompts `query` and `document`, where that differs.
    pub prompt_tokens: Vec<(&'static str, usize)>,
    /// Whether texts are lower-cased before they are tokenised.
    pub lower_case: bool,
    /// How two vectors are compared.
    pub similarity: Similarity,
}

/// How two vectors are compared; larger is nearer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Similarity {
    /// The cosine of their angle.
    Cosine,
    /// Their dot product.
    Dot,
    /// Their distance, negative.
    Euclidean,
    /// The sum of their differences, negative.
    Manhattan,
}

/// A layer behind the pooling: `act(x W^T + b)`.
#[derive(Debug, Clone, PartialEq)]
pub struct DenseLayer {
    /// Width of its input.
    pub inputs: usize,
    /// Width of its output.
    pub outputs: usize,
    /// `(outputs, inputs)`.
    pub weight: Vec<f32>,
    /// One value per output.
    pub bias: Option<Vec<f32>>,
    /// `None`: the identity.
    pub act: Option<Activation>,
}

/// Where the words about vectors are. They are read when somebody asks: a model that only writes may have odd ones.
#[derive(Debug, Clone)]
pub(super) enum Sources {
    Folder(NamedFiles),
    /// A GGUF file, and its `pooling_type`.
    Gguf(String, Option<u64>),
}

impl Sources {
    pub fn read(&self) -> Result<EmbedSpec> {
        match self {
            Sources::Folder(files) => folder(files),
            Sources::Gguf(file, pooling) => gguf(file, *pooling),
        }
    }

    /// What to say of a head that vectors are made without.
    pub fn head(&self, info: &ModelInfo) -> Option<String> {
        let named = match self {
            Sources::Gguf(..) => None,
            Sources::Folder(path) => {
                let config = json(&path.transformer(), "config.json").ok().flatten().unwrap_or_default();
                let classes = config["architectures"].as_array().into_iter().flatten().filter_map(Json::as_str);
                let class = classes.map(str::to_owned).find(|class| HEADED.iter().any(|end| class.ends_with(end)));
                let about = json(path, "config_sentence_transformers.json").ok().flatten().unwrap_or_default();
                class.or_else(|| about["model_type"].as_str().filter(|kind| *kind == "CrossEncoder").map(str::to_owned))
            }
        };
        // The heads of masked language models are no news: nearly every encoder has one.
        let is_head = |name: &str| {
            HEADS.iter().any(|head| name.split('.').any(|part| part == *head))
                || matches!(name, "cls.weight" | "cls.output.weight")
        };
        let tensors = info.tensors.iter().map(|(name, ..)| name.as_str()).filter(|name| is_head(name));
        let tensor = tensors.min();
        if named.is_none() && tensor.is_none() {
            return None;
        }
        let (name, what) = (&info.name, named.as_deref().unwrap_or("a classifier"));
        let tensor = tensor.map(|tensor| format!(" ({tensor})")).unwrap_or_default();
        Some(format!(
            "{name}: the model is {what}; its classification head{tensor} is not used, and vectors are made without it"
        ))
    }
}

/// Ends of the names of classes whose head makes classes, scores or places of texts.
const HEADED: [&str; 4] = ["ForSequenceClassification", "ForTokenClassification", "ForMultipleChoice", "ForQuestionAnswering"];

/// Parts of the names of their tensors.
const HEADS: [&str; 5] = ["classifier", "pre_classifier", "score", "qa_outputs", "classification_head"];

impl EmbedSpec {
    /// For a model whose files say nothing.
    fn plain(normalise: bool) -> EmbedSpec {
        EmbedSpec {
            pooling: Ok(Pooling::Mean),
            include_prompt: true,
            dense: Vec::new(),
            normalise,
            dimensions: None,
            prompts: Vec::new(),
            default_prompt: None,
            max_tokens: None,
            prompt_tokens: Vec::new(),
            lower_case: false,
            similarity: Similarity::Cosine,
        }
    }

    /// Tokens at which texts with this prompt are cut.
    pub(crate) fn limit(&self, prompt: &Prompt) -> Option<usize> {
        let own = |name: &str| self.prompt_tokens.iter().find(|(prompt, _)| *prompt == name).map(|(_, limit)| *limit);
        match prompt {
            Prompt::Named(name) => own(name).or(self.max_tokens),
            Prompt::None | Prompt::Default | Prompt::Text(_) => self.max_tokens,
        }
    }

    /// The model's prompt of this name. Models call that of their documents differently.
    pub fn prompt(&self, name: &str) -> Option<&str> {
        let names: &[&str] = if name == "document" { &["document", "passage", "corpus"] } else { &[name] };
        names.iter().find_map(|name| self.prompts.iter().find(|(key, _)| key == name)).map(|(_, text)| text.as_str())
    }
}

/// llama.cpp's numbers for poolings.
fn gguf(file: &str, pooling: Option<u64>) -> Result<EmbedSpec> {
    let pooling = match pooling {
        None | Some(1) => Pooling::Mean,
        Some(0) => Pooling::None,
        Some(2) => Pooling::Cls,
        Some(3) => Pooling::Last,
        Some(4) => {
            return Err(Error::unsupported(format!("{file}: a model that ranks texts (pooling_type 4)"), "models of vectors"));
        }
        Some(other) => return Err(Error::corrupt(file, format!("key pooling_type is {other}, expected 0 to 4"))),
    };
    Ok(EmbedSpec { pooling: Ok(pooling), ..EmbedSpec::plain(true) })
}

fn folder(files: &NamedFiles) -> Result<EmbedSpec> {
    let mut spec = EmbedSpec::plain(false);
    if let Some(modules) = json(files, "modules.json")? {
        let file = files.label("modules.json");
        let list = modules.as_array().ok_or_else(|| Error::corrupt(&file, "is no list of modules"))?;
        let text = |module: &Json, key: &str| module.get(key).and_then(Json::as_str).unwrap_or_default().to_owned();
        let kinds: Vec<String> = list.iter().map(|module| text(module, "type")).collect();
        for (module, kind) in list.iter().zip(&kinds) {
            step(&mut spec, files, &file, kind, &text(module, "path"))?;
        }
        ordered(&kinds, &file)?;
    }
    limits::read(&mut spec, files)?;
    if let Some(config) = json(files, "config_sentence_transformers.json")? {
        prompts(&mut spec, &config, &files.label("config_sentence_transformers.json"))?;
    }
    Ok(spec)
}

/// The name of a module of sentence-transformers; the whole of it for those of others, which may mean something else by the same word.
fn module(kind: &str) -> &str {
    if kind.starts_with("sentence_transformers.") { kind.rsplit('.').next().unwrap_or(kind) } else { kind }
}

/// The one order that [`EmbedSpec`] can tell: a transformer, a pooling, any dense layers, perhaps a normalisation.
fn ordered(kinds: &[String], file: &str) -> Result<()> {
    const ORDER: [&str; 4] = ["Transformer", "Pooling", "Dense", "Normalize"];
    let steps: Vec<&str> = kinds.iter().map(|kind| module(kind)).filter(|kind| *kind != "Dropout").collect();
    let places: Vec<usize> = steps.iter().filter_map(|kind| ORDER.iter().position(|known| known == kind)).collect();
    let follows = |pair: &[usize]| pair[0] < pair[1] || pair == [2, 2];
    if !places.starts_with(&[0, 1]) || !places.windows(2).all(follows) {
        let expected = "Transformer, Pooling, then Dense layers, then Normalize";
        return Err(Error::unsupported(format!("{file}: the modules {} in this order", steps.join(", ")), expected));
    }
    Ok(())
}

/// One entry of modules.json.
fn step(spec: &mut EmbedSpec, root: &NamedFiles, file: &str, kind: &str, path: &str) -> Result<()> {
    let plain = Path::new(path).components().all(|part| matches!(part, std::path::Component::Normal(_)));
    if !plain {
        return Err(Error::corrupt(file, format!("the path {path:?} leads out of the folder")));
    }
    let folder = root.within(path);
    match module(kind) {
        // Beside modules.json, or in the folder that it names: the checkpoint is opened there.
        "Transformer" => {}
        "Pooling" => pooling(spec, &folder)?,
        "Dense" => spec.dense.push(dense(&folder)?),
        "Normalize" => {
            names_vectors(&folder.label("config.json"), &json(&folder, "config.json")?.unwrap_or_default())?;
            spec.normalise = true;
        }
        "Dropout" => {}
        _ => return Err(Error::unsupported(format!("{file}: the module {kind:?}"), "Transformer, Pooling, Dense, Normalize")),
    }
    Ok(())
}

fn pooling(spec: &mut EmbedSpec, folder: &NamedFiles) -> Result<()> {
    let file = folder.label("config.json");
    let config = json(folder, "config.json")?.ok_or_else(|| Error::corrupt(&file, "is missing, and modules.json names it"))?;
    let mut named: Vec<&str> = match config.get("pooling_mode") {
        Some(Json::String(one)) => vec![one],
        Some(Json::Array(several)) => several.iter().filter_map(Json::as_str).collect(),
        _ => {
            let set = |flag: &str| config.get(flag).and_then(Json::as_bool).unwrap_or(false);
            POOLINGS.iter().filter(|row| set(row.0)).map(|row| row.1).collect()
        }
    };
    if named.is_empty() {
        named.push("mean");
    }
    spec.pooling = match named.as_slice() {
        [one] => POOLINGS.iter().find(|row| row.1 == *one).and_then(|row| row.2).ok_or_else(|| format!("{file}: {one}")),
        several => Err(format!("{file}: {}, side by side,", several.join(" and "))),
    };
    spec.include_prompt = config.get("include_prompt").and_then(Json::as_bool).unwrap_or(true);
    Ok(())
}

/// Refuses a module that is about something else than the vectors of texts.
fn names_vectors(file: &str, config: &Json) -> Result<()> {
    for key in ["module_input_name", "module_output_name"] {
        if let Some(other) = config.get(key).and_then(Json::as_str).filter(|name| *name != "sentence_embedding") {
            return Err(Error::unsupported(format!("{file}: {key} {other:?}"), "sentence_embedding"));
        }
    }
    Ok(())
}

fn dense(folder: &NamedFiles) -> Result<DenseLayer> {
    let file = folder.label("config.json");
    let config = json(folder, "config.json")?.ok_or_else(|| Error::corrupt(&file, "is missing, and modules.json names it"))?;
    let size = |key: &str| {
        let size = config.get(key).and_then(Json::as_u64).and_then(|n| usize::try_from(n).ok()).filter(|n| *n > 0);
        size.ok_or_else(|| Error::corrupt(&file, format!("key {key} is no positive number")))
    };
    let (inputs, outputs) = (size("in_features")?, size("out_features")?);
    let flag = |key: &str, default| config.get(key).and_then(Json::as_bool).unwrap_or(default);
    if flag("use_residual", false) {
        return Err(Error::unsupported(format!("{file}: a dense layer with use_residual"), "dense layers without it"));
    }
    names_vectors(&file, &config)?;
    let name = config.get("activation_function").and_then(Json::as_str).unwrap_or("torch.nn.modules.activation.Tanh");
    let act = match name.rsplit('.').next().unwrap_or_default() {
        "Identity" => None,
        "Tanh" => Some(Activation::Tanh),
        "ReLU" => Some(Activation::Relu),
        "GELU" => Some(Activation::Gelu),
        "SiLU" => Some(Activation::Silu),
        "Sigmoid" => Some(Activation::Sigmoid),
        _ => {
            let known = "Identity, Tanh, ReLU, GELU, SiLU, Sigmoid";
            return Err(Error::unsupported(format!("{file}: the activation {name:?}"), known));
        }
    };
    let mut weights = safetensors::open_in(folder)?;
    let weight = weights.take("linear.weight", &[outputs, inputs])?.to_f32();
    let bias = flag("bias", true).then(|| weights.take_vector("linear.bias", outputs)).transpose()?;
    Ok(DenseLayer { inputs, outputs, weight, bias, act })
}

fn prompts(spec: &mut EmbedSpec, config: &Json, file: &str) -> Result<()> {
    let texts = config.get("prompts").and_then(Json::as_object).into_iter().flatten();
    spec.prompts = texts.filter_map(|(name, text)| Some((name.clone(), text.as_str()?.to_owned()))).collect();
    spec.default_prompt = config.get("default_prompt_name").and_then(Json::as_str).map(str::to_owned);
    spec.dimensions = match config.get("truncate_dim").filter(|dim| !dim.is_null()) {
        None => None,
        Some(dim) => match dim.as_u64().and_then(|n| usize::try_from(n).ok()) {
            Some(dim) if dim > 0 => Some(dim),
            _ => return Err(Error::corrupt(file, format!("key truncate_dim: is {dim}, expected a number of dimensions"))),
        },
    };
    spec.similarity = match config.get("similarity_fn_name").and_then(Json::as_str) {
        None | Some("cosine") => Similarity::Cosine,
        Some("dot" | "dot_score") => Similarity::Dot,
        Some("euclidean") => Similarity::Euclidean,
        Some("manhattan") => Similarity::Manhattan,
        Some(other) => {
            let what = format!("{file}: the similarity {other:?}");
            return Err(Error::unsupported(what, "cosine, dot, euclidean, manhattan"));
        }
    };
    Ok(())
}
