//! The topics that a pipeline names.

use std::time::Duration;

use anyhow::{Context, bail};
use portcullis_connector_kafka::{Connection, TestBroker, Topic, TopicRule, create_topics};

use super::AUDIT_TOPIC;
use crate::connectors::{SinkPlan, SourcePlan};
use crate::plan::Plan;

/// Few enough for a laptop, enough to show that order is kept for each key.
const PARTITIONS: i32 = 4;
const CREATE_WAIT: Duration = Duration::from_secs(15);

/// By their place in the pipeline.
#[derive(Clone, Debug)]
pub(super) struct Topics {
    pub(super) sources: Vec<String>,
    pub(super) sink: String,
    pub(super) dead_letter: Option<String>,
    pub(super) audit: String,
    /// How the pipeline itself reaches its source.
    pub(super) connection: Connection,
}

impl Topics {
    pub(super) fn of(plan: &Plan) -> anyhow::Result<Self> {
        let pipeline = plan.pipelines.first().context("there is no pipeline")?;
        let mut sources = Vec::new();
        let mut connection = None;
        for source in &pipeline.sources {
            let SourcePlan::Kafka(settings) = source else {
                bail!("`portcullis dev` feeds Kafka sources; this pipeline's runs with `portcullis run`");
            };
            sources.extend(settings.topics.iter().cloned());
            connection.get_or_insert_with(|| settings.connection.clone());
        }
        let sink = fixed(&pipeline.sink)?;
        let dead_letter = pipeline.dead_letter.as_ref().map(fixed).transpose()?;
        Ok(Self {
            sources,
            sink,
            dead_letter,
            audit: AUDIT_TOPIC.to_owned(),
            connection: connection.context("the pipeline has no source")?,
        })
    }

    pub(super) fn first_source(&self) -> &str {
        self.sources.first().map_or("", String::as_str)
    }

    pub(super) fn create(&self, connection: &Connection, broker: Option<&TestBroker>) -> anyhow::Result<()> {
        let data = self.sources.iter().chain([&self.sink]).chain(&self.dead_letter).map(|name| (name, PARTITIONS));
        let all: Vec<(&String, i32)> = data.chain([(&self.audit, 1)]).collect();
        match broker {
            Some(broker) => {
                for (name, partitions) in all {
                    broker.create_topic(&Topic::new(name, partitions))?;
                }
            }
            None => {
                let topics: Vec<Topic> =
                    all.into_iter().map(|(name, partitions)| Topic::new(name, partitions)).collect();
                create_topics(connection, &topics, CREATE_WAIT)?;
            }
        }
        Ok(())
    }
}

fn fixed(sink: &SinkPlan) -> anyhow::Result<String> {
    match sink {
        SinkPlan::Kafka(settings) => match &settings.topic {
            TopicRule::Fixed(topic) => Ok(topic.clone()),
            TopicRule::Each(_) => bail!("`portcullis dev` reads one topic back; this sink's topic is a template"),
        },
        SinkPlan::Local(_) => bail!("`portcullis dev` reads Kafka topics back; this sink is none"),
    }
}
