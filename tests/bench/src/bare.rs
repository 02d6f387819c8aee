//! The contestant to measure against: the loop that a person would write with rdkafka alone, with the same consumer and
//! producer settings, partitions and offset tracker as the bridge, and no plugins.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use anyhow::Result;
use portcullis_flow::Tracker;
use rdkafka::client::ClientContext;
use rdkafka::consumer::{BaseConsumer, CommitMode, Consumer};
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::message::{DeliveryResult, Message};
use rdkafka::producer::{BaseRecord, ProducerContext, ThreadedProducer};
use rdkafka::{ClientConfig, Offset, TopicPartitionList};

/// Settings that both sides share: a difference here would be the benchmark's result.
pub const CONSUMER: &[(&str, &str)] = &[
    ("enable.auto.commit", "false"),
    ("enable.auto.offset.store", "false"),
    ("auto.offset.reset", "earliest"),
    ("partition.assignment.strategy", "cooperative-sticky"),
    ("queued.min.messages", "10000"),
    ("queued.max.messages.kbytes", "16384"),
    ("fetch.queue.backoff.ms", "20"),
    ("fetch.wait.max.ms", "100"),
];
/// The producer's.
pub const PRODUCER: &[(&str, &str)] = &[
    ("enable.idempotence", "true"),
    ("linger.ms", "5"),
    ("partitioner", "murmur2_random"),
    ("queue.buffering.max.messages", "100000"),
    ("queue.buffering.max.kbytes", "65536"),
    ("message.timeout.ms", "0"),
];

struct Delivered(Arc<Mutex<Vec<usize>>>);

impl ClientContext for Delivered {}

impl ProducerContext for Delivered {
    type DeliveryOpaque = usize;

    fn delivery(&self, result: &DeliveryResult<'_>, token: usize) {
        if result.is_ok() {
            self.0.lock().unwrap_or_else(PoisonError::into_inner).push(token);
        }
    }
}

/// Runs until the process is killed: reads `sources`, writes to `destination`, commits once a second what has been
/// delivered.
///
/// # Errors
/// When a client cannot be made or fails.
pub fn run(brokers: &str, group: &str, sources: &[String], destination: &str) -> Result<()> {
    run_with(brokers, group, sources, destination, "5")
}

/// As [`run`], with another time for filling a batch.
///
/// # Errors
/// The same.
pub fn run_with(brokers: &str, group: &str, sources: &[String], destination: &str, linger_ms: &str) -> Result<()> {
    let mut config = ClientConfig::new();
    config.set("bootstrap.servers", brokers).set("group.id", group);
    for (key, value) in CONSUMER {
        config.set(*key, *value);
    }
    let consumer: BaseConsumer = config.create()?;
    let mut config = ClientConfig::new();
    config.set("bootstrap.servers", brokers);
    for (key, value) in PRODUCER {
        config.set(*key, *value);
    }
    config.set("linger.ms", linger_ms);
    let delivered = Arc::new(Mutex::new(Vec::new()));
    let producer: ThreadedProducer<Delivered> = config.create_with_context(Delivered(delivered.clone()))?;
    consumer.subscribe(&sources.iter().map(String::as_str).collect::<Vec<_>>())?;
    let mut trackers: Vec<(String, i32, Tracker<()>)> = Vec::new();
    let mut finished = Vec::new();
    let mut next_commit = Instant::now() + Duration::from_secs(1);
    let mut last = 0;
    loop {
        if let Some(message) = consumer.poll(Duration::from_millis(10)) {
            let message = message?;
            let (topic, partition) = (message.topic(), message.partition());
            let known = |(name, number, _): &(String, i32, Tracker<()>)| *number == partition && name == topic;
            if !trackers.get(last).is_some_and(known) {
                last = trackers.iter().position(known).unwrap_or_else(|| {
                    trackers.push((topic.to_owned(), partition, Tracker::new()));
                    trackers.len() - 1
                });
            }
            let Some((_, _, tracker)) = trackers.get_mut(last) else { continue };
            let sequence = tracker.received(message.offset(), message.payload_len(), ())?;
            let token = usize::try_from(sequence)? << 16 | last;
            let mut record: BaseRecord<'_, [u8], [u8], usize> = BaseRecord::with_opaque_to(destination, token);
            record.key = message.key();
            record.payload = message.payload();
            record.timestamp = message.timestamp().to_millis();
            while let Err((error, unsent)) = producer.send(record) {
                if !matches!(error, KafkaError::MessageProduction(RDKafkaErrorCode::QueueFull)) {
                    return Err(error.into());
                }
                std::thread::park_timeout(Duration::from_millis(1));
                record = unsent;
            }
        }
        if Instant::now() < next_commit {
            continue;
        }
        next_commit = Instant::now() + Duration::from_secs(1);
        std::mem::swap(&mut finished, &mut *delivered.lock().unwrap_or_else(PoisonError::into_inner));
        for token in finished.drain(..) {
            if let Some((_, _, tracker)) = trackers.get_mut(token & 0xFFFF) {
                tracker.finished((token >> 16) as u64)?;
            }
        }
        let mut positions = TopicPartitionList::new();
        for (topic, partition, tracker) in &mut trackers {
            if let Some(offset) = tracker.take_commit() {
                positions.add_partition_offset(topic, *partition, Offset::Offset(offset))?;
            }
        }
        if positions.count() > 0 {
            consumer.commit(&positions, CommitMode::Async)?;
        }
    }
}
