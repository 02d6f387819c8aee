//! Sets, copies and removes headers and JSON fields.
//!
//! ```yaml
//! config:
//!   headers:
//!     remove: [x-internal]
//!     set: { x-source: orders-bridge, x-empty: null }    # text, or null for a null header
//!     append: [{ name: x-hop, value: bridge }]
//!     copy: { x-order: { json: /id }, x-old: { header: x-internal }, x-key: key, x-from: channel, x-time: timestamp }
//!   json:
//!     set: { /meta/source: bridge, /meta/version: 2 }    # any JSON; objects that are missing are made
//!     copy: { /meta/key: key, /meta/trace: { header: traceparent } }
//! ```
//!
//! Every source of a copy is read from the message as it arrived. Then headers are removed, set, appended and copied, in this order, and
//! JSON fields set and copied. A source that is absent changes nothing; one that is null gives null. What no rule touches keeps
//! its bytes: numbers are not rounded, names not sorted, white space not changed. A tombstone stays a tombstone.
//!
//! Codes: `not_json` (a JSON rule and another value), `not_an_object` (a pointer goes through a value that has no such field),
//! `not_text` (a key or header that is to become a JSON string is not UTF-8).

mod config;
mod headers;
mod json;
mod source;

use config::Config;
use portcullis_plugin::{Message, Verdict, enricher};

portcullis_plugin::manifest! { enricher }

#[enricher]
fn stamp(message: &mut Message, config: &Config) -> Verdict {
    match plan(message, config) {
        Ok(edits) => {
            edits.apply(message, config);
            Verdict::pass()
        }
        Err(verdict) => verdict,
    }
}

/// What is to change, worked out before the first edit, so that a rejected message was never half edited.
struct Edits {
    copied_headers: headers::Copied,
    value: Option<String>,
}

fn plan(message: &Message, config: &Config) -> Result<Edits, Verdict> {
    let value = match message.value() {
        Some(bytes) if config.reads_json() => Some(json_fields::parse(bytes)?),
        _ => None,
    };
    Ok(Edits {
        copied_headers: headers::read_copies(message, value, &config.headers)?,
        value: value.map(|value| json::edit(message, value, &config.json)).transpose()?.flatten(),
    })
}

impl Edits {
    fn apply(self, message: &mut Message, config: &Config) {
        headers::apply(message, &config.headers, &self.copied_headers);
        if let Some(value) = self.value {
            message.set_value(Some(value.into_bytes()));
        }
    }
}

#[cfg(test)]
mod tests;
