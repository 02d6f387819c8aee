//! An exchange whose answer has begun. The guest's body and the connection's task share it, so that it ends with whichever of
//! them is first: a guest that keeps an answer and does not read it keeps neither its turn nor its event past the deadline.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::exchange::Exchange;
use super::failure::Failure;
use super::link::Link;

/// See the module.
pub(crate) struct Ongoing(Mutex<State>);

enum State {
    Live(Box<Exchange>),
    /// With what it failed with, for whoever still asks.
    Ended(Option<Failure>),
}

impl Ongoing {
    /// Lets the connection's task end it. The connection may have ended meanwhile.
    pub(crate) fn new(exchange: Exchange) -> Arc<Self> {
        let link = exchange.link().cloned();
        let ongoing = Arc::new(Self(Mutex::new(State::Live(Box::new(exchange)))));
        if let Some(link) = link {
            Link::attach(&link, &ongoing);
        }
        ongoing
    }

    /// All of the answer has come.
    pub(crate) fn complete(&self) {
        if let Some((exchange, _)) = self.end(|_| None) {
            exchange.complete();
        }
    }

    /// It failed. What is returned is the cause, where `failure` is only what came of it.
    pub(crate) fn fail(&self, failure: Failure) -> Failure {
        match self.end(|exchange| Some(exchange.cause().unwrap_or(failure))) {
            Some((exchange, cause)) => exchange.fail(cause.unwrap_or(failure)),
            None => self.failure().unwrap_or(failure),
        }
    }

    /// The guest lets it go.
    pub(crate) fn leave(&self) {
        drop(self.end(|_| None));
    }

    /// The deadline has come.
    pub(crate) fn expire(&self) {
        if let Some((exchange, Some(failure))) = self.end(|exchange| Some(exchange.expired())) {
            exchange.fail(failure);
        }
    }

    /// The connection is closed, and what came on it may still be read: nobody has to wait for that.
    pub(crate) fn closed(&self) {
        let turn = match &mut *self.lock() {
            State::Live(exchange) => exchange.take_turn(),
            State::Ended(_) => None,
        };
        drop(turn);
    }

    /// What it failed with, where it has ended so.
    pub(crate) fn failure(&self) -> Option<Failure> {
        match &*self.lock() {
            State::Live(_) => None,
            State::Ended(failure) => *failure,
        }
    }

    /// Takes the exchange out, once. It is told and dropped when the lock is free: that ends a task and wakes others.
    fn end(&self, how: impl FnOnce(&Exchange) -> Option<Failure>) -> Option<(Box<Exchange>, Option<Failure>)> {
        let mut state = self.lock();
        let failure = match &*state {
            State::Live(exchange) => how(exchange),
            State::Ended(_) => return None,
        };
        match std::mem::replace(&mut *state, State::Ended(failure)) {
            State::Live(exchange) => Some((exchange, failure)),
            State::Ended(_) => None,
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
