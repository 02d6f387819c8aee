//! The audit topic on a real Kafka: what a SIEM would read.

use std::path::Path;
use std::time::Duration;

use base64::Engine;
use serde_json::Value;
use tempfile::TempDir;

use crate::support::kafka::Kafka;
use crate::support::process::{Process, portcullis};
use crate::support::{guest, guests, python};

const LIMIT: Duration = Duration::from_secs(120);

/// Runs a pipeline over one topic until its three messages are done, with the audit in a topic.
fn run_with_audit_topic(name: &str) -> Vec<Value> {
    let kafka = Kafka::shared();
    let topic = |end: &str| format!("{name}.{end}");
    for end in ["in", "out", "dlq", "audit"] {
        kafka.create_topic(&topic(end), 1, &[]);
    }
    let folder = TempDir::new().unwrap();
    let pipeline = format!(
        r#"
pipeline: {name}
source: {{ kafka: {{ profile: main, topics: [{name}.in], group: {name} }} }}
plugins:
  - {{ name: clock, component: {clock}, grants: {{ clock: coarse, random: true, log: info }} }}
  - {{ name: reject, component: {reject} }}
sink: {{ kafka: {{ profile: main, topic: {name}.out }} }}
dead_letter: {{ kafka: {{ profile: main, topic: {name}.dlq }} }}
"#,
        clock = guest("asks-the-clock").display(),
        reject = guest("echo-reason").display(),
    );
    std::fs::write(folder.path().join("pipeline.yaml"), pipeline).unwrap();
    let node = format!(
        "brokers: {{ main: {{ kafka: {{ brokers: \"{}\" }} }} }}\naudit: {{ topic: {name}.audit, profile: main }}\nadmin: {{ listen: \"127.0.0.1:0\" }}\n\
         pipelines_may_name: {{ files: [\"{}/**\"] }}\n",
        kafka.brokers(),
        guests().display(),
    );
    std::fs::write(folder.path().join("portcullis.yaml"), node).unwrap();
    python::produce(kafka.brokers(), &topic("in"), 3, 20, &["--values", "json"], LIMIT);
    let mut bridge = Process::start(portcullis(folder.path()).args(["run", "pipeline.yaml"]));
    bridge.wait_until("all messages are rejected", LIMIT, || kafka.count(&topic("dlq")) == 20);
    bridge.signal("TERM");
    let ended = bridge.finish(LIMIT);
    assert_eq!(ended.code(), 0, "{ended:?}");
    let count = usize::try_from(kafka.count(&topic("audit"))).unwrap();
    python::read(kafka.brokers(), &topic("audit"), count, LIMIT)
}

#[test]
fn the_audit_topic_holds_valid_events_in_one_chain_with_what_each_plugin_could_do_and_did() {
    let records = run_with_audit_topic("audited");
    let events: Vec<Value> = records.iter().map(event).collect();
    for (number, event) in (1_u64..).zip(&events) {
        let faults = portcullis_audit::schema::faults_of(event);
        assert!(faults.is_empty(), "{}\n{event:#}", faults.join("\n"));
        assert_eq!(event["metadata"]["sequence"], number, "{event:#}");
    }
    let of = |code: &str| events.iter().filter(|event| event["metadata"]["event_code"] == code).collect::<Vec<_>>();
    assert_eq!(events[0]["metadata"]["event_code"], "audit.boot");
    assert_eq!(events.last().unwrap()["metadata"]["event_code"], "audit.stop");
    let linked = of("plugin.linked");
    assert_eq!(linked.len(), 2);
    let clock = linked.iter().find(|event| event["app"]["name"].as_str().unwrap().ends_with("clock")).unwrap();
    assert!(clock["app"]["uid"].as_str().unwrap().starts_with("sha256:"), "{clock:#}");
    let imports = clock["policy"]["data"].to_string();
    for piece in ["wasi:clocks/wall-clock", "wasi:random/", "portcullis:plugin/log", "coarse", "memory_bytes"] {
        assert!(imports.contains(piece), "{piece} is missing in {clock:#}");
    }
    assert_eq!(of("record.quarantined").len(), 20);
    let clock_calls: u64 = of("host.call")
        .iter()
        .filter(|event| event["api"]["operation"] == "wasi:clocks/wall-clock.now")
        .map(|event| event["count"].as_u64().unwrap_or(1))
        .sum();
    assert_eq!(clock_calls, 20, "each of 20 messages asked the clock once");
    let payloads = events.iter().filter(|event| event.to_string().contains("customer")).count();
    assert_eq!(payloads, 0, "no event quotes a value");
}

#[test]
fn audit_records_carry_cloudevents_headers() {
    let records = run_with_audit_topic("headers");
    for record in &records {
        let header = |name: &str| text_header(record, name);
        let event = event(record);
        assert_eq!(header("ce_specversion").as_deref(), Some("1.0"), "{record:#}");
        assert_eq!(header("ce_id").as_deref(), event["metadata"]["uid"].as_str());
        assert!(header("ce_type").unwrap().ends_with(event["metadata"]["event_code"].as_str().unwrap()));
        assert_eq!(header("content-type").as_deref(), Some("application/json"));
    }
}

/// Every event of an audit file is a valid OCSF event, and there is at least one.
pub(crate) fn assert_valid(file: &Path) {
    let text = std::fs::read_to_string(file).unwrap();
    assert!(!text.is_empty());
    for line in text.lines() {
        let faults = portcullis_audit::schema::faults_of(&serde_json::from_str(line).unwrap());
        assert!(faults.is_empty(), "{}\n{line}", faults.join("\n"));
    }
}

fn event(record: &Value) -> Value {
    serde_json::from_slice(&decode(record["value_b64"].as_str().unwrap())).unwrap()
}

fn text_header(record: &Value, name: &str) -> Option<String> {
    let headers = record["headers"].as_array()?;
    let header = headers.iter().find(|header| header[0] == name)?;
    Some(String::from_utf8(decode(header[1].as_str()?)).unwrap())
}

/// Base64 as Python writes it.
fn decode(text: &str) -> Vec<u8> {
    base64::engine::general_purpose::STANDARD.decode(text).unwrap()
}
