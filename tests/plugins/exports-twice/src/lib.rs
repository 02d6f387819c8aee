//! Is a validator and an enricher at once, so that who reads the manifest and who runs it could mean different ones.

use portcullis_plugin::{Enricher, Message, Validator, Verdict, export_enricher, export_validator};

portcullis_plugin::manifest! { validator }

struct Both;

export_validator!(Both);
export_enricher!(Both);

impl Validator for Both {
    fn configure(_: &str) -> Result<Self, String> {
        Ok(Self)
    }

    fn validate(&mut self, _: &Message) -> Verdict {
        Verdict::pass()
    }
}

impl Enricher for Both {
    fn configure(_: &str) -> Result<Self, String> {
        Ok(Self)
    }

    fn enrich(&mut self, message: &mut Message) -> Verdict {
        message.set_value(None);
        Verdict::pass()
    }
}
