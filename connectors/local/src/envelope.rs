//! The JSON Lines form of a message: what the file connector, test cases and `portcullis dev` read and write.
//!
//! ```json
//! {"key":"k1","value":"{\"id\":1}","headers":[["trace","t-1"],["none",null],["raw",{"b64":"/w=="}]],"timestamp_ms":1,"channel":"orders"}
//! ```
//!
//! A key or value that is absent or `null` is null, and `""` is empty. Bytes that are not UTF-8 stand in `key_b64`,
//! `value_b64` and `{"b64": ...}` (also in the place of a header's name), in the standard alphabet with padding. Reading what
//! was printed gives the same message, but for the kind of a timestamp: it is read as [`Timestamp::Created`].
//!
//! [`Timestamp::Created`]: portcullis_connector_api::Timestamp::Created

use portcullis_connector_api::Message;
use thiserror::Error;

mod node;
mod parse;
mod print;
#[cfg(test)]
mod tests;

pub use parse::parse;
pub use print::print;

/// One line: a message and, in the input of a case or a demonstration, what shall become of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Line {
    /// The message.
    pub message: Message,
    /// The key `expect`. Only `portcullis dev` looks at it; the file connector does not.
    pub expect: Option<Expect>,
}

impl Line {
    /// Appends the line without its newline.
    pub fn print(&self, out: &mut Vec<u8>) {
        print::line(&self.message, self.expect.as_ref(), out);
    }
}

/// What shall become of a message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Expect {
    /// Where it ends.
    pub outcome: Outcome,
    /// For `reject` and `drop` the code that the plugin gives, for `fault` the kind of the fault; not compared when absent.
    pub reason: Option<String>,
}

/// The four ways of a message to its end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// It arrives at the sink.
    Pass,
    /// A plugin lets it disappear.
    Drop,
    /// A plugin rejects it.
    Reject,
    /// It fails in another way: a trap, a deadline, a refusal of the sink.
    Fault,
}

impl Outcome {
    /// Every outcome, in the order of the documentation.
    pub const ALL: [Self; 4] = [Self::Pass, Self::Drop, Self::Reject, Self::Fault];

    /// The word in the file.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Pass => "pass",
            Self::Drop => "drop",
            Self::Reject => "reject",
            Self::Fault => "fault",
        }
    }
}

/// Why a line is not a message. The text names keys and kinds and never shows a value.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
#[error("line {line}, column {column}: {what}")]
pub struct EnvelopeError {
    /// From 1.
    pub line: u64,
    /// In bytes, from 1: where reading stopped, which is behind a value that has the wrong form.
    pub column: usize,
    /// What was found and what is allowed.
    pub what: String,
}
