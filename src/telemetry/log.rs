//! The bridge's own log: to standard error, as text or as JSON, never with a payload.

use std::io::IsTerminal;

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
    let filter = EnvFilter::try_new(level)?;
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
