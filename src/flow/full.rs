//! Which bound a full queue has met.

use crate::queue::{Amount, Bounds};

/// Whose bound it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum QueueLevel {
    /// The queues' own.
    Own,
    /// Of all queues of a tenant.
    Tenant,
    /// Of all queues of the process.
    Node,
}

/// A bound that leaves no room.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Full {
    /// Whose it is.
    pub level: QueueLevel,
    /// Whether it is the one in bytes; else it is the one in messages.
    pub in_bytes: bool,
    /// What it allows.
    pub limit: usize,
}

impl Full {
    pub(crate) fn of(room: Amount, level: QueueLevel, bounds: Bounds) -> Option<Self> {
        let in_bytes = room.messages > 0;
        let limit = if in_bytes { bounds.bytes } else { bounds.messages };
        room.is_exhausted().then_some(Self { level, in_bytes, limit })
    }
}
