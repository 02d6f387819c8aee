//! Passes every message. `cargo xtask guests` puts 64 core modules behind it, each with a memory of 16 MiB of its own: a gibibyte, and no
//! memory alone is beyond a limit.

use portcullis_plugin::{Message, Verdict, validator};

portcullis_plugin::manifest! { validator }

#[validator]
fn many_memories(_: &Message) -> Verdict {
    Verdict::pass()
}
