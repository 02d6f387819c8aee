//! What the fuzzer's corpus holds, and mutations of it, with a stable compiler.

use std::path::Path;

#[path = "../../../../fuzz/checks/host.rs"]
mod host;
#[path = "../../../../fuzz/checks/path.rs"]
mod path;
#[path = "../../../../fuzz/checks/replay.rs"]
mod replay;
#[path = "../../../../fuzz/checks/rule.rs"]
mod rule;

const MUTATIONS: usize = 500;

fn fuzz() -> std::path::PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../fuzz")
}

#[test]
fn every_rule_of_the_corpus_has_one_form_or_an_error() {
    replay::replay(&fuzz(), "rule", MUTATIONS, rule::check);
}

#[test]
fn every_host_of_the_corpus_is_read_as_everybody_reads_it_or_refused() {
    replay::replay(&fuzz(), "host", MUTATIONS, host::check);
}

#[test]
fn every_path_of_the_corpus_is_canonical_or_refused() {
    replay::replay(&fuzz(), "path", MUTATIONS, path::check);
}
