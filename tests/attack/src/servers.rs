//! The servers that a vector's addresses have: one that answers HTTP with and without TLS, told apart by a connection's first
//! byte, and one that takes what comes and says nothing.

use std::collections::BTreeSet;
use std::io::{self, Cursor, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use rustix::net::SocketType;
use rustls::server::Acceptor;

use crate::namespace::bound;
use crate::tls::{self, Authority};
use crate::vector::TlsFault;

/// Connections at a time; a storm of them costs the ones past it.
const CONNECTIONS_MAX: usize = 256;
const WAIT: Duration = Duration::from_secs(60);
const HEAD_MAX: usize = 256 << 10;
const HANDSHAKE: u8 = 22;
/// The path that asks for a redirection to where nobody may go.
const REDIRECT: &str = "/redirect-to-loopback";

/// What all web servers of a vector have in common.
pub(crate) struct Web {
    authority: Authority,
    fault: Option<TlsFault>,
    names: Mutex<BTreeSet<String>>,
    open: AtomicUsize,
}

impl Web {
    pub(crate) fn new(authority: Authority, fault: Option<TlsFault>) -> Arc<Self> {
        Arc::new(Self { authority, fault, names: Mutex::default(), open: AtomicUsize::new(0) })
    }

    /// The server names of the ClientHellos so far.
    pub(crate) fn names(&self) -> BTreeSet<String> {
        self.names.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn serve(&self, mut stream: TcpStream, address: SocketAddr) -> anyhow::Result<()> {
        stream.set_read_timeout(Some(WAIT))?;
        stream.set_write_timeout(Some(WAIT))?;
        let mut first = [0];
        stream.read_exact(&mut first)?;
        if first != [HANDSHAKE] {
            return Ok(converse(&mut Plain { begun: Cursor::new(first), stream })?);
        }
        let mut header = [HANDSHAKE, 0, 0, 0, 0];
        if let Some(rest) = header.get_mut(1..) {
            stream.read_exact(rest)?;
        }
        let [.., high, low] = header;
        let mut record = vec![0; usize::from(u16::from_be_bytes([high, low]))];
        stream.read_exact(&mut record)?;
        let name = tls::server_name(&record);
        if let Some(name) = &name {
            self.names.lock().unwrap_or_else(PoisonError::into_inner).insert(name.clone());
        }
        if self.fault == Some(TlsFault::OldOnly) {
            return Ok(stream.write_all(&tls::OLD_SERVER)?);
        }
        let mut begun = Cursor::new([&header[..], &record].concat());
        let mut acceptor = Acceptor::default();
        let accepted = loop {
            let read = acceptor.read_tls(&mut (&mut begun).chain(&stream))?;
            match acceptor.accept() {
                Ok(Some(accepted)) => break accepted,
                Ok(None) if read > 0 => {}
                Ok(None) => return Ok(()),
                Err((error, mut alert)) => {
                    alert.write_all(&mut stream)?;
                    return Err(error.into());
                }
            }
        };
        let config = self.authority.server(name.as_deref(), address, self.fault)?;
        let mut connection = match accepted.into_connection(config) {
            Ok(connection) => connection,
            Err((error, mut alert)) => {
                alert.write_all(&mut stream)?;
                return Err(error.into());
            }
        };
        Ok(converse(&mut Secured { connection: &mut connection, stream })?)
    }
}

/// A connection whose first byte was read already.
struct Plain {
    begun: Cursor<[u8; 1]>,
    stream: TcpStream,
}

impl Read for Plain {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        match self.begun.read(buffer)? {
            0 => self.stream.read(buffer),
            length => Ok(length),
        }
    }
}

impl Write for Plain {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.stream.write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.stream.flush()
    }
}

/// A TLS connection as one thing that reads and writes.
struct Secured<'a> {
    connection: &'a mut rustls::ServerConnection,
    stream: TcpStream,
}

impl Read for Secured<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        rustls::Stream::new(self.connection, &mut self.stream).read(buffer)
    }
}

impl Write for Secured<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        rustls::Stream::new(self.connection, &mut self.stream).write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        rustls::Stream::new(self.connection, &mut self.stream).flush()
    }
}

/// Answers HTTP/1.1 requests until the client leaves.
fn converse<S: Read + Write>(stream: &mut S) -> io::Result<()> {
    let mut buffer = Vec::new();
    loop {
        let Some(end) = until(stream, &mut buffer, b"\r\n\r\n")? else { return Ok(()) };
        let head = String::from_utf8_lossy(buffer.get(..end).unwrap_or_default()).into_owned();
        buffer.drain(..end);
        let mut lines = head.lines();
        let mut words = lines.next().unwrap_or_default().split(' ');
        let (method, path) = (words.next().unwrap_or_default(), words.next().unwrap_or_default());
        let field = |wanted: &str| {
            let mut fields = head.lines().skip(1).filter_map(|line| line.split_once(':'));
            fields.find(|(name, _)| name.eq_ignore_ascii_case(wanted)).map(|(_, value)| value.trim().to_lowercase())
        };
        if field("expect").is_some_and(|value| value == "100-continue") {
            stream.write_all(b"HTTP/1.1 100 Continue\r\n\r\n")?;
        }
        if field("transfer-encoding").is_some_and(|value| value.contains("chunked")) {
            if !skip_chunks(stream, &mut buffer)? {
                return Ok(());
            }
        } else {
            let length = field("content-length").and_then(|value| value.parse().ok()).unwrap_or(0);
            if !skip(stream, &mut buffer, length)? {
                return Ok(());
            }
        }
        let answer = if path == REDIRECT {
            "HTTP/1.1 302 Found\r\nlocation: http://127.0.0.1/\r\ncontent-length: 0\r\n\r\n"
        } else if method == "HEAD" {
            "HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\n"
        } else {
            "HTTP/1.1 200 OK\r\ncontent-type: text/plain\r\ncontent-length: 2\r\n\r\nok"
        };
        stream.write_all(answer.as_bytes())?;
        stream.flush()?;
        if field("connection").is_some_and(|value| value == "close") {
            return Ok(());
        }
    }
}

/// Reads until `mark` is in the buffer; the place after it, or `None` at the end of the stream.
fn until<S: Read>(stream: &mut S, buffer: &mut Vec<u8>, mark: &[u8]) -> io::Result<Option<usize>> {
    loop {
        if let Some(at) = buffer.windows(mark.len()).position(|window| window == mark) {
            return Ok(Some(at + mark.len()));
        }
        if buffer.len() > HEAD_MAX || !more(stream, buffer)? {
            return Ok(None);
        }
    }
}

/// Takes this many bytes off; false at the end of the stream.
fn skip<S: Read>(stream: &mut S, buffer: &mut Vec<u8>, mut length: usize) -> io::Result<bool> {
    loop {
        let taken = length.min(buffer.len());
        buffer.drain(..taken);
        length -= taken;
        if length == 0 {
            return Ok(true);
        }
        if !more(stream, buffer)? {
            return Ok(false);
        }
    }
}

fn skip_chunks<S: Read>(stream: &mut S, buffer: &mut Vec<u8>) -> io::Result<bool> {
    loop {
        let Some(end) = until(stream, buffer, b"\r\n")? else { return Ok(false) };
        let line = String::from_utf8_lossy(buffer.get(..end).unwrap_or_default()).into_owned();
        buffer.drain(..end);
        let size = line.split(';').next().unwrap_or_default().trim();
        let Ok(size) = usize::from_str_radix(size, 16) else { return Ok(false) };
        if size == 0 {
            // The trailer ends with an empty line.
            while let Some(end) = until(stream, buffer, b"\r\n")? {
                buffer.drain(..end);
                if end == 2 {
                    return Ok(true);
                }
            }
            return Ok(false);
        }
        if !skip(stream, buffer, size.saturating_add(2))? {
            return Ok(false);
        }
    }
}

fn more<S: Read>(stream: &mut S, buffer: &mut Vec<u8>) -> io::Result<bool> {
    let mut bytes = [0; 16_384];
    let length = stream.read(&mut bytes)?;
    buffer.extend(bytes.get(..length).unwrap_or_default());
    Ok(length > 0)
}

/// What a TCP server does with a connection.
#[derive(Clone)]
pub(crate) enum Manner {
    /// Answers HTTP and HTTPS.
    Web(Arc<Web>),
    /// Reads and is silent.
    Mute,
}

/// Serves at this address until the process ends; gives the address, for a port that was left open.
///
/// # Errors
/// When the address cannot be had.
pub(crate) fn serve(address: SocketAddr, manner: Manner) -> io::Result<SocketAddr> {
    let socket = bound(address, SocketType::STREAM)?;
    rustix::net::listen(&socket, 1024)?;
    let listener = TcpListener::from(socket);
    let address = listener.local_addr()?;
    std::thread::Builder::new().name(format!("tcp-{}", address.port())).spawn(move || {
        for stream in listener.incoming().flatten() {
            let manner = manner.clone();
            let worker = std::thread::Builder::new().name("connection".into());
            // A thread that cannot be made costs its connection, which is dropped.
            drop(worker.spawn(move || attend(stream, address, &manner)));
        }
    })?;
    Ok(address)
}

fn attend(mut stream: TcpStream, address: SocketAddr, manner: &Manner) {
    match manner {
        Manner::Web(web) => {
            if web.open.fetch_add(1, Ordering::Relaxed) < CONNECTIONS_MAX {
                // The client sees how it ended; what it makes of it is what is tested.
                drop(web.serve(stream, address));
            }
            web.open.fetch_sub(1, Ordering::Relaxed);
        }
        Manner::Mute => drop(io::copy(&mut stream, &mut io::sink())),
    }
}

/// Takes datagrams and says nothing, so that no "port unreachable" comes back.
///
/// # Errors
/// When the address cannot be had.
pub(crate) fn swallow(address: SocketAddr) -> io::Result<()> {
    let socket = UdpSocket::from(bound(address, SocketType::DGRAM)?);
    std::thread::Builder::new().name("udp".into()).spawn(move || {
        let mut buffer = [0; 2048];
        while socket.recv(&mut buffer).is_ok() {}
    })?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use rustls::crypto::ring;
    use rustls::pki_types::pem::PemObject;
    use rustls::pki_types::{CertificateDer, ServerName};
    use rustls::{AlertDescription, CertificateError, ClientConfig, ClientConnection, Error, RootCertStore};

    use super::*;

    fn web(fault: Option<TlsFault>) -> (Arc<Web>, SocketAddr) {
        let web = Web::new(Authority::new().unwrap(), fault);
        let address = serve("127.0.0.1:0".parse().unwrap(), Manner::Web(Arc::clone(&web))).unwrap();
        (web, address)
    }

    /// The answer to a request over TLS, or the error of the handshake.
    fn over_tls(web: &Web, address: SocketAddr, name: &str, request: &str) -> Result<String, Error> {
        let mut roots = RootCertStore::empty();
        roots.add(CertificateDer::from_pem_slice(web.authority.pem().as_bytes()).unwrap()).unwrap();
        let config = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_root_certificates(roots)
            .with_no_client_auth();
        let name = ServerName::try_from(name.to_owned()).unwrap();
        let mut connection = ClientConnection::new(Arc::new(config), name).unwrap();
        let mut stream = TcpStream::connect(address).unwrap();
        stream.set_read_timeout(Some(WAIT)).unwrap();
        let mut tls = rustls::Stream::new(&mut connection, &mut stream);
        let failed = |error: io::Error| error.get_ref().unwrap().downcast_ref::<Error>().unwrap().clone();
        tls.write_all(request.as_bytes()).map_err(failed)?;
        let mut answer = vec![0; 1024];
        let length = tls.read(&mut answer).map_err(failed)?;
        Ok(String::from_utf8_lossy(&answer[..length]).into_owned())
    }

    #[test]
    fn a_trusted_client_gets_its_page_under_any_name_and_the_names_are_seen() {
        let (web, address) = web(None);
        for name in ["ok.test", "127.0.0.1"] {
            let answer = over_tls(&web, address, name, "GET / HTTP/1.1\r\nhost: x\r\n\r\n").unwrap();
            assert!(answer.starts_with("HTTP/1.1 200 "), "{answer}");
        }
        let answer = over_tls(&web, address, "ok.test", "GET /redirect-to-loopback HTTP/1.1\r\n\r\n").unwrap();
        assert!(answer.starts_with("HTTP/1.1 302 ") && answer.contains("location: http://127.0.0.1/\r\n"));
        assert_eq!(web.names(), ["ok.test".to_owned()].into());
    }

    #[test]
    fn each_fault_is_seen_by_the_client_as_what_it_is() {
        let request = "GET / HTTP/1.1\r\n\r\n";
        let (wrong, address) = web(Some(TlsFault::WrongName));
        let error = over_tls(&wrong, address, "ok.test", request).unwrap_err();
        let mismatch = |error: &CertificateError| {
            matches!(error, CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. })
        };
        assert!(matches!(&error, Error::InvalidCertificate(why) if mismatch(why)), "{error:?}");
        let (own, address) = web(Some(TlsFault::SelfSigned));
        let error = over_tls(&own, address, "ok.test", request).unwrap_err();
        assert!(matches!(error, Error::InvalidCertificate(_)), "{error:?}");
        let (old, address) = web(Some(TlsFault::OldOnly));
        let error = over_tls(&old, address, "ok.test", request).unwrap_err();
        assert_eq!(error, Error::AlertReceived(AlertDescription::ProtocolVersion));
        assert_eq!(old.names(), ["ok.test".to_owned()].into());
    }

    #[test]
    fn a_connection_without_tls_answers_requests_one_after_the_other() {
        let (_web, address) = web(None);
        let mut stream = TcpStream::connect(address).unwrap();
        stream.set_read_timeout(Some(WAIT)).unwrap();
        let requests = "POST / HTTP/1.1\r\ncontent-length: 3\r\n\r\nabcPUT / HTTP/1.1\r\ntransfer-encoding: chunked\r\n\r\n\
            3\r\nabc\r\n0\r\n\r\nHEAD / HTTP/1.1\r\nconnection: close\r\n\r\n";
        stream.write_all(requests.as_bytes()).unwrap();
        let mut answers = String::new();
        stream.read_to_string(&mut answers).unwrap();
        assert_eq!(answers.matches("HTTP/1.1 200 OK").count(), 3, "{answers}");
    }
}
