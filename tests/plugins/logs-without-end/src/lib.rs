//! Writes 1024 lines of 1 KiB for each message, sixteen times the default limit, and passes. A value that begins with `forever` makes it
//! write until the limit on host calls or the deadline ends it.

use portcullis_plugin::{Message, Verdict, log, validator};

portcullis_plugin::manifest! {
    validator,
    log: "writes without end",
}

#[validator]
fn logs_without_end(message: &Message) -> Verdict {
    let line = "line\n".repeat(205);
    for _ in 0..1024 {
        log::info(&line);
    }
    while message.value().is_some_and(|value| value.starts_with(b"forever")) {
        log::error(&line);
    }
    Verdict::pass()
}
