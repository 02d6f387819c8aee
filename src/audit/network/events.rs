//! Network events as they wait in the queue: what [`crate::network`] takes, with every text that a guest may have chosen as
//! [`Untrusted`].

use std::net::IpAddr;
use std::sync::Arc;

use uuid::Uuid;

use super::{
    Attempt, Connection, Decided, Denial, Destination, HttpCall, HttpIntent, HttpResult, Lookup, RuleRef, Traffic,
    Transport, Window,
};
use crate::actor::Actor;
use crate::code::Code;
use crate::escape::{CODE_BYTES, NAME_BYTES, Untrusted};
use crate::event::{Event, Fact};

/// Addresses of one lookup that are shown; the resolver keeps fewer.
const MAX_ANSWERS: usize = 64;

/// What all network events have, and what only some have.
#[derive(Clone, Debug)]
pub(crate) struct Network {
    pub(crate) what: What,
    pub(crate) destination: End,
    pub(crate) rule: Option<RuleRef>,
    pub(crate) policy_version: Arc<str>,
    pub(crate) observed: Option<&'static str>,
    pub(crate) pin: Option<Uuid>,
}

/// One end.
#[derive(Clone, Debug, Default)]
pub(crate) struct End {
    pub(crate) hostname: Option<Untrusted>,
    pub(crate) ip: Option<IpAddr>,
    pub(crate) port: Option<u16>,
}

#[derive(Clone, Debug)]
pub(crate) enum What {
    Allowed(Wire),
    Failed(Wire, &'static str),
    Closed(Wire, Traffic),
    /// Datagrams with a peer so far.
    Traffic(Wire, Traffic),
    Denied(Refusal),
    LookupAllowed(Untrusted),
    Lookup(Answer),
    HttpAllowed(Http),
    Http(Http, Exchange),
}

/// A connection.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Wire {
    pub(crate) id: u64,
    pub(crate) transport: Transport,
}

#[derive(Clone, Debug)]
pub(crate) struct Refusal {
    pub(crate) tried: Tried,
    pub(crate) reason: &'static str,
    pub(crate) guest_code: Option<&'static str>,
    pub(crate) inbound: bool,
    pub(crate) window: Option<Window>,
}

#[derive(Clone, Debug)]
pub(crate) enum Tried {
    Connect,
    Datagram,
    Bind(Transport),
    Listen,
    Lookup,
    Http(Http),
}

#[derive(Clone, Debug)]
pub(crate) struct Answer {
    pub(crate) name: Untrusted,
    pub(crate) answers: Vec<IpAddr>,
    pub(crate) dropped: Vec<(IpAddr, &'static str)>,
    pub(crate) ttl_s: Option<u32>,
    pub(crate) rcode: Option<u16>,
    pub(crate) reason: Option<&'static str>,
    pub(crate) duration_ms: u64,
}

#[derive(Clone, Debug)]
pub(crate) struct Http {
    pub(crate) id: u64,
    pub(crate) method: Untrusted,
    pub(crate) scheme: Untrusted,
    pub(crate) path: Untrusted,
}

#[derive(Clone, Copy, Debug)]
pub(crate) struct Exchange {
    pub(crate) connection: Option<u64>,
    pub(crate) status: Option<u16>,
    pub(crate) traffic: Traffic,
    pub(crate) failure: Option<&'static str>,
    pub(crate) tls_version: Option<&'static str>,
}

impl Event {
    /// `net.connect.allowed` or `net.udp.allowed`, by the transport: the intent, before the first packet leaves.
    pub fn connect_allowed(plugin: Actor, connection: Connection) -> Self {
        let Connection { id, transport, decided } = connection;
        Self::decided(plugin, decided, What::Allowed(Wire { id, transport }))
    }

    /// `net.connect.failed`: allowed, and the network failed.
    pub fn connect_failed(plugin: Actor, connection: Connection, reason: &'static str) -> Self {
        let Connection { id, transport, decided } = connection;
        Self::decided(plugin, decided, What::Failed(Wire { id, transport }, reason))
    }

    /// `net.close`: once for each connection that was allowed and did not fail.
    pub fn connection_closed(plugin: Actor, connection: Connection, traffic: Traffic) -> Self {
        let Connection { id, transport, decided } = connection;
        Self::decided(plugin, decided, What::Closed(Wire { id, transport }, traffic))
    }

    /// `net.udp.traffic`: datagrams with one peer since the event before it.
    pub fn udp_traffic(plugin: Actor, connection: Connection, traffic: Traffic) -> Self {
        let Connection { id, transport, decided } = connection;
        Self::decided(plugin, decided, What::Traffic(Wire { id, transport }, traffic))
    }

    /// `dns.allowed`: the intent, before the query leaves.
    pub fn dns_allowed(plugin: Actor, name: impl Into<String>, decided: Decided) -> Self {
        Self::decided(plugin, decided, What::LookupAllowed(Untrusted::new(name, NAME_BYTES)))
    }

    /// `dns.lookup`: what came of a lookup. Its [`Event::uid`] is what the pins of its answers name.
    pub fn dns_lookup(plugin: Actor, lookup: Lookup) -> Self {
        let Lookup { name, decided, mut answers, mut dropped, ttl_s, rcode, reason, duration_ms } = lookup;
        answers.truncate(MAX_ANSWERS);
        dropped.truncate(MAX_ANSWERS);
        let name = Untrusted::new(name, NAME_BYTES);
        let answer = Answer { name, answers, dropped, ttl_s, rcode, reason, duration_ms };
        Self::decided(plugin, decided, What::Lookup(answer))
    }

    /// `http.allowed`: the intent, before the request leaves.
    pub fn http_allowed(plugin: Actor, intent: HttpIntent) -> Self {
        Self::decided(plugin, intent.decided, What::HttpAllowed(intent.call.into()))
    }

    /// `http.request`: once for each request that was allowed, when it has ended.
    pub fn http_request(plugin: Actor, result: HttpResult) -> Self {
        let HttpResult { call, decided, connection, status, traffic, failure, tls_version } = result;
        let exchange = Exchange { connection, status, traffic, failure, tls_version };
        Self::decided(plugin, decided, What::Http(call.into(), exchange))
    }

    /// `net.connect.denied`, `net.udp.denied`, `net.bind.denied`, `net.listen.denied`, `dns.denied` or `http.denied`, by
    /// what was tried. [`crate::Denials`] makes these.
    pub fn denied(plugin: Actor, denial: Denial) -> Self {
        let Denial { attempt, destination, reason, guest_code, rule, policy_version, inbound, window } = denial;
        let tried = match attempt {
            Attempt::Connect => Tried::Connect,
            Attempt::Datagram => Tried::Datagram,
            Attempt::Bind(transport) => Tried::Bind(transport),
            Attempt::Listen => Tried::Listen,
            Attempt::Lookup => Tried::Lookup,
            Attempt::Http(call) => Tried::Http(call.into()),
        };
        let what = What::Denied(Refusal { tried, reason, guest_code, inbound, window });
        let destination = destination.into();
        let network = Network { what, destination, rule, policy_version, observed: None, pin: None };
        Self::new(plugin, Fact::Network(Box::new(network)))
    }

    fn decided(plugin: Actor, decided: Decided, what: What) -> Self {
        let Decided { destination, rule, policy_version, observed, pin } = decided;
        let network = Network { what, destination: destination.into(), rule, policy_version, observed, pin };
        Self::new(plugin, Fact::Network(Box::new(network)))
    }
}

impl Network {
    pub(crate) fn code(&self) -> Code {
        match &self.what {
            What::Allowed(Wire { transport: Transport::Tcp, .. }) => Code::ConnectAllowed,
            What::Allowed(Wire { transport: Transport::Udp, .. }) => Code::UdpAllowed,
            What::Failed(..) => Code::ConnectFailed,
            What::Closed(..) => Code::ConnectionClosed,
            What::Traffic(..) => Code::UdpTraffic,
            What::Denied(refusal) => refusal.tried.code(),
            What::LookupAllowed(_) => Code::DnsAllowed,
            What::Lookup(_) => Code::DnsLookup,
            What::HttpAllowed(_) => Code::HttpAllowed,
            What::Http(..) => Code::HttpRequest,
        }
    }

    /// How many occurrences the event stands for.
    pub(crate) fn weight(&self) -> u64 {
        self.window().map_or(1, |window| window.count)
    }

    pub(crate) fn window(&self) -> Option<Window> {
        match &self.what {
            What::Denied(refusal) => refusal.window,
            _ => None,
        }
    }
}

impl Tried {
    fn code(&self) -> Code {
        match self {
            Self::Connect => Code::ConnectDenied,
            Self::Datagram => Code::UdpDenied,
            Self::Bind(_) => Code::BindDenied,
            Self::Listen => Code::ListenDenied,
            Self::Lookup => Code::DnsDenied,
            Self::Http(_) => Code::HttpDenied,
        }
    }
}

impl From<Destination> for End {
    fn from(to: Destination) -> Self {
        let hostname = to.hostname.map(|name| Untrusted::new(name, NAME_BYTES));
        Self { hostname, ip: to.ip, port: to.port }
    }
}

impl From<HttpCall> for Http {
    fn from(call: HttpCall) -> Self {
        let HttpCall { id, method, scheme, mut path } = call;
        // Queries carry tokens and personal data. The caller should have cut it off already.
        path.truncate(path.find(['?', '#']).unwrap_or(path.len()));
        let method = Untrusted::new(method, CODE_BYTES);
        Self { id, method, scheme: Untrusted::new(scheme, CODE_BYTES), path: Untrusted::new(path, NAME_BYTES) }
    }
}
