use std::borrow::Cow;
use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use portcullis_connector_api::{Message, Refusal};

/// How to reach a cluster.
#[derive(Clone, Debug, Default)]
pub struct Connection {
    /// `host:port`, separated by commas; the first contacts, not necessarily all brokers.
    pub brokers: String,
    /// TLS. Without it the connection is in clear text.
    pub tls: Option<Tls>,
    /// Who we are. Without it nobody.
    pub sasl: Option<Sasl>,
    /// The name that shows in the broker's logs and quotas.
    pub client_id: String,
    /// The `librdkafka:` map. [`refused`](crate::refused) says which keys it must not hold; creating a client checks it again.
    pub passthrough: Vec<(String, String)>,
}

impl Connection {
    /// Plain text to these brokers.
    pub fn plain(brokers: impl Into<String>) -> Self {
        Self { brokers: brokers.into(), client_id: "portcullis".to_owned(), ..Self::default() }
    }
}

/// Files of a TLS connection, in PEM form.
#[derive(Clone, Debug, Default)]
pub struct Tls {
    /// Certificates of the authorities that may sign the broker's; the system's when absent.
    pub ca: Option<PathBuf>,
    /// Our certificate, for brokers that ask for one.
    pub cert: Option<PathBuf>,
    /// Its key.
    pub key: Option<PathBuf>,
}

/// A user name and a password.
#[derive(Clone)]
pub struct Sasl {
    /// `PLAIN`, `SCRAM-SHA-256` or `SCRAM-SHA-512`.
    pub mechanism: String,
    /// The user.
    pub username: String,
    /// The password; never shown.
    pub password: String,
}

impl fmt::Debug for Sasl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Sasl")
            .field("mechanism", &self.mechanism)
            .field("username", &self.username)
            .field("password", &"(not shown)")
            .finish()
    }
}

/// A source of messages: a member of a consumer group.
#[derive(Clone, Debug)]
pub struct SourceSettings {
    /// The cluster.
    pub connection: Connection,
    /// Which topics. Names, not patterns.
    pub topics: Vec<String>,
    /// The consumer group.
    pub group: String,
    /// Where a group starts that has never committed anything for a topic.
    pub start: Start,
    /// What happens when the position of the group is no longer in the topic.
    pub out_of_range: OutOfRange,
    /// Static membership: a name that is unique in the group. Two machines with the same name fence each other.
    pub group_instance_id: Option<String>,
    /// Whether messages of open and aborted transactions are seen.
    pub isolation: Isolation,
    /// After this long without a heartbeat the broker gives our partitions to others. 45 s when absent.
    pub session_timeout: Option<Duration>,
    /// Whether the source is a member of its group at all.
    pub membership: Membership,
}

impl SourceSettings {
    /// A source with the defaults of everything that has one.
    pub fn new(connection: Connection, group: impl Into<String>, topics: Vec<String>) -> Self {
        Self {
            connection,
            topics,
            group: group.into(),
            start: Start::Earliest,
            out_of_range: OutOfRange::Stop,
            group_instance_id: None,
            isolation: Isolation::ReadCommitted,
            session_timeout: None,
            membership: Membership::Member,
        }
    }
}

/// How a source stands to its group.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Membership {
    /// It shares the partitions with the other members and moves the group's positions.
    #[default]
    Member,
    /// It reads every partition from the group's positions on, is no member and moves nothing: the others keep their
    /// partitions and notice nothing.
    Onlooker,
}

/// Where a new group starts.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Start {
    /// With the oldest message that the topic still has.
    #[default]
    Earliest,
    /// With the next message. Only where the group has no position in any partition of the topic: a partition that is added
    /// later starts with its oldest message, else its first messages would be lost.
    Latest,
}

/// What to do when the position is no longer in the topic (retention was faster than we, or the topic was made anew).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum OutOfRange {
    /// End the pipeline with an error that names topic, partition, position and range: messages are gone.
    #[default]
    Stop,
    /// Warn and go on with the oldest message.
    Earliest,
    /// Warn and go on with the next message.
    Latest,
}

/// Which messages of transactions are seen.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Isolation {
    /// Only committed ones.
    #[default]
    ReadCommitted,
    /// All.
    ReadUncommitted,
}

/// A destination of messages.
#[derive(Clone)]
pub struct SinkSettings {
    /// The cluster.
    pub connection: Connection,
    /// Which topic a message goes to.
    pub topic: TopicRule,
    /// How batches are compressed.
    pub compression: Compression,
    /// How long a message waits for others to share a request with, in milliseconds.
    pub linger_ms: u32,
    /// A message above this is refused as oversize. Must not be above the topic's own `max.message.bytes`.
    pub max_message_bytes: u32,
    /// Messages in the queue at most; more is back-pressure.
    pub queue_messages: u32,
    /// KiB in the queue at most.
    pub queue_kbytes: u32,
}

impl SinkSettings {
    /// A sink with the defaults of everything that has one.
    pub fn new(connection: Connection, topic: TopicRule) -> Self {
        Self {
            connection,
            topic,
            compression: Compression::None,
            linger_ms: 5,
            max_message_bytes: 1_000_000,
            queue_messages: 100_000,
            queue_kbytes: 64 * 1024,
        }
    }
}

impl fmt::Debug for SinkSettings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SinkSettings")
            .field("connection", &self.connection)
            .field("topic", &self.topic)
            .field("compression", &self.compression)
            .field("linger_ms", &self.linger_ms)
            .field("max_message_bytes", &self.max_message_bytes)
            .field("queue_messages", &self.queue_messages)
            .field("queue_kbytes", &self.queue_kbytes)
            .finish()
    }
}

/// Names the topic of one message, or says why there is none.
pub type TopicOf = dyn for<'a> Fn(&'a Message) -> Result<Cow<'a, str>, Refusal> + Send + Sync;

/// Which topic a message goes to.
#[derive(Clone)]
pub enum TopicRule {
    /// Always this one. That it exists is checked at the start.
    Fixed(String),
    /// What the function says. A topic that does not exist concerns the message alone, which is refused.
    Each(Arc<TopicOf>),
}

impl fmt::Debug for TopicRule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Fixed(topic) => f.debug_tuple("Fixed").field(topic).finish(),
            Self::Each(_) => f.write_str("Each"),
        }
    }
}

/// How batches are compressed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Compression {
    /// Not at all.
    #[default]
    None,
    /// Deflate.
    Gzip,
    /// Snappy.
    Snappy,
    /// LZ4.
    Lz4,
    /// Zstandard.
    Zstd,
}

impl Compression {
    /// As Kafka writes it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::None => "none",
            Self::Gzip => "gzip",
            Self::Snappy => "snappy",
            Self::Lz4 => "lz4",
            Self::Zstd => "zstd",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_password_is_in_no_debug_output() {
        let mut connection = Connection::plain("b:9092");
        connection.sasl =
            Some(Sasl { mechanism: "SCRAM-SHA-512".into(), username: "pc".into(), password: "hunter2".into() });
        let source = SourceSettings::new(connection.clone(), "g", vec!["t".into()]);
        let sink = SinkSettings::new(connection, TopicRule::Fixed("t".into()));
        assert!(format!("{source:?} {sink:?}").contains("SCRAM-SHA-512"));
        assert!(!format!("{source:?} {sink:?}").contains("hunter2"));
    }
}
