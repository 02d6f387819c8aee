use std::collections::HashMap;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use wasmtime_wasi::WasiCtxBuilder;
use wasmtime_wasi::sockets::{SocketAddrUse, WasiSocketsCtx};

use crate::evidence::Intent;

/// The second line behind the gate, and where an effect waits for its evidence. wasmtime asks it before each system call that
/// sends something: only an address for which the gate has opened a door passes, and it passes when its intent is confirmed.
///
/// Each socket has its own, since wasmtime tells the address and not the socket: behind doors that sockets share, one would
/// pass with the evidence of another.
#[derive(Clone, Default)]
pub(crate) struct Doors(Arc<Mutex<Open>>);

#[derive(Default)]
struct Open {
    /// One connect.
    connect: Option<(SocketAddr, Arc<Intent>)>,
    /// The socket is just being tied to the peer, which sends nothing.
    tied: Option<SocketAddr>,
    /// Peers of datagrams.
    peers: HashMap<SocketAddr, Arc<Intent>>,
}

impl Doors {
    /// What wasmtime makes the socket of these doors with. The socket keeps its own handle of them.
    pub(crate) fn context(&self) -> WasiSocketsCtx {
        let doors = self.clone();
        WasiCtxBuilder::new()
            .allow_tcp(true)
            .allow_udp(true)
            .allow_ip_name_lookup(false)
            .socket_addr_check(move |address, used| doors.check(address, used))
            .build()
            .sockets()
            .clone()
    }

    /// Lets one connect pass.
    pub(crate) fn open_connect(&self, to: SocketAddr, intent: Intent) {
        self.lock().connect = Some((to, Arc::new(intent)));
    }

    /// Lets datagrams to the peer pass until they are shut.
    pub(crate) fn open_peer(&self, to: SocketAddr, intent: Intent) {
        self.lock().peers.insert(to, Arc::new(intent));
    }

    pub(crate) fn shut_peer(&self, to: SocketAddr) {
        self.lock().peers.remove(&to);
    }

    /// Lets the socket be tied to the peer for as long as the answer is kept.
    pub(crate) fn tie(&self, to: SocketAddr) -> Tie {
        self.lock().tied = Some(to);
        Tie(self.clone())
    }

    /// Nothing passes any more.
    pub(crate) fn shut(&self) {
        *self.lock() = Open::default();
    }

    fn check(&self, address: SocketAddr, used: SocketAddrUse) -> Pin<Box<dyn Future<Output = bool> + Send + Sync>> {
        let intent = match used {
            // What the system does by itself before a connect.
            SocketAddrUse::TcpBind | SocketAddrUse::UdpBind => return Box::pin(std::future::ready(is_any(address))),
            SocketAddrUse::TcpListen | SocketAddrUse::TcpAccept => return Box::pin(std::future::ready(false)),
            // Strangers' datagrams are sorted out where they can be recorded, in `receive`.
            SocketAddrUse::UdpReceive => return Box::pin(std::future::ready(true)),
            SocketAddrUse::UdpSend if self.lock().tied == Some(address) => {
                return Box::pin(std::future::ready(true));
            }
            SocketAddrUse::UdpSend => self.lock().peers.get(&address).cloned(),
            SocketAddrUse::TcpConnect => {
                self.lock().connect.take_if(|(to, _)| *to == address).map(|(_, intent)| intent)
            }
        };
        match intent {
            None => Box::pin(std::future::ready(false)),
            Some(intent) => Box::pin(async move { intent.confirmed().await.is_ok() }),
        }
    }

    fn lock(&self) -> MutexGuard<'_, Open> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Ends with the call that ties the socket, however that ends: nothing may be sent by its door.
pub(crate) struct Tie(Doors);

impl Drop for Tie {
    fn drop(&mut self) {
        self.0.lock().tied = None;
    }
}

/// The address of an implicit bind.
pub(crate) fn is_any(address: SocketAddr) -> bool {
    address.ip().is_unspecified() && address.port() == 0
}
