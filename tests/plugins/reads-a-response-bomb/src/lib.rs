//! Asks `url` and keeps whatever the server sends, however long it is. Rejects with the WASI code where the request or the response is
//! refused. A value that begins with `ok` passes.

use portcullis_plugin::http::Request;
use portcullis_plugin::{Message, Verdict, validator};

portcullis_plugin::manifest! { validator, egress: "asks a server" }

#[derive(serde::Deserialize)]
struct Config {
    url: String,
}

#[validator]
fn reads_a_response_bomb(message: &Message, config: &Config) -> Verdict {
    if message.value().is_some_and(|value| value.starts_with(b"ok")) {
        return Verdict::pass();
    }
    match Request::new("GET", &config.url).max_body_bytes(usize::MAX).send() {
        Ok(response) => {
            std::hint::black_box(response.body());
            Verdict::pass()
        }
        Err(error) => Verdict::reject(error.code(), error.at()),
    }
}
