//! Was granted a name, and connects to `address`, where that name may well point, without having asked for it. Rejects with the WASI code
//! where it is refused. A value that begins with `ok` passes.

use std::net::SocketAddr;

use portcullis_plugin::net::TcpStream;
use portcullis_plugin::{Message, Verdict, validator};

portcullis_plugin::manifest! { validator, egress: "connects to a name" }

#[derive(serde::Deserialize)]
struct Config {
    address: SocketAddr,
}

#[validator]
fn skips_the_name(message: &Message, config: &Config) -> Verdict {
    if message.value().is_some_and(|value| value.starts_with(b"ok")) {
        return Verdict::pass();
    }
    match TcpStream::connect(&config.address.ip().to_string(), config.address.port()) {
        Ok(_) => Verdict::pass(),
        Err(error) => Verdict::reject(error.code(), error.at()),
    }
}
