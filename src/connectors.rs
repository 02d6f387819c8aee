//! The explicit list of connectors: from what was typed to settings that are complete, and from those to something that
//! runs.

mod aside;
#[cfg(feature = "kafka")]
mod kafka;
mod local;
#[cfg(feature = "nats")]
mod nats;

use std::sync::Arc;

#[cfg(not(all(feature = "kafka", feature = "nats")))]
use portcullis_config::Code;
use portcullis_config::{Diagnostic, Located, Node, Sink as TypedSink, Source as TypedSource};
use portcullis_connector_api::{AckMode, Confirm, ConnectorError, Sink, Source};

use crate::pipeline::{ReadCounts, SourceIdentity};

pub use aside::{Place, Preview};

/// Where every Kafka connection goes instead of where its file says: for `portcullis dev`.
#[derive(Clone, Debug)]
pub enum Instead {
    /// A real cluster; TLS and credentials stay the file's.
    Cluster(String),
    /// The broker inside this process.
    TestBroker(String),
}

impl Instead {
    /// Its `host:port`s.
    pub fn endpoints(&self) -> impl Iterator<Item = String> {
        let (Self::Cluster(brokers) | Self::TestBroker(brokers)) = self;
        brokers.split(',').map(|broker| broker.trim().to_owned())
    }
}

/// A source with everything that opening it needs.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum SourcePlan {
    /// Topics of a Kafka cluster.
    #[cfg(feature = "kafka")]
    Kafka(Box<portcullis_connector_kafka::SourceSettings>),
    /// A consumer of a stream.
    #[cfg(feature = "nats")]
    JetStream(Box<portcullis_connector_nats::JetStreamSourceSettings>),
    /// Subjects of core NATS.
    #[cfg(feature = "nats")]
    Nats(Box<portcullis_connector_nats::CoreSourceSettings>),
    /// A file, standard input or made-up messages.
    Local(local::LocalSource),
}

/// A sink with everything that opening it needs.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum SinkPlan {
    /// Topics of a Kafka cluster.
    #[cfg(feature = "kafka")]
    Kafka(Box<portcullis_connector_kafka::SinkSettings>),
    /// Streams.
    #[cfg(feature = "nats")]
    JetStream(Box<portcullis_connector_nats::JetStreamSinkSettings>),
    /// Subjects of core NATS.
    #[cfg(feature = "nats")]
    Nats(Box<portcullis_connector_nats::CoreSinkSettings>),
    /// A file or standard output.
    Local(local::LocalSink),
}

impl SourcePlan {
    /// Completes what was typed.
    ///
    /// # Errors
    /// What cannot work, at the place where it was typed.
    pub(crate) fn resolve(
        source: &Located<TypedSource>,
        node: &Node,
        instead: Option<&Instead>,
    ) -> Result<Self, Diagnostic> {
        match &source.value {
            #[cfg(feature = "kafka")]
            TypedSource::Kafka(typed) => kafka::source(&source.at, typed, node, instead),
            #[cfg(not(feature = "kafka"))]
            TypedSource::Kafka(_) => Err(not_built(&source.at, "kafka")),
            #[cfg(feature = "nats")]
            TypedSource::JetStream(typed) => {
                nats::jetstream_source(typed, node).map(|settings| Self::JetStream(Box::new(settings)))
            }
            #[cfg(feature = "nats")]
            TypedSource::Nats(typed) => nats::source(typed, node).map(|settings| Self::Nats(Box::new(settings))),
            #[cfg(not(feature = "nats"))]
            TypedSource::JetStream(_) | TypedSource::Nats(_) => Err(not_built(&source.at, "nats")),
            TypedSource::File(file) => Ok(Self::Local(local::source_file(file))),
            TypedSource::Stdio(format) => Ok(Self::Local(local::stdin(format.value))),
            TypedSource::Generator(typed) => local::generated(&source.at, typed).map(Self::Local),
        }
    }

    /// How the source will remember what is done.
    pub fn ack_mode(&self) -> AckMode {
        match self {
            #[cfg(feature = "kafka")]
            Self::Kafka(_) => AckMode::Cumulative,
            #[cfg(feature = "nats")]
            Self::JetStream(_) => AckMode::Each,
            #[cfg(feature = "nats")]
            Self::Nats(_) => AckMode::None,
            Self::Local(local) => local.ack_mode(),
        }
    }

    /// Opens it.
    ///
    /// # Errors
    /// As the contract of [`Source`] says.
    pub fn open(&self) -> Result<Box<dyn Source>, ConnectorError> {
        match self {
            #[cfg(feature = "kafka")]
            Self::Kafka(settings) => Ok(Box::new(portcullis_connector_kafka::KafkaSource::new((**settings).clone())?)),
            #[cfg(feature = "nats")]
            Self::JetStream(settings) => {
                Ok(Box::new(portcullis_connector_nats::JetStreamSource::new((**settings).clone())?))
            }
            #[cfg(feature = "nats")]
            Self::Nats(settings) => Ok(Box::new(portcullis_connector_nats::CoreSource::new((**settings).clone())?)),
            Self::Local(local) => local.open(),
        }
    }

    /// What names its messages.
    pub(crate) fn identity(&self) -> SourceIdentity {
        match self {
            #[cfg(feature = "kafka")]
            Self::Kafka(settings) => {
                let mut brokers: Vec<&str> = settings.connection.brokers.split(',').map(str::trim).collect();
                brokers.sort_unstable();
                SourceIdentity::of_broker("kafka", &brokers.join(","))
            }
            #[cfg(feature = "nats")]
            Self::JetStream(settings) => SourceIdentity::of_broker("jetstream", &nats::place(&settings.connection)),
            #[cfg(feature = "nats")]
            Self::Nats(_) => SourceIdentity::of_this_run(),
            Self::Local(local) => local.identity(),
        }
    }

    /// What it counts beside messages.
    pub(crate) fn counts(&self) -> Option<ReadCounts> {
        match self {
            #[cfg(feature = "nats")]
            Self::JetStream(settings) => Some(nats::counts(&settings.counters)),
            #[cfg(feature = "nats")]
            Self::Nats(settings) => Some(nats::counts(&settings.counters)),
            _ => None,
        }
    }
}

impl SinkPlan {
    /// Completes what was typed. A template may name none of the `forbidden` topics; `pipeline` begins the ids by which a
    /// stream knows its messages.
    ///
    /// # Errors
    /// What cannot work, at the place where it was typed.
    pub(crate) fn resolve(
        sink: &Located<TypedSink>,
        node: &Node,
        instead: Option<&Instead>,
        forbidden: &[String],
        #[cfg_attr(not(feature = "nats"), expect(unused_variables))] pipeline: &str,
    ) -> Result<Self, Diagnostic> {
        match &sink.value {
            #[cfg(feature = "kafka")]
            TypedSink::Kafka(typed) => kafka::sink(&sink.at, typed, node, instead, forbidden),
            #[cfg(not(feature = "kafka"))]
            TypedSink::Kafka(_) => Err(not_built(&sink.at, "kafka")),
            #[cfg(feature = "nats")]
            TypedSink::JetStream(typed) => nats::jetstream_sink(typed, node, forbidden, pipeline)
                .map(|settings| Self::JetStream(Box::new(settings))),
            #[cfg(feature = "nats")]
            TypedSink::Nats(typed) => nats::sink(typed, node, forbidden).map(|settings| Self::Nats(Box::new(settings))),
            #[cfg(not(feature = "nats"))]
            TypedSink::JetStream(_) | TypedSink::Nats(_) => Err(not_built(&sink.at, "nats")),
            TypedSink::File(file) => Ok(Self::Local(local::sink_file(file))),
            TypedSink::Stdio(format) => Ok(Self::Local(local::stdout(format.value))),
        }
    }

    /// Opens it; what becomes of messages is reported to `confirm`.
    ///
    /// # Errors
    /// As the contract of [`Sink`] says.
    pub fn open(&self, confirm: Arc<dyn Confirm>) -> Result<Arc<dyn Sink>, ConnectorError> {
        match self {
            #[cfg(feature = "kafka")]
            Self::Kafka(settings) => {
                Ok(Arc::new(portcullis_connector_kafka::KafkaSink::new((**settings).clone(), confirm)?))
            }
            #[cfg(feature = "nats")]
            Self::JetStream(settings) => {
                Ok(Arc::new(portcullis_connector_nats::JetStreamSink::new((**settings).clone(), confirm)?))
            }
            #[cfg(feature = "nats")]
            Self::Nats(settings) => {
                Ok(Arc::new(portcullis_connector_nats::CoreSink::new((**settings).clone(), confirm)?))
            }
            Self::Local(local) => local.open(confirm),
        }
    }

    /// What it counts beside messages.
    pub(crate) fn counts(&self) -> Option<ReadCounts> {
        match self {
            #[cfg(feature = "nats")]
            Self::JetStream(settings) => Some(nats::counts(&settings.counters)),
            #[cfg(feature = "nats")]
            Self::Nats(settings) => Some(nats::counts(&settings.counters)),
            _ => None,
        }
    }

    /// Whether what it has confirmed may have reached nobody.
    pub(crate) fn forgets(&self) -> bool {
        match self {
            #[cfg(feature = "nats")]
            Self::Nats(_) => true,
            _ => false,
        }
    }

    /// Whether it looks at where a message comes from.
    pub(crate) fn recognises(&self) -> bool {
        match self {
            #[cfg(feature = "nats")]
            Self::JetStream(_) => true,
            _ => false,
        }
    }

    /// Whether what comes twice is stored once. Without the name of the stream it may be another one each time.
    pub(crate) fn drops_repeats(&self) -> bool {
        match self {
            #[cfg(feature = "nats")]
            Self::JetStream(settings) => settings.stream.is_some(),
            _ => false,
        }
    }

    /// The topic, subject or file, for people.
    pub fn name(&self) -> String {
        match self {
            #[cfg(feature = "kafka")]
            Self::Kafka(settings) => match &settings.topic {
                portcullis_connector_kafka::TopicRule::Fixed(topic) => topic.clone(),
                portcullis_connector_kafka::TopicRule::Each(_) => "a topic by template".to_owned(),
            },
            #[cfg(feature = "nats")]
            Self::JetStream(settings) => nats::name(&settings.subject),
            #[cfg(feature = "nats")]
            Self::Nats(settings) => nats::name(&settings.subject),
            Self::Local(local) => local.name(),
        }
    }
}

/// A connector that this binary was built without.
#[cfg(not(all(feature = "kafka", feature = "nats")))]
pub(crate) fn not_built(at: &portcullis_config::Location, connector: &str) -> Diagnostic {
    at.diagnostic(Code::ConnectorNotAvailable, format!("this binary was built without the cargo feature `{connector}`"))
}

/// The connection of something that is no source or sink: the audit topic.
///
/// # Errors
/// As for a source.
#[cfg(feature = "kafka")]
pub(crate) fn kafka_connection(
    at: &portcullis_config::Location,
    typed: &portcullis_config::KafkaConnection,
    node: &Node,
) -> Result<portcullis_connector_kafka::Connection, Diagnostic> {
    kafka::connection(at, typed, node, None)
}
