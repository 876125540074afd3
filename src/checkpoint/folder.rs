//! The small files of a folder in Hugging Face layout.

use crate::error::{Error, Result};
use crate::files::NamedFiles;
use serde_json::Value as Json;

/// A file's text; `None` if there is none.
pub(super) fn text_file(folder: &NamedFiles, name: &str) -> Result<Option<String>> {
    let Some(bytes) = folder.read(name)? else { return Ok(None) };
    let text = String::from_utf8(bytes.to_vec()).map_err(|e| Error::corrupt(folder.label(name), e.to_string()))?;
    Ok(Some(text))
}

/// `additional_chat_templates/NAME.jinja`: names and contents, in order.
pub(super) fn additional_templates(files: &NamedFiles) -> Result<Vec<(String, String)>> {
    let folder = files.within("additional_chat_templates");
    let mut templates = Vec::new();
    for file in folder.names() {
        if let Some(name) = file.strip_suffix(".jinja")
            && let Some(text) = text_file(&folder, &file)?
        {
            templates.push((name.to_owned(), text));
        }
    }
    Ok(templates)
}

/// A file's JSON; `None` if there is none.
pub(super) fn json(folder: &NamedFiles, name: &str) -> Result<Option<Json>> {
    let Some(bytes) = folder.read(name)? else { return Ok(None) };
    let value =
        crate::json::parse(&bytes).map_err(|e| Error::corrupt(folder.label(name), format!("is not valid JSON: {e}")))?;
    Ok(Some(value))
}

/// The text of a LICENSE file. It is a note, so nothing about it is an error.
pub(super) fn license(folder: &NamedFiles) -> Option<String> {
    let text = |name: &str| Some(String::from_utf8_lossy(&folder.read(name).ok()??).into_owned());
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
