//! Makes the host hold as much by HTTP as it takes, without giving anything back. The message says what: `texts` in requests that are
//! not sent, `fields`, `bodies` that are written and not ended, `futures` of requests to `silent`, `trailers` of the same, `answers` of
//! `talkative` that are not read. Stops after `count` of them, and rejects with the number. A value that begins with `ok` passes.

#![cfg(target_arch = "wasm32")]

use std::mem::forget;

use portcullis_plugin::bindings::http::wasi::http::outgoing_handler::handle;
use portcullis_plugin::bindings::http::wasi::http::types::{Fields, Method, OutgoingBody, OutgoingRequest, Scheme};
use portcullis_plugin::bindings::io::wasi::io::streams::OutputStream;
use portcullis_plugin::{Message, Verdict, validator};

portcullis_plugin::manifest! { validator, egress: "sends requests" }

/// What a setter is offered: the longest first.
const LENGTHS: [usize; 7] = [4 << 20, 1 << 20, 60_000, 15_000, 8_000, 250, 30];
/// Fields of a map, and the bytes of one large one among them: just below what upstream allows by itself.
const FIELDS: usize = 120;
const FIELD_BYTES: usize = 30_000;
/// Writes to a body that nobody sends.
const CHUNKS: usize = 2;

#[derive(serde::Deserialize)]
struct Config {
    silent: String,
    talkative: String,
    count: u32,
}

#[validator]
fn hoards_http(message: &Message, config: &Config) -> Verdict {
    let what = message.value().unwrap_or_default();
    if what.starts_with(b"ok") {
        return Verdict::pass();
    }
    for _ in 0..config.count {
        let made = match what {
            b"texts" => texts(),
            b"fields" => fields(),
            b"bodies" => body(&config.silent),
            b"futures" => future(&config.silent, false),
            b"trailers" => future(&config.silent, true),
            _ => answer(&config.talkative),
        };
        if made.is_none() {
            return Verdict::reject("refused", "before the end");
        }
    }
    Verdict::reject("all", config.count.to_string())
}

/// Offers texts until one is taken.
fn longest(of: &str, set: impl Fn(&str) -> Result<(), ()>) -> Option<()> {
    LENGTHS.iter().find_map(|length| set(&of.repeat(*length)).ok())
}

fn texts() -> Option<()> {
    let request = OutgoingRequest::new(full()?);
    longest("A", |text| request.set_method(&Method::Other(text.to_owned())))?;
    longest("a", |text| request.set_authority(Some(text)))?;
    longest("a", |text| request.set_path_with_query(Some(&format!("/{text}"))))?;
    longest("a", |text| request.set_scheme(Some(&Scheme::Other(text.to_owned()))))?;
    forget(request);
    Some(())
}

fn full() -> Option<Fields> {
    let fields = Fields::new();
    for number in 0..FIELDS {
        fields.append(&format!("x-{number}"), b"y").ok()?;
    }
    fields.append("x", &vec![b'y'; FIELD_BYTES]).ok()?;
    Some(fields)
}

fn fields() -> Option<()> {
    forget(full()?);
    Some(())
}

fn request(authority: &str) -> Option<OutgoingRequest> {
    let request = OutgoingRequest::new(full()?);
    request.set_method(&Method::Post).ok()?;
    request.set_scheme(Some(&Scheme::Http)).ok()?;
    request.set_authority(Some(authority)).ok()?;
    request.set_path_with_query(Some(&format!("/{}", "a".repeat(8_000)))).ok()?;
    Some(request)
}

/// Writes what is taken at once. A connection would go on to take more: that is not held.
fn written(body: &OutgoingBody) -> Option<OutputStream> {
    let stream = body.write().ok()?;
    for _ in 0..CHUNKS {
        let room = usize::try_from(stream.check_write().ok()?).ok()?;
        stream.write(&vec![b'x'; room]).ok()?;
    }
    Some(stream)
}

fn body(authority: &str) -> Option<()> {
    let request = request(authority)?;
    let body = request.body().ok()?;
    forget(written(&body)?);
    forget((request, body));
    Some(())
}

fn future(authority: &str, trailers: bool) -> Option<()> {
    let request = request(authority)?;
    let body = request.body().ok()?;
    forget(handle(request, None).ok()?);
    // A request that the host has given up takes no more of its body.
    drop(written(&body));
    if trailers {
        // Too many of them are refused, and the body is over then too.
        drop(OutgoingBody::finish(body, full()));
    } else {
        forget(body);
    }
    Some(())
}

fn answer(authority: &str) -> Option<()> {
    let request = OutgoingRequest::new(Fields::new());
    request.set_scheme(Some(&Scheme::Http)).ok()?;
    request.set_authority(Some(authority)).ok()?;
    let future = handle(request, None).ok()?;
    future.subscribe().block();
    let answer = future.get()?.ok()?.ok()?;
    let body = answer.consume().ok()?;
    let stream = body.stream().ok()?;
    stream.subscribe().block();
    forget((future, answer, body, stream));
    Some(())
}
