//! The explicit list of connectors: from what was typed to settings that are complete, and from those to something that
//! runs.

#[cfg(feature = "kafka")]
mod kafka;
mod local;

use std::sync::Arc;

#[cfg(not(feature = "kafka"))]
use portcullis_config::Code;
use portcullis_config::{Diagnostic, Located, Node, Sink as TypedSink, Source as TypedSource};
use portcullis_connector_api::{AckMode, Confirm, ConnectorError, Sink, Source};

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
    /// A file, standard input, made-up messages or memory.
    Local(local::LocalSource),
}

/// A sink with everything that opening it needs.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum SinkPlan {
    /// Topics of a Kafka cluster.
    #[cfg(feature = "kafka")]
    Kafka(Box<portcullis_connector_kafka::SinkSettings>),
    /// A file, standard output or memory.
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
            _ => local::source(source).map(Self::Local),
        }
    }

    /// How the source will remember what is done.
    pub fn ack_mode(&self) -> AckMode {
        match self {
            #[cfg(feature = "kafka")]
            Self::Kafka(_) => AckMode::Cumulative,
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
            Self::Local(local) => local.open(),
        }
    }
}

impl SinkPlan {
    /// Completes what was typed. A template may name none of the `forbidden` topics.
    ///
    /// # Errors
    /// What cannot work, at the place where it was typed.
    pub(crate) fn resolve(
        sink: &Located<TypedSink>,
        node: &Node,
        instead: Option<&Instead>,
        forbidden: &[String],
    ) -> Result<Self, Diagnostic> {
        match &sink.value {
            #[cfg(feature = "kafka")]
            TypedSink::Kafka(typed) => kafka::sink(&sink.at, typed, node, instead, forbidden),
            #[cfg(not(feature = "kafka"))]
            TypedSink::Kafka(_) => Err(not_built(&sink.at, "kafka")),
            _ => local::sink(sink).map(Self::Local),
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
            Self::Local(local) => local.open(confirm),
        }
    }

    /// The topic or file, for people.
    pub fn name(&self) -> String {
        match self {
            #[cfg(feature = "kafka")]
            Self::Kafka(settings) => match &settings.topic {
                portcullis_connector_kafka::TopicRule::Fixed(topic) => topic.clone(),
                portcullis_connector_kafka::TopicRule::Each(_) => "a topic by template".to_owned(),
            },
            Self::Local(local) => local.name(),
        }
    }
}

/// A connector that this binary was built without.
#[cfg(not(feature = "kafka"))]
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
