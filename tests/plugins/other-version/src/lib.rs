//! A validator of version 0.2.0 of the contract, in which `validate` takes a priority as well.

#![allow(unsafe_code)]

use bindings::exports::portcullis::plugin::validation::{Guest, Message, Verdict};

#[allow(missing_docs, unreachable_pub, clippy::all)]
mod bindings {
    wit_bindgen::generate!({
        inline: "
            package portcullis:plugin@0.2.0;

            interface messages {
                enum verdict { pass, drop, reject, retry }
                resource message {
                    channel: func() -> string;
                }
            }

            interface validation {
                use messages.{message, verdict};
                configure: func(json: string) -> result<_, string>;
                validate: func(m: borrow<message>, value: option<list<u8>>, priority: u8) -> verdict;
            }

            world validator {
                import messages;
                export validation;
            }
        ",
    });
}

struct OtherVersion;

impl Guest for OtherVersion {
    fn configure(_: String) -> Result<(), String> {
        Ok(())
    }

    fn validate(message: &Message, _: Option<Vec<u8>>, _: u8) -> Verdict {
        if message.channel().is_empty() { Verdict::Reject } else { Verdict::Pass }
    }
}

bindings::export!(OtherVersion with_types_in bindings);
