//! Connects to `to` with each message and never closes. Rejects with the WASI code where a connection is refused. A value that begins
//! with `ok` passes.

use std::mem::ManuallyDrop;
use std::net::SocketAddr;

use portcullis_plugin::net::TcpStream;
use portcullis_plugin::{Message, Verdict, validator};

portcullis_plugin::manifest! { validator, egress: "connects" }

#[derive(serde::Deserialize)]
struct Config {
    to: SocketAddr,
}

#[validator]
fn leaves_sockets_open(message: &Message, config: &Config) -> Verdict {
    if message.value().is_some_and(|value| value.starts_with(b"ok")) {
        return Verdict::pass();
    }
    match TcpStream::connect(&config.to.ip().to_string(), config.to.port()) {
        Ok(stream) => {
            std::hint::black_box(ManuallyDrop::new(stream));
            Verdict::pass()
        }
        Err(error) => Verdict::reject(error.code(), error.at()),
    }
}
