//! Makes every kind of edit, and reads its own edits back. A value `reject` is rejected after the edits, which then must not be seen.

use portcullis_plugin::{Message, Verdict, enricher};

portcullis_plugin::manifest! { enricher }

#[enricher]
fn edits_all(message: &mut Message) -> Verdict {
    let is_reject = message.value() == Some(b"reject");
    let value = message.value().map(|value| [b"edited:", value].concat());
    message.set_value(value);
    message.set_key(Some(b"edited-key"));
    let removed = message.remove_header("remove-me").to_string();
    message.set_header("set-me", Some(b"new"));
    message.set_header("null", None);
    message.append_header("double", Some(b"1"));
    message.append_header("double", Some(b""));
    message.append_header("removed", Some(removed.as_bytes()));
    let read_back = message.header("set-me").and_then(|header| header.value);
    message.append_header("read-back", read_back.as_deref());
    if is_reject { Verdict::reject("asked", "the value says reject") } else { Verdict::pass() }
}
