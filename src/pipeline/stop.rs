use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};

/// Asks everything that shares it to end.
#[derive(Clone, Debug, Default)]
pub struct Stop(Arc<AtomicU8>);

const REQUESTED: u8 = 1;
const FORCED: u8 = 2;

impl Stop {
    /// Finish what is in work, then end.
    pub fn request(&self) {
        self.0.fetch_max(REQUESTED, Ordering::Relaxed);
    }

    /// End at once; what is in work is left undone.
    pub fn force(&self) {
        self.0.fetch_max(FORCED, Ordering::Relaxed);
    }

    /// Whether the end was asked for.
    pub fn requested(&self) -> bool {
        self.0.load(Ordering::Relaxed) >= REQUESTED
    }

    /// Whether the end was asked for at once.
    pub fn forced(&self) -> bool {
        self.0.load(Ordering::Relaxed) >= FORCED
    }
}
