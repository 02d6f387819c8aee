//! The rules for headers.

use json_fields::RawValue;
use portcullis_plugin::{Message, Verdict};

use crate::config::Headers;
use crate::source;

/// The values to be copied, by the names that they go to.
pub(crate) type Copied = Vec<(String, Option<Vec<u8>>)>;

pub(crate) fn read_copies(message: &Message, value: Option<&RawValue>, rules: &Headers) -> Result<Copied, Verdict> {
    let mut copied = Copied::with_capacity(rules.copy.len());
    for (name, source) in &rules.copy {
        if let Some(found) = source::read(source, message, value)? {
            copied.push((name.clone(), found.into_header()));
        }
    }
    Ok(copied)
}

pub(crate) fn apply(message: &mut Message, rules: &Headers, copied: &Copied) {
    for name in &rules.remove {
        message.remove_header(name);
    }
    for (name, value) in &rules.set {
        message.set_header(name, value.as_deref().map(str::as_bytes));
    }
    for header in &rules.append {
        message.append_header(&header.name, header.value.as_deref().map(str::as_bytes));
    }
    for (name, value) in copied {
        message.set_header(name, value.as_deref());
    }
}
