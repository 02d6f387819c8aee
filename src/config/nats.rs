use std::path::PathBuf;
use std::time::Duration;

use crate::{Located, Secret, Setting, Start, Template, Tls};

/// How to reach NATS.
#[derive(Clone, Debug)]
pub struct NatsConnection {
    /// Its servers, or the profile that names them.
    pub cluster: NatsCluster,
    /// Who we are; nobody when absent. Always absent where a profile is named: it is the profile's.
    pub auth: Option<NatsAuth>,
    /// TLS. Always absent where a profile is named.
    pub tls: Option<NatsTls>,
    /// The name in the server's connection list.
    pub client_name: Option<Located<String>>,
    /// For one attempt to connect and for one question; the connector's default when absent.
    pub timeout: Option<Located<Duration>>,
    /// The JetStream domain.
    pub domain: Option<Located<String>>,
}

/// Which servers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum NatsCluster {
    /// `nats://host:port` or `tls://host:port`, at least one.
    Servers(Vec<Located<String>>),
    /// A profile of the node's file.
    Profile(Located<String>),
}

impl NatsConnection {
    /// The servers that are named here; none where a profile names them.
    pub fn servers(&self) -> &[Located<String>] {
        match &self.cluster {
            NatsCluster::Servers(servers) => servers,
            NatsCluster::Profile(_) => &[],
        }
    }
}

/// Who we are to a NATS server.
#[derive(Clone, Debug)]
pub enum NatsAuth {
    /// A credentials file.
    Credentials(Located<PathBuf>),
    /// A file with the seed of an nkey.
    Nkey(Located<PathBuf>),
    /// A token.
    Token(Located<Secret>),
    /// A user and a password.
    Password {
        /// The user.
        user: Located<String>,
        /// The password.
        password: Located<Secret>,
    },
}

/// TLS to a NATS server.
#[derive(Clone, Debug)]
pub struct NatsTls {
    /// The files.
    pub files: Tls,
    /// TLS before the server's first line.
    pub first: Setting<bool>,
}

/// A bound of a NATS connector.
#[derive(Clone, Debug)]
pub struct NatsWindow {
    /// Messages; the connector's default when absent.
    pub messages: Option<Located<u32>>,
    /// Bytes; the connector's default when absent.
    pub bytes: Option<Located<u64>>,
}

/// What becomes the key of a message that carries none.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NatsKey {
    /// Its subject.
    Subject,
    /// Null.
    Null,
}

/// A consumer of a stream.
#[derive(Clone, Debug)]
pub struct JetStreamSource {
    /// Which servers and how.
    pub connection: NatsConnection,
    /// The stream.
    pub stream: Located<String>,
    /// The durable consumer.
    pub consumer: Located<String>,
    /// Makes the stream when it is missing.
    pub create_stream: Option<StreamSpec>,
    /// Makes the consumer when it is missing.
    pub create_consumer: Option<ConsumerSpec>,
    /// What the consumer must be filtered to; whatever it is filtered to when absent.
    pub filter_subjects: Option<Vec<Located<String>>>,
    /// The key of messages without one.
    pub key: Setting<NatsKey>,
    /// What is asked of the server and waits.
    pub window: Option<NatsWindow>,
    /// How often the server gives a sign; the connector's default when absent.
    pub heartbeat: Option<Located<Duration>>,
}

/// A publisher into streams.
#[derive(Clone, Debug)]
pub struct JetStreamSink {
    /// Which servers and how.
    pub connection: NatsConnection,
    /// The subject, or a template of it.
    pub subject: Located<Template>,
    /// What the result of a template must match.
    pub allow: Vec<Located<String>>,
    /// The stream that must take it; whichever has the subject when absent.
    pub stream: Option<Located<String>>,
    /// Makes the stream when it is missing.
    pub create_stream: Option<StreamSpec>,
    /// What may be unconfirmed.
    pub window: Option<NatsWindow>,
    /// Without a confirmation for so long the connection is given up; the connector's default when absent.
    pub ack_timeout: Option<Located<Duration>>,
}

/// A subscriber of core NATS.
#[derive(Clone, Debug)]
pub struct NatsSource {
    /// Which servers and how.
    pub connection: NatsConnection,
    /// Subjects, at least one.
    pub subjects: Vec<Located<String>>,
    /// Its members share the messages.
    pub queue_group: Option<Located<String>>,
    /// The key of messages without one.
    pub key: Setting<NatsKey>,
    /// What waits for the pipeline.
    pub window: Option<NatsWindow>,
}

/// A publisher of core NATS.
#[derive(Clone, Debug)]
pub struct NatsSink {
    /// Which servers and how.
    pub connection: NatsConnection,
    /// The subject, or a template of it.
    pub subject: Located<Template>,
    /// What the result of a template must match.
    pub allow: Vec<Located<String>>,
    /// What may be unconfirmed.
    pub window: Option<NatsWindow>,
    /// What becomes of messages that were under way when a connection broke.
    pub in_doubt: Setting<InDoubt>,
}

/// What becomes of messages that were under way when a connection broke.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum InDoubt {
    /// They are counted.
    Drop,
    /// They are sent again and may come twice.
    Resend,
}

/// A stream to make.
#[derive(Clone, Debug)]
pub struct StreamSpec {
    /// The subjects that it takes.
    pub subjects: Vec<Located<String>>,
    /// Where it is kept.
    pub storage: Setting<Storage>,
    /// What leaves it.
    pub retention: Setting<Retention>,
    /// Copies.
    pub replicas: Setting<u32>,
    /// Messages leave it after so long.
    pub max_age: Option<Located<Duration>>,
    /// Bytes that it keeps.
    pub max_bytes: Option<Located<u64>>,
    /// Within it a message id is taken once.
    pub duplicate_window: Setting<Duration>,
}

/// Where a stream is kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Storage {
    /// On disk.
    File,
    /// In memory.
    Memory,
}

/// What leaves a stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Retention {
    /// What is beyond its limits.
    Limits,
    /// What every consumer has acknowledged.
    Interest,
    /// What one consumer has acknowledged.
    WorkQueue,
}

/// A consumer to make.
#[derive(Clone, Debug)]
pub struct ConsumerSpec {
    /// Where it starts.
    pub start: Setting<Start>,
    /// Without a sign for so long a message is delivered again.
    pub ack_wait: Setting<Duration>,
    /// Messages delivered and not acknowledged at most.
    pub max_ack_pending: Setting<u32>,
    /// Deliveries of one message at most; without bound when absent.
    pub max_deliver: Option<Located<u32>>,
}

/// Every NATS connection that a pipeline makes.
pub fn nats_connections(pipeline: &crate::Pipeline) -> impl Iterator<Item = &NatsConnection> {
    let sources = pipeline.sources.iter().filter_map(|source| match &source.value {
        crate::Source::JetStream(source) => Some(&source.connection),
        crate::Source::Nats(source) => Some(&source.connection),
        _ => None,
    });
    let sinks = std::iter::once(&pipeline.sink).chain(&pipeline.dead_letter).filter_map(|sink| match &sink.value {
        crate::Sink::JetStream(sink) => Some(&sink.connection),
        crate::Sink::Nats(sink) => Some(&sink.connection),
        _ => None,
    });
    sources.chain(sinks)
}
