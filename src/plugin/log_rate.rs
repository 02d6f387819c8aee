//! Log bytes in a time: what bounds a flood of lines over all calls, where the budget of one call begins anew with each.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use portcullis_audit::Scope;

/// What has not been used is kept for so long: a burst of errors is told, a flood is not.
const KEPT: Duration = Duration::from_secs(60);

/// Log bytes a second of a plugin, a tenant or the node, over all instances. One atomic and no lock.
#[derive(Debug)]
pub struct LogRate {
    scope: Scope,
    limit_bytes_s: u64,
    start: Instant,
    /// When, in nanoseconds after the start, all bytes that were taken will have been earned.
    earned_ns: AtomicU64,
}

impl LogRate {
    /// A rate in bytes a second; a minute's worth of it is there at once.
    pub fn new(scope: Scope, limit_bytes_s: u64) -> Self {
        Self { scope, limit_bytes_s: limit_bytes_s.max(1), start: Instant::now(), earned_ns: AtomicU64::new(0) }
    }

    /// What it is counted over.
    pub fn scope(&self) -> Scope {
        self.scope
    }

    /// The limit in bytes a second.
    pub fn limit_bytes_s(&self) -> u64 {
        self.limit_bytes_s
    }

    /// Takes so many bytes, or none.
    pub(super) fn take(&self, bytes: u64, now: Instant) -> bool {
        let now = nanoseconds(now.saturating_duration_since(self.start));
        let latest = now.saturating_add(nanoseconds(KEPT));
        let cost = self.cost_ns(bytes);
        let later = |earned: u64| earned.max(now).checked_add(cost).filter(|earned| *earned <= latest);
        self.earned_ns.fetch_update(Ordering::Relaxed, Ordering::Relaxed, later).is_ok()
    }

    /// Undoes a [`take`](Self::take) whose line was not written after all.
    pub(super) fn give_back(&self, bytes: u64) {
        self.earned_ns.fetch_sub(self.cost_ns(bytes), Ordering::Relaxed);
    }

    fn cost_ns(&self, bytes: u64) -> u64 {
        let cost = u128::from(bytes) * 1_000_000_000 / u128::from(self.limit_bytes_s);
        u64::try_from(cost).unwrap_or(u64::MAX)
    }
}

fn nanoseconds(time: Duration) -> u64 {
    u64::try_from(time.as_nanos()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_minutes_worth_is_there_at_once_and_the_rest_comes_with_the_time() {
        let rate = LogRate::new(Scope::Plugin, 100);
        let start = rate.start;
        assert!(rate.take(6000, start));
        assert!(!rate.take(1, start));
        let later = start + Duration::from_secs(3);
        assert!(!rate.take(301, later));
        assert!(rate.take(300, later));
        assert!(!rate.take(1, later));
        rate.give_back(200);
        assert!(rate.take(200, later));
        assert!(!rate.take(1, later));
        // However long it was quiet, no more than a minute's worth is kept.
        let much_later = start + Duration::from_secs(3600);
        assert!(!rate.take(6001, much_later));
        assert!(rate.take(6000, much_later));
        assert!(!rate.take(u64::MAX, much_later), "what has no room is no overflow");
    }

    #[test]
    fn threads_together_take_no_more_than_there_is() {
        let rate = LogRate::new(Scope::Node, 1000);
        let now = rate.start;
        let taken: u64 = std::thread::scope(|scope| {
            let threads: Vec<_> =
                (0..4).map(|_| scope.spawn(|| (0..60_000).filter(|_| rate.take(1, now)).count() as u64)).collect();
            threads.into_iter().map(|thread| thread.join().unwrap()).sum()
        });
        assert_eq!(taken, 60_000);
    }
}
