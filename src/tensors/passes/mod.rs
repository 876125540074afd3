//! What happens to tensors between a model's files and whoever takes them in.
//!
//! [`Weights`](super::Weights) sends every tensor that it hands over through a list of passes, one tensor at a time: so
//! a pass costs the memory of one tensor, whatever the size of the model. A pass decides by the name and the form, never
//! by who asks: the loader of a network and a writer of files get the same tensors.

mod requantise;
mod transpose;

pub use requantise::Requantise;
pub use transpose::Transpose;

use super::{Form, Stored};
use crate::error::Result;

/// One step from a tensor as a file has it to the tensor that is handed over.
pub trait Pass: std::fmt::Debug + Send + Sync {
    /// The form that [`Pass::apply`] gives the tensor `name`, which is `stored` in its file and has `form` so far. It
    /// reads no elements: sizes are known before anything is converted.
    fn form(&self, name: &str, stored: &Stored, form: Form) -> Form;

    /// The tensor `name` after this step. All its elements are finite.
    ///
    /// # Errors
    /// [`Error::Unsupported`](crate::Error::Unsupported) for a tensor of a type that the step can not read.
    fn apply(&self, name: &str, tensor: Stored) -> Result<Stored>;
}
