//! From a name to files: the catalogue, the Hub and its cache, and the models of other programs on this machine.
//!
//! [`find()`] is the only way from a name to files on the disk. What is not here is fetched by
//! [`ensure`](crate::ensure), which knows what a model costs.

pub mod catalog;
mod disk;
mod files;
mod find;
pub mod hub;
pub mod hub_ref;
pub mod local;
mod modelfile;

pub(crate) use files::FilesKind;
pub use files::ModelFiles;
#[cfg(feature = "hub")]
pub(crate) use find::cached;
pub(crate) use find::not_local;
pub use find::{Found, find, find_here, find_with, reference_of};
pub(crate) use modelfile::Modelfile;
