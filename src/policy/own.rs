use std::net::IpAddr;

use crate::hash::{Map, Set};
use crate::{Name, OwnEndpoints};

/// What belongs to the bridge, ready to be asked.
#[derive(Debug, Default)]
pub(crate) struct Own {
    sockets: Set<(IpAddr, u16)>,
    /// Ports of this machine. A server that was named by one loopback address mostly listens on all of them, and 127.0.0.2 reaches
    /// what listens on the wildcard address as well as 127.0.0.1 does.
    local: Set<u16>,
    names: Map<Name, Vec<u16>>,
    interfaces: Set<IpAddr>,
}

impl Own {
    pub(crate) fn new(own: OwnEndpoints) -> Self {
        let OwnEndpoints { sockets, names, interfaces } = own;
        let mut own = Self { interfaces: interfaces.into_iter().collect(), ..Self::default() };
        for socket in sockets {
            // A listener on `::ffff:127.0.0.1` is one on 127.0.0.1, and a zone makes no other address.
            let address = socket.ip().to_canonical();
            if address.is_loopback() || address.is_unspecified() || own.interfaces.contains(&address) {
                own.local.insert(socket.port());
            }
            own.sockets.insert((address, socket.port()));
        }
        for (name, port) in names {
            own.names.entry(name).or_default().push(port);
        }
        own
    }

    /// Without a port, whether everything at the address is the bridge's.
    pub(crate) fn has_address(&self, address: IpAddr, port: Option<u16>) -> bool {
        let at = |port| self.sockets.contains(&(address, port)) || address.is_loopback() && self.local.contains(&port);
        self.interfaces.contains(&address) || port.is_some_and(at)
    }

    pub(crate) fn has_name(&self, name: &Name, port: u16) -> bool {
        self.names.get(name.as_str()).is_some_and(|ports| ports.contains(&port))
    }
}
