use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};

/// Asks everything that shares it to end.
#[derive(Clone, Debug, Default)]
pub struct Stop {
    own: Arc<AtomicU8>,
    parent: Option<Arc<AtomicU8>>,
}

const REQUESTED: u8 = 1;
const FORCED: u8 = 2;

impl Stop {
    /// One that also hears this one, and that this one does not hear.
    pub fn child(&self) -> Self {
        Self { own: Arc::default(), parent: Some(self.own.clone()) }
    }

    /// Finish what is in work, then end.
    pub fn request(&self) {
        self.own.fetch_max(REQUESTED, Ordering::Relaxed);
    }

    /// End at once; what is in work is left undone.
    pub fn force(&self) {
        self.own.fetch_max(FORCED, Ordering::Relaxed);
    }

    /// Whether the end was asked for.
    pub fn requested(&self) -> bool {
        self.state() >= REQUESTED
    }

    /// Whether the end was asked for at once.
    pub fn forced(&self) -> bool {
        self.state() >= FORCED
    }

    fn state(&self) -> u8 {
        let parent = self.parent.as_ref().map_or(0, |parent| parent.load(Ordering::Relaxed));
        self.own.load(Ordering::Relaxed).max(parent)
    }
}
