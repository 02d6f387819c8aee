//! What goes wrong while polling.

use std::time::{Duration, Instant};

use portcullis_connector_api::{Batch, ConnectorError, ErrorKind, Event};
use rdkafka::types::RDKafkaErrorCode as Code;

use super::KafkaSource;
use super::slots::State;
use crate::failure;
use crate::native::NativeMessage;
use crate::settings::{Membership, OutOfRange};

/// A topic that the broker did not know. It may have been made a moment ago, and not every broker knows it yet.
pub(super) struct Suspect {
    topic: String,
    since: Instant,
}

/// A topic that is unknown for so long does not exist.
const UNKNOWN: Duration = Duration::from_secs(3);
/// Between two questions to a broker while something is wrong.
const PROBE: Duration = Duration::from_millis(500);

impl KafkaSource {
    /// Judges an error that came in the place of a message. `Ok` when the source goes on by itself.
    pub(super) fn trouble(
        &mut self,
        code: Code,
        native: &NativeMessage,
        batch: &mut Batch,
    ) -> Result<(), ConnectorError> {
        let (topic, partition, text) = (native.topic().to_owned(), native.partition(), native.error_text());
        match code {
            Code::AutoOffsetReset => self.out_of_range(&topic, partition, native.offset(), batch),
            // The group has taken the partitions away; the revocation that says so comes next.
            Code::PollExceeded => {
                tracing::warn!(group = self.settings.group, "polled too late: {text}");
                Ok(())
            }
            Code::UnknownTopic | Code::UnknownTopicOrPartition => {
                let topics = self.settings.topics.iter().filter(|known| topic.is_empty() || **known == topic);
                let suspects = topics.map(|topic| Suspect { topic: topic.clone(), since: Instant::now() });
                self.suspects.extend(suspects);
                Ok(())
            }
            // librdkafka has skipped what it could not read, so going on would lose it.
            Code::MessageSizeTooLarge | Code::InvalidMessage => Err(ConnectorError::new(
                ErrorKind::Fatal,
                format!("cannot read `{topic}` partition {partition} at offset {}: {text}", native.offset()),
            )),
            code if failure::kind(code) == ErrorKind::Retriable => {
                tracing::warn!(topic, partition, ?code, "{text}");
                // librdkafka 2.12 counts the error as a message that was delivered, and would skip one after a pause.
                if let Some(place) = self.slots.at_mut(&topic, partition).map(|slot| slot.place()) {
                    let sought = self.consumer()?.seek([(topic.as_str(), partition, place)]);
                    sought.map_err(|code| failure::error(code, format!("cannot go on in `{topic}`")))?;
                }
                Ok(())
            }
            code => Err(failure::error(code, format!("cannot read `{topic}` partition {partition}: {text}"))),
        }
    }

    fn out_of_range(
        &mut self,
        topic: &str,
        partition: i32,
        offset: i64,
        batch: &mut Batch,
    ) -> Result<(), ConnectorError> {
        let group = &self.settings.group;
        let range = match self.consumer()?.client().fetch_watermarks(topic, partition, Duration::from_secs(2)) {
            Ok((low, high)) => self::range(low, high),
            Err(error) => format!("what the topic holds is not known: {error}"),
        };
        let found = self::out_of_range(group, (topic, partition), offset, &range);
        // An onlooker that has started within the range has met retention, and has nobody to give the partition to.
        if self.settings.out_of_range == OutOfRange::Stop || self.settings.membership == Membership::Onlooker {
            return Err(gone(&found));
        }
        tracing::warn!("{found}; going on as configured ({:?})", self.settings.out_of_range);
        // Offsets may go back, which no assignment does: so this is the end of one and the start of another.
        if let Some(slot) = self.slots.at_mut(topic, partition).filter(|slot| slot.state == State::Active) {
            slot.state = State::OutOfRange;
            slot.stash.clear();
            batch.events.push(Event::StartsOver { assignments: vec![slot.id] });
        }
        Ok(())
    }

    /// Reports what is wrong with the client as a whole, and finds out whether it still is: librdkafka says when the last
    /// broker goes, and nothing when one comes back.
    pub(super) fn check_health(&mut self, batch: &Batch) -> Result<(), ConnectorError> {
        let (dead, outage) = {
            let mut notes = self.consumer()?.client().context().read();
            if !batch.records.is_empty() {
                notes.outage = None;
            }
            (notes.dead.take(), notes.outage.clone())
        };
        if let Some(error) = dead {
            return Err(error);
        }
        let due = self.next_probe <= Instant::now();
        if due && (outage.is_some() || !self.suspects.is_empty()) {
            self.next_probe = Instant::now() + PROBE;
            self.probe()?;
        }
        match self.consumer()?.client().context().read().outage.clone() {
            Some(reason) => Err(ConnectorError::new(
                ErrorKind::Retriable,
                format!("no broker of `{}` can be reached: {reason}", self.settings.connection.brokers),
            )),
            None => Ok(()),
        }
    }

    fn probe(&mut self) -> Result<(), ConnectorError> {
        let client = self.consumer()?.client();
        let topics = self.suspects.iter().map(|suspect| suspect.topic.as_str());
        let Some(topic) = topics.chain(self.settings.topics.iter().map(String::as_str)).next() else { return Ok(()) };
        let Ok(metadata) = client.fetch_metadata(Some(topic), PROBE) else { return Ok(()) };
        client.context().read().outage = None;
        let error = metadata.topics().iter().find(|found| found.name() == topic).and_then(|found| found.error());
        let Some(suspect) = self.suspects.first() else { return Ok(()) };
        match error.map(Code::from) {
            None => {
                self.suspects.remove(0);
                Ok(())
            }
            Some(code) if suspect.since.elapsed() >= UNKNOWN => {
                let kind = match failure::kind(code) {
                    ErrorKind::Retriable => ErrorKind::Configuration,
                    kind => kind,
                };
                Err(ConnectorError::new(kind, format!("topic `{topic}` does not exist or must not be read ({code:?})")))
            }
            Some(_) => Ok(()),
        }
    }
}

/// What a partition holds, in words.
pub(super) fn range(low: i64, high: i64) -> String {
    format!("the topic holds {low} up to {high}")
}

/// A position of the group that the partition does not hold, in words.
pub(super) fn out_of_range(group: &str, (topic, partition): (&str, i32), position: i64, range: &str) -> String {
    format!("position {position} of group `{group}` in `{topic}` partition {partition} is out of range: {range}")
}

/// Such a position as the end of the source.
pub(super) fn gone(found: &str) -> ConnectorError {
    let help = "messages are gone; `out_of_range: earliest` or `latest` goes on with what is there";
    ConnectorError::new(ErrorKind::Fatal, format!("{found}; {help}"))
}
