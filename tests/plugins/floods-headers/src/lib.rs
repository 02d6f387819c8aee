//! Sends a request to `url` with `count` headers of `bytes` bytes each, by default ten thousand of a hundred. Rejects with the WASI code
//! where it is refused. A value that begins with `ok` passes.

use portcullis_plugin::http::Request;
use portcullis_plugin::{Message, Verdict, validator};

portcullis_plugin::manifest! { validator, egress: "sends a request" }

#[derive(serde::Deserialize)]
struct Config {
    url: String,
    #[serde(default = "ten_thousand")]
    count: u32,
    #[serde(default = "a_hundred")]
    bytes: usize,
}

fn ten_thousand() -> u32 {
    10_000
}

fn a_hundred() -> usize {
    100
}

#[validator]
fn floods_headers(message: &Message, config: &Config) -> Verdict {
    if message.value().is_some_and(|value| value.starts_with(b"ok")) {
        return Verdict::pass();
    }
    let value = vec![b'x'; config.bytes];
    let request = (0..config.count).fold(Request::new("GET", &config.url), |request, number| {
        request.header(&format!("x-{number}"), value.clone())
    });
    match request.send() {
        Ok(_) => Verdict::pass(),
        Err(error) => Verdict::reject(error.code(), error.at()),
    }
}
