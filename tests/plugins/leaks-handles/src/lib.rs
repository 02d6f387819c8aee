//! Takes `count` handles of the host with each message and gives none back. Each call alone is modest; uses-wasi does it in one call.
//! A value that begins with `ok` passes.

#![cfg(target_arch = "wasm32")]

use std::mem::ManuallyDrop;

use portcullis_plugin::bindings::io::wasi::clocks::monotonic_clock::subscribe_duration;
use portcullis_plugin::{Message, Verdict, validator};

portcullis_plugin::manifest! { validator, clock: "takes timers that it never waits for" }

#[derive(serde::Deserialize)]
struct Config {
    #[serde(default = "a_hundred")]
    count: u32,
}

fn a_hundred() -> u32 {
    100
}

#[validator]
fn leaks_handles(message: &Message, config: &Config) -> Verdict {
    if message.value().is_some_and(|value| value.starts_with(b"ok")) {
        return Verdict::pass();
    }
    for _ in 0..config.count {
        std::hint::black_box(ManuallyDrop::new(subscribe_duration(1)));
    }
    Verdict::pass()
}
