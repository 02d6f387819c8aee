use std::time::Duration;

use portcullis_connector_api::{ConnectorError, ErrorKind};
use rdkafka::ClientConfig;
use rdkafka::config::RDKafkaLogLevel;
use rdkafka::mocking::MockCluster;
use rdkafka::producer::{BaseProducer, Producer};

use crate::{Connection, Topic, failure, native};

/// librdkafka's own test broker, inside this process and on a free port of 127.0.0.1. For `portcullis dev` and tests.
///
/// It forgets: a partition keeps its last 100,000 messages or 5 MB. It has no transactions, no users, no TLS and no
/// administration requests, and it makes a topic with 4 partitions for every name that it is asked for. A group that its
/// last member has left takes the next one only when the session time-out is over.
pub struct TestBroker {
    client: BaseProducer,
}

/// The first broker of the cluster, and mostly the only one.
const BROKER: i32 = 1;

impl TestBroker {
    /// Starts it.
    ///
    /// # Errors
    /// When no port or thread can be had.
    pub fn start() -> Result<Self, ConnectorError> {
        Self::start_several(1)
    }

    /// Starts a cluster of so many.
    ///
    /// # Errors
    /// When no port or thread can be had.
    pub fn start_several(brokers: u16) -> Result<Self, ConnectorError> {
        let mut config = ClientConfig::new();
        config.set("test.mock.num.brokers", brokers.to_string()).set_log_level(RDKafkaLogLevel::Error);
        let client: BaseProducer =
            config.create().map_err(|error| failure::from_rdkafka("cannot start the test broker", &error))?;
        let broker = Self { client };
        broker.cluster()?;
        // Else a group waits 3 s for members that will not come.
        native::set_mock_group_delay(broker.client.client(), 0);
        Ok(broker)
    }

    /// `host:port` for clients, separated by commas.
    ///
    /// # Errors
    /// None that is known.
    pub fn address(&self) -> Result<String, ConnectorError> {
        Ok(self.cluster()?.bootstrap_servers())
    }

    /// How to reach it.
    ///
    /// # Errors
    /// As [`address`](TestBroker::address).
    pub fn connection(&self) -> Result<Connection, ConnectorError> {
        Ok(Connection::plain(self.address()?))
    }

    /// Makes a topic.
    ///
    /// # Errors
    /// When it exists with other partitions, or the name is none.
    pub fn create_topic(&self, topic: &Topic) -> Result<(), ConnectorError> {
        let made = self.cluster()?.create_topic(&topic.name, topic.partitions, 1);
        made.map_err(|error| failure::from_rdkafka(&format!("cannot make topic `{}`", topic.name), &error))
    }

    /// Takes the broker away from its clients, or gives it back with everything it holds.
    ///
    /// # Errors
    /// None that is known.
    pub fn set_reachable(&self, reachable: bool) -> Result<(), ConnectorError> {
        let cluster = self.cluster()?;
        let set = if reachable { cluster.broker_up(BROKER) } else { cluster.broker_down(BROKER) };
        set.map_err(|error| failure::from_rdkafka("cannot switch the test broker", &error))
    }

    /// Lets every answer take so long.
    ///
    /// # Errors
    /// None that is known.
    pub fn set_latency(&self, latency: Duration) -> Result<(), ConnectorError> {
        let set = self.cluster()?.broker_round_trip_time(BROKER, latency);
        set.map_err(|error| failure::from_rdkafka("cannot slow the test broker", &error))
    }

    fn cluster(&self) -> Result<MockCluster<'_, rdkafka::producer::DefaultProducerContext>, ConnectorError> {
        let cluster = self.client.client().mock_cluster();
        cluster.ok_or_else(|| ConnectorError::new(ErrorKind::Fatal, "the test broker did not start"))
    }
}
