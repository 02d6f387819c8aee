//! Sends a request to `url` that says it means `host`, by default evil.test: by the header of that name, and by others that proxies and
//! servers believe. Rejects with the WASI code where it is refused, and passes where it was sent; what was sent, the server knows.
//! A value that begins with `ok` passes.

use portcullis_plugin::http::Request;
use portcullis_plugin::{Message, Verdict, validator};

portcullis_plugin::manifest! { validator, egress: "sends a request" }

#[derive(serde::Deserialize)]
struct Config {
    url: String,
    #[serde(default = "evil")]
    host: String,
    /// The names of the headers that carry it.
    #[serde(default = "names")]
    names: Vec<String>,
}

fn evil() -> String {
    "evil.test".to_owned()
}

fn names() -> Vec<String> {
    vec!["Host".to_owned()]
}

#[validator]
fn overrides_host(message: &Message, config: &Config) -> Verdict {
    if message.value().is_some_and(|value| value.starts_with(b"ok")) {
        return Verdict::pass();
    }
    let request = config
        .names
        .iter()
        .fold(Request::new("GET", &config.url), |request, name| request.header(name, config.host.as_str()));
    match request.send() {
        Ok(_) => Verdict::pass(),
        Err(error) => Verdict::reject(error.code(), error.at()),
    }
}
