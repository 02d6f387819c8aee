//! Where callers and the writer meet. Numbers are given under the lock that orders the events, so that the order in the
//! topic, the sequence and the receipts agree.

use std::collections::{BTreeMap, VecDeque};
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use crate::actor::Actor;
use crate::code::Code;
use crate::event::{Event, Fact, Loss};
use crate::recorder::Status;

/// Makes the last event from the number of events before it and of those lost.
pub(crate) type MakeStop = fn(u64, u64) -> Event;

/// A bounded queue of events. A channel of the standard library cannot wait for room with a deadline.
#[derive(Debug)]
pub(crate) struct Queue {
    capacity: usize,
    state: Mutex<State>,
    /// For the writer: there is an event, or the end.
    filled: Condvar,
    /// For callers: there is room, or the end.
    room: Condvar,
    /// For receipts: the store has confirmed more, or the writer has ended.
    progress: Condvar,
}

#[derive(Debug, Default)]
struct State {
    events: VecDeque<(u64, Event)>,
    /// The last number given.
    recorded: u64,
    confirmed: u64,
    /// The last event's time: within a chain time never runs backwards, even when the machine's clock does.
    last_ms: u64,
    /// Lost and not yet told of by an event.
    untold: Option<Loss>,
    lost_events: u64,
    by_code: BTreeMap<Code, u64>,
    fault: Option<String>,
    /// Until when the writer may still try.
    closing: Option<Instant>,
    finished: bool,
}

/// What the writer gets.
pub(crate) struct Taken {
    pub(crate) events: Vec<(u64, Event)>,
    pub(crate) closing: Option<Instant>,
}

impl Queue {
    pub(crate) fn new(capacity: usize) -> Self {
        Self {
            capacity,
            state: Mutex::default(),
            filled: Condvar::new(),
            room: Condvar::new(),
            progress: Condvar::new(),
        }
    }

    /// Takes an event and gives its number, or counts it as lost when there is no room within `wait`.
    pub(crate) fn push(&self, event: Event, wait: Duration) -> Option<u64> {
        let full = |state: &mut State| state.events.len() >= self.capacity && state.closing.is_none();
        let mut state = self.lock();
        if full(&mut state) {
            let waited = self.room.wait_timeout_while(state, wait, full);
            state = waited.unwrap_or_else(PoisonError::into_inner).0;
        }
        if state.closing.is_some() || full(&mut state) {
            state.lose(&event);
            return None;
        }
        let sequence = state.enqueue(event);
        drop(state);
        self.filled.notify_one();
        Some(sequence)
    }

    /// Gives the writer at most `most` events. Waits for the first one when `idle`.
    pub(crate) fn take(&self, most: usize, idle: bool) -> Taken {
        let mut state = self.lock();
        if idle {
            let nothing = |state: &mut State| state.events.is_empty() && state.closing.is_none();
            state = self.filled.wait_while(state, nothing).unwrap_or_else(PoisonError::into_inner);
        }
        let count = most.min(state.events.len());
        let events = state.events.drain(..count).collect();
        if count > 0 && state.closing.is_none() {
            state.tell_loss();
        }
        let closing = state.closing;
        drop(state);
        self.room.notify_all();
        Taken { events, closing }
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

    pub(crate) fn confirm(&self, sequence: u64) {
        let mut state = self.lock();
        state.confirmed = state.confirmed.max(sequence);
        state.fault = None;
        drop(state);
        self.progress.notify_all();
    }

    pub(crate) fn set_fault(&self, fault: String) {
        self.lock().fault = Some(fault);
    }

    /// An event was taken and its record tells of its loss instead.
    pub(crate) fn count_substituted(&self) {
        self.lock().lost_events += 1;
    }

    pub(crate) fn finish(&self) {
        self.lock().finished = true;
        self.progress.notify_all();
    }

    pub(crate) fn wait_confirmed(&self, sequence: u64, until: Instant) -> bool {
        self.wait_progress(until, |state| state.confirmed >= sequence || state.finished).confirmed >= sequence
    }

    pub(crate) fn wait_finished(&self, until: Instant) {
        drop(self.wait_progress(until, |state| state.finished));
    }

    pub(crate) fn status(&self) -> Status {
        let state = self.lock();
        Status {
            recorded: state.recorded,
            confirmed: state.confirmed,
            lost_events: state.lost_events,
            by_code: state.by_code.iter().map(|(code, count)| (*code, *count)).collect(),
            fault: state.fault.clone(),
        }
    }

    fn wait_progress(&self, until: Instant, done: impl Fn(&State) -> bool) -> MutexGuard<'_, State> {
        let wait = until.saturating_duration_since(Instant::now());
        let waited = self.progress.wait_timeout_while(self.lock(), wait, |state| !done(state));
        waited.unwrap_or_else(PoisonError::into_inner).0
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
        *self.by_code.entry(event.code()).or_default() += 1;
        self.events.push_back((self.recorded, event));
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
