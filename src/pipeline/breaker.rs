//! How often a plugin may lose its instance before it is left alone for a while.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// Counts lost instances over a window. A plugin that traps on every message costs a hundred times a call's price, and would
/// take a lane from its neighbours; in quarantine its messages take their `on.fault` way without a call. When the quarantine
/// is over, one message is let through as a probe: it ends the quarantine, or begins it anew. The lock is touched only when an
/// instance is lost, and while the plugin is in quarantine.
#[derive(Debug)]
pub(super) struct Breaker {
    restarts: usize,
    window: Duration,
    /// Whether there is a quarantine or its probe: all that a call in good times looks at.
    tripped: AtomicBool,
    state: Mutex<State>,
}

#[derive(Debug)]
enum State {
    /// Instances lost, the oldest first.
    Closed(VecDeque<Instant>),
    Open {
        until: Instant,
    },
    /// One probe is under way, until this time at most: whoever made it may have died with it.
    HalfOpen {
        until: Instant,
    },
}

/// Whether a message may be given to the plugin.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Admission {
    /// As always.
    Call,
    /// As the one that decides whether the quarantine is over: its outcome must be told.
    Probe,
    /// Not for another while.
    Refused(Duration),
}

impl Breaker {
    pub(super) fn new(restarts: u32, window: Duration) -> Self {
        let state = Mutex::new(State::Closed(VecDeque::new()));
        Self { restarts: restarts as usize, window, tripped: AtomicBool::new(false), state }
    }

    /// Over how long lost instances are counted, and how long a quarantine lasts.
    pub(super) fn window(&self) -> Duration {
        self.window
    }

    /// Whether [`admit`](Self::admit) has to be asked: all that a call in good times costs. A look at the clock would be a
    /// tenth of the call.
    pub(super) fn is_tripped(&self) -> bool {
        self.tripped.load(Ordering::Relaxed)
    }

    /// Asked before each call while it is tripped.
    pub(super) fn admit(&self, now: Instant) -> Admission {
        let mut state = self.lock();
        match *state {
            State::Closed(_) => Admission::Call,
            State::Open { until } | State::HalfOpen { until } if now < until => Admission::Refused(until - now),
            _ => {
                *state = State::HalfOpen { until: now + self.window };
                Admission::Probe
            }
        }
    }

    /// An instance was lost. True when that begins a quarantine.
    pub(super) fn strike(&self, now: Instant) -> bool {
        let mut state = self.lock();
        let trips = match &mut *state {
            State::Closed(strikes) => {
                while strikes.front().is_some_and(|first| now.saturating_duration_since(*first) >= self.window) {
                    strikes.pop_front();
                }
                strikes.push_back(now);
                strikes.len() > self.restarts
            }
            State::HalfOpen { .. } => true,
            // Another lane's instance, begun before.
            State::Open { .. } => false,
        };
        if trips {
            *state = State::Open { until: now + self.window };
            self.tripped.store(true, Ordering::Relaxed);
        }
        trips
    }

    /// The probe has come back without a loss: the quarantine is over.
    pub(super) fn recovered(&self) {
        let mut state = self.lock();
        *state = State::Closed(VecDeque::new());
        // Under the lock: a loss in another lane may begin a quarantine at this very moment.
        self.tripped.store(false, Ordering::Relaxed);
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MINUTE: Duration = Duration::from_secs(60);

    fn tripped() -> (Breaker, impl Fn(u64) -> Instant) {
        let breaker = Breaker::new(2, MINUTE);
        let start = Instant::now();
        let at = move |seconds| start + Duration::from_secs(seconds);
        assert!(!breaker.strike(at(0)));
        assert!(!breaker.strike(at(10)));
        assert_eq!(breaker.admit(at(10)), Admission::Call);
        assert!(breaker.strike(at(20)));
        (breaker, at)
    }

    #[test]
    fn the_loss_past_the_limit_quarantines_for_the_window_and_is_reported_once() {
        let (breaker, at) = tripped();
        assert_eq!(breaker.admit(at(20)), Admission::Refused(MINUTE));
        assert!(!breaker.strike(at(21)), "another lane's instance, begun before");
        assert_eq!(breaker.admit(at(79)), Admission::Refused(Duration::from_secs(1)));
    }

    #[test]
    fn one_probe_decides_whether_the_quarantine_is_over() {
        let (breaker, at) = tripped();
        assert_eq!(breaker.admit(at(80)), Admission::Probe);
        assert_eq!(breaker.admit(at(81)), Admission::Refused(Duration::from_secs(59)), "one at a time");
        assert!(breaker.strike(at(82)), "the probe failed: a new quarantine");
        assert_eq!(breaker.admit(at(100)), Admission::Refused(Duration::from_secs(42)));
        assert_eq!(breaker.admit(at(142)), Admission::Probe);
        breaker.recovered();
        assert_eq!(breaker.admit(at(143)), Admission::Call);
        assert!(!breaker.strike(at(144)), "counted from zero again");
    }

    #[test]
    fn a_probe_that_never_comes_back_makes_room_for_the_next() {
        let (breaker, at) = tripped();
        assert_eq!(breaker.admit(at(80)), Admission::Probe);
        assert_eq!(breaker.admit(at(140)), Admission::Probe);
    }

    #[test]
    fn losses_far_apart_never_quarantine() {
        let breaker = Breaker::new(1, MINUTE);
        let start = Instant::now();
        assert!((0..10).all(|n| !breaker.strike(start + MINUTE * n)));
    }
}
