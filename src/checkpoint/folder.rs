//! The small files of a folder in Hugging Face layout.

use crate::error::{Error, Result};
use serde_json::Value as Json;
use std::path::Path;

/// A file of the folder; `None` if there is none.
pub(super) fn read(folder: &Path, name: &str) -> Result<Option<Vec<u8>>> {
    let path = folder.join(name);
    match std::fs::read(&path) {
        Ok(bytes) => Ok(Some(bytes)),
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => Ok(None),
        Err(e) => Err(Error::io(path, e)),
    }
}

pub(super) fn text_file(folder: &Path, name: &str) -> Result<Option<String>> {
    let Some(bytes) = read(folder, name)? else { return Ok(None) };
    let text = String::from_utf8(bytes).map_err(|e| Error::corrupt(folder.join(name).display(), e.to_string()))?;
    Ok(Some(text))
}

/// `additional_chat_templates/NAME.jinja`: names and contents, in order.
pub(super) fn additional_templates(folder: &Path) -> Result<Vec<(String, String)>> {
    let folder = folder.join("additional_chat_templates");
    let Ok(entries) = std::fs::read_dir(&folder) else { return Ok(Vec::new()) };
    let files = entries.filter_map(|entry| entry.ok()?.file_name().into_string().ok());
    let mut names: Vec<_> = files.filter_map(|file| file.strip_suffix(".jinja").map(str::to_owned)).collect();
    names.sort();
    let mut templates = Vec::new();
    for name in names {
        if let Some(text) = text_file(&folder, &format!("{name}.jinja"))? {
            templates.push((name, text));
        }
    }
    Ok(templates)
}

pub(super) fn json(folder: &Path, name: &str) -> Result<Option<Json>> {
    let Some(bytes) = read(folder, name)? else { return Ok(None) };
    let value = serde_json::from_slice(&bytes)
        .map_err(|e| Error::corrupt(folder.join(name).display(), format!("is not valid JSON: {e}")))?;
    Ok(Some(value))
}

/// The text of a LICENSE file. It is a note, so nothing about it is an error.
pub(super) fn license(folder: &Path) -> Option<String> {
    let text = |name: &str| Some(String::from_utf8_lossy(&std::fs::read(folder.join(name)).ok()?).into_owned());
    ["LICENSE", "LICENSE.txt", "LICENSE.md"].into_iter().find_map(text)
}

/// An id or a list of ids.
pub(super) fn ids(value: Option<&Json>) -> Option<Vec<u32>> {
    let id = |value: &Json| value.as_u64().and_then(|id| u32::try_from(id).ok());
    match value? {
        Json::Array(list) => Some(list.iter().filter_map(id).collect()),
        one => id(one).map(|id| vec![id]),
    }
}
