//! `wasi:sockets/tcp` and `tcp-create-socket`. A connect is decided and recorded in `start-connect`; the packet leaves when the
//! guest polls, past the door that its intent opens. Listening is refused.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::Arc;

use portcullis_audit::{Attempt, Transport as Wired};
use portcullis_policy::{Effect, Granted, Reason, Request, Transport};
use wasmtime::component::Resource;
use wasmtime_wasi::p2::bindings::sockets::network::{ErrorCode, IpAddressFamily, IpSocketAddress};
use wasmtime_wasi::p2::bindings::sockets::tcp::{Host, HostTcpSocket, ShutdownType};
use wasmtime_wasi::p2::bindings::sockets::tcp_create_socket;
use wasmtime_wasi::p2::{DynInputStream, DynOutputStream, DynPollable, Network, SocketError, SocketResult, TcpSocket};
use wasmtime_wasi::sockets::WasiSocketsCtxView;

use super::MAX_BUFFER_BYTES;
use super::doors::{Doors, is_any};
use super::network::{code, code_name, failure};
use super::sniff::Sniff;
use super::streams::{In, Line, Out};
use crate::evidence::Wire;
use crate::gate::Gate;
use crate::quota::Slot;
use crate::view::{HasNet, NetParts, View};

type Socket = Resource<TcpSocket>;
type Streams = (Resource<DynInputStream>, Resource<DynOutputStream>);

/// The TCP sockets of an instance, by the representation of their resource.
#[derive(Default)]
pub(crate) struct Tcps(HashMap<u32, Tcp>);

struct Tcp {
    doors: Doors,
    state: State,
}

enum State {
    /// Of this node's budgets and not of the instance alone: what was made and does nothing costs a descriptor all the same.
    New {
        _slot: Slot,
    },
    Connecting(Box<Connecting>),
    /// The streams have the connection too.
    Connected {
        _wire: Arc<Wire>,
    },
    Failed,
}

struct Connecting {
    wire: Arc<Wire>,
    granted: Granted,
}

impl Tcps {
    fn set(&mut self, socket: u32, state: State) -> Option<State> {
        self.0.get_mut(&socket).map(|tcp| std::mem::replace(&mut tcp.state, state))
    }
}

/// Asks for something that is never granted, for its evidence.
pub(super) fn refuse_inbound(gate: &Gate, transport: Transport, address: SocketAddr, attempt: Attempt) -> SocketError {
    match gate.ask(&Request::Inbound { transport, address }, attempt, |_| "access-denied") {
        Ok(_) | Err(_) => ErrorCode::AccessDenied.into(),
    }
}

impl<T: HasNet> tcp_create_socket::Host for View<'_, T> {
    fn create_tcp_socket(&mut self, family: IpAddressFamily) -> SocketResult<Socket> {
        let parts = self.enter().map_err(SocketError::trap)?;
        let Some(egress) = parts.guest.gate.egress() else {
            return Err(ErrorCode::AccessDenied.into());
        };
        // A connection is counted when it is begun.
        let slot = match egress.budgets().idle_slot() {
            Ok(slot) => slot,
            Err(met) => {
                parts.guest.gate.exceeded(Reason::QuotaSockets, met);
                return Err(ErrorCode::NewSocketLimit.into());
            }
        };
        let doors = Doors::default();
        let mut wasmtime = WasiSocketsCtxView { ctx: &mut doors.context(), table: parts.table };
        let socket = tcp_create_socket::Host::create_tcp_socket(&mut wasmtime, family)?;
        parts.guest.tcp.0.insert(socket.rep(), Tcp { doors, state: State::New { _slot: slot } });
        Ok(socket)
    }
}

impl NetParts<'_> {
    fn start_tcp_connect(&mut self, socket: &Socket, network: Resource<Network>, to: SocketAddr) -> SocketResult<()> {
        let representation = socket.rep();
        let doors = match self.guest.tcp.0.get(&representation) {
            Some(Tcp { doors, state: State::New { .. } }) => doors.clone(),
            // No effect: wasmtime's own word on a socket that is in use or closed.
            _ => return self.inner().start_connect(Resource::new_borrow(representation), network, to.into()),
        };
        let gate = self.guest.gate.clone();
        let asked = gate.ask_connect(&Request::Connect { to }, code_name);
        let (granted, slot) = asked.map_err(|denied| SocketError::from(code(denied.reason)))?;
        let (Effect::Connect(to), Some(egress)) = (granted.effect(), gate.egress()) else {
            return Err(ErrorCode::AccessDenied.into());
        };
        let to = *to;
        let (wire, intent) = Wire::new(egress.evidence().clone(), &granted, to, gate.source(), slot);
        doors.open_connect(to, intent);
        let begun = self.inner().start_connect(Resource::new_borrow(representation), network, to.into());
        match &begun {
            Ok(()) => {
                self.guest.tcp.set(representation, State::Connecting(Box::new(Connecting { wire, granted })));
            }
            // The socket is as new as before.
            Err(_) => {
                doors.shut();
                wire.failed(Reason::NetFailed);
            }
        }
        begun
    }

    fn finish_tcp_connect(&mut self, socket: &Socket) -> SocketResult<Streams> {
        let representation = socket.rep();
        let finished = self.inner().finish_connect(Resource::new_borrow(representation));
        let (input, output) = match finished {
            Ok(streams) => streams,
            Err(error) => return Err(self.tcp_failed(representation, error)),
        };
        let state = self.guest.tcp.set(representation, State::Failed);
        let (input, output) = (self.table.delete(input)?, self.table.delete(output)?);
        let gate = self.guest.gate.clone();
        let (Some(State::Connecting(connecting)), Some(egress)) = (state, gate.egress()) else {
            return Err(ErrorCode::InvalidState.into());
        };
        let Connecting { wire, granted } = *connecting;
        let line = Line::new(gate.clone(), Arc::clone(&wire));
        let sniff = granted.wants_hello().then(|| Sniff::new(gate.clone(), granted));
        let input = In::new(input, line.clone(), egress.budgets().bytes_in());
        let output = Out::new(output, line, egress.budgets().bytes_out(), sniff);
        let input = self.table.push_child(Box::new(input) as DynInputStream, socket)?;
        let output = self.table.push_child(Box::new(output) as DynOutputStream, socket)?;
        self.guest.tcp.set(representation, State::Connected { _wire: wire });
        Ok((input, output))
    }

    /// Records what the network said; a connect that goes on is no failure.
    fn tcp_failed(&mut self, representation: u32, error: SocketError) -> SocketError {
        let code = match error.downcast() {
            Ok(code) => code,
            Err(trap) => return SocketError::trap(trap),
        };
        let goes_on = matches!(code, ErrorCode::WouldBlock | ErrorCode::NotInProgress);
        if !goes_on
            && let Some(Tcp { doors, state: state @ State::Connecting(_) }) = self.guest.tcp.0.get_mut(&representation)
            && let State::Connecting(connecting) = std::mem::replace(state, State::Failed)
        {
            connecting.wire.failed(failure(code));
            doors.shut();
        }
        code.into()
    }

    fn drop_tcp(&mut self, socket: Socket) -> wasmtime::Result<()> {
        let representation = socket.rep();
        // Whether wasmtime drops it or not: a connect that has not left yet must not leave any more.
        if let Some(tcp) = self.guest.tcp.0.get(&representation) {
            tcp.doors.shut();
        }
        self.inner().drop(socket)?;
        self.guest.tcp.0.remove(&representation);
        Ok(())
    }
}

impl<T: HasNet> Host for View<'_, T> {}

/// What decides nothing and reaches nobody is wasmtime's.
macro_rules! as_wasmtime {
    ($($name:ident($($argument:ident: $type:ty),*) -> $result:ty;)*) => {
        $(fn $name(&mut self, socket: Socket $(, $argument: $type)*) -> $result {
            let mut parts = self.enter().map_err(SocketError::trap)?;
            <WasiSocketsCtxView<'_> as HostTcpSocket>::$name(&mut parts.inner(), socket $(, $argument)*)
        })*
    };
}

impl<T: HasNet> HostTcpSocket for View<'_, T> {
    async fn start_bind(
        &mut self,
        socket: Socket,
        network: Resource<Network>,
        address: IpSocketAddress,
    ) -> SocketResult<()> {
        let mut parts = self.enter().map_err(SocketError::trap)?;
        let address = SocketAddr::from(address);
        if !is_any(address) {
            return Err(refuse_inbound(&parts.guest.gate, Transport::Tcp, address, Attempt::Bind(Wired::Tcp)));
        }
        parts.inner().start_bind(socket, network, address.into()).await
    }

    fn start_connect(
        &mut self,
        socket: Socket,
        network: Resource<Network>,
        remote: IpSocketAddress,
    ) -> SocketResult<()> {
        let mut parts = self.enter().map_err(SocketError::trap)?;
        parts.start_tcp_connect(&socket, network, remote.into())
    }

    fn finish_connect(&mut self, socket: Socket) -> SocketResult<Streams> {
        self.enter().map_err(SocketError::trap)?.finish_tcp_connect(&socket)
    }

    async fn start_listen(&mut self, socket: Socket) -> SocketResult<()> {
        let mut parts = self.enter().map_err(SocketError::trap)?;
        let local = parts.inner().local_address(Resource::new_borrow(socket.rep()));
        let local = local.map_or_else(|_| SocketAddr::from(([0, 0, 0, 0], 0)), SocketAddr::from);
        Err(refuse_inbound(&parts.guest.gate, Transport::Tcp, local, Attempt::Listen))
    }

    fn accept(
        &mut self,
        socket: Socket,
    ) -> SocketResult<(Socket, Resource<DynInputStream>, Resource<DynOutputStream>)> {
        let mut parts = self.enter().map_err(SocketError::trap)?;
        let local = parts.inner().local_address(socket);
        let local = local.map_or_else(|_| SocketAddr::from(([0, 0, 0, 0], 0)), SocketAddr::from);
        Err(refuse_inbound(&parts.guest.gate, Transport::Tcp, local, Attempt::Listen))
    }

    fn set_receive_buffer_size(&mut self, socket: Socket, bytes: u64) -> SocketResult<()> {
        let mut parts = self.enter().map_err(SocketError::trap)?;
        parts.inner().set_receive_buffer_size(socket, bytes.min(MAX_BUFFER_BYTES))
    }

    fn set_send_buffer_size(&mut self, socket: Socket, bytes: u64) -> SocketResult<()> {
        let mut parts = self.enter().map_err(SocketError::trap)?;
        parts.inner().set_send_buffer_size(socket, bytes.min(MAX_BUFFER_BYTES))
    }

    fn is_listening(&mut self, socket: Socket) -> wasmtime::Result<bool> {
        self.enter()?.inner().is_listening(socket)
    }

    fn address_family(&mut self, socket: Socket) -> wasmtime::Result<IpAddressFamily> {
        HostTcpSocket::address_family(&mut self.enter()?.inner(), socket)
    }

    fn subscribe(&mut self, socket: Socket) -> wasmtime::Result<Resource<DynPollable>> {
        HostTcpSocket::subscribe(&mut self.enter()?.inner(), socket)
    }

    fn drop(&mut self, socket: Socket) -> wasmtime::Result<()> {
        self.enter()?.drop_tcp(socket)
    }

    as_wasmtime! {
        finish_bind() -> SocketResult<()>;
        finish_listen() -> SocketResult<()>;
        local_address() -> SocketResult<IpSocketAddress>;
        remote_address() -> SocketResult<IpSocketAddress>;
        set_listen_backlog_size(size: u64) -> SocketResult<()>;
        keep_alive_enabled() -> SocketResult<bool>;
        set_keep_alive_enabled(enabled: bool) -> SocketResult<()>;
        keep_alive_idle_time() -> SocketResult<u64>;
        set_keep_alive_idle_time(time_ns: u64) -> SocketResult<()>;
        keep_alive_interval() -> SocketResult<u64>;
        set_keep_alive_interval(time_ns: u64) -> SocketResult<()>;
        keep_alive_count() -> SocketResult<u32>;
        set_keep_alive_count(count: u32) -> SocketResult<()>;
        hop_limit() -> SocketResult<u8>;
        set_hop_limit(hops: u8) -> SocketResult<()>;
        receive_buffer_size() -> SocketResult<u64>;
        send_buffer_size() -> SocketResult<u64>;
        shutdown(what: ShutdownType) -> SocketResult<()>;
    }
}
