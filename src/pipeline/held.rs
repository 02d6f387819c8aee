//! Which assignments are ours, as the lanes see it. Work of a partition that another bridge has taken over must not leave
//! any more: it would overtake what the new owner has sent.

use std::collections::HashSet;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};

use portcullis_connector_api::{AssignmentId, Token};

use super::work::assignment_of;

/// Written by the intake at each assignment, before its first message, and at each revocation. What is gone has no end, so it
/// is not what is held here.
#[derive(Debug, Default)]
pub(super) struct Held {
    changes: AtomicU64,
    ours: Mutex<HashSet<AssignmentId>>,
}

impl Held {
    pub(super) fn assigned(&self, id: AssignmentId) {
        self.change(|ours| ours.extend([id]));
    }

    pub(super) fn revoked(&self, gone: &[AssignmentId]) {
        self.change(|ours| ours.retain(|id| !gone.contains(id)));
    }

    fn change(&self, change: impl FnOnce(&mut HashSet<AssignmentId>)) {
        change(&mut self.ours.lock().unwrap_or_else(PoisonError::into_inner));
        self.changes.fetch_add(1, Ordering::Release);
    }
}

/// A lane's own copy: while nothing changes, a look costs one load.
#[derive(Debug, Default)]
pub(super) struct LaneCopy {
    changes: u64,
    ours: HashSet<AssignmentId>,
    /// The last one found: neighbours in a slice mostly share a partition.
    last: Option<AssignmentId>,
}

impl LaneCopy {
    /// Whether the message of this token is not ours any more.
    pub(super) fn is_gone(&mut self, held: &Held, token: Token) -> bool {
        let changes = held.changes.load(Ordering::Acquire);
        if changes != self.changes {
            self.changes = changes;
            self.ours.clone_from(&held.ours.lock().unwrap_or_else(PoisonError::into_inner));
            self.last = None;
        }
        let id = assignment_of(token);
        if self.last == Some(id) {
            return false;
        }
        let is_ours = self.ours.contains(&id);
        self.last = is_ours.then_some(id);
        !is_ours
    }
}

#[cfg(test)]
mod tests {
    use super::super::work::token;
    use super::*;

    fn of(id: u32) -> Token {
        token(0, AssignmentId(id), 7)
    }

    #[test]
    fn a_lane_sees_a_revocation_at_its_next_look() {
        let (held, mut copy) = (Held::default(), LaneCopy::default());
        (1..=3).for_each(|id| held.assigned(AssignmentId(id)));
        assert!(!copy.is_gone(&held, of(1)) && !copy.is_gone(&held, of(1)));
        held.revoked(&[AssignmentId(1), AssignmentId(3)]);
        assert!(copy.is_gone(&held, of(1)) && copy.is_gone(&held, of(3)) && !copy.is_gone(&held, of(2)));
    }

    #[test]
    fn ten_thousand_revocations_leave_no_more_than_what_is_ours() {
        let (held, mut copy) = (Held::default(), LaneCopy::default());
        held.assigned(AssignmentId(1));
        for id in 2..10_002 {
            held.assigned(AssignmentId(id));
            assert!(!copy.is_gone(&held, of(id)));
            held.revoked(&[AssignmentId(id)]);
            assert!(copy.is_gone(&held, of(id)));
        }
        assert!(copy.is_gone(&held, of(2)) && !copy.is_gone(&held, of(1)));
        assert_eq!((copy.ours.len(), held.ours.lock().unwrap().len()), (1, 1));
    }
}
