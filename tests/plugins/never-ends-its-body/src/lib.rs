//! Sends a request to `authority` whose body never ends: a byte every `pause_ms`, by default 100. Rejects with the WASI code where the
//! request is refused, and as `closed` where the body is no longer wanted. A value that begins with `ok` passes.

#![cfg(target_arch = "wasm32")]

use portcullis_plugin::bindings::http::wasi::http::outgoing_handler::handle;
use portcullis_plugin::bindings::http::wasi::http::types::{ErrorCode, Fields, Method, OutgoingRequest, Scheme};
use portcullis_plugin::bindings::http_code_name;
use portcullis_plugin::bindings::io::wasi::clocks::monotonic_clock::subscribe_duration;
use portcullis_plugin::{Message, Verdict, validator};

portcullis_plugin::manifest! { validator, clock: "pauses between two bytes", egress: "sends a request" }

#[derive(serde::Deserialize)]
struct Config {
    authority: String,
    #[serde(default)]
    plain: bool,
    #[serde(default = "a_tenth")]
    pause_ms: u64,
}

fn a_tenth() -> u64 {
    100
}

#[validator]
fn never_ends_its_body(message: &Message, config: &Config) -> Verdict {
    if message.value().is_some_and(|value| value.starts_with(b"ok")) {
        return Verdict::pass();
    }
    match send(config) {
        Ok(never) => match never {},
        Err(Stop::Code(code)) => Verdict::reject(http_code_name(&code), "request"),
        Err(Stop::Setter) => Verdict::reject("setter", "request"),
        Err(Stop::Closed) => Verdict::reject("closed", "body"),
    }
}

enum Stop {
    Code(ErrorCode),
    Setter,
    Closed,
}

fn send(config: &Config) -> Result<std::convert::Infallible, Stop> {
    let setter = |()| Stop::Setter;
    let request = OutgoingRequest::new(Fields::new());
    request.set_method(&Method::Post).map_err(setter)?;
    request.set_scheme(Some(if config.plain { &Scheme::Http } else { &Scheme::Https })).map_err(setter)?;
    request.set_authority(Some(&config.authority)).map_err(setter)?;
    request.set_path_with_query(Some("/")).map_err(setter)?;
    let body = request.body().map_err(setter)?;
    let response = handle(request, None).map_err(Stop::Code)?;
    let stream = body.write().map_err(setter)?;
    loop {
        if stream.blocking_write_and_flush(b"x").is_err() {
            return Err(match response.get() {
                Some(Ok(Err(code))) => Stop::Code(code),
                _ => Stop::Closed,
            });
        }
        subscribe_duration(config.pause_ms.saturating_mul(1_000_000)).block();
    }
}
