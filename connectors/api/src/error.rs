use std::error::Error;

use thiserror::Error;

/// What a caller does about an error of a connector.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ErrorKind {
    /// It may pass by itself: keep what is in work, say that the part is not ready, and call again.
    Retriable,
    /// The pipeline cannot go on: fenced, rights withdrawn, data gone.
    Fatal,
    /// What the operator wrote cannot work: unknown topic, wrong credentials, a setting that the library refuses.
    Configuration,
}

/// An error of a source or a sink as a whole. One that concerns a single message is a [`Refusal`].
#[derive(Debug, Error)]
#[error("{context}")]
pub struct ConnectorError {
    /// What to do about it.
    pub kind: ErrorKind,
    /// What was tried and what happened, for a person; never a secret, never a payload.
    pub context: String,
    /// The library's own error.
    #[source]
    pub source: Option<Box<dyn Error + Send + Sync>>,
}

impl ConnectorError {
    /// An error without a cause of its own.
    pub fn new(kind: ErrorKind, context: impl Into<String>) -> Self {
        Self { kind, context: context.into(), source: None }
    }

    /// The same with the library's error.
    #[must_use]
    pub fn caused_by(mut self, source: impl Into<Box<dyn Error + Send + Sync>>) -> Self {
        self.source = Some(source.into());
        self
    }
}

/// Why a sink will never take this one message. It goes to the dead letter queue; without one the pipeline ends. No plugin's
/// `on:` speaks of it, since no plugin has failed.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
#[error("{detail}")]
pub struct Refusal {
    /// Which fault it is.
    pub kind: RefusalKind,
    /// What was found and what is allowed; never a payload.
    pub detail: String,
}

/// The two ways a single message can be wrong for a sink.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RefusalKind {
    /// Larger than the sink takes: fault `oversize`.
    Oversize,
    /// Anything else about this message, such as a template that gives no legal topic: fault `sink_rejected`.
    Rejected,
}
