//! Asks for the headers for ever. A value that begins with `ok` passes.

use portcullis_plugin::{Message, Verdict, validator};

portcullis_plugin::manifest! { validator }

#[validator]
fn calls_host_without_end(message: &Message) -> Verdict {
    if message.value().is_some_and(|value| value.starts_with(b"ok")) {
        return Verdict::pass();
    }
    loop {
        std::hint::black_box(message.headers());
    }
}
