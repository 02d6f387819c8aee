use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use portcullis_audit::Scope;
use portcullis_connector_api::{Headers, Trace};
use portcullis_flow::Rate;

use super::log_rate::LogRate;
use super::spec::{Level, PluginSpec};
use super::text::{cut, tame};
use crate::telemetry::log;

/// What the log writes beside the text of a line, about: time, level, names. Charged for each, else the number of short lines
/// would have no bound.
const LINE_BYTES: u64 = 128;

/// Where the lines of one instance go: the interface `log`, standard output and standard error, with one budget. Shared
/// with the streams that the guest holds, so the counters are atomic; only the thread of the instance touches them.
#[derive(Debug)]
pub(crate) struct LogSink {
    plugin: Arc<str>,
    pipeline: Arc<str>,
    tenant: Arc<str>,
    /// The lowest level that is kept; none keeps nothing.
    lowest: Option<Level>,
    limit_bytes: u64,
    spent_bytes: AtomicU64,
    cut_bytes: AtomicU64,
    /// The plugin's, the tenant's and the node's, each with what was cut for it.
    rates: Vec<(Arc<LogRate>, AtomicU64)>,
    /// Those of the message in work, as they came: a line of its call names its trace. Only where lines are kept.
    headers: Mutex<Headers>,
}

/// Log bytes that were not kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LogCut {
    /// Over what the limit counts that cut them.
    pub scope: Scope,
    /// That limit: bytes of a call, or bytes a second.
    pub limit_bytes: u64,
    /// How many were cut.
    pub bytes: u64,
}

impl LogSink {
    pub(super) fn new(spec: &PluginSpec) -> Self {
        Self {
            plugin: Arc::clone(&spec.name),
            pipeline: Arc::clone(&spec.pipeline),
            tenant: Arc::clone(&spec.tenant),
            lowest: spec.grants.log,
            limit_bytes: spec.limits.log_bytes,
            spent_bytes: AtomicU64::new(0),
            cut_bytes: AtomicU64::new(0),
            rates: spec.sums.log.iter().map(|rate| (Arc::clone(rate), AtomicU64::new(0))).collect(),
            headers: Mutex::default(),
        }
    }

    /// A new call has its whole budget again. A plugin whose lines nobody reads pays for no trace.
    pub(super) fn begin(&self, headers: &Headers) {
        self.spent_bytes.store(0, Ordering::Relaxed);
        if self.lowest.is_some() {
            self.keep(headers.clone());
        }
    }

    /// The call has ended: nothing of its message is held on to.
    pub(super) fn end(&self) {
        if self.lowest.is_some() {
            self.keep(Headers::default());
        }
    }

    fn keep(&self, headers: Headers) {
        *self.headers.lock().unwrap_or_else(PoisonError::into_inner) = headers;
    }

    /// What was not kept since the last time.
    pub(super) fn take_cuts(&self) -> Vec<LogCut> {
        let of_call = LogCut {
            scope: Scope::Invocation,
            limit_bytes: self.limit_bytes,
            bytes: self.cut_bytes.swap(0, Ordering::Relaxed),
        };
        let of_rates = self.rates.iter().map(|(rate, cut_bytes)| LogCut {
            scope: rate.scope(),
            limit_bytes: rate.limit_bytes_s(),
            bytes: cut_bytes.swap(0, Ordering::Relaxed),
        });
        std::iter::once(of_call).chain(of_rates).filter(|cut| cut.bytes > 0).collect()
    }

    /// Writes one line as far as the budget goes. A level below the granted one costs nothing; the rest of a line that is
    /// cut is counted.
    pub(crate) fn line(&self, level: Level, text: &str) {
        let Some(lowest) = self.lowest else {
            self.cut_bytes.fetch_add(text.len() as u64, Ordering::Relaxed);
            return;
        };
        if level < lowest {
            return;
        }
        let spent = self.spent_bytes.load(Ordering::Relaxed);
        let left = self.limit_bytes.saturating_sub(spent);
        if left == 0 {
            self.cut_bytes.fetch_add(text.len() as u64, Ordering::Relaxed);
            return;
        }
        let kept = cut(text, usize::try_from(left).unwrap_or(usize::MAX));
        if kept.len() < text.len() {
            self.cut_bytes.fetch_add((text.len() - kept.len()) as u64, Ordering::Relaxed);
            // A cut at a character may leave bytes over: a shorter line must not slip in after a longer one was cut.
            self.spent_bytes.store(self.limit_bytes, Ordering::Relaxed);
        } else {
            self.spent_bytes.store(spent.saturating_add(text.len() as u64 + LINE_BYTES), Ordering::Relaxed);
        }
        // What is written is longer than what the guest said, where that has to be escaped.
        let written = tame(kept, kept.len().saturating_mul(8));
        match self.take_from_rates(written.len() as u64 + LINE_BYTES) {
            Ok(()) => self.emit(level, &written),
            Err(cut_bytes) => drop(cut_bytes.fetch_add(kept.len() as u64, Ordering::Relaxed)),
        }
    }

    /// Takes the bytes of a line from every rate, or from none.
    ///
    /// # Errors
    /// Where to count what the first rate cuts that has no room.
    fn take_from_rates(&self, bytes: u64) -> Result<(), &AtomicU64> {
        let taken = Rate::take_of_all(self.rates.iter().map(|(rate, _)| &rate.bytes), bytes);
        // The place is one of these, so that the call's own counter is never taken for it.
        taken.map_err(|at| self.rates.get(at).map_or(&self.cut_bytes, |(_, cut_bytes)| cut_bytes))
    }

    fn emit(&self, level: Level, text: &str) {
        let (trace_id, span_id) = log::ids(Trace::of(&self.headers.lock().unwrap_or_else(PoisonError::into_inner)));
        macro_rules! emit {
            ($level:ident) => {
                tracing::event!(target: "portcullis::plugin", tracing::Level::$level, plugin = &*self.plugin,
                    pipeline = &*self.pipeline, tenant = &*self.tenant, trace_id, span_id, "{text}")
            };
        }
        match level {
            Level::Debug => emit!(DEBUG),
            Level::Info => emit!(INFO),
            Level::Warn => emit!(WARN),
            Level::Error => emit!(ERROR),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sink(lowest: Option<Level>) -> LogSink {
        let text: Arc<str> = "x".into();
        LogSink {
            plugin: Arc::clone(&text),
            pipeline: Arc::clone(&text),
            tenant: text,
            lowest,
            limit_bytes: LINE_BYTES + 10,
            spent_bytes: AtomicU64::new(0),
            cut_bytes: AtomicU64::new(0),
            rates: Vec::new(),
            headers: Mutex::default(),
        }
    }

    fn cut_bytes(sink: &LogSink) -> u64 {
        sink.take_cuts().iter().map(|cut| cut.bytes).sum()
    }

    #[test]
    fn what_exceeds_the_budget_is_cut_and_counted_exactly() {
        let sink = sink(Some(Level::Info));
        sink.line(Level::Info, "1234567");
        sink.line(Level::Debug, "not kept and not charged");
        sink.line(Level::Error, "1234567");
        sink.line(Level::Info, "12");
        assert_eq!(cut_bytes(&sink), 4 + 2);
        sink.begin(&Headers::default());
        sink.line(Level::Info, "1234567890");
        assert_eq!(sink.take_cuts(), []);
    }

    #[test]
    fn without_the_grant_everything_is_counted_as_cut() {
        let sink = sink(None);
        sink.line(Level::Error, "12345");
        assert_eq!(cut_bytes(&sink), 5);
    }

    #[test]
    fn what_the_rate_of_a_level_has_no_room_for_is_cut_for_it_and_costs_the_others_nothing() {
        let rate = |scope, bytes_s| (Arc::new(LogRate::new(scope, bytes_s)), AtomicU64::new(0));
        let mut sink = sink(Some(Level::Info));
        sink.limit_bytes = 1 << 20;
        sink.rates = vec![rate(Scope::Plugin, 1000), rate(Scope::Tenant, 4)];
        sink.line(Level::Info, &"x".repeat(50));
        for _ in 0..3 {
            sink.line(Level::Info, &"x".repeat(20));
        }
        assert_eq!(sink.take_cuts(), [LogCut { scope: Scope::Tenant, limit_bytes: 4, bytes: 60 }]);
        let left = 60_000 - 50 - LINE_BYTES;
        assert!(
            Rate::take_of_all([&sink.rates[0].0.bytes], left).is_ok(),
            "what the tenant refused is not the plugin's"
        );
    }

    #[test]
    fn a_flood_of_empty_lines_and_of_control_characters_pays_for_what_is_written() {
        let mut sink = sink(Some(Level::Info));
        (sink.limit_bytes, sink.rates) =
            (1 << 20, vec![(Arc::new(LogRate::new(Scope::Plugin, 100)), AtomicU64::new(0))]);
        let began = sink.rates[0].0.clone();
        (0..1000).for_each(|_| sink.line(Level::Info, ""));
        assert!(Rate::take_of_all([&began.bytes], 2 * LINE_BYTES).is_err(), "6,000 bytes are less than 47 lines");
        sink.begin(&Headers::default());
        (0..10_000).for_each(|_| sink.line(Level::Info, ""));
        assert!(
            sink.spent_bytes.load(Ordering::Relaxed) <= (1 << 20) + LINE_BYTES,
            "nor has a call any number of them"
        );
    }
}
