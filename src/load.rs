//! From a name to a model: find the files, read what they say, and put the network on a device.
//!
//! A [`Checkpoint`] is a model that has been opened but not loaded: enough for `show`, `tokenize` and `template`, without
//! touching the weights.

use crate::arch;
use crate::bytes::Bytes;
use crate::device::{self, DeviceChoice, Resolved};
use crate::error::{Error, Result};
use crate::kernels::Kernels;
use crate::model::{Forward, Transformer};
use crate::nn::{CacheType, generic::Generic, host::Host};
use crate::options::{GenerateOptions, LoadOptions};
use crate::quant::Dtype;
use crate::sample::SampleOptions;
use crate::spec::Spec;
use crate::text::{ChatTemplate, EndSources, SpecialTokens, TemplateFiles, Tokenizer, end_ids, template_source};
use crate::weights::{Gguf, Hparams, Metadata, Value, Weights, safetensors, vocab};
use serde_json::Value as Json;
use std::path::{Path, PathBuf};

/// The default model's file.
pub(crate) const DEFAULT_FILE: &str = "SmolLM2-135M-Instruct.Q4_1.gguf";
/// Names under which people know it.
const DEFAULT_NAMES: [&str; 3] = ["smollm2", "smollm2:135m", "smollm2:latest"];
/// The default model inside the executable.
#[cfg(feature = "bundled")]
static BUNDLED: &[u8] = include_bytes!("../models/SmolLM2-135M-Instruct.Q4_1.gguf");

/// Where a model's files are.
#[derive(Debug, Clone)]
pub(crate) enum Found {
    /// A GGUF file.
    File(PathBuf),
    /// A folder in Hugging Face layout.
    Folder(PathBuf),
    /// A GGUF file in memory.
    Bytes { bytes: Bytes, name: String },
}

/// Finds a model: a path, a name in the model folders, or the default model.
///
/// The model folders are those of `TALLOW_MODELS`, then `models` beside the executable and above it.
pub(crate) fn locate(name: &str) -> Result<Found> {
    let path = Path::new(name);
    if path.is_dir() {
        return folder(path);
    }
    if path.is_file() {
        return Ok(Found::File(path.to_owned()));
    }
    let is_default = DEFAULT_NAMES.contains(&name);
    let folders = model_folders();
    for dir in &folders {
        let candidates = if is_default { vec![DEFAULT_FILE.to_owned()] } else { vec![format!("{name}.gguf"), name.to_owned()] };
        for candidate in candidates.iter().filter(|candidate| is_plain_name(candidate)) {
            let path = dir.join(candidate);
            if path.is_file() {
                return Ok(Found::File(path));
            }
            if path.is_dir() {
                return folder(&path);
            }
        }
    }
    #[cfg(feature = "bundled")]
    if is_default {
        return Ok(Found::Bytes { bytes: Bytes::from(BUNDLED), name: DEFAULT_FILE.to_owned() });
    }
    let searched: Vec<_> = folders.iter().map(|dir| dir.display().to_string()).collect();
    let searched = if searched.is_empty() { "no model folder exists".to_owned() } else { searched.join(", ") };
    let hint = match is_default {
        true => format!("its file {DEFAULT_FILE} was looked for in: {searched}; set TALLOW_MODELS to the folder that has it"),
        false => format!(
            "give the path of a .gguf file or of a folder with config.json, or a name in a model folder ({searched}); \
             the name tallow knows is smollm2; models of the Hugging Face Hub are not fetched by this version"
        ),
    };
    Err(Error::NotFound { what: name.to_owned(), hint })
}

/// Whether `name` stays inside the folder it is looked for in.
fn is_plain_name(name: &str) -> bool {
    let mut parts = Path::new(name).components();
    matches!((parts.next(), parts.next()), (Some(std::path::Component::Normal(_)), None))
}

/// The folders that models are looked for in, those that exist.
pub fn model_folders() -> Vec<PathBuf> {
    let named = std::env::var_os("TALLOW_MODELS").map(|dirs| std::env::split_paths(&dirs).collect::<Vec<_>>());
    let executable = std::env::current_exe().and_then(std::fs::canonicalize).ok();
    let above = executable.iter().flat_map(|exe| exe.ancestors().skip(1)).map(|dir| dir.join("models"));
    let mut folders: Vec<PathBuf> = named.unwrap_or_default().into_iter().chain(above).collect();
    folders.retain(|dir| dir.is_dir());
    folders
}

/// A folder in Hugging Face layout, or one that holds GGUF files: then `Q4_K_M`, else the first by name.
fn folder(path: &Path) -> Result<Found> {
    if path.join("config.json").is_file() {
        return Ok(Found::Folder(path.to_owned()));
    }
    let entries = std::fs::read_dir(path).map_err(|e| Error::io(path, e))?;
    let mut files: Vec<PathBuf> = entries.filter_map(|entry| Some(entry.ok()?.path())).collect();
    files.retain(|file| file.extension().is_some_and(|e| e.eq_ignore_ascii_case("gguf")));
    files.sort();
    let preferred = files.iter().position(|file| file.to_string_lossy().contains("Q4_K_M")).unwrap_or(0);
    if files.is_empty() {
        let hint = "expected config.json with model.safetensors, or a .gguf file, in this folder".into();
        return Err(Error::NotFound { what: path.display().to_string(), hint });
    }
    Ok(Found::File(files.swap_remove(preferred)))
}

/// What is known about a model beside its numbers.
#[derive(Debug, Clone)]
pub struct ModelInfo {
    /// Name for people: the file's or folder's.
    pub name: String,
    /// `gguf` or `safetensors`.
    pub format: &'static str,
    /// The element type that most weights have.
    pub quantisation: Dtype,
    /// Number of parameters.
    pub parameters: u64,
    /// Bytes of all tensors.
    pub bytes: u64,
    /// Tensors: name, type, shape (outermost first).
    pub tensors: Vec<(String, Dtype, Vec<usize>)>,
    /// The file's metadata, shortened for display.
    pub metadata: Vec<(String, String)>,
    /// The licence's name or text, if stated.
    pub license: Option<String>,
    /// The chat template's source, if there is one.
    pub template: Option<String>,
    /// Bytes of key/value cache for one position.
    pub cache_bytes_per_token: u64,
    /// Device in use; `Auto` before loading.
    pub device: DeviceChoice,
    /// Threads in use; 0 before loading and on other devices.
    pub threads: usize,
    /// The kernel set in use, empty before loading and on other devices.
    pub kernels: &'static str,
    /// The cache's element type.
    pub cache_type: CacheType,
}

/// A model that is opened, but not loaded.
pub struct Checkpoint {
    spec: Spec,
    weights: Weights,
    tokenizer: Tokenizer,
    tokens: SpecialTokens,
    template: Option<ChatTemplate>,
    end_ids: Vec<u32>,
    defaults: GenerateOptions,
    info: ModelInfo,
}

impl Checkpoint {
    /// Opens a model by the same names as [`Model::load`](crate::Model::load).
    pub fn open(name: &str) -> Result<Checkpoint> {
        Checkpoint::from_found(locate(name)?)
    }

    pub(crate) fn from_found(found: Found) -> Result<Checkpoint> {
        match found {
            Found::File(path) => Checkpoint::gguf(Gguf::open(&path)?),
            Found::Bytes { bytes, name } => Checkpoint::gguf(Gguf::from_bytes(bytes, &name)?),
            Found::Folder(path) => Checkpoint::folder(&path),
        }
    }

    /// What distinguishes the network.
    pub fn spec(&self) -> &Spec {
        &self.spec
    }

    /// What is known about it.
    pub fn info(&self) -> &ModelInfo {
        &self.info
    }

    /// The tokenizer.
    pub fn tokenizer(&self) -> &Tokenizer {
        &self.tokenizer
    }

    /// The chat template.
    pub fn template(&self) -> Option<&ChatTemplate> {
        self.template.as_ref()
    }

    /// Every token that ends a turn.
    pub fn end_ids(&self) -> &[u32] {
        &self.end_ids
    }

    /// The generation options the model was published with.
    pub fn defaults(&self) -> &GenerateOptions {
        &self.defaults
    }

    fn gguf(gguf: Gguf) -> Result<Checkpoint> {
        let Gguf { mut metadata, weights } = gguf;
        let key = "general.architecture";
        let name = metadata.string(key)?.ok_or_else(|| metadata.missing(key))?.to_owned();
        let family = arch::family(&name, &format!("{}: key {key}", metadata.file()))?;
        let spec = checked((family.spec)(&Hparams::from_gguf(&metadata, &name, &weights))?, &weights, metadata.file())?;
        let sampling = gguf_sampling(&metadata)?;
        let template = metadata.string("tokenizer.chat_template")?.map(str::to_owned);
        let license = metadata.string("general.license")?.map(str::to_owned);
        let shown = metadata.iter().map(|(key, value)| (key.to_owned(), shown(value))).collect();
        let info = info(file_name(metadata.file()), "gguf", &spec, &weights, shown, license, template);
        let tokenizer = Tokenizer::from_vocab(vocab(&mut metadata)?)?;
        let tokens = tokenizer.special_tokens();
        let end_ids = end_ids(&tokenizer, &EndSources::default());
        Checkpoint::finish(spec, weights, tokenizer, tokens, end_ids, sampling, info)
    }

    fn folder(path: &Path) -> Result<Checkpoint> {
        let file = path.join("config.json").display().to_string();
        let config = json(path, "config.json")?.ok_or_else(|| Error::corrupt(path.display(), "config.json is missing"))?;
        let name = config.get("model_type").and_then(Json::as_str).unwrap_or_default();
        if name.is_empty() {
            return Err(Error::corrupt(&file, "key model_type is missing"));
        }
        let family = arch::family(name, &format!("{file}: key model_type"))?;
        let weights = safetensors::open(path)?.renamed(family.names)?;
        let spec = checked((family.spec)(&Hparams::from_config(&file, &config, &weights))?, &weights, &file)?;

        let tokenizer_file = path.join("tokenizer.json");
        let bytes = read(path, "tokenizer.json")?.ok_or_else(|| {
            Error::unsupported(format!("{}: a model without tokenizer.json", path.display()), "folders that have one")
        })?;
        let tokenizer_config = text_file(path, "tokenizer_config.json")?;
        let tokens_map = text_file(path, "special_tokens_map.json")?;
        let tokens = SpecialTokens::from_json(tokenizer_config.as_deref(), tokens_map.as_deref())?;
        let tokenizer = Tokenizer::from_json(&bytes, &tokenizer_file.display().to_string())?.with_special_tokens(&tokens);
        let template = template_source(&TemplateFiles {
            jinja: text_file(path, "chat_template.jinja")?.as_deref(),
            json: text_file(path, "chat_template.json")?.as_deref(),
            tokenizer_config: tokenizer_config.as_deref(),
            gguf: None,
        })?;
        let generation = json(path, "generation_config.json")?;
        let ends = |config: &Json| ids(config.get("eos_token_id")).filter(|ids| !ids.is_empty());
        let (generation_config, config_ids) = (generation.as_ref().and_then(ends), ends(&config));
        let sources =
            EndSources { generation_config: generation_config.as_deref(), config: config_ids.as_deref(), turn_end: None };
        let end_ids = end_ids(&tokenizer, &sources);
        let mut sampling = SampleOptions::default();
        if let Some(generation) = &generation {
            let number = |key: &str| generation.get(key).and_then(Json::as_f64);
            set(&mut sampling.temperature, number("temperature"));
            set(&mut sampling.top_p, number("top_p"));
            set(&mut sampling.min_p, number("min_p"));
            set(&mut sampling.repeat_penalty, number("repetition_penalty"));
            sampling.top_k = number("top_k").map_or(sampling.top_k, |k| k.max(0.0) as usize);
        }
        let metadata = config.as_object().into_iter().flatten().map(|(k, v)| (k.clone(), v.to_string())).collect();
        let license = license(path)?;
        let name = path.canonicalize().unwrap_or_else(|_| path.to_owned());
        let info = info(file_name(&name.display().to_string()), "safetensors", &spec, &weights, metadata, license, template);
        Checkpoint::finish(spec, weights, tokenizer, tokens, end_ids, sampling, info)
    }

    fn finish(
        spec: Spec,
        weights: Weights,
        tokenizer: Tokenizer,
        tokens: SpecialTokens,
        end_ids: Vec<u32>,
        sampling: SampleOptions,
        info: ModelInfo,
    ) -> Result<Checkpoint> {
        let template = match &info.template {
            Some(source) => Some(ChatTemplate::new(source, &tokens)?),
            None => None,
        };
        let sampling = sampling.validate().map(|()| sampling).unwrap_or_else(|e| {
            log::warn!("{}: the file's sampling defaults are not used: {e}", info.name);
            SampleOptions::default()
        });
        let defaults = GenerateOptions { sampling, ..GenerateOptions::default() };
        Ok(Checkpoint { spec, weights, tokenizer, tokens, template, end_ids, defaults, info })
    }

    /// Puts the network on a device.
    pub(crate) fn load(mut self, options: &LoadOptions) -> Result<Loaded> {
        if let Some(source) = &options.chat_template {
            self.template = Some(ChatTemplate::new(source, &self.tokens)?);
        }
        let (choice, device) = options.device.resolve()?;
        let cache_type = match options.cache_type {
            CacheType::Auto if self.info.quantisation.is_quantised() => CacheType::F16,
            CacheType::Auto => CacheType::F32,
            chosen => chosen,
        };
        let per_token = self.cache_bytes(cache_type);
        let context = self.context(options.context, per_token, matches!(device, Resolved::Host))?;
        self.info.device = choice;
        self.info.cache_type = cache_type;
        self.info.cache_bytes_per_token = per_token;
        let network: Box<dyn Forward> = match device {
            Resolved::Host => {
                let kernels = Kernels::get()?;
                let threads = options.threads.unwrap_or_else(device::default_threads);
                if threads == 0 || threads > 1024 {
                    return Err(Error::Input(format!("{threads} threads: expected 1 to 1024")));
                }
                (self.info.threads, self.info.kernels) = (threads, kernels.name());
                Box::new(Transformer::load(Host::new(kernels, threads), self.spec, self.weights, cache_type)?)
            }
            Resolved::Generic(device) => {
                Box::new(Transformer::load(Generic::new(device), self.spec, self.weights, cache_type)?)
            }
        };
        Ok(Loaded {
            network,
            tokenizer: self.tokenizer,
            template: self.template,
            end_ids: self.end_ids,
            defaults: self.defaults,
            context,
            info: self.info,
        })
    }

    fn cache_bytes(&self, cache_type: CacheType) -> u64 {
        let attention = &self.spec.attention;
        (2 * self.spec.layers * attention.kv_heads * attention.head_dim * cache_type.bytes()) as u64
    }

    /// Positions a session may hold: what is asked for, else the model's own, less where memory does not allow it.
    fn context(&self, wanted: Option<usize>, per_token: u64, host: bool) -> Result<usize> {
        let limit = wanted.unwrap_or(self.spec.context).max(2);
        if let (Some(wanted), crate::spec::Position::Learned) = (wanted, &self.spec.position)
            && wanted > self.spec.context
        {
            let limit = self.spec.context;
            return Err(Error::ContextOverflow { wanted, limit });
        }
        let Some(have) = device::available_memory().filter(|_| host) else { return Ok(limit) };
        // Quantised weights are repacked into memory of our own; float weights stay in the mapped file's pages.
        let own = self.info.tensors.iter().filter(|t| t.1.is_quantised());
        let weights: u64 = own.filter_map(|(_, dtype, shape)| dtype.bytes(shape.iter().product())).map(|b| b as u64).sum();
        let least = wanted.unwrap_or(512.min(limit)) as u64;
        let need = weights + least * per_token;
        if need > have {
            return Err(Error::OutOfMemory { what: format!("{} with a context of {least}", self.info.name), need, have });
        }
        let fits = ((have - weights) / per_token.max(1)).min(limit as u64) as usize;
        if fits < limit {
            log::warn!("the context is limited to {fits} of {limit} positions: more do not fit in memory");
        }
        Ok(fits)
    }
}

/// A model that is loaded: what every clone of a handle shares.
pub(crate) struct Loaded {
    pub network: Box<dyn Forward>,
    pub tokenizer: Tokenizer,
    pub template: Option<ChatTemplate>,
    pub end_ids: Vec<u32>,
    pub defaults: GenerateOptions,
    pub context: usize,
    pub info: ModelInfo,
}

/// Opens and loads.
pub(crate) fn load(found: Found, options: &LoadOptions) -> Result<Loaded> {
    Checkpoint::from_found(found)?.load(options)
}

/// Checks what holds for every family.
fn checked(spec: Spec, weights: &Weights, file: &str) -> Result<Spec> {
    let wrong = |why: String| Err(Error::corrupt(file, why));
    if spec.layers > weights.len() {
        return wrong(format!("states {} layers, but there are only {} tensors", spec.layers, weights.len()));
    }
    let a = &spec.attention;
    if !a.heads.is_multiple_of(a.kv_heads) {
        return wrong(format!("{} query heads are no multiple of {} key/value heads", a.heads, a.kv_heads));
    }
    if let crate::spec::Position::Rope(rope) = &spec.position {
        if rope.dims % 2 != 0 || rope.dims > a.head_dim {
            return wrong(format!("{} rotary dimensions: expected an even number up to {}", rope.dims, a.head_dim));
        }
        if let crate::spec::RopeScaling::Factors(factors) = &rope.scaling
            && factors.len() != rope.dims / 2
        {
            return wrong(format!("tensor rope_freqs.weight has {} values, expected {}", factors.len(), rope.dims / 2));
        }
    }
    Ok(spec)
}

fn info(
    name: String,
    format: &'static str,
    spec: &Spec,
    weights: &Weights,
    metadata: Vec<(String, String)>,
    license: Option<String>,
    template: Option<String>,
) -> ModelInfo {
    let mut tensors: Vec<_> = weights.stored().map(|t| (t.name.clone(), t.dtype, t.shape.clone())).collect();
    tensors.sort();
    let elements = |shape: &[usize]| shape.iter().product::<usize>() as u64;
    let mut by_type = std::collections::BTreeMap::<Dtype, u64>::new();
    for (_, dtype, shape) in &tensors {
        *by_type.entry(*dtype).or_default() += elements(shape);
    }
    let quantisation = by_type.iter().max_by_key(|(_, n)| **n).map_or(Dtype::F32, |(dtype, _)| *dtype);
    let cache_type = if quantisation.is_quantised() { CacheType::F16 } else { CacheType::F32 };
    let attention = &spec.attention;
    ModelInfo {
        name,
        format,
        quantisation,
        parameters: tensors.iter().map(|t| elements(&t.2)).sum(),
        bytes: weights.stored().map(|t| t.data.len() as u64).sum(),
        tensors,
        metadata,
        license,
        template,
        cache_bytes_per_token: (2 * spec.layers * attention.kv_heads * attention.head_dim * cache_type.bytes()) as u64,
        device: DeviceChoice::Auto,
        threads: 0,
        kernels: "",
        cache_type,
    }
}

/// An id or a list of ids.
fn ids(value: Option<&Json>) -> Option<Vec<u32>> {
    let id = |value: &Json| value.as_u64().and_then(|id| u32::try_from(id).ok());
    match value? {
        Json::Array(list) => Some(list.iter().filter_map(id).collect()),
        one => id(one).map(|id| vec![id]),
    }
}

fn set(option: &mut f32, value: Option<f64>) {
    if let Some(value) = value {
        *option = value as f32;
    }
}

/// The sampling options that llama.cpp writes below `general.sampling`.
fn gguf_sampling(metadata: &Metadata) -> Result<SampleOptions> {
    let number = |key: &str| metadata.f64(&format!("general.sampling.{key}"));
    let mut sampling = SampleOptions::default();
    set(&mut sampling.temperature, number("temp")?);
    set(&mut sampling.top_p, number("top_p")?);
    set(&mut sampling.min_p, number("min_p")?);
    set(&mut sampling.repeat_penalty, number("penalty_repeat")?);
    sampling.top_k = number("top_k")?.map_or(sampling.top_k, |k| k.max(0.0) as usize);
    Ok(sampling)
}

/// A metadata value, long arrays and texts cut.
fn shown(value: &Value) -> String {
    let text = match value {
        Value::U64(n) => n.to_string(),
        Value::I64(n) => n.to_string(),
        Value::F32(x) => x.to_string(),
        Value::F64(x) => x.to_string(),
        Value::Bool(b) => b.to_string(),
        Value::String(s) => s.clone(),
        Value::Array(array) => format!("[{} values]", array.len()),
    };
    match text.char_indices().nth(200) {
        Some((at, _)) => format!("{}...", &text[..at]),
        None => text,
    }
}

fn file_name(path: &str) -> String {
    Path::new(path).file_name().map_or_else(|| path.to_owned(), |name| name.to_string_lossy().into_owned())
}

/// A file of the folder; `None` if there is none.
fn read(folder: &Path, name: &str) -> Result<Option<Vec<u8>>> {
    let path = folder.join(name);
    match std::fs::read(&path) {
        Ok(bytes) => Ok(Some(bytes)),
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => Ok(None),
        Err(e) => Err(Error::io(path, e)),
    }
}

fn text_file(folder: &Path, name: &str) -> Result<Option<String>> {
    let Some(bytes) = read(folder, name)? else { return Ok(None) };
    let text = String::from_utf8(bytes).map_err(|e| Error::corrupt(folder.join(name).display(), e.to_string()))?;
    Ok(Some(text))
}

fn json(folder: &Path, name: &str) -> Result<Option<Json>> {
    let Some(bytes) = read(folder, name)? else { return Ok(None) };
    let value = serde_json::from_slice(&bytes)
        .map_err(|e| Error::corrupt(folder.join(name).display(), format!("is not valid JSON: {e}")))?;
    Ok(Some(value))
}

/// The licence: the name in README.md's front matter, else the text of a LICENSE file.
fn license(folder: &Path) -> Result<Option<String>> {
    if let Some(readme) = text_file(folder, "README.md")?
        && let Some((front, _)) = readme.strip_prefix("---").and_then(|rest| rest.split_once("\n---"))
        && let Some(name) = front.lines().find_map(|line| line.strip_prefix("license:"))
    {
        return Ok(Some(name.trim().to_owned()));
    }
    for name in ["LICENSE", "LICENSE.txt", "LICENSE.md"] {
        if let Some(text) = text_file(folder, name)? {
            return Ok(Some(text));
        }
    }
    Ok(None)
}
