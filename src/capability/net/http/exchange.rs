//! One granted request from its intent to its end. However it ends, `http.request` is recorded once, and the connection is
//! either whole and goes back to the pool, or it is closed.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use portcullis_audit::{Budget, Decided, Event, HttpCall, HttpIntent, HttpResult, Scope, Source, Traffic};
use portcullis_policy::Reason;
use tokio::time::Instant;

use super::body::{BODY_BYTES, Flow};
use super::failure::Failure;
use super::link::Link;
use super::pool::Idle;
use super::{HttpEgress, IDLE_TIME};
use crate::evidence::{Intent, about};
use crate::gate::Gate;
use crate::quota::Turn;

/// See the module.
pub(crate) struct Exchange {
    gate: Gate,
    http: Arc<HttpEgress>,
    home: usize,
    /// True while the guest itself lets something go.
    by_guest: Arc<AtomicBool>,
    source: Option<Source>,
    /// What is told of it in the end, once: none when it was.
    facts: Option<(HttpCall, Decided)>,
    begun: Instant,
    ends: Instant,
    flow: Arc<Flow>,
    connection: Option<Idle>,
    /// The connection's bytes before this exchange.
    before: (u64, u64),
    /// Bytes on connections that were given up before.
    spent: (u64, u64),
    status: Option<u16>,
    /// After the connection: who has the next turn finds it in the pool. None once the connection is closed.
    turn: Option<Arc<Turn>>,
}

/// What an exchange is about.
pub(crate) struct About {
    pub(crate) gate: Gate,
    pub(crate) http: Arc<HttpEgress>,
    pub(crate) home: usize,
    pub(crate) by_guest: Arc<AtomicBool>,
    pub(crate) source: Option<Source>,
    pub(crate) call: HttpCall,
    pub(crate) decided: Decided,
    pub(crate) ends: Instant,
    pub(crate) turn: Arc<Turn>,
}

impl Exchange {
    /// Records the intent. Nothing may be sent before it is confirmed; without an intent nothing can be recorded at all.
    pub(crate) fn begin(about_it: About) -> (Self, Option<Intent>) {
        let About { gate, http, home, by_guest, source, call, decided, ends, turn } = about_it;
        let intent = gate.egress().and_then(|egress| {
            let intent = HttpIntent { call: call.clone(), decided: decided.clone() };
            let event = Event::http_allowed(egress.evidence().actor().clone(), intent);
            gate.intend(about(event, source.as_ref()))
        });
        let begun = Instant::now();
        let exchange = Self {
            gate,
            http,
            home,
            by_guest,
            source,
            facts: Some((call, decided)),
            begun,
            ends,
            flow: Arc::default(),
            connection: None,
            before: (0, 0),
            spent: (0, 0),
            status: None,
            turn: Some(turn),
        };
        (exchange, intent)
    }

    pub(crate) fn flow(&self) -> &Arc<Flow> {
        &self.flow
    }

    /// Goes over this connection from here on. `fresh` ones count their handshake.
    pub(crate) fn over(&mut self, connection: Idle, fresh: bool) -> &mut Idle {
        connection.link.end_at(self.ends);
        connection.link.serve(Some(self.gate.clone()));
        self.spent = self.bytes();
        self.before = if fresh { (0, 0) } else { connection.link.bytes() };
        self.connection.insert(connection)
    }

    /// Gives a connection up that was closed before anything was sent on it.
    pub(crate) fn give_up(&mut self) {
        self.spent = self.bytes();
        self.connection = None;
    }

    /// The head of the answer has come.
    pub(crate) fn answered(&mut self, status: u16) {
        self.status = Some(status);
    }

    /// All of the answer has come.
    pub(crate) fn complete(mut self) {
        self.record(None);
        // A server that answers early leaves the rest of the request in the connection.
        if let Some(connection) = self.connection.take().filter(|_| self.flow.is_sent()) {
            connection.link.end_at(Instant::now() + IDLE_TIME);
            self.http.pool.put(self.home, connection);
            if let Some(egress) = self.gate.egress() {
                egress.budgets().tell_freed();
            }
        }
    }

    /// It failed. What is returned is the cause, where `failure` is only what came of it.
    pub(crate) fn fail(mut self, failure: Failure) -> Failure {
        let cause = self.cause().unwrap_or(failure);
        self.record(Some(cause.reason));
        cause
    }

    /// The connection that it goes over.
    pub(super) fn link(&self) -> Option<&Arc<Link>> {
        self.connection.as_ref().map(|connection| &connection.link)
    }

    pub(super) fn take_turn(&mut self) -> Option<Arc<Turn>> {
        self.turn.take()
    }

    /// What it fails with when its deadline has come.
    pub(super) fn expired(&self) -> Failure {
        self.flow.failed().unwrap_or_else(|| Failure::of(self.late()))
    }

    /// What went wrong first, where it is known.
    pub(super) fn cause(&self) -> Option<Failure> {
        let expired = self.connection.as_ref().is_some_and(|connection| connection.link.has_expired());
        self.flow.failed().or_else(|| expired.then(|| Failure::of(self.late())))
    }

    /// Who was late when the deadline came.
    fn late(&self) -> Reason {
        if self.flow.is_sent() { Reason::TimeTotal } else { Reason::TimeRequestBody }
    }

    fn bytes(&self) -> (u64, u64) {
        let (out, into) = self.connection.as_ref().map_or((0, 0), |connection| connection.link.bytes());
        let more = |total: u64, before: u64, spent: u64| total.saturating_sub(before).saturating_add(spent);
        (more(out, self.before.0, self.spent.0), more(into, self.before.1, self.spent.1))
    }

    fn record(&mut self, failure: Option<Reason>) {
        let Some((call, decided)) = self.facts.take() else { return };
        if let Some(connection) = &self.connection {
            connection.link.serve(None);
        }
        let Some(egress) = self.gate.egress() else { return };
        let evidence = egress.evidence();
        let (bytes_out, bytes_in) = self.bytes();
        let elapsed_ms = u64::try_from(self.begun.elapsed().as_millis()).unwrap_or(u64::MAX);
        let result = HttpResult {
            call,
            decided,
            connection: self.connection.as_ref().map(|connection| connection.link.id),
            status: self.status,
            traffic: Traffic { bytes_out, bytes_in, duration_ms: elapsed_ms, ..Traffic::default() },
            failure: failure.map(Reason::as_str),
            tls_version: self.connection.as_ref().and_then(|connection| connection.tls_version),
        };
        let event = Event::http_request(evidence.actor().clone(), result);
        evidence.record(about(event, self.source.as_ref()));
        let limit = match failure {
            Some(Reason::TimeRequestBody) => {
                u64::try_from(self.ends.saturating_duration_since(self.begun).as_millis()).unwrap_or(u64::MAX)
            }
            Some(Reason::QuotaBytesOut | Reason::QuotaBytesIn) => BODY_BYTES,
            _ => return,
        };
        let kind = failure.map_or("", Reason::as_str);
        let budget = Budget {
            kind,
            limit: Some(limit),
            used: None,
            scope: Scope::Invocation,
            detail: String::new(),
            window: None,
        };
        let event = Event::budget_exceeded(evidence.actor().clone(), budget);
        evidence.record(about(event, self.source.as_ref()));
    }
}

impl Drop for Exchange {
    fn drop(&mut self) {
        if self.facts.is_none() {
            return;
        }
        // An answer that the guest has seen enough of is no failure; one that ended with its instance is.
        let enough = self.status.is_some() && self.by_guest.load(Ordering::Relaxed);
        let cause = self.cause().map(|cause| cause.reason);
        let failure = cause.or_else(|| (!enough || !self.flow.is_sent()).then(|| self.late()));
        self.record(failure);
    }
}
