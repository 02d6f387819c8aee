//! When a call has taken too long. The clock is read once in a tick of the epoch, so that most calls end without a look at it.

use std::time::{Duration, Instant};

/// How long the call in work may take.
#[derive(Debug, Default)]
pub(super) struct Deadline {
    allowed: Duration,
    /// None before the call's first tick, and where no clock reaches that far.
    ends_at: Option<Instant>,
}

/// What a call meets at a tick.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Tick {
    First,
    Later,
    /// It has taken too long.
    Over,
}

impl Deadline {
    /// A call begins. Its time runs from its first tick: it may take one tick longer and never ends early.
    pub(super) fn begin(&mut self, allowed: Duration) {
        *self = Self { allowed, ends_at: None };
    }

    /// The time runs from `now`, for a call that may wait: nothing that it waits for lasts longer.
    pub(super) fn run_from(&mut self, now: Instant) -> Option<Instant> {
        self.ends_at = now.checked_add(self.allowed);
        self.ends_at
    }

    /// A tick while the call computes. The time in which it was held up is not its own.
    pub(super) fn at_tick(&mut self, now: Instant, held_up: Duration) -> Tick {
        let Some(ends_at) = self.ends_at else {
            self.run_from(now);
            return Tick::First;
        };
        let is_over = ends_at.checked_add(held_up).is_some_and(|end| now >= end);
        if is_over { Tick::Over } else { Tick::Later }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: Duration = Duration::from_millis(1);

    #[test]
    fn a_call_is_over_when_its_time_has_passed_since_its_first_tick_and_not_before() {
        let (mut deadline, now) = (Deadline::default(), Instant::now());
        deadline.begin(5 * MS);
        assert_eq!(deadline.at_tick(now + 90 * MS, Duration::ZERO), Tick::First, "however late the first tick is");
        assert_eq!(deadline.at_tick(now + 95 * MS - Duration::from_nanos(1), Duration::ZERO), Tick::Later);
        assert_eq!(deadline.at_tick(now + 95 * MS, Duration::ZERO), Tick::Over);
    }

    #[test]
    fn the_next_call_has_a_time_of_its_own() {
        let (mut deadline, now) = (Deadline::default(), Instant::now());
        deadline.begin(5 * MS);
        assert_eq!(deadline.at_tick(now, Duration::ZERO), Tick::First);
        deadline.begin(50 * MS);
        assert_eq!(deadline.at_tick(now + 20 * MS, Duration::ZERO), Tick::First);
        assert_eq!(deadline.at_tick(now + 69 * MS, Duration::ZERO), Tick::Later);
    }

    #[test]
    fn time_in_which_a_call_was_held_up_is_not_its_own() {
        let (mut deadline, now) = (Deadline::default(), Instant::now());
        deadline.begin(5 * MS);
        assert_eq!(deadline.run_from(now), Some(now + 5 * MS));
        assert_eq!(deadline.at_tick(now + 14 * MS, 10 * MS), Tick::Later);
        assert_eq!(deadline.at_tick(now + 15 * MS, 10 * MS), Tick::Over);
    }

    #[test]
    fn a_time_past_every_clock_never_ends() {
        let (mut deadline, now) = (Deadline::default(), Instant::now());
        deadline.begin(Duration::MAX);
        assert_eq!(deadline.run_from(now), None);
        deadline.begin(MS);
        deadline.run_from(now);
        assert_eq!(deadline.at_tick(now + 90 * MS, Duration::MAX), Tick::Later);
    }
}
