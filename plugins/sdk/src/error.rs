//! Why a call to the outside did not happen or did not succeed.

use std::fmt;

/// A failed request, connection or lookup.
///
/// The code is the one of WASI by the name that it has there: `HTTP-request-denied`, `destination-IP-prohibited`, `DNS-timeout` and so on
/// for HTTP, `access-denied`, `connection-refused`, `name-unresolvable` and so on for sockets. What the bridge refuses by its policy is
/// [`is_denied`](Self::is_denied); why, it tells the operator and not the plugin.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Error {
    code: &'static str,
    at: &'static str,
    detail: Option<String>,
}

impl Error {
    /// An error with this code, at this step. For the fakes of a test.
    #[must_use]
    pub const fn new(code: &'static str, at: &'static str) -> Self {
        Self { code, at, detail: None }
    }

    /// The same with words of its own; for a person, not to be compared.
    #[must_use]
    pub fn with_detail(mut self, detail: impl Into<String>) -> Self {
        self.detail = Some(detail.into());
        self
    }

    /// The name of the code in WASI; `setter` where a part of the request was refused before there was a request.
    #[must_use]
    pub const fn code(&self) -> &'static str {
        self.code
    }

    /// The WASI function that failed, as `handle` or `finish-connect`.
    #[must_use]
    pub const fn at(&self) -> &'static str {
        self.at
    }

    /// What the host added; for a person, not to be compared.
    #[must_use]
    pub fn detail(&self) -> Option<&str> {
        self.detail.as_deref()
    }

    /// Whether the operator's grants or the bridge's own rules forbid it: another attempt will not change that.
    #[must_use]
    pub fn is_denied(&self) -> bool {
        matches!(
            self.code,
            "access-denied"
                | "HTTP-request-denied"
                | "destination-IP-prohibited"
                | "HTTP-request-URI-invalid"
                | "setter"
        )
    }
}

impl fmt::Display for Error {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{} at {}", self.code, self.at)?;
        self.detail.as_ref().map_or(Ok(()), |detail| write!(formatter, ": {detail}"))
    }
}

impl std::error::Error for Error {}

impl From<Error> for std::io::Error {
    fn from(error: Error) -> Self {
        use std::io::ErrorKind;
        let kind = match error.code {
            "access-denied" => ErrorKind::PermissionDenied,
            "connection-refused" => ErrorKind::ConnectionRefused,
            "connection-reset" => ErrorKind::ConnectionReset,
            "connection-aborted" => ErrorKind::ConnectionAborted,
            "timeout" => ErrorKind::TimedOut,
            "invalid-argument" => ErrorKind::InvalidInput,
            _ => ErrorKind::Other,
        };
        Self::new(kind, error)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_error_says_what_and_where() {
        let error = Error::new("access-denied", "finish-connect");
        assert_eq!(error.to_string(), "access-denied at finish-connect");
        assert!(error.is_denied() && !Error::new("DNS-timeout", "response").is_denied());
        assert_eq!(std::io::Error::from(error).kind(), std::io::ErrorKind::PermissionDenied);
    }
}
