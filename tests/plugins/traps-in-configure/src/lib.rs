//! Traps before its first message.

use portcullis_plugin::{Message, Validator, Verdict, export_validator};

portcullis_plugin::manifest! { validator }

struct TrapsInConfigure;

export_validator!(TrapsInConfigure);

impl Validator for TrapsInConfigure {
    fn configure(_: &str) -> Result<Self, String> {
        std::process::abort()
    }

    fn validate(&mut self, _: &Message) -> Verdict {
        Verdict::pass()
    }
}
