//! The contract between the bridge and its connectors: what a message is, what a source and a sink promise, and the
//! errors that a caller branches on. A connector is a crate of its own that implements [`Source`] or [`Sink`] and passes
//! the suite in [`conformance`].
#![forbid(unsafe_code)]

mod channel;
pub mod conformance;
mod error;
mod message;
mod sink;
mod source;
mod template;
mod trace;

pub use bytes::Bytes;
pub use channel::Channel;
pub use error::{ConnectorError, ErrorKind, Refusal, RefusalKind};
pub use message::{Header, Headers, Message, Timestamp};
pub use sink::{Confirm, Fate, Origin, Receipt, SendError, Sink, Token};
pub use source::{AckMode, Acknowledgement, AssignmentId, Batch, Budget, Defect, Event, Record, Source};
pub use template::{Template, TemplateError};
pub use trace::{Trace, TraceId};
