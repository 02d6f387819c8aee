//! Asks for `bytes` random bytes, by default 1 MiB, again and again without end. A value that begins with `ok` passes.

use portcullis_plugin::{Message, Verdict, random, validator};

portcullis_plugin::manifest! { validator, random: "takes all of it" }

#[derive(serde::Deserialize)]
struct Config {
    #[serde(default = "a_mebibyte")]
    bytes: usize,
}

fn a_mebibyte() -> usize {
    1 << 20
}

#[validator]
fn floods_random(message: &Message, config: &Config) -> Verdict {
    if message.value().is_some_and(|value| value.starts_with(b"ok")) {
        return Verdict::pass();
    }
    loop {
        std::hint::black_box(random::bytes(config.bytes));
    }
}
