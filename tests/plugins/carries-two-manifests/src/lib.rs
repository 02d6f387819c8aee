//! Passes every message. `cargo xtask guests` puts two more manifests behind the one that it has, which differ in its world.

use portcullis_plugin::{Message, Verdict, validator};

portcullis_plugin::manifest! { validator }

#[validator]
fn carries_two_manifests(_: &Message) -> Verdict {
    Verdict::pass()
}
