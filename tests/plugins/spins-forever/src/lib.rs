//! Computes for ever, without a call to the host. A value that begins with `ok` passes.

use portcullis_plugin::{Message, Verdict, validator};

portcullis_plugin::manifest! { validator }

#[validator]
fn spins_forever(message: &Message) -> Verdict {
    if message.value().is_some_and(|value| value.starts_with(b"ok")) {
        return Verdict::pass();
    }
    loop {
        std::hint::black_box(message.value());
    }
}
