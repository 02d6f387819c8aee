//! Drops a message whose value is `drop` and passes every other.

use portcullis_plugin::{Message, Verdict, validator};

portcullis_plugin::manifest! { validator }

#[validator]
fn drops(message: &Message) -> Verdict {
    if message.value() == Some(b"drop") {
        return Verdict::drop("asked", "the value says drop");
    }
    Verdict::pass()
}
