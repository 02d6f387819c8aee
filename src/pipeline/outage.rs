//! Whether the brokers of a pipeline can be reached, and what is worse than it should be, as `/ready` says it.

use std::time::{Duration, Instant};

use portcullis_connector_api::{ConnectorError, Sink, Source};

use crate::telemetry::readiness::Readiness;

/// A source that has reported no error for this long counts as working again, also when no message came.
const QUIET: Duration = Duration::from_secs(15);

#[derive(Debug)]
pub(super) struct Outage {
    readiness: Readiness,
    source: String,
    sink: String,
    dead_letter: String,
    last_error: Option<Instant>,
}

impl Outage {
    pub(super) fn new(readiness: Readiness, pipeline: &str, source: String) -> Self {
        let part = |name| format!("pipeline/{pipeline}/{name}");
        Self { readiness, source, sink: part("sink"), dead_letter: part("dead_letter"), last_error: None }
    }

    pub(super) fn source_fails(&mut self, error: &ConnectorError) {
        self.last_error = Some(Instant::now());
        self.readiness.report(&self.source, Some(error.to_string()));
    }

    pub(super) fn source_works(&mut self) {
        if self.last_error.take().is_some() {
            self.readiness.report(&self.source, None);
        }
    }

    /// Asks source and sinks how they are. Called once a second.
    pub(super) fn refresh(&mut self, source: &dyn Source, sink: &dyn Sink, dead_letter: Option<&dyn Sink>) {
        if self.last_error.is_some_and(|last| last.elapsed() >= QUIET) {
            self.source_works();
        }
        self.readiness.degraded(&self.source, source.degraded());
        self.readiness.report(&self.sink, sink.not_ready());
        self.readiness.degraded(&self.sink, sink.degraded());
        if let Some(dead_letter) = dead_letter {
            self.readiness.report(&self.dead_letter, dead_letter.not_ready());
            self.readiness.degraded(&self.dead_letter, dead_letter.degraded());
        }
    }
}

impl Drop for Outage {
    fn drop(&mut self) {
        // Nobody would say any more that it is over.
        [&self.source, &self.sink, &self.dead_letter].into_iter().for_each(|part| self.readiness.degraded(part, None));
    }
}
