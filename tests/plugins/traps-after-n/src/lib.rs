//! Passes `n` messages, by default 3, and traps at each one after them: what looked well in a test.

use portcullis_plugin::{Message, Validator, Verdict, export_validator, parse_config};

portcullis_plugin::manifest! { validator }

#[derive(serde::Deserialize)]
struct Config {
    #[serde(default = "three")]
    n: u32,
}

fn three() -> u32 {
    3
}

struct TrapsAfterN {
    left: u32,
}

export_validator!(TrapsAfterN);

impl Validator for TrapsAfterN {
    fn configure(json: &str) -> Result<Self, String> {
        parse_config::<Config>(json).map(|config| Self { left: config.n })
    }

    fn validate(&mut self, _: &Message) -> Verdict {
        match self.left.checked_sub(1) {
            Some(left) => {
                self.left = left;
                Verdict::pass()
            }
            None => std::process::abort(),
        }
    }
}
