//! Rejects every message: the code is the first word of the value, the detail is the rest, whatever their length and characters.

use portcullis_plugin::{Message, Verdict, validator};

portcullis_plugin::manifest! { validator }

#[validator]
fn echo_reason(message: &Message) -> Verdict {
    let text = String::from_utf8_lossy(message.value().unwrap_or_default());
    let (code, detail) = text.split_once(' ').unwrap_or((&text, ""));
    Verdict::reject(code.to_owned(), detail.to_owned())
}
