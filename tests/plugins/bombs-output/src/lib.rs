//! Appends `headers` headers of `bytes` bytes each to every message, by default a million of sixteen. A value that begins with `ok` passes.

use portcullis_plugin::{Message, Verdict, enricher};

portcullis_plugin::manifest! { enricher }

#[derive(serde::Deserialize)]
struct Config {
    #[serde(default = "a_million")]
    headers: u32,
    #[serde(default = "sixteen")]
    bytes: usize,
}

fn a_million() -> u32 {
    1_000_000
}

fn sixteen() -> usize {
    16
}

#[enricher]
fn bombs_output(message: &mut Message, config: &Config) -> Verdict {
    if message.value().is_some_and(|value| value.starts_with(b"ok")) {
        return Verdict::pass();
    }
    let value = vec![b'x'; config.bytes];
    for _ in 0..config.headers {
        message.append_header("bomb", Some(&value));
    }
    Verdict::pass()
}
