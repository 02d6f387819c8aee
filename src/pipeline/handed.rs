//! What the lanes have handed to the sink, by assignment. Before a partition becomes another process's, what was sent of it
//! must be stored or given up: a send that arrives later overtakes what its next owner has sent.

use std::sync::{Mutex, MutexGuard, PoisonError};

use portcullis_connector_api::AssignmentId;

/// One count for each lane, so that no lane waits for another; the intake looks at a revocation and at the end.
#[derive(Debug)]
pub(super) struct Handed(Vec<Mutex<Count>>);

/// What one lane has handed over. Held while it asks whether a message may still leave, and sends it: whoever marks an
/// assignment as gone and then takes this lock knows that nothing of it is sent afterwards.
#[derive(Debug, Default)]
pub(super) struct Count {
    sent: Vec<(AssignmentId, u64)>,
    /// Where the last one was: neighbours in a slice mostly share a partition.
    last: usize,
}

impl Handed {
    pub(super) fn by(lanes: usize) -> Self {
        Self((0..lanes).map(|_| Mutex::default()).collect())
    }

    /// The count of a lane, for as long as a message is handed over. The sink never waits.
    pub(super) fn of(&self, lane: usize) -> Option<MutexGuard<'_, Count>> {
        self.0.get(lane).map(|count| count.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// How many messages of an assignment were handed over by all lanes.
    pub(super) fn sum(&self, id: AssignmentId) -> u64 {
        self.counts()
            .map(|count| count.sent.iter().filter(|entry| entry.0 == id).map(|entry| entry.1).sum::<u64>())
            .sum()
    }

    pub(super) fn forget(&self, ids: &[AssignmentId]) {
        self.counts().for_each(|mut count| count.sent.retain(|entry| !ids.contains(&entry.0)));
    }

    fn counts(&self) -> impl Iterator<Item = MutexGuard<'_, Count>> {
        (0..self.0.len()).filter_map(|lane| self.of(lane))
    }
}

impl Count {
    pub(super) fn add(&mut self, id: AssignmentId) {
        if self.sent.get(self.last).is_none_or(|entry| entry.0 != id) {
            self.last = self.sent.iter().position(|entry| entry.0 == id).unwrap_or_else(|| {
                self.sent.push((id, 0));
                self.sent.len() - 1
            });
        }
        if let Some(entry) = self.sent.get_mut(self.last) {
            entry.1 += 1;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lanes_count_for_themselves_and_are_summed_until_the_assignment_is_forgotten() {
        let handed = Handed::by(2);
        for (lane, id) in [(0, 7), (1, 7), (0, 9), (0, 7), (1, 9), (0, 9)] {
            handed.of(lane).unwrap().add(AssignmentId(id));
        }
        assert_eq!((handed.sum(AssignmentId(7)), handed.sum(AssignmentId(9)), handed.sum(AssignmentId(8))), (3, 3, 0));
        handed.forget(&[AssignmentId(7)]);
        handed.of(0).unwrap().add(AssignmentId(9));
        assert_eq!((handed.sum(AssignmentId(7)), handed.sum(AssignmentId(9))), (0, 4));
        assert!(handed.of(2).is_none());
    }
}
