//! Failed messages in the log: the cause, a few times a second, and an exact count of the rest. A flood of bad messages
//! must not become a flood of lines.

use portcullis_connector_api::{Message, Trace};

use super::work::{Failure, Origin};
use crate::telemetry::log;

const LINES_A_SECOND: u64 = 5;

#[derive(Default)]
pub(super) struct Warnings {
    this_second: u64,
}

impl Warnings {
    /// Logs why a message leaves. The plugin's own sentence stays out: it may quote the value. The dead letter has it.
    pub(super) fn failure(&mut self, pipeline: &str, failure: &Failure, message: Option<&Message>) {
        self.this_second += 1;
        if self.this_second > LINES_A_SECOND {
            return;
        }
        let plugin = match &failure.origin {
            Origin::Plugin(plugin) => plugin.name(),
            other => other.stage(),
        };
        let (kind, code, way) = (failure.kind.as_str(), failure.code.as_str(), failure.way);
        let (trace_id, span_id) = log::ids(message.and_then(|message| Trace::of(&message.headers)));
        tracing::warn!(pipeline, plugin, kind, code, ?way, trace_id, span_id, "a message has failed");
    }

    /// Ends the second.
    pub(super) fn flush(&mut self, pipeline: &str) {
        let more = std::mem::take(&mut self.this_second).saturating_sub(LINES_A_SECOND);
        if more > 0 {
            tracing::warn!(pipeline, more, "further messages have failed in the last second");
        }
    }
}
