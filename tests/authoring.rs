//! What a plugin's author types: a new crate in an empty folder, its tests, its component, the component in the sandbox, and a
//! pipeline of it. And what an operator reads before it runs: the plan.

use std::fs;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use serde_json::Value;
use tempfile::TempDir;

use crate::support::process::{Finished, Process, portcullis, run};
use crate::support::{guest, root};

/// A first build compiles the SDK's own dependencies.
const LIMIT: Duration = Duration::from_secs(300);

/// As an author's shell is: without what cargo sets for these tests.
fn as_typed(command: &mut Command) -> &mut Command {
    for variable in ["RUSTFLAGS", "CARGO_ENCODED_RUSTFLAGS", "CARGO_BUILD_TARGET", "CARGO_TARGET_DIR"] {
        command.env_remove(variable);
    }
    command
}

/// The compiler for components that `cargo xtask test` found, where it is not rustup's.
fn with_toolchain(command: &mut Command) -> &mut Command {
    as_typed(command);
    let variables = std::env::var("BRIDGE_TEST_GUEST_TOOLCHAIN").unwrap_or_else(|_| "{}".to_owned());
    let variables: Value = serde_json::from_str(&variables).unwrap();
    for (name, value) in variables.as_object().unwrap() {
        command.env(name, value.as_str().unwrap());
    }
    command
}

fn in_folder(folder: &Path, arguments: &[&str]) -> Finished {
    Process::start(with_toolchain(portcullis(folder).args(arguments))).finish(LIMIT)
}

fn made(kind: &str) -> (TempDir, std::path::PathBuf) {
    let parent = TempDir::new().unwrap();
    let ended = run(parent.path(), &["plugin", "new", "my-plugin", "--kind", kind], LIMIT);
    assert_eq!(ended.code(), 0, "{ended:?}");
    let folder = parent.path().join("my-plugin");
    (parent, folder)
}

const COMPONENT: &str = "target/wasm32-unknown-unknown/release/my_plugin.wasm";

#[test]
fn a_new_validator_in_an_empty_folder_passes_its_own_tests_and_is_built_tested_and_run() {
    let (_parent, folder) = made("validator");
    let readme = fs::read_to_string(folder.join("README.md")).unwrap();
    for command in ["cargo test", "portcullis plugin build", &format!("portcullis plugin test {COMPONENT}")] {
        assert!(readme.contains(command), "{command} is missing in\n{readme}");
    }
    let early = run(&folder, &["check", "pipeline.yaml"], LIMIT);
    assert!(early.code() == 2 && early.stderr.contains("`portcullis plugin build`"), "{early:?}");
    let mut native = Command::new("cargo");
    native.arg("test").current_dir(&folder);
    let ended = Process::start(as_typed(&mut native)).finish(LIMIT);
    assert_eq!(ended.code(), 0, "{ended:?}");
    assert!(ended.stdout.contains("1 passed"), "{}", ended.stdout);

    let built = in_folder(&folder, &["plugin", "build"]);
    assert_eq!(built.code(), 0, "{built:?}");
    assert!(built.stdout.contains(COMPONENT) && built.stdout.contains("needs no grant"), "{}", built.stdout);

    let tested = run(&folder, &["plugin", "test", COMPONENT, "--input", "input.jsonl"], LIMIT);
    assert_eq!(tested.code(), 0, "{tested:?}");
    assert!(tested.stdout.contains("3 messages, all as expected"), "{}", tested.stdout);
    assert!(tested.stdout.contains("reject  amount") && tested.stdout.contains("fuel: median"), "{}", tested.stdout);

    let ran = run(&folder, &["run", "pipeline.yaml", "--admin", "127.0.0.1:0"], LIMIT);
    assert_eq!(ran.code(), 0, "{ran:?}");
    assert_eq!(fs::read_to_string(folder.join("out.jsonl")).unwrap().lines().count(), 1);
    assert_eq!(fs::read_to_string(folder.join("dead.jsonl")).unwrap().lines().count(), 2);
}

#[test]
fn a_new_enricher_changes_messages_and_what_it_should_not_be_is_told() {
    let (_parent, folder) = made("enricher");
    let built = in_folder(&folder, &["plugin", "build"]);
    assert_eq!(built.code(), 0, "{built:?}");
    let json = run(&folder, &["plugin", "test", COMPONENT, "--input", "input.jsonl", "--format", "json"], LIMIT);
    assert_eq!(json.code(), 0, "{json:?}");
    let lines: Vec<Value> = json.stdout.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(lines[0]["headers"], serde_json::json!([["x-size", "5"]]), "{lines:#?}");
    assert_eq!(lines[0]["edits"], serde_json::json!(["+x-size"]));
    assert!(lines.iter().all(|line| line["fuel"].as_u64().is_some_and(|fuel| fuel > 0)), "{lines:#?}");

    // What one run printed is what the next is held against.
    fs::write(folder.join("expected.jsonl"), &json.stdout).unwrap();
    let test = ["plugin", "test", COMPONENT, "--input", "input.jsonl", "--expect", "expected.jsonl"];
    let same = run(&folder, &test, LIMIT);
    assert_eq!(same.code(), 0, "{same:?}");
    fs::write(folder.join("expected.jsonl"), json.stdout.replace("\"5\"", "\"6\"")).unwrap();
    let other = run(&folder, &test, LIMIT);
    assert_eq!(other.code(), 1, "{other:?}");
    assert!(other.stdout.contains("`headers` is [[\"x-size\",\"5\"]]"), "{}", other.stdout);
    assert!(other.stdout.contains("1 not as expected"), "{}", other.stdout);

    let bench = run(&folder, &["plugin", "bench", COMPONENT, "--input", "input.jsonl", "--seconds", "1"], LIMIT);
    assert_eq!(bench.code(), 0, "{bench:?}");
    let calls: u64 = bench.stdout.split(' ').next().unwrap().parse().unwrap();
    assert!(calls >= 1000 && bench.stdout.contains("0 faults"), "{}", bench.stdout);
}

#[test]
fn a_component_is_tested_under_its_real_grants_and_budgets() {
    let folder = TempDir::new().unwrap();
    fs::write(
        folder.path().join("in.jsonl"),
        "{\"value\":\"v\",\"expect\":{\"outcome\":\"fault\",\"reason\":\"fuel\"}}\n",
    )
    .unwrap();
    fs::write(folder.path().join("limits.yaml"), "fuel: 100000\ndeadline: 10s\n").unwrap();
    let spins = guest("spins-forever");
    let spins = spins.to_str().unwrap();
    let ended = run(folder.path(), &["plugin", "test", spins, "--input", "in.jsonl", "--limits", "limits.yaml"], LIMIT);
    assert_eq!(ended.code(), 0, "{ended:?}");
    assert!(ended.stdout.contains("fault") && ended.stdout.contains("all as expected"), "{}", ended.stdout);

    let clock = guest("asks-the-clock");
    let clock = clock.to_str().unwrap();
    let refused = run(folder.path(), &["plugin", "test", clock, "--input", "in.jsonl"], LIMIT);
    assert_eq!(refused.code(), 2, "{refused:?}");
    assert!(refused.stderr.contains("clock: coarse"), "{}", refused.stderr);
}

#[test]
fn whoever_misses_a_plugin_of_this_repository_is_told_what_builds_those() {
    let folder = TempDir::new().unwrap();
    let plugins = fs::read_dir(root().join("plugins")).unwrap().map(|entry| entry.unwrap().path());
    let is_shipped = |path: &std::path::PathBuf| {
        fs::read_to_string(path.join("Cargo.toml")).is_ok_and(|manifest| manifest.contains("cdylib"))
    };
    let mut shipped = 0;
    for plugin in plugins.filter(is_shipped) {
        let name = plugin.file_name().unwrap().to_str().unwrap().to_owned();
        let pipeline = format!(
            "pipeline: p\nsource: {{ stdio: }}\nplugins: [{{ name: x, component: gone/{name}.wasm }}]\nsink: {{ stdio: }}\n"
        );
        fs::write(folder.path().join("p.yaml"), pipeline).unwrap();
        let ended = run(folder.path(), &["check", "p.yaml"], LIMIT);
        assert!(ended.code() == 2 && ended.stderr.contains("`cargo xtask guests`"), "{name}: {ended:?}");
        shipped += 1;
    }
    assert!(shipped >= 4, "{shipped}");
}

#[test]
fn the_plan_of_the_quickstart_says_what_would_run_and_what_is_weak() {
    let text = run(root(), &["plan", "pipelines/orders.yaml"], LIMIT);
    assert_eq!(text.code(), 0, "{text:?}");
    for piece in [
        "pipeline orders: at least once",
        "kafka orders.raw",
        "group orders",
        "├─ rates",
        "sha256:",
        "wasi:http/outgoing-handler",
        "https://rates.example.com method=GET",
        "deadline 50ms (pipelines/orders.yaml:",
        "handles 4096 (default)",
        "what does not pass: kafka orders.dlq",
        "└─ kafka orders.clean",
        "plugin rates: no `digest`",
    ] {
        assert!(text.stdout.contains(piece), "`{piece}` is missing in\n{}", text.stdout);
    }

    let json = run(root(), &["plan", "pipelines/orders.yaml", "--format", "json"], LIMIT).json();
    let pipeline = &json["pipelines"][0];
    assert_eq!(pipeline["plugins"].as_array().unwrap().len(), 3, "{json:#}");
    let memory = pipeline["plugins"][0]["budgets"].as_array().unwrap().iter().find(|one| one["name"] == "memory");
    assert!(memory.unwrap()["origin"].as_str().unwrap().starts_with("pipelines/orders.yaml:"), "{json:#}");

    let chart = run(root(), &["plan", "pipelines/orders.yaml", "--format", "mermaid"], LIMIT);
    assert!(chart.stdout.starts_with("flowchart LR\n"), "{}", chart.stdout);
    for edge in ["p0_from0 --> p0_plugin0", "p0_plugin2 --> p0_to", "p0_plugin1 == \"egress\" ==> p0_net1_0"] {
        assert!(chart.stdout.contains(edge), "`{edge}` is missing in\n{}", chart.stdout);
    }
    let readme = fs::read_to_string(root().join("README.md")).unwrap();
    assert!(readme.contains(chart.stdout.trim_end()), "the README's chart is not this one:\n{}", chart.stdout);
}

#[test]
fn a_plan_of_a_bad_file_is_refused_as_check_refuses_it() {
    let folder = TempDir::new().unwrap();
    fs::write(folder.path().join("p.yaml"), "pipeline: p\nsource: { stdio: {} }\n").unwrap();
    let ended = run(folder.path(), &["plan", "p.yaml"], LIMIT);
    assert_eq!(ended.code(), 2, "{ended:?}");
    assert!(ended.stderr.contains("p.yaml:1:1") && ended.stderr.contains("sink"), "{}", ended.stderr);
}

#[test]
fn completions_know_every_subcommand() {
    for shell in ["bash", "zsh", "fish", "elvish", "powershell"] {
        let ended = run(root(), &["completions", shell], LIMIT);
        assert_eq!(ended.code(), 0, "{ended:?}");
        for command in ["run", "check", "plan", "link", "inspect", "explain", "plugin"] {
            assert!(ended.stdout.contains(command), "{command} is missing for {shell}");
        }
    }
}
