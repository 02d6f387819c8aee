//! TCP, step by step, so that a result says which step was refused.

use std::net::SocketAddr;

use portcullis_plugin::bindings::convert;
use portcullis_plugin::bindings::io::wasi::io::streams::{InputStream, OutputStream, StreamError};
use portcullis_plugin::bindings::net::wasi::sockets::instance_network::instance_network;
use portcullis_plugin::bindings::net::wasi::sockets::network::{ErrorCode, IpAddressFamily};
use portcullis_plugin::bindings::net::wasi::sockets::tcp::TcpSocket;
use portcullis_plugin::bindings::net::wasi::sockets::tcp_create_socket::create_tcp_socket;
use serde_json::{Map, json};

use crate::op::Talk;
use crate::outcome::{Failure, Outcome, detail};
use crate::wait::{REPLY_MS, until};

/// `blocking-write-and-flush` takes no more at once.
const WRITE_BYTES: usize = 4096;

/// An open socket. The host forbids it to go before its streams; fields are dropped in this order.
pub(crate) struct Open {
    streams: Option<(InputStream, OutputStream)>,
    _socket: TcpSocket,
}

impl Open {
    /// Connected, or only created where there is nothing to connect to.
    pub(crate) fn new(to: Option<SocketAddr>) -> Result<Self, Failure> {
        match to {
            Some(to) => Self::connect(to, None),
            None => {
                let socket = create_tcp_socket(IpAddressFamily::Ipv4).map_err(at("create-tcp-socket"))?;
                Ok(Self { streams: None, _socket: socket })
            }
        }
    }

    fn connect(to: SocketAddr, wait_ms: Option<u64>) -> Result<Self, Failure> {
        let socket = create_tcp_socket(convert::family(to)).map_err(at("create-tcp-socket"))?;
        socket.start_connect(&instance_network(), convert::socket_address(to)).map_err(at("start-connect"))?;
        let ready = socket.subscribe();
        let streams = loop {
            match socket.finish_connect() {
                Ok(streams) => break streams,
                Err(ErrorCode::WouldBlock) => until(&ready, wait_ms, "finish-connect")?,
                Err(code) => return Err(at("finish-connect")(code)),
            }
        };
        Ok(Self { streams: Some(streams), _socket: socket })
    }
}

pub(crate) fn talk(to: SocketAddr, talk: &Talk) -> Outcome {
    let open = Open::connect(to, talk.wait_ms)?;
    let mut members = Map::new();
    let Some((input, output)) = &open.streams else { return Ok(members) };
    if let Some(text) = &talk.send {
        for chunk in text.as_bytes().chunks(WRITE_BYTES) {
            output.blocking_write_and_flush(chunk).map_err(|error| broken(&error, "write"))?;
        }
        members = detail(json!({"sent": text.len()}));
    }
    if let Some(wanted) = talk.read {
        let bytes = read(input, u64::from(wanted), talk.wait_ms.unwrap_or(REPLY_MS))?;
        let sent = talk.send.as_ref().map_or(0, String::len);
        members = detail(json!({"sent": sent, "read": String::from_utf8_lossy(&bytes)}));
    }
    Ok(members)
}

/// Up to so many bytes; fewer where the other side closes, or pauses for too long after the first ones.
fn read(input: &InputStream, wanted: u64, wait_ms: u64) -> Result<Vec<u8>, Failure> {
    let mut bytes = Vec::new();
    let ready = input.subscribe();
    while (bytes.len() as u64) < wanted {
        match until(&ready, Some(wait_ms), "read") {
            Err(_) if !bytes.is_empty() => break,
            waited => waited?,
        }
        match input.read(wanted.saturating_sub(bytes.len() as u64)) {
            Ok(more) => bytes.extend(more),
            Err(StreamError::Closed) => break,
            Err(error) => return Err(broken(&error, "read")),
        }
    }
    Ok(bytes)
}

pub(crate) fn bind(to: SocketAddr) -> Result<TcpSocket, Failure> {
    let socket = create_tcp_socket(convert::family(to)).map_err(at("create-tcp-socket"))?;
    socket.start_bind(&instance_network(), convert::socket_address(to)).map_err(at("start-bind"))?;
    finish(&socket, TcpSocket::finish_bind, "finish-bind")?;
    Ok(socket)
}

pub(crate) fn listen(to: Option<SocketAddr>, accept: bool) -> Outcome {
    let socket = match to {
        Some(to) => bind(to)?,
        None => create_tcp_socket(IpAddressFamily::Ipv4).map_err(at("create-tcp-socket"))?,
    };
    socket.start_listen().map_err(at("start-listen"))?;
    finish(&socket, TcpSocket::finish_listen, "finish-listen")?;
    if accept {
        match socket.accept() {
            Ok(_) => return Ok(detail(json!("accepted"))),
            Err(ErrorCode::WouldBlock) => {}
            Err(code) => return Err(at("accept")(code)),
        }
    }
    Ok(Map::new())
}

fn finish(
    socket: &TcpSocket,
    function: fn(&TcpSocket) -> Result<(), ErrorCode>,
    name: &'static str,
) -> Result<(), Failure> {
    let ready = socket.subscribe();
    loop {
        match function(socket) {
            Err(ErrorCode::WouldBlock) => until(&ready, Some(REPLY_MS), name)?,
            done => return done.map_err(at(name)),
        }
    }
}

pub(crate) fn at(function: &'static str) -> impl Fn(ErrorCode) -> Failure {
    move |code| Failure::new(code.name(), function)
}

/// A stream has no codes of its own, only an error that can be looked at.
fn broken(error: &StreamError, at: &'static str) -> Failure {
    match error {
        StreamError::Closed => Failure::new("closed", at),
        StreamError::LastOperationFailed(error) => {
            Failure::new("last-operation-failed", at).with_detail(error.to_debug_string())
        }
    }
}
