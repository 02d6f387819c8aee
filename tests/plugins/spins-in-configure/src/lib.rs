//! Computes for ever before its first message.

use portcullis_plugin::{Message, Validator, Verdict, export_validator};

portcullis_plugin::manifest! { validator }

struct SpinsInConfigure;

export_validator!(SpinsInConfigure);

impl Validator for SpinsInConfigure {
    fn configure(json: &str) -> Result<Self, String> {
        loop {
            std::hint::black_box(json);
        }
    }

    fn validate(&mut self, _: &Message) -> Verdict {
        Verdict::pass()
    }
}
