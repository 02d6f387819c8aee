//! Asks for each message to be given again, twice, and passes it the third time. Messages are told apart by their key.

use std::collections::BTreeMap;

use portcullis_plugin::{Message, Validator, Verdict, export_validator};

struct RetriesTwice {
    attempts: BTreeMap<Vec<u8>, u32>,
}

portcullis_plugin::manifest! { validator }

export_validator!(RetriesTwice);

impl Validator for RetriesTwice {
    fn configure(_: &str) -> Result<Self, String> {
        Ok(Self { attempts: BTreeMap::new() })
    }

    fn validate(&mut self, message: &Message) -> Verdict {
        let key = message.key().unwrap_or_default();
        let attempts = self.attempts.entry(key.clone()).or_default();
        *attempts = attempts.saturating_add(1);
        if *attempts <= 2 {
            return Verdict::retry("not_yet", format!("attempt {attempts}"));
        }
        self.attempts.remove(&key);
        Verdict::pass()
    }
}
