//! The intake's metrics, resolved once.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Instant, SystemTime, UNIX_EPOCH};

use metrics::{Counter, Gauge, Histogram};
use portcullis_audit::Scope;
use portcullis_connector_api::AssignmentId;

use super::Identity;
use super::assignments::{Assignment, Assignments};
use super::intake::Parts;
use super::slot_meters::limit;
use super::work::{Failure, FailureCode, Origin};
use crate::telemetry::names::Metric;

/// Tells each thing that a connector counts, and how often it was there; always all of them, in the same order.
pub type ReadCounts = Arc<dyn Fn(&mut dyn FnMut(&'static str, u64)) + Send + Sync>;

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
    oldest: Gauge,
    latency: Histogram,
    unconfirmed: Gauge,
    unconfirmed_dead_letters: Gauge,
    /// By plugin, kind and code; faults are rare, and their combinations are bounded by closed lists: a plugin's own codes are
    /// no label.
    faults: HashMap<(String, &'static str, Option<&'static str>), Counter>,
    /// Limits of the queue that were met, by kind and level.
    limits: HashMap<(&'static str, &'static str), Counter>,
    connectors: Vec<(ReadCounts, Vec<Counter>)>,
}

/// Messages that the sink has confirmed together.
pub(super) struct Stored {
    pub(super) messages: u64,
    pub(super) bytes: u64,
    /// The earliest timestamp at the source, in milliseconds since 1970; the largest number where none had one.
    pub(super) oldest_ms: i64,
}

impl Default for Stored {
    fn default() -> Self {
        Self { messages: 0, bytes: 0, oldest_ms: i64::MAX }
    }
}

impl Meters {
    pub(super) fn new(identity: &Identity, source: u8, counts: &[(String, ReadCounts)]) -> Self {
        let pipeline = identity.name.to_string();
        let outcome = |metric: Metric, outcome| metric.counter(&[("pipeline", &pipeline), ("outcome", outcome)]);
        let number = source.to_string();
        let gauge = |metric: Metric| metric.gauge(&[("pipeline", &pipeline), ("source", &number)]);
        let unconfirmed = |sink| Metric::UnconfirmedSends.gauge(&[("pipeline", &pipeline), ("sink", sink)]);
        let connector = |(end, read): &(String, ReadCounts)| {
            let mut counters = Vec::new();
            read(&mut |event, _| {
                let labels = [("pipeline", pipeline.as_str()), ("end", end.as_str()), ("event", event)];
                counters.push(Metric::Connector.counter(&labels));
            });
            (read.clone(), counters)
        };
        Self {
            connectors: counts.iter().map(connector).collect(),
            received: outcome(Metric::Messages, "received"),
            received_bytes: outcome(Metric::Bytes, "received"),
            delivered: outcome(Metric::Messages, "delivered"),
            delivered_bytes: outcome(Metric::Bytes, "delivered"),
            dropped: outcome(Metric::Messages, "dropped"),
            dead_lettered: outcome(Metric::Messages, "dead_lettered"),
            queue_messages: gauge(Metric::QueueMessages),
            queue_bytes: gauge(Metric::QueueBytes),
            unfinished: gauge(Metric::Unfinished),
            oldest: gauge(Metric::OldestUnfinished),
            latency: Metric::Latency.histogram(&[("pipeline", &pipeline)]),
            unconfirmed: unconfirmed("sink"),
            unconfirmed_dead_letters: unconfirmed("dead_letter"),
            faults: HashMap::new(),
            limits: HashMap::new(),
            pipeline,
        }
    }

    pub(super) fn received(&self, messages: u64, bytes: u64) {
        self.received.increment(messages);
        self.received_bytes.increment(bytes);
    }

    /// Of messages that were confirmed together the latency of the slowest is told: one look at the clock, and never a better
    /// number than the true one.
    pub(super) fn delivered(&self, stored: &Stored) {
        if stored.messages == 0 {
            return;
        }
        self.delivered.increment(stored.messages);
        self.delivered_bytes.increment(stored.bytes);
        if stored.oldest_ms != i64::MAX
            && let Ok(now) = SystemTime::now().duration_since(UNIX_EPOCH)
        {
            let now_ms = i64::try_from(now.as_millis()).unwrap_or(i64::MAX);
            // A producer whose clock is ahead has sent in no time.
            let latency_ms = now_ms.saturating_sub(stored.oldest_ms).max(0);
            self.latency.record(latency_ms as f64 / 1000.0);
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
        let code = match failure.code {
            FailureCode::Own(code) if code != kind => Some(code),
            _ => None,
        };
        let pipeline = &self.pipeline;
        let counter = || {
            let mut labels = vec![("pipeline", pipeline.as_str()), ("plugin", plugin), ("kind", kind)];
            labels.extend(code.map(|code| ("code", code)));
            Metric::Faults.counter(&labels)
        };
        self.faults.entry((plugin.to_owned(), kind, code)).or_insert_with(counter).increment(1);
    }

    /// The source waits for room in its queue.
    pub(super) fn queue_full(&mut self, kind: &'static str, scope: Scope) {
        let (pipeline, scope) = (&self.pipeline, scope.as_str());
        self.limits.entry((kind, scope)).or_insert_with(|| limit(pipeline, "source", kind, scope)).increment(1);
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
    pub(super) fn gauges(&self, parts: &Parts, assignments: &mut Assignments) {
        let depth = parts.queues.depth();
        self.queue_messages.set(depth.messages as f64);
        self.queue_bytes.set(depth.bytes as f64);
        self.unfinished.set(assignments.outstanding() as f64);
        self.oldest.set(assignments.oldest_age(Instant::now()).as_secs_f64());
        parts.unfinished.store(assignments.outstanding(), Ordering::Relaxed);
        self.unconfirmed.set(parts.sink.unconfirmed() as f64);
        if let Some(letters) = &parts.dead_letters {
            self.unconfirmed_dead_letters.set(letters.sink().unconfirmed() as f64);
        }
        for (read, counters) in &self.connectors {
            let mut counters = counters.iter();
            // The connector holds the sum, and each source of the pipeline tells it.
            read(&mut |_, sum| counters.next().map_or((), |counter| counter.absolute(sum)));
        }
        let lag = parts.source.lag();
        for (id, messages) in lag {
            if let Some(assignment) = assignments.iter().find(|assignment| assignment.id == id) {
                self.lag(assignment).set(messages as f64);
            }
        }
    }
}
