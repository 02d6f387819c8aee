//! Calls every function that a validator of contract 0.1.0 can import, and gives every verdict: the value says which.

use exports::portcullis::plugin::validation::{Guest, Message, Verdict};
use portcullis::plugin::log::{self, Level};

wit_bindgen::generate!({
    inline: "
        package test:contract;
        world validator { include portcullis:plugin/validator@0.1.0; import portcullis:plugin/log@0.1.0; }
    ",
    path: "../wit",
    world: "test:contract/validator",
    generate_all,
});

struct Validator;

impl Guest for Validator {
    fn configure(json: String) -> Result<(), String> {
        if json.contains("refuse") { Err("asked to refuse".to_owned()) } else { Ok(()) }
    }

    fn validate(message: &Message, value: Option<Vec<u8>>) -> Verdict {
        let verdict = match value.as_deref() {
            Some(b"drop") => Verdict::Drop,
            Some(b"reject") => Verdict::Reject,
            Some(b"retry") => Verdict::Retry,
            _ => return Verdict::Pass,
        };
        for level in [Level::Debug, Level::Info, Level::Warn, Level::Error] {
            log::write(level, &format!("validator sees {verdict:?}"));
        }
        message.reason(&format!("asked_{}", message.headers().len()), &seen(message));
        verdict
    }
}

fn seen(message: &Message) -> String {
    let (header, timestamp_ms) = (message.header("h"), message.timestamp_ms());
    let header = header.map(|header| (header.name, header.value));
    format!("key {:?} header {header:?} timestamp {timestamp_ms:?} channel {}", message.key(), message.channel())
}

export!(Validator);
