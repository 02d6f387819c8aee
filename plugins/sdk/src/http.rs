//! HTTP requests, by the import `wasi:http/outgoing-handler`. Needs the feature `http` and the grant `egress`.
//!
//! ```
//! use portcullis_plugin::http;
//! # http::test::respond(|_| Ok(http::Response::of(200, "{}")));
//!
//! let response = http::Request::new("POST", "https://api.example.com/v1/orders")
//!     .header("content-type", "application/json")
//!     .body(r#"{"id": 7}"#)
//!     .timeout_ms(500)
//!     .send()?;
//! assert_eq!(response.status(), 200);
//! # Ok::<(), http::Error>(())
//! ```
//!
//! A request blocks the plugin until its response is there; the bridge works on other messages meanwhile. Redirects are not followed:
//! they are responses like others. Credentials belong into the `secrets:` of the grant, where no plugin can read them.

#[cfg_attr(target_arch = "wasm32", path = "http/guest.rs")]
#[cfg_attr(not(target_arch = "wasm32"), path = "http/native.rs")]
mod backend;
#[cfg(target_arch = "wasm32")]
pub(crate) mod codes;
mod url;

pub use crate::error::Error;
#[cfg(not(target_arch = "wasm32"))]
pub use backend::test;

/// A response that is longer is an error, where the request has no bound of its own: 1 MiB.
pub const DEFAULT_MAX_BODY_BYTES: usize = 1 << 20;

/// A request in the making.
#[derive(Debug, Clone, PartialEq, Eq)]
#[must_use]
pub struct Request {
    method: String,
    url: String,
    headers: Vec<(String, Vec<u8>)>,
    body: Option<Vec<u8>>,
    timeout_ms: Option<u32>,
    max_body_bytes: usize,
}

/// What came back. Any status is a response; only what gave no response is an [`Error`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Response {
    status: u16,
    headers: Vec<(String, Vec<u8>)>,
    body: Vec<u8>,
}

/// A GET request without headers of its own.
///
/// # Errors
/// As [`Request::send`].
pub fn get(url: &str) -> Result<Response, Error> {
    Request::new("GET", url).send()
}

/// A POST request.
///
/// # Errors
/// As [`Request::send`].
pub fn post(url: &str, content_type: &str, body: impl Into<Vec<u8>>) -> Result<Response, Error> {
    Request::new("POST", url).header("content-type", content_type).body(body).send()
}

impl Request {
    /// A request with this method (`GET`) for this absolute URL, whose special characters are already escaped.
    pub fn new(method: &str, url: &str) -> Self {
        Self {
            method: method.to_owned(),
            url: url.to_owned(),
            headers: Vec::new(),
            body: None,
            timeout_ms: None,
            max_body_bytes: DEFAULT_MAX_BODY_BYTES,
        }
    }

    /// Adds a header, also where the name exists.
    pub fn header(mut self, name: &str, value: impl Into<Vec<u8>>) -> Self {
        self.headers.push((name.to_owned(), value.into()));
        self
    }

    /// The body. Its length is sent as `content-length`.
    pub fn body(mut self, body: impl Into<Vec<u8>>) -> Self {
        self.body = Some(body.into());
        self
    }

    /// The longest wait, in milliseconds, for the connection, then for the first byte of the response, then for each next one. Without
    /// it the bounds of the host hold; the plugin's deadline for the message holds in any case.
    pub fn timeout_ms(mut self, timeout_ms: u32) -> Self {
        self.timeout_ms = Some(timeout_ms);
        self
    }

    /// The longest body of a response that is taken, in bytes.
    pub fn max_body_bytes(mut self, bytes: usize) -> Self {
        self.max_body_bytes = bytes;
        self
    }

    /// The method.
    #[must_use]
    pub fn method(&self) -> &str {
        &self.method
    }

    /// The URL.
    #[must_use]
    pub fn url(&self) -> &str {
        &self.url
    }

    /// The headers in the order in which they were added.
    #[must_use]
    pub fn headers(&self) -> &[(String, Vec<u8>)] {
        &self.headers
    }

    /// The body; none where the request has none.
    #[must_use]
    pub fn content(&self) -> Option<&[u8]> {
        self.body.as_deref()
    }

    /// Sends the request and waits for the whole response.
    ///
    /// # Errors
    /// Where there is no response: `HTTP-request-denied` or `destination-IP-prohibited` where it is not granted, `HTTP-request-URI-invalid`
    /// where the URL is none, `HTTP-response-body-size` where the body is too long, else the code of what failed.
    pub fn send(&self) -> Result<Response, Error> {
        backend::send(self, &url::Url::parse(&self.url)?)
    }
}

impl Response {
    /// The status, as 200.
    #[must_use]
    pub const fn status(&self) -> u16 {
        self.status
    }

    /// Whether the status is 2xx.
    #[must_use]
    pub const fn is_success(&self) -> bool {
        matches!(self.status, 200..=299)
    }

    /// The first header of this name; none where there is none or its value is not UTF-8. Upper and lower case are the same.
    #[must_use]
    pub fn header(&self, name: &str) -> Option<&str> {
        let (_, value) = self.headers.iter().find(|(header, _)| header.eq_ignore_ascii_case(name))?;
        std::str::from_utf8(value).ok()
    }

    /// The headers in the order in which they came.
    #[must_use]
    pub fn headers(&self) -> &[(String, Vec<u8>)] {
        &self.headers
    }

    /// The body.
    #[must_use]
    pub fn body(&self) -> &[u8] {
        &self.body
    }

    /// The body, to keep.
    #[must_use]
    pub fn into_body(self) -> Vec<u8> {
        self.body
    }

    /// The body as JSON.
    ///
    /// # Errors
    /// Where it is no JSON or not that of a `T`. The error's text can quote the body.
    pub fn json<T: serde::de::DeserializeOwned>(&self) -> Result<T, serde_json::Error> {
        serde_json::from_slice(&self.body)
    }
}
