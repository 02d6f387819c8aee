//! HTTP, with each part given to its WASI setter as it is.

use portcullis_plugin::bindings::http::wasi::http::outgoing_handler::handle;
use portcullis_plugin::bindings::http::wasi::http::types::{
    ErrorCode, Fields, HeaderError, IncomingResponse, Method, OutgoingBody, OutgoingRequest, RequestOptions, Scheme,
    http_error_code,
};
use portcullis_plugin::bindings::http_code_name;
use portcullis_plugin::bindings::io::wasi::io::streams::StreamError;
use serde_json::{Map, json};

use crate::op::Http;
use crate::outcome::{Failure, Outcome};

/// `blocking-write-and-flush` takes no more at once.
const WRITE_BYTES: usize = 4096;
const READ_BYTES: u64 = 64 << 10;

pub(crate) fn send(op: &Http) -> Outcome {
    let outgoing = build(op)?;
    let body = match &op.body {
        Some(text) => Some((outgoing.body().map_err(|()| setter("body"))?, text.as_bytes())),
        None => None,
    };
    let options = op.wait_ms.map(options).transpose()?;
    let future = handle(outgoing, options).map_err(|code| failed(&code, "handle"))?;
    if let Some((body, bytes)) = body {
        write(body, bytes);
    }
    future.subscribe().block();
    match future.get() {
        Some(Ok(Ok(response))) => receive(&response, op.read),
        Some(Ok(Err(code))) => Err(failed(&code, "response")),
        Some(Err(())) | None => Err(Failure::new("internal-error", "response")),
    }
}

fn build(op: &Http) -> Result<OutgoingRequest, Failure> {
    let fields = Fields::new();
    for (name, value) in &op.headers {
        fields
            .append(name, value.as_bytes())
            .map_err(|error| setter("fields.append").with_detail(reason(&error).to_owned()))?;
    }
    let outgoing = OutgoingRequest::new(fields);
    if let Some(text) = &op.method {
        outgoing.set_method(&method(text)).map_err(|()| setter("set-method"))?;
    }
    if let Some(text) = &op.scheme {
        outgoing.set_scheme(Some(&scheme(text))).map_err(|()| setter("set-scheme"))?;
    }
    if let Some(text) = &op.authority {
        outgoing.set_authority(Some(text)).map_err(|()| setter("set-authority"))?;
    }
    if let Some(text) = &op.path {
        outgoing.set_path_with_query(Some(text)).map_err(|()| setter("set-path-with-query"))?;
    }
    Ok(outgoing)
}

fn method(text: &str) -> Method {
    match text {
        "GET" => Method::Get,
        "HEAD" => Method::Head,
        "POST" => Method::Post,
        "PUT" => Method::Put,
        "DELETE" => Method::Delete,
        "CONNECT" => Method::Connect,
        "OPTIONS" => Method::Options,
        "TRACE" => Method::Trace,
        "PATCH" => Method::Patch,
        other => Method::Other(other.to_owned()),
    }
}

fn scheme(text: &str) -> Scheme {
    match text {
        "http" => Scheme::Http,
        "https" => Scheme::Https,
        other => Scheme::Other(other.to_owned()),
    }
}

fn options(wait_ms: u64) -> Result<RequestOptions, Failure> {
    let wait_ns = Some(wait_ms.saturating_mul(1_000_000));
    let options = RequestOptions::new();
    options.set_connect_timeout(wait_ns).map_err(|()| setter("set-connect-timeout"))?;
    options.set_first_byte_timeout(wait_ns).map_err(|()| setter("set-first-byte-timeout"))?;
    options.set_between_bytes_timeout(wait_ns).map_err(|()| setter("set-between-bytes-timeout"))?;
    Ok(options)
}

/// A body that the host no longer wants is no failure of its own: the response says what became of it.
fn write(body: OutgoingBody, bytes: &[u8]) {
    let Ok(stream) = body.write() else { return };
    for chunk in bytes.chunks(WRITE_BYTES) {
        if stream.blocking_write_and_flush(chunk).is_err() {
            return;
        }
    }
    drop(stream);
    drop(OutgoingBody::finish(body, None));
}

fn receive(response: &IncomingResponse, show: Option<u32>) -> Outcome {
    let internal = |()| Failure::new("internal-error", "body");
    let body = response.consume().map_err(internal)?;
    let stream = body.stream().map_err(internal)?;
    let show = show.unwrap_or(0) as usize;
    let (mut length, mut shown) = (0_u64, Vec::new());
    loop {
        match stream.blocking_read(READ_BYTES) {
            Ok(bytes) => {
                length = length.saturating_add(bytes.len() as u64);
                shown.extend(bytes.iter().take(show.saturating_sub(shown.len())));
            }
            Err(StreamError::Closed) => break,
            Err(StreamError::LastOperationFailed(error)) => {
                let code = http_error_code(&error).unwrap_or(ErrorCode::HttpResponseIncomplete);
                return Err(failed(&code, "body"));
            }
        }
    }
    let detail = if show == 0 {
        json!({"length": length})
    } else {
        json!({"length": length, "text": String::from_utf8_lossy(&shown)})
    };
    Ok(Map::from_iter([("status".to_owned(), response.status().into()), ("detail".to_owned(), detail)]))
}

const fn setter(at: &'static str) -> Failure {
    Failure::new("setter", at)
}

const fn reason(error: &HeaderError) -> &'static str {
    match error {
        HeaderError::InvalidSyntax => "invalid-syntax",
        HeaderError::Forbidden => "forbidden",
        HeaderError::Immutable => "immutable",
    }
}

fn failed(code: &ErrorCode, at: &'static str) -> Failure {
    let failure = Failure::new(http_code_name(code), at);
    match code {
        ErrorCode::InternalError(Some(detail)) => failure.with_detail(detail.clone()),
        _ => failure,
    }
}
