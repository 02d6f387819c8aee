//! Appends one header: the floor of what an edit costs.

use portcullis_plugin::{Message, Verdict, enricher};

portcullis_plugin::manifest! { enricher }

#[enricher]
fn touch_edit(message: &mut Message) -> Verdict {
    message.append_header("touched", Some(b"1"));
    Verdict::pass()
}
