//! Which headers a plugin may set, and how much of them.

use std::sync::Arc;

use http::header::{CONTENT_LENGTH, TE};
use http::{HeaderMap, HeaderName, HeaderValue};
use portcullis_policy::Reason;
use wasmtime_wasi_http::{DEFAULT_FORBIDDEN_HEADERS, ForbiddenHeaderFilter};

use super::secrets::SecretHeader;

/// Fields of a request or of an answer.
pub(crate) const FIELDS: usize = 128;
/// Bytes of a header section on the wire.
pub(crate) const SECTION_BYTES: usize = 32 << 10;
/// What upstream counts for the same section: names and values, and its own structs around each.
pub(crate) const SECTION_COST: usize = SECTION_BYTES + FIELDS * 128;

/// Headers of the connection: only the host sets them.
pub(crate) fn always_forbidden(name: &HeaderName) -> bool {
    DEFAULT_FORBIDDEN_HEADERS.contains(name) || name == TE
}

/// The filter that WASI's own setters ask: a header that a secret of this plugin sets is as forbidden as `host`, on whatever
/// request, and is taken out of answers too.
pub(crate) fn filter(secrets: &[SecretHeader]) -> ForbiddenHeaderFilter {
    let secret: Box<[HeaderName]> = secrets.iter().map(|secret| secret.name().clone()).collect();
    Arc::new(move |name| always_forbidden(name) || secret.contains(name))
}

/// What the headers of a request may not be, once more after the setters: they are what goes on the wire.
pub(crate) fn check(headers: &HeaderMap, filter: &ForbiddenHeaderFilter, body: bool) -> Result<(), Reason> {
    if headers.keys().any(|name| filter(name)) {
        return Err(Reason::HttpForbiddenHeader);
    }
    let bytes: usize = headers.iter().map(|(name, value)| name.as_str().len() + value.len() + 4).sum();
    if headers.len() > FIELDS || bytes > SECTION_BYTES {
        return Err(Reason::HttpHeaderLimit);
    }
    let mut lengths = headers.get_all(CONTENT_LENGTH).iter();
    match (lengths.next(), lengths.next()) {
        (None, _) => Ok(()),
        (Some(length), None) => match digits(length) {
            Some(0) => Ok(()),
            // A length without a body would make the server read the next request as this one's body.
            Some(_) if body => Ok(()),
            _ => Err(Reason::HttpFraming),
        },
        (Some(_), Some(_)) => Err(Reason::HttpFraming),
    }
}

/// A `content-length` as the standard has it: digits only.
fn digits(value: &HeaderValue) -> Option<u64> {
    let text = value.to_str().ok().filter(|text| text.bytes().all(|byte| byte.is_ascii_digit()))?;
    text.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::super::secrets::Secret;
    use super::*;

    fn with(pairs: &[(&'static str, &str)]) -> HeaderMap {
        let mut headers = HeaderMap::new();
        for (name, value) in pairs {
            headers.append(HeaderName::from_static(name), HeaderValue::from_str(value).unwrap());
        }
        headers
    }

    #[test]
    fn the_headers_of_the_connection_and_of_a_secret_are_the_hosts() {
        let secret = SecretHeader::new(0, "authorization", Secret::new(b"x".to_vec())).unwrap();
        let own = filter(&[secret]);
        for name in ["host", "connection", "upgrade", "transfer-encoding", "proxy-authorization", "te", "authorization"]
        {
            assert_eq!(check(&with(&[(name, "x")]), &own, false), Err(Reason::HttpForbiddenHeader), "{name}");
        }
        assert_eq!(check(&with(&[("authorization", "x")]), &filter(&[]), false), Ok(()));
    }

    #[test]
    fn a_length_must_be_one_number_and_belong_to_a_body() {
        let none = filter(&[]);
        let length = |values: &[&str], body| {
            let pairs: Vec<_> = values.iter().map(|value| ("content-length", *value)).collect();
            check(&with(&pairs), &none, body)
        };
        assert_eq!(length(&["5"], true), Ok(()));
        assert_eq!(length(&["0"], false), Ok(()));
        assert_eq!(length(&["5"], false), Err(Reason::HttpFraming));
        assert_eq!(length(&["5", "5"], true), Err(Reason::HttpFraming));
        assert_eq!(length(&["+5"], true), Err(Reason::HttpFraming));
        assert_eq!(length(&["99999999999999999999999"], true), Err(Reason::HttpFraming));
    }

    #[test]
    fn a_flood_of_headers_is_refused() {
        let mut many = HeaderMap::new();
        for _ in 0..=FIELDS {
            many.append("x", HeaderValue::from_static("y"));
        }
        assert_eq!(check(&many, &filter(&[]), false), Err(Reason::HttpHeaderLimit));
        let large = with(&[("x", &"y".repeat(SECTION_BYTES))]);
        assert_eq!(check(&large, &filter(&[]), false), Err(Reason::HttpHeaderLimit));
    }
}
