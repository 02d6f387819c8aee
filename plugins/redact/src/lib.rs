//! Removes, masks or hashes named JSON fields and headers, or keeps only the named ones.
//!
//! ```yaml
//! config:
//!   json:
//!     keep: [id, customer, items]           # first: everything else goes
//!     remove: [customer.notes, "**.password"]
//!     mask: ["items[*].card"]               # becomes the text of `mask_with`
//!     hash: [customer.email]                # becomes HMAC-SHA256, 64 hexadecimal digits
//!   headers: { keep: [traceparent, user], remove: [], mask: [], hash: [user] }
//!   message_key: keep                       # or remove (null), mask, hash
//!   mask_with: "***"
//!   hash_key: "${REDACT_KEY}"               # at least 32 bytes; needed where something is hashed
//!   on_unparsable: reject                   # or pass, drop_value: a value that is not JSON, or nested deeper than 128
//!   on_mismatch: reject                     # or pass, drop_value: a path meets another kind of value than it goes through
//! ```
//!
//! A path: names with dots between them, `*` for any name, `[3]` and `[*]` for items, `**` (once, not with `keep`) for any number of levels,
//! `["a.b"]` for a name that holds other characters. It names a field and all below it. Names are compared exactly, after escapes are
//! resolved (`"\u0063ard"` is `card`): upper and lower case differ, and so do the Unicode forms of a letter. Of a name that repeats in one
//! object every occurrence is redacted. Where several rules meet, remove goes before mask and mask before hash.
//!
//! What is left keeps its bytes: numbers, escapes, order and white space. Names stay where values are masked. A null stays null. The same
//! value has the same hash wherever it stands: a string by its contents, a header by its bytes, everything else as it is written.
//!
//! What is not looked into: JSON inside a string, and the value at all where `json` has no rule. A tombstone passes.
//!
//! A rejected message goes where `on.reject` says **with its original bytes**: the dead letter queue needs the protection of the source,
//! or `on: { reject: drop }`. `drop_value` makes the value null, which a compacted topic takes for a deletion.
//!
//! Codes: `not_json`, `too_deep`, `mismatch`. The details hold places and the configuration's own paths, nothing of the message.

mod config;
mod headers;
mod path;
mod pseudonym;
mod rewrite;
mod rules;
mod scan;

use config::{Config, Disposition};
use headers::Edited;
use portcullis_plugin::{Enricher, Message, Verdict, export_enricher, parse_config};
use rewrite::Refusal;

struct Redact(Config);

portcullis_plugin::manifest! {
    enricher,
    config_schema: r##"{
        "type": "object",
        "additionalProperties": false,
        "properties": {
            "json": { "$ref": "#/$defs/rules" },
            "headers": { "$ref": "#/$defs/rules" },
            "message_key": { "enum": ["keep", "remove", "mask", "hash"] },
            "mask_with": { "type": "string" },
            "hash_key": { "type": "string", "minLength": 32 },
            "on_unparsable": { "enum": ["reject", "pass", "drop_value"] },
            "on_mismatch": { "enum": ["reject", "pass", "drop_value"] }
        },
        "$defs": {
            "names": { "type": "array", "items": { "type": "string" } },
            "rules": {
                "type": "object",
                "additionalProperties": false,
                "properties": {
                    "keep": { "$ref": "#/$defs/names" },
                    "remove": { "$ref": "#/$defs/names" },
                    "mask": { "$ref": "#/$defs/names" },
                    "hash": { "$ref": "#/$defs/names" }
                }
            }
        }
    }"##,
}

export_enricher!(Redact);

impl Enricher for Redact {
    fn configure(json: &str) -> Result<Self, String> {
        Config::resolve(parse_config(json)?).map(Self)
    }

    fn enrich(&mut self, message: &mut Message) -> Verdict {
        let config = &self.0;
        // Everything is worked out before the first edit, so that a rejected message was never half edited.
        let value = match redacted_value(message.value(), config) {
            Ok(value) => value,
            Err(verdict) => return verdict,
        };
        let headers = headers::edited(message, &config.headers, &config.replacement);
        if let Some(action) = config.message_key {
            headers::edit_key(message, action, &config.replacement);
        }
        if let Edited::To(headers) = headers {
            headers::replace_all(message, &headers);
        }
        if let Edited::To(value) = value {
            message.set_value(value);
        }
        Verdict::pass()
    }
}

fn redacted_value(value: Option<&[u8]>, config: &Config) -> Result<Edited<Option<Vec<u8>>>, Verdict> {
    let Some(value) = value.filter(|_| !config.json.is_empty()) else {
        return Ok(Edited::No);
    };
    let refusal = match rewrite::rewrite(value, config) {
        Ok(new) if new == value => return Ok(Edited::No),
        Ok(new) => return Ok(Edited::To(Some(new))),
        Err(refusal) => refusal,
    };
    let (disposition, verdict) = match refusal {
        Refusal::NotJson { at } => (config.on_unparsable, Verdict::reject("not_json", format!("at byte {at}"))),
        Refusal::TooDeep => {
            (config.on_unparsable, Verdict::reject("too_deep", format!("nested deeper than {}", scan::MAX_DEPTH)))
        }
        Refusal::Mismatch { path, found } => {
            (config.on_mismatch, Verdict::reject("mismatch", format!("the path {path} leads into {found}")))
        }
    };
    match disposition {
        Disposition::Reject => Err(verdict),
        Disposition::Pass => Ok(Edited::No),
        Disposition::DropValue => Ok(Edited::To(None)),
    }
}

#[cfg(test)]
mod property;
#[cfg(test)]
mod slips;
#[cfg(test)]
mod tests;
