//! The dead letter queue: the record with why it is there, and what happens when even that is too large.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;

use portcullis_connector_api::{
    Channel, ConnectorError, ErrorKind, Header, Message, Receipt, Refusal, RefusalKind, SendError, Sink, Timestamp,
    Token, Trace,
};
use sha2::{Digest, Sha256};

use super::origin::{DEAD_LETTER, Name, SourceIdentity};
use super::work::{Failure, Origin};

/// Prefix of the headers that a dead letter gets. A consumer that redrives removes exactly these.
pub const HEADER_PREFIX: &str = "__portcullis.errors.";

/// How often a record is sent again that was refused for another reason than its size.
const RESENDS: u32 = 5;
/// Dead letters that may wait for room in the queue before the intake stops.
const MOST_WAITING: usize = 1024;

/// Where a failed message stood at its source.
#[derive(Clone, Debug)]
pub(super) struct Coordinates {
    pub(super) channel: Channel,
    pub(super) partition: i32,
    pub(super) offset: i64,
    /// By which the queue knows it again.
    pub(super) name: Name,
    /// What its headers, as they arrived, are part of. It stays where the headers are left out.
    pub(super) trace: Option<Trace>,
}

/// Sends dead letters and remembers what waits for its confirmation. Owned by the intake's thread alone, so it needs no
/// lock. Bounded by the window: an entry belongs to a message that the tracker still holds.
pub(super) struct DeadLetters {
    pipeline: Arc<str>,
    source: SourceIdentity,
    sink: Arc<dyn Sink>,
    pending: HashMap<Token, Pending>,
    /// Those that met a full queue, in their order.
    waiting: VecDeque<(Token, Message)>,
}

/// A dead letter between its sending and its confirmation.
pub(super) struct Pending {
    pub(super) failure: Failure,
    pub(super) at: Coordinates,
    pub(super) truncated: bool,
    resends: u32,
}

impl DeadLetters {
    pub(super) fn new(pipeline: Arc<str>, source: SourceIdentity, sink: Arc<dyn Sink>) -> Self {
        Self { pipeline, source, sink, pending: HashMap::new(), waiting: VecDeque::new() }
    }

    /// Whether so many wait for room that nothing more may be taken in.
    pub(super) fn is_full(&self) -> bool {
        self.waiting.len() >= MOST_WAITING
    }

    /// How many are with the queue, which has not said what became of them.
    pub(super) fn under_way(&self) -> usize {
        self.pending.len().saturating_sub(self.waiting.len())
    }

    pub(super) fn sink(&self) -> &Arc<dyn Sink> {
        &self.sink
    }

    /// Sends the message as it arrived, with the reason in its headers.
    ///
    /// # Errors
    /// When the queue is broken, or refuses even a record without value.
    pub(super) fn send(
        &mut self,
        token: Token,
        original: &Message,
        at: Coordinates,
        failure: Failure,
    ) -> Result<(), ConnectorError> {
        let record = self.record(original, &at, &failure);
        self.pending.insert(token, Pending { failure, at, truncated: false, resends: 0 });
        if !self.waiting.is_empty() {
            self.waiting.push_back((token, record));
            return Ok(());
        }
        self.hand_over(token, record, original)
    }

    /// After a refusal: a record that is too large is sent without its value, with size and digest of what was left out. Any
    /// other refusal may be about the timestamp, or about another record of the same batch: the whole record is sent again,
    /// without its timestamp, before anything is left out.
    ///
    /// # Errors
    /// When this was the record without value: there is nothing smaller to try, and a loop would never end.
    pub(super) fn refused(
        &mut self,
        token: Token,
        original: &Message,
        refusal: &Refusal,
    ) -> Result<(), ConnectorError> {
        let pipeline = &self.pipeline;
        let Some(pending) = self.pending.get_mut(&token) else {
            return Ok(());
        };
        if pending.truncated {
            self.pending.remove(&token);
            return Err(ConnectorError::new(
                ErrorKind::Fatal,
                format!("the dead letter queue of pipeline {pipeline} refuses even a record without value: {refusal}"),
            ));
        }
        let (at, failure) = (pending.at.clone(), pending.failure.clone());
        let record = if refusal.kind == RefusalKind::Rejected && pending.resends < RESENDS {
            pending.resends += 1;
            let mut record = self.record(original, &at, &failure);
            record.timestamp = Timestamp::Unknown;
            record
        } else {
            pending.truncated = true;
            self.truncated(original, &at, &failure)
        };
        self.hand_over(token, record, original)
    }

    /// Tries again what met a full queue.
    ///
    /// # Errors
    /// As `send`.
    pub(super) fn send_waiting<'a>(
        &mut self,
        original: impl Fn(Token) -> Option<&'a Message>,
    ) -> Result<(), ConnectorError> {
        for _ in 0..self.waiting.len() {
            let Some((token, record)) = self.waiting.pop_front() else { break };
            match original(token) {
                Some(message) => {
                    let waiting = self.waiting.len();
                    self.hand_over(token, record, message)?;
                    if self.waiting.len() > waiting {
                        // Still full: this one keeps its place, and the others need not be tried.
                        self.waiting.rotate_right(1);
                        return Ok(());
                    }
                }
                // Its partition was revoked meanwhile: the next owner meets the message again.
                None => drop(self.pending.remove(&token)),
            }
        }
        Ok(())
    }

    /// The queue has it: gives back what was known about it.
    pub(super) fn confirmed(&mut self, token: Token) -> Option<Pending> {
        self.pending.remove(&token)
    }

    fn hand_over(&mut self, token: Token, record: Message, original: &Message) -> Result<(), ConnectorError> {
        let sent = match self.pending.get(&token) {
            Some(Pending { at, .. }) => {
                let origin = at.name.origin(&self.source, (at.partition, at.offset), DEAD_LETTER);
                self.sink.send_from(&record, origin, token)
            }
            None => self.sink.send(&record, token),
        };
        match sent {
            Ok(()) => Ok(()),
            Err(SendError::Full) => {
                self.waiting.push_back((token, record));
                Ok(())
            }
            Err(SendError::Refused(refusal)) => self.refused(token, original, &refusal),
            Err(SendError::Fatal(error)) => {
                self.pending.remove(&token);
                Err(error)
            }
        }
    }

    fn record(&self, original: &Message, at: &Coordinates, failure: &Failure) -> Message {
        let mut record = original.clone();
        let mut header = |name: &str, value: String| {
            record.headers.append(Header::new(format!("{HEADER_PREFIX}{name}"), Some(value)));
        };
        header("topic", original.channel.to_string());
        header("partition", at.partition.to_string());
        header("offset", at.offset.to_string());
        if let Timestamp::Created(ms) | Timestamp::Appended(ms) = original.timestamp {
            header("timestamp", ms.to_string());
        }
        header("pipeline", self.pipeline.to_string());
        if let Origin::Plugin(plugin) = &failure.origin {
            header("plugin", plugin.name().to_owned());
            header("plugin.digest", plugin.digest().to_owned());
        }
        header("stage", failure.origin.stage().to_owned());
        header("reason", failure.kind.as_str().to_owned());
        header("code", failure.code.as_str().to_owned());
        header("message", failure.detail.clone());
        header("attempts", failure.attempts.to_string());
        if let Some(trace) = at.trace {
            header("trace-id", trace.trace_id.to_string());
        }
        record
    }

    /// Without value and without the original headers, which may be what is too large; the key stays unless it is.
    fn truncated(&self, original: &Message, at: &Coordinates, failure: &Failure) -> Message {
        const LARGEST_KEY_BYTES: usize = 64 * 1024;
        let mut bare = Message::new(original.channel.clone());
        bare.key = original.key.clone().filter(|key| key.len() <= LARGEST_KEY_BYTES);
        bare.timestamp = original.timestamp;
        let mut record = self.record(&bare, at, failure);
        // In its header it stays; as the record's own it may be what was refused.
        record.timestamp = Timestamp::Unknown;
        let value = original.value.as_deref().unwrap_or_default();
        let mut header = |name: &str, text: String| {
            record.headers.append(Header::new(format!("{HEADER_PREFIX}{name}"), Some(text)));
        };
        header("truncated", "true".to_owned());
        header("value.bytes", value.len().to_string());
        header("value.sha256", hex(&Sha256::digest(value)));
        header("headers", original.headers.len().to_string());
        record
    }
}

/// Where a dead letter was stored, as the audit event names it.
pub(super) fn coordinates(channel: &str, receipt: Receipt) -> String {
    match (receipt.partition, receipt.offset) {
        (Some(partition), Some(offset)) => format!("{channel}-{partition}@{offset}"),
        _ => channel.to_owned(),
    }
}

fn hex(bytes: &[u8]) -> String {
    use std::fmt::Write;
    bytes.iter().fold(String::with_capacity(bytes.len() * 2), |mut text, byte| {
        // Writing to a String cannot fail.
        if write!(text, "{byte:02x}").is_err() {
            text.clear();
        }
        text
    })
}
