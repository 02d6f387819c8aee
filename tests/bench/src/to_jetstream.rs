//! Kafka to JetStream as a person would write it with rdkafka and async-nats alone: a window of unconfirmed publishes, and
//! offsets that are committed once their messages are confirmed.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use anyhow::Result;
use async_nats::Subject;
use async_nats::jetstream::context::PublishAckFuture;
use async_nats::jetstream::message::PublishMessage;
use portcullis_connector_api::Bytes;
use rdkafka::consumer::{BaseConsumer, CommitMode, Consumer};
use rdkafka::message::{BorrowedMessage, Message};
use rdkafka::{ClientConfig, Offset, TopicPartitionList};
use tokio::runtime::Builder;

use crate::bare::CONSUMER;

/// Publishes that are not confirmed; the bridge's default.
const WINDOW: usize = 4096;

/// What each message carries beside its value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Carry {
    /// Its key as a header and an id, by which the stream takes it once: what the bridge promises too.
    KeyAndId,
    /// Nothing: keys are lost, and what comes again after a crash is stored again.
    Nothing,
}

/// Runs until the process is killed: reads `sources`, publishes to `subject`, commits once a second what is confirmed.
///
/// # Errors
/// When a client cannot be made or fails.
pub fn run(brokers: &str, nats: &str, group: &str, sources: &[String], subject: &str, carry: Carry) -> Result<()> {
    let mut config = ClientConfig::new();
    config.set("bootstrap.servers", brokers).set("group.id", group);
    for (key, value) in CONSUMER {
        config.set(*key, *value);
    }
    let consumer: BaseConsumer = config.create()?;
    consumer.subscribe(&sources.iter().map(String::as_str).collect::<Vec<_>>())?;
    let runtime = Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
    let connected = async { anyhow::Ok(async_nats::jetstream::new(async_nats::connect(nats).await?)) };
    let streams = runtime.block_on(connected)?;
    let subject = Subject::from(subject);
    let mut unconfirmed = VecDeque::with_capacity(WINDOW);
    let mut positions = Positions::default();
    let mut next_commit = Instant::now() + Duration::from_secs(1);
    loop {
        match consumer.poll(Duration::from_millis(10)) {
            Some(message) => {
                let message = message?;
                let place = positions.of(&message);
                let publish = publish(&message, carry);
                let confirmation = runtime.block_on(streams.send_publish(subject.clone(), publish))?;
                unconfirmed.push_back(Unconfirmed { confirmation, place, offset: message.offset() });
                if unconfirmed.len() >= WINDOW {
                    // Half of it at once: one by one, this thread would be woken for each message.
                    runtime.block_on(confirm(&mut unconfirmed, WINDOW / 2, &mut positions))?;
                }
            }
            None => runtime.block_on(confirm(&mut unconfirmed, 0, &mut positions))?,
        }
        if Instant::now() >= next_commit {
            next_commit = Instant::now() + Duration::from_secs(1);
            positions.commit(&consumer)?;
        }
    }
}

fn publish(message: &BorrowedMessage<'_>, carry: Carry) -> PublishMessage {
    let publish = PublishMessage::build().payload(Bytes::copy_from_slice(message.payload().unwrap_or_default()));
    if carry == Carry::Nothing {
        return publish;
    }
    let id = format!("{}/{}/{}", message.topic(), message.partition(), message.offset());
    let publish = publish.message_id(id);
    match message.key_view::<str>() {
        Some(Ok(key)) => publish.header("Key", key),
        _ => publish,
    }
}

struct Unconfirmed {
    confirmation: PublishAckFuture,
    place: usize,
    offset: i64,
}

/// Waits for the oldest until only `left` are unconfirmed.
async fn confirm(unconfirmed: &mut VecDeque<Unconfirmed>, left: usize, positions: &mut Positions) -> Result<()> {
    while unconfirmed.len() > left {
        let Some(Unconfirmed { confirmation, place, offset }) = unconfirmed.pop_front() else { break };
        confirmation.await?;
        positions.confirmed(place, offset);
    }
    Ok(())
}

/// The next offset of each partition: publishes are confirmed in the order in which they were read.
#[derive(Default)]
struct Positions {
    partitions: Vec<(String, i32, i64)>,
    last: usize,
    moved: bool,
}

impl Positions {
    fn of(&mut self, message: &BorrowedMessage<'_>) -> usize {
        let (topic, partition) = (message.topic(), message.partition());
        let known = |(name, number, _): &(String, i32, i64)| *number == partition && name == topic;
        if !self.partitions.get(self.last).is_some_and(known) {
            self.last = self.partitions.iter().position(known).unwrap_or_else(|| {
                self.partitions.push((topic.to_owned(), partition, 0));
                self.partitions.len() - 1
            });
        }
        self.last
    }

    fn confirmed(&mut self, place: usize, offset: i64) {
        if let Some((_, _, next)) = self.partitions.get_mut(place) {
            *next = offset + 1;
            self.moved = true;
        }
    }

    fn commit(&mut self, consumer: &BaseConsumer) -> Result<()> {
        if !std::mem::take(&mut self.moved) {
            return Ok(());
        }
        let mut list = TopicPartitionList::new();
        for (topic, partition, next) in self.partitions.iter().filter(|(_, _, next)| *next > 0) {
            list.add_partition_offset(topic, *partition, Offset::Offset(*next))?;
        }
        Ok(consumer.commit(&list, CommitMode::Async)?)
    }
}
