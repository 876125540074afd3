//! Why a template can not be compiled or rendered.
//!
//! The kinds are Python's classes of exceptions as far as Jinja itself catches them: `int` gives its default for a type or
//! value error, `x[y]` is undefined for a lookup error, and so on.

/// Classes of exceptions.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::text) enum Kind {
    /// The source is not a template.
    Syntax,
    Type,
    Value,
    Lookup,
    Overflow,
    /// Everything else that Python or Jinja raises.
    Runtime,
    /// `raise_exception`: the message is the template's own.
    Raised,
    /// Too much work, memory or depth. Nothing catches it.
    Limit,
}

/// An error with the line of the template where it happened; 0 where it is not known yet.
#[derive(Debug, Clone)]
pub(in crate::text) struct Fault {
    pub kind: Kind,
    pub message: String,
    pub line: u32,
}

/// A `Result` with a [`Fault`].
pub(super) type Result<T> = std::result::Result<T, Fault>;

impl Fault {
    pub(super) fn new(kind: Kind, message: impl Into<String>) -> Fault {
        Fault { kind, message: message.into(), line: 0 }
    }

    pub(super) fn kind<T>(kind: Kind, message: impl Into<String>) -> Result<T> {
        Err(Fault::new(kind, message))
    }

    /// The same at `line`, unless a line inside of it is known.
    pub(super) fn at(mut self, line: u32) -> Fault {
        if self.line == 0 {
            self.line = line;
        }
        self
    }
}

/// Shorthands for the commonest kinds.
pub(super) fn type_error<T>(message: impl Into<String>) -> Result<T> {
    Fault::kind(Kind::Type, message)
}

pub(super) fn value_error<T>(message: impl Into<String>) -> Result<T> {
    Fault::kind(Kind::Value, message)
}

pub(super) fn runtime<T>(message: impl Into<String>) -> Result<T> {
    Fault::kind(Kind::Runtime, message)
}
