use std::time::Duration;

/// How long a message waits before it is tried again: exponential, with jitter, so that what failed together does not come
/// back together.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Backoff {
    /// The shortest wait. It is never undercut: it is what the operator promised to a struggling service.
    pub min: Duration,
    /// The longest wait; one that is shorter than `min` counts as `min`.
    pub max: Duration,
    /// Retries at most, the first try not counted.
    pub attempts: u32,
}

impl Backoff {
    /// The wait before retry number `retry` (the first is 1), drawn evenly from `min` to `min` doubled `retry` times or
    /// `max`, whichever is less. `random` is uniform over all of `u64`. `None` when the retries are used up.
    pub fn delay(&self, retry: u32, random: u64) -> Option<Duration> {
        if retry > self.attempts {
            return None;
        }
        let doubled = self.min.saturating_mul(2_u32.saturating_pow(retry));
        let spread = doubled.min(self.max).saturating_sub(self.min);
        let spread_ns = u64::try_from(spread.as_nanos()).unwrap_or(u64::MAX);
        // The high half of the product is random scaled to the spread, without the bias and the cost of a remainder.
        let jitter_ns = (u128::from(spread_ns) * u128::from(random)) >> u64::BITS;
        Some(self.min.saturating_add(Duration::from_nanos(jitter_ns as u64)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const BACKOFF: Backoff = Backoff { min: Duration::from_millis(100), max: Duration::from_secs(10), attempts: 100 };

    #[test]
    fn the_range_doubles_up_to_the_maximum_and_never_falls_under_the_minimum() {
        let longest = |retry| BACKOFF.delay(retry, u64::MAX).unwrap().as_millis();
        assert_eq!([1, 2, 6, 7, 50, 100].map(longest), [199, 399, 6399, 9999, 9999, 9999]);
        assert!((1..=100).all(|retry| BACKOFF.delay(retry, 0) == Some(BACKOFF.min)));
        assert_eq!(BACKOFF.delay(2, u64::MAX / 2).unwrap().as_millis(), 249);
    }

    #[test]
    fn the_retry_after_the_last_is_refused() {
        assert_eq!(BACKOFF.delay(101, 7), None);
        assert_eq!(Backoff { attempts: 0, ..BACKOFF }.delay(1, 7), None);
    }

    #[test]
    fn extreme_settings_stay_within_their_meaning() {
        let endless = Backoff { min: Duration::MAX, max: Duration::MAX, attempts: u32::MAX };
        assert_eq!(endless.delay(u32::MAX, u64::MAX), Some(Duration::MAX));
        let inverted = Backoff { max: Duration::ZERO, ..BACKOFF };
        assert_eq!(inverted.delay(9, u64::MAX), Some(BACKOFF.min));
    }
}
