//! Starts `count` connections to `to` with each message, by default 1000, and finishes none. Rejects with the WASI code of the first that
//! was refused, the detail says how many there were before it. A value that begins with `ok` passes.

#![cfg(target_arch = "wasm32")]

use std::mem::ManuallyDrop;
use std::net::SocketAddr;

use portcullis_plugin::bindings::convert;
use portcullis_plugin::bindings::net::wasi::sockets::instance_network::instance_network;
use portcullis_plugin::bindings::net::wasi::sockets::network::ErrorCode;
use portcullis_plugin::bindings::net::wasi::sockets::tcp::TcpSocket;
use portcullis_plugin::bindings::net::wasi::sockets::tcp_create_socket::create_tcp_socket;
use portcullis_plugin::{Message, Verdict, validator};

portcullis_plugin::manifest! { validator, egress: "connects" }

#[derive(serde::Deserialize)]
struct Config {
    to: SocketAddr,
    #[serde(default = "a_thousand")]
    count: u32,
}

fn a_thousand() -> u32 {
    1000
}

#[validator]
fn storms_half_open_connects(message: &Message, config: &Config) -> Verdict {
    if message.value().is_some_and(|value| value.starts_with(b"ok")) {
        return Verdict::pass();
    }
    for started in 0..config.count {
        match start(config.to) {
            Ok(socket) => {
                std::hint::black_box(ManuallyDrop::new(socket));
            }
            Err(code) => return Verdict::reject(code.name(), format!("after {started}")),
        }
    }
    Verdict::pass()
}

fn start(to: SocketAddr) -> Result<TcpSocket, ErrorCode> {
    let socket = create_tcp_socket(convert::family(to))?;
    socket.start_connect(&instance_network(), convert::socket_address(to))?;
    Ok(socket)
}
