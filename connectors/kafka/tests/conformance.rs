//! The source and the sink against the suite of the contract, on a real cluster.

use std::sync::Arc;
use std::thread::{self, JoinHandle};
use std::time::Duration;

use portcullis_connector_api::conformance::{
    Exemption, Report, Rule, SinkFactory, SinkPlace, SourceFactory, SourcePlace, sink, source,
};
use portcullis_connector_api::{Confirm, Message, Sink, Source};
use portcullis_connector_kafka::{Connection, KafkaSink, KafkaSource, SinkSettings, SourceSettings, Topic, TopicRule};
use rdkafka::ClientConfig;
use rdkafka::consumer::{BaseConsumer, Consumer};

use crate::cluster::{cluster, fresh, topic};
use crate::support::{self, LIMIT, Reader, Writer};

/// Of the sink that is tried: far less than a burst.
const QUEUE_MESSAGES: u32 = 200;
/// Over several, so that what the suite says of one partition is not true by chance of the whole topic.
const SINK_PARTITIONS: i32 = 3;
const MAX_MESSAGE_BYTES: u32 = 1_000_000;

/// Kafka can keep every rule, so it is exempted from none.
const NO_EXEMPTIONS: &[Exemption] = &[];

/// A topic that keeps what the suite stores: some of its messages are too old for the usual retention.
fn lasting_topic(connection: &Connection, partitions: i32) -> String {
    let mut lasting = Topic::new(fresh("conformance"), partitions);
    lasting.settings = vec![("retention.ms".into(), "-1".into())];
    topic(connection, lasting)
}

struct Groups(Connection);

impl SourceFactory for Groups {
    type Place = Group;

    fn place(&self) -> Result<Group, String> {
        let connection = self.0.clone();
        let (topic, rest) = (lasting_topic(&connection, 1), lasting_topic(&connection, 1));
        Ok(Group { connection, topic, rest, name: fresh("conformance"), other: None })
    }
}

/// A consumer group with its topic.
struct Group {
    connection: Connection,
    topic: String,
    /// Stays empty. The group's assignor leaves a member its partitions as long as the shares are even; only because the
    /// member that is tried has this one too, it must give up the other.
    rest: String,
    name: String,
    other: Option<JoinHandle<()>>,
}

impl Group {
    fn settings(&self, topics: &[&String]) -> SourceSettings {
        let mut settings = support::settings(&self.connection, &self.name, &self.topic);
        settings.topics = topics.iter().map(|topic| (*topic).clone()).collect();
        // A member learns of a rebalance by its heartbeat.
        settings.connection.passthrough.push(("heartbeat.interval.ms".into(), "500".into()));
        settings
    }

    fn other_has_left(&mut self) -> Result<(), String> {
        let ended = self.other.take().map_or(Ok(()), JoinHandle::join);
        ended.map_err(|_| "the other member of the group did not get the partition or could not leave".to_owned())
    }
}

impl SourcePlace for Group {
    fn feed(&mut self, messages: &[Message]) -> Result<(), String> {
        Writer::to(&self.connection, &self.topic).store(messages);
        Ok(())
    }

    fn open(&mut self) -> Result<Box<dyn Source>, String> {
        self.other_has_left()?;
        let source = KafkaSource::new(self.settings(&[&self.topic, &self.rest]));
        Ok(Box::new(source.map_err(|error| error.to_string())?))
    }

    fn ends(&self) -> bool {
        false
    }

    /// Another member comes, which wants only the topic with the messages, and leaves as soon as it has its partition.
    fn revoke(&mut self) -> Result<bool, String> {
        let settings = self.settings(&[&self.topic]);
        self.other = Some(thread::spawn(move || {
            let mut member = Reader::with(settings);
            member.until("the partition is the other member's", |member| !member.assigned.is_empty());
            member.close();
        }));
        Ok(true)
    }

    fn patience(&self) -> Duration {
        LIMIT
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        // Whether it went well was asked at the restart. Here a rule is broken already, and its own failure says more.
        drop(self.other.take().map(JoinHandle::join));
    }
}

struct Topics(Connection);

impl SinkFactory for Topics {
    type Place = Stored;

    fn place(&self) -> Result<Stored, String> {
        Ok(Stored { topic: lasting_topic(&self.0, SINK_PARTITIONS), connection: self.0.clone() })
    }
}

/// A topic with what a sink has stored there.
struct Stored {
    connection: Connection,
    topic: String,
}

impl Stored {
    /// As the brokers count. No transactions and no compaction: each offset is a message.
    fn count(&self) -> Result<usize, String> {
        let asked: Result<BaseConsumer, _> =
            ClientConfig::new().set("bootstrap.servers", &self.connection.brokers).create();
        let asked = asked.map_err(|error| error.to_string())?;
        let count = |partition| {
            let (low, high) =
                asked.fetch_watermarks(&self.topic, partition, LIMIT).map_err(|error| error.to_string())?;
            usize::try_from(high - low).map_err(|error| error.to_string())
        };
        (0..SINK_PARTITIONS).map(count).sum()
    }
}

impl SinkPlace for Stored {
    fn open(&mut self, confirm: Arc<dyn Confirm>) -> Result<Box<dyn Sink>, String> {
        let mut settings = SinkSettings::new(self.connection.clone(), TopicRule::Fixed(self.topic.clone()));
        settings.queue_messages = QUEUE_MESSAGES;
        settings.max_message_bytes = MAX_MESSAGE_BYTES;
        Ok(Box::new(KafkaSink::new(settings, confirm).map_err(|error| error.to_string())?))
    }

    fn read(&mut self) -> Result<Vec<Message>, String> {
        // A group of its own each time, so that it reads from the beginning.
        let mut reader = Reader::of(&self.connection, &fresh("conformance"), &self.topic);
        reader.until_count(self.count()?);
        let messages = std::mem::take(&mut reader.records).into_iter().map(|record| record.message).collect();
        reader.close();
        Ok(messages)
    }

    fn unacceptable(&self) -> Option<Message> {
        Some(Message { value: Some(vec![b'x'; MAX_MESSAGE_BYTES as usize + 1].into()), ..Message::new("large") })
    }
}

/// Every rule is kept or exempted, and the report says which.
fn is_complete(report: &Report, rules: &[Rule]) {
    assert_eq!(report.exempted, NO_EXEMPTIONS);
    assert_eq!(report.kept, rules);
}

#[test]
fn kafka_is_a_source() {
    match source(&Groups(cluster()), NO_EXEMPTIONS) {
        Ok(report) => is_complete(&report, &Rule::OF_SOURCES),
        Err(failure) => panic!("{failure}"),
    }
}

#[test]
fn kafka_is_a_sink() {
    match sink(&Topics(cluster()), NO_EXEMPTIONS) {
        Ok(report) => is_complete(&report, &Rule::OF_SINKS),
        Err(failure) => panic!("{failure}"),
    }
}
