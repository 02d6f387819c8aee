//! Log bytes in a time: what bounds a flood of lines over all calls, where the budget of one call begins anew with each.

use std::time::Duration;

use portcullis_audit::Scope;
use portcullis_flow::Rate;

/// What has not been used is kept for so long: a burst of errors is told, a flood is not.
const KEPT: Duration = Duration::from_secs(60);

/// Log bytes a second of a plugin, a tenant or the node, over all instances.
#[derive(Debug)]
pub struct LogRate {
    scope: Scope,
    limit_bytes_s: u64,
    pub(super) bytes: Rate,
}

impl LogRate {
    /// A rate in bytes a second; a minute's worth of it is there at once.
    pub fn new(scope: Scope, limit_bytes_s: u64) -> Self {
        let limit_bytes_s = limit_bytes_s.max(1);
        Self { scope, limit_bytes_s, bytes: Rate::new(limit_bytes_s.saturating_mul(KEPT.as_secs()), KEPT) }
    }

    /// What it is counted over.
    pub fn scope(&self) -> Scope {
        self.scope
    }

    /// The limit in bytes a second.
    pub fn limit_bytes_s(&self) -> u64 {
        self.limit_bytes_s
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_minutes_worth_is_there_at_once_and_the_rest_comes_with_the_time() {
        let rate = LogRate::new(Scope::Plugin, 100).bytes;
        let (start, second) = (1_000_000_000_u64, 1_000_000_000);
        assert!(rate.try_take_at(6000, start));
        assert!(!rate.try_take_at(1, start));
        let later = start + 3 * second;
        assert!(!rate.try_take_at(301, later));
        assert!(rate.try_take_at(300, later));
        assert!(!rate.try_take_at(1, later));
        // However long it was quiet, no more than a minute's worth is kept.
        let much_later = start + 3600 * second;
        assert!(!rate.try_take_at(6001, much_later));
        assert!(rate.try_take_at(6000, much_later));
    }
}
