//! What reaches the other side of a real Kafka, as a client reads it that shares no code with us.

use std::fs;
use std::path::Path;
use std::time::Duration;

use tempfile::TempDir;

use crate::evidence::assert_valid;
use crate::support::kafka::Kafka;
use crate::support::process::{Process, portcullis};
use crate::support::{guest, python};

const LIMIT: Duration = Duration::from_secs(180);

/// A pipeline that validates in a pass-all mode and stamps a header.
fn stamping(brokers: &str, name: &str) -> String {
    format!(
        r#"
pipeline: {name}
source: {{ kafka: {{ brokers: "{brokers}", topics: [{name}.in], group: {name} }} }}
plugins:
  - name: schema
    component: {schema}
    config: {{ schema: true, not_json: pass, null_value: pass }}
    limits: {{ deadline: 30s }}
  - name: stamp
    component: {stamp}
    config: {{ headers: {{ append: [{{ name: stamped-by, value: portcullis }}] }} }}
    limits: {{ deadline: 30s }}
sink: {{ kafka: {{ brokers: "{brokers}", topic: {name}.out }} }}
dead_letter: {{ kafka: {{ topic: {name}.dlq }} }}
"#,
        schema = guest("json-schema").display(),
        stamp = guest("stamp").display(),
    )
}

/// Starts the bridge on a pipeline, with a node file that keeps its audit in the folder.
pub(crate) fn start(folder: &Path, pipeline: &str) -> Process {
    fs::write(folder.join("pipeline.yaml"), pipeline).unwrap();
    Process::start(portcullis(folder).args([
        "run",
        "pipeline.yaml",
        "--admin",
        "127.0.0.1:0",
        "--audit-file",
        "audit.jsonl",
    ]))
}

fn topics(name: &str, partitions: i32) {
    for end in ["in", "out", "dlq"] {
        Kafka::shared().create_topic(&format!("{name}.{end}"), partitions, &[]);
    }
}

#[test]
fn every_byte_header_null_and_timestamp_of_100_000_messages_arrives_in_the_order_of_its_key() {
    let kafka = Kafka::shared();
    let brokers = kafka.brokers();
    topics("bytes", 4);
    python::produce(brokers, "bytes.in", 7, 100_000, &[], LIMIT);
    let folder = TempDir::new().unwrap();
    let bridge = start(folder.path(), &stamping(brokers, "bytes"));
    let found = python::verify(brokers, "bytes.out", 7, 100_000, &["--added", "stamped-by=portcullis"], LIMIT);
    assert_eq!(found["good"], true, "{found:#}");
    bridge.signal("TERM");
    let ended = bridge.finish(Duration::from_secs(30));
    assert_eq!(ended.code(), 0, "{}", ended.stderr);
    assert_valid(&folder.path().join("audit.jsonl"));
}

#[test]
fn a_bridge_that_is_killed_in_the_middle_of_200_000_messages_loses_none_and_keeps_each_key_in_order() {
    let kafka = Kafka::shared();
    let brokers = kafka.brokers();
    topics("killed", 4);
    python::produce(brokers, "killed.in", 8, 200_000, &["--values", "json"], LIMIT);
    let folder = TempDir::new().unwrap();
    let pipeline = stamping(brokers, "killed");
    for arrived in [20_000, 90_000] {
        let mut bridge = start(folder.path(), &pipeline);
        bridge.wait_until("part of the messages has arrived", LIMIT, || kafka.count("killed.out") >= arrived);
        bridge.kill9();
    }
    assert!(kafka.count("killed.out") < 200_000, "the last kill came after the last message");
    let bridge = start(folder.path(), &pipeline);
    let options = ["--values", "json", "--added", "stamped-by=portcullis", "--allow-duplicates"];
    let found = python::verify(brokers, "killed.out", 8, 200_000, &options, LIMIT);
    assert_eq!(
        (&found["missing"], &found["disorder"], &found["changed"]),
        (&0.into(), &0.into(), &0.into()),
        "{found:#}"
    );
    println!("duplicates after two kills: {}", found["duplicates"]);
    bridge.signal("TERM");
    let ended = bridge.finish(Duration::from_secs(30));
    assert_eq!(ended.code(), 0, "{}", ended.stderr);
    assert_valid(&folder.path().join("audit.jsonl"));
}

#[test]
fn a_second_bridge_that_joins_and_leaves_takes_and_gives_back_partitions_without_loss() {
    let kafka = Kafka::shared();
    let brokers = kafka.brokers();
    topics("shared", 6);
    python::produce(brokers, "shared.in", 9, 60_000, &["--values", "json"], LIMIT);
    let (one, other) = (TempDir::new().unwrap(), TempDir::new().unwrap());
    let pipeline = stamping(brokers, "shared");
    let mut first = start(one.path(), &pipeline);
    first.wait_until("the first bridge moves messages", LIMIT, || kafka.count("shared.out") > 1000);
    let mut second = start(other.path(), &pipeline);
    second.wait_for_line("assigned", Duration::from_secs(60));
    second.signal("TERM");
    assert_eq!(second.finish(Duration::from_secs(60)).code(), 0);
    let options = ["--values", "json", "--added", "stamped-by=portcullis", "--allow-duplicates"];
    let found = python::verify(brokers, "shared.out", 9, 60_000, &options, LIMIT);
    assert_eq!(
        (&found["missing"], &found["disorder"], &found["changed"]),
        (&0.into(), &0.into(), &0.into()),
        "{found:#}"
    );
    // Both ends were orderly: what was in work at the hand-over was finished and acknowledged first.
    assert_eq!(found["duplicates"], 0, "{found:#}");
    first.signal("TERM");
    assert_eq!(first.finish(Duration::from_secs(30)).code(), 0);
}
