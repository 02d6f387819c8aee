//! Certificates of the runner's own authority, and what a ClientHello asks for.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use anyhow::Context;
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, DnType, IsCa, KeyPair, KeyUsagePurpose};
use rustls::ServerConfig;
use rustls::crypto::ring;
use rustls::pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer};

use crate::vector::TlsFault;

/// The authority that the bridge is told to trust.
pub(crate) struct Authority {
    issuer: CertifiedIssuer<'static, KeyPair>,
}

impl Authority {
    /// # Errors
    /// When the system has no random numbers.
    pub(crate) fn new() -> anyhow::Result<Self> {
        let mut params = CertificateParams::new(Vec::new())?;
        params.distinguished_name.push(DnType::CommonName, "Portcullis attack runner");
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::DigitalSignature];
        Ok(Self { issuer: CertifiedIssuer::self_signed(params, KeyPair::generate()?)? })
    }

    /// The authority's certificate.
    pub(crate) fn pem(&self) -> String {
        self.issuer.pem()
    }

    /// What a server at this address shows to a client that asked for this name.
    ///
    /// # Errors
    /// When no certificate can be made for the name.
    pub(crate) fn server(
        &self,
        name: Option<&str>,
        address: SocketAddr,
        fault: Option<TlsFault>,
    ) -> anyhow::Result<Arc<ServerConfig>> {
        let subject = match (fault, name) {
            (Some(TlsFault::WrongName), _) => "wrong.invalid".to_owned(),
            (_, Some(name)) => name.to_owned(),
            (_, None) => IpAddr::to_string(&address.ip()),
        };
        let params = CertificateParams::new(vec![subject.clone()]).with_context(|| format!("no name: `{subject}`"))?;
        let key = KeyPair::generate()?;
        let certificate = if fault == Some(TlsFault::SelfSigned) {
            params.self_signed(&key)?
        } else {
            params.signed_by(&key, &self.issuer)?
        };
        let key = PrivateKeyDer::from(PrivatePkcs8KeyDer::from(key.serialize_der()));
        let mut config = ServerConfig::builder_with_provider(Arc::new(ring::default_provider()))
            .with_safe_default_protocol_versions()?
            .with_no_client_auth()
            .with_single_cert(vec![certificate.der().clone()], key)?;
        config.alpn_protocols = vec![b"http/1.1".to_vec()];
        Ok(Arc::new(config))
    }
}

/// What a server says that knows no version after TLS 1.0: the alert `protocol_version`, in a record of 1.0.
pub(crate) const OLD_SERVER: [u8; 7] = [21, 3, 1, 0, 2, 2, 70];

/// The server name of a ClientHello, letter for letter; the record's header is not part of `message`.
pub(crate) fn server_name(message: &[u8]) -> Option<String> {
    const CLIENT_HELLO: u8 = 1;
    const SERVER_NAME: u16 = 0;
    let mut hello = Reader(message);
    if hello.byte()? != CLIENT_HELLO {
        return None;
    }
    // Its length (it may span records; the name comes early), the version, the random.
    hello.take(3 + 2 + 32)?;
    let session = hello.byte()?;
    hello.take(usize::from(session))?;
    let suites = hello.two()?;
    hello.take(usize::from(suites))?;
    let compressions = hello.byte()?;
    hello.take(usize::from(compressions))?;
    hello.two()?;
    loop {
        let (kind, length) = (hello.two()?, hello.two()?);
        let mut extension = Reader(hello.take(usize::from(length))?);
        if kind == SERVER_NAME {
            extension.two()?;
            // The only type there is: a host name.
            extension.byte()?;
            let length = extension.two()?;
            return Some(extension.take(usize::from(length))?.escape_ascii().to_string());
        }
    }
}

struct Reader<'a>(&'a [u8]);

impl<'a> Reader<'a> {
    fn take(&mut self, length: usize) -> Option<&'a [u8]> {
        let (taken, rest) = self.0.split_at_checked(length)?;
        self.0 = rest;
        Some(taken)
    }

    fn byte(&mut self) -> Option<u8> {
        self.take(1)?.first().copied()
    }

    fn two(&mut self) -> Option<u16> {
        Some(u16::from_be_bytes(self.take(2)?.try_into().ok()?))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_no_client_hello_has_no_name() {
        for message in [&[][..], &[2; 100], &[1; 40], &[1; 200]] {
            assert_eq!(server_name(message), None);
        }
    }

    #[test]
    fn a_server_without_a_name_asked_shows_its_address() {
        let authority = Authority::new().unwrap();
        let address = "93.184.216.34:443".parse().unwrap();
        for fault in [None, Some(TlsFault::WrongName), Some(TlsFault::SelfSigned)] {
            authority.server(None, address, fault).unwrap();
            authority.server(Some("ok.test"), address, fault).unwrap();
        }
    }
}
