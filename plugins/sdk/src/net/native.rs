//! The host's own sockets, for `cargo test`.

use std::io::{self, Read, Write};
use std::net::{IpAddr, Shutdown, SocketAddr, TcpStream, ToSocketAddrs};

use crate::error::Error;

pub(super) fn lookup(name: &str) -> Result<Vec<IpAddr>, Error> {
    let addresses = (name, 0).to_socket_addrs().map_err(|_| Error::new("name-unresolvable", "resolve-addresses"))?;
    Ok(addresses.map(|address| address.ip()).collect())
}

pub(super) struct Stream(TcpStream);

impl Stream {
    pub(super) fn connect(peer: SocketAddr) -> Result<Self, Error> {
        TcpStream::connect(peer).map(Self).map_err(|error| failed(&error, "finish-connect"))
    }

    pub(super) fn finish(&mut self) -> Result<(), Error> {
        self.0.shutdown(Shutdown::Write).map_err(|error| failed(&error, "shutdown"))
    }

    pub(super) fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.0.read(buffer)
    }

    pub(super) fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.write(bytes)
    }
}

fn failed(error: &io::Error, at: &'static str) -> Error {
    let code = match error.kind() {
        io::ErrorKind::ConnectionRefused => "connection-refused",
        io::ErrorKind::ConnectionReset => "connection-reset",
        io::ErrorKind::TimedOut => "timeout",
        io::ErrorKind::HostUnreachable | io::ErrorKind::NetworkUnreachable => "remote-unreachable",
        io::ErrorKind::InvalidInput => "invalid-argument",
        _ => "unknown",
    };
    Error::new(code, at).with_detail(error.to_string())
}

#[cfg(test)]
mod tests {
    use std::io::{Read, Write};
    use std::net::TcpListener;

    use crate::net::TcpStream;

    #[test]
    fn what_is_written_comes_back_from_a_listener_of_the_test() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let server = std::thread::spawn(move || {
            let (mut stream, _) = listener.accept().unwrap();
            let mut text = String::new();
            stream.read_to_string(&mut text).unwrap();
            stream.write_all(text.to_uppercase().as_bytes()).unwrap();
        });
        let mut stream = TcpStream::connect("127.0.0.1", port).unwrap();
        assert_eq!(stream.peer().port(), port);
        stream.write_all(b"abc").unwrap();
        stream.finish().unwrap();
        let mut reply = String::new();
        stream.read_to_string(&mut reply).unwrap();
        assert_eq!(reply, "ABC");
        server.join().unwrap();
        assert_eq!(TcpStream::connect("127.0.0.1", port).unwrap_err().code(), "connection-refused");
    }
}
