//! Sums over the plugins of a tenant and of the node. Atomics and no lock but for a lane that has to wait for its turn.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, PoisonError};

use portcullis_audit::Scope;

/// What a plugin shares with others: each level counts for itself, and the lowest limit holds.
#[derive(Clone, Debug, Default)]
pub struct Sums {
    /// Memory of the tenant's and of the node's instances.
    pub memory: Vec<Arc<MemorySum>>,
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

/// How many threads may run guest code of one tenant at once. A tenant whose plugins compute without end keeps its own
/// turns busy and leaves the others' alone; a call that waits for the network holds none.
#[derive(Debug)]
pub struct Turns {
    free: AtomicU64,
    waiting: AtomicU64,
    lock: Mutex<()>,
    given_back: Condvar,
}

impl Turns {
    /// So many at once, at least one.
    pub fn new(turns: u32) -> Self {
        Self {
            free: AtomicU64::new(u64::from(turns.max(1))),
            waiting: AtomicU64::new(0),
            lock: Mutex::default(),
            given_back: Condvar::new(),
        }
    }

    /// The turns of each tenant by its share of the cores: at least one each, so that nobody is shut out.
    pub fn of_share(cores: usize, share: u64, all_shares: u64) -> Self {
        let turns = (cores as u64).saturating_mul(share) / all_shares.max(1);
        Self::new(u32::try_from(turns).unwrap_or(u32::MAX))
    }

    /// Waits for a turn; it ends when what is returned is dropped.
    pub(super) fn take(&self) -> Turn<'_> {
        if self.try_take() {
            return Turn(self);
        }
        self.waiting.fetch_add(1, Ordering::SeqCst);
        let mut guard = self.lock.lock().unwrap_or_else(PoisonError::into_inner);
        // Asked again under the lock: whoever gives back after this look takes the lock to wake us.
        while !self.try_take() {
            guard = self.given_back.wait(guard).unwrap_or_else(PoisonError::into_inner);
        }
        drop(guard);
        self.waiting.fetch_sub(1, Ordering::SeqCst);
        Turn(self)
    }

    fn try_take(&self) -> bool {
        self.free.fetch_update(Ordering::SeqCst, Ordering::SeqCst, |free| free.checked_sub(1)).is_ok()
    }
}

/// The right to run guest code now.
#[derive(Debug)]
pub(super) struct Turn<'a>(&'a Turns);

impl Drop for Turn<'_> {
    fn drop(&mut self) {
        self.0.free.fetch_add(1, Ordering::SeqCst);
        if self.0.waiting.load(Ordering::SeqCst) > 0 {
            let _between_look_and_wait = self.0.lock.lock().unwrap_or_else(PoisonError::into_inner);
            self.0.given_back.notify_one();
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::AtomicUsize;

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

    #[test]
    fn never_more_threads_than_turns_run_at_once_and_all_get_theirs() {
        let turns = Turns::new(2);
        let (running, most, done) = (AtomicUsize::new(0), AtomicUsize::new(0), AtomicUsize::new(0));
        std::thread::scope(|scope| {
            for _ in 0..8 {
                scope.spawn(|| {
                    for _ in 0..2_000 {
                        let _turn = turns.take();
                        let now = running.fetch_add(1, Ordering::SeqCst) + 1;
                        most.fetch_max(now, Ordering::SeqCst);
                        running.fetch_sub(1, Ordering::SeqCst);
                        done.fetch_add(1, Ordering::SeqCst);
                    }
                });
            }
        });
        assert!(most.load(Ordering::SeqCst) <= 2);
        assert_eq!(done.load(Ordering::SeqCst), 16_000);
    }

    #[test]
    fn a_share_is_rounded_down_and_never_to_nothing() {
        let free = |cores, share, all| Turns::of_share(cores, share, all).free.load(Ordering::SeqCst);
        assert_eq!((free(2, 1, 2), free(2, 1, 100), free(8, 3, 4), free(4, 1, 1)), (1, 1, 6, 4));
    }
}
