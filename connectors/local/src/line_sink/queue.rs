use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use portcullis_connector_api::{ConnectorError, ErrorKind, SendError, Token};

/// What lanes hand over and the writer's thread takes: one buffer of lines and where each ends.
pub(super) struct Queue {
    state: Mutex<State>,
    /// The writer waits here for lines.
    work: Condvar,
    /// Callers wait here for confirmations.
    room: Condvar,
    max_messages: u64,
    max_bytes: usize,
}

#[derive(Default)]
struct State {
    waiting: Lines,
    unconfirmed: u64,
    /// Passes by itself.
    trouble: Option<String>,
    /// Does not pass.
    failure: Option<String>,
    closing: bool,
    ended: bool,
}

/// Lines behind one another, and for each its token and where it ends.
#[derive(Default)]
pub(super) struct Lines {
    pub(super) bytes: Vec<u8>,
    pub(super) ends: Vec<(Token, usize)>,
}

impl Queue {
    pub(super) fn new(max_messages: u64, max_bytes: usize) -> Self {
        let (state, work, room) = Default::default();
        // A bound of nothing would be full for ever.
        Self { state, work, room, max_messages: max_messages.max(1), max_bytes: max_bytes.max(1) }
    }

    pub(super) fn has_room(&self) -> Result<(), SendError> {
        self.room_in(&self.lock())
    }

    pub(super) fn push(&self, line: &[u8], token: Token) -> Result<(), SendError> {
        let mut state = self.lock();
        self.room_in(&state)?;
        state.waiting.bytes.extend_from_slice(line);
        let end = state.waiting.bytes.len();
        state.waiting.ends.push((token, end));
        state.unconfirmed += 1;
        if state.waiting.ends.len() == 1 {
            self.work.notify_one();
        }
        Ok(())
    }

    fn room_in(&self, state: &State) -> Result<(), SendError> {
        if let Some(failure) = &state.failure {
            return Err(SendError::Fatal(ConnectorError::new(ErrorKind::Fatal, failure.as_str())));
        }
        if state.unconfirmed >= self.max_messages || state.waiting.bytes.len() >= self.max_bytes {
            return Err(SendError::Full);
        }
        Ok(())
    }

    pub(super) fn wait_for_room(&self, wait: Duration) {
        let state = self.lock();
        let before = state.unconfirmed;
        let same = |state: &mut State| state.unconfirmed >= before && self.room_in(state).is_err_and(is_full);
        drop(self.room.wait_timeout_while(state, wait, same).unwrap_or_else(PoisonError::into_inner));
    }

    pub(super) fn drain(&self, wait: Duration) -> u64 {
        let busy = |state: &mut State| state.unconfirmed > 0;
        let waited = self.room.wait_timeout_while(self.lock(), wait, busy);
        waited.unwrap_or_else(PoisonError::into_inner).0.unconfirmed
    }

    pub(super) fn unconfirmed(&self) -> u64 {
        self.lock().unconfirmed
    }

    pub(super) fn trouble(&self) -> Option<String> {
        let state = self.lock();
        state.failure.clone().or_else(|| state.trouble.clone())
    }

    pub(super) fn failure(&self) -> Option<ConnectorError> {
        self.lock().failure.as_deref().map(|failure| ConnectorError::new(ErrorKind::Fatal, failure))
    }

    /// Lets the writer end once it has written all that is here, and waits for that.
    pub(super) fn close(&self, wait: Duration) {
        let mut state = self.lock();
        state.closing = true;
        self.work.notify_all();
        let writing = |state: &mut State| !state.ended;
        drop(self.room.wait_timeout_while(state, wait, writing).unwrap_or_else(PoisonError::into_inner));
    }

    /// For the writer: everything that waits, in exchange for an empty pair of buffers. False at the end.
    pub(super) fn take(&self, lines: &mut Lines) -> bool {
        lines.bytes.clear();
        lines.ends.clear();
        let nothing = |state: &mut State| state.waiting.ends.is_empty() && !state.closing;
        let mut state = self.work.wait_while(self.lock(), nothing).unwrap_or_else(PoisonError::into_inner);
        std::mem::swap(lines, &mut state.waiting);
        !lines.ends.is_empty()
    }

    /// For the writer: it has let the medium go, so that another sink may open it.
    pub(super) fn end(&self) {
        self.lock().ended = true;
        self.room.notify_all();
    }

    /// For the writer: what it took is confirmed. Called after the confirmations, so that a drained sink owes none.
    pub(super) fn confirmed(&self, messages: u64) {
        let mut state = self.lock();
        state.unconfirmed = state.unconfirmed.saturating_sub(messages);
        self.room.notify_all();
    }

    pub(super) fn works_again(&self) {
        self.lock().trouble = None;
    }

    /// For the writer: waits before it tries again. False when the sink is being closed and there is no time for that.
    pub(super) fn wait_in_trouble(&self, trouble: String, wait: Duration) -> bool {
        let deadline = Instant::now() + wait;
        let mut state = self.lock();
        state.trouble = Some(trouble);
        while !state.closing {
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return true;
            }
            state = self.work.wait_timeout(state, left).unwrap_or_else(PoisonError::into_inner).0;
        }
        false
    }

    pub(super) fn fail(&self, failure: &str) {
        self.lock().failure.get_or_insert_with(|| failure.to_owned());
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn is_full(error: SendError) -> bool {
    matches!(error, SendError::Full)
}
