//! Fills the source topics, makes destination topics and counts what arrived.

use std::cell::Cell;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use rdkafka::ClientConfig;
use rdkafka::admin::{AdminClient, AdminOptions, NewTopic, TopicReplication};
use rdkafka::client::DefaultClientContext;
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::producer::{BaseProducer, BaseRecord, Producer};

/// Topics and partitions of a run: the shape of issue-sized traffic, several topics with several partitions each.
pub const TOPICS: usize = 4;
/// Partitions of each topic.
pub const PARTITIONS: i32 = 4;

const TIMEOUT: Duration = Duration::from_secs(30);

/// Makes topics with [`PARTITIONS`] partitions each.
///
/// # Errors
/// When the broker refuses one.
pub fn create_topics(brokers: &str, names: &[String]) -> Result<()> {
    let admin: AdminClient<DefaultClientContext> = ClientConfig::new().set("bootstrap.servers", brokers).create()?;
    let topics: Vec<NewTopic<'_>> =
        names.iter().map(|name| NewTopic::new(name, PARTITIONS, TopicReplication::Fixed(1))).collect();
    let made = block_on(admin.create_topics(&topics, &AdminOptions::new().request_timeout(Some(TIMEOUT))))?;
    for result in made {
        if let Err((topic, code)) = result
            && code != RDKafkaErrorCode::TopicAlreadyExists
        {
            bail!("cannot create topic {topic}: {code}");
        }
    }
    Ok(())
}

/// Deletes topics, so that a long run does not fill the disk.
///
/// # Errors
/// When the broker cannot be asked.
pub fn delete_topics(brokers: &str, names: &[String]) -> Result<()> {
    let admin: AdminClient<DefaultClientContext> = ClientConfig::new().set("bootstrap.servers", brokers).create()?;
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    block_on(admin.delete_topics(&names, &AdminOptions::new().request_timeout(Some(TIMEOUT))))?;
    Ok(())
}

/// Produces `count` messages of `value_bytes` with a 12-byte key, spread over the topics.
///
/// # Errors
/// When a message cannot be produced.
pub fn fill(brokers: &str, topics: &[String], count: u64, value_bytes: usize) -> Result<()> {
    let producer: BaseProducer = ClientConfig::new()
        .set("bootstrap.servers", brokers)
        .set("enable.idempotence", "true")
        .set("linger.ms", "50")
        .set("batch.num.messages", "10000")
        .set("queue.buffering.max.messages", "200000")
        .set("partitioner", "murmur2_random")
        .create()?;
    let value = vec![b'x'; value_bytes];
    for (number, topic) in (0..count).zip(topics.iter().cycle()) {
        let key = format!("key-{:08}", number % 100_000);
        let mut record = BaseRecord::to(topic).key(&key).payload(&value);
        while let Err((error, unsent)) = producer.send(record) {
            if !matches!(error, KafkaError::MessageProduction(RDKafkaErrorCode::QueueFull)) {
                return Err(error.into());
            }
            producer.poll(Duration::from_millis(10));
            record = unsent;
        }
    }
    producer.flush(Duration::from_secs(120))?;
    Ok(())
}

/// Counts what the destination topics hold, by their watermarks: they are new, not compacted and not transactional, so
/// that the difference is the number of records.
pub struct Arrivals {
    consumer: BaseConsumer,
    topics: Vec<String>,
    has_counted: Cell<bool>,
}

impl Arrivals {
    /// Asks these topics.
    ///
    /// # Errors
    /// When the client cannot be made.
    pub fn new(brokers: &str, topics: &[String]) -> Result<Self> {
        let consumer =
            ClientConfig::new().set("bootstrap.servers", brokers).set("group.id", "bench-arrivals").create()?;
        Ok(Self { consumer, topics: topics.to_vec(), has_counted: Cell::new(false) })
    }

    /// How many records there are now. What was created a moment ago may not be known yet: before anything was counted it holds
    /// none.
    ///
    /// # Errors
    /// When the broker does not answer.
    pub fn count(&self) -> Result<u64> {
        let mut sum = 0;
        for topic in &self.topics {
            for partition in 0..PARTITIONS {
                match self.consumer.fetch_watermarks(topic, partition, TIMEOUT) {
                    Ok((low, high)) => sum += u64::try_from(high - low)?,
                    Err(error)
                        if !self.has_counted.get()
                            && error.rdkafka_error_code() == Some(RDKafkaErrorCode::UnknownPartition) => {}
                    Err(error) => return Err(error.into()),
                }
            }
        }
        self.has_counted.set(sum > 0);
        Ok(sum)
    }
}

/// Waits until `count` says that at least `wanted` are there, and says when that was.
///
/// # Errors
/// After `limit`, with how many there were, and when nothing can be counted or `go_on` refuses.
pub fn wait_for(
    wanted: u64,
    limit: Duration,
    count: impl Fn() -> Result<u64>,
    mut go_on: impl FnMut() -> Result<()>,
) -> Result<Instant> {
    let deadline = Instant::now() + limit;
    loop {
        let now = count()?;
        if now >= wanted {
            return Ok(Instant::now());
        }
        go_on()?;
        if Instant::now() > deadline {
            bail!("only {now} of {wanted} messages arrived within {} s", limit.as_secs());
        }
        std::thread::park_timeout(Duration::from_millis(20));
    }
}

fn block_on<F: Future>(future: F) -> F::Output {
    use std::pin::pin;
    use std::sync::Arc;
    use std::task::{Context as TaskContext, Poll, Wake, Waker};
    struct Unpark(std::thread::Thread);
    impl Wake for Unpark {
        fn wake(self: Arc<Self>) {
            self.0.unpark();
        }
    }
    let waker = Waker::from(Arc::new(Unpark(std::thread::current())));
    let mut context = TaskContext::from_waker(&waker);
    let mut future = pin!(future);
    loop {
        if let Poll::Ready(output) = future.as_mut().poll(&mut context) {
            return output;
        }
        std::thread::park_timeout(Duration::from_millis(50));
    }
}

/// The names of a set of topics.
pub fn names(prefix: &str) -> Vec<String> {
    (0..TOPICS).map(|number| format!("{prefix}.{number}")).collect()
}

/// A name that no earlier run on the same broker has used.
///
/// # Errors
/// When the clock stands before 1970.
pub fn run_name() -> Result<String> {
    let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).context("the clock")?;
    Ok(format!("bench{}", since.as_millis()))
}
