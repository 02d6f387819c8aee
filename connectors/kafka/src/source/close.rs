use std::sync::mpsc;
use std::thread;
use std::time::{Duration, Instant};

use portcullis_connector_api::{ConnectorError, ErrorKind};

use super::KafkaSource;
use super::group::Change;
use crate::native::Place;

/// For a source that is dropped without `close`.
pub(super) const LIMIT: Duration = Duration::from_secs(5);

impl KafkaSource {
    /// Leaves the group and ends the client. On a thread of its own, because librdkafka can wait for ever there
    /// (confluentinc/librdkafka#4674 and others): then the thread stays until the process ends.
    pub(super) fn leave(&mut self, deadline: Duration) -> Result<(), ConnectorError> {
        let started = Instant::now();
        if self.consumer.is_some()
            && let Err(error) = self.commit_now()
        {
            tracing::warn!(%error, "positions were not moved at the end; the last messages come again");
        }
        let Some(mut consumer) = self.consumer.take() else { return Ok(()) };
        // Messages refer to the client and must go first.
        self.held.clear();
        self.slots.clear();
        consumer.client().context().close();
        // The group may wait for an answer that the pipeline has not given.
        let answered = match self.changes.pop_front() {
            Some(Change::Assign(_)) => consumer.assign([]),
            Some(Change::Revoke { places, .. }) => {
                consumer.unassign(places.iter().map(|place| (place.topic.as_str(), place.partition, Place::NONE)))
            }
            Some(Change::Look | Change::Restart { .. }) | None => Ok(()),
        };
        if let Err(code) = answered {
            tracing::debug!(?code, "the last rebalance was not answered");
        }
        let over = move || started.elapsed() >= deadline;
        let (ended, end) = mpsc::sync_channel(1);
        let left = thread::Builder::new().name("kafka-close".to_owned()).spawn(move || {
            let left = consumer.leave(over);
            if left {
                drop(consumer);
            } else {
                // Its end would wait for the group once more.
                std::mem::forget(consumer);
            }
            // The other side may have given up already.
            ended.send(left).is_ok()
        });
        let late = || {
            ConnectorError::new(
                ErrorKind::Retriable,
                format!(
                    "the consumer did not leave within {} ms; the group notices at its session's end",
                    deadline.as_millis()
                ),
            )
        };
        left.map_err(|error| late().caused_by(error))?;
        match end.recv_timeout(deadline.saturating_sub(started.elapsed())) {
            Ok(true) => Ok(()),
            _ => Err(late()),
        }
    }
}
