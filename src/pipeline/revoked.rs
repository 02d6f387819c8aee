//! Which assignments are gone, as the lanes see it. Work of a partition that another bridge has taken over must not leave
//! any more: it would overtake what the new owner has sent.

use std::collections::HashSet;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};

use portcullis_connector_api::{AssignmentId, Token};

use super::work::assignment_of;

/// Written by the intake at each revocation.
#[derive(Debug, Default)]
pub(super) struct Revoked {
    changes: AtomicU64,
    gone: Mutex<HashSet<AssignmentId>>,
}

impl Revoked {
    pub(super) fn add(&self, ids: &[AssignmentId]) {
        self.gone.lock().unwrap_or_else(PoisonError::into_inner).extend(ids);
        self.changes.fetch_add(1, Ordering::Release);
    }
}

/// A lane's own copy: while nothing changes, a look costs one load.
#[derive(Debug, Default)]
pub(super) struct Seen {
    changes: u64,
    gone: HashSet<AssignmentId>,
}

impl Seen {
    /// Whether the message of this token is not ours any more.
    pub(super) fn is_gone(&mut self, revoked: &Revoked, token: Token) -> bool {
        let changes = revoked.changes.load(Ordering::Acquire);
        if changes != self.changes {
            self.changes = changes;
            self.gone.clone_from(&revoked.gone.lock().unwrap_or_else(PoisonError::into_inner));
        }
        !self.gone.is_empty() && self.gone.contains(&assignment_of(token))
    }
}

#[cfg(test)]
mod tests {
    use super::super::work::token;
    use super::*;

    #[test]
    fn a_lane_sees_a_revocation_at_its_next_look() {
        let (revoked, mut seen) = (Revoked::default(), Seen::default());
        let ours = |id| token(0, AssignmentId(id), 7);
        assert!(!seen.is_gone(&revoked, ours(1)));
        revoked.add(&[AssignmentId(1), AssignmentId(3)]);
        assert!(seen.is_gone(&revoked, ours(1)) && seen.is_gone(&revoked, ours(3)) && !seen.is_gone(&revoked, ours(2)));
    }
}
