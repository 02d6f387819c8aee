use std::future::Future;
use std::pin::pin;
use std::sync::Arc;
use std::task::{Context, Poll, Wake, Waker};
use std::thread::{self, Thread};
use std::time::{Duration, Instant};

use portcullis_connector_api::{ConnectorError, ErrorKind};
use rdkafka::ClientConfig;
use rdkafka::admin::{AdminClient, AdminOptions, NewTopic, TopicReplication, TopicResult};
use rdkafka::client::DefaultClientContext;
use rdkafka::metadata::MetadataBroker;
use rdkafka::producer::{BaseProducer, Producer};
use rdkafka::types::RDKafkaErrorCode as Code;

use crate::settings::Connection;
use crate::{client_config, failure};

/// A topic to be made.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Topic {
    /// The name.
    pub name: String,
    /// How many partitions.
    pub partitions: i32,
    /// How many copies of each partition; the cluster's own default when absent.
    pub replication: Option<u16>,
    /// Its settings, such as `cleanup.policy`.
    pub settings: Vec<(String, String)>,
}

impl Topic {
    /// A topic with the cluster's own settings.
    pub fn new(name: impl Into<String>, partitions: i32) -> Self {
        Self { name: name.into(), partitions, replication: None, settings: Vec::new() }
    }
}

/// Makes those of these topics that do not exist, and returns their names.
///
/// # Errors
/// `Configuration` for a topic that the cluster does not accept, `Retriable` when it cannot be reached within `wait`.
pub fn create_topics(connection: &Connection, topics: &[Topic], wait: Duration) -> Result<Vec<String>, ConnectorError> {
    let client: AdminClient<DefaultClientContext> =
        config(connection)?.create().map_err(|error| failure::from_rdkafka("cannot make a Kafka client", &error))?;
    let mut made = Vec::new();
    for result in create(&client, topics, wait)? {
        match result {
            Ok(name) => made.push(name),
            Err((_, Code::TopicAlreadyExists)) => {}
            Err((name, code)) => {
                return Err(ConnectorError::new(
                    ErrorKind::Configuration,
                    format!("the cluster does not make topic `{name}` ({code:?})"),
                ));
            }
        }
    }
    Ok(made)
}

/// What became of each.
pub(crate) fn create(
    client: &AdminClient<DefaultClientContext>,
    topics: &[Topic],
    wait: Duration,
) -> Result<Vec<TopicResult>, ConnectorError> {
    let new = topics.iter().map(|topic| {
        // -1 asks for the cluster's default.
        let replication = TopicReplication::Fixed(topic.replication.map_or(-1, i32::from));
        let new = NewTopic::new(&topic.name, topic.partitions, replication);
        topic.settings.iter().fold(new, |new, (key, value)| new.set(key, value))
    });
    let new: Vec<NewTopic<'_>> = new.collect();
    if new.is_empty() {
        return Ok(Vec::new());
    }
    let options = AdminOptions::new().request_timeout(Some(wait)).operation_timeout(Some(wait));
    let asked = block_on(client.create_topics(&new, &options), wait.saturating_add(Duration::from_secs(1)));
    asked
        .ok_or_else(|| failure::error(Code::OperationTimedOut, "the cluster did not answer"))?
        .map_err(|error| failure::from_rdkafka("cannot make topics", &error))
}

/// Those of these topics that do not exist or must not be seen. Makes none of them.
///
/// # Errors
/// `Retriable` when the cluster cannot be reached within `wait`.
pub fn missing_topics(
    connection: &Connection,
    topics: &[String],
    wait: Duration,
) -> Result<Vec<String>, ConnectorError> {
    let client: BaseProducer =
        config(connection)?.create().map_err(|error| failure::from_rdkafka("cannot make a Kafka client", &error))?;
    let deadline = Instant::now() + wait;
    let mut missing = Vec::new();
    for topic in topics {
        let left = deadline.saturating_duration_since(Instant::now());
        let metadata = client
            .client()
            .fetch_metadata(Some(topic), left)
            .map_err(|error| failure::from_rdkafka(&format!("cannot reach `{}`", connection.brokers), &error))?;
        if !metadata.topics().iter().any(|found| found.name() == topic && found.error().is_none()) {
            missing.push(topic.clone());
        }
    }
    Ok(missing)
}

/// Host and port of every broker of the cluster, as it advertises them to clients of this listener.
///
/// # Errors
/// `Retriable` when the cluster cannot be reached within `wait`.
pub fn advertised_brokers(connection: &Connection, wait: Duration) -> Result<Vec<(String, u16)>, ConnectorError> {
    let client: BaseProducer =
        config(connection)?.create().map_err(|error| failure::from_rdkafka("cannot make a Kafka client", &error))?;
    let metadata = client
        .client()
        .fetch_metadata(None, wait)
        .map_err(|error| failure::from_rdkafka(&format!("cannot reach `{}`", connection.brokers), &error))?;
    let endpoint = |broker: &MetadataBroker| Some((broker.host().to_owned(), u16::try_from(broker.port()).ok()?));
    Ok(metadata.brokers().iter().filter_map(endpoint).collect())
}

fn config(connection: &Connection) -> Result<ClientConfig, ConnectorError> {
    let mut config = client_config::connection(connection)?;
    config.set("allow.auto.create.topics", "false");
    Ok(config)
}

struct Unpark(Thread);

impl Wake for Unpark {
    fn wake(self: Arc<Self>) {
        self.0.unpark();
    }
}

/// rdkafka's administration has futures, and this crate no runtime. `None` when the time is over.
fn block_on<F: Future>(future: F, limit: Duration) -> Option<F::Output> {
    let deadline = Instant::now() + limit;
    let waker = Waker::from(Arc::new(Unpark(thread::current())));
    let mut future = pin!(future);
    loop {
        if let Poll::Ready(output) = future.as_mut().poll(&mut Context::from_waker(&waker)) {
            return Some(output);
        }
        let left = deadline.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return None;
        }
        thread::park_timeout(left);
    }
}
