//! Limits that were met again and again, told without a flood.

use crate::clock::now_ms;
use crate::detail::{Budget, Scope};
use crate::network::Window;

/// Limits that were met without a call failing over it: the first time is told at once, what follows as one number for each
/// window. The caller ends the windows. Kinds, scopes and limits come from configuration, so that there are few of them.
#[derive(Debug, Default)]
pub struct Excesses(Vec<Excess>);

#[derive(Debug)]
struct Excess {
    kind: &'static str,
    scope: Scope,
    limit: u64,
    repeats: u64,
    since_ms: u64,
}

impl Excesses {
    /// Counts it, and gives what is to be recorded at once.
    #[must_use = "the first of a window is told only here"]
    pub fn add(&mut self, kind: &'static str, scope: Scope, limit: u64) -> Option<Budget> {
        match self.find(kind, scope, limit) {
            Some(excess) => {
                excess.repeats += 1;
                None
            }
            None => {
                self.0.push(Excess { kind, scope, limit, repeats: 0, since_ms: now_ms() });
                Some(budget(kind, scope, limit, None))
            }
        }
    }

    /// Counts what was given to be recorded and found no room: it is told at the end of the window.
    pub fn untold(&mut self, budget: &Budget) {
        let times = budget.window.map_or(1, |window| window.count);
        let (kind, scope, limit) = (budget.kind, budget.scope, budget.limit.unwrap_or(0));
        match self.find(kind, scope, limit) {
            Some(excess) => excess.repeats += times,
            None => self.0.push(Excess { kind, scope, limit, repeats: times, since_ms: now_ms() }),
        }
    }

    /// Ends the window and gives what is to be recorded. A limit that was not met again is forgotten, so that its next time is
    /// told at once.
    #[must_use = "what was counted is told only here"]
    pub fn flush(&mut self) -> Vec<Budget> {
        let mut told = Vec::new();
        self.0.retain_mut(|Excess { kind, scope, limit, repeats, since_ms }| {
            let end_ms = now_ms();
            let (count, start_ms) = (std::mem::take(repeats), std::mem::replace(since_ms, end_ms));
            if count > 0 {
                told.push(budget(kind, *scope, *limit, Some(Window { count, start_ms, end_ms })));
            }
            count > 0
        });
        told
    }

    fn find(&mut self, kind: &'static str, scope: Scope, limit: u64) -> Option<&mut Excess> {
        self.0.iter_mut().find(|excess| (excess.kind, excess.scope, excess.limit) == (kind, scope, limit))
    }
}

fn budget(kind: &'static str, scope: Scope, limit: u64, window: Option<Window>) -> Budget {
    Budget { kind, limit: Some(limit), used: None, scope, detail: kind.to_owned(), window }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn counts(told: &[Budget]) -> Vec<(&'static str, u64)> {
        told.iter().map(|budget| (budget.kind, budget.window.map_or(1, |window| window.count))).collect()
    }

    #[test]
    fn the_first_is_told_at_once_the_rest_as_a_number_and_a_quiet_window_begins_anew() {
        let mut excesses = Excesses::default();
        assert!(excesses.add("queue.bytes", Scope::Node, 7).is_some_and(|told| told.window.is_none()));
        (0..4).for_each(|_| assert!(excesses.add("queue.bytes", Scope::Node, 7).is_none()));
        assert!(excesses.add("queue.bytes", Scope::Tenant, 7).is_some(), "another level");
        assert_eq!(counts(&excesses.flush()), [("queue.bytes", 4)]);
        assert!(excesses.add("queue.bytes", Scope::Node, 7).is_none(), "told in this window already");
        assert_eq!(counts(&excesses.flush()), [("queue.bytes", 1)]);
        assert_eq!(counts(&excesses.flush()), []);
        assert!(excesses.add("queue.bytes", Scope::Node, 7).is_some());
    }

    #[test]
    fn what_found_no_room_is_told_later_and_the_sum_is_exact() {
        let mut excesses = Excesses::default();
        let first = excesses.add("quota.dns", Scope::Plugin, 1).unwrap();
        excesses.untold(&first);
        (0..3).for_each(|_| assert!(excesses.add("quota.dns", Scope::Plugin, 1).is_none()));
        let told = excesses.flush();
        assert_eq!(counts(&told), [("quota.dns", 4)]);
        excesses.untold(&told[0]);
        assert!(excesses.add("quota.dns", Scope::Plugin, 1).is_none());
        assert_eq!(counts(&excesses.flush()), [("quota.dns", 5)]);
    }
}
