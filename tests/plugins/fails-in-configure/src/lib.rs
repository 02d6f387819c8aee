//! Fails in `configure`: with an error, or with `{"how": "trap"}` or `{"how": "spin"}` in a worse way.

use portcullis_plugin::{Message, Validator, Verdict, export_validator, parse_config};

#[derive(serde::Deserialize)]
struct Config {
    #[serde(default)]
    how: How,
}

#[derive(Default, serde::Deserialize)]
#[serde(rename_all = "snake_case")]
enum How {
    #[default]
    Error,
    Trap,
    Spin,
}

struct FailsInConfigure;

portcullis_plugin::manifest! { validator }

export_validator!(FailsInConfigure);

impl Validator for FailsInConfigure {
    fn configure(json: &str) -> Result<Self, String> {
        match parse_config::<Config>(json)?.how {
            How::Error => Err("the table of rates is empty".to_owned()),
            How::Trap => std::process::abort(),
            How::Spin => loop {
                std::hint::black_box(json);
            },
        }
    }

    fn validate(&mut self, _: &Message) -> Verdict {
        Verdict::pass()
    }
}
