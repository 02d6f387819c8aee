//! Tokens in a time. One atomic and no lock: several levels and many threads take of the same rate.

use std::sync::OnceLock;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

/// A number in a period as one atomic: the moment at which everything taken will have been earned again. What may be taken at
/// once is the number itself.
#[derive(Debug)]
pub struct Rate {
    count: u64,
    period_ns: u64,
    /// Nanoseconds since [`clock_ns`]'s origin.
    paid_until_ns: AtomicU64,
}

impl Rate {
    /// So many in a period; all of them are there at once.
    pub fn new(count: u64, period: Duration) -> Self {
        let period_ns = u64::try_from(period.as_nanos()).unwrap_or(u64::MAX).max(1);
        Self { count, period_ns, paid_until_ns: AtomicU64::new(0) }
    }

    /// How many in a period.
    pub fn count(&self) -> u64 {
        self.count
    }

    /// The period in nanoseconds.
    pub fn period_ns(&self) -> u64 {
        self.period_ns
    }

    /// Takes `units` of every rate or of none.
    ///
    /// # Errors
    /// The place of the first that has no room.
    pub fn take_of_all<'a>(rates: impl IntoIterator<Item = &'a Self>, units: u64) -> Result<(), usize> {
        take_of_the_rest(&mut rates.into_iter(), units, 0)
    }

    /// What `units` take of the time. Rounded up, so that no rate is exceeded.
    fn cost_ns(&self, units: u64) -> u64 {
        if self.count == 0 {
            return u64::MAX;
        }
        let cost = (u128::from(units) * u128::from(self.period_ns)).div_ceil(u128::from(self.count));
        u64::try_from(cost).unwrap_or(u64::MAX)
    }

    /// Takes `units` that are earned at that moment, or none.
    pub fn try_take_at(&self, units: u64, now_ns: u64) -> bool {
        self.take_within(units, now_ns, 0).is_some()
    }

    /// Takes `units` that will have been earned so long after now, and gives when all that was taken with them will have been
    /// earned again. None where they will not have been.
    pub fn take_within(&self, units: u64, now_ns: u64, within_ns: u64) -> Option<u64> {
        let cost = self.cost_ns(units);
        let latest = self.period_ns.saturating_add(within_ns);
        let paid = |paid: u64| paid.max(now_ns).checked_add(cost);
        let taken = |before: u64| paid(before).filter(|after| after - now_ns <= latest);
        let before = self.paid_until_ns.fetch_update(Ordering::Relaxed, Ordering::Relaxed, taken).ok()?;
        paid(before)
    }

    /// Gives `units` back that were taken up to that mark, as far as it lies ahead: what has been earned again since is there
    /// already, and would be there twice. Whether anything was given back.
    pub fn give_back_of(&self, units: u64, mark_ns: u64, now_ns: u64) -> bool {
        let cost = self.cost_ns(units).min(mark_ns.saturating_sub(now_ns));
        let given = |paid: u64| Some(paid.saturating_sub(cost));
        // Cannot fail: the closure always gives a value.
        let _previous = self.paid_until_ns.fetch_update(Ordering::Relaxed, Ordering::Relaxed, given);
        cost > 0
    }

    /// Takes what was used already: may go into debt.
    pub fn take(&self, units: u64) {
        let (now, cost) = (clock_ns(), self.cost_ns(units));
        let taken = |paid: u64| Some(paid.max(now).saturating_add(cost));
        // Cannot fail: the closure always gives a value.
        let _previous = self.paid_until_ns.fetch_update(Ordering::Relaxed, Ordering::Relaxed, taken);
    }

    /// How many may be taken now.
    pub fn available(&self) -> u64 {
        self.available_at(clock_ns())
    }

    fn available_at(&self, now_ns: u64) -> u64 {
        let owed = self.paid_until_ns.load(Ordering::Relaxed).saturating_sub(now_ns);
        let earned = u128::from(self.period_ns.saturating_sub(owed)) * u128::from(self.count);
        u64::try_from(earned / u128::from(self.period_ns)).unwrap_or(u64::MAX)
    }

    /// How long until `units` may be taken, or all that the rate ever allows at once.
    pub fn wait_for(&self, units: u64) -> Duration {
        let now = clock_ns();
        let wanted = units.min(self.count).max(1);
        if self.available_at(now) >= wanted {
            return Duration::ZERO;
        }
        if self.count == 0 {
            return Duration::from_nanos(self.period_ns);
        }
        let owed = self.paid_until_ns.load(Ordering::Relaxed).saturating_sub(now);
        let short = owed.saturating_add(self.cost_ns(wanted)).saturating_sub(self.period_ns);
        Duration::from_nanos(short).max(Duration::from_millis(1))
    }
}

/// Nanoseconds since the first look at this clock. It does not go back.
pub fn clock_ns() -> u64 {
    static ORIGIN: OnceLock<Instant> = OnceLock::new();
    u64::try_from(ORIGIN.get_or_init(Instant::now).elapsed().as_nanos()).unwrap_or(u64::MAX)
}

/// Each takes, asks those behind it, and gives back where one of them has no room, as far as that was not earned again meanwhile.
fn take_of_the_rest<'a>(rates: &mut impl Iterator<Item = &'a Rate>, units: u64, at: usize) -> Result<(), usize> {
    let Some(rate) = rates.next() else { return Ok(()) };
    let mark = rate.take_within(units, clock_ns(), 0).ok_or(at)?;
    let rest = take_of_the_rest(rates, units, at + 1);
    if rest.is_err() {
        rate.give_back_of(units, mark, clock_ns());
    }
    rest
}

#[cfg(test)]
mod tests {
    use super::*;

    const HOUR: Duration = Duration::from_secs(3600);

    #[test]
    fn a_rate_allows_its_number_at_once_and_earns_it_back_in_its_period() {
        let rate = Rate::new(10, Duration::from_secs(1));
        let now = 5_000_000_000;
        assert_eq!(rate.available_at(now), 10);
        assert!((0..10).all(|_| rate.try_take_at(1, now)));
        assert!(!rate.try_take_at(1, now));
        assert_eq!(rate.available_at(now), 0);
        assert!(!rate.try_take_at(1, now + 99_000_000));
        assert!(rate.try_take_at(1, now + 100_000_000));
        assert_eq!(rate.available_at(now + 2_000_000_000), 10);
    }

    #[test]
    fn what_is_given_back_after_it_was_earned_again_gives_nothing_more() {
        let (rate, second) = (Rate::new(10, Duration::from_secs(1)), 1_000_000_000);
        let begun = 5 * second;
        let marks: Vec<u64> = (0..8).map(|_| rate.take_within(1, begun, 0).unwrap()).collect();
        let now = begun + second;
        assert_eq!((0..20).filter(|_| rate.try_take_at(1, now)).count(), 10);
        assert!(marks.iter().all(|mark| !rate.give_back_of(1, *mark, now)));
        assert!(!rate.try_take_at(1, now), "ten in a second, not eighteen");

        // At once it is all given back, and in between what has not been earned yet: never more than the rate.
        for (after, earned) in [(0, 10), (second / 4, 10), (second / 2, 10)] {
            let rate = Rate::new(10, Duration::from_secs(1));
            let marks: Vec<u64> = (0..10).map(|_| rate.take_within(1, begun, 0).unwrap()).collect();
            for mark in marks {
                rate.give_back_of(1, mark, begun + after);
            }
            assert_eq!((0..20).filter(|_| rate.try_take_at(1, begun + after)).count(), earned);
        }
    }

    #[test]
    fn a_rate_of_nothing_allows_nothing() {
        let rate = Rate::new(0, Duration::from_secs(1));
        assert!(!rate.try_take_at(1, clock_ns()));
        assert_eq!(rate.available(), 0);
        assert!(rate.wait_for(1) > Duration::ZERO);
    }

    #[test]
    fn what_was_used_without_asking_is_a_debt_that_the_next_one_waits_for() {
        let rate = Rate::new(1000, Duration::from_secs(1));
        rate.take(3000);
        assert_eq!(rate.available(), 0);
        let wait = rate.wait_for(100);
        assert!(wait > Duration::from_millis(1900) && wait < Duration::from_millis(2200), "{wait:?}");
    }

    #[test]
    fn very_high_rates_do_not_overflow() {
        let rate = Rate::new(u64::MAX, Duration::from_secs(1));
        assert!(rate.try_take_at(1 << 40, clock_ns()));
        rate.take(u64::MAX);
        assert!(!rate.try_take_at(u64::MAX, clock_ns()));
    }

    #[test]
    fn of_several_rates_all_are_taken_or_none() {
        let rates = [Rate::new(10, HOUR), Rate::new(4, HOUR), Rate::new(100, HOUR)];
        assert_eq!(Rate::take_of_all(&rates, 3), Ok(()));
        assert_eq!(Rate::take_of_all(&rates, 2), Err(1));
        assert_eq!(Rate::take_of_all(&rates, 8), Err(0));
        assert_eq!(rates.each_ref().map(Rate::available), [7, 1, 97]);
        assert_eq!(Rate::take_of_all([], 3), Ok(()));
    }

    #[test]
    fn threads_together_take_no_more_than_there_is() {
        let (rate, now) = (Rate::new(60_000, HOUR), clock_ns());
        let taken: usize = std::thread::scope(|scope| {
            let threads: Vec<_> =
                (0..4).map(|_| scope.spawn(|| (0..60_000).filter(|_| rate.try_take_at(1, now)).count())).collect();
            threads.into_iter().map(|thread| thread.join().unwrap()).sum()
        });
        assert_eq!(taken, 60_000);
    }
}
