//! Counts the messages of its instance: the detail of the rejection is the number. A value that begins with `ok` is counted and passes.

use portcullis_plugin::{Message, Validator, Verdict, export_validator};

struct Counts(u64);

portcullis_plugin::manifest! { validator }

export_validator!(Counts);

impl Validator for Counts {
    fn configure(_: &str) -> Result<Self, String> {
        Ok(Self(0))
    }

    fn validate(&mut self, message: &Message) -> Verdict {
        self.0 = self.0.saturating_add(1);
        if message.value().is_some_and(|value| value.starts_with(b"ok")) {
            return Verdict::pass();
        }
        Verdict::reject("count", self.0.to_string())
    }
}
