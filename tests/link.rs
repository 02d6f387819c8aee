//! `portcullis link`, the lock that it writes, and `portcullis inspect`.

use std::fs;
use std::path::Path;
use std::time::Duration;

use serde_json::Value;
use tempfile::TempDir;

use crate::support::guest;
use crate::support::process::{Finished, run};

const LIMIT: Duration = Duration::from_secs(60);

/// A pipeline whose plugin asks for the time.
fn pipeline(more: &str) -> String {
    format!(
        "pipeline: timed\nsource: {{ file: {{ path: in.jsonl, format: jsonl }} }}\nplugins:\n  - name: clock\n    component: clock.wasm\n{more}sink: {{ file: {{ path: out.jsonl, format: jsonl }} }}\n"
    )
}

/// A folder with the pipeline and its component, which has a manifest in itself or beside it.
fn folder(more: &str) -> TempDir {
    let folder = TempDir::new().unwrap();
    fs::copy(guest("asks-the-clock"), folder.path().join("clock.wasm")).unwrap();
    if inspect(folder.path())["manifest"].is_null() {
        let manifest = "manifest: 1\nname: asks-the-clock\nversion: 0.1.0\nworld: WORLD\ncapabilities:\n  - { name: clock, reason: it stamps messages }\n";
        let world = inspect(folder.path())["world"].as_str().unwrap().contains("validator");
        let manifest = manifest.replace("WORLD", if world { "validator" } else { "enricher" });
        fs::write(folder.path().join("clock.wasm.manifest.yaml"), manifest).unwrap();
    }
    fs::write(folder.path().join("pipeline.yaml"), pipeline(more)).unwrap();
    fs::write(folder.path().join("in.jsonl"), "{\"key\":\"k\",\"value\":\"v\"}\n").unwrap();
    folder
}

fn inspect(folder: &Path) -> Value {
    let ended = run(folder, &["inspect", "clock.wasm", "--format", "json"], LIMIT);
    assert_eq!(ended.code(), 0, "{ended:?}");
    ended.json()
}

fn link(folder: &Path, more: &[&str]) -> Finished {
    let arguments: Vec<&str> = ["link", "pipeline.yaml"].iter().chain(more).copied().collect();
    run(folder, &arguments, LIMIT)
}

fn start(folder: &Path, more: &[&str]) -> Finished {
    let arguments = ["run", "pipeline.yaml", "--admin", "127.0.0.1:0", "--audit-file", "audit.jsonl"];
    let arguments: Vec<&str> = arguments.iter().chain(more).copied().collect();
    run(folder, &arguments, LIMIT)
}

/// The grants that the component says that it needs, as they are typed.
fn suggested(folder: &Path) -> String {
    let grants = inspect(folder)["grants"].as_str().unwrap().to_owned();
    grants.lines().map(|line| format!("    {line}\n")).collect()
}

fn set(folder: &Path, more: &str) {
    fs::write(folder.join("pipeline.yaml"), pipeline(more)).unwrap();
}

#[test]
fn a_plugin_that_asks_for_more_than_it_was_granted_is_refused_with_the_table_and_linked_after_the_suggested_grant() {
    let folder = folder("");
    let refused = link(folder.path(), &[]);
    assert_eq!(refused.code(), 2, "{refused:?}");
    for piece in ["IMPORT", "wasi:clocks/", "not granted", "refused", "NODE", "now"] {
        assert!(refused.stdout.contains(piece), "{piece} is missing in\n{}", refused.stdout);
    }
    assert!(
        refused.stderr.contains("clock: coarse") && refused.stderr.contains("add `grants: {"),
        "{}",
        refused.stderr
    );
    assert!(!folder.path().join("portcullis.lock").exists(), "nothing was linked, so nothing is locked");

    set(folder.path(), &suggested(folder.path()));
    let linked = link(folder.path(), &[]);
    assert_eq!(linked.code(), 0, "{linked:?}");
    for piece in ["linked", "coarse (pipeline.yaml:8:", "portcullis.lock: written"] {
        assert!(linked.stdout.contains(piece), "{piece} is missing in\n{}", linked.stdout);
    }
    let lock: Value = serde_json::from_slice(&fs::read(folder.path().join("portcullis.lock")).unwrap()).unwrap();
    let plugin = &lock["pipelines"]["timed"]["plugins"][0];
    assert_eq!((&plugin["grants"]["clock"], &plugin["component"]), (&"coarse".into(), &"clock.wasm".into()));
    assert!(plugin["digest"].as_str().unwrap().starts_with("sha256:"), "{plugin}");
    assert_eq!(start(folder.path(), &["--locked"]).code(), 0);
    assert!(link(folder.path(), &["--locked"]).stdout.contains("linked"));
    assert!(link(folder.path(), &[]).stdout.contains("portcullis.lock: unchanged"));
}

#[test]
fn after_a_byte_of_the_component_was_flipped_the_lock_refuses_it_until_the_operator_takes_it() {
    let folder = folder("");
    set(folder.path(), &suggested(folder.path()));
    assert_eq!(link(folder.path(), &[]).code(), 0);
    let component = folder.path().join("clock.wasm");
    let bytes = fs::read(&component).unwrap();
    let mut flipped = bytes.clone();
    *flipped.last_mut().unwrap() ^= 1;
    fs::write(&component, flipped).unwrap();
    for ended in
        [start(folder.path(), &[]), link(folder.path(), &[]), run(folder.path(), &["check", "pipeline.yaml"], LIMIT)]
    {
        assert_eq!(ended.code(), 2, "{ended:?}");
        assert!(ended.stderr.contains("error[lock.drift]"), "{}", ended.stderr);
        assert!(ended.stderr.contains("the digest was sha256:"), "{}", ended.stderr);
    }
    let audit = fs::read_to_string(folder.path().join("audit.jsonl")).unwrap();
    assert!(audit.contains("plugin.rejected") && audit.contains("lock.drift"), "{audit}");

    // Another component that is a good one: what was appended changes nothing but the digest.
    let mut other = bytes;
    other.extend_from_slice(b"\0\x02\x01x");
    fs::write(&component, other).unwrap();
    assert_eq!(link(folder.path(), &[]).code(), 2);
    let taken = link(folder.path(), &["--update"]);
    assert_eq!(taken.code(), 0, "{taken:?}");
    assert_eq!(start(folder.path(), &["--locked"]).code(), 0);
}

#[test]
fn what_differs_from_the_lock_is_named_with_its_line_and_linking_again_accepts_it() {
    let folder = folder("");
    let grants = suggested(folder.path());
    set(folder.path(), &grants);
    assert_eq!(link(folder.path(), &[]).code(), 0);
    set(folder.path(), &format!("{}    limits: {{ memory: 32MiB }}\n", grants.replace("coarse", "precise")));
    let refused = start(folder.path(), &[]);
    assert_eq!(refused.code(), 2, "{refused:?}");
    for piece in [
        "`grants.clock` was coarse, now it is precise",
        "`limits.memory` was 64MiB, now it is 32MiB",
        "pipeline.yaml:8:",
    ] {
        assert!(refused.stderr.contains(piece), "{piece} is missing in\n{}", refused.stderr);
    }
    assert_eq!(link(folder.path(), &["--locked"]).code(), 2);
    assert_eq!(link(folder.path(), &[]).code(), 0);
    assert_eq!(start(folder.path(), &[]).code(), 0);
}

#[test]
fn a_run_that_requires_a_lock_does_not_start_without_one() {
    let folder = folder("");
    set(folder.path(), &suggested(folder.path()));
    let refused = start(folder.path(), &["--locked"]);
    assert_eq!(refused.code(), 2, "{refused:?}");
    assert!(refused.stderr.contains("error[lock.missing]"), "{}", refused.stderr);
    assert_eq!(start(folder.path(), &[]).code(), 0);
}

#[test]
fn two_components_of_one_name_and_version_are_refused_at_both_places() {
    let folder = folder("");
    let grants = suggested(folder.path());
    let mut other = fs::read(folder.path().join("clock.wasm")).unwrap();
    other.extend_from_slice(b"\0\x02\x01x");
    fs::write(folder.path().join("other.wasm"), other).unwrap();
    let beside = folder.path().join("clock.wasm.manifest.yaml");
    if beside.exists() {
        fs::copy(beside, folder.path().join("other.wasm.manifest.yaml")).unwrap();
    }
    set(folder.path(), &format!("{grants}  - name: other\n    component: other.wasm\n{grants}"));
    let refused = link(folder.path(), &["--format", "json"]);
    assert_eq!(refused.code(), 2, "{refused:?}");
    let report = refused.json();
    let lines: Vec<u64> =
        report["errors"].as_array().unwrap().iter().map(|error| error["line"].as_u64().unwrap()).collect();
    assert!(report["errors"].as_array().unwrap().iter().all(|error| error["code"] == "name.conflict"), "{report:#}");
    assert_eq!(lines.len(), 2, "{report:#}");
    assert!(lines.contains(&5), "{lines:?}");
}

#[test]
fn a_grant_above_a_ceiling_is_refused_with_the_table() {
    let folder = folder("    grants: { clock: precise }\n");
    fs::write(folder.path().join("portcullis.yaml"), "ceilings: { clock: coarse }\n").unwrap();
    let refused = link(folder.path(), &["--format", "json"]);
    assert_eq!(refused.code(), 2, "{refused:?}");
    let report = refused.json();
    let line =
        report["plugins"][0]["table"].as_array().unwrap().iter().find(|line| line["capability"] == "clock").unwrap();
    assert_eq!((&line["verdict"], &line["node_ceiling"]["value"]), (&"refused".into(), &"coarse".into()), "{line:#}");
    assert_eq!(line["granted"]["line"], 6, "{line:#}");
}

#[test]
fn inspect_shows_what_a_component_could_do_and_the_grants_that_it_would_need() {
    let folder = folder("");
    let report = inspect(folder.path());
    assert!(report["digest"].as_str().unwrap().starts_with("sha256:"));
    assert!(report["imports"].as_array().unwrap().iter().any(|import| {
        import["capability"] == "clock" && import["functions"].as_array().is_some_and(|functions| !functions.is_empty())
    }));
    assert!(report["grants"].as_str().unwrap().contains("clock: coarse"));
    let text = run(folder.path(), &["inspect", "clock.wasm"], LIMIT);
    for piece in ["world     portcullis:plugin/", "needs the grant `clock`", "core module", "grants:", "clock: coarse"]
    {
        assert!(text.stdout.contains(piece), "{piece} is missing in\n{}", text.stdout);
    }
    fs::write(folder.path().join("clock.wasm"), "text").unwrap();
    let refused = run(folder.path(), &["inspect", "clock.wasm"], LIMIT);
    assert_eq!((refused.code(), refused.stderr.contains("not_a_component")), (2, true), "{refused:?}");
}
