//! What was fuzzed stays as it is: the committed inputs of the targets about rules, hosts and paths, with the same checks.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "in a test a panic is the report; clippy.toml frees test functions only, not their helpers"
)]

use std::path::Path;

#[path = "../../../fuzz/checks/host.rs"]
mod host;
#[path = "../../../fuzz/checks/path.rs"]
mod path;
#[path = "../../../fuzz/checks/replay.rs"]
mod replay;
#[path = "../../../fuzz/checks/rule.rs"]
mod rule;

fn fuzz() -> &'static Path {
    Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/../../fuzz"))
}

#[test]
fn a_rule_that_is_taken_is_in_its_one_form_whatever_was_typed() {
    replay::replay(fuzz(), "rule", 2_000, rule::check);
}

#[test]
fn no_text_is_a_name_here_and_an_address_elsewhere() {
    replay::replay(fuzz(), "host", 2_000, host::check);
}

#[test]
fn a_path_that_is_taken_has_the_same_segments_however_often_it_is_decoded() {
    replay::replay(fuzz(), "path", 2_000, path::check);
}
