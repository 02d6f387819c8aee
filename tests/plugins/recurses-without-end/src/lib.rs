//! Calls itself until the stack is exhausted. A value that begins with `ok` passes.

use portcullis_plugin::{Message, Verdict, validator};

portcullis_plugin::manifest! { validator }

#[validator]
fn recurses_without_end(message: &Message) -> Verdict {
    if message.value().is_some_and(|value| value.starts_with(b"ok")) {
        return Verdict::pass();
    }
    let length = message.value().map_or(0, |value| value.len() as u64);
    std::hint::black_box(deeper(length));
    Verdict::pass()
}

/// Neither a tail call nor a sum that the compiler can turn into a loop; the end is too far away to be reached.
#[inline(never)]
fn deeper(depth: u64) -> u64 {
    if depth == u64::MAX { 0 } else { deeper(depth.wrapping_add(1)).rotate_left(5).wrapping_mul(3) ^ depth }
}
