//! `portcullis schema` before a JSON Schema validator that is not ours: what ships is accepted, and what `check` refuses and a
//! schema can know is refused by both.

mod mistakes;

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde_json::Value;
use tempfile::TempDir;

use crate::support::process::{Process, portcullis, run};
use crate::support::{guests, python, root};

const LIMIT: Duration = Duration::from_secs(60);

/// Which file a document is.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    Pipeline,
    Node,
}

/// What the schema that the program prints says to each document, as an editor would show it.
fn verdicts(kind: Kind, documents: &[Value]) -> Vec<Value> {
    let folder = TempDir::new().unwrap();
    let arguments: &[&str] = if kind == Kind::Node { &["schema", "--node"] } else { &["schema"] };
    let printed = run(folder.path(), arguments, LIMIT);
    assert_eq!(printed.code(), 0, "{printed:?}");
    let (schema, lines) = (folder.path().join("schema.json"), folder.path().join("documents.jsonl"));
    fs::write(&schema, printed.stdout).unwrap();
    fs::write(&lines, documents.iter().map(|document| format!("{document}\n")).collect::<String>()).unwrap();
    let arguments = ["--schema", schema.to_str().unwrap(), "--documents", lines.to_str().unwrap()];
    let finished = python::client("validate.py", &arguments, LIMIT);
    assert_eq!(finished.code(), 0, "the schema is none of its dialect: {finished:?}");
    let verdicts: Vec<Value> = finished.stdout.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(verdicts.len(), documents.len());
    verdicts
}

/// A file as an editor reads it: `${VAR}` is text.
fn document(text: &str) -> Value {
    serde_saphyr::from_str(text).unwrap_or_else(|error| panic!("{error}\n{text}"))
}

/// Every `*.yaml` below a folder.
fn yaml_files(folder: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    let mut files: Vec<PathBuf> = entries
        .flat_map(|path| if path.is_dir() { yaml_files(&path) } else { vec![path] })
        .filter(|path| path.extension().is_some_and(|extension| extension == "yaml"))
        .collect();
    files.sort();
    files
}

/// Files that are read and run: those that ship, and those of the cases that are not there to be refused before the start.
fn good_files() -> Vec<PathBuf> {
    let refused = |case: &Path| fs::read_to_string(case.join("exit")).is_ok_and(|code| code.trim() == "2");
    let cases = yaml_files(&root().join("tests/cases")).into_iter().filter(|file| !refused(file.parent().unwrap()));
    yaml_files(&root().join("pipelines"))
        .into_iter()
        .chain(yaml_files(&root().join("deploy/portcullis")))
        .chain(cases)
        .collect()
}

fn accepts(kind: Kind, files: &[PathBuf]) {
    let documents: Vec<Value> = files.iter().map(|file| document(&fs::read_to_string(file).unwrap())).collect();
    for (file, verdict) in files.iter().zip(verdicts(kind, &documents)) {
        assert_eq!(verdict["valid"], true, "{}: {verdict:#}", file.display());
    }
}

#[test]
fn every_file_that_ships_and_every_case_that_runs_is_valid() {
    let (nodes, pipelines): (Vec<_>, Vec<_>) =
        good_files().into_iter().partition(|file| file.file_name().is_some_and(|name| name == "portcullis.yaml"));
    assert!(nodes.len() >= 3 && pipelines.len() >= 30, "{} and {} files", nodes.len(), pipelines.len());
    accepts(Kind::Pipeline, &pipelines);
    accepts(Kind::Node, &nodes);
}

/// `check` with the components that the pipelines name.
fn check(folder: &Path, arguments: &[&str]) -> Process {
    let mut check = portcullis(folder);
    Process::start(check.arg("check").args(arguments).args(["--format", "json"]).env("GUESTS", guests()))
}

/// A file in which every value that may be one is a variable's.
const VARIABLES: &str = r#"
pipeline: "${NAME:-v}"
tenant: "${TENANT:-t}"
delivery: "${DELIVERY:-at_least_once}"
order: "${ORDER:-key}"
lanes: "${LANES:-2}"
source:
  kafka: { brokers: "${BROKERS:-127.0.0.1:9092}", topics: ["${TOPIC:-a}"], start: "${START:-earliest}", session_timeout: "${SESSION:-30s}" }
plugins:
  - name: "${PLUGIN:-stamp}"
    component: "${GUESTS}/stamp.wasm"
    on: { reject: "${REJECT:-drop}", fault: "${FAULT:-dead_letter}", retry: { attempts: "${ATTEMPTS:-3}", backoff: "${SHORTEST:-1s}..${LONGEST:-2s}" } }
    grants: { log: "${LOG:-info}", clock: "${CLOCK:-coarse}", random: "${RANDOM_NUMBERS:-true}", egress: [{ allow: "https://${HOST:-rates.example.com}", dangerous: "${DANGEROUS:-false}", ttl: "${TTL:-5s..60s}" }] }
    limits: { fuel: "${FUEL:-50000}", memory: "${MEMORY:-64MiB}", restarts: "${RESTARTS:-5/min}", connects: "${CONNECTS:-10}", egress_bytes: "${EGRESS_BYTES:-1MiB/s}" }
    instance: "${INSTANCE:-lane}"
sink:
  jetstream: { servers: "${SERVERS:-nats://127.0.0.1:4222}", subject: "${SUBJECT:-b}", stream: "${STREAM:-B}", create_stream: { subjects: "${SUBJECTS:-b.>}", replicas: "${REPLICAS:-1}", storage: "${STORAGE:-file}" } }
dead_letter:
  kafka: { topic: "${LETTERS:-a.dlq}", compression: "${COMPRESSION:-zstd}", queue: { messages: "${QUEUE:-100}" } }
queue: { messages: "${WAITING:-100}", bytes: "${WAITING_BYTES:-1MiB}" }
drain: "${DRAIN:-10s}"
"#;

#[test]
fn a_variable_may_stand_for_a_word_a_number_a_switch_a_duration_and_a_size() {
    let folder = TempDir::new().unwrap();
    fs::write(folder.path().join("variables.yaml"), VARIABLES).unwrap();
    let checked = check(folder.path(), &["variables.yaml"]).finish(LIMIT);
    assert_eq!(checked.code(), 0, "{checked:?}");
    let verdict = &verdicts(Kind::Pipeline, &[document(VARIABLES)])[0];
    assert_eq!(verdict["valid"], true, "{verdict:#}");
}
