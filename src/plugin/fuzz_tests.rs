//! What was fuzzed stays as it is: the committed inputs of the targets about manifests and components, with the same checks.

use std::path::Path;

#[path = "../../fuzz/checks/component.rs"]
mod component;
#[path = "../../fuzz/checks/manifest.rs"]
mod manifest;
#[path = "../../fuzz/checks/replay.rs"]
mod replay;

fn fuzz() -> &'static Path {
    Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/fuzz"))
}

#[test]
fn any_bytes_as_a_manifest_are_refused_or_within_its_bounds() {
    let folder = tempfile::tempdir().unwrap();
    replay::replay(fuzz(), "manifest", 400, |data| manifest::check(folder.path(), data));
}

#[test]
fn any_bytes_as_a_component_are_refused_or_within_its_bounds() {
    replay::replay(fuzz(), "component", 400, component::check);
}
