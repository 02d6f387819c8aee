//! Which part of the bridge cannot work at the moment, and why.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

/// Shared by every part; `/ready` shows it.
#[derive(Clone, Default, Debug)]
pub struct Readiness(Arc<Mutex<BTreeMap<String, String>>>);

impl Readiness {
    /// Reports a part: `Some(reason)` while it cannot work. Logs each change once, so callers may report as often as they
    /// like.
    pub fn report(&self, part: &str, not_ready: Option<String>) {
        let mut parts = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        match not_ready {
            Some(reason) => {
                if parts.get(part) != Some(&reason) {
                    tracing::warn!(part, reason, "not ready");
                    parts.insert(part.to_owned(), reason);
                }
            }
            None => {
                if parts.remove(part).is_some() {
                    tracing::info!(part, "ready again");
                }
            }
        }
    }

    /// The same for what is expected, such as a start or an end: on `/ready`, not in the log.
    pub fn expect(&self, part: &str, state: &str) {
        let mut parts = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        parts.insert(part.to_owned(), state.to_owned());
    }

    /// Everything that is not ready: part and reason.
    pub fn not_ready(&self) -> Vec<(String, String)> {
        let parts = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        parts.iter().map(|(part, reason)| (part.clone(), reason.clone())).collect()
    }
}
