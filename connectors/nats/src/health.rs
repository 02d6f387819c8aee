use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use portcullis_connector_api::{ConnectorError, ErrorKind};

/// What is worse than it should be while a connector works. So long after the last time it counts as over.
const QUIET: Duration = Duration::from_secs(15);

/// Something that is worse than it should be.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Worse {
    Lost,
    Oversize,
    Refused,
    LameDuck,
}

impl Worse {
    const ALL: [Self; 4] = [Self::Lost, Self::Oversize, Self::Refused, Self::LameDuck];

    /// The same words each time, and nothing that a message has brought.
    const fn as_str(self) -> &'static str {
        match self {
            Self::Lost => "messages come faster than they are taken, and the newest are lost",
            Self::Oversize => "messages that are too large for the server or the stream are refused",
            Self::Refused => "messages that no stream takes, or whose subject the account must not use, are refused",
            Self::LameDuck => "the only server is about to shut down",
        }
    }

    /// Whether it is over a while after the last time. A server is about to shut down until the connection ends.
    const fn passes(self) -> bool {
        !matches!(self, Self::LameDuck)
    }
}

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
    /// When each was the last time, by its place in [`Worse::ALL`].
    worse: [Option<Instant>; Worse::ALL.len()],
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

    /// It works, and this happens.
    pub(crate) fn worse(&self, what: Worse) {
        if let Some(last) = self.state().worse.get_mut(what as usize) {
            *last = Some(Instant::now());
        }
    }

    /// There is another connection.
    pub(crate) fn connected(&self) {
        if let Some(last) = self.state().worse.get_mut(Worse::LameDuck as usize) {
            *last = None;
        }
    }

    /// All that is worse than it should be.
    pub(crate) fn degraded(&self) -> Option<String> {
        let worse = self.state().worse;
        let is_so =
            |(what, last): &(Worse, Option<Instant>)| last.is_some_and(|last| !what.passes() || last.elapsed() < QUIET);
        let all: Vec<_> = Worse::ALL.into_iter().zip(worse).filter(is_so).map(|(what, _)| what.as_str()).collect();
        Some(all.join("; ")).filter(|all| !all.is_empty())
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
