//! The time, by the import `wasi:clocks/wall-clock`. Needs the grant `clock`.

/// Milliseconds since 1970-01-01T00:00:00Z. Under the grant `clock: coarse` the host rounds it.
pub fn now_ms() -> u64 {
    host::now_ms()
}

#[cfg(target_arch = "wasm32")]
mod host {
    use crate::bindings::host::wasi::clocks::wall_clock;

    pub(super) fn now_ms() -> u64 {
        let now = wall_clock::now();
        now.seconds.saturating_mul(1000).saturating_add(u64::from(now.nanoseconds / 1_000_000))
    }
}

#[cfg(not(target_arch = "wasm32"))]
mod host {
    use std::time::{SystemTime, UNIX_EPOCH};

    pub(super) fn now_ms() -> u64 {
        SystemTime::now()
            .duration_since(UNIX_EPOCH)
            .map_or(0, |since| u64::try_from(since.as_millis()).unwrap_or(u64::MAX))
    }
}

#[cfg(test)]
mod tests {
    #[test]
    fn the_time_is_in_milliseconds() {
        // 2020-01-01 and 2200-01-01: seconds or nanoseconds would be outside.
        assert!((1_577_836_800_000..7_258_118_400_000).contains(&super::now_ms()));
    }
}
