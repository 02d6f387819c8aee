//! What the tests of this crate share: a policy from its rules, a recorder in memory, a name server on loopback.

use std::collections::HashMap;
use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use portcullis_audit::{Actor, Context, Event, MemoryStore, Mode, Options, Recorder};
use portcullis_policy::{Policy, PolicyParts, Rule, RuleText};
use tokio::net::UdpSocket;
use tokio::runtime::Handle;

use crate::{Budget, Effects, Egress, NetLimits, Resolver, ResolverSettings, Servers, Settings};

pub(crate) const PATIENCE: Duration = Duration::from_secs(10);

/// A rule of a test; loopback is consented to.
pub(crate) fn rule(allow: &str) -> RuleText<'_> {
    RuleText { allow, ..RuleText::default() }
}

pub(crate) fn policy(rules: &[RuleText<'_>]) -> Policy {
    let rules = rules.iter().map(|text| Rule::parse(text).unwrap()).collect();
    let consent = vec!["127.0.0.0/8".parse().unwrap()];
    Policy::new(PolicyParts { rules, consent, ..PolicyParts::default() })
}

pub(crate) fn limits() -> NetLimits {
    let many = (1000, Duration::from_secs(1));
    NetLimits {
        connections: 8,
        connects: many,
        lookups: many,
        egress_bytes_s: None,
        ingress_bytes_s: None,
        handles: 1000,
    }
}

/// An egress with its evidence.
pub(crate) struct Bench {
    pub(crate) egress: Arc<Egress>,
    pub(crate) store: MemoryStore,
    recorder: Recorder,
    capacity: u64,
}

impl Bench {
    /// Must be called on a runtime.
    pub(crate) fn new(
        rules: &[RuleText<'_>],
        server: SocketAddr,
        limits: NetLimits,
        parents: Vec<Arc<Budget>>,
    ) -> Self {
        Self::with(rules, server, limits, parents, Mode::Buffered)
    }

    pub(crate) fn with(
        rules: &[RuleText<'_>],
        server: SocketAddr,
        limits: NetLimits,
        parents: Vec<Arc<Budget>>,
        mode: Mode,
    ) -> Self {
        Self::audited(rules, server, limits, parents, Options { mode, ..Options::default() })
    }

    /// With an audit of that capacity and deadline.
    pub(crate) fn audited(
        rules: &[RuleText<'_>],
        server: SocketAddr,
        limits: NetLimits,
        parents: Vec<Arc<Budget>>,
        options: Options,
    ) -> Self {
        let (mode, capacity) = (options.mode, options.capacity as u64);
        let store = MemoryStore::new();
        let context = Context {
            instance_uid: "6f1c2c1e-4b0f-4a52-9d0c-6f7d0a7c9a11".to_owned(),
            hostname: "bridge-0.example".to_owned(),
            product_version: "0.1.0".to_owned(),
            wasmtime_version: "48.0.0".to_owned(),
            log_name: "portcullis.audit".to_owned(),
        };
        let (recorder, _) = Recorder::start(context, options, store.clone()).unwrap();
        let settings = ResolverSettings { servers: Servers::Given(vec![server]), timeout: Duration::from_secs(2) };
        let egress = Egress::new(
            Settings {
                policy: Arc::new(policy(rules)),
                rule_tls: Vec::new(),
                secrets: Vec::new(),
                roots: Arc::new(rustls::RootCertStore::empty()),
                limits,
                parents,
                actor: Actor::plugin(None, "orders".into(), "fx".into(), None),
                recorder: recorder.clone(),
                mode,
                resolver: Resolver::new(settings, Handle::current()).unwrap(),
                tenant: "acme".into(),
            },
            Effects::Real,
        );
        Self { egress, store, recorder, capacity }
    }

    /// All events of the network, as `code reason`, after everything recorded so far is in the store.
    pub(crate) fn events(&self) -> Vec<String> {
        self.full().iter().map(brief).collect()
    }

    pub(crate) fn full(&self) -> Vec<Json> {
        let recorded = usize::try_from(self.recorder.status().recorded).unwrap();
        assert!(self.store.wait_until(PATIENCE, |records| records.len() >= recorded), "the store has every event");
        let events = self.store.events().into_iter();
        events.filter(|event| !["audit.", "plugin."].iter().any(|other| code(event).starts_with(other))).collect()
    }

    /// Leaves no room in the audit: the store takes records and confirms none, so that first the writer's window of 1024
    /// fills, and then the queue.
    pub(crate) fn fill_audit(&self) {
        self.store.set_withholding(true);
        let until = Instant::now() + PATIENCE;
        let is_full = || {
            let status = self.recorder.status();
            status.recorded - status.confirmed >= 1024 + self.capacity
        };
        while !is_full() {
            assert!(Instant::now() < until, "the audit is still not full");
            drop(self.recorder.try_record(filler()));
        }
    }

    /// Events that have a number.
    pub(crate) fn recorded(&self) -> u64 {
        self.recorder.status().recorded
    }

    pub(crate) fn lost(&self) -> u64 {
        self.recorder.status().lost_events
    }

    /// The store confirms everything again.
    pub(crate) fn free_audit(&self) {
        self.store.set_withholding(false);
    }

    /// Waits until the audit is empty, not only until there is room for one event.
    pub(crate) fn await_empty_audit(&self) {
        let until = Instant::now() + PATIENCE;
        let is_empty = || {
            let status = self.recorder.status();
            status.recorded == status.confirmed
        };
        while !is_empty() {
            assert!(Instant::now() < until, "the audit is still not empty");
            std::thread::yield_now();
        }
    }

    /// Waits for an event that comes from another task.
    pub(crate) fn await_event(&self, wanted: &str) {
        let has = |value: &[u8]| String::from_utf8_lossy(value).contains(wanted);
        let came = self.store.wait_until(PATIENCE, |records| records.iter().any(|record| has(&record.value)));
        assert!(came, "{wanted} was recorded");
    }
}

/// An event that is none of the network's, and that [`Bench::events`] leaves out.
fn filler() -> Event {
    Event::plugin_stopped(Actor::plugin(None, "filler".into(), "fx".into(), None))
}

pub(crate) type Json = serde_json::Value;

pub(crate) fn code(event: &Json) -> &str {
    event["metadata"]["event_code"].as_str().unwrap()
}

fn brief(event: &Json) -> String {
    match event["status_detail"].as_str() {
        Some(detail) => format!("{} {detail}", code(event)),
        None => code(event).to_owned(),
    }
}

/// What the name server answers for a name.
#[derive(Clone, Default)]
pub(crate) struct Zone {
    pub(crate) addresses: Vec<IpAddr>,
    /// Each is answered by itself: the resolver must ask for the next.
    pub(crate) cname: Option<String>,
    pub(crate) ttl_s: u32,
    /// 2 is server failure.
    pub(crate) rcode: u8,
    pub(crate) silent: bool,
    /// A record of another name in the same answer.
    pub(crate) stranger: Option<(String, IpAddr)>,
}

/// A name server on loopback. A name that it does not have is NXDOMAIN.
pub(crate) struct NameServer {
    pub(crate) address: SocketAddr,
    queries: Arc<Mutex<Vec<String>>>,
    zones: Arc<Mutex<HashMap<String, Zone>>>,
}

impl NameServer {
    pub(crate) async fn start(zones: impl IntoIterator<Item = (&str, Zone)>) -> Self {
        let socket = UdpSocket::bind("127.0.0.1:0").await.unwrap();
        let address = socket.local_addr().unwrap();
        let zones: HashMap<String, Zone> = zones.into_iter().map(|(name, zone)| (name.to_owned(), zone)).collect();
        let server = Self { address, queries: Arc::default(), zones: Arc::new(Mutex::new(zones)) };
        let (queries, zones) = (Arc::clone(&server.queries), Arc::clone(&server.zones));
        tokio::spawn(async move {
            let mut buffer = [0; 2048];
            while let Ok((length, from)) = socket.recv_from(&mut buffer).await {
                let (name, kind, end) = question(&buffer[..length]);
                queries.lock().unwrap().push(format!("{name} {kind}"));
                let zone = zones.lock().unwrap().get(&name).cloned();
                if let Some(answer) = answer(&buffer[..end], &name, kind, zone) {
                    socket.send_to(&answer, from).await.unwrap();
                }
            }
        });
        server
    }

    pub(crate) fn set(&self, name: &str, zone: Zone) {
        self.zones.lock().unwrap().insert(name.to_owned(), zone);
    }

    /// `name type`, in the order of arrival.
    pub(crate) fn queries(&self) -> Vec<String> {
        let mut queries = self.queries.lock().unwrap().clone();
        queries.sort();
        queries
    }
}

pub(crate) fn zone(addresses: &[&str]) -> Zone {
    Zone { addresses: addresses.iter().map(|text| text.parse().unwrap()).collect(), ttl_s: 60, ..Zone::default() }
}

pub(crate) fn alias(of: &str) -> Zone {
    Zone { cname: Some(of.to_owned()), ttl_s: 40, ..Zone::default() }
}

fn question(query: &[u8]) -> (String, u16, usize) {
    let (mut labels, mut at) = (Vec::new(), 12);
    while query[at] != 0 {
        let end = at + 1 + usize::from(query[at]);
        labels.push(String::from_utf8(query[at + 1..end].to_vec()).unwrap());
        at = end;
    }
    (labels.join("."), u16::from_be_bytes([query[at + 1], query[at + 2]]), at + 5)
}

fn answer(question: &[u8], name: &str, kind: u16, zone: Option<Zone>) -> Option<Vec<u8>> {
    let (rcode, zone) = zone.map_or((3, Zone::default()), |zone| (zone.rcode, zone));
    if zone.silent {
        return None;
    }
    let mut records = Vec::new();
    if let Some(alias) = &zone.cname {
        records.push((name.to_owned(), 5, wire_name(alias)));
    }
    let stranger = zone.stranger.iter().map(|(name, address)| (name.as_str(), *address));
    let own = zone.addresses.iter().map(|address| (name, *address));
    for (name, address) in stranger.chain(own) {
        match (address, kind) {
            (IpAddr::V4(address), 1) => records.push((name.to_owned(), 1, address.octets().to_vec())),
            (IpAddr::V6(address), 28) => records.push((name.to_owned(), 28, address.octets().to_vec())),
            _ => {}
        }
    }
    let mut answer = question.to_vec();
    answer[2..12].copy_from_slice(&[0x81, 0x80 | rcode, 0, 1, 0, u8::try_from(records.len()).unwrap(), 0, 0, 0, 0]);
    for (name, kind, data) in records {
        answer.extend(wire_name(&name));
        answer.extend(u16::to_be_bytes(kind));
        answer.extend([0, 1]);
        answer.extend(zone.ttl_s.to_be_bytes());
        answer.extend(u16::try_from(data.len()).unwrap().to_be_bytes());
        answer.extend(data);
    }
    Some(answer)
}

fn wire_name(name: &str) -> Vec<u8> {
    let labels =
        name.split('.').flat_map(|label| std::iter::once(u8::try_from(label.len()).unwrap()).chain(label.bytes()));
    labels.chain([0]).collect()
}
