//! Which part of the bridge cannot work at the moment, which works worse than it should, and why.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// Shared by every part; `/ready` shows it.
#[derive(Clone, Default, Debug)]
pub struct Readiness(Arc<Mutex<Parts>>);

/// Parts with their reasons.
#[derive(Default, Debug)]
struct Parts {
    not_ready: BTreeMap<String, String>,
    degraded: BTreeMap<String, String>,
}

impl Readiness {
    /// Reports a part: `Some(reason)` while it cannot work. Logs each change once, so callers may report as often as they
    /// like.
    pub fn report(&self, part: &str, not_ready: Option<String>) {
        match change(&mut self.parts().not_ready, part, not_ready) {
            Change::To(reason) => tracing::warn!(part, reason, "not ready"),
            Change::Over => tracing::info!(part, "ready again"),
            Change::None => {}
        }
    }

    /// The same for a part that works and is worse than it should be: on `/ready`, which stays ready.
    pub fn degraded(&self, part: &str, why: Option<String>) {
        match change(&mut self.parts().degraded, part, why) {
            Change::To(reason) => tracing::warn!(part, reason, "degraded"),
            Change::Over => tracing::info!(part, "not degraded any more"),
            Change::None => {}
        }
    }

    /// The same for what is expected, such as a start or an end: on `/ready`, not in the log.
    pub fn expect(&self, part: &str, state: &str) {
        self.parts().not_ready.insert(part.to_owned(), state.to_owned());
    }

    /// Everything that is not ready: part and reason.
    pub fn not_ready(&self) -> Vec<(String, String)> {
        listed(&self.parts().not_ready)
    }

    /// Everything that works and is worse than it should be: part and reason.
    pub fn all_degraded(&self) -> Vec<(String, String)> {
        listed(&self.parts().degraded)
    }

    fn parts(&self) -> MutexGuard<'_, Parts> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

enum Change {
    To(String),
    Over,
    None,
}

fn change(parts: &mut BTreeMap<String, String>, part: &str, reason: Option<String>) -> Change {
    match reason {
        Some(reason) if parts.get(part) == Some(&reason) => Change::None,
        Some(reason) => {
            parts.insert(part.to_owned(), reason.clone());
            Change::To(reason)
        }
        None if parts.remove(part).is_some() => Change::Over,
        None => Change::None,
    }
}

fn listed(parts: &BTreeMap<String, String>) -> Vec<(String, String)> {
    parts.iter().map(|(part, reason)| (part.clone(), reason.clone())).collect()
}
