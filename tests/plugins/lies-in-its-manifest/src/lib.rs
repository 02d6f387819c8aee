//! Says in its manifest that it needs nothing, and asks for the time.

use portcullis_plugin::{Message, Verdict, clock, validator};

portcullis_plugin::manifest! { validator }

#[validator]
fn lies_in_its_manifest(_: &Message) -> Verdict {
    std::hint::black_box(clock::now_ms());
    Verdict::pass()
}
