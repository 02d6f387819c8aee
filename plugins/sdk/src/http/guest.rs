//! The request by the host's `wasi:http`.

use super::url::Url;
use super::{Request, Response, codes};
use crate::bindings::http::wasi::http::outgoing_handler::handle;
use crate::bindings::http::wasi::http::types::{
    ErrorCode, Fields, IncomingResponse, Method, OutgoingBody, OutgoingRequest, RequestOptions, Scheme, http_error_code,
};
use crate::bindings::io::wasi::io::streams::StreamError;
use crate::error::Error;

/// `blocking-write-and-flush` takes no more at once.
const WRITE_BYTES: usize = 4096;
const READ_BYTES: u64 = 64 << 10;

pub(super) fn send(request: &Request, url: &Url<'_>) -> Result<Response, Error> {
    let outgoing = build(request, url)?;
    let body = request.body.as_deref().map(|body| Ok((outgoing.body().map_err(|()| setter("body"))?, body)));
    let body = body.transpose()?;
    let future =
        handle(outgoing, request.timeout_ms.map(options).transpose()?).map_err(|code| failed(code, "handle"))?;
    if let Some((outgoing, bytes)) = body {
        write(outgoing, bytes);
    }
    future.subscribe().block();
    match future.get() {
        Some(Ok(Ok(response))) => receive(&response, request.max_body_bytes),
        Some(Ok(Err(code))) => Err(failed(code, "response")),
        _ => Err(Error::new("internal-error", "response")),
    }
}

fn build(request: &Request, url: &Url<'_>) -> Result<OutgoingRequest, Error> {
    let fields = Fields::new();
    for (name, value) in &request.headers {
        fields.append(name, value).map_err(|_| setter("fields.append"))?;
    }
    if let Some(body) = &request.body
        && !request.headers.iter().any(|(name, _)| name.eq_ignore_ascii_case("content-length"))
    {
        let length = body.len().to_string();
        fields.append("content-length", length.as_bytes()).map_err(|_| setter("fields.append"))?;
    }
    let outgoing = OutgoingRequest::new(fields);
    outgoing.set_method(&method(&request.method)).map_err(|()| setter("set-method"))?;
    outgoing.set_scheme(Some(&scheme(url.scheme))).map_err(|()| setter("set-scheme"))?;
    outgoing.set_authority(Some(url.authority)).map_err(|()| setter("set-authority"))?;
    outgoing.set_path_with_query(Some(&url.path)).map_err(|()| setter("set-path-with-query"))?;
    Ok(outgoing)
}

fn method(text: &str) -> Method {
    match text {
        "GET" => Method::Get,
        "HEAD" => Method::Head,
        "POST" => Method::Post,
        "PUT" => Method::Put,
        "DELETE" => Method::Delete,
        "OPTIONS" => Method::Options,
        "PATCH" => Method::Patch,
        other => Method::Other(other.to_owned()),
    }
}

fn scheme(text: &str) -> Scheme {
    match text {
        "https" => Scheme::Https,
        "http" => Scheme::Http,
        other => Scheme::Other(other.to_owned()),
    }
}

fn options(timeout_ms: u32) -> Result<RequestOptions, Error> {
    let timeout_ns = Some(u64::from(timeout_ms).saturating_mul(1_000_000));
    let options = RequestOptions::new();
    options.set_connect_timeout(timeout_ns).map_err(|()| setter("set-connect-timeout"))?;
    options.set_first_byte_timeout(timeout_ns).map_err(|()| setter("set-first-byte-timeout"))?;
    options.set_between_bytes_timeout(timeout_ns).map_err(|()| setter("set-between-bytes-timeout"))?;
    Ok(options)
}

/// A host that no longer wants the body closes the stream: a server may answer before it has read everything. Whether that was an
/// error, the response says.
fn write(outgoing: OutgoingBody, bytes: &[u8]) {
    let Ok(stream) = outgoing.write() else { return };
    for chunk in bytes.chunks(WRITE_BYTES) {
        if stream.blocking_write_and_flush(chunk).is_err() {
            return;
        }
    }
    drop(stream);
    drop(OutgoingBody::finish(outgoing, None));
}

fn receive(response: &IncomingResponse, max_body_bytes: usize) -> Result<Response, Error> {
    let internal = |()| Error::new("internal-error", "body");
    let status = response.status();
    let headers = response.headers().entries();
    let incoming = response.consume().map_err(internal)?;
    let stream = incoming.stream().map_err(internal)?;
    let mut body = Vec::new();
    loop {
        match stream.blocking_read(READ_BYTES) {
            Ok(bytes) if bytes.len() > max_body_bytes.saturating_sub(body.len()) => {
                let detail = format!("more than {max_body_bytes} bytes");
                return Err(Error::new("HTTP-response-body-size", "body").with_detail(detail));
            }
            Ok(bytes) => body.extend_from_slice(&bytes),
            Err(StreamError::Closed) => return Ok(Response { status, headers, body }),
            Err(StreamError::LastOperationFailed(error)) => {
                let code = http_error_code(&error).unwrap_or(ErrorCode::HttpResponseIncomplete);
                return Err(failed(code, "body"));
            }
        }
    }
}

const fn setter(at: &'static str) -> Error {
    Error::new("setter", at)
}

fn failed(code: ErrorCode, at: &'static str) -> Error {
    let error = Error::new(codes::name(&code), at);
    match code {
        ErrorCode::InternalError(Some(detail)) => error.with_detail(detail),
        _ => error,
    }
}
