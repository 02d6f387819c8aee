//! Where a sink's messages would go, without one being sent.

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use portcullis_connector_api::{ConnectorError, ErrorKind, Message, Refusal, RefusalKind, SendError};
use rdkafka::producer::{BaseProducer, Producer};
use rdkafka::types::RDKafkaErrorCode as Code;

use crate::client_config::{self, TOPIC_NAME_RULE};
use crate::failure::{self, Undelivered};
use crate::native;
use crate::settings::{SinkSettings, TopicRule};

/// The bound of each question to the cluster.
const LIMIT: Duration = Duration::from_secs(5);
/// Topics whose partitions are remembered; a template can name any number.
const MOST_TOPICS: usize = 1024;
/// What a record costs beside its key, value and headers, at most: librdkafka counts so against `max_message_bytes`.
const RECORD_OVERHEAD_BYTES: usize = 36;

/// A place that a message would be stored at.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Destination {
    /// The topic.
    pub topic: String,
    /// The partition, where the key decides it. A message without a key goes to any.
    pub partition: Option<i32>,
}

/// Knows a sink's destinations: topics by their rule, partitions by the key. It asks the cluster which topics there are, makes
/// none, and has no way to send.
pub struct Preview {
    settings: SinkSettings,
    client: BaseProducer,
    partitions: Mutex<HashMap<String, Result<i32, Code>>>,
}

impl Preview {
    /// Of a sink with these settings.
    ///
    /// # Errors
    /// `Configuration` for a setting that librdkafka refuses, and for a topic name that Kafka does not take.
    pub fn new(settings: SinkSettings) -> Result<Self, ConnectorError> {
        if let TopicRule::Fixed(name) = &settings.topic
            && !client_config::is_topic_name(name)
        {
            let context = format!("{name:?} is no topic name: {TOPIC_NAME_RULE}");
            return Err(ConnectorError::new(ErrorKind::Configuration, context));
        }
        let mut config = client_config::connection(&settings.connection)?;
        config.set("allow.auto.create.topics", "false");
        let client = config.create().map_err(|error| failure::from_rdkafka("cannot make a Kafka client", &error))?;
        Ok(Self { settings, client, partitions: Mutex::default() })
    }

    /// Whether the cluster can be reached and, for a sink of one topic, has it.
    ///
    /// # Errors
    /// `Configuration` for a topic that is not there or must not be seen, `Retriable` when nobody answers within `wait`.
    pub fn check(&self, wait: Duration) -> Result<(), ConnectorError> {
        let name = match &self.settings.topic {
            TopicRule::Fixed(name) => Some(name.as_str()),
            TopicRule::Each(_) => None,
        };
        let metadata = self.client.client().fetch_metadata(name, wait);
        let metadata =
            metadata.map_err(|error| failure::from_rdkafka("cannot reach the brokers of the sink", &error))?;
        let Some(name) = name else { return Ok(()) };
        match metadata.topics().iter().find(|topic| topic.name() == name).and_then(|topic| topic.error()) {
            Some(code) => {
                let code = Code::from(code);
                let context =
                    format!("cannot write to topic `{name}`: it does not exist or must not be seen ({code:?})");
                Err(ConnectorError::new(ErrorKind::Configuration, context))
            }
            None => Ok(()),
        }
    }

    /// Where this message would go.
    ///
    /// # Errors
    /// `Refused` where the sink or its broker would not take it, as far as that can be known before; `Fatal` where the cluster
    /// does not answer, which says nothing about the message: a sink would wait.
    pub fn place(&self, message: &Message) -> Result<Destination, SendError> {
        let topic = match &self.settings.topic {
            TopicRule::Fixed(name) => name.clone(),
            TopicRule::Each(topic_of) => topic_of(message).map_err(SendError::Refused)?.into_owned(),
        };
        if !client_config::is_topic_name(&topic) {
            let detail = format!("{topic:?} is no topic name: {TOPIC_NAME_RULE}");
            return Err(SendError::Refused(Refusal { kind: RefusalKind::Rejected, detail }));
        }
        if record_bytes(message) > self.settings.max_message_bytes as usize {
            return Err(undelivered(Code::MessageSizeTooLarge, &topic));
        }
        let count = self.partitions(&topic).map_err(SendError::Fatal)?.map_err(|code| undelivered(code, &topic))?;
        let partition = message.key.as_deref().map(|key| native::partition_of(key, count));
        Ok(Destination { topic, partition })
    }

    /// How many partitions the topic has, or why it cannot be written to.
    fn partitions(&self, topic: &str) -> Result<Result<i32, Code>, ConnectorError> {
        if let Some(known) = self.known().get(topic) {
            return Ok(*known);
        }
        let failed = |error| failure::from_rdkafka(&format!("cannot ask for the partitions of `{topic}`"), &error);
        // Without the lock: the other lanes have topics that are known.
        let metadata = self.client.client().fetch_metadata(Some(topic), LIMIT).map_err(failed)?;
        let found = metadata.topics().iter().find(|found| found.name() == topic);
        let count = match found.map(|found| (found.error(), found.partitions().len())) {
            Some((None, count @ 1..)) => i32::try_from(count).map_err(|_| Code::UnknownPartition),
            Some((Some(code), _)) => Err(Code::from(code)),
            _ => Err(Code::UnknownTopicOrPartition),
        };
        // It passes by itself, as when a leader is being chosen.
        if let Err(code) = count
            && failure::kind(code) == ErrorKind::Retriable
        {
            return Err(failure::error(code, format!("cannot write to topic `{topic}` now")));
        }
        let mut known = self.known();
        if known.len() < MOST_TOPICS {
            known.insert(topic.to_owned(), count);
        }
        Ok(count)
    }

    fn known(&self) -> MutexGuard<'_, HashMap<String, Result<i32, Code>>> {
        self.partitions.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What the sink would make of the code.
fn undelivered(code: Code, topic: &str) -> SendError {
    match failure::undelivered(code, topic, true) {
        Undelivered::Refused(refusal) => SendError::Refused(refusal),
        Undelivered::Failed(error) => SendError::Fatal(error),
    }
}

/// The size of the record as librdkafka reckons it before it takes a message.
fn record_bytes(message: &Message) -> usize {
    let field = |bytes: usize| bytes + varint_bytes(bytes);
    let header_bytes: usize = (message.headers.iter())
        .map(|header| field(header.name.len()) + field(header.value.as_ref().map_or(0, |value| value.len())))
        .sum();
    let bytes = |part: &Option<portcullis_connector_api::Bytes>| part.as_ref().map_or(0, |part| part.len());
    RECORD_OVERHEAD_BYTES + bytes(&message.key) + bytes(&message.value) + header_bytes
}

/// The bytes of a length in Kafka's zig-zag form.
fn varint_bytes(length: usize) -> usize {
    let bits = usize::BITS - length.saturating_mul(2).leading_zeros();
    (bits as usize).div_ceil(7).max(1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_go_where_javas_partitioner_sends_them() {
        // From the tests of Apache Kafka's `Utils.murmur2`: the hash of "21" is -973932308.
        assert_eq!(native::partition_of(b"21", i32::MAX), -973_932_308_i32 & 0x7fff_ffff);
        assert!((0..3).contains(&native::partition_of(b"", 3)));
    }

    #[test]
    fn a_length_takes_a_byte_more_from_64_on() {
        assert_eq!([0, 63, 64, 8191, 8192].map(varint_bytes), [1, 1, 2, 2, 3]);
    }
}
