//! The switch by which a caller ends work that another thread does.

use crate::error::{Error, Result};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

/// A switch that ends work from another thread: a download, a load between two tensors, a generation while its prompt is read
/// and between two tokens, an embedding between two forwards.
///
/// Clones are the same switch.
#[derive(Debug, Clone, Default)]
pub struct Cancel(Arc<Switch>);

#[derive(Debug, Default)]
struct Switch {
    is_on: AtomicBool,
    /// Another that ends the work as well.
    parent: Option<Cancel>,
}

impl PartialEq for Cancel {
    /// Whether both are the same switch.
    fn eq(&self, other: &Cancel) -> bool {
        Arc::ptr_eq(&self.0, &other.0)
    }
}

impl Cancel {
    /// Ends what runs with this switch.
    pub fn cancel(&self) {
        self.0.is_on.store(true, Ordering::Relaxed);
    }

    /// Makes the switch ready for the next generation.
    pub fn reset(&self) {
        self.0.is_on.store(false, Ordering::Relaxed);
    }

    /// Whether the work is to end.
    pub fn is_cancelled(&self) -> bool {
        self.0.is_on.load(Ordering::Relaxed) || self.0.parent.as_ref().is_some_and(Cancel::is_cancelled)
    }

    /// A switch that is on when it or `parent` is.
    #[cfg(feature = "async")]
    pub(crate) fn below(parent: Option<Cancel>) -> Cancel {
        Cancel(Arc::new(Switch { is_on: AtomicBool::new(false), parent }))
    }

    /// [`Error::Cancelled`] if the work is to end.
    pub(crate) fn check(&self) -> Result<()> {
        if self.is_cancelled() { Err(Error::Cancelled) } else { Ok(()) }
    }
}
