mod close;
mod commit;
mod group;
mod notes;
mod slots;
mod start;
mod trouble;

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use portcullis_connector_api::{AckMode, Acknowledgement, AssignmentId, Batch, Budget, ConnectorError, Source};

use crate::native::{Consumer, NativeMessage};
use crate::record::{self, Arena};
use crate::settings::{Membership, SourceSettings};
use crate::{client_config, failure};

use group::Change;
use notes::Notes;
use slots::Slots;
use trouble::Suspect;

/// Taken out of librdkafka in one call at most.
const BATCH: usize = 1024;
/// Room for messages of partitions that could not be paused in time; far above what can be under way.
const KEPT_WHILE_STALLED: usize = 4 * BATCH;
/// librdkafka's own.
const MAX_POLL_INTERVAL: Duration = Duration::from_secs(300);
/// Back-pressure that lasts this long is answered with a pause. A pause throws away what was fetched, so a short one
/// only stops taking; but while nothing is taken, no rebalance is seen either.
const STALL: Duration = Duration::from_secs(10);

/// A member of a consumer group as a source. See the contract of [`Source`]; positions are the group's offsets.
pub struct KafkaSource {
    /// `None` only after `close`.
    consumer: Option<Consumer<Notes>>,
    settings: SourceSettings,
    slots: Slots,
    /// Taken out of librdkafka and not delivered, in order. librdkafka counts them as delivered, so none may be dropped while
    /// its partition is ours.
    held: VecDeque<NativeMessage>,
    changes: VecDeque<Change>,
    suspects: Vec<Suspect>,
    arena: Arena,
    stall: Stall,
    next_commit_retry: Instant,
    next_probe: Instant,
}

/// How long the pipeline has taken nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stall {
    No,
    Since(Instant),
    /// All partitions are paused.
    Paused,
}

impl KafkaSource {
    /// Joins the group, or only looks on. Returns at once; brokers are reached later, and what is wrong shows in `poll`.
    ///
    /// # Errors
    /// `Configuration` for a setting that librdkafka refuses or that [`refused`](crate::refused) names.
    pub fn new(settings: SourceSettings) -> Result<Self, ConnectorError> {
        let consumer = Consumer::new(&client_config::source(&settings)?, Notes::default())?;
        let mut changes = VecDeque::new();
        match settings.membership {
            Membership::Member => {
                consumer.subscribe(&settings.topics).map_err(|code| failure::error(code, "cannot subscribe"))?;
            }
            Membership::Onlooker => changes.push_back(Change::Look),
        }
        Ok(Self {
            consumer: Some(consumer),
            settings,
            slots: Slots::default(),
            held: VecDeque::with_capacity(BATCH),
            changes,
            suspects: Vec::new(),
            arena: Arena::default(),
            stall: Stall::No,
            next_commit_retry: Instant::now(),
            next_probe: Instant::now(),
        })
    }

    fn consumer(&self) -> Result<&Consumer<Notes>, ConnectorError> {
        self.consumer.as_ref().ok_or_else(closed)
    }

    /// Takes messages out of librdkafka, which also runs its callbacks and keeps us in the group.
    fn take(&mut self, count: usize, wait: Duration) -> Result<usize, ConnectorError> {
        let consumer = self.consumer.as_mut().ok_or_else(closed)?;
        Ok(consumer.consume(&mut self.held, count, wait))
    }

    /// Moves what is held into the batch, as far as the budget goes.
    fn deliver(&mut self, budget: Budget, batch: &mut Batch) -> Result<(), ConnectorError> {
        let (mut messages, mut bytes) = (0, 0);
        while messages < budget.messages && bytes < budget.bytes {
            let Some(native) = self.held.pop_front() else { break };
            if let Some(code) = native.error() {
                self.trouble(code, &native, batch)?;
                continue;
            }
            let Some(slot) = self.slots.of(&native) else { continue };
            if slot.paused {
                slot.stash.push_back(native);
            } else if slot.takes(native.offset()) {
                let record = record::copy(&native, &mut self.arena, slot.id, slot.channel.clone());
                messages += 1;
                bytes += record.message.size_bytes();
                batch.records.push(record);
            }
        }
        Ok(())
    }

    /// Nothing may be delivered. A short time nothing is taken either; then all partitions are paused, so that the group
    /// can be served without messages.
    fn stay_alive(&mut self) -> Result<(), ConnectorError> {
        let limit = STALL.min(self.max_poll_interval() / 3);
        match self.stall {
            Stall::No => self.stall = Stall::Since(Instant::now()),
            Stall::Since(since) if since.elapsed() >= limit => {
                tracing::info!(group = self.settings.group, "paused: nothing was taken for {} s", limit.as_secs());
                self.stall = Stall::Paused;
                let paused =
                    self.consumer()?.pause(self.slots.iter().map(|slot| (slot.topic.as_str(), slot.partition)));
                paused.map_err(|code| failure::error(code, "cannot pause"))?;
            }
            Stall::Since(_) | Stall::Paused => {}
        }
        if self.stall == Stall::Paused && self.held.len() < KEPT_WHILE_STALLED {
            self.take(BATCH, Duration::ZERO)?;
        }
        Ok(())
    }

    fn go_on(&mut self) -> Result<(), ConnectorError> {
        if std::mem::replace(&mut self.stall, Stall::No) == Stall::Paused {
            let wanted = self.slots.iter().filter(|slot| !slot.paused);
            let resumed = self.consumer()?.resume(wanted.map(|slot| (slot.topic.as_str(), slot.partition)));
            resumed.map_err(|code| failure::error(code, "cannot resume"))?;
        }
        Ok(())
    }

    fn max_poll_interval(&self) -> Duration {
        let set = self.settings.connection.passthrough.iter().find(|(key, _)| key == "max.poll.interval.ms");
        set.and_then(|(_, value)| value.parse().ok()).map_or(MAX_POLL_INTERVAL, Duration::from_millis)
    }
}

impl Source for KafkaSource {
    fn ack_mode(&self) -> AckMode {
        AckMode::Cumulative
    }

    fn poll(&mut self, budget: Budget, wait: Duration, batch: &mut Batch) -> Result<(), ConnectorError> {
        if budget.messages == 0 || budget.bytes == 0 {
            self.stay_alive()?;
        } else {
            self.go_on()?;
            let room = budget.messages.min(BATCH).saturating_sub(self.held.len());
            let wait = if self.held.is_empty() { wait } else { Duration::ZERO };
            self.take(room, wait)?;
        }
        self.change_assignment(batch)?;
        self.deliver(budget, batch)?;
        self.follow_commits()?;
        self.check_health(batch)
    }

    fn acknowledge(&mut self, done: &[Acknowledgement], durable: bool) -> Result<(), ConnectorError> {
        if self.settings.membership == Membership::Onlooker {
            return Ok(());
        }
        self.note_done(done);
        if durable { self.commit_now() } else { self.commit() }
    }

    fn pause(&mut self, assignments: &[AssignmentId]) -> Result<(), ConnectorError> {
        let mut places = Vec::new();
        for id in assignments {
            if let Some(slot) = self.slots.get_mut(*id).filter(|slot| !slot.paused) {
                slot.paused = true;
                places.push((slot.topic.clone(), slot.partition));
            }
        }
        let paused = self.consumer()?.pause(places.iter().map(|(topic, partition)| (topic.as_str(), *partition)));
        paused.map_err(|code| failure::error(code, "cannot pause"))
    }

    fn resume(&mut self, assignments: &[AssignmentId]) -> Result<(), ConnectorError> {
        let mut places = Vec::new();
        for id in assignments {
            if let Some(slot) = self.slots.get_mut(*id).filter(|slot| slot.paused) {
                slot.paused = false;
                places.push((slot.topic.clone(), slot.partition));
                // In front, and in their order: whatever is held of this partition came later.
                while let Some(native) = slot.stash.pop_back() {
                    self.held.push_front(native);
                }
            }
        }
        if self.stall == Stall::Paused {
            return Ok(());
        }
        let resumed = self.consumer()?.resume(places.iter().map(|(topic, partition)| (topic.as_str(), *partition)));
        resumed.map_err(|code| failure::error(code, "cannot resume"))
    }

    fn release(&mut self, assignments: &[AssignmentId]) -> Result<(), ConnectorError> {
        self.let_go(assignments)
    }

    fn lag(&self) -> Vec<(AssignmentId, u64)> {
        let Some(consumer) = &self.consumer else { return Vec::new() };
        let slots = self.slots.iter();
        let known = slots.filter_map(|slot| Some((slot, consumer.cached_range(&slot.topic, slot.partition)?)));
        known.map(|(slot, range)| (slot.id, slot.lag(range))).collect()
    }

    fn close(mut self: Box<Self>, deadline: Duration) -> Result<(), ConnectorError> {
        self.leave(deadline)
    }
}

impl Drop for KafkaSource {
    fn drop(&mut self) {
        if let Err(error) = self.leave(close::LIMIT) {
            tracing::warn!(%error, "a Kafka source was dropped without close");
        }
    }
}

fn closed() -> ConnectorError {
    ConnectorError::new(portcullis_connector_api::ErrorKind::Fatal, "the source is closed")
}
