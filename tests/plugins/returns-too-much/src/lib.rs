//! Sets a value of `bytes` bytes, by default 2 MiB: twice what an output may be. A value that begins with `ok` passes.

use portcullis_plugin::{Message, Verdict, enricher};

#[derive(serde::Deserialize)]
struct Config {
    #[serde(default = "two_mebibytes")]
    bytes: usize,
}

fn two_mebibytes() -> usize {
    2 << 20
}

portcullis_plugin::manifest! { enricher }

#[enricher]
fn returns_too_much(message: &mut Message, config: &Config) -> Verdict {
    if message.value().is_some_and(|value| value.starts_with(b"ok")) {
        return Verdict::pass();
    }
    message.set_value(Some(vec![b'x'; config.bytes]));
    Verdict::pass()
}
