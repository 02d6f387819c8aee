use std::path::PathBuf;
use std::time::Duration;

use crate::{Located, Secret, Setting, Template};

/// A consumer of topics.
#[derive(Clone, Debug)]
pub struct KafkaSource {
    /// Which cluster and how.
    pub connection: KafkaConnection,
    /// Names, at least one, none twice.
    pub topics: Vec<Located<String>>,
    /// The consumer group; the pipeline's name by default.
    pub group: Setting<String>,
    /// Where a new group begins.
    pub start: Setting<Start>,
    /// What to do when the group's position is no longer in the topic.
    pub on_out_of_range: Setting<OutOfRange>,
    /// Static membership.
    pub group_instance_id: Option<Located<String>>,
    /// Which messages of transactions are seen.
    pub isolation: Setting<Isolation>,
    /// After this long without a heartbeat the broker gives the partitions to others; the client's default when absent.
    pub session_timeout: Option<Located<Duration>>,
}

/// A producer to a topic.
#[derive(Clone, Debug)]
pub struct KafkaSink {
    /// Which cluster and how.
    pub connection: KafkaConnection,
    /// The topic, or a template of it.
    pub topic: Located<Template>,
    /// What the result of a template must match (`*` stands for any characters); empty where the topic is fixed.
    pub allow: Vec<Located<String>>,
    /// How batches are compressed.
    pub compression: Setting<Compression>,
    /// How long a message waits for others to share a request with; the connector's default when absent.
    pub linger: Option<Located<Duration>>,
    /// A larger message is refused; the connector's default when absent.
    pub max_message_bytes: Option<Located<u64>>,
    /// The producer's own queue; the connector's default when absent.
    pub queue: Option<Queue>,
}

/// Bounds of the producer's queue.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Queue {
    /// Messages.
    pub messages: Option<Located<u32>>,
    /// Bytes.
    pub bytes: Option<Located<u64>>,
}

/// How to reach a cluster.
#[derive(Clone, Debug)]
pub struct KafkaConnection {
    /// Its brokers, or the profile that names them.
    pub cluster: Cluster,
    /// TLS. Always absent where a profile is named: it is the profile's.
    pub tls: Option<Located<Tls>>,
    /// Who we are. Always absent where a profile is named.
    pub sasl: Option<Located<Sasl>>,
    /// The name in the broker's logs and quotas.
    pub client_id: Option<Located<String>>,
    /// Settings that are handed to librdkafka. Values may be secrets, so all are treated as such.
    pub librdkafka: Vec<(Located<String>, Located<Secret>)>,
}

/// Which cluster.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Cluster {
    /// `host:port`, separated by commas.
    Brokers(Located<String>),
    /// A profile of the node's file.
    Profile(Located<String>),
}

/// TLS of a connection. Files are from the folder of the file that names them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tls {
    /// Certificates of the authorities, PEM; the system's when absent.
    pub ca: Option<Located<PathBuf>>,
    /// Our certificate, PEM.
    pub cert: Option<Located<PathBuf>>,
    /// Its key, PEM; there exactly when `cert` is.
    pub key: Option<Located<PathBuf>>,
}

/// A user and password.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sasl {
    /// How they are proved.
    pub mechanism: Located<SaslMechanism>,
    /// The user.
    pub username: Located<String>,
    /// The password.
    pub password: Located<Secret>,
}

/// How a user proves the password.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SaslMechanism {
    /// `PLAIN`
    Plain,
    /// `SCRAM-SHA-256`
    ScramSha256,
    /// `SCRAM-SHA-512`
    ScramSha512,
}

impl SaslMechanism {
    /// As brokers write it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Plain => "PLAIN",
            Self::ScramSha256 => "SCRAM-SHA-256",
            Self::ScramSha512 => "SCRAM-SHA-512",
        }
    }
}

/// Where a new group begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Start {
    /// With the oldest message.
    Earliest,
    /// With the next message.
    Latest,
}

/// What to do when a position is no longer in the topic.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OutOfRange {
    /// Stop the pipeline: messages are gone.
    Stop,
    /// Go on with the oldest message.
    Earliest,
    /// Go on with the next message.
    Latest,
}

/// Which messages of transactions are seen.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Isolation {
    /// Only committed ones.
    ReadCommitted,
    /// All.
    ReadUncommitted,
}

/// How batches are compressed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Compression {
    /// Not at all.
    None,
    /// `gzip`
    Gzip,
    /// `snappy`
    Snappy,
    /// `lz4`
    Lz4,
    /// `zstd`
    Zstd,
}
