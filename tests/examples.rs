//! The validators of plugins/examples, in the bridge. Their tools are hundreds of megabytes and a component of theirs compiles for half a
//! minute, so this is no part of the default run: `cargo xtask test guests` builds them and runs it.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde_json::{Value, json};
use tempfile::TempDir;

use crate::support::process::{Finished, run};
use crate::support::{examples, guest};

/// The first run compiles the component, on machines of two cores beside other work.
const LIMIT: Duration = Duration::from_secs(300);

/// Key, value and what becomes of it: `pass`, or the code of the rejection.
const MESSAGES: [(&str, Option<&str>, &str); 16] = [
    ("whole", Some(r#"{"id":"o-1","amount":1.50}"#), "pass"),
    ("null", None, "null_value"),
    ("empty", Some(""), "not_json"),
    ("cut", Some(r#"{"id":"#), "not_json"),
    ("number", Some(r#"{"id":7}"#), "no_id"),
    ("absent", Some(r#"{"other":"o-1"}"#), "no_id"),
    ("array", Some(r#"[{"id":"o-1"}]"#), "no_id"),
    ("scalar", Some(r#""id""#), "no_id"),
    ("short", Some(r#"{"id":"x"}"#), "no_id"),
    ("escaped", Some(r#"{"\u0069d":"\u006f1"}"#), "pass"),
    ("characters", Some("{\"id\":\"\u{e9}\u{1f600}\"}"), "pass"),
    ("one-character", Some("{\"id\":\"\u{1f600}\"}"), "no_id"),
    ("last-counts", Some(r#"{"id":"o-1","id":"x"}"#), "no_id"),
    ("nan", Some(r#"{"id":"o-1","n":NaN}"#), "not_json"),
    ("byte-order-mark", Some("\u{feff}{\"id\":\"o-1\"}"), "not_json"),
    ("inherited", Some(r#"{"__proto__":{"id":"o-1"}}"#), "no_id"),
];

#[test]
#[ignore = "needs the tools of other languages: cargo xtask test guests"]
fn validators_in_rust_python_and_javascript_give_the_same_verdicts() {
    for (language, component) in components() {
        let folder = folder(&component, "{ min_length: 2 }");
        let ended = start(folder.path());
        assert_eq!(ended.code(), 0, "{language}: {ended:?}");
        let mut found: BTreeMap<String, Value> = BTreeMap::new();
        for message in lines(folder.path(), "out.jsonl") {
            found.insert(key(&message), json!("pass"));
        }
        for message in lines(folder.path(), "dead.jsonl") {
            found.insert(key(&message), code(&message));
        }
        let mut expected: BTreeMap<String, Value> =
            MESSAGES.iter().map(|(key, _, outcome)| ((*key).to_owned(), json!(outcome))).collect();
        expected.insert("no-text".to_owned(), json!("not_json"));
        assert_eq!(found, expected, "{language}");
    }
}

#[test]
#[ignore = "needs the tools of other languages: cargo xtask test guests"]
fn what_they_refuse_in_their_configuration_is_shown_to_the_operator() {
    for (language, component) in components() {
        for (config, what) in [("{ min_lenght: 2 }", "unknown key min_lenght"), ("{ min_length: 0 }", "")] {
            let ended = start(folder(&component, config).path());
            assert_eq!(ended.code(), 2, "{language} {config}: {ended:?}");
            let output = ended.stdout + &ended.stderr;
            assert!(output.contains("config") && output.contains(what), "{language} {config}: {output}");
        }
    }
}

fn components() -> [(&'static str, PathBuf); 3] {
    [
        ("Rust", guest("checks-id")),
        ("Python", examples().join("python/checks-id.wasm")),
        ("JavaScript", examples().join("javascript/checks-id.wasm")),
    ]
}

fn folder(component: &Path, config: &str) -> TempDir {
    let folder = TempDir::new().unwrap();
    let pipeline = format!(
        "pipeline: languages\nsource:\n  file: {{ path: input.jsonl, format: jsonl }}\nplugins:\n  - name: checks-id\n    component: {}\n    \
         config: {config}\nsink:\n  file: {{ path: out.jsonl, format: jsonl }}\ndead_letter:\n  file: {{ path: dead.jsonl, format: jsonl }}\n",
        component.display()
    );
    fs::write(folder.path().join("pipeline.yaml"), pipeline).unwrap();
    let mut input: Vec<Value> = MESSAGES.iter().map(|(key, value, _)| json!({ "key": key, "value": value })).collect();
    // 0xff 0x00
    input.push(json!({ "key": "no-text", "value_b64": "/wA=" }));
    let input: Vec<String> = input.iter().map(Value::to_string).collect();
    fs::write(folder.path().join("input.jsonl"), input.join("\n") + "\n").unwrap();
    folder
}

fn start(folder: &Path) -> Finished {
    run(folder, &["run", "pipeline.yaml", "--admin", "127.0.0.1:0", "--audit-file", "audit.jsonl"], LIMIT)
}

fn lines(folder: &Path, name: &str) -> Vec<Value> {
    let text = fs::read_to_string(folder.join(name)).unwrap();
    text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

fn key(message: &Value) -> String {
    message["key"].as_str().unwrap().to_owned()
}

fn code(letter: &Value) -> Value {
    let headers = letter["headers"].as_array().unwrap();
    headers
        .iter()
        .find(|header| header[0] == "__portcullis.errors.code")
        .map_or(Value::Null, |header| header[1].clone())
}
