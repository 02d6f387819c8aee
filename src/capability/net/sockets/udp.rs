//! Peers of UDP sockets: who may be sent to, who was, and how much. Each datagram is decided by itself; the first one to a peer
//! is an event, the rest are counted.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::Arc;

use portcullis_audit::{Connection, Destination, Event, Traffic, Transport};
use portcullis_policy::{Denied, Effect, Granted, Request};

use super::doors::Doors;
use super::network::code;
use crate::evidence::{about, next_connection};
use crate::gate::Gate;
use crate::quota::{Slot, clock_ms};

use wasmtime_wasi::p2::bindings::sockets::network::ErrorCode;

/// Peers that one socket keeps. The one that was quiet for longest makes room, and a datagram to it is a first one again.
const MAX_PEERS: usize = 64;

/// The UDP sockets of an instance, by the representation of their resource.
#[derive(Default)]
pub(crate) struct Udps {
    pub(super) sockets: HashMap<u32, Udp>,
    /// Which socket a datagram stream is of.
    pub(super) streams: HashMap<u32, u32>,
}

pub(super) struct Udp {
    peers: HashMap<SocketAddr, Peer>,
    /// The one peer of a connected socket, with the number of its door.
    pub(super) connected: Option<(SocketAddr, u64)>,
    /// What the guest is told by its next call: a datagram of the last one was refused after others were sent.
    pub(super) owed: Option<ErrorCode>,
    _slot: Slot,
}

struct Peer {
    connection: Connection,
    source: Option<Arc<str>>,
    traffic: Traffic,
    /// Of what is counted in `traffic`.
    since_ms: u64,
    last_ms: u64,
}

impl Udps {
    pub(super) fn of_stream(&mut self, stream: u32) -> Option<&mut Udp> {
        self.streams.get(&stream).and_then(|socket| self.sockets.get_mut(socket))
    }

    /// Records what was counted since the last time.
    pub(crate) fn flush(&mut self, gate: &Gate) {
        for udp in self.sockets.values_mut() {
            udp.peers.values_mut().for_each(|peer| peer.flush(gate));
        }
    }

    /// The socket is gone.
    pub(super) fn remove(&mut self, socket: u32, gate: &Gate, doors: &Doors) {
        if let Some(mut udp) = self.sockets.remove(&socket) {
            udp.forget(gate, doors);
        }
    }
}

impl Udp {
    pub(super) fn new(slot: Slot) -> Self {
        Self { peers: HashMap::new(), connected: None, owed: None, _slot: slot }
    }

    /// Ends all exchanges of the socket.
    pub(super) fn forget(&mut self, gate: &Gate, doors: &Doors) {
        for (address, mut peer) in self.peers.drain() {
            peer.end(address, gate, doors);
        }
        if let Some((address, id)) = self.connected.take() {
            doors.shut_peer(address, id);
        }
        self.owed = None;
    }

    pub(super) fn knows(&self, address: SocketAddr) -> bool {
        self.peers.contains_key(&address)
    }

    /// Notes a datagram that is about to go, and records the first one to a peer.
    pub(super) fn first(&mut self, granted: &Granted, gate: &Gate, doors: &Doors) {
        let (Effect::Datagram(to), Some(egress)) = (granted.effect(), gate.egress()) else { return };
        if self.knows(*to) {
            return;
        }
        if self.peers.len() >= MAX_PEERS {
            let quiet = self.peers.iter().min_by_key(|(_, peer)| peer.last_ms).map(|(address, _)| *address);
            if let Some((address, mut peer)) = quiet.and_then(|address| self.peers.remove_entry(&address)) {
                peer.end(address, gate, doors);
            }
        }
        let destination = Destination {
            hostname: granted.pin().map(|(_, name)| name.to_string()),
            ip: Some(to.ip()),
            port: Some(to.port()),
        };
        let decided = egress.evidence().decided(granted, destination);
        let connection = Connection { id: next_connection(), transport: Transport::Udp, decided };
        let source = gate.source();
        let event = Event::connect_allowed(egress.evidence().actor().clone(), connection.clone());
        let intent = egress.evidence().intend(about(event, source.as_ref()));
        doors.open_peer(*to, connection.id, Some(intent));
        let now_ms = clock_ms();
        let peer = Peer { connection, source, traffic: Traffic::default(), since_ms: now_ms, last_ms: now_ms };
        self.peers.insert(*to, peer);
    }

    pub(super) fn sent(&mut self, to: SocketAddr, bytes: usize) {
        if let Some(peer) = self.peers.get_mut(&to) {
            peer.traffic.datagrams_out += 1;
            peer.traffic.bytes_out += bytes as u64;
            peer.last_ms = clock_ms();
        }
    }

    pub(super) fn received(&mut self, from: SocketAddr, bytes: usize) {
        if let Some(peer) = self.peers.get_mut(&from) {
            peer.traffic.datagrams_in += 1;
            peer.traffic.bytes_in += bytes as u64;
            peer.last_ms = clock_ms();
        }
    }
}

impl Peer {
    fn flush(&mut self, gate: &Gate) {
        if self.traffic == Traffic::default() {
            return;
        }
        let now_ms = clock_ms();
        let mut traffic = std::mem::take(&mut self.traffic);
        traffic.duration_ms = now_ms.saturating_sub(std::mem::replace(&mut self.since_ms, now_ms));
        if let Some(egress) = gate.egress() {
            let event = Event::udp_traffic(egress.evidence().actor().clone(), self.connection.clone(), traffic);
            egress.evidence().record(about(event, self.source.as_ref()));
        }
    }

    fn end(&mut self, address: SocketAddr, gate: &Gate, doors: &Doors) {
        self.flush(gate);
        doors.shut_peer(address, self.connection.id);
    }
}

/// Decides one datagram. Records nothing: a batch is recorded when it is known what of it went.
pub(super) fn decide(gate: &Gate, to: SocketAddr) -> Result<Granted, (Denied, ErrorCode)> {
    gate.decide(&Request::Datagram { to }).map_err(|denied| {
        let code = code(denied.reason);
        (denied, code)
    })
}
