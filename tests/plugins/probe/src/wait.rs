//! Waiting with and without an end.

use portcullis_plugin::bindings::io::wasi::clocks::monotonic_clock::subscribe_duration;
use portcullis_plugin::bindings::io::wasi::io::poll::{Pollable, poll};

use crate::outcome::Failure;

/// How long a reply is waited for, in milliseconds.
pub(crate) const REPLY_MS: u64 = 1000;

/// Until it is ready; `timeout` at `at` after so many milliseconds.
pub(crate) fn until(ready: &Pollable, wait_ms: Option<u64>, at: &'static str) -> Result<(), Failure> {
    let Some(wait_ms) = wait_ms else {
        ready.block();
        return Ok(());
    };
    let timer = subscribe_duration(wait_ms.saturating_mul(1_000_000));
    if poll(&[ready, &timer]).contains(&0) { Ok(()) } else { Err(Failure::new("timeout", at)) }
}
