//! Every folder of `tests/cases` is a case, and its name is the sentence that it shows. Each runs through the binary on
//! the file connector:
//!
//! - `pipeline.yaml`, `input.jsonl`: what is run (`${GUESTS}` is the folder of built components, `${CONTRACT}` that of the ones
//!   which were built against old contracts);
//! - `expect.jsonl`: what the sink must hold, in order for each key; a field that is not named is not compared;
//! - `dead.jsonl`: what the dead letter queue must hold, with `reason`, `code` and `message` from the headers;
//! - `audit.jsonl`: events that must be among the audit events (`event_code`, `status_code`, `operation`);
//! - `error.txt`: pieces that the output must contain; `exit`: the exit code, 0 where there is none.
//!
//! Every audit event of every case must be a valid OCSF event.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use serde_json::{Map, Value};

use crate::support::{guests, process, root, wait};

const LIMIT: Duration = Duration::from_secs(60);

#[test]
fn every_case_shows_what_its_name_says() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/cases");
    let mut cases: Vec<PathBuf> =
        fs::read_dir(&root).unwrap().map(|entry| entry.unwrap().path()).filter(|path| path.is_dir()).collect();
    cases.sort();
    assert!(!cases.is_empty(), "no cases in {}", root.display());
    let mut failures = Vec::new();
    for case in &cases {
        let name = case.file_name().unwrap().to_string_lossy().into_owned();
        match run(case) {
            Ok(()) => println!("case {name}: ok"),
            Err(error) => failures.push(format!("case {name}: {error}")),
        }
    }
    assert!(failures.is_empty(), "{} of {} cases failed:\n\n{}", failures.len(), cases.len(), failures.join("\n\n"));
}

fn run(case: &Path) -> Result<(), String> {
    let folder = tempfile::tempdir().unwrap();
    for entry in fs::read_dir(case).unwrap() {
        let entry = entry.unwrap();
        fs::copy(entry.path(), folder.path().join(entry.file_name())).unwrap();
    }
    let log = fs::File::create(folder.path().join("log")).unwrap();
    let mut child = process::portcullis(folder.path())
        .args(["run", "pipeline.yaml", "--admin", "127.0.0.1:0", "--audit-file", "audit-out.jsonl"])
        .env("GUESTS", guests())
        .env("CONTRACT", root().join("tests/contract"))
        .env_remove("NO_SUCH_VARIABLE")
        .env("NO_COLOR", "1")
        .stdin(Stdio::null())
        .stdout(log.try_clone().unwrap())
        .stderr(log)
        .spawn()
        .unwrap();
    let ended = wait::wait_for(LIMIT, || child.try_wait().unwrap());
    if ended.is_none() {
        child.kill().unwrap();
        child.wait().unwrap();
    }
    let output = fs::read_to_string(folder.path().join("log")).unwrap();
    let judged = ended.ok_or_else(|| "did not end".to_owned()).and_then(|status| {
        let expected = text(case, "exit").map_or(0, |code| code.trim().parse().unwrap());
        if status.code() != Some(expected) {
            return Err(format!("exit code {:?}, expected {expected}", status.code()));
        }
        judge(case, folder.path(), &output)
    });
    judged.map_err(|error| format!("{error}\n--- output ---\n{output}"))
}

fn judge(case: &Path, folder: &Path, output: &str) -> Result<(), String> {
    for piece in text(case, "error.txt").unwrap_or_default().lines() {
        if !output.contains(piece) {
            return Err(format!("the output does not contain {piece:?}"));
        }
    }
    if let Some(expected) = lines(case, "expect.jsonl") {
        same_by_key("the sink", &expected, &lines(folder, "out.jsonl").unwrap_or_default())?;
    }
    // `dead.jsonl` is both what is expected and the file that the run writes: the copy in the folder is the latter.
    if let Some(expected) = lines(case, "dead.jsonl") {
        let found: Vec<Value> =
            lines(folder, "dead-out.jsonl").unwrap_or_default().into_iter().map(with_reason).collect();
        same_by_key("the dead letter queue", &expected, &found)?;
    }
    let events = lines(folder, "audit-out.jsonl").unwrap_or_default();
    for event in &events {
        let faults = portcullis_audit::schema::faults_of(event);
        if !faults.is_empty() {
            return Err(format!("an audit event is not valid: {}\n{event}", faults.join("; ")));
        }
    }
    for wanted in lines(case, "audit.jsonl").unwrap_or_default() {
        if !events.iter().any(|event| is_event(&wanted, event)) {
            let codes: Vec<&Value> = events.iter().map(|event| &event["metadata"]["event_code"]).collect();
            return Err(format!("no audit event {wanted} among {codes:?}"));
        }
    }
    Ok(())
}

fn is_event(wanted: &Value, event: &Value) -> bool {
    let places = [
        ("event_code", &event["metadata"]["event_code"]),
        ("status_code", &event["status_code"]),
        ("operation", &event["api"]["operation"]),
    ];
    places.iter().all(|(name, found)| wanted.get(name).is_none_or(|value| value == *found))
}

/// Adds `reason`, `code` and `message` from the dead letter headers.
fn with_reason(mut letter: Value) -> Value {
    let header = |name: &str| {
        let full = format!("__portcullis.errors.{name}");
        let headers = letter["headers"].as_array()?;
        headers.iter().find(|header| header[0] == full).map(|header| header[1].clone())
    };
    for (name, value) in ["reason", "code", "message"].map(|name| (name, header(name))) {
        letter[name] = value.unwrap_or(Value::Null);
    }
    letter
}

/// The order is promised for each key, not between keys.
fn same_by_key(place: &str, expected: &[Value], found: &[Value]) -> Result<(), String> {
    let group = |messages: &[Value]| {
        let mut groups: BTreeMap<String, Vec<Value>> = BTreeMap::new();
        for message in messages {
            let key = format!("{}/{}", message["key"], message["key_b64"]);
            groups.entry(key).or_default().push(message.clone());
        }
        groups
    };
    let (wanted, got) = (group(expected), group(found));
    let same = wanted.len() == got.len()
        && wanted.iter().all(|(key, messages)| {
            got.get(key).is_some_and(|other| {
                other.len() == messages.len() && messages.iter().zip(other).all(|(one, other)| covers(one, other))
            })
        });
    if same { Ok(()) } else { Err(format!("{place} holds\n{found:#?}\nexpected\n{expected:#?}")) }
}

/// Every field that `wanted` names is the same in `found`; an absent field and null are the same.
fn covers(wanted: &Value, found: &Value) -> bool {
    let empty = Map::new();
    wanted.as_object().unwrap_or(&empty).iter().all(|(name, value)| value == &found[name])
}

fn text(folder: &Path, name: &str) -> Option<String> {
    fs::read_to_string(folder.join(name)).ok()
}

fn lines(folder: &Path, name: &str) -> Option<Vec<Value>> {
    let text = text(folder, name)?;
    Some(
        text.lines()
            .map(|line| serde_json::from_str(line).unwrap_or_else(|error| panic!("{name}: {error}: {line}")))
            .collect(),
    )
}
