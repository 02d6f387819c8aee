//! An instance without a guest: the host functions as a guest calls them, real sockets on loopback.

use std::net::SocketAddr;
use std::sync::Arc;

use bytes::Bytes;
use tokio::net::{TcpListener, UdpSocket as Peer};
use wasmtime::component::{Resource, ResourceTable};
use wasmtime_wasi::p2::bindings::sockets::instance_network::Host as _;
use wasmtime_wasi::p2::bindings::sockets::network::{ErrorCode, IpAddress, IpAddressFamily, IpSocketAddress};
use wasmtime_wasi::p2::bindings::sockets::tcp::HostTcpSocket;
use wasmtime_wasi::p2::bindings::sockets::tcp_create_socket::Host as _;
use wasmtime_wasi::p2::bindings::sockets::udp::{
    HostIncomingDatagramStream as _, HostOutgoingDatagramStream as _, HostUdpSocket, IncomingDatagramStream,
    OutgoingDatagram, OutgoingDatagramStream,
};
use wasmtime_wasi::p2::bindings::sockets::udp_create_socket::Host as _;
use wasmtime_wasi::p2::{
    DynInputStream, DynOutputStream, Network, Pollable as _, SocketError, SocketResult, StreamError, TcpSocket,
    UdpSocket,
};

use crate::sockets::Addresses;
use crate::sockets::lookup_traits::{Host as _, HostResolveAddressStream as _};
use crate::support::{Bench, PATIENCE};
use crate::view::View;
use crate::{HasNet, NetGuest, NetParts};

pub(crate) struct Instance {
    pub(crate) net: NetGuest,
    pub(crate) table: ResourceTable,
    pub(crate) calls: u64,
    pub(crate) most_calls: u64,
}

impl HasNet for Instance {
    fn net(&mut self) -> NetParts<'_> {
        NetParts { guest: &mut self.net, table: &mut self.table }
    }

    fn charge(&mut self) -> wasmtime::Result<()> {
        self.calls += 1;
        if self.calls > self.most_calls { Err(wasmtime::format_err!("too many calls")) } else { Ok(()) }
    }
}

pub(crate) type Streams = (Resource<DynInputStream>, Resource<DynOutputStream>);

impl Instance {
    pub(crate) fn new(bench: &Bench) -> Self {
        Self::of(NetGuest::new(Some(Arc::clone(&bench.egress))))
    }

    pub(crate) fn of(net: NetGuest) -> Self {
        Self { net, table: ResourceTable::new(), calls: 0, most_calls: u64::MAX }
    }

    pub(crate) fn host(&mut self) -> View<'_, Self> {
        View::of(self)
    }

    pub(crate) fn network(&mut self) -> Resource<Network> {
        self.host().instance_network().unwrap()
    }

    pub(crate) fn tcp(&mut self) -> Resource<TcpSocket> {
        self.host().create_tcp_socket(IpAddressFamily::Ipv4).unwrap()
    }

    pub(crate) fn start(&mut self, socket: &Resource<TcpSocket>, to: SocketAddr) -> Result<(), ErrorCode> {
        let network = self.network();
        coded(self.host().start_connect(borrowed(socket), network, to.into()))
    }

    pub(crate) async fn finish(&mut self, socket: &Resource<TcpSocket>) -> Result<Streams, ErrorCode> {
        self.table.get_mut(socket).unwrap().ready().await;
        coded(self.host().finish_connect(borrowed(socket)))
    }

    pub(crate) async fn connect(&mut self, to: SocketAddr) -> Result<(Resource<TcpSocket>, Streams), ErrorCode> {
        let socket = self.tcp();
        self.start(&socket, to)?;
        let streams = self.finish(&socket).await?;
        Ok((socket, streams))
    }

    pub(crate) async fn write(
        &mut self,
        output: &Resource<DynOutputStream>,
        bytes: &'static [u8],
    ) -> Result<(), StreamError> {
        self.table.get_mut(output).unwrap().blocking_write_and_flush(Bytes::from_static(bytes)).await
    }

    pub(crate) async fn read(&mut self, input: &Resource<DynInputStream>) -> Result<Bytes, StreamError> {
        self.table.get_mut(input).unwrap().blocking_read(1024).await
    }

    pub(crate) fn close(&mut self, socket: Resource<TcpSocket>, (input, output): Streams) {
        self.table.delete(input).unwrap();
        self.table.delete(output).unwrap();
        HostTcpSocket::drop(&mut self.host(), socket).unwrap();
    }

    pub(crate) async fn udp(&mut self, remote: Option<SocketAddr>) -> Result<Udp, ErrorCode> {
        let socket = coded(self.host().create_udp_socket(IpAddressFamily::Ipv4).await)?;
        let (network, any) = (self.network(), SocketAddr::from(([0, 0, 0, 0], 0)));
        let mut host = self.host();
        coded(HostUdpSocket::start_bind(&mut host, borrowed(&socket), network, any.into()).await)?;
        coded(HostUdpSocket::finish_bind(&mut host, borrowed(&socket)))?;
        let (incoming, outgoing) = coded(host.stream(borrowed(&socket), remote.map(IpSocketAddress::from)).await)?;
        let local = SocketAddr::from(coded(HostUdpSocket::local_address(&mut host, borrowed(&socket)))?);
        Ok(Udp { socket, incoming, outgoing, port: local.port() })
    }

    pub(crate) fn send(&mut self, udp: &Udp, to: &[SocketAddr]) -> Result<u64, ErrorCode> {
        let datagram = |to: &SocketAddr| OutgoingDatagram { data: vec![7; 3], remote_address: Some((*to).into()) };
        let mut host = self.host();
        coded(host.check_send(borrowed(&udp.outgoing)))?;
        coded(host.send(borrowed(&udp.outgoing), to.iter().map(datagram).collect()))
    }
}

pub(crate) struct Udp {
    pub(crate) socket: Resource<UdpSocket>,
    pub(crate) incoming: Resource<IncomingDatagramStream>,
    pub(crate) outgoing: Resource<OutgoingDatagramStream>,
    pub(crate) port: u16,
}

pub(crate) fn borrowed<T: 'static>(resource: &Resource<T>) -> Resource<T> {
    Resource::new_borrow(resource.rep())
}

pub(crate) fn coded<T>(result: SocketResult<T>) -> Result<T, ErrorCode> {
    result.map_err(|error: SocketError| error.downcast().unwrap())
}

pub(crate) fn nobody() -> SocketAddr {
    SocketAddr::from(([127, 0, 0, 1], 9))
}

/// A listener, and the text of the rule that allows it.
pub(crate) async fn listener() -> (TcpListener, SocketAddr, String) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    (listener, address, format!("tcp://{address}"))
}

pub(crate) async fn peer() -> (Peer, SocketAddr) {
    let peer = Peer::bind("127.0.0.1:0").await.unwrap();
    let address = peer.local_addr().unwrap();
    (peer, address)
}

pub(crate) async fn came(peer: &Peer) -> SocketAddr {
    let mut buffer = [0; 16];
    let (length, from) = tokio::time::timeout(PATIENCE, peer.recv_from(&mut buffer)).await.unwrap().unwrap();
    assert_eq!(buffer[..length], [7; 3]);
    from
}

/// Waits for a datagram at the socket and asks for it: how many the guest sees.
pub(crate) async fn received(instance: &mut Instance, udp: &Udp) -> usize {
    let stream = instance.table.get_mut(&udp.incoming).unwrap();
    tokio::time::timeout(PATIENCE, stream.ready()).await.unwrap();
    coded(instance.host().receive(borrowed(&udp.incoming), 16)).unwrap().len()
}

pub(crate) async fn resolved(instance: &mut Instance, name: &str) -> Result<Vec<std::net::IpAddr>, ErrorCode> {
    let network = instance.network();
    let stream = coded(instance.host().resolve_addresses(network, name.to_owned()))?;
    instance.table.get_mut::<Addresses>(&stream).unwrap().ready().await;
    let mut addresses = Vec::new();
    while let Some(address) = coded(instance.host().resolve_next_address(borrowed(&stream)))? {
        addresses.push(match address {
            IpAddress::Ipv4((a, b, c, d)) => [a, b, c, d].into(),
            IpAddress::Ipv6(address) => panic!("{address:?}"),
        });
    }
    Ok(addresses)
}
