//! Positions: what the pipeline has done, and how much of it the broker knows.

use std::time::{Duration, Instant};

use portcullis_connector_api::{Acknowledgement, ConnectorError, ErrorKind};
use rdkafka::types::RDKafkaErrorCode as Code;

use super::{KafkaSource, closed};
use crate::failure;
use crate::native::Place;

/// How long a commit that asks for certainty waits for the broker.
const LIMIT: Duration = Duration::from_secs(5);
/// A commit that failed is made again after this, also when nothing new is done.
const RETRY: Duration = Duration::from_secs(1);

impl KafkaSource {
    /// Notes what is done. A late entry, of an assignment that is gone, and one that would go back do nothing.
    pub(super) fn note_done(&mut self, done: &[Acknowledgement]) {
        for entry in done {
            if let Some(slot) = self.slots.get_mut(entry.assignment) {
                slot.position.done = slot.position.done.max(entry.offset);
            }
        }
    }

    /// Starts a commit of what is not on its way.
    pub(super) fn commit(&mut self) -> Result<(), ConnectorError> {
        let consumer = self.consumer.as_ref().ok_or_else(closed)?;
        let moved = self.slots.iter().filter(|slot| slot.may_commit() && slot.position.done > slot.position.sent);
        let places: Vec<_> = moved.map(|slot| (slot.topic.as_str(), slot.partition, slot.position.done)).collect();
        if places.is_empty() {
            return Ok(());
        }
        consumer.commit(places).map_err(failed)?;
        for slot in self.slots.iter_mut().filter(|slot| slot.may_commit()) {
            slot.position.sent = slot.position.done;
        }
        Ok(())
    }

    /// Commits what the broker has not confirmed, and waits until it has.
    pub(super) fn commit_now(&mut self) -> Result<(), ConnectorError> {
        self.read_commits()?;
        let consumer = self.consumer.as_ref().ok_or_else(closed)?;
        let moved = self.slots.iter().filter(|slot| slot.may_commit() && slot.position.done > slot.position.stored);
        let places: Vec<_> = moved.map(|slot| (slot.topic.as_str(), slot.partition, slot.position.done)).collect();
        if places.is_empty() {
            return Ok(());
        }
        let answers = consumer.commit_now(places, LIMIT).map_err(failed)?;
        let mut refused = None;
        for (place, result) in answers {
            match result {
                Ok(()) => self.stored(&place),
                Err(code) => refused = Some(code),
            }
        }
        refused.map_or(Ok(()), |code| Err(failed(code)))
    }

    /// Reads the broker's answers and makes again what failed: without new messages nobody else would.
    pub(super) fn follow_commits(&mut self) -> Result<(), ConnectorError> {
        self.read_commits()?;
        if self.next_commit_retry <= Instant::now() {
            self.next_commit_retry = Instant::now() + RETRY;
            return match self.commit() {
                Err(error) if error.kind == ErrorKind::Retriable => {
                    tracing::debug!(%error, "trying again");
                    Ok(())
                }
                other => other,
            };
        }
        Ok(())
    }

    fn read_commits(&mut self) -> Result<(), ConnectorError> {
        let consumer = self.consumer.as_ref().ok_or_else(closed)?;
        let commits = std::mem::take(&mut consumer.client().context().read().commits);
        let mut hopeless = None;
        for commit in commits {
            for (place, result) in commit.places {
                let Err(code) = commit.result.and(result) else {
                    self.stored(&place);
                    continue;
                };
                tracing::warn!(topic = place.topic, partition = place.partition, ?code, "a position was not moved");
                if failure::kind(code) != ErrorKind::Retriable {
                    hopeless = Some(code);
                }
                if let Some(slot) = self.slots.at_mut(&place.topic, place.partition) {
                    slot.position.sent = slot.position.stored;
                }
            }
        }
        hopeless.map_or(Ok(()), |code| Err(failed(code)))
    }

    fn stored(&mut self, place: &Place) {
        if let Some(slot) = self.slots.at_mut(&place.topic, place.partition) {
            // The answer to a commit of an earlier assignment may be far above what this one has done.
            if place.offset <= slot.position.done {
                slot.position.stored = slot.position.stored.max(place.offset);
                slot.position.sent = slot.position.sent.max(place.offset);
            }
        }
    }
}

/// A new owner resumes from the last position that was moved: messages may come again, none is lost.
fn failed(code: Code) -> ConnectorError {
    failure::error(code, "cannot move the group's positions")
}
