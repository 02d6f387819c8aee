//! Peers of UDP sockets: who may be sent to, who was, and how much. Each datagram is decided by itself; the first one to a peer
//! is an event, the rest are counted.

use std::collections::HashMap;
use std::net::SocketAddr;

use portcullis_audit::{Attempt, Connection, Event, Source, Traffic, Transport};
use portcullis_policy::{Denied, Effect, Granted, Quota, Request};
use wasmtime_wasi::p2::bindings::sockets::network::ErrorCode;

use super::doors::Doors;
use super::network::{code, code_name};
use crate::egress::Egress;
use crate::evidence::{about, next_connection};
use crate::gate::Gate;
use crate::quota::{Slot, clock_ms};

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
    pub(super) doors: Doors,
    peers: HashMap<SocketAddr, Peer>,
    /// The one peer of a connected socket.
    pub(super) connected: Option<SocketAddr>,
    /// What the guest is told by its next call: a datagram of the last one was refused after others were sent.
    pub(super) owed: Option<ErrorCode>,
    _slot: Slot,
}

/// Why a datagram does not go.
pub(super) struct Refused {
    /// None where there is no room for its evidence: a refusal would find none either, and the loss is counted.
    pub(super) denied: Option<Denied>,
    /// What the guest is told.
    pub(super) code: ErrorCode,
}

struct Peer {
    connection: Connection,
    source: Option<Source>,
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
    pub(super) fn remove(&mut self, socket: u32, gate: &Gate) {
        if let Some(mut udp) = self.sockets.remove(&socket) {
            udp.forget(gate);
        }
    }
}

impl Udp {
    pub(super) fn new(slot: Slot) -> Self {
        Self { doors: Doors::default(), peers: HashMap::new(), connected: None, owed: None, _slot: slot }
    }

    /// Ends all exchanges of the socket.
    pub(super) fn forget(&mut self, gate: &Gate) {
        self.doors.shut();
        self.peers.drain().for_each(|(_, mut peer)| peer.flush(gate));
        self.connected = None;
        self.owed = None;
    }

    pub(super) fn knows(&self, address: SocketAddr) -> bool {
        self.peers.contains_key(&address)
    }

    /// Decides a datagram and, when it is the first one to a peer, takes that from the rate of connects and records it: a peer
    /// is an event and an entry here, as a connection is.
    ///
    /// # Errors
    /// The refusal, which is not recorded yet: a batch is recorded when it is known what of it went.
    pub(super) fn admit(&mut self, to: SocketAddr, gate: &Gate) -> Result<(), Refused> {
        let granted = decide(gate, to)?;
        let (Effect::Datagram(to), Some(egress)) = (granted.effect(), gate.egress()) else {
            return Err(Refused { denied: None, code: ErrorCode::AccessDenied });
        };
        if let Some(peer) = self.peers.get_mut(to) {
            // So that it does not make room for another of the same batch: what goes to it could not be counted then.
            peer.last_ms = clock_ms();
            return Ok(());
        }
        if let Err(met) = egress.budgets().connect() {
            return Err(gate.over(&Request::Datagram { to: *to }, Quota::Connects, met).into());
        }
        self.begin(*to, &granted, gate, egress)
    }

    fn begin(&mut self, to: SocketAddr, granted: &Granted, gate: &Gate, egress: &Egress) -> Result<(), Refused> {
        let evidence = egress.evidence();
        let decided = evidence.decided_raw(granted, to);
        let connection = Connection { id: next_connection(), transport: Transport::Udp, decided };
        let source = gate.source();
        let event = Event::connect_allowed(evidence.actor().clone(), connection.clone());
        let intent = evidence.intend(about(event, source.as_ref()));
        if intent.is_lost() {
            // Not kept: the next datagram is a first one again and may find room.
            return Err(Refused { denied: None, code: ErrorCode::AccessDenied });
        }
        if self.peers.len() >= MAX_PEERS {
            let quiet = self.peers.iter().min_by_key(|(_, peer)| (peer.last_ms, peer.connection.id));
            let quiet = quiet.map(|(address, _)| *address);
            if let Some((address, mut peer)) = quiet.and_then(|address| self.peers.remove_entry(&address)) {
                self.doors.shut_peer(address);
                peer.flush(gate);
            }
        }
        self.doors.open_peer(to, intent);
        let now_ms = clock_ms();
        let peer = Peer { connection, source, traffic: Traffic::default(), since_ms: now_ms, last_ms: now_ms };
        self.peers.insert(to, peer);
        Ok(())
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
}

impl Refused {
    /// Records the refusal.
    pub(super) fn record(&self, gate: &Gate) {
        if let Some(denied) = &self.denied {
            gate.refused(Attempt::Datagram, denied, Some(code_name(denied.reason)));
        }
    }
}

impl From<Denied> for Refused {
    fn from(denied: Denied) -> Self {
        let code = code(denied.reason);
        Self { denied: Some(denied), code }
    }
}

/// Decides one datagram. Records nothing.
pub(super) fn decide(gate: &Gate, to: SocketAddr) -> Result<Granted, Refused> {
    gate.decide(&Request::Datagram { to }).map_err(Refused::from)
}
