//! The contract between the bridge and its connectors: what a message is, what a source and a sink promise, and the
//! errors that a caller branches on. A connector is a crate of its own that implements [`Source`] or [`Sink`] and passes
//! the suite in [`conformance`].
#![forbid(unsafe_code)]

mod error;
mod message;
mod sink;
mod source;

pub use bytes::Bytes;
pub use error::{ConnectorError, ErrorKind, Refusal, RefusalKind};
pub use message::{Header, Headers, Message, Timestamp};
pub use sink::{Confirm, Fate, Receipt, SendError, Sink, Token};
pub use source::{Acknowledgement, AckMode, AssignmentId, Batch, Budget, Defect, Event, Record, Source};
