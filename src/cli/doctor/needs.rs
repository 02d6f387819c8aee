//! What pipelines and audit need, by the cluster or server that must have it.

#[cfg(feature = "kafka")]
use std::collections::BTreeMap;
use std::path::PathBuf;
#[cfg(feature = "nats")]
use std::time::Duration;

use portcullis_config::{Node, Pipeline};
#[cfg(feature = "kafka")]
use portcullis_connector_kafka as kafka;
#[cfg(feature = "nats")]
use portcullis_connector_nats as nats;

use crate::audit_store::Target;
use crate::connectors::{SinkPlan, SourcePlan};
use crate::plan;

/// All of it.
#[derive(Default)]
pub(super) struct Needs {
    #[cfg(feature = "kafka")]
    pub(super) clusters: Vec<ClusterNeeds>,
    #[cfg(feature = "nats")]
    pub(super) servers: Vec<ServerNeeds>,
    pub(super) audit_file: Option<PathBuf>,
}

/// Of one Kafka cluster, as one principal.
#[cfg(feature = "kafka")]
pub(super) struct ClusterNeeds {
    /// `kafka main (b1:9092)`.
    pub(super) name: String,
    pub(super) connection: kafka::Connection,
    pub(super) topics: BTreeMap<String, Uses>,
    /// Consumer groups, each with the pipelines that it is of.
    pub(super) groups: BTreeMap<String, Vec<String>>,
    /// Ends whose topic is chosen for each message.
    pub(super) templates: Vec<String>,
    /// Clients that a process has of it.
    pub(super) clients: usize,
}

/// What a topic is for.
#[cfg(feature = "kafka")]
#[derive(Clone, Debug, Default)]
pub(super) struct Uses {
    pub(super) source_of: Vec<String>,
    pub(super) sink_of: Vec<String>,
    pub(super) dead_letters_of: Vec<String>,
    pub(super) is_audit: bool,
    /// The largest message that we would send to it.
    pub(super) max_message_bytes: u32,
    /// The topics that messages for it come from: the index of a cluster, and a name.
    pub(super) fed_by: Vec<(usize, String)>,
}

#[cfg(feature = "kafka")]
impl Uses {
    pub(super) fn is_read(&self) -> bool {
        !self.source_of.is_empty()
    }

    pub(super) fn is_written(&self) -> bool {
        self.is_audit || !self.sink_of.is_empty() || !self.dead_letters_of.is_empty()
    }

    /// `source of orders, dead letters of payments`.
    pub(super) fn words(&self) -> String {
        let named = [("source", &self.source_of), ("sink", &self.sink_of), ("dead letters", &self.dead_letters_of)];
        let of = |(role, pipelines): (&str, &Vec<String>)| match pipelines.is_empty() {
            true => None,
            false => Some(format!("{role} of {}", pipelines.join(" and "))),
        };
        let roles = named.into_iter().filter_map(of).chain(self.is_audit.then(|| "audit".to_owned()));
        roles.collect::<Vec<_>>().join(", ")
    }
}

/// Of the servers of one NATS connection.
#[cfg(feature = "nats")]
pub(super) struct ServerNeeds {
    pub(super) connection: nats::Connection,
    pub(super) uses: Vec<(String, NatsUse)>,
}

/// One end on NATS.
#[cfg(feature = "nats")]
pub(super) enum NatsUse {
    Consumer(Box<nats::JetStreamSourceSettings>),
    Stream(Box<nats::JetStreamSinkSettings>),
    Subscription(Box<nats::CoreSourceSettings>),
    Subject(Box<nats::CoreSinkSettings>),
}

impl Needs {
    /// What cannot be completed is left out: the plan has refused it, at its place.
    pub(super) fn of(node: &Node, pipelines: &[Pipeline]) -> Self {
        let mut needs = Self::default();
        for pipeline in pipelines {
            let owner = plan::owner(pipeline);
            #[cfg(feature = "kafka")]
            let mut sources = Vec::new();
            for source in &pipeline.sources {
                let Ok(resolved) = SourcePlan::resolve(source, node, None) else { continue };
                match resolved {
                    #[cfg(feature = "kafka")]
                    SourcePlan::Kafka(settings) => {
                        sources.extend(needs.kafka_source(pipeline, source_cluster(&source.value), *settings));
                    }
                    #[cfg(feature = "nats")]
                    SourcePlan::JetStream(settings) => {
                        let connection = settings.connection.clone();
                        needs.server(connection, format!("source of {owner}"), NatsUse::Consumer(settings));
                    }
                    #[cfg(feature = "nats")]
                    SourcePlan::Nats(settings) => {
                        let connection = settings.connection.clone();
                        needs.server(connection, format!("source of {owner}"), NatsUse::Subscription(settings));
                    }
                    SourcePlan::Local(_) => {}
                }
            }
            for (sink, is_letters) in [(Some(&pipeline.sink), false), (pipeline.dead_letter.as_ref(), true)].into_iter()
            {
                let Some(sink) = sink else { continue };
                let Ok(resolved) = SinkPlan::resolve(sink, node, None, &[], &owner) else { continue };
                #[cfg(feature = "nats")]
                let role = format!("{} of {owner}", if is_letters { "dead letters" } else { "sink" });
                match resolved {
                    #[cfg(feature = "kafka")]
                    SinkPlan::Kafka(settings) => {
                        needs.kafka_sink(pipeline, is_letters, sink_cluster(&sink.value), *settings, &sources);
                    }
                    #[cfg(feature = "nats")]
                    SinkPlan::JetStream(settings) => {
                        needs.server(settings.connection.clone(), role, NatsUse::Stream(settings));
                    }
                    #[cfg(feature = "nats")]
                    SinkPlan::Nats(settings) => {
                        needs.server(settings.connection.clone(), role, NatsUse::Subject(settings));
                    }
                    SinkPlan::Local(_) => {}
                }
            }
        }
        needs.audit(node);
        needs
    }

    /// One connection for each end.
    pub(super) fn nats_clients(&self) -> usize {
        #[cfg(feature = "nats")]
        return self.servers.iter().map(|server| server.uses.len()).sum();
        #[cfg(not(feature = "nats"))]
        0
    }

    fn audit(&mut self, node: &Node) {
        match Target::of(node) {
            Ok(Target::File(path)) => self.audit_file = Some(path),
            #[cfg(feature = "kafka")]
            Ok(Target::Topic(connection, topic)) => {
                let typed = node.audit.target.as_ref().and_then(|target| match &target.value {
                    portcullis_config::AuditTarget::Topic(audit) => Some(&audit.connection.cluster),
                    portcullis_config::AuditTarget::File(_) => None,
                });
                let settings = kafka::SinkSettings::new(*connection, kafka::TopicRule::Fixed(topic.clone()));
                let max_message_bytes = settings.max_message_bytes;
                let index = self.cluster(typed, settings.connection);
                self.used(index, topic, |uses| {
                    uses.is_audit = true;
                    uses.max_message_bytes = uses.max_message_bytes.max(max_message_bytes);
                });
            }
            Err(_) => {}
        }
    }
}

#[cfg(feature = "kafka")]
impl Needs {
    fn kafka_source(
        &mut self,
        pipeline: &Pipeline,
        typed: Option<&portcullis_config::Cluster>,
        settings: kafka::SourceSettings,
    ) -> Vec<(usize, String)> {
        let index = self.cluster(typed, settings.connection);
        let name = &pipeline.name.value;
        if let Some(cluster) = self.clusters.get_mut(index) {
            add(cluster.groups.entry(settings.group).or_default(), name);
        }
        for topic in &settings.topics {
            self.used(index, topic.clone(), |uses| add(&mut uses.source_of, name));
        }
        settings.topics.into_iter().map(|topic| (index, topic)).collect()
    }

    fn kafka_sink(
        &mut self,
        pipeline: &Pipeline,
        is_letters: bool,
        typed: Option<&portcullis_config::Cluster>,
        settings: kafka::SinkSettings,
        sources: &[(usize, String)],
    ) {
        let index = self.cluster(typed, settings.connection);
        let name = &pipeline.name.value;
        let topic = match settings.topic {
            kafka::TopicRule::Fixed(topic) => topic,
            kafka::TopicRule::Each(_) => {
                let role = if is_letters { "dead letters" } else { "sink" };
                if let Some(cluster) = self.clusters.get_mut(index) {
                    cluster.templates.push(format!("{role} of {name}"));
                }
                return;
            }
        };
        self.used(index, topic, |uses| {
            add(if is_letters { &mut uses.dead_letters_of } else { &mut uses.sink_of }, name);
            uses.max_message_bytes = uses.max_message_bytes.max(settings.max_message_bytes);
            uses.fed_by.extend_from_slice(sources);
        });
    }

    /// The index of this cluster, and one client more of it.
    fn cluster(&mut self, typed: Option<&portcullis_config::Cluster>, connection: kafka::Connection) -> usize {
        let known = self.clusters.iter().position(|known| is_same(&known.connection, &connection));
        let index = known.unwrap_or_else(|| {
            let user = connection.sasl.as_ref().map(|sasl| format!(" as {}", sasl.username)).unwrap_or_default();
            let brokers = &connection.brokers;
            let name = match typed {
                Some(portcullis_config::Cluster::Profile(profile)) => {
                    format!("kafka {} ({brokers}{user})", profile.value)
                }
                _ => format!("kafka {brokers}{user}"),
            };
            self.clusters.push(ClusterNeeds {
                name,
                connection,
                topics: BTreeMap::new(),
                groups: BTreeMap::new(),
                templates: Vec::new(),
                clients: 0,
            });
            self.clusters.len() - 1
        });
        if let Some(cluster) = self.clusters.get_mut(index) {
            cluster.clients += 1;
        }
        index
    }

    fn used(&mut self, index: usize, topic: String, add: impl FnOnce(&mut Uses)) {
        if let Some(cluster) = self.clusters.get_mut(index) {
            add(cluster.topics.entry(topic).or_default());
        }
    }
}

#[cfg(feature = "kafka")]
fn add(names: &mut Vec<String>, name: &str) {
    if !names.iter().any(|known| known == name) {
        names.push(name.to_owned());
    }
}

/// Whether both are one principal at one cluster: rights are a principal's.
#[cfg(feature = "kafka")]
fn is_same(one: &kafka::Connection, other: &kafka::Connection) -> bool {
    let tls = |connection: &kafka::Connection| {
        connection.tls.as_ref().map(|tls| (tls.ca.clone(), tls.cert.clone(), tls.key.clone()))
    };
    let user = |connection: &kafka::Connection| {
        connection.sasl.as_ref().map(|sasl| (sasl.mechanism.clone(), sasl.username.clone(), sasl.password.clone()))
    };
    one.brokers == other.brokers
        && tls(one) == tls(other)
        && user(one) == user(other)
        && one.passthrough == other.passthrough
}

#[cfg(feature = "kafka")]
fn source_cluster(source: &portcullis_config::Source) -> Option<&portcullis_config::Cluster> {
    match source {
        portcullis_config::Source::Kafka(kafka) => Some(&kafka.connection.cluster),
        _ => None,
    }
}

#[cfg(feature = "kafka")]
fn sink_cluster(sink: &portcullis_config::Sink) -> Option<&portcullis_config::Cluster> {
    match sink {
        portcullis_config::Sink::Kafka(kafka) => Some(&kafka.connection.cluster),
        _ => None,
    }
}

#[cfg(feature = "nats")]
impl Needs {
    /// Instead of what each connection says itself.
    pub(super) fn ask_servers_within(&mut self, wait: Duration) {
        for server in &mut self.servers {
            server.connection.timeout = wait;
            for (_, used) in &mut server.uses {
                match used {
                    NatsUse::Consumer(settings) => settings.connection.timeout = wait,
                    NatsUse::Stream(settings) => settings.connection.timeout = wait,
                    NatsUse::Subscription(settings) => settings.connection.timeout = wait,
                    NatsUse::Subject(settings) => settings.connection.timeout = wait,
                }
            }
        }
    }

    fn server(&mut self, connection: nats::Connection, role: String, used: NatsUse) {
        // Two that differ only in a secret are asked as two.
        let same = |known: &&mut ServerNeeds| {
            let text = |connection: &nats::Connection| {
                format!("{:?} {:?} {:?}", connection.servers, connection.tls, connection.domain)
            };
            let secret = match (&known.connection.auth, &connection.auth) {
                (None, None) => true,
                (Some(nats::Auth::Token(one)), Some(nats::Auth::Token(other))) => one == other,
                (
                    Some(nats::Auth::Password { user, password }),
                    Some(nats::Auth::Password { user: other, password: others }),
                ) => user == other && password == others,
                (Some(nats::Auth::Credentials(one)), Some(nats::Auth::Credentials(other)))
                | (Some(nats::Auth::NkeySeed(one)), Some(nats::Auth::NkeySeed(other))) => one == other,
                _ => false,
            };
            secret && text(&known.connection) == text(&connection)
        };
        match self.servers.iter_mut().find(same) {
            Some(known) => known.uses.push((role, used)),
            None => self.servers.push(ServerNeeds { connection, uses: vec![(role, used)] }),
        }
    }
}
