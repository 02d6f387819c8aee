//! Passes every message. `cargo xtask guests` puts imports-sockets inside it, a component that asks for the network.

use portcullis_plugin::{Message, Verdict, validator};

portcullis_plugin::manifest! { validator }

#[validator]
fn smuggles_a_component(_: &Message) -> Verdict {
    Verdict::pass()
}
