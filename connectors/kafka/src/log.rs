/// Hands one line of librdkafka to our log, with its own level (syslog's numbers).
pub(crate) fn forward(level: i32, facility: &str, line: &str) {
    if std::env::var("KDBG").is_ok() {
        eprintln!(
            "{:?} {level} {facility} {line}",
            std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).map(|d| d.as_millis() % 1000000)
        );
    }
    match level {
        ..=3 => tracing::error!(target: "librdkafka", facility, "{line}"),
        4 => tracing::warn!(target: "librdkafka", facility, "{line}"),
        5 | 6 => tracing::info!(target: "librdkafka", facility, "{line}"),
        _ => tracing::debug!(target: "librdkafka", facility, "{line}"),
    }
}
