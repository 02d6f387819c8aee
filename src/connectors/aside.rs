//! A pipeline's ends without effects: sources that nobody else notices, and sinks that only say where a message would go.

use std::sync::Arc;
use std::time::Duration;

use portcullis_connector_api::{ConnectorError, Message, SendError, Source};

use super::{SinkPlan, SourcePlan};
use crate::pipeline::PlaceOf;

/// A place that a message would go to, as far as it is decided.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Place {
    /// `topic`, `subject` or `file`.
    pub kind: &'static str,
    /// Its name.
    pub name: String,
    /// The partition, where the key decides it.
    pub partition: Option<i32>,
    /// The stream that the pipeline expects behind the subject.
    pub stream: Option<String>,
}

/// Says where messages would go.
pub enum Preview {
    /// Topics of a Kafka cluster.
    #[cfg(feature = "kafka")]
    Kafka(Box<portcullis_connector_kafka::Preview>),
    /// Subjects, with the stream that is expected behind them.
    #[cfg(feature = "nats")]
    Nats(portcullis_connector_nats::SubjectRule, Option<String>),
    /// A file or standard output.
    Local(String),
}

impl SourcePlan {
    /// Opens it so that nobody else notices: no member of a group, no consumer, no queue group. What is read stays unread for
    /// everybody else. A source of this machine is opened as always; one that is not acknowledged moves no position.
    ///
    /// # Errors
    /// As [`SourcePlan::open`].
    pub fn open_aside(&self) -> Result<Box<dyn Source>, ConnectorError> {
        match self {
            #[cfg(feature = "kafka")]
            Self::Kafka(settings) => {
                use portcullis_connector_kafka::{KafkaSource, Membership};
                let mut settings = (**settings).clone();
                settings.membership = Membership::Onlooker;
                settings.group_instance_id = None;
                Ok(Box::new(KafkaSource::new(settings)?))
            }
            #[cfg(feature = "nats")]
            Self::JetStream(settings) => {
                Ok(Box::new(portcullis_connector_nats::JetStreamReader::new((**settings).clone())?))
            }
            #[cfg(feature = "nats")]
            Self::Nats(settings) => {
                let mut settings = (**settings).clone();
                settings.queue_group = None;
                Ok(Box::new(portcullis_connector_nats::CoreSource::new(settings)?))
            }
            Self::Local(local) => local.open(),
        }
    }
}

impl SinkPlan {
    /// What knows its destinations and cannot send.
    ///
    /// # Errors
    /// `Configuration` for settings that the sink could not have either.
    pub fn preview(&self) -> Result<Preview, ConnectorError> {
        Ok(match self {
            #[cfg(feature = "kafka")]
            Self::Kafka(settings) => {
                Preview::Kafka(Box::new(portcullis_connector_kafka::Preview::new((**settings).clone())?))
            }
            #[cfg(feature = "nats")]
            Self::JetStream(settings) => Preview::Nats(settings.subject.clone(), settings.stream.clone()),
            #[cfg(feature = "nats")]
            Self::Nats(settings) => Preview::Nats(settings.subject.clone(), None),
            Self::Local(local) => Preview::Local(local.name()),
        })
    }

    /// Names the destination of each message without asking anybody.
    pub(crate) fn place_of(&self) -> PlaceOf {
        match self {
            #[cfg(feature = "kafka")]
            Self::Kafka(settings) => match settings.topic.clone() {
                portcullis_connector_kafka::TopicRule::Fixed(topic) => Arc::new(move |_| Some(topic.clone())),
                portcullis_connector_kafka::TopicRule::Each(topic_of) => {
                    Arc::new(move |message| topic_of(message).ok().map(|topic| topic.into_owned()))
                }
            },
            #[cfg(feature = "nats")]
            Self::JetStream(settings) => subject_of(settings.subject.clone()),
            #[cfg(feature = "nats")]
            Self::Nats(settings) => subject_of(settings.subject.clone()),
            Self::Local(local) => {
                let name = local.name();
                Arc::new(move |_| Some(name.clone()))
            }
        }
    }
}

#[cfg(feature = "nats")]
fn subject_of(rule: portcullis_connector_nats::SubjectRule) -> PlaceOf {
    Arc::new(move |message| rule.of(message).ok().map(|subject| subject.into_owned()))
}

impl Preview {
    /// Whether the destinations are there, as far as that can be asked without making them.
    ///
    /// # Errors
    /// As the contract of a sink's check says.
    pub fn check(
        &self,
        #[cfg_attr(not(feature = "kafka"), expect(unused_variables))] wait: Duration,
    ) -> Result<(), ConnectorError> {
        match self {
            #[cfg(feature = "kafka")]
            Self::Kafka(preview) => preview.check(wait),
            #[cfg(feature = "nats")]
            Self::Nats(..) => Ok(()),
            Self::Local(_) => Ok(()),
        }
    }

    /// Where this message would go.
    ///
    /// # Errors
    /// Why the sink would not take it, or why that cannot be known.
    pub fn place(
        &self,
        #[cfg_attr(not(any(feature = "kafka", feature = "nats")), expect(unused_variables))] message: &Message,
    ) -> Result<Place, SendError> {
        match self {
            #[cfg(feature = "kafka")]
            Self::Kafka(preview) => preview.place(message).map(|found| Place {
                kind: "topic",
                name: found.topic,
                partition: found.partition,
                stream: None,
            }),
            #[cfg(feature = "nats")]
            Self::Nats(rule, stream) => {
                let subject = rule.of(message).map_err(SendError::Refused)?.into_owned();
                Ok(Place { kind: "subject", name: subject, partition: None, stream: stream.clone() })
            }
            Self::Local(name) => Ok(Place { kind: "file", name: name.clone(), partition: None, stream: None }),
        }
    }
}
