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

/// With these a server behind the rule, or a proxy before it, does another method or another path than the one that was
/// decided. What names only the client or the host is not here: no rule depends on what a server makes of those.
const OVERRIDES: [&str; 14] = [
    "x-http-method",
    "x-http-method-override",
    "x-method-override",
    "x-original-method",
    "x-original-uri",
    "x-original-url",
    "x-original-path",
    "x-envoy-original-path",
    "x-rewrite-url",
    "x-forwarded-method",
    "x-forwarded-path",
    "x-forwarded-prefix",
    "x-forwarded-uri",
    "x-script-name",
];

/// Headers of the connection: only the host sets them.
pub(crate) fn always_forbidden(name: &HeaderName) -> bool {
    DEFAULT_FORBIDDEN_HEADERS.iter().chain([&TE]).any(|own| is_read_as(name, own.as_str()))
}

/// Whether one of them would make a server do something else than what the rule was asked for.
pub(crate) fn overrides(headers: &HeaderMap) -> bool {
    headers.keys().any(|name| OVERRIDES.iter().any(|other| is_read_as(name, other)))
}

/// Whether a server may take one name for the other: CGI and its heirs make an underscore of a hyphen.
fn is_read_as(name: &HeaderName, other: &str) -> bool {
    let hyphen = |byte: u8| if byte == b'_' { b'-' } else { byte };
    name.as_str().len() == other.len() && name.as_str().bytes().map(hyphen).eq(other.bytes().map(hyphen))
}

/// Bytes of a header section on the wire.
pub(crate) fn section_bytes(headers: &HeaderMap) -> usize {
    headers.iter().map(|(name, value)| name.as_str().len() + value.len() + 4).sum()
}

/// The headers of an answer in memory of their own. Those of hyper are slices of its buffer, and the smallest of them keeps
/// all of it.
pub(crate) fn owned(headers: &HeaderMap) -> HeaderMap {
    let mut own = HeaderMap::with_capacity(headers.len());
    for (name, value) in headers {
        own.append(name, HeaderValue::from_bytes(value.as_bytes()).unwrap_or_else(|_| value.clone()));
    }
    own
}

/// The filter that WASI's own setters ask: a header that a secret of this plugin sets is as forbidden as `host`, on whatever
/// request, and is taken out of answers too.
pub(crate) fn filter(secrets: &[SecretHeader]) -> ForbiddenHeaderFilter {
    let secret: Box<[HeaderName]> = secrets.iter().map(|secret| secret.name().clone()).collect();
    Arc::new(move |name| always_forbidden(name) || secret.iter().any(|secret| is_read_as(name, secret.as_str())))
}

/// What the headers of a request may not be, once more after the setters: they are what goes on the wire.
pub(crate) fn check(headers: &HeaderMap, filter: &ForbiddenHeaderFilter, body: bool) -> Result<(), Reason> {
    if headers.keys().any(|name| filter(name)) {
        return Err(Reason::HttpForbiddenHeader);
    }
    if headers.len() > FIELDS || section_bytes(headers) > SECTION_BYTES {
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
    fn a_name_that_a_server_reads_as_a_forbidden_one_is_forbidden() {
        let secret = SecretHeader::new(0, "x-api-key", Secret::new(b"x".to_vec())).unwrap();
        let own = filter(&[secret]);
        for name in ["x_api_key", "x-api_key", "transfer_encoding", "proxy_authorization"] {
            assert_eq!(check(&with(&[(name, "x")]), &own, false), Err(Reason::HttpForbiddenHeader), "{name}");
        }
        for name in ["x-api", "x-api-key2", "x.api.key"] {
            assert_eq!(check(&with(&[(name, "x")]), &own, false), Ok(()), "{name}");
        }
    }

    #[test]
    fn what_changes_method_or_path_is_known_in_both_spellings() {
        for name in OVERRIDES {
            assert!(overrides(&with(&[("accept", "x"), (name, "x")])), "{name}");
        }
        assert!(overrides(&with(&[("x_http_method_override", "x")])));
        for name in ["x-forwarded-for", "x-forwarded-host", "x-forwarded-proto", "forwarded", "x-http"] {
            assert!(!overrides(&with(&[(name, "x")])), "{name}");
        }
    }

    #[test]
    fn headers_that_are_copied_are_the_same_and_keep_their_order() {
        let from = with(&[("a", "1"), ("b", "2"), ("a", "3")]);
        assert_eq!(owned(&from), from);
        assert_eq!(owned(&from).get_all("a").iter().collect::<Vec<_>>(), ["1", "3"]);
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
