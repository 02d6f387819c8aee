//! Every metric of the bridge, in one list with its unit. Nothing else may name one.

use metrics::{Counter, Gauge, Label, Unit};

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
    /// Faults by kind: the closed list that dead letter headers and audit events use too.
    Faults,
    /// New instances of a plugin after a fault that cost it the old one.
    PluginRestarts,
    /// Log bytes of a plugin past its limit, cut and not written.
    PluginLogCut,
    /// Messages that wait for a lane.
    QueueMessages,
    /// Bytes that wait for a lane.
    QueueBytes,
    /// Messages received and not yet done: waiting, in a plugin, or sent and unconfirmed.
    Unfinished,
    /// Messages handed to a sink and not confirmed.
    UnconfirmedSends,
    /// Messages that wait at the broker, for each partition.
    Lag,
    /// Messages parked in a lane until their next attempt.
    Parked,
    /// Audit events by code.
    AuditEvents,
    /// Audit events that could not be recorded. Not zero is an incident.
    AuditLost,
}

const ALL: [Metric; 15] = [
    Metric::Messages,
    Metric::Bytes,
    Metric::PluginCalls,
    Metric::PluginTime,
    Metric::Faults,
    Metric::PluginRestarts,
    Metric::PluginLogCut,
    Metric::QueueMessages,
    Metric::QueueBytes,
    Metric::Unfinished,
    Metric::UnconfirmedSends,
    Metric::Lag,
    Metric::Parked,
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
            Self::Faults => "portcullis_faults_total",
            Self::PluginRestarts => "portcullis_plugin_restarts_total",
            Self::PluginLogCut => "portcullis_plugin_log_cut_bytes_total",
            Self::QueueMessages => "portcullis_queue_messages",
            Self::QueueBytes => "portcullis_queue_bytes",
            Self::Unfinished => "portcullis_unfinished_messages",
            Self::UnconfirmedSends => "portcullis_unconfirmed_sends",
            Self::Lag => "portcullis_lag_messages",
            Self::Parked => "portcullis_parked_messages",
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
            Self::Faults => ("faults by kind", Unit::Count),
            Self::PluginRestarts => ("new plugin instances after a fault", Unit::Count),
            Self::PluginLogCut => ("plugin log bytes past the limit", Unit::Bytes),
            Self::QueueMessages => ("messages that wait for a lane", Unit::Count),
            Self::QueueBytes => ("bytes that wait for a lane", Unit::Bytes),
            Self::Unfinished => ("messages received and not yet done", Unit::Count),
            Self::UnconfirmedSends => ("messages sent and not confirmed", Unit::Count),
            Self::Lag => ("messages that wait at the broker", Unit::Count),
            Self::Parked => ("messages that wait for their next attempt", Unit::Count),
            Self::AuditEvents => ("audit events by code", Unit::Count),
            Self::AuditLost => ("audit events that could not be recorded", Unit::Count),
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
}

/// Tells the recorder the help text and the unit of every metric.
#[allow(clippy::disallowed_macros)]
pub fn describe() {
    for metric in ALL {
        let (help, unit) = metric.help();
        if metric.name().ends_with("_total") {
            metrics::describe_counter!(metric.name(), unit, help);
        } else {
            metrics::describe_gauge!(metric.name(), unit, help);
        }
    }
}

fn owned(labels: &[(&'static str, &str)]) -> Vec<Label> {
    labels.iter().map(|(name, value)| Label::new(*name, (*value).to_owned())).collect()
}
