//! Headers that the host puts on a request and that the guest neither sees nor sets.

use std::fmt;

use bytes::Bytes;
use http::{HeaderName, HeaderValue};
use thiserror::Error;
use zeroize::Zeroizing;

/// Bytes that are shown nowhere and overwritten when they are not needed any more.
pub struct Secret(Zeroizing<Vec<u8>>);

impl Secret {
    /// Takes the bytes.
    pub fn new(bytes: Vec<u8>) -> Self {
        Self(Zeroizing::new(bytes))
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("(hidden)")
    }
}

impl AsRef<[u8]> for Secret {
    fn as_ref(&self) -> &[u8] {
        &self.0
    }
}

/// A header with a secret value, on every request that one rule allows.
pub struct SecretHeader {
    /// Index of the rule in the policy.
    rule: usize,
    name: HeaderName,
    /// Refers to the secret's own bytes: they are overwritten when the last request that carries them is done.
    value: HeaderValue,
}

/// Why a secret cannot be a header. Says nothing about the value but that it does not fit.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum SecretError {
    /// No name of a header.
    #[error("is not the name of a header")]
    Name,
    /// A header that the connection itself needs.
    #[error("is a header that the host sets from the request itself")]
    Reserved,
    /// A line break, NUL or another control character in the value.
    #[error("the secret holds a byte that no header may hold (a line break at its end?)")]
    Value,
}

impl SecretHeader {
    /// A header for the rule at this index of the policy.
    ///
    /// # Errors
    /// When name or value cannot be in a header, or the name is one of the connection's own.
    pub fn new(rule: usize, name: &str, value: Secret) -> Result<Self, SecretError> {
        let name = HeaderName::from_bytes(name.as_bytes()).map_err(|_| SecretError::Name)?;
        if super::headers::always_forbidden(&name) || name == http::header::CONTENT_LENGTH {
            return Err(SecretError::Reserved);
        }
        let mut value = HeaderValue::from_maybe_shared(Bytes::from_owner(value)).map_err(|_| SecretError::Value)?;
        // Its Debug form says "Sensitive" from here on, in whatever log a library writes.
        value.set_sensitive(true);
        Ok(Self { rule, name, value })
    }

    pub(crate) fn name(&self) -> &HeaderName {
        &self.name
    }

    pub(crate) fn value(&self) -> &HeaderValue {
        &self.value
    }

    pub(crate) fn is_for(&self, rule: Option<usize>) -> bool {
        rule == Some(self.rule)
    }
}

impl fmt::Debug for SecretHeader {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SecretHeader").field("rule", &self.rule).field("name", &self.name).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_secret_is_hidden_in_every_debug_form() {
        let secret = Secret::new(b"hunter2".to_vec());
        assert_eq!(format!("{secret:?}"), "(hidden)");
        let header = SecretHeader::new(0, "Authorization", secret).unwrap();
        assert!(!format!("{header:?} {:?}", header.value()).contains("hunter2"));
        assert_eq!(header.value().as_bytes(), b"hunter2");
    }

    #[test]
    fn a_secret_with_a_line_break_or_for_a_header_of_the_connection_is_refused() {
        let secret = || Secret::new(b"a\n".to_vec());
        assert_eq!(SecretHeader::new(0, "x-key", secret()).unwrap_err(), SecretError::Value);
        assert_eq!(SecretHeader::new(0, "x key", secret()).unwrap_err(), SecretError::Name);
        assert_eq!(SecretHeader::new(0, "Host", secret()).unwrap_err(), SecretError::Reserved);
        assert_eq!(SecretHeader::new(0, "content-length", secret()).unwrap_err(), SecretError::Reserved);
    }
}
