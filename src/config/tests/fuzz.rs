//! What was fuzzed stays as it is: the committed inputs of the target about configuration, with the same check.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "in a test a panic is the report; clippy.toml frees test functions only, not their helpers"
)]

use std::path::Path;

#[path = "../../../fuzz/checks/config.rs"]
mod config;
#[path = "../../../fuzz/checks/replay.rs"]
mod replay;

#[test]
fn any_bytes_are_read_or_refused_with_places_and_without_secrets() {
    let fuzz = Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/../../fuzz"));
    replay::replay(fuzz, "config", 400, |data| config::check(&fuzz.join("files"), data));
}
