//! From a name to files that are here: what is not is looked into, and fetched if it can run.

use crate::error::Result;
use crate::options::LoadOptions;
use crate::store::{self, Found, ModelFiles, find_with};
use std::path::Path;

/// The files of the model called `name`, by the same names as [`find`](crate::find); fetched if they are not here, after a look
/// at what they are and whether they fit into memory. [`LoadOptions::progress`] hears how it goes, [`LoadOptions::cancel`]
/// ends it.
///
/// # Errors
/// [`NotFound`](crate::Error::NotFound) with the nearest names; [`NotLocal`](crate::Error::NotLocal) for a model that would have
/// to be fetched and must not be; [`Unsupported`](crate::Error::Unsupported) and
/// [`OutOfMemory`](crate::Error::OutOfMemory) for one that can not run here, before its weights are fetched;
/// [`Network`](crate::Error::Network) and its kin; [`Cancelled`](crate::Error::Cancelled).
pub fn ensure(name: impl AsRef<Path>, options: &LoadOptions) -> Result<ModelFiles> {
    let hub = options.hub();
    let reference = match find_with(&name, &hub)? {
        Found::Here(files) => return Ok(files),
        Found::Hub(reference) => reference,
    };
    let name = name.as_ref().to_string_lossy();
    #[cfg(feature = "hub")]
    if !hub.offline {
        return super::download::fetched(&name, &reference, options);
    }
    Err(store::not_local(&name, &reference, &hub))
}
