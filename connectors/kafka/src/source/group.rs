//! Partitions come and go.

use std::time::Instant;

use portcullis_connector_api::{AssignmentId, Batch, ConnectorError, Event};

use super::slots::State;
use super::start::{self, Beginning};
use super::{KafkaSource, Stall};
use crate::failure;
use crate::native::{Place, Rebalance};
use crate::settings::OutOfRange;

/// What is to be done about the assignment, one after the other. The group waits for each.
pub(super) enum Change {
    /// The group gives these.
    Assign(Vec<Place>),
    /// The group wants these back. `waiting`: not yet released by the pipeline; `None` before it was told.
    Revoke { places: Vec<Place>, lost: bool, waiting: Option<Vec<AssignmentId>> },
    /// Nobody gives an onlooker partitions: it takes all there are.
    Look,
    /// A partition whose position was out of range starts again.
    Restart { topic: String, partition: i32 },
}

impl KafkaSource {
    /// Does what is to be done as far as it can be. A change that cannot be made now is tried again at the next poll.
    pub(super) fn change_assignment(&mut self, batch: &mut Batch) -> Result<(), ConnectorError> {
        let consumer = self.consumer()?;
        let rebalances = std::mem::take(&mut consumer.client().context().read().rebalances);
        self.changes.extend(rebalances.into_iter().map(|change| match change {
            Rebalance::Assign(places) => Change::Assign(places),
            Rebalance::Revoke { places, lost } => Change::Revoke { places, lost, waiting: None },
        }));
        while let Some(change) = self.changes.front_mut() {
            match change {
                Change::Assign(places) => {
                    let places = std::mem::take(places);
                    if let Err(error) = self.assign(&places, batch) {
                        if let Some(Change::Assign(kept)) = self.changes.front_mut() {
                            *kept = places;
                        }
                        return Err(error);
                    }
                }
                Change::Look => self.look(batch)?,
                Change::Revoke { waiting: Some(_), .. } => return Ok(()),
                Change::Revoke { places, lost, waiting: None } => {
                    let (places, lost) = (std::mem::take(places), *lost);
                    if self.announce(places, lost, batch) {
                        return Ok(());
                    }
                }
                Change::Restart { topic, partition } => {
                    let (topic, partition) = (std::mem::take(topic), *partition);
                    self.restart(&topic, partition, batch)?;
                }
            }
            self.changes.pop_front();
        }
        Ok(())
    }

    fn assign(&mut self, places: &[Place], batch: &mut Batch) -> Result<(), ConnectorError> {
        let asked = Instant::now();
        let beginnings = start::beginnings(self.consumer()?, &self.settings, places)?;
        tracing::debug!(
            group = self.settings.group,
            partitions = places.len(),
            took_ms = asked.elapsed().as_millis(),
            "assigned"
        );
        self.begin(&beginnings, batch)
    }

    /// Takes every partition without being a member.
    fn look(&mut self, batch: &mut Batch) -> Result<(), ConnectorError> {
        let consumer = self.consumer()?;
        let places = start::partitions(consumer, &self.settings.topics)?;
        let mut beginnings = start::beginnings(consumer, &self.settings, &places)?;
        start::within_range(consumer, &self.settings, &mut beginnings)?;
        self.begin(&beginnings, batch)
    }

    fn begin(&mut self, beginnings: &[Beginning], batch: &mut Batch) -> Result<(), ConnectorError> {
        let consumer = self.consumer()?;
        let assigned =
            consumer.assign(beginnings.iter().map(|place| (place.topic.as_str(), place.partition, place.start)));
        assigned.map_err(|code| failure::error(code, "cannot take the assigned partitions"))?;
        let places = || beginnings.iter().map(|place| (place.topic.as_str(), place.partition));
        // librdkafka keeps the mark of a pause beyond an assignment.
        let stalled = self.stall == Stall::Paused;
        let regulated = if stalled { consumer.pause(places()) } else { consumer.resume(places()) };
        regulated.map_err(|code| failure::error(code, "cannot start the assigned partitions"))?;
        for place in beginnings {
            let (id, channel) = self.slots.add(&place.topic, place.partition, place.start, place.committed);
            batch.events.push(Event::Assigned { id, channel, partition: place.partition });
        }
        Ok(())
    }

    /// Tells the pipeline which partitions go. False when it has none of them: then they are gone already.
    fn announce(&mut self, places: Vec<Place>, lost: bool, batch: &mut Batch) -> bool {
        let mut assignments = Vec::new();
        for place in &places {
            let Some(slot) = self.slots.at_mut(&place.topic, place.partition) else { continue };
            match slot.state {
                // What was to start again is another's now, and what is in work of it must not be finished any more.
                State::Active | State::OutOfRange => assignments.push(slot.id),
                State::Revoking { .. } => {}
            }
            slot.state = State::Revoking { lost: lost || slot.state != State::Active };
            slot.stash.clear();
        }
        if assignments.is_empty() {
            self.give_back(&places);
            return false;
        }
        if let Some(Change::Revoke { places: kept, waiting, .. }) = self.changes.front_mut() {
            *kept = places;
            *waiting = Some(assignments.clone());
        }
        batch.events.push(Event::Revoking { assignments, lost });
        true
    }

    /// The pipeline has let these go.
    pub(super) fn let_go(&mut self, assignments: &[AssignmentId]) -> Result<(), ConnectorError> {
        // What was acknowledged without waiting may still be under way, and the next owner starts from it.
        if let Err(error) = self.commit_now() {
            tracing::warn!(%error, "positions of partitions that go were not moved; their last messages come again");
        }
        for id in assignments {
            let Some(slot) = self.slots.remove(*id) else { continue };
            if slot.state == State::OutOfRange {
                self.changes.push_back(Change::Restart { topic: slot.topic, partition: slot.partition });
            }
        }
        let Some(Change::Revoke { places, waiting: Some(waiting), .. }) = self.changes.front_mut() else {
            return Ok(());
        };
        waiting.retain(|id| !assignments.contains(id));
        if waiting.is_empty() {
            let places = std::mem::take(places);
            self.changes.pop_front();
            self.give_back(&places);
        }
        Ok(())
    }

    fn give_back(&self, places: &[Place]) {
        let Some(consumer) = &self.consumer else { return };
        let places = places.iter().map(|place| (place.topic.as_str(), place.partition, Place::NONE));
        if let Err(code) = consumer.unassign(places) {
            tracing::warn!(?code, "partitions could not be given back; the group takes them at the session's end");
        }
    }

    /// Starts a partition again whose position was out of range. A seek would not do: librdkafka has stopped it.
    fn restart(&mut self, topic: &str, partition: i32, batch: &mut Batch) -> Result<(), ConnectorError> {
        let start = match self.settings.out_of_range {
            OutOfRange::Latest => Place::END,
            OutOfRange::Earliest | OutOfRange::Stop => Place::BEGINNING,
        };
        let unassigned = self.consumer()?.unassign([(topic, partition, Place::NONE)]);
        unassigned
            .map_err(|code| failure::error(code, format!("cannot start `{topic}` partition {partition} again")))?;
        let beginning = Beginning { topic: topic.to_owned(), partition, start, committed: Place::NONE };
        self.begin(&[beginning], batch)
    }
}
