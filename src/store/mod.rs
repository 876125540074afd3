//! From a name to files: the catalogue, the Hub and its cache, and the models of other programs on this machine.
//!
//! [`find()`] is the only way from a name to a place on the disk. What is not here is fetched by
//! [`checkpoint`](crate::checkpoint), which knows what a model costs.

pub mod catalog;
mod disk;
mod find;
pub mod hub;
pub mod hub_ref;
pub mod local;

pub(crate) use find::not_fetched;
pub use find::{Located, Place, find, find_with, reference_of};
