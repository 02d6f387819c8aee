//! Listens on `to`, by default 0.0.0.0:8080, and asks for a connection. Rejects with the WASI code of what is refused, the detail says what;
//! passes where the door is open. A value that begins with `ok` passes.

#![cfg(target_arch = "wasm32")]

use std::net::SocketAddr;

use portcullis_plugin::bindings::convert;
use portcullis_plugin::bindings::net::wasi::sockets::instance_network::instance_network;
use portcullis_plugin::bindings::net::wasi::sockets::network::ErrorCode;
use portcullis_plugin::bindings::net::wasi::sockets::tcp_create_socket::create_tcp_socket;
use portcullis_plugin::{Message, Verdict, validator};

portcullis_plugin::manifest! { validator, egress: "listens" }

#[derive(serde::Deserialize)]
struct Config {
    #[serde(default = "door")]
    to: SocketAddr,
}

fn door() -> SocketAddr {
    ([0, 0, 0, 0], 8080).into()
}

#[validator]
fn listens(message: &Message, config: &Config) -> Verdict {
    if message.value().is_some_and(|value| value.starts_with(b"ok")) {
        return Verdict::pass();
    }
    match listen(config.to) {
        Ok(()) => Verdict::pass(),
        Err((at, code)) => Verdict::reject(code.name(), at),
    }
}

fn listen(to: SocketAddr) -> Result<(), (&'static str, ErrorCode)> {
    let socket = create_tcp_socket(convert::family(to)).map_err(|code| ("create-tcp-socket", code))?;
    socket.start_bind(&instance_network(), convert::socket_address(to)).map_err(|code| ("start-bind", code))?;
    socket.finish_bind().map_err(|code| ("finish-bind", code))?;
    socket.start_listen().map_err(|code| ("start-listen", code))?;
    socket.finish_listen().map_err(|code| ("finish-listen", code))?;
    match socket.accept() {
        Ok(_) | Err(ErrorCode::WouldBlock) => Ok(()),
        Err(code) => Err(("accept", code)),
    }
}
