//! Reads one byte of the value and passes: the floor of what a call costs.

use portcullis_plugin::{Message, Verdict, validator};

#[validator]
fn touch(message: &Message) -> Verdict {
    // The optimiser must not find out that the byte decides nothing.
    std::hint::black_box(message.value().and_then(<[u8]>::first));
    Verdict::pass()
}
