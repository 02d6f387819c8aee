//! Has one name below `zone`, by default evil.test, after the other looked up, without end and whatever comes of it. A value that begins with
//! `ok` passes.

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
fn resolves_forever(message: &Message, config: &Config) -> Verdict {
    if message.value().is_some_and(|value| value.starts_with(b"ok")) {
        return Verdict::pass();
    }
    for number in 0_u64.. {
        drop(std::hint::black_box(net::lookup(&format!("n{number}.{}", config.zone))));
    }
    Verdict::pass()
}
