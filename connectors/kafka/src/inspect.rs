//! What a cluster says of itself, its topics and our rights, for whoever looks before a start. Nothing here reads or writes a
//! message.

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use portcullis_connector_api::{ConnectorError, ErrorKind};
use rdkafka::admin::AdminClient;
use rdkafka::bindings::rd_kafka_AclOperation_t as operation;
use rdkafka::client::{ClientContext, DefaultClientContext};
use rdkafka::types::RDKafkaErrorCode as Code;

use crate::admin::{self, Topic};
use crate::native::{Describer, ErrorCallback, Group, NoAnswer, Operations};
use crate::settings::Connection;
use crate::{client_config, failure};

/// A first answer is asked for in pieces of this time, so that a refused password ends the wait.
const ATTEMPT: Duration = Duration::from_secs(2);
const ASK_AGAIN: Duration = Duration::from_millis(100);

/// A cluster.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClusterFacts {
    /// Its id; empty where it has none.
    pub id: String,
    /// Its brokers as it advertises them.
    pub brokers: Vec<BrokerFacts>,
}

/// One broker of a cluster.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BrokerFacts {
    /// Its number.
    pub id: i32,
    /// Where clients are sent to.
    pub host: String,
    /// Its port.
    pub port: u16,
}

/// A topic that was asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TopicFacts {
    /// Its name.
    pub name: String,
    /// What was found.
    pub found: Found,
}

/// What a cluster says of a topic.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Found {
    /// It is there.
    There(TopicState),
    /// There is none of this name.
    Missing,
    /// We may not know whether it is there.
    Hidden,
    /// Anything else, in the broker's words.
    Failed(String),
}

/// A topic that is there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TopicState {
    /// How many partitions.
    pub partitions: usize,
    /// How many of them have no leader, so that nobody reads or writes them.
    pub leaderless: usize,
    /// Copies of the partition that has fewest.
    pub replicas: usize,
    /// Copies that are up to date, of the partition that has fewest.
    pub in_sync: usize,
    /// What we may do; `None` where the broker does not say.
    pub rights: Option<Rights>,
}

/// What the broker lets us do.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Rights {
    /// Read messages, or be a member of the group.
    pub read: bool,
    /// Write messages.
    pub write: bool,
    /// Delete it, or records of it.
    pub delete: bool,
    /// Change its settings.
    pub alter_configs: bool,
}

/// A consumer group.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GroupFacts {
    /// Its members at this moment.
    pub members: usize,
    /// What we may do; `None` where the broker does not say.
    pub rights: Option<Rights>,
}

/// The settings of a topic by name, as they are in effect.
pub type Settings = BTreeMap<String, String>;

/// Why something cannot be seen.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Unseen {
    /// The broker refuses the question.
    NotAuthorized,
    /// Anything else.
    Failed(String),
}

/// What became of a topic that was to be made.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Made {
    /// It was made.
    Made,
    /// It was there already.
    Existed,
    /// The cluster does not make it, in its words.
    Refused(String),
}

/// Asks one cluster.
pub struct Inspector {
    describer: Describer<Notes>,
    admin: AdminClient<DefaultClientContext>,
    brokers: String,
}

impl Inspector {
    /// Makes the clients. Nothing is reached yet.
    ///
    /// # Errors
    /// `Configuration` for a setting that librdkafka refuses, such as a file that cannot be read.
    pub fn new(connection: &Connection) -> Result<Self, ConnectorError> {
        let mut config = client_config::connection(connection)?;
        config.set("allow.auto.create.topics", "false");
        let admin = config.create().map_err(|error| failure::from_rdkafka("cannot make a Kafka client", &error))?;
        let describer = Describer::new(&config, Notes::default())?;
        Ok(Self { describer, admin, brokers: connection.brokers.clone() })
    }

    /// The cluster, once one of its brokers answers.
    ///
    /// # Errors
    /// When none does within `wait`, with the last that the client found out; at once when it is refused who we are.
    pub fn cluster(&self, wait: Duration) -> Result<ClusterFacts, ConnectorError> {
        let deadline = Instant::now() + wait;
        loop {
            let left = deadline.saturating_duration_since(Instant::now());
            let answer = self.describer.cluster(left.min(ATTEMPT));
            let reason = self.describer.context().last();
            let failed = match answer {
                Ok(found) => {
                    let broker = |(id, host, port)| BrokerFacts { id, host, port };
                    return Ok(ClusterFacts { id: found.id, brokers: found.brokers.into_iter().map(broker).collect() });
                }
                Err(failed) => failed,
            };
            let (code, reason) = reason.unwrap_or((failed.code, failed.reason));
            let refused = failure::kind(code) == ErrorKind::Configuration;
            if refused || Instant::now() >= deadline {
                return Err(failure::error(code, format!("no answer from `{}`: {reason}", self.brokers)));
            }
        }
    }

    /// Topics by name, in this order. Asking makes none of them.
    ///
    /// # Errors
    /// When nobody answers within `wait`.
    pub fn topics(&self, names: &[String], wait: Duration) -> Result<Vec<TopicFacts>, ConnectorError> {
        if names.is_empty() {
            return Ok(Vec::new());
        }
        let found = self.describer.topics(names, wait).map_err(|failed| self.unanswered("topics", &failed))?;
        let facts = found.into_iter().map(|topic| {
            let found = match topic.error {
                None => Found::There(TopicState {
                    partitions: topic.partitions.len(),
                    leaderless: topic.partitions.iter().filter(|(has_leader, ..)| !has_leader).count(),
                    replicas: topic.partitions.iter().map(|(_, replicas, _)| *replicas).min().unwrap_or(0),
                    in_sync: topic.partitions.iter().map(|(.., in_sync)| *in_sync).min().unwrap_or(0),
                    rights: topic.operations.map(rights),
                }),
                Some(Code::UnknownTopicOrPartition | Code::UnknownTopic) => Found::Missing,
                Some(Code::TopicAuthorizationFailed) => Found::Hidden,
                Some(code) => Found::Failed(format!("{code} ({code:?})")),
            };
            TopicFacts { name: topic.name, found }
        });
        Ok(facts.collect())
    }

    /// A consumer group; one that nobody has used yet has no members.
    ///
    /// # Errors
    /// When the broker refuses the question, or nobody answers within `wait`.
    pub fn group(&self, name: &str, wait: Duration) -> Result<GroupFacts, Unseen> {
        let deadline = Instant::now() + wait;
        loop {
            let left = deadline.saturating_duration_since(Instant::now());
            let answer = self.describer.group(name, left);
            let (code, reason) = match answer {
                Ok(Group { error: None, members, operations }) => {
                    return Ok(GroupFacts { members, rights: operations.map(rights) });
                }
                Ok(Group { error: Some(code), .. }) => (code, code.to_string()),
                Err(NoAnswer { code, reason }) => (code, reason),
            };
            // A cluster finds its first coordinator when the first group is asked for, and says so meanwhile.
            let is_under_way =
                matches!(code, Code::NotCoordinator | Code::CoordinatorNotAvailable | Code::CoordinatorLoadInProgress);
            if code == Code::GroupAuthorizationFailed {
                return Err(Unseen::NotAuthorized);
            }
            if !is_under_way || Instant::now() >= deadline {
                return Err(Unseen::Failed(format!("{reason} ({code:?})")));
            }
            std::thread::sleep(ASK_AGAIN);
        }
    }

    /// The settings of a topic that is there.
    ///
    /// # Errors
    /// When the broker refuses the question, or nobody answers within `wait`.
    pub fn settings(&self, topic: &str, wait: Duration) -> Result<Settings, Unseen> {
        match self.describer.settings(topic, wait) {
            Ok(settings) => Ok(settings.into_iter().collect()),
            Err(NoAnswer { code: Code::TopicAuthorizationFailed | Code::ClusterAuthorizationFailed, .. }) => {
                Err(Unseen::NotAuthorized)
            }
            Err(failed) => Err(Unseen::Failed(format!("{} ({:?})", failed.reason, failed.code))),
        }
    }

    /// Makes topics and says what became of each. One that is there stays as it is.
    ///
    /// # Errors
    /// When nobody answers within `wait`; whether a topic was made is then not known.
    pub fn create(&self, topics: &[Topic], wait: Duration) -> Result<Vec<(String, Made)>, ConnectorError> {
        let results = admin::create(&self.admin, topics, wait)?;
        let made = results.into_iter().map(|result| match result {
            Ok(name) => (name, Made::Made),
            Err((name, Code::TopicAlreadyExists)) => (name, Made::Existed),
            Err((name, code)) => (name, Made::Refused(format!("{code} ({code:?})"))),
        });
        Ok(made.collect())
    }

    fn unanswered(&self, what: &str, failed: &NoAnswer) -> ConnectorError {
        let (code, reason) = (failed.code, &failed.reason);
        failure::error(code, format!("no answer about {what} from `{}`: {reason}", self.brokers))
    }
}

/// The library, as it says itself.
pub fn librdkafka_version() -> String {
    rdkafka::util::get_rdkafka_version().1
}

fn rights(found: Operations) -> Rights {
    Rights {
        read: found.has(operation::RD_KAFKA_ACL_OPERATION_READ),
        write: found.has(operation::RD_KAFKA_ACL_OPERATION_WRITE),
        delete: found.has(operation::RD_KAFKA_ACL_OPERATION_DELETE),
        alter_configs: found.has(operation::RD_KAFKA_ACL_OPERATION_ALTER_CONFIGS),
    }
}

/// The last that went wrong with the client as a whole: it says more than "no answer".
#[derive(Default)]
struct Notes {
    last: Mutex<Option<(Code, String)>>,
}

impl Notes {
    fn last(&self) -> Option<(Code, String)> {
        self.last.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

impl ClientContext for Notes {}

impl ErrorCallback for Notes {
    fn failed(&self, code: Code, reason: &str, _fatal: bool) {
        // "all brokers are down" follows the reason why they are.
        if code == Code::AllBrokersDown {
            return;
        }
        *self.last.lock().unwrap_or_else(PoisonError::into_inner) = Some((code, reason.to_owned()));
    }
}
