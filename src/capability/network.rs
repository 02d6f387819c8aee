//! `wasi:sockets` and `wasi:http`, by the grant `egress`. Whether a call may reach anything is decided in [`portcullis_net`],
//! call by call; the list of the grant may be empty.

use wasmtime::component::Linker;

use crate::plugin::Guest;

/// What this file serves.
pub(super) fn serves(interface: &str) -> bool {
    const SERVED: [&str; 9] = [
        "wasi:sockets/network",
        "wasi:sockets/instance-network",
        "wasi:sockets/tcp",
        "wasi:sockets/tcp-create-socket",
        "wasi:sockets/udp",
        "wasi:sockets/udp-create-socket",
        "wasi:sockets/ip-name-lookup",
        "wasi:http/types",
        "wasi:http/outgoing-handler",
    ];
    SERVED.contains(&interface)
}

pub(super) fn link(linker: &mut Linker<Guest>) -> wasmtime::Result<()> {
    portcullis_net::link_sockets(linker)?;
    portcullis_net::link_http(linker)
}
