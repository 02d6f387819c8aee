//! Uses the clock, random bytes and the log once for each message. Rejects where one of them gives nothing.

use portcullis_plugin::{Message, Verdict, clock, log, random, validator};

portcullis_plugin::manifest! {
    validator,
    clock: "shows that the time is there",
    random: "shows that random bytes are there",
    log: "shows that the log is there",
}

#[validator]
fn asks_the_clock(_: &Message) -> Verdict {
    let now_ms = clock::now_ms();
    if now_ms == 0 {
        return Verdict::reject("no_clock", "the time is 0");
    }
    let bytes = random::bytes(16);
    if bytes.len() != 16 || bytes.iter().all(|byte| *byte == 0) {
        return Verdict::reject("no_random", "the random bytes are none");
    }
    log::info(format_args!("now_ms={now_ms}"));
    Verdict::pass()
}
