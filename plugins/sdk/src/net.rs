//! TCP connections and name lookups, by the imports of `wasi:sockets`. Needs the feature `net` and the grant `egress`.
//!
//! ```no_run
//! use std::io::{Read, Write};
//!
//! use portcullis_plugin::net;
//!
//! let mut stream = net::TcpStream::connect("cache.example.com", 6379)?;
//! stream.write_all(b"PING\r\n")?;
//! let mut reply = [0; 7];
//! stream.read_exact(&mut reply)?;
//! # Ok::<(), std::io::Error>(())
//! ```
//!
//! Reading and writing block the plugin, at most until its deadline for the message. Under `cargo test` these are the host's own
//! sockets, so that a test can listen on 127.0.0.1.

use std::fmt;
use std::io::{self, Read, Write};
use std::net::{IpAddr, SocketAddr};

#[cfg_attr(target_arch = "wasm32", path = "net/guest.rs")]
#[cfg_attr(not(target_arch = "wasm32"), path = "net/native.rs")]
mod backend;
#[cfg(target_arch = "wasm32")]
#[doc(hidden)]
pub mod convert;

pub use crate::error::Error;

/// How many addresses of a name are tried, in the order of the answer.
const MAX_ATTEMPTS: usize = 8;

/// A connection. Dropping it closes it.
pub struct TcpStream {
    backend: backend::Stream,
    peer: SocketAddr,
}

/// The addresses of a name, in the order of the answer.
///
/// # Errors
/// `name-unresolvable` where there are none that the plugin may know, `permanent-resolver-failure` where the name is not granted,
/// `temporary-resolver-failure` where the name server gave no answer.
pub fn lookup(name: &str) -> Result<Vec<IpAddr>, Error> {
    backend::lookup(name)
}

impl TcpStream {
    /// Connects to a name or an address (IPv6 without brackets). The addresses of a name are tried one after the other.
    ///
    /// # Errors
    /// As [`lookup`], and `access-denied` where the connection is not granted, `connection-refused` and so on where it failed. Of
    /// several addresses the error of the last.
    pub fn connect(host: &str, port: u16) -> Result<Self, Error> {
        let addresses = match host.parse::<IpAddr>() {
            Ok(address) => vec![address],
            Err(_) => lookup(host)?,
        };
        let mut last = Error::new("name-unresolvable", "resolve-addresses");
        for address in addresses.into_iter().take(MAX_ATTEMPTS) {
            let peer = SocketAddr::new(address, port);
            match backend::Stream::connect(peer) {
                Ok(backend) => return Ok(Self { backend, peer }),
                Err(error) => last = error,
            }
        }
        Err(last)
    }

    /// The address that was connected to.
    #[must_use]
    pub const fn peer(&self) -> SocketAddr {
        self.peer
    }

    /// Says that nothing more will be written. What the other side sends can still be read.
    ///
    /// # Errors
    /// Where the connection is already gone.
    pub fn finish(&mut self) -> Result<(), Error> {
        self.backend.finish()
    }
}

impl Read for TcpStream {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.backend.read(buffer)
    }
}

impl Write for TcpStream {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.backend.write(bytes)
    }

    /// Does nothing: what was written has been handed to the host.
    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl fmt::Debug for TcpStream {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("TcpStream").field("peer", &self.peer).finish_non_exhaustive()
    }
}
