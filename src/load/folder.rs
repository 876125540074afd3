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

pub(super) fn json(folder: &Path, name: &str) -> Result<Option<Json>> {
    let Some(bytes) = read(folder, name)? else { return Ok(None) };
    let value = crate::json::parse(&bytes)
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
