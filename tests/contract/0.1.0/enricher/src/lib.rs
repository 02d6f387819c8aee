//! Calls every function that an enricher of contract 0.1.0 can import, and writes into the message what it has seen.

use exports::portcullis::plugin::enrichment::{Guest, Message, Verdict};
use portcullis::plugin::edits;
use portcullis::plugin::log::{self, Level};
use portcullis::plugin::messages::Header;

wit_bindgen::generate!({
    inline: "
        package test:contract;
        world enricher { include portcullis:plugin/enricher@0.1.0; import portcullis:plugin/log@0.1.0; }
    ",
    path: "../wit",
    world: "test:contract/enricher",
    generate_all,
});

struct Enricher;

impl Guest for Enricher {
    fn configure(json: String) -> Result<(), String> {
        if json.contains("refuse") { Err("asked to refuse".to_owned()) } else { Ok(()) }
    }

    fn enrich(message: &Message, value: Option<Vec<u8>>) -> Verdict {
        match value.as_deref() {
            Some(b"drop") => return Verdict::Drop,
            Some(b"reject") => {
                message.reason("asked", "by the value");
                return Verdict::Reject;
            }
            Some(b"retry") => return Verdict::Retry,
            _ => {}
        }
        log::write(Level::Info, "enricher sees a message");
        let header = message.header("h").map(|header| (header.name, header.value));
        let headers: Vec<_> = message.headers().into_iter().map(|header| (header.name, header.value)).collect();
        let seen = format!(
            "value {value:?} key {:?} header {header:?} headers {headers:?} timestamp {:?} channel {}",
            message.key(),
            message.timestamp_ms(),
            message.channel()
        );
        let removed = edits::remove_header(message, "h");
        edits::set_header(message, "set", Some(b"1"));
        edits::set_header(message, "set", Some(removed.to_string().as_bytes()));
        edits::append_header(message, &Header { name: "null".to_owned(), value: None });
        edits::set_key(message, message.key().map(|key| [b"new-", key.as_slice()].concat()).as_deref());
        edits::set_value(message, Some(seen.as_bytes()));
        Verdict::Pass
    }
}

export!(Enricher);
