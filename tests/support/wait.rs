//! The only place that sleeps: everything else waits for a condition with a deadline.

use std::time::{Duration, Instant};

/// Between two looks at a condition: short against what is waited for (processes, brokers), long against one look.
const PAUSE: Duration = Duration::from_millis(25);

/// Looks at `condition` until it holds, at least once; false when it does not hold within `limit`.
pub(crate) fn wait_until(limit: Duration, mut condition: impl FnMut() -> bool) -> bool {
    wait_for(limit, || condition().then_some(())).is_some()
}

/// Asks `probe` until it gives a value, at least once; `None` when it gives none within `limit`.
pub(crate) fn wait_for<T>(limit: Duration, mut probe: impl FnMut() -> Option<T>) -> Option<T> {
    let deadline = Instant::now() + limit;
    loop {
        if let Some(value) = probe() {
            return Some(value);
        }
        if Instant::now() >= deadline {
            return None;
        }
        std::thread::sleep(PAUSE);
    }
}
