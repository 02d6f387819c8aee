use std::collections::HashMap;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use wasmtime_wasi::sockets::SocketAddrUse;
use wasmtime_wasi::{WasiCtx, WasiCtxBuilder};

use crate::evidence::Intent;

/// The second line behind the gate, and where an effect waits for its evidence. wasmtime asks it before each system call that
/// sends something: only an address for which the gate has opened a door passes, and it passes when its intent is confirmed.
#[derive(Clone, Default)]
pub(crate) struct Doors(Arc<Mutex<Open>>);

#[derive(Default)]
struct Open {
    /// One entry is one connect.
    connects: Entries<Arc<Intent>>,
    /// Peers of datagrams. Without an intent the socket may only be tied to the peer.
    peers: Entries<Option<Arc<Intent>>>,
}

/// By address, each with the number of its connection or exchange.
type Entries<T> = HashMap<SocketAddr, Vec<(u64, T)>>;

impl Doors {
    /// Lets one connect pass.
    pub(crate) fn open_connect(&self, to: SocketAddr, id: u64, intent: Intent) {
        self.lock().connects.entry(to).or_default().push((id, Arc::new(intent)));
    }

    /// The connect will not come any more.
    pub(crate) fn shut_connect(&self, to: SocketAddr, id: u64) {
        shut(&mut self.lock().connects, to, id);
    }

    /// Lets datagrams to the peer pass until they are shut.
    pub(crate) fn open_peer(&self, to: SocketAddr, id: u64, intent: Option<Intent>) {
        self.lock().peers.entry(to).or_default().push((id, intent.map(Arc::new)));
    }

    pub(crate) fn shut_peer(&self, to: SocketAddr, id: u64) {
        shut(&mut self.lock().peers, to, id);
    }

    /// The context of wasmtime's own sockets.
    pub(crate) fn context(&self) -> WasiCtx {
        let doors = self.clone();
        WasiCtxBuilder::new()
            .allow_tcp(true)
            .allow_udp(true)
            .allow_ip_name_lookup(false)
            .socket_addr_check(move |address, used| doors.check(address, used))
            .build()
    }

    fn check(&self, address: SocketAddr, used: SocketAddrUse) -> Pin<Box<dyn Future<Output = bool> + Send + Sync>> {
        let intent = match used {
            // What the system does by itself before a connect.
            SocketAddrUse::TcpBind | SocketAddrUse::UdpBind => return Box::pin(std::future::ready(is_any(address))),
            SocketAddrUse::TcpListen | SocketAddrUse::TcpAccept => return Box::pin(std::future::ready(false)),
            // Strangers' datagrams are sorted out where they can be recorded, in `receive`.
            SocketAddrUse::UdpReceive => return Box::pin(std::future::ready(true)),
            SocketAddrUse::TcpConnect => self.take_connect(address).map(Some),
            SocketAddrUse::UdpSend => self.peer(address),
        };
        match intent {
            None => Box::pin(std::future::ready(false)),
            Some(None) => Box::pin(std::future::ready(true)),
            Some(Some(intent)) => Box::pin(async move { intent.confirmed().await.is_ok() }),
        }
    }

    fn take_connect(&self, address: SocketAddr) -> Option<Arc<Intent>> {
        let mut open = self.lock();
        let waiting = open.connects.get_mut(&address)?;
        let intent = (!waiting.is_empty()).then(|| waiting.remove(0).1);
        if waiting.is_empty() {
            open.connects.remove(&address);
        }
        intent
    }

    fn peer(&self, address: SocketAddr) -> Option<Option<Arc<Intent>>> {
        self.lock().peers.get(&address)?.last().map(|(_, intent)| intent.clone())
    }

    fn lock(&self) -> MutexGuard<'_, Open> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The address of an implicit bind.
pub(crate) fn is_any(address: SocketAddr) -> bool {
    address.ip().is_unspecified() && address.port() == 0
}

fn shut<T>(open: &mut Entries<T>, to: SocketAddr, id: u64) {
    if let Some(entries) = open.get_mut(&to) {
        entries.retain(|(entry, _)| *entry != id);
        if entries.is_empty() {
            open.remove(&to);
        }
    }
}
