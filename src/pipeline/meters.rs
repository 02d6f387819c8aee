//! The intake's metrics, resolved once.

use std::collections::HashMap;
use std::sync::atomic::Ordering;

use metrics::{Counter, Gauge};
use portcullis_connector_api::AssignmentId;

use super::Identity;
use super::assignments::{Assignment, Assignments};
use super::intake::Parts;
use super::work::{Failure, Origin};
use crate::telemetry::names::Metric;

pub(super) struct Meters {
    pipeline: String,
    received: Counter,
    received_bytes: Counter,
    delivered: Counter,
    delivered_bytes: Counter,
    dropped: Counter,
    dead_lettered: Counter,
    queue_messages: Gauge,
    queue_bytes: Gauge,
    unfinished: Gauge,
    unconfirmed: Gauge,
    unconfirmed_dead_letters: Gauge,
    /// By plugin and kind; faults are rare, and their combinations are bounded by both closed lists.
    faults: HashMap<(String, &'static str), Counter>,
}

impl Meters {
    pub(super) fn new(identity: &Identity, source: u8) -> Self {
        let pipeline = identity.name.to_string();
        let outcome = |metric: Metric, outcome| metric.counter(&[("pipeline", &pipeline), ("outcome", outcome)]);
        let number = source.to_string();
        let gauge = |metric: Metric| metric.gauge(&[("pipeline", &pipeline), ("source", &number)]);
        let unconfirmed = |sink| Metric::UnconfirmedSends.gauge(&[("pipeline", &pipeline), ("sink", sink)]);
        Self {
            received: outcome(Metric::Messages, "received"),
            received_bytes: outcome(Metric::Bytes, "received"),
            delivered: outcome(Metric::Messages, "delivered"),
            delivered_bytes: outcome(Metric::Bytes, "delivered"),
            dropped: outcome(Metric::Messages, "dropped"),
            dead_lettered: outcome(Metric::Messages, "dead_lettered"),
            queue_messages: gauge(Metric::QueueMessages),
            queue_bytes: gauge(Metric::QueueBytes),
            unfinished: gauge(Metric::Unfinished),
            unconfirmed: unconfirmed("sink"),
            unconfirmed_dead_letters: unconfirmed("dead_letter"),
            faults: HashMap::new(),
            pipeline,
        }
    }

    pub(super) fn received(&self, messages: u64, bytes: u64) {
        self.received.increment(messages);
        self.received_bytes.increment(bytes);
    }

    pub(super) fn delivered(&self, messages: u64, bytes: u64) {
        if messages > 0 {
            self.delivered.increment(messages);
            self.delivered_bytes.increment(bytes);
        }
    }

    pub(super) fn dropped(&self) {
        self.dropped.increment(1);
    }

    pub(super) fn dead_lettered(&self) {
        self.dead_lettered.increment(1);
    }

    pub(super) fn fault(&mut self, failure: &Failure) {
        let plugin = match &failure.origin {
            Origin::Plugin(plugin) => plugin.name(),
            other => other.stage(),
        };
        let kind = failure.kind.as_str();
        let pipeline = &self.pipeline;
        self.faults
            .entry((plugin.to_owned(), kind))
            .or_insert_with(|| Metric::Faults.counter(&[("pipeline", pipeline), ("plugin", plugin), ("kind", kind)]))
            .increment(1);
    }

    /// A partition that is another's must not go on counting here.
    pub(super) fn forget_lag(&self, assignments: &Assignments, ids: &[AssignmentId]) {
        for assignment in assignments.iter().filter(|assignment| ids.contains(&assignment.id)) {
            self.lag(assignment).set(0.0);
        }
    }

    fn lag(&self, assignment: &Assignment) -> Gauge {
        let partition = assignment.partition.to_string();
        let labels = [("pipeline", &*self.pipeline), ("topic", &*assignment.channel), ("partition", &*partition)];
        Metric::Lag.gauge(&labels)
    }

    /// Called once a second.
    pub(super) fn gauges(&self, parts: &Parts, assignments: &Assignments) {
        let depth = parts.queues.depth();
        self.queue_messages.set(depth.messages as f64);
        self.queue_bytes.set(depth.bytes as f64);
        self.unfinished.set(assignments.outstanding() as f64);
        parts.unfinished.store(assignments.outstanding(), Ordering::Relaxed);
        self.unconfirmed.set(parts.sink.unconfirmed() as f64);
        if let Some(letters) = &parts.dead_letters {
            self.unconfirmed_dead_letters.set(letters.sink().unconfirmed() as f64);
        }
        let lag = parts.source.lag();
        for (id, messages) in lag {
            if let Some(assignment) = assignments.iter().find(|assignment| assignment.id == id) {
                self.lag(assignment).set(messages as f64);
            }
        }
    }
}
