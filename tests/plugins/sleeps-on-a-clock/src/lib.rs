//! Waits for an hour on a clock of the host: no instruction runs meanwhile, only the time. A value that begins with `ok` passes.

#![cfg(target_arch = "wasm32")]

use portcullis_plugin::bindings::io::wasi::clocks::monotonic_clock::subscribe_duration;
use portcullis_plugin::{Message, Verdict, validator};

portcullis_plugin::manifest! { validator, clock: "sleeps" }

const HOUR_NS: u64 = 3_600_000_000_000;

#[validator]
fn sleeps_on_a_clock(message: &Message) -> Verdict {
    if message.value().is_some_and(|value| value.starts_with(b"ok")) {
        return Verdict::pass();
    }
    subscribe_duration(HOUR_NS).block();
    Verdict::pass()
}
