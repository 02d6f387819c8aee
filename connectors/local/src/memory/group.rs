use std::collections::{BTreeMap, BTreeSet};

use portcullis_connector_api::{AckMode, AssignmentId};

use super::state::State;

/// A consumer group: its members in the order of joining, and the partitions that it has seen.
#[derive(Default)]
pub(super) struct Group {
    pub(super) members: Vec<u32>,
    pub(super) partitions: BTreeMap<(String, i32), Shared>,
}

/// A partition as its group sees it.
#[derive(Default)]
pub(super) struct Shared {
    /// The lowest offset that is not acknowledged.
    pub(super) committed: i64,
    /// Above `committed`, where each message is acknowledged by itself.
    acknowledged: BTreeSet<i64>,
    /// How often each offset was delivered that is not acknowledged.
    deliveries: BTreeMap<i64, u32>,
    pub(super) owner: Option<(u32, AssignmentId)>,
    /// The owner shall be told to give it away.
    pub(super) revoke: bool,
    /// The owner shall begin again with what is not acknowledged.
    pub(super) redeliver: bool,
}

impl Shared {
    /// Counts a delivery and returns how many there were before it.
    pub(super) fn delivered(&mut self, offset: i64, mode: AckMode) -> u32 {
        if mode == AckMode::None {
            self.committed = offset + 1;
            return 0;
        }
        let count = self.deliveries.entry(offset).or_default();
        *count += 1;
        *count - 1
    }

    pub(super) fn acknowledge(&mut self, offset: i64, mode: AckMode) {
        match mode {
            AckMode::None => {}
            AckMode::Cumulative => self.committed = self.committed.max(offset),
            AckMode::Each => {
                if offset >= self.committed {
                    self.acknowledged.insert(offset);
                }
                while self.acknowledged.remove(&self.committed) {
                    self.committed += 1;
                }
            }
        }
        self.deliveries = self.deliveries.split_off(&self.committed);
    }

    pub(super) fn is_acknowledged(&self, offset: i64) -> bool {
        offset < self.committed || self.acknowledged.contains(&offset)
    }
}

impl Group {
    pub(super) fn shared(&mut self, channel: &str, partition: i32) -> Option<&mut Shared> {
        self.partitions.get_mut(&(channel.to_owned(), partition))
    }

    /// How many partitions a member should have: an equal share, and the remainder for those who joined first.
    pub(super) fn share(&self, member: u32) -> usize {
        let Some(rank) = self.members.iter().position(|other| *other == member) else {
            return 0;
        };
        let (partitions, members) = (self.partitions.len(), self.members.len());
        partitions / members + usize::from(rank < partitions % members)
    }

    /// Nobody's any more: for whoever polls first.
    pub(super) fn free(&mut self, owner: (u32, AssignmentId)) {
        for shared in self.partitions.values_mut().filter(|shared| shared.owner == Some(owner)) {
            shared.owner = None;
            shared.revoke = false;
        }
    }

    pub(super) fn leave(&mut self, member: u32) {
        self.members.retain(|other| *other != member);
        for shared in self.partitions.values_mut().filter(|shared| shared.owner.is_some_and(|owner| owner.0 == member))
        {
            shared.owner = None;
            shared.revoke = false;
        }
    }
}

impl State {
    pub(super) fn revoke(&mut self, group: &str, channel: &str, partition: i32, lost: bool) -> bool {
        let shared = self.groups.get_mut(group).and_then(|group| group.shared(channel, partition));
        let Some(shared) = shared.filter(|shared| shared.owner.is_some()) else {
            return false;
        };
        if lost {
            shared.owner = None;
        } else {
            shared.revoke = true;
        }
        true
    }

    pub(super) fn redeliver(&mut self, group: &str) {
        if let Some(group) = self.groups.get_mut(group) {
            group.partitions.values_mut().for_each(|shared| shared.redeliver = true);
        }
    }

    pub(super) fn committed(&self, group: &str, channel: &str, partition: i32) -> i64 {
        let group = self.groups.get(group);
        group
            .and_then(|group| group.partitions.get(&(channel.to_owned(), partition)))
            .map_or(0, |shared| shared.committed)
    }
}
