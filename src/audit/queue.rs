//! Where callers and the writer meet. Numbers are given under the lock that orders the events, so that the order in the
//! topic, the sequence and the receipts agree. Every lane takes that lock for each event, so what is done under it is a
//! number, a counter and a move: no text is made and no memory is asked for.

use std::collections::VecDeque;
use std::mem;
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use crate::actor::Actor;
use crate::code::Code;
use crate::event::{Event, Fact, Loss};
use crate::progress::Progress;
use crate::recorder::Status;

/// Makes the last event from the number of events before it and of those lost.
pub(crate) type MakeStop = fn(u64, u64) -> Event;

/// The most events that memory is kept ready for.
const MAX_READY: usize = 16 * 1024;

/// A bounded queue of events. A channel of the standard library cannot wait for room with a deadline.
#[derive(Debug)]
pub(crate) struct Queue {
    capacity: usize,
    state: Mutex<State>,
    /// For the writer: there is an event, or the end.
    filled: Condvar,
    /// For callers: there is room, or the end.
    room: Condvar,
    pub(crate) progress: Progress,
}

#[derive(Debug)]
struct State {
    events: Vec<(u64, Event)>,
    /// Events that the writer has taken and not built yet: they take up room.
    held: usize,
    /// The writer waits for an event. A wake-up is a system call, so it is paid only then.
    idle: bool,
    /// Callers that wait for room.
    waiting: usize,
    /// The last number given.
    recorded: u64,
    /// The last event's time: within a chain time never runs backwards, even when the machine's clock does.
    last_ms: u64,
    /// Lost and not yet told of by an event.
    untold: Option<Loss>,
    lost_events: u64,
    /// By the code's place in [`Code::ALL`].
    by_code: [u64; Code::ALL.len()],
    /// Until when the writer may still try.
    closing: Option<Instant>,
}

impl Queue {
    pub(crate) fn new(capacity: usize) -> Self {
        let state = State {
            events: Vec::with_capacity(capacity.min(MAX_READY)),
            held: 0,
            idle: false,
            waiting: 0,
            recorded: 0,
            last_ms: 0,
            untold: None,
            lost_events: 0,
            by_code: [0; Code::ALL.len()],
            closing: None,
        };
        let progress = Progress::default();
        Self { capacity, state: Mutex::new(state), filled: Condvar::new(), room: Condvar::new(), progress }
    }

    /// An empty buffer for [`Self::take`].
    pub(crate) fn buffer(&self) -> VecDeque<(u64, Event)> {
        Vec::with_capacity(self.capacity.min(MAX_READY)).into()
    }

    /// Takes an event and gives its number, or counts it as lost when there is no room within `wait`.
    pub(crate) fn push(&self, event: Event, wait: Duration) -> Option<u64> {
        let full = |state: &mut State| state.events.len() + state.held >= self.capacity && state.closing.is_none();
        let mut state = self.lock();
        if full(&mut state) {
            state.waiting += 1;
            let waited = self.room.wait_timeout_while(state, wait, full);
            state = waited.unwrap_or_else(PoisonError::into_inner).0;
            state.waiting -= 1;
        }
        if state.closing.is_some() || full(&mut state) {
            state.lose(&event);
            return None;
        }
        let sequence = state.enqueue(event);
        let idle = mem::take(&mut state.idle);
        drop(state);
        if idle {
            self.filled.notify_one();
        }
        Some(sequence)
    }

    /// Tells how many of the events in `taken` the writer has not built yet; when there is none, gives it all that wait, by
    /// an exchange of the buffers. Waits for the first one when `idle`. The answer is until when the writer may still try,
    /// once there will be no more events.
    pub(crate) fn take(&self, taken: &mut VecDeque<(u64, Event)>, idle: bool) -> Option<Instant> {
        let mut state = self.lock();
        state.held = taken.len();
        // Before the wait: callers may wait for the room of the last events that were built, and then nothing comes.
        if state.waiting > 0 {
            self.room.notify_all();
        }
        if taken.is_empty() {
            if idle {
                let nothing = |state: &mut State| {
                    state.idle = state.events.is_empty() && state.closing.is_none();
                    state.idle
                };
                state = self.filled.wait_while(state, nothing).unwrap_or_else(PoisonError::into_inner);
            }
            let empty = mem::take(taken).into();
            *taken = mem::replace(&mut state.events, empty).into();
            state.held = taken.len();
            if !taken.is_empty() && state.closing.is_none() {
                state.tell_loss();
            }
        }
        state.closing
    }

    /// Takes no more events. The writer may try to store the rest until `until`. Only the first call counts.
    pub(crate) fn close(&self, until: Instant, stop: Option<MakeStop>) {
        let mut state = self.lock();
        if state.closing.is_none() {
            state.tell_loss();
            if let Some(stop) = stop {
                let event = stop(state.recorded, state.lost_events);
                state.enqueue(event);
            }
            state.closing = Some(until);
        }
        drop(state);
        self.filled.notify_all();
        self.room.notify_all();
    }

    /// Lets the writer wait after the store has failed. Ends early when the queue is closed meanwhile.
    pub(crate) fn pause(&self, wait: Duration) {
        let state = self.lock();
        let closed = state.closing.is_some();
        let unchanged = |state: &mut State| state.closing.is_some() == closed;
        drop(self.filled.wait_timeout_while(state, wait, unchanged));
    }

    /// An event was taken and its record tells of its loss instead.
    pub(crate) fn count_substituted(&self) {
        self.lock().lost_events += 1;
    }

    pub(crate) fn status(&self) -> Status {
        // First, so that what is confirmed is never more than what is recorded.
        let (confirmed, fault) = self.progress.get();
        let state = self.lock();
        let (recorded, lost_events, counts) = (state.recorded, state.lost_events, state.by_code);
        drop(state);
        let by_code = Code::ALL.into_iter().zip(counts).filter(|(_, count)| *count > 0).collect();
        Status { recorded, confirmed, lost_events, by_code, fault }
    }

    /// The state is consistent after each statement, so a panic elsewhere must not end the audit.
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn enqueue(&mut self, mut event: Event) -> u64 {
        self.recorded += 1;
        self.last_ms = self.last_ms.max(event.time_ms);
        event.time_ms = self.last_ms;
        if let Some(count) = self.by_code.get_mut(event.code().index()) {
            *count += 1;
        }
        self.events.push((self.recorded, event));
        self.recorded
    }

    fn lose(&mut self, event: &Event) {
        self.lost_events += 1;
        let time_ms = event.time_ms;
        let loss =
            self.untold.get_or_insert_with(|| Loss { reason: "queue.full", first_ms: time_ms, ..Loss::default() });
        loss.add(event);
    }

    fn tell_loss(&mut self) {
        if let Some(loss) = self.untold.take() {
            self.enqueue(Event::new(Actor::bridge(), Fact::Loss(loss)));
        }
    }
}

impl Loss {
    pub(crate) fn add(&mut self, event: &Event) {
        self.events += 1;
        self.first_ms = self.first_ms.min(event.time_ms);
        self.last_ms = self.last_ms.max(event.time_ms);
        let code = event.code();
        match self.by_code.iter_mut().find(|(known, _)| *known == code) {
            Some((_, weight)) => *weight += event.weight(),
            None => self.by_code.push((code, event.weight())),
        }
    }
}
