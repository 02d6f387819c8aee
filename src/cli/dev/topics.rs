//! The topics that a pipeline names.

use std::time::{Duration, Instant};

use anyhow::{Context, bail};
use portcullis_connector_kafka::{Connection, TestBroker, Topic, TopicRule, create_topics, missing_topics};

use super::AUDIT_TOPIC;
use crate::connectors::{SinkPlan, SourcePlan};
use crate::plan::Plan;

/// Few enough for a laptop, enough to show that order is kept for each key.
const PARTITIONS: i32 = 4;
const CREATE_WAIT: Duration = Duration::from_secs(15);
const ASK_AGAIN: Duration = Duration::from_millis(100);

/// By their place in the pipeline.
#[derive(Clone, Debug)]
pub(super) struct Topics {
    pub(super) sources: Vec<String>,
    pub(super) sink: String,
    pub(super) dead_letter: Option<String>,
    /// Where events go to a topic.
    pub(super) audit: Option<String>,
    /// How the pipeline itself reaches its source.
    pub(super) connection: Connection,
}

impl Topics {
    pub(super) fn of(plan: &Plan, with_audit: bool) -> anyhow::Result<Self> {
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
            audit: with_audit.then(|| AUDIT_TOPIC.to_owned()),
            connection: connection.context("the pipeline has no source")?,
        })
    }

    pub(super) fn first_source(&self) -> &str {
        self.sources.first().map_or("", String::as_str)
    }

    pub(super) fn create(&self, connection: &Connection, broker: Option<&TestBroker>) -> anyhow::Result<()> {
        let data = self.sources.iter().chain([&self.sink]).chain(&self.dead_letter).map(|name| (name, PARTITIONS));
        let all =
            data.chain(self.audit.iter().map(|name| (name, 1))).map(|(name, partitions)| Topic::new(name, partitions));
        create(&all.collect::<Vec<_>>(), connection, broker)
    }
}

/// The one topic that a refusal needs.
pub(super) fn create_audit(connection: &Connection, broker: Option<&TestBroker>) -> anyhow::Result<()> {
    create(&[Topic::new(AUDIT_TOPIC, 1)], connection, broker)
}

fn create(topics: &[Topic], connection: &Connection, broker: Option<&TestBroker>) -> anyhow::Result<()> {
    match broker {
        Some(broker) => topics.iter().try_for_each(|topic| broker.create_topic(topic))?,
        None => {
            create_topics(connection, topics, CREATE_WAIT)?;
            wait_for(connection, topics)?;
        }
    }
    Ok(())
}

/// A cluster confirms a topic before all of its brokers know it, and whoever asks in between is told that there is none.
fn wait_for(connection: &Connection, topics: &[Topic]) -> anyhow::Result<()> {
    let names: Vec<String> = topics.iter().map(|topic| topic.name.clone()).collect();
    let deadline = Instant::now() + CREATE_WAIT;
    loop {
        let missing = missing_topics(connection, &names, CREATE_WAIT)?;
        if missing.is_empty() {
            return Ok(());
        }
        if Instant::now() >= deadline {
            bail!("topics were made and are not to be seen: {}", missing.join(", "));
        }
        std::thread::sleep(ASK_AGAIN);
    }
}

fn fixed(sink: &SinkPlan) -> anyhow::Result<String> {
    match sink {
        SinkPlan::Kafka(settings) => match &settings.topic {
            TopicRule::Fixed(topic) => Ok(topic.clone()),
            TopicRule::Each(_) => bail!("`portcullis dev` reads one topic back; this sink's topic is a template"),
        },
        _ => bail!("`portcullis dev` reads Kafka topics back; this sink is none"),
    }
}
