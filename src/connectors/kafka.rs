//! What was typed under `kafka:`, made complete.

use std::borrow::Cow;

use portcullis_config::{
    Code, Diagnostic, KafkaConnection, KafkaSink, KafkaSource, Located, Location, Node, Template as Typed,
};
use portcullis_connector_api::Template;
use portcullis_connector_kafka as kafka;

use super::{Instead, SinkPlan, SourcePlan};

pub(super) fn source(
    at: &Location,
    typed: &KafkaSource,
    node: &Node,
    instead: Option<&Instead>,
) -> Result<SourcePlan, Diagnostic> {
    let connection = connection(at, &typed.connection, node, instead)?;
    Ok(SourcePlan::Kafka(Box::new(kafka::SourceSettings {
        connection,
        topics: typed.topics.iter().map(|topic| topic.value.clone()).collect(),
        group: typed.group.value.clone(),
        start: match typed.start.value {
            portcullis_config::Start::Earliest => kafka::Start::Earliest,
            portcullis_config::Start::Latest => kafka::Start::Latest,
        },
        out_of_range: match typed.on_out_of_range.value {
            portcullis_config::OutOfRange::Stop => kafka::OutOfRange::Stop,
            portcullis_config::OutOfRange::Earliest => kafka::OutOfRange::Earliest,
            portcullis_config::OutOfRange::Latest => kafka::OutOfRange::Latest,
        },
        group_instance_id: typed.group_instance_id.as_ref().map(|id| id.value.clone()),
        isolation: match typed.isolation.value {
            portcullis_config::Isolation::ReadCommitted => kafka::Isolation::ReadCommitted,
            portcullis_config::Isolation::ReadUncommitted => kafka::Isolation::ReadUncommitted,
        },
        session_timeout: typed.session_timeout.as_ref().map(|timeout| timeout.value),
        membership: kafka::Membership::Member,
    })))
}

pub(super) fn sink(
    at: &Location,
    typed: &KafkaSink,
    node: &Node,
    instead: Option<&Instead>,
    forbidden: &[String],
) -> Result<SinkPlan, Diagnostic> {
    let connection = connection(at, &typed.connection, node, instead)?;
    let mut settings = kafka::SinkSettings::new(connection, topic(&typed.topic, &typed.allow, forbidden)?);
    settings.compression = match typed.compression.value {
        portcullis_config::Compression::None => kafka::Compression::None,
        portcullis_config::Compression::Gzip => kafka::Compression::Gzip,
        portcullis_config::Compression::Snappy => kafka::Compression::Snappy,
        portcullis_config::Compression::Lz4 => kafka::Compression::Lz4,
        portcullis_config::Compression::Zstd => kafka::Compression::Zstd,
    };
    if let Some(linger) = &typed.linger {
        settings.linger_ms = u32::try_from(linger.as_millis()).map_err(|_| {
            linger.at.diagnostic(Code::ValueInvalid, "`linger` is too long").help("allowed: 0ms to 900s")
        })?;
    }
    if let Some(bytes) = &typed.max_message_bytes {
        settings.max_message_bytes = u32::try_from(bytes.value).map_err(|_| {
            bytes.at.diagnostic(Code::ValueInvalid, "`max_message_bytes` is too large").help("allowed: up to 1GiB")
        })?;
    }
    if let Some(queue) = &typed.queue {
        if let Some(messages) = &queue.messages {
            settings.queue_messages = messages.value;
        }
        if let Some(bytes) = &queue.bytes {
            settings.queue_kbytes = u32::try_from(bytes.value.div_ceil(1024)).map_err(|_| {
                bytes.at.diagnostic(Code::ValueInvalid, "the producer's queue is too large").help("allowed: up to 4TiB")
            })?;
        }
    }
    if u64::from(settings.queue_kbytes) * 1024 < u64::from(settings.max_message_bytes) {
        // Such a message would never find room, not even in an empty queue.
        let message = "the producer's queue is smaller than `max_message_bytes`";
        return Err(at.diagnostic(Code::KeyConflict, message).help("raise `queue.bytes` or lower `max_message_bytes`"));
    }
    Ok(SinkPlan::Kafka(Box::new(settings)))
}

fn topic(
    typed: &Located<Typed>,
    allow: &[Located<String>],
    forbidden: &[String],
) -> Result<kafka::TopicRule, Diagnostic> {
    let allow: Vec<String> = allow.iter().map(|pattern| pattern.value.clone()).collect();
    let template = Template::parse(&typed.value.to_string(), &allow)
        .and_then(|template| template.forbid(forbidden))
        .map_err(|error| typed.at.diagnostic(Code::ValueInvalid, format!("the topic's template: {error}")))?;
    Ok(match template.fixed() {
        Some(name) => kafka::TopicRule::Fixed(name.to_owned()),
        None => kafka::TopicRule::Each(std::sync::Arc::new(move |message| {
            template.render(message).map(|name| Cow::Owned(name.into_owned()))
        })),
    })
}

/// A connection with its profile put in, perhaps to another place, its secrets exposed to the client alone, and nothing in it that breaks a promise.
pub(crate) fn connection(
    at: &Location,
    typed: &KafkaConnection,
    node: &Node,
    instead: Option<&Instead>,
) -> Result<kafka::Connection, Diagnostic> {
    let resolved = node.resolve(typed)?;
    let portcullis_config::Cluster::Brokers(brokers) = &resolved.cluster else {
        return Err(at.diagnostic(Code::ProfileUnknown, "the profile names another profile"));
    };
    let mut connection = kafka::Connection::plain(brokers.value.clone());
    if let Some(id) = &resolved.client_id {
        connection.client_id = id.value.clone();
    }
    let file = |path: &Option<Located<std::path::PathBuf>>| path.as_ref().map(|path| path.value.clone());
    connection.tls = resolved.tls.as_ref().map(|tls| kafka::Tls {
        ca: file(&tls.value.ca),
        cert: file(&tls.value.cert),
        key: file(&tls.value.key),
    });
    connection.sasl = resolved.sasl.as_ref().map(|sasl| kafka::Sasl {
        mechanism: sasl.value.mechanism.as_str().to_owned(),
        username: sasl.value.username.value.clone(),
        password: sasl.value.password.expose().to_owned(),
    });
    for (key, value) in &resolved.librdkafka {
        if let Some(reason) = kafka::refused(&key.value) {
            let message = format!("`librdkafka: {{ {}: ... }}` is refused: {reason}", key.value);
            return Err(key.at.diagnostic(Code::ValueInvalid, message));
        }
        connection.passthrough.push((key.value.clone(), value.value.expose().to_owned()));
    }
    match instead {
        Some(Instead::Cluster(brokers)) => connection.brokers.clone_from(brokers),
        Some(Instead::TestBroker(brokers)) => {
            // It speaks neither TLS nor SASL, and there is no secret that it should see.
            connection = kafka::Connection { brokers: brokers.clone(), tls: None, sasl: None, ..connection };
        }
        None => {}
    }
    Ok(connection)
}
