use std::path::PathBuf;

use crate::{JetStreamSink, JetStreamSource, KafkaSink, KafkaSource, Located, NatsSink, NatsSource, Rate, Setting};

/// Where messages come from.
#[derive(Clone, Debug)]
pub enum Source {
    /// Topics of a Kafka cluster.
    Kafka(Box<KafkaSource>),
    /// A stream of JetStream.
    JetStream(Box<JetStreamSource>),
    /// Subjects of core NATS.
    Nats(Box<NatsSource>),
    /// A file, from its beginning.
    File(FileEnd),
    /// Standard input.
    Stdio(Setting<Format>),
    /// Made-up messages.
    Generator(Generator),
}

/// Where messages go.
#[derive(Clone, Debug)]
pub enum Sink {
    /// A topic of a Kafka cluster.
    Kafka(Box<KafkaSink>),
    /// Streams of JetStream.
    JetStream(Box<JetStreamSink>),
    /// A subject of core NATS.
    Nats(Box<NatsSink>),
    /// A file that lines are appended to.
    File(FileEnd),
    /// Standard output.
    Stdio(Setting<Format>),
}

/// Which connector a source or sink is of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Connector {
    /// `kafka`
    Kafka,
    /// `jetstream`
    JetStream,
    /// `nats`
    Nats,
    /// `file`
    File,
    /// `stdio`
    Stdio,
    /// `generator`
    Generator,
}

impl Connector {
    /// The key in the file.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Kafka => "kafka",
            Self::JetStream => "jetstream",
            Self::Nats => "nats",
            Self::File => "file",
            Self::Stdio => "stdio",
            Self::Generator => "generator",
        }
    }
}

impl Source {
    /// Of which connector.
    pub fn connector(&self) -> Connector {
        match self {
            Self::Kafka(_) => Connector::Kafka,
            Self::JetStream(_) => Connector::JetStream,
            Self::Nats(_) => Connector::Nats,
            Self::File(_) => Connector::File,
            Self::Stdio(_) => Connector::Stdio,
            Self::Generator(_) => Connector::Generator,
        }
    }
}

impl Sink {
    /// Of which connector.
    pub fn connector(&self) -> Connector {
        match self {
            Self::Kafka(_) => Connector::Kafka,
            Self::JetStream(_) => Connector::JetStream,
            Self::Nats(_) => Connector::Nats,
            Self::File(_) => Connector::File,
            Self::Stdio(_) => Connector::Stdio,
        }
    }
}

/// A file as a source or sink.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FileEnd {
    /// The file, from the folder of the file that names it.
    pub path: Located<PathBuf>,
    /// What a line is.
    pub format: Setting<Format>,
    /// Sources only: the file that remembers how far reading came. Without it a restart begins anew.
    pub position: Option<Located<PathBuf>>,
}

/// What a line of a file is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// A JSON object with key, value, headers and timestamp.
    JsonLines,
    /// The value itself.
    Lines,
}

/// A source of made-up messages.
#[derive(Clone, Debug, PartialEq)]
pub struct Generator {
    /// How many; without end when absent.
    pub count: Option<Located<u64>>,
    /// How fast; as fast as they are taken when absent.
    pub rate: Option<Located<Rate>>,
    /// The same seed makes the same messages.
    pub seed: Setting<u64>,
    /// The template of the key; null when absent.
    pub key: Option<Located<String>>,
    /// The template of the value; null when absent.
    pub value: Option<Located<String>>,
    /// Bytes that the value is filled up to.
    pub value_bytes: Option<Located<u64>>,
    /// Templates of headers, in their order; a `None` is null.
    pub headers: Vec<(String, Option<String>)>,
    /// The channel that messages say they came from; `generator`.
    pub channel: Setting<String>,
}
