//! Sums over the plugins of a tenant and of the node.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use portcullis_audit::Scope;

use super::log_rate::LogRate;
use super::turns::Turns;

/// What a plugin shares with others: each level counts for itself, and the lowest limit holds.
#[derive(Clone, Debug, Default)]
pub struct Sums {
    /// Memory of the tenant's and of the node's instances.
    pub memory: Vec<Arc<MemorySum>>,
    /// Log bytes of the plugin's, the tenant's and the node's instances.
    pub log: Vec<Arc<LogRate>>,
    /// The tenant's turns on the processor; none where there is nobody to share it with.
    pub turns: Option<Arc<Turns>>,
}

/// Bytes of all memories and tables of all instances of a level.
#[derive(Debug)]
pub struct MemorySum {
    scope: Scope,
    limit_bytes: u64,
    used_bytes: AtomicU64,
}

impl MemorySum {
    /// A sum with its limit in bytes.
    pub fn new(scope: Scope, limit_bytes: u64) -> Self {
        Self { scope, limit_bytes, used_bytes: AtomicU64::new(0) }
    }

    /// What it is counted over.
    pub fn scope(&self) -> Scope {
        self.scope
    }

    /// The limit in bytes.
    pub fn limit_bytes(&self) -> u64 {
        self.limit_bytes
    }

    /// Takes so many bytes, or none.
    pub(super) fn take(&self, bytes: u64) -> bool {
        let more = |used: u64| used.checked_add(bytes).filter(|sum| *sum <= self.limit_bytes);
        self.used_bytes.fetch_update(Ordering::Relaxed, Ordering::Relaxed, more).is_ok()
    }

    pub(super) fn give_back(&self, bytes: u64) {
        self.used_bytes.fetch_sub(bytes, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_sum_gives_all_or_nothing_and_takes_back() {
        let sum = MemorySum::new(Scope::Tenant, 100);
        assert!(sum.take(60));
        assert!(!sum.take(41));
        assert!(sum.take(40));
        sum.give_back(50);
        assert!(sum.take(50));
        assert!(!sum.take(1));
        assert!(!sum.take(u64::MAX), "an overflow is no room");
    }
}
