//! The bridge's own log: to standard error, as text or as JSON, never with a payload.

use std::io::IsTerminal;

use portcullis_connector_api::{Trace, TraceId};
use tracing::field::{DisplayValue, display};
use tracing_subscriber::EnvFilter;

/// How log lines look.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Format {
    /// For people.
    #[default]
    Text,
    /// One JSON object a line.
    Json,
}

/// Installs the log for the process. `level` is a filter as `RUST_LOG` takes it, such as `info` or
/// `portcullis=debug,librdkafka=warn`.
///
/// # Errors
/// When the filter cannot be read or a log is installed already.
pub fn install(format: Format, level: &str) -> anyhow::Result<()> {
    let mut filter = EnvFilter::try_new(level)?;
    if !level.contains("async_nats") {
        // It writes out what the server says, and that has subjects in it, which are made of keys. What matters of it the
        // connector says itself.
        filter = filter.add_directive("async_nats=off".parse()?);
    }
    let lines = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr)
        .with_ansi(std::io::stderr().is_terminal());
    match format {
        Format::Text => lines.try_init(),
        Format::Json => lines.json().flatten_event(true).with_current_span(false).try_init(),
    }
    .map_err(|error| anyhow::anyhow!("cannot install the log: {error}"))
}

/// The fields `trace_id` and `span_id` of a line about a message. A field without a value is left out of its line.
pub fn ids(trace: Option<Trace>) -> (Option<DisplayValue<TraceId<16>>>, Option<DisplayValue<TraceId<8>>>) {
    trace.map(|Trace { trace_id, span_id }| (display(trace_id), display(span_id))).unzip()
}
