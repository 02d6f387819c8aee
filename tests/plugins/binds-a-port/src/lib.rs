//! Takes the UDP port `to` of the host, by default 0.0.0.0:5353, and waits for whatever comes. Rejects with the WASI code of what is
//! refused, the detail says what; passes where it has the port. A value that begins with `ok` passes.

#![cfg(target_arch = "wasm32")]

use std::net::SocketAddr;

use portcullis_plugin::bindings::convert;
use portcullis_plugin::bindings::net::wasi::sockets::instance_network::instance_network;
use portcullis_plugin::bindings::net::wasi::sockets::network::ErrorCode;
use portcullis_plugin::bindings::net::wasi::sockets::udp_create_socket::create_udp_socket;
use portcullis_plugin::{Message, Verdict, validator};

portcullis_plugin::manifest! { validator, egress: "binds a port" }

#[derive(serde::Deserialize)]
struct Config {
    #[serde(default = "port")]
    to: SocketAddr,
}

fn port() -> SocketAddr {
    ([0, 0, 0, 0], 5353).into()
}

#[validator]
fn binds_a_port(message: &Message, config: &Config) -> Verdict {
    if message.value().is_some_and(|value| value.starts_with(b"ok")) {
        return Verdict::pass();
    }
    match bind(config.to) {
        Ok(()) => Verdict::pass(),
        Err((at, code)) => Verdict::reject(code.name(), at),
    }
}

fn bind(to: SocketAddr) -> Result<(), (&'static str, ErrorCode)> {
    let socket = create_udp_socket(convert::family(to)).map_err(|code| ("create-udp-socket", code))?;
    socket.start_bind(&instance_network(), convert::socket_address(to)).map_err(|code| ("start-bind", code))?;
    socket.finish_bind().map_err(|code| ("finish-bind", code))?;
    let (incoming, _outgoing) = socket.stream(None).map_err(|code| ("stream", code))?;
    incoming.receive(1).map_err(|code| ("receive", code)).map(drop)
}
