//! `wasi:sockets/udp` and `udp-create-socket`.

use std::net::SocketAddr;

use portcullis_audit::{Attempt, Transport as Wired};
use portcullis_policy::{Reason, Request, Transport};
use wasmtime::component::Resource;
use wasmtime_wasi::p2::bindings::sockets::network::{ErrorCode, IpAddressFamily, IpSocketAddress};
use wasmtime_wasi::p2::bindings::sockets::udp::{
    Host, HostIncomingDatagramStream, HostOutgoingDatagramStream, HostUdpSocket, IncomingDatagram,
    IncomingDatagramStream, OutgoingDatagram, OutgoingDatagramStream,
};
use wasmtime_wasi::p2::bindings::sockets::udp_create_socket;
use wasmtime_wasi::p2::{DynPollable, Network, Pollable, SocketError, SocketResult, UdpSocket};
use wasmtime_wasi::sockets::WasiSocketsCtxView;

use super::MAX_BUFFER_BYTES;
use super::doors::is_any;
use super::tcp::refuse_inbound;
use super::udp::{Refused, Udp, decide};
use crate::gate::Gate;
use crate::quota::Throttle;
use crate::view::{HasNet, NetParts, View};

type Socket = Resource<UdpSocket>;
type Incoming = Resource<IncomingDatagramStream>;
type Outgoing = Resource<OutgoingDatagramStream>;

/// Datagrams of one `send`: what wasmtime's `check-send` permits at most.
const MAX_DATAGRAMS: usize = 16;
/// How often one `receive` looks past strangers.
const MAX_LOOKS: usize = 16;

impl<T: HasNet> udp_create_socket::Host for View<'_, T> {
    async fn create_udp_socket(&mut self, family: IpAddressFamily) -> SocketResult<Socket> {
        let parts = self.enter().map_err(SocketError::trap)?;
        let Some(egress) = parts.guest.gate.egress() else {
            return Err(ErrorCode::AccessDenied.into());
        };
        let slot = match egress.budgets().slot() {
            Ok(slot) => slot,
            Err(met) => {
                parts.guest.gate.exceeded(Reason::QuotaSockets, met);
                return Err(ErrorCode::NewSocketLimit.into());
            }
        };
        let udp = Udp::new(slot);
        let mut wasmtime = WasiSocketsCtxView { ctx: &mut udp.doors.context(), table: parts.table };
        let socket = udp_create_socket::Host::create_udp_socket(&mut wasmtime, family).await?;
        parts.guest.udp.sockets.insert(socket.rep(), udp);
        Ok(socket)
    }
}

impl NetParts<'_> {
    async fn udp_stream(
        &mut self,
        socket: Socket,
        remote: Option<IpSocketAddress>,
    ) -> SocketResult<(Incoming, Outgoing)> {
        let representation = socket.rep();
        let remote = remote.map(SocketAddr::from);
        let gate = self.guest.gate.clone();
        if let Some(to) = remote {
            decide(&gate, to).map_err(|refused| {
                refused.record(&gate);
                SocketError::from(refused.code)
            })?;
        }
        // Nothing is sent by tying a socket to a peer: there is no intent yet.
        let udp = self.guest.udp.sockets.get(&representation);
        let tie = remote.and_then(|to| udp.map(|udp| udp.doors.tie(to)));
        let made = self.inner().stream(socket, remote.map(IpSocketAddress::from)).await;
        drop(tie);
        let (incoming, outgoing) = made?;
        let guest = &mut *self.guest;
        if let Some(udp) = guest.udp.sockets.get_mut(&representation) {
            // Whoever was sent to before is a stranger to the new streams.
            udp.forget(&gate);
            udp.connected = remote;
        }
        guest.udp.streams.insert(incoming.rep(), representation);
        guest.udp.streams.insert(outgoing.rep(), representation);
        Ok((incoming, outgoing))
    }

    fn udp_check_send(&mut self, stream: Outgoing) -> SocketResult<u64> {
        let owed = self.guest.udp.of_stream(stream.rep()).and_then(|udp| udp.owed.take());
        if let Some(code) = owed {
            return Err(code.into());
        }
        if let Some(out) = self.guest.gate.bytes_out()
            && let Some(met) = out.exhausted()
        {
            self.guest.gate.exceeded(Reason::QuotaBytesOut, met);
            return Ok(0);
        }
        self.inner().check_send(stream)
    }

    /// Decides each datagram and sends those before the first that is refused. That one is recorded once it is its turn; the
    /// guest is told at once where it was the first, else by its next call.
    fn udp_send(&mut self, stream: Outgoing, mut datagrams: Vec<OutgoingDatagram>) -> SocketResult<u64> {
        // wasmtime permits no more at once and traps; here already, before a list of any length becomes as many events.
        if datagrams.len() > MAX_DATAGRAMS {
            return Err(SocketError::trap(wasmtime::format_err!(
                "{} datagrams at once, {MAX_DATAGRAMS} are permitted",
                datagrams.len()
            )));
        }
        let representation = stream.rep();
        let gate = self.guest.gate.clone();
        let guest = &mut *self.guest;
        let Some(udp) = guest.udp.of_stream(representation) else {
            return Err(ErrorCode::InvalidState.into());
        };
        if let Some(code) = udp.owed.take() {
            return Err(code.into());
        }
        let (sizes, refused) = admitted(udp, &gate, &datagrams);
        if let (Some(refused), true) = (&refused, sizes.is_empty()) {
            refused.record(&gate);
            return Err(refused.code.into());
        }
        if refused.is_some() {
            datagrams.truncate(sizes.len());
        }
        let sent = self.inner().send(stream, datagrams)?;
        let Some(udp) = self.guest.udp.of_stream(representation) else { return Ok(sent) };
        let out = gate.bytes_out();
        let gone = usize::try_from(sent).unwrap_or(usize::MAX);
        for (to, bytes) in sizes.iter().take(gone) {
            udp.sent(*to, *bytes);
            out.iter().for_each(|out| out.take(*bytes));
        }
        if let Some(refused) = refused
            && gone >= sizes.len()
        {
            refused.record(&gate);
            udp.owed = Some(refused.code);
        }
        Ok(sent)
    }

    /// Only what comes from a peer that was sent to. The rest is counted and dropped.
    fn udp_receive(&mut self, stream: Incoming, most: u64) -> SocketResult<Vec<IncomingDatagram>> {
        let representation = stream.rep();
        let gate = self.guest.gate.clone();
        let incoming = gate.bytes_in();
        if most > 0
            && let Some(met) = incoming.as_ref().and_then(Throttle::exhausted)
        {
            gate.exceeded(Reason::QuotaBytesIn, met);
            return Ok(Vec::new());
        }
        for _ in 0..MAX_LOOKS {
            let mut datagrams = self.inner().receive(Resource::new_borrow(representation), most)?;
            let Some(udp) = self.guest.udp.of_stream(representation) else {
                return Err(ErrorCode::InvalidState.into());
            };
            let came = datagrams.len();
            datagrams.retain(|datagram| {
                let from = SocketAddr::from(datagram.remote_address);
                if !udp.knows(from) {
                    if let Err(denied) = gate.decide(&Request::Inbound { transport: Transport::Udp, address: from }) {
                        gate.refused_inbound(Attempt::Datagram, &denied);
                    }
                    return false;
                }
                udp.received(from, datagram.data.len());
                incoming.iter().for_each(|incoming| incoming.take(datagram.data.len()));
                true
            });
            if came == 0 || !datagrams.is_empty() {
                return Ok(datagrams);
            }
        }
        Ok(Vec::new())
    }

    /// Where a rate holds datagrams back, readiness is its refill: the system's sockets take datagrams nearly always.
    fn when_refilled(&mut self, throttle: Option<Throttle>) -> wasmtime::Result<Option<Resource<DynPollable>>> {
        let Some(throttle) = throttle.filter(|throttle| throttle.exhausted().is_some()) else { return Ok(None) };
        let refill = self.table.push(Refill(throttle))?;
        wasmtime_wasi::p2::subscribe(self.table, refill).map(Some)
    }
}

/// Where each datagram before the first that is refused goes to, with its bytes, and that refusal.
fn admitted(udp: &mut Udp, gate: &Gate, datagrams: &[OutgoingDatagram]) -> (Vec<(SocketAddr, usize)>, Option<Refused>) {
    let mut sizes = Vec::with_capacity(datagrams.len());
    for datagram in datagrams {
        // Without an address nothing leaves, and wasmtime says so.
        let Some(to) = datagram.remote_address.map(SocketAddr::from).or(udp.connected) else { break };
        if let Err(refused) = udp.admit(to, gate) {
            return (sizes, Some(refused));
        }
        sizes.push((to, datagram.data.len()));
    }
    (sizes, None)
}

struct Refill(Throttle);

#[async_trait::async_trait]
impl Pollable for Refill {
    async fn ready(&mut self) {
        self.0.ready().await;
    }
}

impl<T: HasNet> Host for View<'_, T> {}

/// What decides nothing and reaches nobody is wasmtime's.
macro_rules! as_wasmtime {
    ($($name:ident($($argument:ident: $type:ty),*) -> $result:ty;)*) => {
        $(fn $name(&mut self, socket: Socket $(, $argument: $type)*) -> $result {
            let mut parts = self.enter().map_err(SocketError::trap)?;
            <WasiSocketsCtxView<'_> as HostUdpSocket>::$name(&mut parts.inner(), socket $(, $argument)*)
        })*
    };
}

impl<T: HasNet> HostUdpSocket for View<'_, T> {
    async fn start_bind(
        &mut self,
        socket: Socket,
        network: Resource<Network>,
        address: IpSocketAddress,
    ) -> SocketResult<()> {
        let mut parts = self.enter().map_err(SocketError::trap)?;
        let address = SocketAddr::from(address);
        if !is_any(address) {
            return Err(refuse_inbound(&parts.guest.gate, Transport::Udp, address, Attempt::Bind(Wired::Udp)));
        }
        HostUdpSocket::start_bind(&mut parts.inner(), socket, network, address.into()).await
    }

    async fn stream(&mut self, socket: Socket, remote: Option<IpSocketAddress>) -> SocketResult<(Incoming, Outgoing)> {
        self.enter().map_err(SocketError::trap)?.udp_stream(socket, remote).await
    }

    fn set_receive_buffer_size(&mut self, socket: Socket, bytes: u64) -> SocketResult<()> {
        let mut parts = self.enter().map_err(SocketError::trap)?;
        HostUdpSocket::set_receive_buffer_size(&mut parts.inner(), socket, bytes.min(MAX_BUFFER_BYTES))
    }

    fn set_send_buffer_size(&mut self, socket: Socket, bytes: u64) -> SocketResult<()> {
        let mut parts = self.enter().map_err(SocketError::trap)?;
        HostUdpSocket::set_send_buffer_size(&mut parts.inner(), socket, bytes.min(MAX_BUFFER_BYTES))
    }

    fn address_family(&mut self, socket: Socket) -> wasmtime::Result<IpAddressFamily> {
        HostUdpSocket::address_family(&mut self.enter()?.inner(), socket)
    }

    fn subscribe(&mut self, socket: Socket) -> wasmtime::Result<Resource<DynPollable>> {
        HostUdpSocket::subscribe(&mut self.enter()?.inner(), socket)
    }

    fn drop(&mut self, socket: Socket) -> wasmtime::Result<()> {
        let mut parts = self.enter()?;
        let representation = socket.rep();
        HostUdpSocket::drop(&mut parts.inner(), socket)?;
        let guest = parts.guest;
        guest.udp.remove(representation, &guest.gate);
        Ok(())
    }

    as_wasmtime! {
        finish_bind() -> SocketResult<()>;
        local_address() -> SocketResult<IpSocketAddress>;
        remote_address() -> SocketResult<IpSocketAddress>;
        unicast_hop_limit() -> SocketResult<u8>;
        set_unicast_hop_limit(hops: u8) -> SocketResult<()>;
        receive_buffer_size() -> SocketResult<u64>;
        send_buffer_size() -> SocketResult<u64>;
    }
}

impl<T: HasNet> HostIncomingDatagramStream for View<'_, T> {
    fn receive(&mut self, stream: Incoming, most: u64) -> SocketResult<Vec<IncomingDatagram>> {
        self.enter().map_err(SocketError::trap)?.udp_receive(stream, most)
    }

    fn subscribe(&mut self, stream: Incoming) -> wasmtime::Result<Resource<DynPollable>> {
        let mut parts = self.enter()?;
        match parts.when_refilled(parts.guest.gate.bytes_in())? {
            Some(refill) => Ok(refill),
            None => HostIncomingDatagramStream::subscribe(&mut parts.inner(), stream),
        }
    }

    fn drop(&mut self, stream: Incoming) -> wasmtime::Result<()> {
        let mut parts = self.enter()?;
        let representation = stream.rep();
        HostIncomingDatagramStream::drop(&mut parts.inner(), stream)?;
        parts.guest.udp.streams.remove(&representation);
        Ok(())
    }
}

impl<T: HasNet> HostOutgoingDatagramStream for View<'_, T> {
    fn check_send(&mut self, stream: Outgoing) -> SocketResult<u64> {
        self.enter().map_err(SocketError::trap)?.udp_check_send(stream)
    }

    fn send(&mut self, stream: Outgoing, datagrams: Vec<OutgoingDatagram>) -> SocketResult<u64> {
        self.enter().map_err(SocketError::trap)?.udp_send(stream, datagrams)
    }

    fn subscribe(&mut self, stream: Outgoing) -> wasmtime::Result<Resource<DynPollable>> {
        let mut parts = self.enter()?;
        match parts.when_refilled(parts.guest.gate.bytes_out())? {
            Some(refill) => Ok(refill),
            None => HostOutgoingDatagramStream::subscribe(&mut parts.inner(), stream),
        }
    }

    async fn drop(&mut self, stream: Outgoing) -> wasmtime::Result<()> {
        let mut parts = self.enter()?;
        let representation = stream.rep();
        HostOutgoingDatagramStream::drop(&mut parts.inner(), stream).await?;
        parts.guest.udp.streams.remove(&representation);
        Ok(())
    }
}
