//! The models that Ollama has pulled, run where they lie.
//!
//! Its store has a manifest for each name, `manifests/HOST/NAMESPACE/MODEL/TAG`, a JSON list of layers, and each layer as
//! `blobs/sha256-HEX`. The layer with the media type of a model is a GGUF file. Nothing here is ever written: Ollama frees
//! a blob when no manifest of its own names it. Source: <https://github.com/ollama/ollama>, `manifest/` and `types/model/name.go`.

use super::LocalModel;
use crate::error::{Error, Result};
use serde_json::Value as Json;
use std::path::{Path, PathBuf};

const HOST: &str = "registry.ollama.ai";
const MODEL: &str = "application/vnd.ollama.image.model";
const ADAPTER: &str = "application/vnd.ollama.image.adapter";

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

/// The file of the model that Ollama calls `name`: `model`, `model:tag`, `user/model:tag`, `hf.co/org/repo:quant`.
///
/// # Errors
/// [`Error::Corrupt`] for a manifest that can not be followed, [`Error::Unsupported`] for a model with an adapter,
/// [`Error::NotFound`] for a file that Ollama lost.
pub fn find(name: &str) -> Result<Option<PathBuf>> {
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
            return Ok(blob(&store, &manifest)?.map(|(path, _)| path));
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

/// The blob that a manifest names as its model, and its digest; `None` for a manifest without one, as for a cloud model.
fn blob(store: &Path, manifest: &Path) -> Result<Option<(PathBuf, String)>> {
    let text = std::fs::read(manifest).map_err(|e| Error::io(manifest, e))?;
    let json: Json = serde_json::from_slice(&text)
        .map_err(|e| Error::corrupt(manifest.display(), format!("is no manifest of Ollama's: {e}")))?;
    let layers = json.get("layers").and_then(Json::as_array);
    let of_type = |kind: &str| {
        let mut layers = layers.into_iter().flatten();
        layers.find(|layer| layer.get("mediaType").and_then(Json::as_str) == Some(kind))
    };
    if of_type(ADAPTER).is_some() {
        let what = format!("{}: a model with an adapter (LoRA)", manifest.display());
        return Err(Error::unsupported(what, "models by themselves"));
    }
    let model = of_type(MODEL);
    let Some(digest) = model.and_then(|layer| layer.get("digest")).and_then(Json::as_str) else { return Ok(None) };
    let hex = digest.strip_prefix("sha256:").filter(|hex| hex.len() == 64 && hex.bytes().all(|b| b.is_ascii_hexdigit()));
    let Some(hex) = hex else {
        return Err(Error::corrupt(manifest.display(), format!("names the model by {digest:?}, expected sha256:...")));
    };
    let path = store.join("blobs").join(format!("sha256-{hex}"));
    if !path.is_file() {
        let hint = format!("Ollama's manifest {} names it; `ollama pull` fetches it again", manifest.display());
        return Err(Error::NotFound { what: path.display().to_string(), hint });
    }
    Ok(Some((path, hex.to_owned())))
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
                        if let Ok(Some((path, id))) = blob(&store, &folder.join(&tag)) {
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
