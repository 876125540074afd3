//! The models that Ollama has pulled, run where they lie.
//!
//! Its store has a manifest for each name, `manifests/HOST/NAMESPACE/MODEL/TAG`, a JSON list of layers, and each layer as
//! `blobs/sha256-HEX`. The layer with the media type of a model is a GGUF file; the others are what its Modelfile says
//! beside it. Nothing here is ever written: Ollama frees a blob when no manifest of its own names it. Source: <https://github.com/ollama/ollama>, `manifest/` and `types/model/name.go`.

use super::LocalModel;
use super::modelfile::{Layer, Modelfile};
use crate::error::{Error, Result};
use crate::store::files::ModelFiles;
use serde_json::Value as Json;
use std::path::{Path, PathBuf};

const HOST: &str = "registry.ollama.ai";
/// What stands before the kind of a layer in its media type.
const KIND: &str = "application/vnd.ollama.image.";

/// Ollama's folders of models, those that exist: `OLLAMA_MODELS` alone if it is set, else where a user's and the system's
/// installation keep them.
pub fn stores() -> Vec<PathBuf> {
    let mut stores = match std::env::var_os("OLLAMA_MODELS").filter(|path| !path.is_empty()) {
        Some(path) => vec![PathBuf::from(path)],
        None => std::env::home_dir()
            .map(|home| home.join(".ollama/models"))
            .into_iter()
            .chain([PathBuf::from("/usr/share/ollama/.ollama/models")])
            .collect(),
    };
    stores.retain(|store| store.join("manifests").is_dir());
    stores
}

/// The model that Ollama calls `name`: `model`, `model:tag`, `user/model:tag`, `hf.co/org/repo:quant`.
///
/// # Errors
/// [`Error::Corrupt`] for a manifest that can not be followed, [`Error::NotFound`] for a file that Ollama lost.
pub fn find(name: &str) -> Result<Option<ModelFiles>> {
    let name = name.strip_prefix("hf://").map_or_else(|| name.to_owned(), |rest| format!("hf.co/{rest}"));
    let (path, tag) = match name.rsplit_once(':') {
        Some((path, tag)) if !tag.contains('/') => (path, tag),
        _ => (name.as_str(), "latest"),
    };
    let parts: Vec<&str> = path.split('/').collect();
    let parts = match parts[..] {
        [model] => [HOST, "library", model],
        [user, model] => [HOST, user, model],
        [host, user, model] => [host, user, model],
        _ => return Ok(None),
    };
    let is_plain = |part: &&str| !part.is_empty() && !part.starts_with('.') && !part.contains('\\');
    if !parts.iter().chain([&tag]).all(is_plain) {
        return Ok(None);
    }
    for store in stores() {
        let mut folder = Some(store.join("manifests"));
        for part in parts.iter().chain([&tag]) {
            folder = folder.and_then(|folder| entry(&folder, part));
        }
        if let Some(manifest) = folder {
            let Some(Manifest { layers, model }) = Manifest::read(&store, &manifest)? else { return Ok(None) };
            let modelfile = Modelfile::read(&manifest, &layers)?;
            log::info!("{name} is Ollama's: {}", model.display());
            return Ok(Some(ModelFiles::gguf(model).with_modelfile(modelfile).named(name)));
        }
    }
    Ok(None)
}

/// The entry of `folder` called `name`, in any case, as Ollama finds it.
fn entry(folder: &Path, name: &str) -> Option<PathBuf> {
    let exact = folder.join(name);
    if exact.exists() {
        return Some(exact);
    }
    let mut entries = std::fs::read_dir(folder).ok()?.flatten();
    entries.find(|entry| entry.file_name().to_str().is_some_and(|found| found.eq_ignore_ascii_case(name))).map(|e| e.path())
}

/// The layers of a model.
struct Manifest {
    layers: Vec<Layer>,
    /// The file of weights, which is there.
    model: PathBuf,
}

impl Manifest {
    /// Reads a manifest; `None` for one without a model, as for a cloud model.
    fn read(store: &Path, manifest: &Path) -> Result<Option<Manifest>> {
        let text = std::fs::read(manifest).map_err(|e| Error::io(manifest, e))?;
        let json: Json = serde_json::from_slice(&text)
            .map_err(|e| Error::corrupt(manifest.display(), format!("is no manifest of Ollama's: {e}")))?;
        let layers = json.get("layers").and_then(Json::as_array).into_iter().flatten();
        let layers: Vec<Layer> = layers.filter_map(|json| layer(store, manifest, json).transpose()).collect::<Result<_>>()?;
        let Some(model) = layers.iter().rfind(|layer| layer.kind == "model").map(|layer| layer.path.clone()) else {
            return Ok(None);
        };
        if !model.is_file() {
            let hint = format!("Ollama's manifest {} names it; `ollama pull` fetches it again", manifest.display());
            return Err(Error::NotFound { what: model.display().to_string(), hint });
        }
        Ok(Some(Manifest { layers, model }))
    }

    /// The digest of the weights.
    fn id(&self) -> String {
        let name = self.model.file_name().unwrap_or_default().to_string_lossy();
        name.strip_prefix("sha256-").unwrap_or(&name).to_owned()
    }
}

/// A layer of Ollama's kinds; `None` for another, and for one that can not be named and changes no answer.
fn layer(store: &Path, manifest: &Path, json: &Json) -> Result<Option<Layer>> {
    let text = |key: &str| json.get(key).and_then(Json::as_str);
    let Some(kind) = text("mediaType").and_then(|kind| kind.strip_prefix(KIND)) else { return Ok(None) };
    let digest = text("digest").unwrap_or_default();
    let hex = digest.strip_prefix("sha256:").filter(|hex| hex.len() == 64 && hex.bytes().all(|b| b.is_ascii_hexdigit()));
    match hex {
        Some(hex) => Ok(Some(Layer { kind: kind.to_owned(), path: store.join("blobs").join(format!("sha256-{hex}")) })),
        None if matches!(kind, "license" | "template" | "prompt" | "embed") => Ok(None),
        None => Err(Error::corrupt(manifest.display(), format!("names its {kind} by {digest:?}, expected sha256:..."))),
    }
}

/// Every model that is there. Manifests that can not be read, and those without a model, are passed over.
pub fn list() -> Vec<LocalModel> {
    let mut found = Vec::new();
    for store in stores() {
        let manifests = store.join("manifests");
        for host in names(&manifests) {
            for user in names(&manifests.join(&host)) {
                for model in names(&manifests.join(&host).join(&user)) {
                    let folder = manifests.join(&host).join(&user).join(&model);
                    for tag in names(&folder) {
                        let name = match (host.as_str(), user.as_str()) {
                            (HOST, "library") => format!("{model}:{tag}"),
                            (HOST, _) => format!("{user}/{model}:{tag}"),
                            _ => format!("{host}/{user}/{model}:{tag}"),
                        };
                        if let Ok(Some(manifest)) = Manifest::read(&store, &folder.join(&tag)) {
                            let (id, path) = (manifest.id(), manifest.model);
                            let modified = std::fs::metadata(folder.join(&tag)).and_then(|meta| meta.modified()).ok();
                            let bytes = std::fs::metadata(&path).map_or(0, |meta| meta.len());
                            found.push(LocalModel { name, id, bytes, modified, source: super::Source::Ollama, path });
                        }
                    }
                }
            }
        }
    }
    found
}

/// The names in a folder, sorted; none if it can not be read.
fn names(folder: &Path) -> Vec<String> {
    let entries = std::fs::read_dir(folder).into_iter().flatten().flatten();
    let mut names: Vec<String> = entries.filter_map(|entry| entry.file_name().into_string().ok()).collect();
    names.retain(|name| !name.starts_with('.'));
    names.sort();
    names
}
