use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use super::spec::{Level, PluginSpec};
use super::text::{cut, tame};

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
        }
    }

    /// A new call has its whole budget again.
    pub(super) fn begin(&self) {
        self.spent_bytes.store(0, Ordering::Relaxed);
    }

    /// Bytes that were not kept since the last time.
    pub(super) fn take_cut_bytes(&self) -> u64 {
        self.cut_bytes.swap(0, Ordering::Relaxed)
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
        let kept = cut(text, usize::try_from(left).unwrap_or(usize::MAX));
        if kept.len() < text.len() {
            self.cut_bytes.fetch_add((text.len() - kept.len()) as u64, Ordering::Relaxed);
            // A cut at a character may leave bytes over: a shorter line must not slip in after a longer one was cut.
            self.spent_bytes.store(self.limit_bytes, Ordering::Relaxed);
        } else {
            // An empty line costs a byte, else the number of lines would have no bound.
            self.spent_bytes.store(spent.saturating_add(text.len().max(1) as u64), Ordering::Relaxed);
        }
        if kept.is_empty() && left == 0 {
            return;
        }
        self.emit(level, &tame(kept, kept.len().saturating_mul(8)));
    }

    fn emit(&self, level: Level, text: &str) {
        macro_rules! emit {
            ($level:ident) => {
                tracing::event!(target: "portcullis::plugin", tracing::Level::$level, plugin = &*self.plugin,
                    pipeline = &*self.pipeline, tenant = &*self.tenant, "{text}")
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
            limit_bytes: 10,
            spent_bytes: AtomicU64::new(0),
            cut_bytes: AtomicU64::new(0),
        }
    }

    #[test]
    fn what_exceeds_the_budget_is_cut_and_counted_exactly() {
        let sink = sink(Some(Level::Info));
        sink.line(Level::Info, "1234567");
        sink.line(Level::Debug, "not kept and not charged");
        sink.line(Level::Error, "1234567");
        sink.line(Level::Info, "12");
        assert_eq!(sink.take_cut_bytes(), 4 + 2);
        sink.begin();
        sink.line(Level::Info, "1234567890");
        assert_eq!(sink.take_cut_bytes(), 0);
    }

    #[test]
    fn without_the_grant_everything_is_counted_as_cut() {
        let sink = sink(None);
        sink.line(Level::Error, "12345");
        assert_eq!(sink.take_cut_bytes(), 5);
    }
}
