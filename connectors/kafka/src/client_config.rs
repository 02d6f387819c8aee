//! From settings to librdkafka's configuration. Each value that is not librdkafka's default says why.

use portcullis_connector_api::{ConnectorError, ErrorKind};
use rdkafka::ClientConfig;
use rdkafka::config::RDKafkaLogLevel;

use crate::refused;
use crate::settings::{Connection, Isolation, SinkSettings, SourceSettings};

pub(crate) fn source(settings: &SourceSettings) -> Result<ClientConfig, ConnectorError> {
    if settings.topics.is_empty() {
        return Err(configuration("a source needs at least one topic"));
    }
    if let Some(topic) = settings.topics.iter().find(|topic| !is_topic_name(topic)) {
        return Err(configuration(format!("{topic:?} is no topic name: {TOPIC_NAME_RULE}")));
    }
    if settings.group.is_empty() {
        return Err(configuration("a source needs a consumer group"));
    }
    let mut config = connection(&settings.connection)?;
    config
        .set("group.id", &settings.group)
        .set("partition.assignment.strategy", "cooperative-sticky")
        // Positions are the tracker's: librdkafka must move none by itself.
        .set("enable.auto.commit", "false")
        .set("enable.auto.offset.store", "false")
        // Where to start is decided at the assignment, explicitly; after it a jump is an error, never silent.
        .set("auto.offset.reset", "error")
        .set(
            "isolation.level",
            match settings.isolation {
                Isolation::ReadCommitted => "read_committed",
                Isolation::ReadUncommitted => "read_uncommitted",
            },
        );
    // librdkafka's own bounds (100,000 messages and 64 MiB) filled memory on lagging topics. With low bounds the default
    // back-off of a second would be felt as stalls.
    default(&mut config, "queued.min.messages", "10000");
    default(&mut config, "queued.max.messages.kbytes", "16384");
    default(&mut config, "fetch.queue.backoff.ms", "20");
    default(&mut config, "fetch.wait.max.ms", "100");
    if let Some(instance) = &settings.group_instance_id {
        config.set("group.instance.id", instance);
    }
    if let Some(timeout) = settings.session_timeout {
        config.set("session.timeout.ms", timeout.as_millis().to_string());
    }
    Ok(config)
}

pub(crate) fn sink(settings: &SinkSettings) -> Result<ClientConfig, ConnectorError> {
    let max_message_bytes = settings.max_message_bytes.to_string();
    let mut config = connection(&settings.connection)?;
    config
        // Order and no doubles under librdkafka's retries.
        .set("enable.idempotence", "true")
        // For ever: an outage is back-pressure. A message that timed out would leave a gap that later ones overtake.
        .set("message.timeout.ms", "0")
        // What Java clients use; librdkafka's default sends the same key elsewhere.
        .set("partitioner", "murmur2_random")
        .set("compression.type", settings.compression.as_str())
        .set("linger.ms", settings.linger_ms.to_string())
        .set("message.max.bytes", &max_message_bytes)
        // A broker refuses a whole batch that is too large, so a batch must never be larger than a message may be:
        // else small messages would be refused with their neighbours.
        .set("batch.size", &max_message_bytes)
        .set("queue.buffering.max.messages", settings.queue_messages.to_string())
        .set("queue.buffering.max.kbytes", settings.queue_kbytes.to_string())
        .set("allow.auto.create.topics", "false");
    Ok(config)
}

/// What every client of this cluster has.
pub(crate) fn connection(connection: &Connection) -> Result<ClientConfig, ConnectorError> {
    if connection.brokers.trim().is_empty() {
        return Err(configuration("no brokers are named"));
    }
    let mut config = ClientConfig::new();
    for (key, value) in &connection.passthrough {
        if let Some(reason) = refused(key) {
            return Err(configuration(format!("librdkafka key `{key}` is not allowed: {reason}")));
        }
        config.set(key, value);
    }
    config.set("bootstrap.servers", &connection.brokers);
    if !connection.client_id.is_empty() {
        config.set("client.id", &connection.client_id);
    }
    config.set(
        "security.protocol",
        match (&connection.tls, &connection.sasl) {
            (None, None) => "plaintext",
            (Some(_), None) => "ssl",
            (None, Some(_)) => "sasl_plaintext",
            (Some(_), Some(_)) => "sasl_ssl",
        },
    );
    if let Some(tls) = &connection.tls {
        let files =
            [("ssl.ca.location", &tls.ca), ("ssl.certificate.location", &tls.cert), ("ssl.key.location", &tls.key)];
        for (key, file) in files {
            if let Some(file) = file {
                let file = file.to_str().ok_or_else(|| configuration(format!("{} is not UTF-8", file.display())))?;
                config.set(key, file);
            }
        }
    }
    if let Some(sasl) = &connection.sasl {
        config
            .set("sasl.mechanism", &sasl.mechanism)
            .set("sasl.username", &sasl.username)
            .set("sasl.password", &sasl.password);
    }
    config.set_log_level(log_level());
    Ok(config)
}

/// What a topic name may be, for messages.
pub(crate) const TOPIC_NAME_RULE: &str = "1 to 249 of a-z, A-Z, 0-9, `.`, `_`, `-`, and neither `.` nor `..`";

/// Whether Kafka takes this as the name of a topic.
pub(crate) fn is_topic_name(name: &str) -> bool {
    matches!(name.len(), 1..=249)
        && name != "."
        && name != ".."
        && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'_' | b'-'))
}

fn configuration(context: impl Into<String>) -> ConnectorError {
    ConnectorError::new(ErrorKind::Configuration, context)
}

fn default(config: &mut ClientConfig, key: &str, value: &str) {
    if config.get(key).is_none() {
        config.set(key, value);
    }
}

/// Lines that our own filter would drop are not even made.
fn log_level() -> RDKafkaLogLevel {
    if tracing::enabled!(target: "librdkafka", tracing::Level::DEBUG) {
        RDKafkaLogLevel::Debug
    } else if tracing::enabled!(target: "librdkafka", tracing::Level::INFO) {
        RDKafkaLogLevel::Info
    } else {
        RDKafkaLogLevel::Warning
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::settings::{Sasl, Tls, TopicRule};

    #[test]
    fn a_refused_key_is_named_with_its_reason_and_its_value_is_not() {
        let mut to = Connection::plain("b:9092");
        to.passthrough = vec![("sasl.password".into(), "hunter2".into())];
        let error = connection(&to).unwrap_err();
        assert_eq!(error.kind, ErrorKind::Configuration);
        assert!(error.context.contains("`sasl.password`") && !error.context.contains("hunter2"), "{}", error.context);
    }

    #[test]
    fn the_protocol_follows_from_tls_and_sasl() {
        let mut to = Connection::plain("b:9093");
        assert_eq!(connection(&to).unwrap().get("security.protocol"), Some("plaintext"));
        to.tls = Some(Tls { ca: Some("ca.pem".into()), ..Tls::default() });
        assert_eq!(connection(&to).unwrap().get("security.protocol"), Some("ssl"));
        to.sasl = Some(Sasl { mechanism: "PLAIN".into(), username: "u".into(), password: "p".into() });
        let config = connection(&to).unwrap();
        assert_eq!(config.get("security.protocol"), Some("sasl_ssl"));
        assert_eq!(config.get("ssl.ca.location"), Some("ca.pem"));
    }

    #[test]
    fn tuning_wins_over_our_defaults_and_never_over_our_promises() {
        let mut to = Connection::plain("b:9092");
        to.passthrough = vec![("fetch.wait.max.ms".into(), "7".into())];
        let config = source(&SourceSettings::new(to.clone(), "g", vec!["t".into()])).unwrap();
        assert_eq!(config.get("fetch.wait.max.ms"), Some("7"));
        assert_eq!(config.get("enable.auto.commit"), Some("false"));
        let config = sink(&SinkSettings::new(to, TopicRule::Fixed("t".into()))).unwrap();
        assert_eq!(config.get("batch.size"), config.get("message.max.bytes"));
    }

    #[test]
    fn a_pattern_or_an_empty_name_is_no_topic() {
        let refuses = |topics: Vec<String>| source(&SourceSettings::new(Connection::plain("b"), "g", topics)).is_err();
        assert!(refuses(vec![]));
        assert!(refuses(vec!["^orders.*".into()]));
        assert!(refuses(vec!["..".into()]));
        assert!(!refuses(vec!["orders.raw-1_x".into()]));
    }
}
