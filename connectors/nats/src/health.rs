use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use portcullis_connector_api::{ConnectorError, ErrorKind};

/// Whether a connector works, why not, and whether it ever will.
#[derive(Debug, Default)]
pub(crate) struct Health {
    state: Mutex<State>,
    changed: Condvar,
    /// That `state` holds a verdict: read for each message, where a lock would cost.
    dead: AtomicBool,
}

#[derive(Debug, Default)]
struct State {
    /// It has worked at least once.
    begun: bool,
    trouble: Option<String>,
    verdict: Option<(ErrorKind, String)>,
}

impl Health {
    /// It works.
    pub(crate) fn well(&self) {
        let mut state = self.state();
        state.begun = true;
        if let Some(trouble) = state.trouble.take() {
            tracing::info!(after = trouble, "NATS works again");
        }
        drop(state);
        self.changed.notify_all();
    }

    /// It does not work at the moment.
    pub(crate) fn troubled(&self, why: impl Into<String>) {
        let why = why.into();
        let mut state = self.state();
        if state.trouble.as_ref() != Some(&why) {
            tracing::warn!("{why}");
        }
        state.trouble = Some(why);
    }

    /// It will not work any more. The first verdict stays.
    pub(crate) fn died(&self, error: &ConnectorError) {
        let mut state = self.state();
        state.verdict.get_or_insert_with(|| (error.kind, error.context.clone()));
        self.dead.store(true, Ordering::Release);
        drop(state);
        self.changed.notify_all();
    }

    pub(crate) fn has_begun(&self) -> bool {
        self.state().begun
    }

    pub(crate) fn is_dead(&self) -> bool {
        self.dead.load(Ordering::Acquire)
    }

    pub(crate) fn verdict(&self) -> Option<ConnectorError> {
        self.is_dead().then(|| self.state().verdict.clone()).flatten().map(|(kind, why)| ConnectorError::new(kind, why))
    }

    pub(crate) fn trouble(&self) -> Option<String> {
        let state = self.state();
        state.verdict.as_ref().map(|(_, why)| why.clone()).or_else(|| state.trouble.clone())
    }

    /// The error that a caller gets for the present state.
    pub(crate) fn error(&self) -> Option<ConnectorError> {
        self.verdict().or_else(|| self.trouble().map(|why| ConnectorError::new(ErrorKind::Retriable, why)))
    }

    /// Waits until it has worked once.
    pub(crate) fn wait_for_beginning(&self, wait: Duration) -> Result<(), ConnectorError> {
        let deadline = Instant::now() + wait;
        let mut state = self.state();
        while !state.begun && state.verdict.is_none() {
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                let why = state.trouble.clone();
                let why = why.unwrap_or_else(|| format!("no answer within {} ms", wait.as_millis()));
                return Err(ConnectorError::new(ErrorKind::Retriable, why));
            }
            state = self.changed.wait_timeout(state, left).unwrap_or_else(PoisonError::into_inner).0;
        }
        match state.verdict.clone() {
            Some((kind, why)) => Err(ConnectorError::new(kind, why)),
            None => Ok(()),
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
