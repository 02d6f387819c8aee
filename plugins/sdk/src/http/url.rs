//! Takes a URL apart, no more: what the parts may be is decided by the host, which gets them as they are.

use crate::error::Error;

#[derive(Debug, PartialEq, Eq)]
pub(super) struct Url<'a> {
    pub(super) scheme: &'a str,
    pub(super) authority: &'a str,
    /// With the query; begins with `/`.
    pub(super) path: String,
}

impl<'a> Url<'a> {
    pub(super) fn parse(text: &'a str) -> Result<Self, Error> {
        let wrong = |what: &str| Err(Error::new("HTTP-request-URI-invalid", "url").with_detail(what));
        let Some((scheme, rest)) = text.split_once("://") else {
            return wrong("the URL has no scheme");
        };
        if rest.contains('#') {
            return wrong("the URL has a fragment");
        }
        let (authority, path) = rest.split_at(rest.find(['/', '?']).unwrap_or(rest.len()));
        if authority.is_empty() {
            return wrong("the URL has no host");
        }
        let slash = if path.starts_with('/') { "" } else { "/" };
        Ok(Self { scheme, authority, path: format!("{slash}{path}") })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_url_is_taken_apart() {
        let parts = |text| Url::parse(text).map(|url| (url.scheme.to_owned(), url.authority.to_owned(), url.path));
        let url = |scheme: &str, authority: &str, path: &str| Ok((scheme.into(), authority.into(), path.into()));
        assert_eq!(parts("https://a.test/v1/x?y=/"), url("https", "a.test", "/v1/x?y=/"));
        assert_eq!(parts("http://[::1]:8080"), url("http", "[::1]:8080", "/"));
        assert_eq!(parts("https://a.test?x"), url("https", "a.test", "/?x"));
        for wrong in ["a.test/x", "https:///x", "https://a.test/#x"] {
            assert_eq!(Url::parse(wrong).unwrap_err().code(), "HTTP-request-URI-invalid", "{wrong}");
        }
    }
}
