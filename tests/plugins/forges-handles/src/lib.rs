//! Makes handles up, 0 to 9999, and asks each for its headers. Rejects as `forged` where one answers that is not the message's own.
//! A value that begins with `ok` passes.

#![cfg(target_arch = "wasm32")]
#![allow(unsafe_code)]

use std::mem::ManuallyDrop;

use portcullis_plugin::bindings::host::portcullis::plugin::messages;
use portcullis_plugin::{Message, Verdict, validator};

portcullis_plugin::manifest! { validator }

#[validator]
fn forges_handles(message: &Message) -> Verdict {
    if message.value().is_some_and(|value| value.starts_with(b"ok")) {
        return Verdict::pass();
    }
    // From above, since the lowest are the likeliest to be real.
    for number in (0..10_000).rev() {
        // SAFETY: none is claimed, that is the point. It is never dropped.
        let forged = ManuallyDrop::new(unsafe { messages::Message::from_handle(number) });
        if !forged.headers().is_empty() {
            return Verdict::reject("forged", format!("handle {number}"));
        }
    }
    Verdict::pass()
}
