//! Asks `url` and goes by itself where the server sends it, five times at most, as to http://169.254.169.254/. The last answer becomes the
//! value. Rejects with the WASI code where a request is refused. A value that begins with `ok` passes.

use portcullis_plugin::http;
use portcullis_plugin::{Message, Verdict, enricher};

portcullis_plugin::manifest! { enricher, egress: "asks a server" }

#[derive(serde::Deserialize)]
struct Config {
    url: String,
}

#[enricher]
fn follows_a_redirect_to_metadata(message: &mut Message, config: &Config) -> Verdict {
    if message.value().is_some_and(|value| value.starts_with(b"ok")) {
        return Verdict::pass();
    }
    let mut url = config.url.clone();
    for hop in 0..5 {
        let response = match http::get(&url) {
            Ok(response) => response,
            Err(error) => return Verdict::reject(error.code(), format!("request {hop}: {}", error.at())),
        };
        match response.header("location") {
            Some(location) if (300..400).contains(&response.status()) => location.clone_into(&mut url),
            _ => {
                message.set_value(Some(response.into_body()));
                return Verdict::pass();
            }
        }
    }
    Verdict::reject("loop", "five redirects")
}
