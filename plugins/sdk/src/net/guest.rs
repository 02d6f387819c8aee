//! Sockets by the host's `wasi:sockets`.

use std::io;
use std::net::{IpAddr, SocketAddr};

use crate::bindings::io::wasi::io::streams::{InputStream, OutputStream, StreamError};
use crate::bindings::net::wasi::sockets::instance_network::instance_network;
use crate::bindings::net::wasi::sockets::ip_name_lookup::resolve_addresses;
use crate::bindings::net::wasi::sockets::network::ErrorCode;
use crate::bindings::net::wasi::sockets::tcp::{ShutdownType, TcpSocket};
use crate::bindings::net::wasi::sockets::tcp_create_socket::create_tcp_socket;
use crate::error::Error;
use crate::net::convert;

/// `blocking-write-and-flush` takes no more at once.
const WRITE_BYTES: usize = 4096;
const READ_BYTES: usize = 64 << 10;
/// No name has so many; a resolver that does not end is not followed.
const MAX_ADDRESSES: usize = 256;

pub(super) fn lookup(name: &str) -> Result<Vec<IpAddr>, Error> {
    let stream = resolve_addresses(&instance_network(), name).map_err(at("resolve-addresses"))?;
    let ready = stream.subscribe();
    let mut addresses = Vec::new();
    while addresses.len() < MAX_ADDRESSES {
        match stream.resolve_next_address() {
            Ok(Some(address)) => addresses.push(convert::address(address)),
            Ok(None) => break,
            Err(ErrorCode::WouldBlock) => ready.block(),
            Err(code) => return Err(at("resolve-next-address")(code)),
        }
    }
    Ok(addresses)
}

/// The host forbids a socket to go before its streams; fields are dropped in this order.
pub(super) struct Stream {
    input: InputStream,
    output: OutputStream,
    socket: TcpSocket,
}

impl Stream {
    pub(super) fn connect(peer: SocketAddr) -> Result<Self, Error> {
        let socket = create_tcp_socket(convert::family(peer)).map_err(at("create-tcp-socket"))?;
        socket.start_connect(&instance_network(), convert::socket_address(peer)).map_err(at("start-connect"))?;
        let ready = socket.subscribe();
        loop {
            match socket.finish_connect() {
                Ok((input, output)) => return Ok(Self { input, output, socket }),
                Err(ErrorCode::WouldBlock) => ready.block(),
                Err(code) => return Err(at("finish-connect")(code)),
            }
        }
    }

    pub(super) fn finish(&mut self) -> Result<(), Error> {
        self.socket.shutdown(ShutdownType::Send).map_err(at("shutdown"))
    }

    pub(super) fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if buffer.is_empty() {
            return Ok(0);
        }
        let wanted = buffer.len().min(READ_BYTES);
        let bytes = match self.input.blocking_read(wanted as u64) {
            Ok(bytes) => bytes,
            Err(StreamError::Closed) => return Ok(0),
            Err(StreamError::LastOperationFailed(error)) => return Err(io::Error::other(error.to_debug_string())),
        };
        // To read nothing is to be at the end; so a caller that gets nothing yet asks again.
        if bytes.is_empty() {
            return Err(io::ErrorKind::Interrupted.into());
        }
        match buffer.get_mut(..bytes.len()) {
            Some(place) => place.copy_from_slice(&bytes),
            None => return Err(io::Error::other("the host gave more than was asked for")),
        }
        Ok(bytes.len())
    }

    pub(super) fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let chunk = bytes.get(..WRITE_BYTES).unwrap_or(bytes);
        match self.output.blocking_write_and_flush(chunk) {
            Ok(()) => Ok(chunk.len()),
            Err(StreamError::Closed) => Err(io::ErrorKind::BrokenPipe.into()),
            Err(StreamError::LastOperationFailed(error)) => Err(io::Error::other(error.to_debug_string())),
        }
    }
}

fn at(function: &'static str) -> impl Fn(ErrorCode) -> Error {
    move |code| Error::new(code.name(), function)
}
