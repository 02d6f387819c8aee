//! Allocates and keeps a mebibyte after the other. A value that begins with `ok` passes.

use portcullis_plugin::{Message, Verdict, validator};

portcullis_plugin::manifest! { validator }

#[validator]
fn allocates_without_end(message: &Message) -> Verdict {
    if message.value().is_some_and(|value| value.starts_with(b"ok")) {
        return Verdict::pass();
    }
    let mut kept = Vec::new();
    loop {
        kept.push(vec![1_u8; 1 << 20]);
        std::hint::black_box(&kept);
    }
}
