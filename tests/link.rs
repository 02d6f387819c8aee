//! `portcullis link`, the lock that it writes, and `portcullis inspect`.

use std::fs;
use std::path::Path;
use std::time::Duration;

use serde_json::Value;
use sha2::{Digest, Sha256};
use tempfile::TempDir;

use crate::support::guest;
use crate::support::process::{Finished, Process, portcullis, run};
use crate::support::tls::Authority;

const LIMIT: Duration = Duration::from_secs(60);

/// A pipeline whose plugin asks for the time.
fn pipeline(more: &str) -> String {
    format!(
        "pipeline: timed\nsource: {{ file: {{ path: in.jsonl, format: jsonl }} }}\nplugins:\n  - name: clock\n    component: clock.wasm\n{more}sink: {{ file: {{ path: out.jsonl, format: jsonl }} }}\n"
    )
}

/// A folder with the pipeline and its component, which has a manifest in itself.
fn folder(more: &str) -> TempDir {
    let folder = TempDir::new().unwrap();
    fs::copy(guest("asks-the-clock"), folder.path().join("clock.wasm")).unwrap();
    assert!(!inspect(folder.path())["manifest"].is_null(), "the SDK's `manifest!` has left nothing in the component");
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
    assert!(
        plugin["budgets"]["memory"].is_string() && plugin["budgets"]["connections"].is_null(),
        "it has no network: {plugin}"
    );
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

/// What a rule of a plugin can draw on: a secret, roots, a certificate, and a file in its configuration.
const DRAWS: &str = r#"      egress:
        - allow: https://rates.example.com
          secrets: { authorization: { env: RATES_TOKEN, prefix: "Bearer " } }
          ca: ca.pem
          client_cert: { cert: client.pem, key: client.key }
  - name: stamp
    component: stamp.wasm
    config: { headers: { set: { who: "${RATES_TOKEN}" }, copy: { $file: table.json } } }
"#;

fn drawing() -> (TempDir, String) {
    let folder = folder("");
    fs::copy(guest("stamp"), folder.path().join("stamp.wasm")).unwrap();
    let typed = suggested(folder.path()) + DRAWS;
    set(folder.path(), &typed);
    let clients = Authority::new("clients");
    let (certificate, key) = clients.issue("a.example.com");
    let node = "pipelines_may_name: { env: [RATES_*], files: [token, ca.pem, client.key] }\negress: { dns: { servers: [\"127.0.0.1:53\"] }, tls: { roots: ca.pem } }\n";
    for (name, text) in [
        ("ca.pem", Authority::new("servers").pem().as_str()),
        ("client.pem", &certificate),
        ("client.key", &key),
        ("table.json", "{\"currency\": {\"json\": \"/currency\"}}"),
        ("in.jsonl", "{\"key\":\"k\",\"value\":\"{\\\"currency\\\":\\\"EUR\\\"}\"}\n"),
        ("token", "hunter2\n"),
        ("portcullis.yaml", node),
    ] {
        fs::write(folder.path().join(name), text).unwrap();
    }
    (folder, typed)
}

fn with_token(folder: &Path, arguments: &[&str], token: &str) -> Finished {
    let mut command = portcullis(folder);
    command.args(arguments).args(["--admin", "127.0.0.1:0", "--audit-file", "audit.jsonl"]);
    Process::start(command.env("RATES_TOKEN", token).env("RATES_OTHER", token)).finish(LIMIT)
}

#[test]
fn the_source_of_a_secret_a_certificate_and_the_configuration_are_locked_and_what_is_secret_is_not() {
    let (folder, typed) = drawing();
    let folder = folder.path();
    let linked = with_token(folder, &["link", "pipeline.yaml"], "hunter2");
    assert_eq!(linked.code(), 0, "{linked:?}");
    let text = fs::read_to_string(folder.join("portcullis.lock")).unwrap();
    assert!(text.contains("secret authorization env RATES_TOKEN"), "{text}");
    let of_key = format!("{:x}", Sha256::digest(fs::read(folder.join("client.key")).unwrap()));
    for secret in [
        "hunter2",
        &format!("{:x}", Sha256::digest("hunter2")),
        &format!("{:x}", Sha256::digest("Bearer hunter2")),
        &of_key,
    ] {
        assert!(!text.contains(secret), "{secret} is in {text}");
    }
    let run = |token: &str| with_token(folder, &["run", "pipeline.yaml"], token);
    for token in ["hunter2", "another"] {
        let ended = run(token);
        assert_eq!(ended.code(), 0, "the value of a variable is no drift: {ended:?}");
    }

    let refuses = |drift: &str, piece: &str| {
        let pipeline = fs::read_to_string(folder.join("pipeline.yaml")).unwrap();
        let line = pipeline.lines().position(|line| line.contains(piece)).unwrap() + 1;
        let place = format!("pipeline.yaml:{line}:");
        let ended = run("hunter2");
        assert_eq!((ended.code(), ended.stderr.matches("error[lock.drift]").count()), (2, 1), "{drift}: {ended:?}");
        assert!(ended.stderr.contains(drift) && ended.stderr.contains(&place), "{drift} {place}: {}", ended.stderr);
    };
    for (from, to, drift, piece) in [
        ("env: RATES_TOKEN", "env: RATES_OTHER", "secret authorization env RATES_OTHER", "- allow:"),
        ("env: RATES_TOKEN", "file: token", "secret authorization file token", "- allow:"),
        ("who: \"${RATES_TOKEN}\"", "who: \"${RATES_OTHER}\"", "`config` was sha256:", " config:"),
    ] {
        set(folder, &typed.replacen(from, to, 1));
        refuses(drift, piece);
    }
    set(folder, &typed);
    let other = Authority::new("others");
    let (certificate, key) = other.issue("a.example.com");
    for (files, drift, piece) in [
        (&[("ca.pem", other.pem())][..], "`grants.egress[0].ca` was sha256:", " ca:"),
        (
            &[("client.pem", certificate), ("client.key", key)],
            "`grants.egress[0].client_cert` was sha256:",
            "client_cert:",
        ),
        (&[("table.json", "{}".to_owned())], "`config` was sha256:", " config:"),
    ] {
        let before: Vec<_> = files.iter().map(|(name, _)| (name, fs::read(folder.join(name)).unwrap())).collect();
        files.iter().for_each(|(name, text)| fs::write(folder.join(name), text).unwrap());
        refuses(drift, piece);
        assert_eq!(with_token(folder, &["link", "--locked", "pipeline.yaml"], "hunter2").code(), 2);
        before.iter().for_each(|(name, bytes)| fs::write(folder.join(name), bytes).unwrap());
    }
    assert_eq!(run("hunter2").code(), 0);
}

#[test]
fn a_pipe_in_the_place_of_a_file_is_refused_and_not_waited_for() {
    for (name, code) in [
        ("pipeline.yaml", "file.unreadable"),
        ("portcullis.yaml", "file.unreadable"),
        ("portcullis.lock", "lock.invalid"),
        ("clock.wasm", "component.unreadable"),
        ("clock.wasm.manifest.yaml", "manifest.invalid"),
        ("table.json", "file.unreadable"),
        ("ca.pem", ""),
        ("client.key", "file.unreadable"),
        ("token", "file.unreadable"),
    ] {
        let (folder, typed) = drawing();
        if name == "token" {
            set(folder.path(), &typed.replace("env: RATES_TOKEN", "file: token"));
        }
        let path = folder.path().join(name);
        drop(fs::remove_file(&path));
        assert!(std::process::Command::new("mkfifo").arg(&path).status().unwrap().success());
        let ended = with_token(folder.path(), &["check", "pipeline.yaml"], "hunter2");
        assert_eq!(ended.code(), 2, "{name}: {ended:?}");
        assert!(ended.stderr.contains(&format!("error[{code}")), "{name}: {}", ended.stderr);
        assert!(ended.stderr.contains("a pipe") || code.is_empty(), "{name}: {}", ended.stderr);
    }
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
