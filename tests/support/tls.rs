//! Certificates, and an HTTPS server on loopback that remembers who came.

use std::io::{ErrorKind, Read, Write};
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, Instant};

use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, DnType, IsCa, KeyPair};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::WebPkiClientVerifier;
use rustls::{HandshakeKind, RootCertStore, ServerConfig, ServerConnection, StreamOwned};

const TICK: Duration = Duration::from_millis(50);
const MAX_LIFE: Duration = Duration::from_secs(60);

/// Issues certificates.
pub(crate) struct Authority(CertifiedIssuer<'static, KeyPair>);

/// A connection, and all that came over it.
#[derive(Clone, Debug)]
pub(crate) struct Visit {
    /// The client's certificate.
    pub(crate) client: Option<Vec<u8>>,
    pub(crate) resumed: bool,
    pub(crate) requests: String,
}

/// Answers every request with 200.
pub(crate) struct TlsServer {
    pub(crate) port: u16,
    ended: Arc<AtomicBool>,
    visits: Arc<Mutex<Vec<Visit>>>,
}

impl Authority {
    pub(crate) fn new(name: &str) -> Self {
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.distinguished_name.push(DnType::CommonName, name);
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        Self(CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap())
    }

    pub(crate) fn pem(&self) -> String {
        self.0.pem()
    }

    /// A certificate and its key in PEM.
    pub(crate) fn issue(&self, name: &str) -> (String, String) {
        let key = KeyPair::generate().unwrap();
        let certificate = CertificateParams::new(vec![name.to_owned()]).unwrap().signed_by(&key, &self.0).unwrap();
        (certificate.pem(), key.serialize_pem())
    }
}

/// The first certificate of a PEM text, as it is on the wire.
pub(crate) fn der(pem: &str) -> Vec<u8> {
    CertificateDer::from_pem_slice(pem.as_bytes()).unwrap().to_vec()
}

impl TlsServer {
    /// For `ok.test`, with a certificate of `authority`. Asks for a client certificate of `clients`, and takes those that have
    /// none.
    pub(crate) fn start(authority: &Authority, clients: &[&Authority]) -> Self {
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let mut roots = RootCertStore::empty();
        for client in clients {
            roots.add(der(&client.pem()).into()).unwrap();
        }
        let verifier = WebPkiClientVerifier::builder_with_provider(roots.into(), Arc::clone(&provider));
        let (certificate, key) = authority.issue("ok.test");
        let config = ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_client_cert_verifier(verifier.allow_unauthenticated().build().unwrap())
            .with_single_cert(vec![der(&certificate).into()], PrivateKeyDer::from_pem_slice(key.as_bytes()).unwrap())
            .unwrap();
        let config = Arc::new(config);
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let server =
            Self { port: listener.local_addr().unwrap().port(), ended: Arc::default(), visits: Arc::default() };
        let (ended, visits) = (Arc::clone(&server.ended), Arc::clone(&server.visits));
        thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                if ended.load(Ordering::SeqCst) {
                    return;
                }
                let (config, ended, visits) = (Arc::clone(&config), Arc::clone(&ended), Arc::clone(&visits));
                // A client that breaks off is seen in what it did not ask for.
                thread::spawn(move || drop(serve(stream, config, &ended, &visits)));
            }
        });
        server
    }

    pub(crate) fn visits(&self) -> Vec<Visit> {
        self.visits.lock().unwrap().clone()
    }
}

impl Drop for TlsServer {
    fn drop(&mut self) {
        self.ended.store(true, Ordering::SeqCst);
        drop(TcpStream::connect((Ipv4Addr::LOCALHOST, self.port)));
    }
}

fn serve(
    stream: TcpStream,
    config: Arc<ServerConfig>,
    ended: &AtomicBool,
    visits: &Mutex<Vec<Visit>>,
) -> Result<(), Box<dyn std::error::Error>> {
    stream.set_read_timeout(Some(MAX_LIFE))?;
    let mut tls = StreamOwned::new(ServerConnection::new(config)?, stream);
    while tls.conn.is_handshaking() {
        tls.conn.complete_io(&mut tls.sock)?;
    }
    let visit = Visit {
        client: tls.conn.peer_certificates().and_then(|chain| chain.first()).map(|first| first.to_vec()),
        resumed: tls.conn.handshake_kind() == Some(HandshakeKind::Resumed),
        requests: String::new(),
    };
    let number = {
        let mut visits = visits.lock().unwrap();
        visits.push(visit);
        visits.len() - 1
    };
    tls.sock.set_read_timeout(Some(TICK))?;
    let until = Instant::now() + MAX_LIFE;
    let mut head = Vec::new();
    let mut buffer = [0; 4096];
    while !ended.load(Ordering::SeqCst) && Instant::now() < until {
        match tls.read(&mut buffer) {
            Ok(0) => break,
            Ok(count) => head.extend_from_slice(&buffer[..count]),
            Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => continue,
            Err(error) => return Err(error.into()),
        }
        if head.ends_with(b"\r\n\r\n") {
            visits.lock().unwrap()[number].requests += &String::from_utf8_lossy(&head);
            head.clear();
            tls.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok")?;
        }
    }
    Ok(())
}
