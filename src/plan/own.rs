//! What belongs to the bridge itself: the brokers that were typed, those that their clusters have beside them, the admin listener
//! and the addresses of this machine. No plugin reaches any of it, whatever it was granted.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, ToSocketAddrs};
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use portcullis_config::{AuditTarget, Cluster, KafkaConnection, NatsConnection, Node, Pipeline, Profile};
use portcullis_policy::{Host, OwnEndpoints, parse_host};

use crate::connectors::Instead;

/// What a Kafka client takes where no port was typed.
const KAFKA_PORT: u16 = 9092;
/// What a NATS client takes where no port was typed.
const NATS_PORT: u16 = 4222;
/// How long the names of brokers may take together: behind it, those that are left are known by name only.
const LOOKUPS: Duration = Duration::from_secs(10);

/// Endpoints of the bridge by text. They are looked up when a network is opened: brokers move.
#[derive(Clone, Debug, Default)]
pub(super) struct OwnText {
    /// `host:port`, as bootstrap lists have them.
    endpoints: Vec<String>,
    admin: Option<SocketAddr>,
    /// The same endpoints with what each is.
    named: Vec<Named>,
    #[cfg(feature = "kafka")]
    clusters: Vec<portcullis_connector_kafka::Connection>,
    /// What the clusters say, asked once for all plugins of this process.
    advertised: Arc<OnceLock<Vec<(String, u16)>>>,
}

/// An endpoint with what it is to the bridge.
#[derive(Clone, Debug)]
struct Named {
    /// `host:port`, as it was typed.
    endpoint: String,
    what: String,
}

impl OwnText {
    /// Of everything that the pipelines and the audit connect to or listen on.
    pub(super) fn of(node: &Node, pipelines: &[Pipeline], instead: Option<&Instead>) -> Self {
        let audit = match node.audit.target.as_ref().map(|target| &target.value) {
            Some(AuditTarget::Topic(audit)) => Some(&audit.connection),
            _ => None,
        };
        let used = || pipelines.iter().flat_map(portcullis_config::connections);
        let profiles = || node.profiles.values().map(|profile| &profile.value);
        let typed = profiles().filter_map(Profile::kafka).chain(used()).chain(audit);
        let mut endpoints: Vec<String> = typed
            .filter_map(|connection| match &connection.cluster {
                Cluster::Brokers(brokers) => Some(brokers.as_str()),
                Cluster::Profile(_) => None,
            })
            .flat_map(|brokers| brokers.split(','))
            .map(|broker| broker.trim().to_owned())
            .collect();
        let nats = pipelines.iter().flat_map(portcullis_config::nats_connections);
        endpoints.extend(profiles().filter_map(Profile::nats).chain(nats).flat_map(nats_endpoints));
        endpoints.extend(instead.into_iter().flat_map(Instead::endpoints));
        let listen = node.admin.listen.value;
        Self {
            endpoints,
            admin: (listen.port() != 0).then_some(listen),
            named: named(node, pipelines, instead),
            #[cfg(feature = "kafka")]
            clusters: clusters(node, used(), audit, instead),
            advertised: Arc::default(),
        }
    }

    /// As they were typed: no name is looked up, no cluster is asked.
    pub(super) fn typed(&self) -> OwnEndpoints {
        self.endpoints(&[], false)
    }

    /// With the addresses of the names, resolved the way the Kafka client resolves them. A name that has no address now is still
    /// refused as a name.
    pub(super) fn looked_up(&self) -> OwnEndpoints {
        self.endpoints(&[], true)
    }

    /// With every broker that the clusters advertise. A bootstrap list names a few of them, and the client is sent on to the rest.
    pub(super) fn complete(&self) -> OwnEndpoints {
        self.endpoints(self.advertised.get_or_init(|| self.ask()), true)
    }

    /// Which endpoint of the bridge a request runs into: by its name, or by an address of it.
    pub(super) fn which(&self, host: &str, address: Option<IpAddr>, port: u16) -> Option<String> {
        let asked = bare(host);
        let address = address.or_else(|| asked.parse().ok()).map(|address| address.to_canonical());
        let found = self.named.iter().find(|named| {
            host_and_port(&named.endpoint).is_some_and(|(host, own)| {
                let host = bare(host);
                let known =
                    if is_localhost(host) { Some(Ipv4Addr::LOCALHOST.into()) } else { host.parse::<IpAddr>().ok() };
                let is_near = |known: IpAddr| {
                    let local = known.is_loopback() || known.is_unspecified();
                    address.is_some_and(|address| address == known.to_canonical() || local && address.is_loopback())
                };
                own == port && (host.eq_ignore_ascii_case(asked.trim_end_matches('.')) || known.is_some_and(is_near))
            })
        });
        let interface = || address.filter(|address| interfaces().contains(address));
        found.map(|named| format!("{} is {}", named.endpoint, named.what)).or_else(|| {
            let address = interface()?;
            Some(format!("{address} is an address of this machine, whose services no plugin reaches"))
        })
    }

    #[cfg(feature = "kafka")]
    fn ask(&self) -> Vec<(String, u16)> {
        advertised(&self.clusters)
    }

    #[cfg(not(feature = "kafka"))]
    fn ask(&self) -> Vec<(String, u16)> {
        Vec::new()
    }

    fn endpoints(&self, advertised: &[(String, u16)], look_up: bool) -> OwnEndpoints {
        let mut own = OwnEndpoints { interfaces: interfaces(), ..OwnEndpoints::default() };
        own.sockets.extend(self.admin);
        let mut all: Vec<(&str, u16)> = self.endpoints.iter().filter_map(|text| host_and_port(text)).collect();
        all.extend(advertised.iter().map(|(host, port)| (host.as_str(), *port)));
        all.sort_unstable();
        all.dedup();
        let until = Instant::now() + LOOKUPS;
        let mut left_out = 0_usize;
        for (host, port) in all {
            add(&mut own, host, port);
            let is_address = bare(host).parse::<IpAddr>().is_ok();
            if !look_up || is_address {
                continue;
            }
            if Instant::now() >= until {
                left_out += 1;
            } else if let Ok(addresses) = (host, port).to_socket_addrs() {
                own.sockets.extend(addresses);
            }
        }
        if left_out > 0 {
            let within = LOOKUPS.as_secs();
            tracing::warn!(
                left_out,
                within,
                "names of brokers were not looked up: plugins are kept from the names only"
            );
        }
        own
    }
}

/// What every endpoint is to the bridge, with the place where it was typed.
fn named(node: &Node, pipelines: &[Pipeline], instead: Option<&Instead>) -> Vec<Named> {
    let kafka = |connection: &portcullis_config::KafkaConnection, what: &str| -> Vec<Named> {
        let Cluster::Brokers(brokers) = &connection.cluster else { return Vec::new() };
        let of = |broker: &str| Named {
            endpoint: broker.trim().to_owned(),
            what: format!("a Kafka broker of {what} ({})", brokers.at),
        };
        brokers.split(',').map(of).collect()
    };
    let nats = |connection: &NatsConnection, what: &str| -> Vec<Named> {
        let at = connection.servers().first().map(|server| server.at.to_string()).unwrap_or_default();
        let what = format!("a NATS server of {what} ({at})");
        nats_endpoints(connection).map(|endpoint| Named { endpoint, what: what.clone() }).collect()
    };
    let admin = &node.admin.listen;
    let place = admin.at.as_ref().map_or_else(|| "the default".to_owned(), ToString::to_string);
    let mut all = vec![Named { endpoint: admin.value.to_string(), what: format!("the admin endpoint ({place})") }];
    if let Some(AuditTarget::Topic(audit)) = node.audit.target.as_ref().map(|target| &target.value) {
        all.extend(kafka(&audit.connection, "the audit topic"));
    }
    for (name, profile) in &node.profiles {
        let what = format!("profile `{name}`");
        all.extend(profile.value.kafka().into_iter().flat_map(|connection| kafka(connection, &what)));
        all.extend(profile.value.nats().into_iter().flat_map(|connection| nats(connection, &what)));
    }
    for pipeline in pipelines {
        let what = format!("pipeline `{}`", pipeline.name.value);
        all.extend(portcullis_config::connections(pipeline).flat_map(|connection| kafka(connection, &what)));
        all.extend(portcullis_config::nats_connections(pipeline).flat_map(|connection| nats(connection, &what)));
    }
    let given = instead.into_iter().flat_map(Instead::endpoints);
    all.extend(given.map(|endpoint| Named { endpoint, what: "the broker that the command line names".to_owned() }));
    all
}

fn add(own: &mut OwnEndpoints, host: &str, port: u16) {
    if let Ok(address) = bare(host).parse::<IpAddr>() {
        own.sockets.push(SocketAddr::new(address, port));
    } else if let Ok(Host::Name(name)) = parse_host(host) {
        own.names.push((name, port));
    } else if is_localhost(host) {
        // No name for a plugin, so only its addresses matter; they are the same without a lookup.
        let both: [IpAddr; 2] = [Ipv4Addr::LOCALHOST.into(), Ipv6Addr::LOCALHOST.into()];
        own.sockets.extend(both.map(|address| SocketAddr::new(address, port)));
    }
}

/// An endpoint of a bootstrap list, as the Kafka client reads it: an IPv6 address stands in brackets where a port follows.
fn host_and_port(text: &str) -> Option<(&str, u16)> {
    match text.rsplit_once(':') {
        Some((host, port)) if !host.contains(':') || host.ends_with(']') => Some((host, port.parse().ok()?)),
        _ => Some((text, KAFKA_PORT)),
    }
}

/// The servers of a NATS connection with their ports.
fn nats_endpoints(connection: &NatsConnection) -> impl Iterator<Item = String> {
    connection.servers().iter().map(|server| {
        let endpoint = server.split_once("://").map_or(server.as_str(), |(_, endpoint)| endpoint);
        let has_port = endpoint.rsplit_once(':').is_some_and(|(host, _)| !host.contains(':') || host.ends_with(']'));
        if has_port { endpoint.to_owned() } else { format!("{endpoint}:{NATS_PORT}") }
    })
}

fn bare(host: &str) -> &str {
    host.trim_matches(['[', ']'])
}

fn is_localhost(host: &str) -> bool {
    let host = host.trim_end_matches('.').to_ascii_lowercase();
    host == "localhost" || host.ends_with(".localhost")
}

/// The addresses of this machine but loopback ones, which are a special range anyway. A loopback device may have others.
fn interfaces() -> Vec<IpAddr> {
    let found = if_addrs::get_if_addrs().unwrap_or_default();
    found.into_iter().map(|interface| interface.ip()).filter(|address| !address.is_loopback()).collect()
}

/// The clusters that the bridge speaks to, none twice.
#[cfg(feature = "kafka")]
fn clusters<'a>(
    node: &Node,
    used: impl Iterator<Item = &'a KafkaConnection>,
    audit: Option<&'a KafkaConnection>,
    instead: Option<&Instead>,
) -> Vec<portcullis_connector_kafka::Connection> {
    let at = portcullis_config::Location::of("brokers");
    let mut clusters: Vec<portcullis_connector_kafka::Connection> = Vec::new();
    for (typed, instead) in used.map(|typed| (typed, instead)).chain(audit.map(|typed| (typed, None))) {
        // What cannot be resolved is refused elsewhere, at its place.
        let Ok(mut connection) = crate::connectors::kafka_connection(&at, typed, node) else { continue };
        match instead {
            Some(Instead::Cluster(brokers)) => connection.brokers.clone_from(brokers),
            // It is all there is of its cluster.
            Some(Instead::TestBroker(_)) => continue,
            None => {}
        }
        let user = |connection: &portcullis_connector_kafka::Connection| {
            (connection.brokers.clone(), connection.sasl.as_ref().map(|sasl| sasl.username.clone()))
        };
        if !clusters.iter().any(|known| user(known) == user(&connection)) {
            clusters.push(connection);
        }
    }
    clusters
}

/// The brokers of all clusters. One that does not answer is passed over: its sources and sinks wait for it, and nothing else does.
#[cfg(feature = "kafka")]
fn advertised(clusters: &[portcullis_connector_kafka::Connection]) -> Vec<(String, u16)> {
    use portcullis_connector_kafka::advertised_brokers;

    /// For one cluster; all are asked at the same time.
    const ANSWER: Duration = Duration::from_secs(5);

    std::thread::scope(|scope| {
        let ask = |connection| {
            let asked = std::thread::Builder::new().name("brokers".to_owned());
            (connection, asked.spawn_scoped(scope, move || advertised_brokers(connection, ANSWER)))
        };
        let asked: Vec<_> = clusters.iter().map(ask).collect();
        let mut all = Vec::new();
        for (connection, answer) in asked {
            let error = match answer.map(std::thread::ScopedJoinHandle::join) {
                Ok(Ok(Ok(brokers))) => {
                    all.extend(brokers);
                    continue;
                }
                Ok(Ok(Err(error))) => error.to_string(),
                Ok(Err(_)) => "the request panicked".to_owned(),
                Err(error) => error.to_string(),
            };
            let brokers = &connection.brokers;
            tracing::warn!(%brokers, error, "plugins are kept from the typed brokers of a cluster only: it was not told which others it has");
        }
        all
    })
}

#[cfg(test)]
mod tests {
    use portcullis_policy::{Decision, Facts, Policy, PolicyParts, Reason, Request, Rule, RuleText, decide};

    use super::*;

    fn refused(own: OwnEndpoints, to: SocketAddr) -> Option<Reason> {
        let net = if to.is_ipv4() { format!("{}", to.ip()) } else { format!("[{}]", to.ip()) };
        let allow = format!("tcp://{net}:{}", to.port());
        let rules = vec![Rule::parse(&RuleText { allow: &allow, ..RuleText::default() }).unwrap()];
        let consent = vec!["127.0.0.0/8".parse().unwrap(), "::1/128".parse().unwrap()];
        let policy = Policy::new(PolicyParts { rules, consent, own, ..PolicyParts::default() });
        let facts = Facts { now_ms: 0, pins: &[], exhausted: None };
        match decide(&policy, &Request::Connect { to }, &facts) {
            Decision::Allow(_) => None,
            Decision::Deny(denied) => Some(denied.reason),
        }
    }

    fn typed(endpoint: &str) -> OwnText {
        OwnText { endpoints: vec![endpoint.to_owned()], ..OwnText::default() }
    }

    #[test]
    fn every_form_of_an_endpoint_is_known_without_a_lookup() {
        for (endpoint, to) in [
            ("93.184.216.34:9093", "93.184.216.34:9093"),
            ("93.184.216.34", "93.184.216.34:9092"),
            ("[2606:2800::1]:9093", "[2606:2800::1]:9093"),
            ("[2606:2800::1]", "[2606:2800::1]:9092"),
            ("2606:2800::1", "[2606:2800::1]:9092"),
            ("localhost:9093", "127.0.0.9:9093"),
            ("LocalHost:9093", "[::1]:9093"),
            ("kafka.localhost.", "127.0.0.1:9092"),
        ] {
            let to: SocketAddr = to.parse().unwrap();
            assert_eq!(refused(typed(endpoint).typed(), to), Some(Reason::AddrSelf), "{endpoint}");
            let other = SocketAddr::new(to.ip(), 9999);
            assert_eq!(refused(typed(endpoint).typed(), other), None, "{endpoint}");
        }
        let own = typed("broker.example.com").typed();
        assert_eq!(
            own.names.iter().map(|(name, port)| (name.as_str(), *port)).collect::<Vec<_>>(),
            [("broker.example.com", 9092)]
        );
    }

    #[test]
    fn the_servers_of_nats_are_own_endpoints_with_their_port() {
        let servers = "[nats://10.1.2.3, 'tls://[2606:2800::1]', nats://n.example.com:4333]";
        let text = format!(
            "pipeline: p\nsource: {{ nats: {{ servers: {servers}, subjects: a }} }}\nsink: {{ stdio: }}\ndead_letter: {{ jetstream: {{ servers: nats://10.1.2.4:4224, subject: d }} }}\n"
        );
        let environment = portcullis_config::NoEnvironment;
        let pipeline =
            portcullis_config::load_pipeline(std::path::Path::new("p.yaml"), text.as_bytes(), &environment).unwrap();
        // What a profile names is out of reach also while no pipeline uses it.
        let node = "brokers: { main: { nats: { servers: nats://10.1.2.5:4333 } } }\n";
        let file = Some((std::path::Path::new("n.yaml"), node.as_bytes()));
        let node = portcullis_config::load_node(file, &environment, &portcullis_config::Flags::new()).unwrap();
        let own = || OwnText::of(&node, std::slice::from_ref(&pipeline), None).typed();
        for server in ["10.1.2.3:4222", "[2606:2800::1]:4222", "10.1.2.4:4224", "10.1.2.5:4333"] {
            assert!(own().sockets.contains(&server.parse().unwrap()), "{server}");
        }
        assert!(own().names.iter().any(|(name, port)| (name.as_str(), *port) == ("n.example.com", 4333)));
    }

    #[test]
    fn a_name_that_leads_to_loopback_protects_all_of_it() {
        // The system resolves it, whatever else it is for the policy.
        let own = typed("localhost:9092").looked_up();
        assert_eq!(refused(own, "127.0.0.44:9092".parse().unwrap()), Some(Reason::AddrSelf));
    }

    #[cfg(feature = "kafka")]
    #[test]
    fn brokers_that_were_not_typed_are_own_endpoints_once_the_cluster_tells_them() {
        use portcullis_connector_kafka::{Connection, TestBroker};

        let cluster = TestBroker::start_several(3).unwrap();
        let brokers: Vec<SocketAddr> =
            cluster.address().unwrap().split(',').map(|broker| broker.parse().unwrap()).collect();
        assert_eq!(brokers.len(), 3);
        let first = brokers[0].to_string();
        let own = OwnText { clusters: vec![Connection::plain(first.clone())], ..typed(&first) };
        assert_eq!(refused(own.typed(), brokers[0]), Some(Reason::AddrSelf));
        assert_eq!(refused(own.looked_up(), brokers[1]), None, "nobody has asked the cluster");
        for broker in brokers {
            assert_eq!(refused(own.complete(), broker), Some(Reason::AddrSelf), "{broker}");
        }
    }

    #[cfg(feature = "kafka")]
    #[test]
    fn a_cluster_that_is_away_leaves_what_was_typed_and_the_others() {
        use portcullis_connector_kafka::{Connection, TestBroker};

        let nobody = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
        let cluster = TestBroker::start_several(2).unwrap();
        let address = cluster.address().unwrap();
        let (first, second) = address.split_once(',').unwrap();
        let clusters = vec![Connection::plain(nobody.to_string()), Connection::plain(first)];
        let own = OwnText { clusters, ..typed(&nobody.to_string()) };
        let began = Instant::now();
        assert_eq!(refused(own.complete(), nobody), Some(Reason::AddrSelf));
        assert_eq!(refused(own.complete(), second.parse().unwrap()), Some(Reason::AddrSelf));
        assert!(began.elapsed() < Duration::from_secs(60), "both are asked at once, and once only");
    }
}
