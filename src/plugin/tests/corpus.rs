//! What the fuzzer's corpus holds, and mutations of it, with a stable compiler.

#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing, reason = "in a test a panic is the report")]

use std::path::Path;

#[path = "../../../fuzz/checks/component.rs"]
mod component;
#[path = "../../../fuzz/checks/manifest.rs"]
mod manifest;
#[path = "../../../fuzz/checks/replay.rs"]
mod replay;

#[test]
fn every_component_of_the_corpus_is_read_within_its_bounds_or_refused() {
    replay::replay(&Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz"), "component", 300, component::check);
}

#[test]
fn every_manifest_of_the_corpus_is_read_within_its_bounds_or_refused() {
    let folder = tempfile::tempdir().unwrap();
    let check = |data: &[u8]| manifest::check(folder.path(), data);
    replay::replay(&Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz"), "manifest", 300, check);
}
