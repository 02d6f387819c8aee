//! What a caller tells of network events. No type has a field for a header, a query or a body.

use std::net::IpAddr;
use std::sync::Arc;

use uuid::Uuid;

pub(crate) mod events;
pub(crate) mod ocsf;
mod rule;

/// A transport below HTTP and DNS.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Transport {
    /// A stream.
    Tcp,
    /// Datagrams.
    Udp,
}

/// The other end, as far as it is known. The name must be the canonical one (A-labels), never what a guest wrote.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Destination {
    /// The name that was granted, or asked for.
    pub hostname: Option<String>,
    /// The address.
    pub ip: Option<IpAddr>,
    /// The port.
    pub port: Option<u16>,
}

/// A rule of the operator. Shared text, so that an event on the way of a call copies nothing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RuleRef {
    /// Where it is typed: `egress[0]`.
    pub uid: Arc<str>,
    /// Its canonical text: `tcp://api.example.com:443`.
    pub name: Arc<str>,
}

/// What the decision was that allowed an effect.
#[derive(Clone, Debug)]
pub struct Decided {
    /// Where to. For a lookup the name server, where it is known.
    pub destination: Destination,
    /// The rule that allowed it; none in observe mode.
    pub rule: Option<RuleRef>,
    /// The policy that was asked.
    pub policy_version: Arc<str>,
    /// In observe mode: the reason that would have refused it.
    pub observed: Option<&'static str>,
    /// The `dns.lookup` event ([`crate::Event::uid`]) whose answer the destination is.
    pub pin: Option<Uuid>,
}

/// A connection, or the exchange of datagrams with one peer.
#[derive(Clone, Debug)]
pub struct Connection {
    /// Tells it from every other one of the process.
    pub id: u64,
    /// Streams or datagrams.
    pub transport: Transport,
    /// Why it was allowed.
    pub decided: Decided,
}

/// What went over the wire.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Traffic {
    /// Bytes from the plugin.
    pub bytes_out: u64,
    /// Bytes to the plugin.
    pub bytes_in: u64,
    /// Datagrams from the plugin; 0 for a stream.
    pub datagrams_out: u64,
    /// Datagrams to the plugin; 0 for a stream.
    pub datagrams_in: u64,
    /// Over how long, in milliseconds.
    pub duration_ms: u64,
}

/// A time in which the same happened more than once.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Window {
    /// Exactly how often.
    pub count: u64,
    /// The first, milliseconds since 1970.
    pub start_ms: u64,
    /// The last, milliseconds since 1970.
    pub end_ms: u64,
}

/// What a plugin tried that was refused.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum Attempt {
    /// To connect a stream.
    Connect,
    /// To send a datagram, or to be sent one.
    Datagram,
    /// To bind to a chosen address or port, which is then the destination.
    Bind(Transport),
    /// To listen or to accept.
    Listen,
    /// To look up the name that is the destination's.
    Lookup,
    /// To send an HTTP request.
    Http(HttpCall),
}

/// A refusal. Give it to [`crate::Denials`], which counts repeats.
#[derive(Clone, Debug)]
pub struct Denial {
    /// What was tried.
    pub attempt: Attempt,
    /// Where to; for a datagram from a stranger, the stranger.
    pub destination: Destination,
    /// Why not. `'static`, so that a guest cannot choose it.
    pub reason: &'static str,
    /// What the guest was told: `access-denied`.
    pub guest_code: Option<&'static str>,
    /// The deny rule that hit, or the allow rule that came nearest.
    pub rule: Option<RuleRef>,
    /// The policy that was asked.
    pub policy_version: Arc<str>,
    /// Whether it came from outside.
    pub inbound: bool,
    /// Some for repeats that were counted.
    pub window: Option<Window>,
}

/// A lookup that was allowed, and what came of it.
#[derive(Clone, Debug)]
pub struct Lookup {
    /// The name that was asked for.
    pub name: String,
    /// Why it was allowed.
    pub decided: Decided,
    /// Addresses that the plugin may see.
    pub answers: Vec<IpAddr>,
    /// Addresses that it may not see, each with the reason.
    pub dropped: Vec<(IpAddr, &'static str)>,
    /// How long the answers hold, in seconds, as the name server said.
    pub ttl_s: Option<u32>,
    /// The response code of the DNS (0 no error, 2 server failure, 3 no such name); none without an answer.
    pub rcode: Option<u16>,
    /// Why it failed. `'static`, so that a guest cannot choose it.
    pub reason: Option<&'static str>,
    /// How long it took, in milliseconds.
    pub duration_ms: u64,
}

/// An HTTP request, without its headers.
#[derive(Clone, Debug)]
pub struct HttpCall {
    /// Tells it from every other one of the process.
    pub id: u64,
    /// The method in upper case.
    pub method: String,
    /// `https`, `http`, or what the guest asked for.
    pub scheme: String,
    /// The path. A query is cut off here, and the rest at 512 bytes.
    pub path: String,
}

/// An HTTP request that was allowed and is about to leave.
#[derive(Clone, Debug)]
pub struct HttpIntent {
    /// The request.
    pub call: HttpCall,
    /// Why it was allowed.
    pub decided: Decided,
}

/// An HTTP request that has ended, well or not.
#[derive(Clone, Debug)]
pub struct HttpResult {
    /// The request.
    pub call: HttpCall,
    /// Why it was allowed, with the address that was dialled.
    pub decided: Decided,
    /// The connection that it went over.
    pub connection: Option<u64>,
    /// The status of the answer, where there was one.
    pub status: Option<u16>,
    /// Bytes and time.
    pub traffic: Traffic,
    /// Why it failed. `'static`, so that a guest cannot choose it.
    pub failure: Option<&'static str>,
    /// The version of TLS that was spoken: `1.3`.
    pub tls_version: Option<&'static str>,
}
