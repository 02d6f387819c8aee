//! When a call has taken too long, and when it lets others go first. The clock is read once in a tick of the epoch, so that most
//! calls end without a look at it.

use std::time::{Duration, Instant};

/// How long the call in work may take.
#[derive(Debug, Default)]
pub(super) struct Deadline {
    allowed: Duration,
    /// None before the call's first tick, and where no clock reaches that far.
    ends_at: Option<Instant>,
    /// Whether the guest has met a tick after which it has not paused.
    owes_pause: bool,
    has_paused: bool,
}

/// What a call does at a tick.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Tick {
    GoesOn,
    /// It goes on when others of its core had the chance to.
    Pauses,
    /// It has taken too long.
    IsOver,
}

impl Deadline {
    /// A call begins. Its time runs from its first look at a tick: what it does before, and one operation that looks at none,
    /// come on top, and it never ends early.
    ///
    /// Whoever has met a tick and ended before the next owes a pause still: calls of less than a tick, one after the other,
    /// keep a core as busy as one that never ends. An instance that serves one message has no such memory.
    pub(super) fn begin(&mut self, allowed: Duration) {
        *self = Self { allowed, ends_at: None, owes_pause: self.owes_pause && !self.has_paused, has_paused: false };
    }

    /// The time runs from `now`, for a call that may wait: nothing that it waits for lasts longer.
    pub(super) fn run_from(&mut self, now: Instant) -> Option<Instant> {
        self.ends_at = now.checked_add(self.allowed);
        self.ends_at
    }

    /// A tick while the call computes. The time in which it was held up is not its own. Who has waited since the last tick has
    /// most likely met this one while it waited.
    pub(super) fn at_tick(&mut self, now: Instant, held_up: Duration, has_waited: bool) -> Tick {
        let ends_at = self.ends_at.or_else(|| self.run_from(now));
        if ends_at.and_then(|end| end.checked_add(held_up)).is_some_and(|end| now >= end) {
            return Tick::IsOver;
        }
        let pauses = self.owes_pause && !has_waited;
        self.owes_pause = true;
        self.has_paused |= pauses;
        if pauses { Tick::Pauses } else { Tick::GoesOn }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: Duration = Duration::from_millis(1);
    const NONE: Duration = Duration::ZERO;

    #[test]
    fn a_call_is_over_when_its_time_has_passed_since_its_first_look_and_not_before() {
        let (mut deadline, now) = (Deadline::default(), Instant::now());
        deadline.begin(5 * MS);
        assert_eq!(deadline.at_tick(now + 90 * MS, NONE, false), Tick::GoesOn, "however late the first look is");
        assert_eq!(deadline.at_tick(now + 95 * MS - Duration::from_nanos(1), NONE, false), Tick::Pauses);
        assert_eq!(deadline.at_tick(now + 95 * MS, NONE, false), Tick::IsOver);
    }

    #[test]
    fn the_next_call_has_a_time_of_its_own() {
        let (mut deadline, now) = (Deadline::default(), Instant::now());
        deadline.begin(5 * MS);
        deadline.at_tick(now, NONE, false);
        deadline.begin(50 * MS);
        assert_ne!(deadline.at_tick(now + 20 * MS, NONE, false), Tick::IsOver);
        assert_ne!(deadline.at_tick(now + 69 * MS, NONE, false), Tick::IsOver);
        assert_eq!(deadline.at_tick(now + 70 * MS, NONE, false), Tick::IsOver);
    }

    #[test]
    fn time_in_which_a_call_was_held_up_is_not_its_own() {
        let (mut deadline, now) = (Deadline::default(), Instant::now());
        deadline.begin(5 * MS);
        assert_eq!(deadline.run_from(now), Some(now + 5 * MS));
        assert_ne!(deadline.at_tick(now + 14 * MS, 10 * MS, false), Tick::IsOver);
        assert_eq!(deadline.at_tick(now + 15 * MS, 10 * MS, false), Tick::IsOver);
    }

    #[test]
    fn a_time_past_every_clock_never_ends() {
        let (mut deadline, now) = (Deadline::default(), Instant::now());
        deadline.begin(Duration::MAX);
        assert_eq!(deadline.run_from(now), None);
        assert_ne!(deadline.at_tick(now + 90 * MS, NONE, false), Tick::IsOver);
        deadline.begin(MS);
        deadline.run_from(now);
        assert_ne!(deadline.at_tick(now + 90 * MS, Duration::MAX, false), Tick::IsOver);
    }

    #[test]
    fn a_call_of_many_ticks_pauses_in_each_but_the_first_and_calls_of_one_tick_in_every_second() {
        let (mut deadline, now) = (Deadline::default(), Instant::now());
        let mut tick = |begins: bool| {
            if begins {
                deadline.begin(MS * 1000);
            }
            deadline.at_tick(now, NONE, false) == Tick::Pauses
        };
        assert_eq!([tick(true), tick(false), tick(false), tick(false)], [false, true, true, true]);
        assert_eq!([tick(true), tick(true), tick(true), tick(true)], [false, true, false, true]);
        deadline.begin(MS * 1000);
        deadline.begin(MS * 1000);
        assert_eq!(deadline.at_tick(now, NONE, false), Tick::GoesOn, "calls without a tick owe nothing");
    }

    #[test]
    fn who_has_just_waited_does_not_pause() {
        let (mut deadline, now) = (Deadline::default(), Instant::now());
        deadline.begin(5 * MS);
        deadline.run_from(now);
        let mut tick = |has_waited| deadline.at_tick(now, NONE, has_waited);
        assert_eq!([tick(true), tick(true), tick(false)], [Tick::GoesOn, Tick::GoesOn, Tick::Pauses]);
        assert_eq!(deadline.at_tick(now + 5 * MS, NONE, true), Tick::IsOver);
    }
}
