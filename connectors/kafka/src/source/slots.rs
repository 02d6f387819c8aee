use std::collections::{HashMap, VecDeque};

use portcullis_connector_api::{AssignmentId, Channel};

use crate::native::{NativeMessage, Place};

/// A partition that is ours, from its assignment to its release.
pub(super) struct Slot {
    pub(super) id: AssignmentId,
    pub(super) topic: String,
    pub(super) partition: i32,
    pub(super) channel: Channel,
    pub(super) state: State,
    /// By the pipeline, which wants nothing of this partition for a while.
    pub(super) paused: bool,
    /// Messages that were taken out of librdkafka before the pause. librdkafka counts them as delivered, so they are kept
    /// and not fetched again.
    pub(super) stash: VecDeque<NativeMessage>,
    /// Where the assignment started: an offset or [`Place::BEGINNING`].
    start: i64,
    /// The offset after the last message that was delivered.
    next: Option<i64>,
    pub(super) position: Position,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum State {
    Active,
    /// The group wants it back, or has it back already (`lost`).
    Revoking {
        lost: bool,
    },
    /// Its position was out of range; after its release it starts again elsewhere.
    OutOfRange,
}

/// How far the pipeline is, and how much of that the broker knows. All are next offsets, -1 before the first.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Position {
    /// Acknowledged by the pipeline.
    pub(super) done: i64,
    /// On its way to the broker.
    pub(super) sent: i64,
    /// Confirmed by the broker.
    pub(super) stored: i64,
}

impl Position {
    pub(super) fn at(committed: i64) -> Self {
        let committed = committed.max(-1);
        Self { done: committed, sent: committed, stored: committed }
    }
}

impl Slot {
    /// Where the next message that is delivered stands.
    pub(super) fn place(&self) -> i64 {
        self.next.unwrap_or(self.start)
    }

    /// Whether a message of this offset is to be delivered now, and notes that it was.
    pub(super) fn takes(&mut self, offset: i64) -> bool {
        if self.state != State::Active || self.next.is_some_and(|next| offset < next) {
            return false;
        }
        self.next = Some(offset + 1);
        true
    }

    /// Messages between what was delivered and the end of the partition.
    pub(super) fn lag(&self, (low, high): (i64, i64)) -> u64 {
        let place = match self.place() {
            Place::BEGINNING => low,
            place => place.max(low),
        };
        u64::try_from(high - place).unwrap_or(0)
    }

    /// Whether commits for it are still ours to make.
    pub(super) fn may_commit(&self) -> bool {
        self.state != State::Revoking { lost: true } && self.state != State::OutOfRange
    }
}

/// The partitions that are ours, in the order of their assignment.
#[derive(Default)]
pub(super) struct Slots {
    slots: Vec<Slot>,
    assigned: u32,
    /// By the address of the topic's object, which librdkafka keeps while one of its partitions is assigned; emptied
    /// whenever a slot comes or goes.
    known: HashMap<(usize, i32), usize>,
    last: Option<((usize, i32), usize)>,
}

impl Slots {
    /// A partition came: it starts at `start`, and the group's position is `committed`.
    pub(super) fn add(&mut self, topic: &str, partition: i32, start: i64, committed: i64) -> (AssignmentId, Channel) {
        self.forget_addresses();
        self.assigned = self.assigned.wrapping_add(1);
        let (id, channel) = (AssignmentId(self.assigned), Channel::interned(topic));
        self.slots.push(Slot {
            id,
            topic: topic.to_owned(),
            partition,
            channel: channel.clone(),
            state: State::Active,
            paused: false,
            stash: VecDeque::new(),
            start,
            next: None,
            position: Position::at(committed),
        });
        (id, channel)
    }

    pub(super) fn remove(&mut self, id: AssignmentId) -> Option<Slot> {
        self.forget_addresses();
        let index = self.slots.iter().position(|slot| slot.id == id)?;
        Some(self.slots.remove(index))
    }

    pub(super) fn get_mut(&mut self, id: AssignmentId) -> Option<&mut Slot> {
        self.slots.iter_mut().find(|slot| slot.id == id)
    }

    /// The newest assignment of a partition.
    pub(super) fn at_mut(&mut self, topic: &str, partition: i32) -> Option<&mut Slot> {
        self.slots.iter_mut().rev().find(|slot| slot.partition == partition && slot.topic == topic)
    }

    /// The assignment that a message came through.
    pub(super) fn of(&mut self, message: &NativeMessage) -> Option<&mut Slot> {
        let address = (message.topic_address(), message.partition());
        let index = match self.last {
            Some((last, index)) if last == address => index,
            _ => {
                let index = self.known.get(&address).copied().or_else(|| self.search(message))?;
                self.known.insert(address, index);
                self.last = Some((address, index));
                index
            }
        };
        self.slots.get_mut(index)
    }

    fn search(&self, message: &NativeMessage) -> Option<usize> {
        let topic = message.topic();
        self.slots.iter().position(|slot| slot.partition == message.partition() && slot.topic == topic)
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = &Slot> {
        self.slots.iter()
    }

    pub(super) fn iter_mut(&mut self) -> impl Iterator<Item = &mut Slot> {
        self.slots.iter_mut()
    }

    /// Drops every message that is still kept; needed before the consumer goes.
    pub(super) fn clear(&mut self) {
        self.forget_addresses();
        self.slots.clear();
    }

    fn forget_addresses(&mut self) {
        self.known.clear();
        self.last = None;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_new_assignment_of_the_same_partition_has_a_new_number() {
        let mut slots = Slots::default();
        let first = slots.add("t", 0, Place::BEGINNING, Place::NONE).0;
        slots.remove(first).unwrap();
        let second = slots.add("t", 0, 5, 5).0;
        assert_ne!(first, second);
        assert!(slots.get_mut(first).is_none());
        assert_eq!(slots.at_mut("t", 0).unwrap().position, Position { done: 5, sent: 5, stored: 5 });
    }

    #[test]
    fn a_message_is_delivered_once_and_not_after_the_group_wants_the_partition_back() {
        let mut slots = Slots::default();
        let id = slots.add("t", 0, 3, Place::NONE).0;
        let slot = slots.get_mut(id).unwrap();
        assert!(slot.takes(3) && slot.takes(7), "gaps are natural");
        assert!(!slot.takes(7) && !slot.takes(4));
        slot.state = State::Revoking { lost: false };
        assert!(!slot.takes(8));
        assert!(slot.may_commit());
        slot.state = State::Revoking { lost: true };
        assert!(!slot.may_commit());
    }

    #[test]
    fn lag_counts_from_the_next_message_that_is_delivered() {
        let mut slots = Slots::default();
        let id = slots.add("t", 0, Place::BEGINNING, Place::NONE).0;
        let slot = slots.get_mut(id).unwrap();
        assert_eq!(slot.lag((10, 30)), 20);
        assert!(slot.takes(24));
        assert_eq!(slot.lag((10, 30)), 5);
        assert_eq!(slot.lag((10, 12)), 0, "a stale range is no lag");
    }
}
