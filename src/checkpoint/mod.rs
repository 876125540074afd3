//! From a name to a model: find the files, read what they say, and put the network on a device.
//!
//! A [`Checkpoint`] is a model that has been opened but not loaded: enough for `show`, `tokenize` and `template`, without
//! touching the weights.

mod card;
mod cost;
mod ensure;
mod folder;
mod info;
mod sampling;
mod sentence;
mod summary;

use crate::arch;
use crate::backend::{CacheType, candle::Candle, cpu::Cpu};
use crate::cpu::{Kernels, MOST_THREADS, trim_heap};
use crate::device::{self, Resolved};
use crate::error::{Error, Result};
use crate::hparams::Hparams;
use crate::model::{Forward, Transformer};
use crate::options::{GenerateOptions, LoadOptions};
use crate::sample::SampleOptions;
use crate::spec::{Mlp, Position, RopeScaling, Spec};
use crate::store::Located;
use crate::store::local::Found;
use crate::tensors::{Gguf, Weights, safetensors, vocab};
use crate::text::{ChatTemplate, EndSources, SpecialTokens, TemplateFiles, Tokenizer, end_ids, template_source};
use serde_json::Value as Json;
use std::path::Path;

pub use cost::{BeyondWindow, Cost, Remote, cost};
pub use ensure::not_here;
pub(crate) use ensure::ready;
#[cfg(feature = "hub")]
pub use ensure::{Prepared, prepare};
use folder::{additional_templates, ids, json, license, read, text_file};
pub use info::ModelInfo;
pub use sentence::{Dense, EmbedSpec, Similarity};
pub use summary::{ModelSummary, summary};

/// Tokens from which what a tokenizer was made of is tens of megabytes.
const LARGE_VOCABULARY: usize = 100_000;

/// A model that is opened, but not loaded.
pub struct Checkpoint {
    spec: Spec,
    weights: Weights,
    tokenizer: Tokenizer,
    tokens: SpecialTokens,
    template: Template,
    end_ids: Vec<u32>,
    defaults: GenerateOptions,
    info: ModelInfo,
    vectors: sentence::Sources,
}

/// A model's chat template, if it has one: compiled, or why it can not be, which matters only to those who chat.
#[derive(Default)]
pub(crate) struct Template(Option<Result<ChatTemplate, String>>);

/// Why there is no template, without the error's own prefix.
fn reason(error: Error) -> String {
    match error {
        Error::Template(why) => why,
        other => other.to_string(),
    }
}

impl Template {
    fn new(source: Option<&str>, tokens: &SpecialTokens) -> Template {
        Template(source.map(|source| ChatTemplate::new(source, tokens).map_err(reason)))
    }

    /// The compiled template.
    pub fn get(&self) -> Result<Option<&ChatTemplate>> {
        match &self.0 {
            None => Ok(None),
            Some(Ok(template)) => Ok(Some(template)),
            Some(Err(why)) => Err(Error::Template(why.clone())),
        }
    }
}

impl Checkpoint {
    /// Opens a model by the same names as [`Model::load`](crate::Model::load), which is fetched if it is not here.
    /// [`find`] tells beforehand.
    pub fn open(name: &str) -> Result<Checkpoint> {
        Checkpoint::at(ready(name, false)?)
    }

    /// Opens a model that has been found.
    pub fn at(located: impl Into<Located>) -> Result<Checkpoint> {
        let Located { found, name } = located.into();
        let folder = match &found {
            Found::File(path) => path.parent().map(Path::to_owned),
            Found::Folder(path) => Some(path.clone()),
            Found::Bytes { .. } => None,
        };
        let mut checkpoint = match found {
            Found::File(path) => Checkpoint::gguf(Gguf::open(&path)?),
            Found::Bytes { bytes, name } => Checkpoint::gguf(Gguf::from_bytes(bytes, &name)?),
            Found::Folder(path) => Checkpoint::folder(&path),
        }?;
        if let Some(name) = name {
            checkpoint.info.name = name;
        }
        if let Some(card) = folder.and_then(|folder| card::read(&folder)) {
            let info = &mut checkpoint.info;
            // The authors' word comes before the converter's.
            info.license = card.license.or(info.license.take());
            info.intended_use = card.intended_use;
        }
        Ok(checkpoint)
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

    /// The chat template, if there is one.
    ///
    /// # Errors
    /// [`Error::Template`] if it does not compile.
    pub fn template(&self) -> Result<Option<&ChatTemplate>> {
        self.template.get()
    }

    /// Every token that ends a turn.
    pub fn end_ids(&self) -> &[u32] {
        &self.end_ids
    }

    /// The generation options the model was published with.
    pub fn defaults(&self) -> &GenerateOptions {
        &self.defaults
    }

    /// How it makes vectors of texts.
    ///
    /// # Errors
    /// [`Error::Unsupported`] and [`Error::Corrupt`] for a layout that can not be followed.
    pub fn embed_spec(&self) -> Result<EmbedSpec> {
        self.vectors.read()
    }

    /// What it takes to run it.
    pub fn cost(&self) -> Cost {
        Cost::new(&self.spec, &self.info)
    }

    /// The same, with a cache of this type in what [`Checkpoint::info`] and [`Checkpoint::cost`] tell; [`CacheType::Auto`] leaves
    /// them as they are. What a model is loaded with is a matter of [`LoadOptions`].
    pub fn with_cache(mut self, cache_type: CacheType) -> Checkpoint {
        if cache_type != CacheType::Auto {
            self.info.cache_type = cache_type;
            self.info.cache_bytes_per_token = info::cache_bytes(&self.spec, cache_type, 1);
        }
        self
    }

    fn gguf(gguf: Gguf) -> Result<Checkpoint> {
        let (spec, mut info) = gguf_outline(&gguf)?;
        let Gguf { mut metadata, weights } = gguf;
        let sampling = sampling::of_gguf(&metadata)?;
        let arch = metadata.string("general.architecture")?.unwrap_or_default();
        let pooling = metadata.u64(&format!("{arch}.pooling_type"))?;
        let vectors = sentence::Sources::Gguf(metadata.file().to_owned(), pooling);
        let template = metadata.string("tokenizer.chat_template")?;
        info.template = template_source(&TemplateFiles { gguf: template, ..TemplateFiles::default() })?;
        info.license = metadata.string("general.license")?.map(str::to_owned);
        info.metadata = metadata.iter().map(|(key, value)| (key.to_owned(), info::shown(value))).collect();
        let tokenizer = Tokenizer::from_vocab(vocab(&mut metadata)?)?;
        let tokens = tokenizer.special_tokens();
        let end_ids = end_ids(&tokenizer, &EndSources::default());
        drop(metadata);
        Checkpoint::finish(spec, weights, (tokenizer, tokens), end_ids, sampling, info, vectors)
    }

    fn folder(path: &Path) -> Result<Checkpoint> {
        let Outline { config, weights, spec, mut info } = safetensors_outline(path)?;
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
            additional: &additional_templates(path)?,
            json: text_file(path, "chat_template.json")?.as_deref(),
            tokenizer_config: tokenizer_config.as_deref(),
            gguf: None,
        });
        let generation = json(path, "generation_config.json")?;
        let ends = |config: &Json| ids(config.get("eos_token_id")).filter(|ids| !ids.is_empty());
        let (generation_config, config_ids) = (generation.as_ref().and_then(ends), ends(&config));
        let sources =
            EndSources { generation_config: generation_config.as_deref(), config: config_ids.as_deref(), turn_end: None };
        let end_ids = end_ids(&tokenizer, &sources);
        let sampling = generation.as_ref().map(sampling::of_config).unwrap_or_default();
        info.template = template.as_ref().ok().cloned().flatten();
        info.license = license(path);
        info.metadata = config.as_object().into_iter().flatten().map(|(k, v)| (k.clone(), v.to_string())).collect();
        let vectors = sentence::Sources::Folder(path.to_owned());
        let mut checkpoint = Checkpoint::finish(spec, weights, (tokenizer, tokens), end_ids, sampling, info, vectors)?;
        if let Err(why) = template {
            // Which template counts matters only to those who chat.
            checkpoint.template = Template(Some(Err(reason(why))));
        }
        Ok(checkpoint)
    }

    fn finish(
        spec: Spec,
        weights: Weights,
        (tokenizer, tokens): (Tokenizer, SpecialTokens),
        end_ids: Vec<u32>,
        sampling: SampleOptions,
        info: ModelInfo,
        vectors: sentence::Sources,
    ) -> Result<Checkpoint> {
        let template = Template::new(info.template.as_deref(), &tokens);
        let sampling = sampling.validate().map(|()| sampling).unwrap_or_else(|e| {
            log::warn!("{}: the file's sampling defaults are not used: {e}", info.name);
            SampleOptions::default()
        });
        let defaults = GenerateOptions { sampling, ..GenerateOptions::default() };
        if tokenizer.vocab_size() >= LARGE_VOCABULARY {
            trim_heap();
        }
        Ok(Checkpoint { spec, weights, tokenizer, tokens, template, end_ids, defaults, info, vectors })
    }

    /// Puts the network on a device.
    pub(crate) fn load(mut self, options: &LoadOptions) -> Result<Loaded> {
        if let Some(source) = &options.chat_template {
            self.template = Template::new(Some(source), &self.tokens);
            self.template.get()?;
        }
        let (choice, device) = options.device.resolve()?;
        if let Some(dtype) = options.quantise {
            let count = self.weights.requantise(dtype)?;
            match count {
                0 => log::warn!("{}: no matrix was made {dtype}: there is none of floats in whole blocks", self.info.name),
                _ => log::info!("{}: {count} matrices were made {dtype}", self.info.name),
            }
            self.info.count(&self.weights);
        }
        let cache_type = match options.cache_type {
            narrow @ (CacheType::F16 | CacheType::Q8_0) if matches!(device, Resolved::Candle(_)) => {
                let what = format!("a cache of {narrow} on the device {choice}");
                return Err(Error::unsupported(what, "f32 there, f16 and q8_0 on cpu"));
            }
            CacheType::Auto if matches!(device, Resolved::Candle(_)) => CacheType::F32,
            CacheType::Auto if self.info.quantisation.is_quantised() => CacheType::F16,
            CacheType::Auto => CacheType::F32,
            chosen => chosen,
        };
        let per_token = info::cache_bytes(&self.spec, cache_type, 1);
        let context = self.context(options.context, cache_type, matches!(device, Resolved::Cpu))?;
        self.info.device = choice;
        self.info.cache_type = cache_type;
        self.info.cache_bytes_per_token = per_token;
        let network: Box<dyn Forward> = match device {
            Resolved::Cpu => {
                let kernels = Kernels::get()?;
                let threads = options.threads.unwrap_or_else(device::default_threads);
                if !(1..=MOST_THREADS).contains(&threads) {
                    return Err(Error::Input(format!("{threads} threads: expected 1 to {MOST_THREADS}")));
                }
                (self.info.threads, self.info.kernels) = (threads, kernels.name());
                Box::new(Transformer::load(Cpu::new(kernels, threads), self.spec, self.weights, cache_type)?)
            }
            Resolved::Candle(device) => {
                if options.threads.is_some() {
                    log::warn!(
                        "the number of threads counts only on the device cpu; {choice} follows candle (RAYON_NUM_THREADS)"
                    );
                }
                Box::new(Transformer::load(Candle::new(device), self.spec, self.weights, cache_type)?)
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

    /// Positions a session may hold: what is asked for, else the model's own, less where memory does not allow it.
    fn context(&self, wanted: Option<usize>, cache_type: CacheType, host: bool) -> Result<usize> {
        let limit = wanted.unwrap_or(self.spec.context);
        if limit < 2 {
            return Err(Error::Input(format!("a context of {limit}: expected 2 or more positions")));
        }
        if let (Some(wanted), Position::Learned { .. }) = (wanted, &self.spec.position)
            && wanted > self.spec.context
        {
            let most = self.spec.context;
            return Err(Error::Input(format!("a context of {wanted}: this model has learned positions for {most}")));
        }
        if limit > self.spec.context {
            let made_for = self.spec.context;
            log::warn!("a context of {limit}: the model was made for {made_for} positions, and gets worse beyond them");
        }
        let Some(have) = device::available_memory().filter(|_| host) else { return Ok(limit) };
        // Quantised weights are repacked into memory of our own; float weights stay in the mapped file's pages.
        let own = self.info.tensors.iter().filter(|t| t.1.is_quantised());
        let weights: u64 = own.filter_map(|(_, dtype, shape)| dtype.bytes(shape.iter().product())).map(|b| b as u64).sum();
        let least = wanted.unwrap_or(512.min(limit));
        let need = |positions: usize| weights.saturating_add(info::cache_bytes(&self.spec, cache_type, positions));
        if need(least) > have {
            let what = format!("{} with a context of {least}", self.info.name);
            return Err(Error::OutOfMemory { what, need: need(least), have });
        }
        // The most positions that fit, found by halving: layers with a window stop growing.
        let (mut fits, mut beyond) = (least.min(limit), limit.saturating_add(1));
        while beyond - fits > 1 {
            let middle = fits + (beyond - fits) / 2;
            *(if need(middle) <= have { &mut fits } else { &mut beyond }) = middle;
        }
        if fits < limit {
            log::warn!("the context is limited to {fits} of {limit} positions: more do not fit in memory");
        }
        Ok(fits)
    }
}

/// What the header of a GGUF file says of the network.
fn gguf_outline(gguf: &Gguf) -> Result<(Spec, ModelInfo)> {
    let Gguf { metadata, weights } = gguf;
    let key = "general.architecture";
    let name = metadata.string(key)?.ok_or_else(|| metadata.missing(key))?;
    let family = arch::family(name, &format!("{}: key {key}", metadata.file()))?;
    let spec = checked((family.spec)(&Hparams::from_gguf(metadata, name, weights))?, weights, metadata.file())?;
    let info = ModelInfo::new(metadata.file(), "gguf", &spec, weights);
    Ok((spec, info))
}

/// What config.json and the headers of the weights beside it say.
struct Outline {
    config: Json,
    weights: Weights,
    spec: Spec,
    info: ModelInfo,
}

fn safetensors_outline(path: &Path) -> Result<Outline> {
    let file = path.join("config.json").display().to_string();
    let config = json(path, "config.json")?.ok_or_else(|| Error::corrupt(path.display(), "config.json is missing"))?;
    let name = config.get("model_type").and_then(Json::as_str).unwrap_or_default();
    if name.is_empty() {
        return Err(Error::corrupt(&file, "key model_type is missing"));
    }
    let family = arch::family(name, &format!("{file}: key model_type"))?;
    if let Some(quantised) = config.get("quantization_config").filter(|q| q.is_object()) {
        let method = quantised.get("quant_method").and_then(Json::as_str).unwrap_or("unnamed");
        let what = format!("{file}: weights quantised by the method {method:?}");
        return Err(Error::unsupported(what, "f32, f16 and bf16 safetensors, and GGUF files"));
    }
    let weights = safetensors::open(path)?.renamed(family.names)?;
    let hparams = Hparams::from_config(&file, &config, &weights);
    let spec = checked((family.spec)(&hparams)?, &weights, &file)?;
    // EmbeddingGemma, and embedding models made of Qwen2: without this they would give other vectors, and no error.
    let both_ways = !hparams.flag("is_causal", true)? || hparams.flag("use_bidirectional_attention", false)?;
    if both_ways && spec.attention.causal {
        let what = format!("{file}: a decoder that sees the whole text (is_causal, use_bidirectional_attention)");
        return Err(Error::unsupported(what, "decoders that see what came before, and encoders"));
    }
    let name = path.canonicalize().unwrap_or_else(|_| path.to_owned());
    let info = ModelInfo::new(&name.display().to_string(), "safetensors", &spec, &weights);
    Ok(Outline { config, weights, spec, info })
}

/// A model that is loaded: what every clone of a handle shares.
pub(crate) struct Loaded {
    pub network: Box<dyn Forward>,
    pub tokenizer: Tokenizer,
    pub template: Template,
    pub end_ids: Vec<u32>,
    pub defaults: GenerateOptions,
    pub context: usize,
    pub info: ModelInfo,
}

/// Opens and loads.
pub(crate) fn load(located: impl Into<Located>, options: &LoadOptions) -> Result<Loaded> {
    Checkpoint::at(located)?.load(options)
}

/// Checks what holds for every family.
fn checked(spec: Spec, weights: &Weights, file: &str) -> Result<Spec> {
    let wrong = |why: String| Err(Error::corrupt(file, why));
    if spec.context < 2 {
        return wrong(format!("states a context of {} positions, expected 2 or more", spec.context));
    }
    if let Some(shape) = weights.shape("token_embd.weight")
        && shape != [spec.vocab, spec.dim]
    {
        let (vocab, dim) = (spec.vocab, spec.dim);
        return wrong(format!("the embedding table is {shape:?}, expected {vocab} tokens of {dim} values as stated"));
    }
    if spec.layers > weights.len() {
        return wrong(format!("states {} layers, but there are only {} tensors", spec.layers, weights.len()));
    }
    let a = &spec.attention;
    if !a.heads.is_multiple_of(a.kv_heads) {
        return wrong(format!("{} query heads are no multiple of {} key/value heads", a.heads, a.kv_heads));
    }
    let ropes = if let Position::Rope(ropes) = &spec.position { ropes.as_slice() } else { &[] };
    for rope in ropes {
        if rope.dims % 2 != 0 || rope.dims > a.head_dim {
            return wrong(format!("{} rotary dimensions: expected an even number up to {}", rope.dims, a.head_dim));
        }
        let pairs = rope.dims / 2;
        let lists: &[(&str, &[f32])] = match &rope.scaling {
            RopeScaling::Factors(factors) => &[("rope_freqs.weight", factors)],
            RopeScaling::Long { short, long, .. } => &[("short_factor", short), ("long_factor", long)],
            RopeScaling::None | RopeScaling::Linear { .. } | RopeScaling::Yarn { .. } | RopeScaling::Llama3 { .. } => &[],
        };
        if let Some((name, factors)) = lists.iter().find(|(_, factors)| factors.len() != pairs) {
            return wrong(format!("{name} has {} values, expected {pairs}", factors.len()));
        }
    }
    if let Mlp::Experts { count, used, .. } = spec.mlp
        && used > count
    {
        return wrong(format!("{used} experts for each token, but there are only {count}"));
    }
    Ok(spec)
}
