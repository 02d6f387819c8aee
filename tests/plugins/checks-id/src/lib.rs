//! The validator of `plugins/examples` in Rust: the value is a JSON object whose `id` is a text of at least `min_length` characters.

use portcullis_plugin::{Message, Verdict, validator};
use serde_json::Value;

#[derive(serde::Deserialize)]
struct Config {
    #[serde(default = "one")]
    min_length: std::num::NonZeroUsize,
}

const fn one() -> std::num::NonZeroUsize {
    std::num::NonZeroUsize::MIN
}

portcullis_plugin::manifest! { validator }

#[validator]
fn checks_id(message: &Message, config: &Config) -> Verdict {
    let Some(value) = message.value() else {
        return Verdict::reject("null_value", "the value is null");
    };
    let Ok(order) = serde_json::from_slice::<Value>(value) else {
        return Verdict::reject("not_json", "the value is not JSON");
    };
    match order.get("id").and_then(Value::as_str) {
        Some(id) if id.chars().count() >= config.min_length.get() => Verdict::pass(),
        _ => Verdict::reject("no_id", format!("id is not a text of {} characters or more", config.min_length)),
    }
}
