//! What is known about a model beside its numbers: for `show`, and for messages.

use crate::backend::{CacheType, WINDOW_SLACK};
use crate::device::DeviceChoice;
use crate::quant::Dtype;
use crate::spec::Spec;
use crate::tensors::{Form, Stored, Value, Weights};
use std::path::{Path, PathBuf};

/// What is known about a model beside its numbers.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct ModelInfo {
    /// Name for people: the file's or folder's.
    pub name: String,
    /// The GGUF file or the `config.json` it was read from; `None` for a model from memory.
    pub path: Option<PathBuf>,
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
    /// What the model card says the model is meant for.
    pub intended_use: Option<String>,
    /// The chat template's source, if there is one.
    pub template: Option<String>,
    /// Bytes of key/value cache for one position that all layers hold; those with a window do not hold every one.
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

impl ModelInfo {
    /// What `spec` and `weights` say; the texts are for the caller to fill in.
    pub(super) fn new(path: &str, format: &'static str, spec: &Spec, weights: &Weights) -> ModelInfo {
        let mut info = ModelInfo {
            name: file_name(path),
            path: Some(PathBuf::from(path)).filter(|path| path.exists()),
            format,
            quantisation: Dtype::F32,
            parameters: 0,
            bytes: 0,
            tensors: Vec::new(),
            metadata: Vec::new(),
            license: None,
            intended_use: None,
            template: None,
            cache_bytes_per_token: 0,
            device: DeviceChoice::Auto,
            threads: 0,
            kernels: "",
            cache_type: CacheType::F32,
        };
        info.count(weights);
        info.cache_type = if info.quantisation.is_quantised() { CacheType::F16 } else { CacheType::F32 };
        info.cache_bytes_per_token = cache_bytes(spec, info.cache_type, 1);
        info
    }

    /// Counts the tensors, and what they take.
    pub(super) fn count(&mut self, weights: &Weights) {
        let stored = |(t, form): (&Stored, Form)| (t.name.clone(), form.dtype, t.shape.clone());
        let mut tensors: Vec<_> = weights.forms().map(stored).collect();
        tensors.sort();
        let elements = |shape: &[usize]| shape.iter().product::<usize>() as u64;
        let mut by_type = std::collections::BTreeMap::<Dtype, u64>::new();
        for (_, dtype, shape) in &tensors {
            *by_type.entry(*dtype).or_default() += elements(shape);
        }
        self.quantisation = by_type.iter().max_by_key(|(_, n)| **n).map_or(Dtype::F32, |(dtype, _)| *dtype);
        self.parameters = tensors.iter().map(|t| elements(&t.2)).sum();
        self.bytes = weights.forms().filter_map(|(_, form)| form.bytes()).map(|bytes| bytes as u64).sum();
        self.tensors = tensors;
    }
}

/// Bytes of keys and values for a text of `positions`.
pub(super) fn cache_bytes(spec: &Spec, cache_type: CacheType, positions: usize) -> u64 {
    if spec.is_encoder() {
        return 0;
    }
    let attention = &spec.attention;
    // A damaged file may state any sizes; the tensors have not been compared with them yet.
    let position = cache_type.bytes(attention.head_dim).saturating_mul(attention.kv_heads as u64).saturating_mul(2);
    let held = |layer| attention.window_of(layer).map_or(positions, |window| positions.min(most_held(window)));
    (0..spec.layers).fold(0, |bytes: u64, layer| bytes.saturating_add(position.saturating_mul(held(layer) as u64)))
}

/// The positions that layers with a window may hold, if there are such layers: they take no more memory in a longer text.
pub(super) fn window_limit(spec: &Spec) -> Option<usize> {
    (0..spec.layers).find_map(|layer| spec.attention.window_of(layer)).map(most_held)
}

fn most_held(window: usize) -> usize {
    window.saturating_add(WINDOW_SLACK)
}

/// A metadata value, long arrays and texts cut.
pub(super) fn shown(value: &Value) -> String {
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
