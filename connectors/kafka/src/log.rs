/// Hands one line of librdkafka to our log, with its own level (syslog's numbers).
pub(crate) fn forward(level: i32, facility: &str, line: &str) {
    match level {
        ..=3 => tracing::error!(target: "librdkafka", facility, "{line}"),
        4 => tracing::warn!(target: "librdkafka", facility, "{line}"),
        5 | 6 => tracing::info!(target: "librdkafka", facility, "{line}"),
        _ => tracing::debug!(target: "librdkafka", facility, "{line}"),
    }
}
