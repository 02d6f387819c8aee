//! A real Kafka for tests: one that all tests of a run share, and own ones for tests that kill it.

use std::path::PathBuf;
use std::sync::OnceLock;
use std::time::Duration;

use rdkafka::admin::{AdminClient, AdminOptions, NewTopic, ResourceSpecifier, TopicReplication};
use rdkafka::client::DefaultClientContext;
use rdkafka::config::ClientConfig;

use super::broker::{Broker, kafka_version};
use super::provided;
use super::wait::wait_until;

const LIMIT: Duration = Duration::from_secs(30);

/// The folder of Kafka's jars.
pub(crate) fn libs() -> PathBuf {
    let usual_place = format!("target/kafka-{}/libs", kafka_version().unwrap());
    provided("BRIDGE_TEST_KAFKA_LIBS", &usual_place, "cargo xtask test brokers")
}

/// A Kafka node. An own one ends with this value, also when the test panics or the whole process is killed.
pub(crate) struct Kafka {
    brokers: String,
    /// `None`: started by `cargo xtask test` for the whole run.
    own: Option<Broker>,
    admin: AdminClient<DefaultClientContext>,
}

impl Kafka {
    /// The node that the tests of this process share; each test takes topic and group names of its own.
    pub(crate) fn shared() -> &'static Self {
        static SHARED: OnceLock<Kafka> = OnceLock::new();
        SHARED.get_or_init(|| match std::env::var("BRIDGE_TEST_BROKERS") {
            Ok(brokers) => Self::at(brokers, None),
            Err(_) => Self::start(),
        })
    }

    /// A node of its own, for a test that stops, kills or breaks it. Takes about five seconds.
    pub(crate) fn start() -> Self {
        Self::start_with("")
    }

    /// The same with more lines in the broker's properties.
    pub(crate) fn start_with(properties: &str) -> Self {
        let broker = Broker::start_with(&libs(), None, properties).unwrap_or_else(|error| panic!("no Kafka: {error}"));
        Self::at(broker.address(), Some(broker))
    }

    /// A client of a node that the test itself starts and stops.
    pub(crate) fn of(brokers: &str) -> Self {
        Self::at(brokers.to_owned(), None)
    }

    fn at(brokers: String, own: Option<Broker>) -> Self {
        let admin = ClientConfig::new().set("bootstrap.servers", &brokers).create().unwrap();
        let kafka = Self { brokers, own, admin };
        kafka.wait_until_it_answers();
        kafka
    }

    /// `host:port` for `bootstrap.servers`.
    pub(crate) fn brokers(&self) -> &str {
        &self.brokers
    }

    /// `host:port` of an own node's listener that asks who one is.
    pub(crate) fn sasl_brokers(&self) -> String {
        self.own.as_ref().map(Broker::sasl_address).expect("the node was started by this test")
    }

    /// How many partitions a topic has; 0 where there is none.
    pub(crate) fn partitions(&self, topic: &str) -> usize {
        let metadata = self.admin.inner().fetch_metadata(Some(topic), LIMIT).unwrap();
        metadata.topics().iter().filter(|found| found.error().is_none()).map(|found| found.partitions().len()).sum()
    }

    /// A setting of a topic as it is in effect.
    pub(crate) fn setting(&self, topic: &str, key: &str) -> String {
        let resource = ResourceSpecifier::Topic(topic);
        let asked = self.admin.describe_configs([&resource], &AdminOptions::new());
        let found = block_on(asked).unwrap().remove(0).unwrap_or_else(|error| panic!("topic {topic}: {error}"));
        found.get(key).and_then(|entry| entry.value.clone()).unwrap_or_else(|| panic!("no `{key}` of {topic}"))
    }

    /// Creates a topic and waits until each partition has a leader. `config` holds topic settings such as `max.message.bytes`.
    pub(crate) fn create_topic(&self, name: &str, partitions: i32, config: &[(&str, &str)]) {
        let topic = NewTopic {
            name,
            num_partitions: partitions,
            replication: TopicReplication::Fixed(1),
            config: config.to_vec(),
        };
        let options = AdminOptions::new().operation_timeout(Some(LIMIT)).request_timeout(Some(LIMIT));
        let created = block_on(self.admin.create_topics([&topic], &options)).unwrap();
        for outcome in created {
            outcome.unwrap_or_else(|(topic, error)| panic!("topic {topic}: {error}"));
        }
        let led = wait_until(LIMIT, || self.partitions_with_leader(name) == usize::try_from(partitions).unwrap());
        assert!(led, "topic {name} has no leaders after {} s\n{}", LIMIT.as_secs(), self.log_tail());
    }

    /// Whether the topic exists; asking does not create it.
    pub(crate) fn has_topic(&self, name: &str) -> bool {
        let metadata = self.admin.inner().fetch_metadata(None, LIMIT).unwrap();
        metadata.topics().iter().any(|topic| topic.name() == name)
    }

    /// How many records the topic holds, by its watermarks: true for a topic that is not compacted and not transactional.
    pub(crate) fn count(&self, topic: &str) -> i64 {
        let metadata = self.admin.inner().fetch_metadata(Some(topic), LIMIT).unwrap();
        let partitions = metadata.topics().iter().flat_map(|topic| topic.partitions());
        let counts = partitions.map(|partition| {
            let (low, high) = self.admin.inner().fetch_watermarks(topic, partition.id(), LIMIT).unwrap();
            high - low
        });
        counts.sum()
    }

    /// Ends an own node as a power cut would.
    pub(crate) fn kill9(&mut self) {
        self.own().kill9().unwrap();
    }

    /// Ends an own node in order.
    pub(crate) fn stop(&mut self) {
        self.own().stop().unwrap();
    }

    /// Starts an own node again, with the same address and data, and waits until it answers.
    pub(crate) fn restart(&mut self) {
        self.own().restart().unwrap();
        self.wait_until_it_answers();
    }

    /// The process id of an own node, for SIGSTOP and SIGCONT.
    pub(crate) fn pid(&self) -> u32 {
        self.own.as_ref().and_then(Broker::pid).expect("the node runs, and was started by this test")
    }

    fn own(&mut self) -> &mut Broker {
        self.own.as_mut().expect("the shared node serves other tests; take Kafka::start() for one to stop")
    }

    fn wait_until_it_answers(&self) {
        let answers = || {
            let metadata = self.admin.inner().fetch_metadata(None, Duration::from_secs(5));
            metadata.is_ok_and(|metadata| !metadata.brokers().is_empty())
        };
        assert!(wait_until(LIMIT, answers), "no answer from Kafka at {}\n{}", self.brokers, self.log_tail());
    }

    fn partitions_with_leader(&self, topic: &str) -> usize {
        let Ok(metadata) = self.admin.inner().fetch_metadata(Some(topic), LIMIT) else { return 0 };
        let partitions = metadata.topics().iter().flat_map(|topic| topic.partitions());
        partitions.filter(|partition| partition.error().is_none() && partition.leader() >= 0).count()
    }

    fn log_tail(&self) -> String {
        self.own.as_ref().map(Broker::log_tail).unwrap_or_default()
    }
}

impl Drop for Kafka {
    fn drop(&mut self) {
        if std::thread::panicking() && self.own.is_some() {
            eprintln!("the end of the broker's log:\n{}", self.log_tail());
        }
    }
}

/// The admin client answers from a thread of its own: any runtime does.
fn block_on<T>(future: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread().build().unwrap().block_on(future)
}
