//! By what a sink that drops what comes twice tells one message from another.

use std::hash::{BuildHasher, RandomState};

use portcullis_connector_api::{Channel, Message, Origin};
use sha2::{Digest, Sha256};

const RUN: &str = "run-";

/// What names a source's messages the same in every run. A stream that takes an id once loses a message whose id another
/// message has, so whatever could make two alike is in it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SourceIdentity {
    place: String,
    by_content: bool,
}

impl SourceIdentity {
    /// Of a broker that keeps each message where it stands, with its time: a topic that is made anew has other times.
    pub(crate) fn of_broker(kind: &str, place: &str) -> Self {
        Self { place: digest(&[kind, place]), by_content: false }
    }

    /// Of a file, which may be written anew with other content at the same place, and lies on more machines than one.
    pub(crate) fn of_file(path: &str) -> Self {
        let host = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
        Self { place: digest(&["file", host.trim(), path]), by_content: true }
    }

    /// Of what counts anew in each process (standard input, core NATS): no message of one run is one of another.
    pub(crate) fn of_this_run() -> Self {
        let run = RandomState::new().hash_one(std::process::id());
        Self { place: format!("{RUN}{run:016x}"), by_content: false }
    }

    /// Whether another run gives the same messages the same names.
    pub(crate) fn is_lasting(&self) -> bool {
        !self.place.starts_with(RUN)
    }

    /// What tells a message, as it arrived, from another that stood at its place before.
    pub(super) fn stamp(&self, message: &Message) -> u64 {
        if self.by_content { content(message) } else { message.timestamp.millis().unwrap_or_default().cast_unsigned() }
    }
}

/// What an origin needs beside the partition and the offset. Made when a message arrives: what it is by then cannot be read
/// off the message that leaves, which plugins have edited.
#[derive(Clone, Debug)]
pub(super) struct Name {
    /// The assignment's, not the message's, which may be a subject within a stream.
    pub(super) channel: Channel,
    pub(super) stamp: u64,
}

impl Name {
    pub(super) fn origin<'a>(
        &'a self,
        source: &'a SourceIdentity,
        (partition, offset): (i32, i64),
        output: u32,
    ) -> Origin<'a> {
        Origin { source: &source.place, channel: &self.channel, partition, offset, stamp: self.stamp, output }
    }
}

/// A plugin makes one message of one.
pub(super) const OUTPUT: u32 = 0;
/// No number of an output: what is kept as a dead letter may come through later.
pub(super) const DEAD_LETTER: u32 = u32::MAX;

fn content(message: &Message) -> u64 {
    let mut digest = Sha256::new();
    let mut part = |bytes: Option<&[u8]>| {
        // With their lengths: else a byte could move from the key to the value unseen.
        digest.update(bytes.map_or(u64::MAX, |bytes| bytes.len() as u64).to_le_bytes());
        digest.update(bytes.unwrap_or_default());
    };
    part(message.key.as_deref());
    part(message.value.as_deref());
    for header in message.headers.iter() {
        part(Some(header.name.as_ref()));
        part(header.value.as_deref());
    }
    part(Some(&message.timestamp.millis().unwrap_or_default().to_le_bytes()));
    first_8(&digest.finalize())
}

fn digest(parts: &[&str]) -> String {
    let mut digest = Sha256::new();
    for part in parts {
        digest.update((part.len() as u64).to_le_bytes());
        digest.update(part.as_bytes());
    }
    format!("{:016x}", first_8(&digest.finalize()))
}

fn first_8(digest: &[u8]) -> u64 {
    digest.iter().take(8).fold(0, |number, byte| number << 8 | u64::from(*byte))
}

#[cfg(test)]
mod tests {
    use portcullis_connector_api::Timestamp;

    use super::*;

    fn message(key: Option<&str>, value: &str, ms: i64) -> Message {
        Message {
            key: key.map(|key| key.to_owned().into()),
            value: Some(value.to_owned().into()),
            timestamp: Timestamp::Created(ms),
            ..Message::new("c")
        }
    }

    #[test]
    fn a_place_is_the_same_in_every_run_where_its_messages_are() {
        let kafka = SourceIdentity::of_broker("kafka", "k1:9092");
        assert_eq!(kafka, SourceIdentity::of_broker("kafka", "k1:9092"));
        assert_ne!(kafka, SourceIdentity::of_broker("kafka", "k2:9092"));
        assert_ne!(kafka, SourceIdentity::of_broker("nats", "k1:9092"));
        assert_eq!(SourceIdentity::of_file("/a"), SourceIdentity::of_file("/a"));
        assert_ne!(SourceIdentity::of_this_run(), SourceIdentity::of_this_run());
    }

    #[test]
    fn a_line_with_other_content_at_the_same_place_has_another_stamp() {
        let file = SourceIdentity::of_file("/a");
        let stamps = [
            message(None, "ab", 1),
            message(Some("a"), "b", 1),
            message(Some(""), "ab", 1),
            message(None, "ab", 2),
            message(None, "ac", 1),
        ];
        let stamps: Vec<u64> = stamps.iter().map(|message| file.stamp(message)).collect();
        assert!(stamps.iter().enumerate().all(|(at, stamp)| !stamps[..at].contains(stamp)), "{stamps:?}");
        assert_eq!(file.stamp(&message(None, "ab", 1)), stamps[0]);
        assert_eq!(SourceIdentity::of_broker("kafka", "k").stamp(&message(None, "x", 7)), 7);
    }
}
