//! From files to a model: read what they say, and put the network on a device. [`ensure`] comes before: from a name to files
//! that are here.
//!
//! A [`Checkpoint`] is a model that has been opened but not loaded: enough for `show`, `tokenize` and `template`, without
//! touching the weights.

mod card;
mod cost;
#[cfg(feature = "hub")]
mod download;
mod ensure;
mod folder;
#[cfg(feature = "hub")]
mod headers;
mod info;
mod modelfile;
mod sampling;
mod sentence;
mod summary;
mod unfit;

use crate::arch;
use crate::backend::{CacheType, candle::Candle, cpu::Cpu};
use crate::cpu::{Kernels, MOST_THREADS, trim_heap};
use crate::device::{self, Resolved};
use crate::error::{Error, Result};
use crate::files::NamedFiles;
use crate::hparams::{Hparams, refuse_dropped, refuse_dropped_of_tokenizer};
use crate::model::{Forward, Transformer};
use crate::options::{GenerateOptions, LoadOptions};
use crate::spec::{Mlp, Position, RopeScaling, Spec};
use crate::store::{FilesKind, ModelFiles};
use crate::tensors::{Gguf, Requantise, Weights, safetensors, vocab};
use crate::text::{
    ChatTemplate, EndSources, Message, SpecialTokens, TemplateFiles, Tokenizer, TokenizerFiles, end_ids, template_source,
};
use serde_json::Value as Json;
use std::path::Path;

pub use cost::{BeyondWindow, Cost};
#[cfg(feature = "hub")]
pub use download::Download;
pub use ensure::ensure;
use folder::{additional_templates, ids, json, license, text_file};
pub use info::ModelInfo;
use modelfile::Opening;
pub use sentence::{DenseLayer, EmbedSpec, Similarity};
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
    opening: Opening,
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
    /// [`find`](crate::find) tells beforehand.
    ///
    /// # Errors
    /// Those of [`ensure`] and [`Checkpoint::at`].
    pub fn open(name: impl AsRef<Path>) -> Result<Checkpoint> {
        Checkpoint::at(ensure(name, &LoadOptions::default())?)
    }

    /// Opens a model that has been found.
    ///
    /// # Errors
    /// [`Error::Unsupported`] for a family that can not run, [`Error::Corrupt`] for files that are damaged or contradict
    /// each other, [`Error::NotFound`] and [`Error::Io`] for those that are missing or can not be read.
    pub fn at(files: ModelFiles) -> Result<Checkpoint> {
        let ModelFiles { kind, name, modelfile } = files;
        let (mut checkpoint, folder) = match kind {
            FilesKind::Gguf(path) => {
                log::debug!("opening {}", path.display());
                let folder = path.parent().map(NamedFiles::on_disk);
                (Checkpoint::gguf(Gguf::open(&path)?)?, folder)
            }
            FilesKind::GgufBytes(bytes, name) => {
                log::debug!("opening {name}");
                (Checkpoint::gguf(Gguf::from_bytes(bytes, &name)?)?, None)
            }
            FilesKind::Folder(files) => {
                log::debug!("opening {}", files.root());
                (Checkpoint::folder(&files)?, Some(files))
            }
        };
        if let Some(name) = name {
            checkpoint.info.name = name;
        }
        if let Some(card) = folder.and_then(|folder| card::read(&folder)) {
            let info = &mut checkpoint.info;
            // The authors' word comes before the converter's.
            info.license = card.license.or(info.license.take());
            info.intended_use = card.intended_use;
        }
        if let Some(modelfile) = modelfile {
            checkpoint.apply(*modelfile)?;
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

    /// The system message that a chat begins with unless it has one of its own, as a model of Ollama's may have it.
    pub fn system(&self) -> Option<&str> {
        self.opening.system.as_deref()
    }

    /// What has been said when a chat begins, behind the system message, as a model of Ollama's may have it.
    pub fn history(&self) -> &[Message] {
        &self.opening.history
    }

    /// The positions of a session that the model's publisher chose, where they are fewer or more than its own.
    pub fn default_context(&self) -> Option<usize> {
        self.opening.context
    }

    /// How it makes vectors of texts.
    ///
    /// # Errors
    /// [`Error::Unsupported`] and [`Error::Corrupt`] for a layout that can not be followed.
    pub fn embed_spec(&self) -> Result<EmbedSpec> {
        self.vectors.read()
    }

    /// What to say of a head that makes classes or scores of texts, where the model has one: vectors are made without it.
    pub fn unused_head(&self) -> Option<String> {
        self.vectors.head(&self.info)
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
        let defaults = sampling::of_gguf(&metadata, spec.vocab)?;
        let arch = metadata.string("general.architecture")?.unwrap_or_default();
        let pooling = metadata.u64(&format!("{arch}.pooling_type"))?;
        let vectors = sentence::Sources::Gguf(metadata.file().to_owned(), pooling);
        let template = metadata.string("tokenizer.chat_template")?;
        info.template = template_source(&TemplateFiles { gguf: template, ..TemplateFiles::default() })?;
        info.license = metadata.string("general.license")?.map(str::to_owned);
        info.metadata = metadata.iter().map(|(key, value)| (key.to_owned(), info::shown(value))).collect();
        // Ollama's own conversions list the end tokens where there are several.
        let ends = metadata.ints("tokenizer.ggml.eos_token_ids")?.unwrap_or_default();
        let vocab = vocab(&mut metadata)?;
        refuse_dropped_of_tokenizer(&metadata)?;
        let tokenizer = Tokenizer::from_vocab(vocab)?;
        let tokens = tokenizer.special_tokens();
        let mut end_ids = end_ids(&tokenizer, &EndSources::default());
        end_ids.extend(ends.into_iter().filter_map(|id| u32::try_from(id).ok()));
        end_ids.sort_unstable();
        end_ids.dedup();
        drop(metadata);
        Checkpoint::finish(spec, weights, (tokenizer, tokens), end_ids, defaults, info, vectors)
    }

    fn folder(root: &NamedFiles) -> Result<Checkpoint> {
        let files = &root.transformer();
        let Outline { config, weights, spec, mut info } = safetensors_outline(files)?;
        let bytes = files.read("tokenizer.json")?.ok_or_else(|| {
            Error::unsupported(format!("{}: a model without tokenizer.json", files.root()), "folders that have one")
        })?;
        let tokenizer_config = text_file(files, "tokenizer_config.json")?;
        let (tokenizer, tokens) = Tokenizer::from_files(&TokenizerFiles {
            file: &files.label("tokenizer.json"),
            tokenizer: &bytes,
            config: tokenizer_config.as_deref(),
            special_tokens_map: text_file(files, "special_tokens_map.json")?.as_deref(),
            added_tokens: text_file(files, "added_tokens.json")?.as_deref(),
            class: config.get("tokenizer_class").and_then(Json::as_str),
            family: config.get("model_type").and_then(Json::as_str).unwrap_or_default(),
        })?;
        let template = template_source(&TemplateFiles {
            jinja: text_file(files, "chat_template.jinja")?.as_deref(),
            additional: &additional_templates(files)?,
            json: text_file(files, "chat_template.json")?.as_deref(),
            tokenizer_config: tokenizer_config.as_deref(),
            gguf: None,
        });
        let generation = json(files, "generation_config.json")?;
        let ends = |config: &Json| ids(config.get("eos_token_id")).filter(|ids| !ids.is_empty());
        let (generation_config, config_ids) = (generation.as_ref().and_then(ends), ends(&config));
        let sources =
            EndSources { generation_config: generation_config.as_deref(), config: config_ids.as_deref(), turn_end: None };
        let end_ids = end_ids(&tokenizer, &sources);
        let file = files.label("generation_config.json");
        let defaults = generation.as_ref().map(|generation| sampling::of_config(generation, &file, spec.vocab));
        let defaults = defaults.transpose()?.unwrap_or_default();
        info.template = template.as_ref().ok().cloned().flatten();
        info.license = license(files);
        info.metadata = config.as_object().into_iter().flatten().map(|(k, v)| (k.clone(), v.to_string())).collect();
        let vectors = sentence::Sources::Folder(root.clone());
        let mut checkpoint = Checkpoint::finish(spec, weights, (tokenizer, tokens), end_ids, defaults, info, vectors)?;
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
        defaults: GenerateOptions,
        info: ModelInfo,
        vectors: sentence::Sources,
    ) -> Result<Checkpoint> {
        let template = Template::new(info.template.as_deref(), &tokens);
        let defaults = defaults.validate().map(|()| defaults).unwrap_or_else(|e| {
            log::warn!("{}: the file's sampling defaults are not used: {e}", info.name);
            GenerateOptions::default()
        });
        if tokenizer.vocab_size() >= LARGE_VOCABULARY {
            trim_heap();
        }
        Ok(Checkpoint {
            spec,
            weights,
            tokenizer,
            tokens,
            template,
            end_ids,
            defaults,
            info,
            vectors,
            opening: Opening::default(),
        })
    }

    /// Puts the network on a device.
    pub(crate) fn load(mut self, options: &LoadOptions) -> Result<Loaded> {
        options.check_cancelled()?;
        if let Some(cancel) = &options.cancel {
            self.weights.end_with(cancel.clone());
        }
        let template_note = self.opening.template_note.iter().filter(|_| options.chat_template.is_none());
        self.opening.notes.iter().chain(template_note).for_each(|note| log::warn!("{note}"));
        if let Some(source) = &options.chat_template {
            self.template = Template::new(Some(source), &self.tokens);
            self.template.get()?;
        }
        let (choice, device) = options.device.resolve()?;
        if let Some(dtype) = options.quantise {
            let count = self.weights.through(Requantise::to(dtype)?);
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
                let threads = options
                    .threads
                    .or(self.opening.threads.map(|threads| threads.min(MOST_THREADS)))
                    .unwrap_or_else(device::default_threads);
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
            opening: self.opening,
            context,
            info: self.info,
        })
    }

    /// Positions a session may hold: what is asked for, else the model's own, less where memory does not allow it.
    fn context(&self, wanted: Option<usize>, cache_type: CacheType, host: bool) -> Result<usize> {
        let given = self.opening.context.unwrap_or(self.spec.context).min(self.spec.context);
        let limit = wanted.unwrap_or(given);
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

impl std::fmt::Debug for Checkpoint {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Checkpoint")
            .field("name", &self.info.name)
            .field("family", &self.spec.family)
            .field("quantisation", &self.info.quantisation)
            .finish_non_exhaustive()
    }
}

/// What the header of a GGUF file says of the network.
fn gguf_outline(gguf: &Gguf) -> Result<(Spec, ModelInfo)> {
    let Gguf { metadata, weights } = gguf;
    unfit::check_gguf(metadata)?;
    let key = "general.architecture";
    let name = metadata.string(key)?.ok_or_else(|| metadata.missing(key))?;
    let family = arch::family(name, &format!("{}: key {key}", metadata.file()))?;
    let spec = checked(family.spec_of(&Hparams::from_gguf(metadata, name, weights))?, weights, metadata.file())?;
    refuse_dropped(metadata, name)?;
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

fn safetensors_outline(files: &NamedFiles) -> Result<Outline> {
    let file = files.label("config.json");
    unfit::check_folder(files)?;
    let config = json(files, "config.json")?.ok_or_else(|| Error::corrupt(files.root(), "config.json is missing"))?;
    unfit::check_config(&config, &file)?;
    let name = config.get("model_type").and_then(Json::as_str).unwrap_or_default();
    if name.is_empty() {
        return Err(Error::corrupt(&file, "key model_type is missing"));
    }
    let family = arch::family(name, &format!("{file}: key model_type"))?;
    let weights = safetensors::open_in(files)?;
    unfit::check_tensors(&weights)?;
    let weights = weights.renamed(family.names)?;
    let hparams = Hparams::from_config(&file, &config, &weights);
    let spec = checked(family.spec_of(&hparams)?, &weights, &file)?;
    hparams.warn_of_dropped();
    let name = files.path().and_then(|path| path.canonicalize().ok());
    let name = name.map_or_else(|| files.root(), |path| path.display().to_string());
    let info = ModelInfo::new(&name, "safetensors", &spec, &weights);
    Ok(Outline { config, weights, spec, info })
}

/// A model that is loaded: what every clone of a handle shares.
pub(crate) struct Loaded {
    pub network: Box<dyn Forward>,
    pub tokenizer: Tokenizer,
    pub template: Template,
    pub end_ids: Vec<u32>,
    pub defaults: GenerateOptions,
    pub opening: Opening,
    pub context: usize,
    pub info: ModelInfo,
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
