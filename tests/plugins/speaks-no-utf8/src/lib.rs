//! Rejects each message with a reason that is no UTF-8, which the contract's strings are. A value that begins with `ok` passes.

#![allow(unsafe_code)]

use portcullis_plugin::{Message, Verdict, validator};

portcullis_plugin::manifest! { validator }

#[validator]
fn speaks_no_utf8(message: &Message) -> Verdict {
    if message.value().is_some_and(|value| value.starts_with(b"ok")) {
        return Verdict::pass();
    }
    let bytes = std::hint::black_box(vec![b'a', 0xff, 0xc0, 0x80]);
    // SAFETY: none, that is the point; the text is only handed on.
    Verdict::reject("no_utf8", unsafe { String::from_utf8_unchecked(bytes) })
}
