//! What the fuzzer's corpus holds, and mutations of it, with a stable compiler.

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
fn every_file_of_the_corpus_is_read_or_refused_with_places_and_without_secrets() {
    let fuzz = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../fuzz");
    let files = fuzz.join("files");
    replay::replay(&fuzz, "config", 300, |data| config::check(&files, data));
}
