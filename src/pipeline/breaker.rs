//! How often a plugin may lose its instance before it is left alone for a while.

use std::collections::VecDeque;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

/// Counts restarts over a window. A plugin that traps on every message costs a hundred times a call's price, and
/// would take a lane from its neighbours; in quarantine its messages take their `on.fault` way without a call. The lock is
/// touched only when an instance is made or lost.
#[derive(Debug)]
pub(super) struct Breaker {
    restarts: usize,
    window: Duration,
    strikes: Mutex<VecDeque<Instant>>,
}

impl Breaker {
    pub(super) fn new(restarts: u32, window: Duration) -> Self {
        Self { restarts: restarts as usize, window, strikes: Mutex::default() }
    }

    /// Over how long restarts are counted, and so how long a quarantine lasts at most.
    pub(super) fn window(&self) -> Duration {
        self.window
    }

    /// Counts a lost instance. True when this one puts the plugin into quarantine.
    pub(super) fn strike(&self, now: Instant) -> bool {
        let mut strikes = self.strikes.lock().unwrap_or_else(PoisonError::into_inner);
        self.forget_old(&mut strikes, now);
        let was_open = strikes.len() <= self.restarts;
        if was_open {
            strikes.push_back(now);
        }
        was_open && strikes.len() > self.restarts
    }

    /// How much longer the plugin stays in quarantine, if it is in it.
    pub(super) fn quarantined(&self, now: Instant) -> Option<Duration> {
        let mut strikes = self.strikes.lock().unwrap_or_else(PoisonError::into_inner);
        self.forget_old(&mut strikes, now);
        if strikes.len() <= self.restarts {
            return None;
        }
        strikes.front().map(|first| (*first + self.window).saturating_duration_since(now))
    }

    fn forget_old(&self, strikes: &mut VecDeque<Instant>, now: Instant) {
        while strikes.front().is_some_and(|first| now.saturating_duration_since(*first) >= self.window) {
            strikes.pop_front();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_restart_past_the_limit_quarantines_until_the_oldest_is_a_minute_old() {
        let breaker = Breaker::new(2, Duration::from_secs(60));
        let start = Instant::now();
        let at = |seconds| start + Duration::from_secs(seconds);
        assert!(!breaker.strike(at(0)));
        assert!(!breaker.strike(at(10)));
        assert_eq!(breaker.quarantined(at(10)), None);
        assert!(breaker.strike(at(20)));
        assert_eq!(breaker.quarantined(at(20)), Some(Duration::from_secs(40)));
        assert!(!breaker.strike(at(21)), "already in quarantine: reported once");
        assert_eq!(breaker.quarantined(at(61)), None);
    }
}
