//! Every metric of the bridge, in one list with its unit. Nothing else may name one.

use metrics::{Counter, Gauge, Histogram, Label, Unit};

/// A metric's name. The unit is the last part of the name; counters end in `_total`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Metric {
    /// Messages by what became of them: `received`, `delivered`, `dropped`, `dead_lettered`.
    Messages,
    /// Bytes of key, value and headers: `received` and `delivered`.
    Bytes,
    /// Calls of a plugin by its verdict: `pass`, `drop`, `reject`, `retry`, `fault`.
    PluginCalls,
    /// Wall time spent in a plugin, in nanoseconds.
    PluginTime,
    /// Fuel of calls, one of each slice.
    PluginFuel,
    /// Bytes of all memories and tables of a plugin's instances.
    PluginMemory,
    /// 1 while a plugin is in quarantine.
    PluginQuarantined,
    /// Faults by kind: the closed list that dead letter headers and audit events use too.
    Faults,
    /// New instances of a plugin after a fault that cost it the old one.
    PluginRestarts,
    /// Log bytes of a plugin past its limit, cut and not written.
    PluginLogCut,
    /// How often a limit was met that makes wait or refuses without a fault, by its kind and the level that has it.
    LimitsMet,
    /// Wall time that calls of a plugin have waited for their tenant's turn on the processor, in nanoseconds.
    PluginTurnWait,
    /// Messages that wait for a lane.
    QueueMessages,
    /// Bytes that wait for a lane.
    QueueBytes,
    /// Messages received and not yet done: waiting, in a plugin, or sent and unconfirmed.
    Unfinished,
    /// How long the oldest of these has been here, in seconds.
    OldestUnfinished,
    /// From the timestamp at the source to the sink's confirmation, in seconds: the slowest of what was confirmed together.
    Latency,
    /// Messages handed to a sink and not confirmed.
    UnconfirmedSends,
    /// Messages that wait at the broker, for each partition.
    Lag,
    /// Messages parked in a lane until their next attempt.
    Parked,
    /// What happened between a source or sink and its servers.
    Connector,
    /// Decisions on a plugin's requests to the network: `allowed`, `denied`, `quota`.
    Egress,
    /// Audit events by code.
    AuditEvents,
    /// Audit events that could not be recorded. Not zero is an incident.
    AuditLost,
}

const ALL: [Metric; 24] = [
    Metric::Messages,
    Metric::Bytes,
    Metric::PluginCalls,
    Metric::PluginTime,
    Metric::PluginFuel,
    Metric::PluginMemory,
    Metric::PluginQuarantined,
    Metric::Faults,
    Metric::PluginRestarts,
    Metric::PluginLogCut,
    Metric::LimitsMet,
    Metric::PluginTurnWait,
    Metric::QueueMessages,
    Metric::QueueBytes,
    Metric::Unfinished,
    Metric::OldestUnfinished,
    Metric::Latency,
    Metric::UnconfirmedSends,
    Metric::Lag,
    Metric::Parked,
    Metric::Connector,
    Metric::Egress,
    Metric::AuditEvents,
    Metric::AuditLost,
];

impl Metric {
    /// The name as scraped.
    pub fn name(self) -> &'static str {
        match self {
            Self::Messages => "portcullis_messages_total",
            Self::Bytes => "portcullis_message_bytes_total",
            Self::PluginCalls => "portcullis_plugin_calls_total",
            Self::PluginTime => "portcullis_plugin_time_nanoseconds_total",
            Self::PluginFuel => "portcullis_plugin_call_fuel",
            Self::PluginMemory => "portcullis_plugin_memory_bytes",
            Self::PluginQuarantined => "portcullis_plugin_quarantined",
            Self::Faults => "portcullis_faults_total",
            Self::PluginRestarts => "portcullis_plugin_restarts_total",
            Self::PluginLogCut => "portcullis_plugin_log_cut_bytes_total",
            Self::LimitsMet => "portcullis_limits_met_total",
            Self::PluginTurnWait => "portcullis_plugin_turn_wait_nanoseconds_total",
            Self::QueueMessages => "portcullis_queue_messages",
            Self::QueueBytes => "portcullis_queue_bytes",
            Self::Unfinished => "portcullis_unfinished_messages",
            Self::OldestUnfinished => "portcullis_oldest_unfinished_seconds",
            Self::Latency => "portcullis_latency_seconds",
            Self::UnconfirmedSends => "portcullis_unconfirmed_sends",
            Self::Lag => "portcullis_lag_messages",
            Self::Parked => "portcullis_parked_messages",
            Self::Connector => "portcullis_connector_events_total",
            Self::Egress => "portcullis_egress_total",
            Self::AuditEvents => "portcullis_audit_events_total",
            Self::AuditLost => "portcullis_audit_lost_total",
        }
    }

    fn help(self) -> (&'static str, Unit) {
        match self {
            Self::Messages => ("messages by outcome", Unit::Count),
            Self::Bytes => ("bytes of key, value and headers by outcome", Unit::Bytes),
            Self::PluginCalls => ("plugin calls by verdict", Unit::Count),
            Self::PluginTime => ("wall time spent in a plugin", Unit::Nanoseconds),
            Self::PluginFuel => ("fuel of one call of each slice", Unit::Count),
            Self::PluginMemory => ("memories and tables of a plugin's instances", Unit::Bytes),
            Self::PluginQuarantined => ("1 while a plugin is in quarantine", Unit::Count),
            Self::Faults => ("faults by kind", Unit::Count),
            Self::PluginRestarts => ("new plugin instances after a fault", Unit::Count),
            Self::PluginLogCut => ("plugin log bytes past the limit", Unit::Bytes),
            Self::LimitsMet => ("limits met that make wait or refuse without a fault", Unit::Count),
            Self::PluginTurnWait => ("time waited for the tenant's turn on the processor", Unit::Nanoseconds),
            Self::QueueMessages => ("messages that wait for a lane", Unit::Count),
            Self::QueueBytes => ("bytes that wait for a lane", Unit::Bytes),
            Self::Unfinished => ("messages received and not yet done", Unit::Count),
            Self::OldestUnfinished => ("age of the oldest message that is not done", Unit::Seconds),
            Self::Latency => ("from the source's timestamp to the sink's confirmation", Unit::Seconds),
            Self::UnconfirmedSends => ("messages sent and not confirmed", Unit::Count),
            Self::Lag => ("messages that wait at the broker", Unit::Count),
            Self::Parked => ("messages that wait for their next attempt", Unit::Count),
            Self::Connector => ("what happened between a source or sink and its servers", Unit::Count),
            Self::Egress => ("decisions on requests to the network by outcome", Unit::Count),
            Self::AuditEvents => ("audit events by code", Unit::Count),
            Self::AuditLost => ("audit events that could not be recorded", Unit::Count),
        }
    }

    /// The upper bounds of a histogram; none for what is no histogram.
    fn bounds(self) -> Option<&'static [f64]> {
        match self {
            Self::PluginFuel => Some(&[1e3, 1e4, 3e4, 1e5, 3e5, 1e6, 3e6, 1e7, 3e7, 1e8, 1e9]),
            // Timestamps are whole milliseconds.
            Self::Latency => Some(&[
                0.001, 0.002, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 300.0, 3600.0,
            ]),
            _ => None,
        }
    }

    /// A counter of this name. Resolve it once and keep it: the look-up takes a lock.
    #[allow(clippy::disallowed_macros)] // the one place that may
    pub fn counter(self, labels: &[(&'static str, &str)]) -> Counter {
        metrics::counter!(self.name(), owned(labels))
    }

    /// A gauge of this name. Resolve it once and keep it.
    #[allow(clippy::disallowed_macros)]
    pub fn gauge(self, labels: &[(&'static str, &str)]) -> Gauge {
        metrics::gauge!(self.name(), owned(labels))
    }

    /// A histogram of this name. Resolve it once and keep it, and record once a slice: each value waits in memory until it is
    /// folded into its bucket.
    #[allow(clippy::disallowed_macros)]
    pub fn histogram(self, labels: &[(&'static str, &str)]) -> Histogram {
        metrics::histogram!(self.name(), owned(labels))
    }
}

/// The histograms with the upper bounds of their buckets.
pub fn histograms() -> impl Iterator<Item = (&'static str, &'static [f64])> {
    ALL.into_iter().filter_map(|metric| Some((metric.name(), metric.bounds()?)))
}

/// Tells the recorder the help text and the unit of every metric.
#[allow(clippy::disallowed_macros)]
pub fn describe() {
    for metric in ALL {
        let (help, unit) = metric.help();
        if metric.name().ends_with("_total") {
            metrics::describe_counter!(metric.name(), unit, help);
        } else if metric.bounds().is_some() {
            metrics::describe_histogram!(metric.name(), unit, help);
        } else {
            metrics::describe_gauge!(metric.name(), unit, help);
        }
    }
}

fn owned(labels: &[(&'static str, &str)]) -> Vec<Label> {
    labels.iter().map(|(name, value)| Label::new(*name, (*value).to_owned())).collect()
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    const PAGE: &str = include_str!("../../docs/metrics.md");

    #[test]
    fn the_page_of_metrics_names_each_of_them_and_no_other() {
        let known: BTreeSet<&str> = ALL.iter().map(|metric| metric.name()).collect();
        assert_eq!(known.len(), ALL.len(), "a name is given twice");
        // The first cell of each row of its tables.
        let rows = PAGE.lines().filter_map(|line| line.strip_prefix("| `portcullis_")?.split_once('`'));
        let told: Vec<String> = rows.map(|(rest, _)| format!("portcullis_{rest}")).collect();
        let told_once: BTreeSet<&str> = told.iter().map(String::as_str).collect();
        assert_eq!(told_once, known);
        assert_eq!(told.len(), known.len(), "a metric has two rows");
    }

    #[test]
    fn a_name_ends_with_its_unit_and_buckets_ascend() {
        for metric in ALL {
            let (help, unit) = metric.help();
            let name = metric.name().trim_end_matches("_total");
            let ends = match unit {
                Unit::Bytes => name.ends_with("_bytes"),
                Unit::Seconds => name.ends_with("_seconds"),
                Unit::Nanoseconds => name.ends_with("_nanoseconds"),
                _ => true,
            };
            assert!(ends && !help.is_empty(), "{name}");
            assert!(metric.bounds().unwrap_or_default().is_sorted_by(|low, high| low < high), "{name}");
        }
    }
}
