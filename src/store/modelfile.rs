//! What Ollama keeps of a model beside its weights: the lines of its Modelfile, each a layer of the manifest.
//!
//! Source: <https://github.com/ollama/ollama>, `GetModel` in `server/images.go`. Of several layers of a kind the last holds;
//! parameters and messages add up.

use crate::error::{Error, Result};
use crate::text::Message;
use serde_json::{Map, Value as Json};
use std::path::{Path, PathBuf};

/// No line of a Modelfile is longer; licences have a hundred kilobytes at most.
const LONGEST: u64 = 4 << 20;

/// The lines of a Modelfile that are not the weights.
#[derive(Debug, Clone, Default, PartialEq)]
pub(crate) struct Modelfile {
    /// What messages call the file they are about.
    pub file: String,
    /// `SYSTEM`.
    pub system: Option<String>,
    /// `PARAMETER`, by Ollama's names and with its types.
    pub parameters: Map<String, Json>,
    /// `MESSAGE`: what has been said when a chat begins.
    pub messages: Vec<Message>,
    /// `TEMPLATE`, in the language of Go's `text/template`.
    pub template: Option<String>,
    /// `LICENSE`.
    pub license: Option<String>,
    /// Whether there is a LoRA: `ADAPTER`.
    pub adapter: bool,
    /// Whether there is an encoder of images: the second `FROM`.
    pub projector: bool,
}

/// A layer of a manifest: what it is, and its file.
pub(super) struct Layer {
    pub kind: String,
    pub path: PathBuf,
}

impl Modelfile {
    /// What the layers say.
    ///
    /// # Errors
    /// [`Error::Io`] and [`Error::Corrupt`] for a layer that changes what the model answers and can not be read.
    pub(super) fn read(manifest: &Path, layers: &[Layer]) -> Result<Modelfile> {
        let mut found = Modelfile { file: manifest.display().to_string(), ..Modelfile::default() };
        for Layer { kind, path } in layers {
            match kind.as_str() {
                "system" => found.system = Some(text(path)?).filter(|text| !text.is_empty()),
                "params" => found.parameters.extend(parsed::<Map<String, Json>>(path)?),
                "messages" => found.messages.extend(parsed::<Vec<Json>>(path)?.iter().filter_map(message)),
                // `prompt` is what older versions wrote.
                "template" | "prompt" => found.template = text(path).ok().filter(|text| !text.trim().is_empty()),
                "license" => {
                    let more = text(path).unwrap_or_default();
                    let all = [found.license.take().unwrap_or_default(), more].concat();
                    found.license = Some(all).filter(|text| !text.trim().is_empty());
                }
                "adapter" => found.adapter = true,
                "projector" => found.projector = true,
                _ => {}
            }
        }
        Ok(found)
    }
}

fn text(path: &Path) -> Result<String> {
    let error = |e| Error::io(path, e);
    let size = std::fs::metadata(path).map_err(error)?.len();
    if size > LONGEST {
        return Err(Error::corrupt(path.display(), format!("has {size} bytes, expected a text of at most {LONGEST}")));
    }
    let bytes = std::fs::read(path).map_err(error)?;
    String::from_utf8(bytes).map_err(|_| Error::corrupt(path.display(), "is no text in UTF-8"))
}

fn parsed<T: serde::de::DeserializeOwned>(path: &Path) -> Result<T> {
    serde_json::from_str(&text(path)?)
        .map_err(|e| Error::corrupt(path.display(), format!("is not what Ollama writes for this layer: {e}")))
}

fn message(json: &Json) -> Option<Message> {
    let text = |key: &str| json.get(key).and_then(Json::as_str);
    Some(Message::new(text("role")?, text("content").unwrap_or_default()))
}
