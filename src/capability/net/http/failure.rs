//! Why a request did not come back with an answer: one reason for the audit, one code for the guest. A code holds nothing
//! that the guest did not know: no address, no rule.

use std::error::Error as _;
use std::io;

use portcullis_policy::Reason;
use wasmtime_wasi_http::Error;
use wasmtime_wasi_http::p2::bindings::http::types::ErrorCode;

use super::body::BODY_BYTES;
use crate::tls::{self, Handshake};

/// See the module.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Failure {
    pub(crate) reason: Reason,
    pub(crate) code: Code,
}

/// WASI's `error-code`, those that are used.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Code {
    Denied,
    UriInvalid,
    IpProhibited,
    ConnectionLimit,
    DnsTimeout,
    DnsError,
    TlsCertificate,
    TlsProtocol,
    TlsAlert(u8),
    Unavailable,
    Refused,
    Terminated,
    ConnectTimeout,
    ResponseTimeout,
    ReadTimeout,
    RequestHeaders,
    RequestBody,
    ResponseHeaders,
    ResponseBody,
    Incomplete,
    Upgrade,
    Protocol,
    Internal,
}

impl Code {
    /// WASI's word, for the audit.
    pub(crate) const fn as_str(self) -> &'static str {
        match self {
            Self::Denied => "HTTP-request-denied",
            Self::UriInvalid => "HTTP-request-URI-invalid",
            Self::IpProhibited => "destination-IP-prohibited",
            Self::ConnectionLimit => "connection-limit-reached",
            Self::DnsTimeout => "DNS-timeout",
            Self::DnsError => "DNS-error",
            Self::TlsCertificate => "TLS-certificate-error",
            Self::TlsProtocol => "TLS-protocol-error",
            Self::TlsAlert(_) => "TLS-alert-received",
            Self::Unavailable => "destination-unavailable",
            Self::Refused => "connection-refused",
            Self::Terminated => "connection-terminated",
            Self::ConnectTimeout => "connection-timeout",
            Self::ResponseTimeout => "HTTP-response-timeout",
            Self::ReadTimeout => "connection-read-timeout",
            Self::RequestHeaders => "HTTP-request-header-section-size",
            Self::RequestBody => "HTTP-request-body-size",
            Self::ResponseHeaders => "HTTP-response-header-section-size",
            Self::ResponseBody => "HTTP-response-body-size",
            Self::Incomplete => "HTTP-response-incomplete",
            Self::Upgrade => "HTTP-upgrade-failed",
            Self::Protocol => "HTTP-protocol-error",
            Self::Internal => "internal-error",
        }
    }

    pub(crate) fn p2(self) -> ErrorCode {
        code_of(&self.error()).unwrap_or(ErrorCode::InternalError(None))
    }

    pub(crate) fn error(self) -> Error {
        match self {
            Self::Denied => Error::HttpRequestDenied,
            Self::UriInvalid => Error::HttpRequestUriInvalid,
            Self::IpProhibited => Error::DestinationIpProhibited,
            Self::ConnectionLimit => Error::ConnectionLimitReached,
            Self::DnsTimeout => Error::DnsTimeout,
            Self::DnsError => Error::DnsError { rcode: None, info_code: None },
            Self::TlsCertificate => Error::TlsCertificateError,
            Self::TlsProtocol => Error::TlsProtocolError,
            Self::TlsAlert(alert) => Error::TlsAlertReceived { alert_id: Some(alert), alert_message: None },
            Self::Unavailable => Error::DestinationUnavailable,
            Self::Refused => Error::ConnectionRefused,
            Self::Terminated => Error::ConnectionTerminated,
            Self::ConnectTimeout => Error::ConnectionTimeout,
            Self::ResponseTimeout => Error::HttpResponseTimeout,
            Self::ReadTimeout => Error::ConnectionReadTimeout,
            Self::RequestHeaders => Error::HttpRequestHeaderSectionSize(None),
            Self::RequestBody => Error::HttpRequestBodySize(Some(BODY_BYTES)),
            Self::ResponseHeaders => Error::HttpResponseHeaderSectionSize(None),
            Self::ResponseBody => Error::HttpResponseBodySize(Some(BODY_BYTES)),
            Self::Incomplete => Error::HttpResponseIncomplete,
            Self::Upgrade => Error::HttpUpgradeFailed,
            Self::Protocol => Error::HttpProtocolError,
            Self::Internal => Error::InternalError(None),
        }
    }
}

/// The code of an error of ours, for the guest.
pub(crate) fn code_of(error: &Error) -> Option<ErrorCode> {
    Some(match error {
        Error::HttpRequestDenied => ErrorCode::HttpRequestDenied,
        Error::HttpRequestUriInvalid => ErrorCode::HttpRequestUriInvalid,
        Error::DestinationIpProhibited => ErrorCode::DestinationIpProhibited,
        Error::DestinationUnavailable => ErrorCode::DestinationUnavailable,
        Error::ConnectionLimitReached => ErrorCode::ConnectionLimitReached,
        Error::ConnectionTerminated => ErrorCode::ConnectionTerminated,
        Error::ConnectionReadTimeout => ErrorCode::ConnectionReadTimeout,
        Error::HttpRequestHeaderSectionSize(size) => ErrorCode::HttpRequestHeaderSectionSize(*size),
        Error::HttpRequestBodySize(size) => ErrorCode::HttpRequestBodySize(*size),
        Error::HttpResponseBodySize(size) => ErrorCode::HttpResponseBodySize(*size),
        Error::HttpResponseHeaderSectionSize(size) => ErrorCode::HttpResponseHeaderSectionSize(*size),
        Error::HttpResponseIncomplete => ErrorCode::HttpResponseIncomplete,
        Error::HttpResponseTimeout => ErrorCode::HttpResponseTimeout,
        Error::HttpProtocolError => ErrorCode::HttpProtocolError,
        _ => return None,
    })
}

impl Failure {
    pub(crate) const fn new(reason: Reason, code: Code) -> Self {
        Self { reason, code }
    }

    /// What a reason means to the guest; for a refusal, and for whatever a reason alone tells.
    pub(crate) fn of(reason: Reason) -> Self {
        let code = match reason {
            Reason::DnsTimeout => Code::DnsTimeout,
            Reason::DnsUnpinned | Reason::DnsPinExpired => Code::IpProhibited,
            Reason::DnsFailed | Reason::DnsCnameDepth | Reason::QuotaDns => Code::DnsError,
            Reason::HttpUserinfo => Code::UriInvalid,
            // A well-formed request that no rule can allow.
            Reason::HttpPathNoncanonical | Reason::NameSpecial => Code::Denied,
            Reason::HttpHeaderLimit => Code::RequestHeaders,
            Reason::TlsUntrusted | Reason::TlsNameMismatch => Code::TlsCertificate,
            Reason::TlsVersion => Code::TlsProtocol,
            Reason::QuotaSockets | Reason::QuotaConnectRate => Code::ConnectionLimit,
            Reason::QuotaBytesOut => Code::RequestBody,
            Reason::QuotaBytesIn => Code::ResponseBody,
            Reason::TimeConnect => Code::ConnectTimeout,
            Reason::TimeFirstByte | Reason::TimeTotal | Reason::TimeRequestBody => Code::ResponseTimeout,
            Reason::TimeBetweenBytes => Code::ReadTimeout,
            Reason::NetFailed => Code::Terminated,
            other if other.as_str().starts_with("addr.") => Code::IpProhibited,
            other if other.as_str().starts_with("name.") => Code::UriInvalid,
            _ => Code::Denied,
        };
        Self { reason, code }
    }

    /// Of a connect.
    pub(crate) fn of_connect(error: &io::Error) -> Self {
        match error.kind() {
            io::ErrorKind::TimedOut => Self::of(Reason::TimeConnect),
            io::ErrorKind::ConnectionRefused => Self::new(Reason::NetFailed, Code::Refused),
            io::ErrorKind::HostUnreachable | io::ErrorKind::NetworkUnreachable => {
                Self::new(Reason::NetFailed, Code::Unavailable)
            }
            _ => Self::new(Reason::NetFailed, Code::Terminated),
        }
    }

    /// Of a TLS handshake.
    pub(crate) fn of_handshake(error: &io::Error) -> Self {
        let Handshake { reason, kind } = tls::failure(error);
        let code = match kind {
            tls::Failure::Certificate => Code::TlsCertificate,
            tls::Failure::Protocol => Code::TlsProtocol,
            tls::Failure::Alert(alert) => Code::TlsAlert(alert),
            tls::Failure::Network => Code::Terminated,
        };
        Self { reason, code }
    }

    /// Of hyper. `head` tells whether the answer's head had come.
    pub(crate) fn of_hyper(error: &hyper::Error, head: bool) -> Self {
        if error.is_parse_too_large() {
            return Self::new(Reason::HttpHeaderLimit, Code::ResponseHeaders);
        }
        if error.is_parse() || error.is_user() {
            return Self::new(Reason::HttpFraming, Code::Protocol);
        }
        let io = error.source().and_then(|source| source.downcast_ref::<io::Error>());
        match io {
            // In TLS 1.3 the server's word on our certificate comes after the handshake.
            Some(io) if tls::is_of_tls(io) => return Self::of_handshake(io),
            // Chunks that cannot be read.
            Some(io) if matches!(io.kind(), io::ErrorKind::InvalidData | io::ErrorKind::InvalidInput) => {
                return Self::new(Reason::HttpFraming, Code::Protocol);
            }
            _ => {}
        }
        Self::new(Reason::NetFailed, if head { Code::Incomplete } else { Code::Terminated })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_reason_has_the_code_of_its_kind() {
        for (reason, word) in [
            (Reason::RuleNoMatch, "HTTP-request-denied"),
            (Reason::RuleScheme, "HTTP-request-denied"),
            (Reason::HttpMethod, "HTTP-request-denied"),
            (Reason::HttpPath, "HTTP-request-denied"),
            (Reason::HttpForbiddenHeader, "HTTP-request-denied"),
            (Reason::AddrPrivate, "destination-IP-prohibited"),
            (Reason::AddrSelf, "destination-IP-prohibited"),
            (Reason::DnsPinExpired, "destination-IP-prohibited"),
            (Reason::NameInvalid, "HTTP-request-URI-invalid"),
            (Reason::NamePortInvalid, "HTTP-request-URI-invalid"),
            (Reason::HttpUserinfo, "HTTP-request-URI-invalid"),
            (Reason::HttpPathNoncanonical, "HTTP-request-denied"),
            (Reason::NameSpecial, "HTTP-request-denied"),
            (Reason::QuotaSockets, "connection-limit-reached"),
            (Reason::DnsTimeout, "DNS-timeout"),
            (Reason::DnsFailed, "DNS-error"),
            (Reason::TlsUntrusted, "TLS-certificate-error"),
            (Reason::TlsVersion, "TLS-protocol-error"),
            (Reason::TimeConnect, "connection-timeout"),
            (Reason::TimeBetweenBytes, "connection-read-timeout"),
        ] {
            assert_eq!(Failure::of(reason).code.as_str(), word, "{reason}");
        }
    }
}
