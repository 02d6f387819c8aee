//! The runner as it is called, with a program in the bridge's place that really sends what it must not.

#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "a test's helpers fail as the test itself does")]

use std::path::Path;
use std::process::Command;

use serde_json::{Value, json};

/// Runs these vectors and gives the lines, the last being the summary.
fn attack(vectors: &[Value], arguments: &[&str]) -> (i32, Vec<Value>) {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("vectors.jsonl");
    let lines: Vec<String> = vectors.iter().map(Value::to_string).collect();
    std::fs::write(&file, lines.join("\n")).unwrap();
    let here = Path::new(env!("CARGO_MANIFEST_DIR"));
    let output = Command::new(env!("CARGO_BIN_EXE_portcullis-attack"))
        .arg(&file)
        .arg("--binary")
        .arg(here.join("tests/fake-bridge.sh"))
        .arg("--probe")
        .arg(here.join("Cargo.toml"))
        .args(arguments)
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    let lines =
        String::from_utf8_lossy(&output.stdout).lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    eprintln!("{said}");
    (output.status.code().unwrap(), lines)
}

fn vector(id: &str, ops: &[&str], expected: Value) -> Value {
    let ops: Vec<Value> = ops.iter().map(|op| json!({ "op": op })).collect();
    let mut run = json!({ "egress": [], "ops": ops, "results": [{ "ok": false }], "packets": [] });
    run.as_object_mut().unwrap().extend(expected.as_object().unwrap().clone());
    json!({ "id": id, "rules": "words", "run": run })
}

/// wire, code, audit, canary
fn parts(line: &Value) -> Vec<bool> {
    ["wire", "code", "audit", "canary"].map(|part| line[part].as_bool().unwrap()).to_vec()
}

#[test]
fn a_bridge_that_keeps_to_its_grants_passes() {
    let vectors = [
        vector("quiet", &[], json!({"events":[{"code":"net.connect.denied","reasons":["addr.private"],"count":2}]})),
        vector("page", &["web"], json!({"results":[{"ok":true,"status":200}],"packets":["93.184.216.34:80"]})),
        vector(
            "six",
            &["listener"],
            json!({"results":[{"ok":true}],"listen":["[2606:2800:220:1::1]:5432"],"packets":["[2606:2800:220:1::1]:5432"]}),
        ),
        vector("name", &["lookup"], json!({"dns":{"ok.test":{"addresses":["1.2.3.4"]}},"queries":["ok.test"]})),
        vector("send", &["datagram"], json!({"packets":["93.184.216.35:9000"],"queries":[]})),
        json!({"id":"refused","config":{"egress":[{"allow":"*"}],"refused":["match_all"]}}),
        json!({"id":"words","rules":"only"}),
    ];
    let (code, lines) = attack(&vectors, &["--jobs", "3"]);
    let order: Vec<&str> = lines.iter().filter_map(|line| line["id"].as_str()).collect();
    assert_eq!(order, ["quiet", "page", "six", "name", "send", "refused", "words"]);
    for line in &lines[..6] {
        assert_eq!(line["ok"], true, "{line}");
    }
    assert_eq!((code, lines[6]["skipped"].as_bool()), (0, Some(true)));
    assert_eq!(lines[7]["summary"], json!({"vectors":7,"run":6,"passed":6,"failed":[],"by_hand":1}));
}

#[test]
fn whatever_a_leaky_bridge_sends_is_seen() {
    let leaks = ["web", "listener", "datagram", "multicast", "nobody", "decoy", "other-port", "six"];
    let mut vectors: Vec<Value> =
        leaks.iter().map(|leak| vector(leak, &[leak], json!({"results":[{"any":true}]}))).collect();
    vectors.push(vector("question", &["lookup"], json!({"queries":[]})));
    vectors.push(vector("log", &["talk"], json!({"canary":["secret-canary"]})));
    vectors.push(vector("answer", &[], json!({"results":[{"ok":true}]})));
    vectors.push(vector("events", &[], json!({"events":[{"code":"net.connect.denied","count":1}]})));
    vectors.push(json!({"id":"words","run":{"ops":[],"unknown":1}}));
    vectors.push(json!({"id":"line","config":{"egress":[{"allow":"*"}],"refused":["wildcard_partial"]}}));
    let (code, lines) = attack(&vectors, &[]);
    assert_eq!(code, 1);
    for line in &lines[..leaks.len() + 1] {
        assert_eq!(parts(line), [false, true, true, true], "{line}");
    }
    let rest: Vec<Vec<bool>> = lines[leaks.len() + 1..leaks.len() + 6].iter().map(parts).collect();
    let (canary, code, audit) = ([true, true, true, false], [true, false, true, true], [true, true, false, true]);
    assert_eq!(rest, [canary.to_vec(), code.to_vec(), audit.to_vec(), vec![false; 4], code.to_vec()]);
    assert_eq!(lines.last().unwrap()["summary"]["failed"].as_array().unwrap().len(), vectors.len());
}

#[test]
fn one_vector_can_be_chosen_and_an_unknown_one_is_an_error() {
    let vectors = [vector("one", &[], json!({})), vector("two", &["decoy"], json!({}))];
    let (code, lines) = attack(&vectors, &["--only", "one"]);
    assert_eq!((code, lines.len()), (0, 2));
    assert_eq!(attack(&vectors, &["--only", "three"]), (2, Vec::new()));
}
