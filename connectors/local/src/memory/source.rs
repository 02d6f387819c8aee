use std::sync::{Arc, PoisonError};
use std::time::{Duration, Instant};

use portcullis_connector_api::{
    AckMode, Acknowledgement, AssignmentId, Batch, Budget, ConnectorError, Event, Record, Source,
};

use super::state::State;
use super::{MemoryBroker, MemorySourceSettings};

/// A member of a group of the in-memory broker.
pub struct MemorySource {
    broker: Arc<MemoryBroker>,
    settings: MemorySourceSettings,
    /// From the first poll on.
    member: Option<u32>,
    owned: Vec<Owned>,
    /// Which of the owned is asked first, so that a full partition does not starve the others.
    turn: usize,
    finished: bool,
}

/// A partition that is ours.
struct Owned {
    id: AssignmentId,
    channel: String,
    partition: i32,
    next: i64,
    paused: bool,
    revoking: bool,
}

impl MemorySource {
    pub(super) fn new(broker: Arc<MemoryBroker>, settings: MemorySourceSettings) -> Self {
        Self { broker, settings, member: None, owned: Vec::new(), turn: 0, finished: false }
    }

    /// One look at the broker: what changed, then what there is to read.
    fn look(&mut self, state: &mut State, budget: Budget, batch: &mut Batch) -> Result<(), ConnectorError> {
        let member = self.join(state)?;
        for channel in &self.settings.channels {
            state.faults(channel).poll()?;
        }
        if self.give(state, member, batch) {
            return Ok(());
        }
        self.take(state, member, batch);
        if budget.messages == 0 || budget.bytes == 0 || self.finished {
            return Ok(());
        }
        self.read(state, budget, batch);
        if self.at_the_end(state) {
            self.finished = true;
            batch.events.push(Event::Finished);
        }
        Ok(())
    }

    fn join(&mut self, state: &mut State) -> Result<u32, ConnectorError> {
        if let Some(member) = self.member {
            return Ok(member);
        }
        for channel in &self.settings.channels {
            state.exists(channel)?;
        }
        let member = state.number();
        for channel in &self.settings.channels {
            let partitions = state.partitions(channel);
            let group = state.groups.entry(self.settings.group.clone()).or_default();
            for partition in 0..partitions {
                group.partitions.entry((channel.clone(), partition)).or_default();
            }
        }
        state.groups.entry(self.settings.group.clone()).or_default().members.push(member);
        self.member = Some(member);
        Ok(member)
    }

    /// Announces what is lost, was revoked, or is more than our share. True when something was.
    fn give(&mut self, state: &mut State, member: u32, batch: &mut Batch) -> bool {
        let Some(group) = state.groups.get_mut(&self.settings.group) else {
            return false;
        };
        let (mut lost, mut revoked) = (Vec::new(), Vec::new());
        let mut surplus = self.active().saturating_sub(group.share(member));
        for owned in &mut self.owned {
            let shared = group.shared(&owned.channel, owned.partition);
            let Some(shared) = shared.filter(|shared| shared.owner == Some((member, owned.id))) else {
                lost.push(owned.id);
                continue;
            };
            if !owned.revoking && (shared.revoke || surplus > 0) {
                surplus = surplus.saturating_sub(usize::from(!shared.revoke));
                shared.revoke = false;
                owned.revoking = true;
                revoked.push(owned.id);
            }
        }
        self.owned.retain(|owned| !lost.contains(&owned.id));
        let any = !lost.is_empty() || !revoked.is_empty();
        for (assignments, lost) in [(lost, true), (revoked, false)] {
            if !assignments.is_empty() {
                batch.events.push(Event::Revoking { assignments, lost });
            }
        }
        any
    }

    /// Takes free partitions up to our share.
    fn take(&mut self, state: &mut State, member: u32, batch: &mut Batch) {
        while let Some(group) = state.groups.get(&self.settings.group) {
            let free = group
                .partitions
                .iter()
                .find(|((channel, _), shared)| shared.owner.is_none() && self.settings.channels.contains(channel));
            let Some(((channel, partition), _)) = free.filter(|_| self.active() < group.share(member)) else {
                return;
            };
            let (channel, partition) = (channel.clone(), *partition);
            let id = AssignmentId(state.number());
            let group = state.groups.get_mut(&self.settings.group);
            let Some(shared) = group.and_then(|group| group.shared(&channel, partition)) else {
                return;
            };
            shared.owner = Some((member, id));
            shared.redeliver = false;
            let next = shared.committed;
            batch.events.push(Event::Assigned { id, channel: channel.as_str().into(), partition });
            self.owned.push(Owned { id, channel, partition, next, paused: false, revoking: false });
        }
    }

    fn active(&self) -> usize {
        self.owned.iter().filter(|owned| !owned.revoking).count()
    }

    fn read(&mut self, state: &mut State, budget: Budget, batch: &mut Batch) {
        let mode = self.settings.ack_mode;
        let (mut messages, mut bytes) = (0, 0);
        self.turn = self.turn.wrapping_add(1);
        let count = self.owned.len();
        for index in 0..count {
            let Some(owned) = self.owned.get_mut((self.turn + index) % count) else {
                return;
            };
            if owned.paused || owned.revoking {
                continue;
            }
            let group = state.groups.get_mut(&self.settings.group);
            if let Some(shared) = group.and_then(|group| group.shared(&owned.channel, owned.partition))
                && std::mem::take(&mut shared.redeliver)
                && mode == AckMode::Each
            {
                owned.next = shared.committed;
            }
            while messages < budget.messages && bytes < budget.bytes {
                let stored = state.partition(&owned.channel, owned.partition);
                let at = usize::try_from(owned.next).unwrap_or(usize::MAX);
                let Some(message) = stored.and_then(|(_, stored)| stored.get(at)).cloned() else {
                    break;
                };
                let offset = owned.next;
                owned.next += 1;
                let group = state.groups.get_mut(&self.settings.group);
                let Some(shared) = group.and_then(|group| group.shared(&owned.channel, owned.partition)) else {
                    break;
                };
                if mode == AckMode::Each && shared.is_acknowledged(offset) {
                    continue;
                }
                messages += 1;
                bytes += message.size_bytes();
                let redelivered = shared.delivered(offset, mode);
                batch.records.push(Record { message, assignment: owned.id, offset, redelivered, defect: None });
            }
        }
    }

    /// Whether nothing can come any more: every channel has ended, each of our partitions is read, and no partition is on
    /// its way from one member to another.
    fn at_the_end(&self, state: &State) -> bool {
        let read = |owned: &Owned| {
            let length = state.partition(&owned.channel, owned.partition).map_or(0, |(_, stored)| stored.len());
            !owned.revoking && usize::try_from(owned.next).is_ok_and(|next| next >= length)
        };
        let group = state.groups.get(&self.settings.group);
        self.settings.channels.iter().all(|channel| state.has_ended(channel))
            && self.owned.iter().all(read)
            && group.is_some_and(|group| group.partitions.values().all(|shared| shared.owner.is_some()))
    }

    fn owned(&mut self, id: AssignmentId) -> Option<&mut Owned> {
        self.owned.iter_mut().find(|owned| owned.id == id)
    }

    fn set_paused(&mut self, assignments: &[AssignmentId], paused: bool) {
        for id in assignments {
            if let Some(owned) = self.owned(*id) {
                owned.paused = paused;
            }
        }
    }
}

impl Source for MemorySource {
    fn ack_mode(&self) -> AckMode {
        self.settings.ack_mode
    }

    fn poll(&mut self, budget: Budget, wait: Duration, batch: &mut Batch) -> Result<(), ConnectorError> {
        let deadline = Instant::now() + wait;
        let broker = Arc::clone(&self.broker);
        let mut state = broker.lock();
        loop {
            self.look(&mut state, budget, batch)?;
            if !batch.records.is_empty() || !batch.events.is_empty() || budget.messages == 0 || budget.bytes == 0 {
                // Positions and owners may have moved, which others wait for.
                broker.changed.notify_all();
                return Ok(());
            }
            match broker.wait_for_change(state, deadline) {
                Some(woken) => state = woken,
                None => return Ok(()),
            }
        }
    }

    fn acknowledge(&mut self, done: &[Acknowledgement], _: bool) -> Result<(), ConnectorError> {
        let broker = Arc::clone(&self.broker);
        broker.with(|state| {
            for channel in &self.settings.channels {
                state.faults(channel).acknowledge()?;
            }
            for entry in done {
                let member = self.member;
                let owned = self.owned(entry.assignment).map(|owned| (owned.channel.clone(), owned.partition));
                let group = state.groups.get_mut(&self.settings.group);
                let shared = owned.zip(group).and_then(|((channel, partition), group)| {
                    let shared = group.shared(&channel, partition)?;
                    (shared.owner == member.map(|member| (member, entry.assignment))).then_some(shared)
                });
                match shared {
                    Some(shared) => shared.acknowledge(entry.offset, self.settings.ack_mode),
                    None => state.late_acknowledgements += 1,
                }
            }
            Ok(())
        })
    }

    fn pause(&mut self, assignments: &[AssignmentId]) -> Result<(), ConnectorError> {
        self.set_paused(assignments, true);
        Ok(())
    }

    fn resume(&mut self, assignments: &[AssignmentId]) -> Result<(), ConnectorError> {
        self.set_paused(assignments, false);
        Ok(())
    }

    fn release(&mut self, assignments: &[AssignmentId]) -> Result<(), ConnectorError> {
        self.owned.retain(|owned| !assignments.contains(&owned.id));
        if let Some(member) = self.member {
            self.broker.with(|state| {
                if let Some(group) = state.groups.get_mut(&self.settings.group) {
                    assignments.iter().for_each(|id| group.free((member, *id)));
                }
            });
        }
        Ok(())
    }

    fn lag(&self) -> Vec<(AssignmentId, u64)> {
        let state = self.broker.lock();
        let lag = |owned: &Owned| {
            let length = state.partition(&owned.channel, owned.partition).map_or(0, |(_, stored)| stored.len() as u64);
            (owned.id, length.saturating_sub(u64::try_from(owned.next).unwrap_or(0)))
        };
        self.owned.iter().map(lag).collect()
    }

    fn close(self: Box<Self>, _: Duration) -> Result<(), ConnectorError> {
        Ok(())
    }
}

impl Drop for MemorySource {
    fn drop(&mut self) {
        let Some(member) = self.member else {
            return;
        };
        let mut state = self.broker.state.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(group) = state.groups.get_mut(&self.settings.group) {
            group.leave(member);
        }
        drop(state);
        self.broker.changed.notify_all();
    }
}
