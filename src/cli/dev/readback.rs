//! A consumer of its own over the sink's topic, the dead letter queue and the audit topic. What it finds is the truth that
//! the summary shows: not a counter of the bridge.

use std::fs::File;
use std::io::{BufRead, BufReader};
use std::time::{Duration, Instant};

use anyhow::Context;
use portcullis_connector_api::{Batch, Budget, Message, Source};
use portcullis_connector_kafka::{Connection, KafkaSource, SourceSettings};
use serde_json::Value;

use super::feed::Sent;
use super::topics::Topics;
use crate::audit_store::Target;
use crate::pipeline::HEADER_PREFIX;

const POLL: Duration = Duration::from_millis(100);
/// Longer than a broker takes between two messages, also a busy one.
const QUIET: Duration = Duration::from_secs(8);

/// Where a message was found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Place {
    Sink,
    DeadLetter,
    Audit,
}

/// Everything found so far.
pub(super) struct Readback {
    source: KafkaSource,
    topics: Topics,
    batch: Batch,
    pub(super) passed: Vec<Message>,
    pub(super) dead: Vec<Message>,
    pub(super) audit: Vec<Value>,
    last_arrival: Option<Instant>,
}

impl Readback {
    pub(super) fn open(connection: &Connection, topics: &Topics) -> anyhow::Result<Self> {
        let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH)?.as_nanos();
        let group = format!("portcullis-dev-{}-{now}", std::process::id());
        let names = [&topics.sink].into_iter().chain(&topics.audit).chain(&topics.dead_letter).cloned().collect();
        let source = KafkaSource::new(SourceSettings::new(connection.clone(), group, names))?;
        let topics = topics.clone();
        Ok(Self {
            source,
            topics,
            batch: Batch::default(),
            passed: Vec::new(),
            dead: Vec::new(),
            audit: Vec::new(),
            last_arrival: None,
        })
    }

    /// Leaves the broker.
    pub(super) fn close(self) -> anyhow::Result<()> {
        Box::new(self.source).close(Duration::from_secs(5))?;
        Ok(())
    }

    /// Takes what is there and tells of each message.
    pub(super) fn poll(&mut self, mut tell: impl FnMut(&Message, Place)) -> anyhow::Result<()> {
        self.batch.clear();
        let budget = Budget { messages: 1000, bytes: 1 << 20 };
        self.source.poll(budget, POLL, &mut self.batch)?;
        for record in self.batch.records.drain(..) {
            let message = record.message;
            self.last_arrival = Some(Instant::now());
            let channel = message.channel.as_str();
            if self.topics.audit.as_deref() == Some(channel) {
                tell(&message, Place::Audit);
                self.audit.push(serde_json::from_slice(message.value.as_deref().unwrap_or_default())?);
            } else if channel == self.topics.sink {
                tell(&message, Place::Sink);
                self.passed.push(message);
            } else {
                tell(&message, Place::DeadLetter);
                self.dead.push(message);
            }
        }
        Ok(())
    }

    /// Whether nothing more is to be expected: each message that was sent is somewhere, but those to be dropped.
    pub(super) fn has_all(&self, sent: &[Sent]) -> bool {
        use portcullis_connector_local::envelope::Outcome;
        let dropped =
            sent.iter().filter(|line| line.expect.as_ref().is_some_and(|expect| expect.outcome == Outcome::Drop));
        self.passed.len() + self.dead.len() + dropped.count() >= sent.len()
    }

    /// Whether messages came and then stopped coming: where a plugin may drop, nobody knows how many will come.
    pub(super) fn is_quiet(&self) -> bool {
        self.last_arrival.is_some_and(|last| last.elapsed() >= QUIET)
    }

    /// Takes the events of this run from the file that they were written to, where that is their place.
    pub(super) fn take_audit_file(&mut self, audit: &Target) -> anyhow::Result<()> {
        let Target::File(path) = audit else { return Ok(()) };
        let file = File::open(path).with_context(|| format!("cannot read {}", path.display()))?;
        self.audit.clear();
        for line in BufReader::new(file).lines() {
            // The last one may be half there while everything is left running.
            let Ok(event) = serde_json::from_str::<Value>(&line?) else { continue };
            if event_code(&event) == "audit.boot" {
                self.audit.clear();
            }
            self.audit.push(event);
        }
        Ok(())
    }

    /// Reads on until the audit's last event is there.
    pub(super) fn audit_until_stop(&mut self, deadline: Instant) -> anyhow::Result<()> {
        let stopped = |event: &Value| event_code(event) == "audit.stop";
        while !self.audit.iter().any(stopped) && Instant::now() < deadline {
            self.poll(|_, _| ())?;
        }
        Ok(())
    }
}

/// The stable name of what an audit event tells.
pub(super) fn event_code(event: &Value) -> &str {
    event.pointer("/metadata/event_code").and_then(Value::as_str).unwrap_or("?")
}

/// A dead letter's own header, as text.
pub(super) fn letter_header<'a>(message: &'a Message, name: &str) -> Option<&'a str> {
    let header = message.headers.last(format!("{HEADER_PREFIX}{name}").as_bytes())?;
    std::str::from_utf8(header.value.as_deref()?).ok()
}
