//! What the pipeline's thread and the task of the connection share.

use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use async_nats::{Message, Subject};
use portcullis_connector_api::{Budget, ConnectorError, ErrorKind};
use tokio::sync::Notify;

use crate::Counters;
use crate::health::Health;
use crate::jetstream::delivery::Delivery;

/// Entries by place in the stream. Each message goes through such tables several times, and the standard hasher's
/// resistance would be of no use: the numbers are the server's.
pub(super) type BySequence<T> = HashMap<i64, T, foldhash::fast::RandomState>;

pub(super) struct Shared {
    state: Mutex<State>,
    /// Something has arrived, was confirmed or has ended.
    changed: Condvar,
    /// There is room, or something to tell the server.
    pub(super) wake: Notify,
    pub(super) health: Health,
    pub(super) counters: Arc<Counters>,
}

#[derive(Default)]
struct State {
    arrived: VecDeque<Arrived>,
    arrived_bytes: usize,
    ack_wait: Option<Duration>,
    /// Acknowledged by the pipeline and not confirmed by the server. Bounded by what the consumer lets be pending.
    unconfirmed: BySequence<Subject>,
    /// Of those, what the server is to be told.
    to_tell: Vec<(i64, Subject)>,
    signals: Vec<Subject>,
    /// What was not done at the end, in order.
    undone: Option<Vec<(i64, Subject)>>,
    give_up_at: Option<Instant>,
    left_cleanly: bool,
}

/// A message as it came.
pub(super) struct Arrived {
    pub(super) delivery: Delivery,
    pub(super) reply: Subject,
    pub(super) message: Message,
    /// When it was delivered or signalled.
    pub(super) told: Instant,
}

impl Arrived {
    fn bytes(&self) -> usize {
        self.message.length
    }
}

/// What the task has to tell the server.
#[derive(Default)]
pub(super) struct ToTell {
    pub(super) done: Vec<(i64, Subject)>,
    pub(super) signals: Vec<Subject>,
}

impl Shared {
    pub(super) fn new(counters: Arc<Counters>) -> Self {
        let (state, changed, wake, health) = Default::default();
        Self { state, changed, wake, health, counters }
    }

    // On the pipeline's thread.

    /// What has arrived, about as much as the budget; waits for the first.
    pub(super) fn take(&self, budget: Budget, wait: Duration) -> Vec<Arrived> {
        let nothing = |state: &mut State| state.arrived.is_empty() && !self.health.is_dead();
        let waited = self.changed.wait_timeout_while(self.state(), wait, nothing);
        let mut state = waited.unwrap_or_else(PoisonError::into_inner).0;
        let (mut taken, mut bytes) = (Vec::new(), 0);
        while taken.len() < budget.messages && bytes < budget.bytes {
            let Some(next) = state.arrived.pop_front() else { break };
            bytes += next.bytes();
            state.arrived_bytes -= next.bytes();
            taken.push(next);
        }
        drop(state);
        if !taken.is_empty() {
            self.wake.notify_one();
        }
        taken
    }

    /// What was taken and did not fit after all, in front of what has come since.
    pub(super) fn give_back(&self, rest: Vec<Arrived>) {
        let mut state = self.state();
        for arrived in rest.into_iter().rev() {
            state.arrived_bytes += arrived.bytes();
            state.arrived.push_front(arrived);
        }
    }

    /// Lets the time pass, unless the source ends meanwhile.
    pub(super) fn wait_for_nothing(&self, wait: Duration) {
        let alive = |_: &mut State| !self.health.is_dead();
        drop(self.changed.wait_timeout_while(self.state(), wait, alive).unwrap_or_else(PoisonError::into_inner));
    }

    pub(super) fn acknowledge(&self, done: Vec<(i64, Subject)>) {
        if done.is_empty() {
            return;
        }
        let mut state = self.state();
        for (sequence, reply) in done {
            state.unconfirmed.insert(sequence, reply.clone());
            state.to_tell.push((sequence, reply));
        }
        drop(state);
        self.wake.notify_one();
    }

    /// The server delivers again what is done: it has not heard of it yet. False where it is not done.
    pub(super) fn acknowledge_again(&self, sequence: i64, reply: &Subject) -> bool {
        let mut state = self.state();
        let Some(known) = state.unconfirmed.get_mut(&sequence) else { return false };
        *known = reply.clone();
        state.to_tell.push((sequence, reply.clone()));
        drop(state);
        self.wake.notify_one();
        true
    }

    pub(super) fn wait_until_confirmed(&self, wait: Duration) -> Result<(), ConnectorError> {
        let open = |state: &mut State| !state.unconfirmed.is_empty() && !self.health.is_dead();
        let waited = self.changed.wait_timeout_while(self.state(), wait, open);
        let left = waited.unwrap_or_else(PoisonError::into_inner).0.unconfirmed.len();
        if left == 0 {
            return Ok(());
        }
        let why = self.health.trouble().unwrap_or_else(|| "the server does not answer".to_owned());
        Err(ConnectorError::new(ErrorKind::Retriable, format!("{left} acknowledgements are not confirmed: {why}")))
    }

    pub(super) fn ack_wait(&self) -> Option<Duration> {
        self.state().ack_wait
    }

    /// Signs of progress for these, and for what waits since `due`.
    pub(super) fn signal(&self, signals: Vec<Subject>, now: Instant, due: Duration) {
        let mut state = self.state();
        let state = &mut *state;
        state.signals.extend(signals);
        for arrived in state.arrived.iter_mut().filter(|arrived| now.duration_since(arrived.told) >= due) {
            arrived.told = now;
            state.signals.push(arrived.reply.clone());
        }
        if !state.signals.is_empty() {
            self.wake.notify_one();
        }
    }

    pub(super) fn waiting(&self) -> u64 {
        self.state().arrived.len() as u64
    }

    /// The end: these are not done, nor is what has arrived and was not taken.
    pub(super) fn give_up(&self, undone: Vec<(i64, Subject)>, deadline: Duration) {
        let mut state = self.state();
        state.give_up_at = Some(Instant::now() + deadline);
        state.undone = Some(undone);
    }

    pub(super) fn left_cleanly(&self) -> bool {
        let state = self.state();
        let nothing_undone = state.undone.as_ref().is_none_or(Vec::is_empty) && state.arrived.is_empty();
        let nothing_to_tell = nothing_undone && state.unconfirmed.is_empty();
        state.left_cleanly || nothing_to_tell
    }

    // On the task.

    /// A connection works.
    pub(super) fn begin(&self, ack_wait: Duration) {
        let mut state = self.state();
        state.ack_wait = Some(ack_wait);
        // What an earlier connection was told may not have arrived.
        state.to_tell = state.unconfirmed.iter().map(|(sequence, reply)| (*sequence, reply.clone())).collect();
        drop(state);
        self.health.well();
    }

    pub(super) fn arrive(&self, arrived: &mut Vec<Arrived>) {
        if arrived.is_empty() {
            return;
        }
        let mut state = self.state();
        for arrived in arrived.drain(..) {
            state.arrived_bytes += arrived.bytes();
            state.arrived.push_back(arrived);
        }
        drop(state);
        self.changed.notify_all();
    }

    /// Messages and bytes that wait for the pipeline.
    pub(super) fn held(&self) -> (usize, usize) {
        let state = self.state();
        (state.arrived.len(), state.arrived_bytes)
    }

    pub(super) fn to_tell(&self) -> ToTell {
        let mut state = self.state();
        ToTell { done: std::mem::take(&mut state.to_tell), signals: std::mem::take(&mut state.signals) }
    }

    pub(super) fn confirmed(&self, sequences: &[i64]) {
        let mut state = self.state();
        for sequence in sequences {
            state.unconfirmed.remove(sequence);
        }
        drop(state);
        self.changed.notify_all();
    }

    /// No confirmation came in time.
    pub(super) fn tell_again(&self, sequences: Vec<i64>) {
        let mut state = self.state();
        let state = &mut *state;
        let known = |sequence: i64| Some((sequence, state.unconfirmed.get(&sequence)?.clone()));
        state.to_tell.extend(sequences.into_iter().filter_map(known));
    }

    pub(super) fn died(&self, error: &ConnectorError) {
        self.health.died(error);
        drop(self.state());
        self.changed.notify_all();
    }

    /// What to give back at the end, and until when.
    pub(super) fn undone(&self) -> (Vec<(i64, Subject)>, Instant) {
        let mut state = self.state();
        let until = state.give_up_at.unwrap_or_else(Instant::now);
        let mut undone = state.undone.take().unwrap_or_default();
        undone.extend(state.arrived.drain(..).map(|arrived| (arrived.delivery.sequence, arrived.reply)));
        state.arrived_bytes = 0;
        (undone, until)
    }

    pub(super) fn left(&self) {
        self.state().left_cleanly = true;
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
