//! TLS towards the outside: which roots are trusted, which certificate is shown, and what a failed handshake means. One
//! profile for a plugin, and one more for each of its rules with roots or a client certificate of its own; a profile's
//! session tickets stay in it, so that no plugin resumes the session of another.

use std::io;
use std::path::Path;
use std::sync::{Arc, OnceLock};

use portcullis_policy::{Host, Reason};
use rustls::client::Resumption;
use rustls::crypto::CryptoProvider;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::{
    AlertDescription, CertificateError, ClientConfig, ClientConnection, PeerIncompatible, ProtocolVersion,
    RootCertStore,
};
use thiserror::Error;

/// Sessions that one profile remembers.
const SESSIONS: usize = 64;

/// Where distributions keep their roots.
const BUNDLES: [&str; 4] = [
    "/etc/ssl/certs/ca-certificates.crt",
    "/etc/pki/tls/certs/ca-bundle.crt",
    "/etc/ssl/ca-bundle.pem",
    "/etc/ssl/cert.pem",
];

/// Why certificates or a key could not be used. Never holds a part of a key.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum TlsError {
    /// No certificate in it.
    #[error("holds no certificate in PEM")]
    NoCertificate,
    /// A certificate that cannot be read.
    #[error("holds a certificate that cannot be read")]
    BadCertificate,
    /// No private key in it, or one in a form that is not known.
    #[error("holds no private key in PEM")]
    NoKey,
    /// The key does not fit the certificate, or is of a kind that is not supported.
    #[error("certificate and key do not make a client certificate: {0}")]
    BadPair(rustls::Error),
    /// None of the usual bundles is there.
    #[error("no bundle of root certificates was found; name one with `egress.tls.roots`")]
    NoBundle,
}

/// The roots in a PEM text; everything else in it is passed over.
///
/// # Errors
/// When it holds no certificate, or one that cannot be a root.
pub fn roots_from_pem(pem: &[u8]) -> Result<Arc<RootCertStore>, TlsError> {
    let mut roots = RootCertStore::empty();
    for certificate in CertificateDer::pem_slice_iter(pem) {
        let certificate = certificate.map_err(|_| TlsError::BadCertificate)?;
        roots.add(certificate).map_err(|_| TlsError::BadCertificate)?;
    }
    if roots.is_empty() { Err(TlsError::NoCertificate) } else { Ok(Arc::new(roots)) }
}

/// The roots of the system. Reads the usual bundles only: no variable of the environment can name another.
///
/// # Errors
/// When there is no bundle, or nothing in it can be used.
pub fn system_roots() -> Result<Arc<RootCertStore>, TlsError> {
    let bundle = BUNDLES.iter().find_map(|path| std::fs::read(Path::new(path)).ok()).ok_or(TlsError::NoBundle)?;
    // A distribution's bundle may hold one that this library does not read; the others still count.
    let certificates = CertificateDer::pem_slice_iter(&bundle).filter_map(Result::ok);
    let mut roots = RootCertStore::empty();
    let (added, _) = roots.add_parsable_certificates(certificates);
    if added == 0 { Err(TlsError::NoCertificate) } else { Ok(Arc::new(roots)) }
}

/// The TLS of one rule that has roots or a client certificate of its own. It is checked when it is made, so that a bad file
/// is found before anything runs. Not `Clone`: a profile belongs to one plugin.
#[derive(Debug)]
pub struct RuleTls {
    rule: usize,
    config: Arc<ClientConfig>,
}

impl RuleTls {
    /// For the rule at this index of the policy. `ca` replaces `roots`; `client` is certificate chain and key. All in PEM.
    ///
    /// # Errors
    /// When a text does not hold what it should, or key and certificate do not fit.
    pub fn new(
        rule: usize,
        ca: Option<&[u8]>,
        client: Option<(&[u8], &[u8])>,
        roots: &Arc<RootCertStore>,
    ) -> Result<Self, TlsError> {
        let roots = ca.map_or_else(|| Ok(roots.clone()), roots_from_pem)?;
        let client = client.map(|(certificate, key)| pair(certificate, key)).transpose()?;
        Ok(Self { rule, config: config(roots, client).map_err(TlsError::BadPair)? })
    }

    pub(crate) fn is_for(&self, rule: usize) -> bool {
        self.rule == rule
    }

    pub(crate) fn config(&self) -> &Arc<ClientConfig> {
        &self.config
    }
}

type Pair = (Vec<CertificateDer<'static>>, PrivateKeyDer<'static>);

fn pair(certificate: &[u8], key: &[u8]) -> Result<Pair, TlsError> {
    let chain: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(certificate).collect();
    let chain = chain.map_err(|_| TlsError::BadCertificate)?;
    if chain.is_empty() {
        return Err(TlsError::NoCertificate);
    }
    Ok((chain, PrivateKeyDer::from_pem_slice(key).map_err(|_| TlsError::NoKey)?))
}

/// The one provider, passed on explicitly: whichever crate installs a default elsewhere changes nothing here.
fn provider() -> Arc<CryptoProvider> {
    static PROVIDER: OnceLock<Arc<CryptoProvider>> = OnceLock::new();
    PROVIDER.get_or_init(|| Arc::new(rustls::crypto::ring::default_provider())).clone()
}

fn config(roots: Arc<RootCertStore>, client: Option<Pair>) -> Result<Arc<ClientConfig>, rustls::Error> {
    let builder = ClientConfig::builder_with_provider(provider())
        .with_protocol_versions(&[&rustls::version::TLS13, &rustls::version::TLS12])?
        .with_root_certificates(roots);
    let mut config = match client {
        Some((chain, key)) => builder.with_client_auth_cert(chain, key)?,
        None => builder.with_no_client_auth(),
    };
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    config.resumption = Resumption::in_memory_sessions(SESSIONS);
    // Early data can be replayed by whoever sees it.
    config.enable_early_data = false;
    Ok(Arc::new(config))
}

/// The profile of a plugin's rules that name neither roots nor a certificate.
pub(crate) fn profile(roots: Arc<RootCertStore>) -> Result<Arc<ClientConfig>, rustls::Error> {
    config(roots, None)
}

/// The version that was agreed on.
pub(crate) fn version(connection: &ClientConnection) -> Option<&'static str> {
    match connection.protocol_version()? {
        ProtocolVersion::TLSv1_2 => Some("1.2"),
        ProtocolVersion::TLSv1_3 => Some("1.3"),
        _ => None,
    }
}

/// The name that the server's certificate must have, and that is sent as SNI where it is a name.
pub(crate) fn server_name(host: &Host) -> Option<ServerName<'static>> {
    match host {
        Host::Name(name) => ServerName::try_from(name.as_str().to_owned()).ok(),
        Host::Address(address) => Some(ServerName::IpAddress((*address).into())),
    }
}

/// What a failed handshake tells.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Handshake {
    /// For the audit.
    pub(crate) reason: Reason,
    /// For the guest.
    pub(crate) kind: Failure,
}

/// The guest's side of a failed handshake.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Failure {
    Certificate,
    Protocol,
    /// The server refused, with this number.
    Alert(u8),
    /// The connection broke.
    Network,
}

fn of_tls(error: &io::Error) -> Option<&rustls::Error> {
    error.get_ref().and_then(|inner| inner.downcast_ref())
}

/// Whether an error of a connection is one of TLS.
pub(crate) fn is_of_tls(error: &io::Error) -> bool {
    of_tls(error).is_some()
}

/// Reads the error of a handshake.
pub(crate) fn failure(error: &io::Error) -> Handshake {
    let Some(error) = of_tls(error) else {
        return Handshake { reason: Reason::NetFailed, kind: Failure::Network };
    };
    use rustls::Error;
    let (reason, kind) = match error {
        Error::InvalidCertificate(CertificateError::NotValidForName)
        | Error::InvalidCertificate(CertificateError::NotValidForNameContext { .. }) => {
            (Reason::TlsNameMismatch, Failure::Certificate)
        }
        Error::InvalidCertificate(_) | Error::NoCertificatesPresented | Error::InvalidCertRevocationList(_) => {
            (Reason::TlsUntrusted, Failure::Certificate)
        }
        Error::PeerIncompatible(
            PeerIncompatible::ServerDoesNotSupportTls12Or13
            | PeerIncompatible::ServerTlsVersionIsDisabledByOurConfig
            | PeerIncompatible::Tls12NotOffered
            | PeerIncompatible::Tls12NotOfferedOrEnabled,
        )
        | Error::AlertReceived(AlertDescription::ProtocolVersion) => (Reason::TlsVersion, Failure::Protocol),
        Error::AlertReceived(alert) => (Reason::NetFailed, Failure::Alert(u8::from(*alert))),
        _ => (Reason::NetFailed, Failure::Protocol),
    };
    Handshake { reason, kind }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn io(error: rustls::Error) -> io::Error {
        io::Error::new(io::ErrorKind::InvalidData, error)
    }

    #[test]
    fn a_certificate_of_another_host_is_told_from_one_that_nobody_trusts() {
        let mismatch = failure(&io(CertificateError::NotValidForName.into()));
        assert_eq!(mismatch, Handshake { reason: Reason::TlsNameMismatch, kind: Failure::Certificate });
        for error in [CertificateError::UnknownIssuer, CertificateError::Expired, CertificateError::NotValidYet] {
            assert_eq!(failure(&io(error.into())).reason, Reason::TlsUntrusted);
        }
    }

    #[test]
    fn an_old_server_is_a_matter_of_the_version_however_it_says_so() {
        for error in [
            rustls::Error::AlertReceived(AlertDescription::ProtocolVersion),
            PeerIncompatible::ServerTlsVersionIsDisabledByOurConfig.into(),
        ] {
            assert_eq!(failure(&io(error)), Handshake { reason: Reason::TlsVersion, kind: Failure::Protocol });
        }
        let refused = failure(&io(rustls::Error::AlertReceived(AlertDescription::HandshakeFailure)));
        assert_eq!(refused.kind, Failure::Alert(40));
    }

    #[test]
    fn a_text_without_a_certificate_is_no_list_of_roots() {
        assert!(matches!(roots_from_pem(b""), Err(TlsError::NoCertificate)));
        assert!(matches!(
            roots_from_pem(b"-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n"),
            Err(TlsError::BadCertificate)
        ));
    }
}
