//! Messages on a schedule and how long each took: a message is due when its time has come, whatever became of those before,
//! and its time counts from then, so that a contestant that stalls cannot hide the messages that it kept waiting.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::message::Message;
use rdkafka::producer::{BaseRecord, DefaultProducerContext, ThreadedProducer};
use rdkafka::{ClientConfig, Offset, TopicPartitionList};

use crate::load::PARTITIONS;

/// The generator looks at the clock this often; what is due by then goes out together.
const TICK: Duration = Duration::from_micros(500);
const KEYS: u64 = 100_000;
const LIMIT: Duration = Duration::from_secs(60);

/// Reads the destination from its begin on a thread of its own; each message holds the nanosecond at which it was due.
pub struct Reader {
    shared: Arc<Shared>,
    thread: Option<JoinHandle<Result<Vec<Arrival>>>>,
}

/// When a message was due and when it came, in nanoseconds.
type Arrival = (u64, u64);

struct Shared {
    /// Both clocks of a message are of this process and count from here.
    epoch: Instant,
    arrived: AtomicU64,
    stop: AtomicBool,
}

impl Shared {
    fn now_ns(&self) -> u64 {
        u64::try_from(self.epoch.elapsed().as_nanos()).unwrap_or(u64::MAX)
    }
}

impl Reader {
    /// Begins to read.
    ///
    /// # Errors
    /// When the client cannot be made.
    pub fn start(brokers: &str, topic: &str) -> Result<Self> {
        let consumer: BaseConsumer = ClientConfig::new()
            .set("bootstrap.servers", brokers)
            .set("group.id", "bench-reader")
            .set("enable.auto.commit", "false")
            .set("fetch.queue.backoff.ms", "1")
            .create()?;
        let mut all = TopicPartitionList::new();
        for partition in 0..PARTITIONS {
            all.add_partition_offset(topic, partition, Offset::Beginning)?;
        }
        consumer.assign(&all)?;
        let (arrived, stop) = Default::default();
        let shared = Arc::new(Shared { epoch: Instant::now(), arrived, stop });
        let thread = std::thread::spawn({
            let shared = shared.clone();
            move || read(&shared, &consumer)
        });
        Ok(Self { shared, thread: Some(thread) })
    }

    /// How many messages have arrived.
    pub fn arrived(&self) -> u64 {
        self.shared.arrived.load(Ordering::Relaxed)
    }

    /// Ends the reading. Of each message: when it was due and how long it took, in nanoseconds.
    ///
    /// # Errors
    /// When the reading has failed.
    pub fn end(mut self) -> Result<Vec<Arrival>> {
        self.shared.stop.store(true, Ordering::Relaxed);
        let thread = self.thread.take().context("a reader that has ended")?;
        thread.join().map_err(|_| anyhow::anyhow!("the reader has panicked"))?
    }
}

fn read(shared: &Shared, consumer: &BaseConsumer) -> Result<Vec<Arrival>> {
    let mut taken = Vec::new();
    while !shared.stop.load(Ordering::Relaxed) {
        let Some(message) = consumer.poll(Duration::from_millis(100)) else { continue };
        let message = message?;
        let now = shared.now_ns();
        let due = message.payload().and_then(|value| value.first_chunk()).context("a message of somebody else")?;
        let due = u64::from_le_bytes(*due);
        taken.push((due, now.saturating_sub(due)));
        shared.arrived.fetch_add(1, Ordering::Relaxed);
    }
    Ok(taken)
}

/// Sends to the source topics in turn.
pub struct Generator<'a> {
    producer: ThreadedProducer<DefaultProducerContext>,
    topics: &'a [String],
    reader: &'a Reader,
    value: Vec<u8>,
    sent: u64,
}

impl<'a> Generator<'a> {
    /// Its messages have values of so many bytes, eight at least; `linger_ms` is for filling a batch.
    ///
    /// # Errors
    /// When the client cannot be made.
    pub fn new(
        brokers: &str,
        topics: &'a [String],
        reader: &'a Reader,
        value_bytes: usize,
        linger_ms: u32,
    ) -> Result<Self> {
        let producer = ClientConfig::new()
            .set("bootstrap.servers", brokers)
            // A request holds one partition: without filling batches the broker would be busy with requests alone.
            .set("linger.ms", linger_ms.to_string())
            .set("queue.buffering.max.messages", "1000000")
            .set("partitioner", "murmur2_random")
            .create_with_context(DefaultProducerContext)?;
        Ok(Self { producer, topics, reader, value: vec![b'x'; value_bytes.max(8)], sent: 0 })
    }

    /// One after the other until the first has come out: then the contestant is at work.
    ///
    /// # Errors
    /// When none comes in time, or `go_on` refuses.
    pub fn until_it_flows(&mut self, mut go_on: impl FnMut() -> Result<()>) -> Result<()> {
        let deadline = Instant::now() + LIMIT;
        while self.reader.arrived() == 0 {
            go_on()?;
            if Instant::now() > deadline {
                bail!("no message came out within {} s", LIMIT.as_secs());
            }
            self.send(self.reader.shared.now_ns())?;
            std::thread::sleep(Duration::from_millis(20));
        }
        self.wait_for_all()
    }

    /// On schedule for so long. Gives the nanosecond at which it began.
    ///
    /// # Errors
    /// When a message cannot be sent.
    pub fn on_schedule(&mut self, per_second: u64, time: Duration) -> Result<u64> {
        let begin = self.reader.shared.now_ns();
        let total = per_second.saturating_mul(time.as_secs());
        let due = |number: u64| begin + number.saturating_mul(1_000_000_000) / per_second.max(1);
        let mut number = 0;
        while number < total {
            while number < total && due(number) <= self.reader.shared.now_ns() {
                self.send(due(number))?;
                number += 1;
            }
            std::thread::sleep(TICK);
        }
        Ok(begin)
    }

    /// Until everything that was sent has come out.
    ///
    /// # Errors
    /// When it does not in time.
    pub fn wait_for_all(&self) -> Result<()> {
        let deadline = Instant::now() + LIMIT;
        while self.reader.arrived() < self.sent {
            if Instant::now() > deadline {
                bail!("{} of {} messages came out within {} s", self.reader.arrived(), self.sent, LIMIT.as_secs());
            }
            std::thread::sleep(Duration::from_millis(5));
        }
        Ok(())
    }

    fn send(&mut self, due_ns: u64) -> Result<()> {
        let topic = self.topics.get(self.sent as usize % self.topics.len().max(1)).context("a topic")?;
        if let Some(begin) = self.value.first_chunk_mut() {
            *begin = due_ns.to_le_bytes();
        }
        let key = format!("key-{:08}", self.sent % KEYS);
        let mut record = BaseRecord::to(topic).key(&key).payload(&self.value);
        while let Err((error, unsent)) = self.producer.send(record) {
            if !matches!(error, KafkaError::MessageProduction(RDKafkaErrorCode::QueueFull)) {
                return Err(error.into());
            }
            std::thread::sleep(TICK);
            record = unsent;
        }
        self.sent += 1;
        Ok(())
    }
}
