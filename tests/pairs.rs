//! Every pair of Kafka, JetStream, core NATS and a file, through the binary: what one independent client has sent, another
//! finds at the other end as it was. Kafka to Kafka is in `delivery.rs`. Core NATS keeps nothing, so its readers are there
//! before anything is sent.

mod bridge;
mod kills;
mod losses;

use std::fs;
use std::path::Path;
use std::time::Duration;

use serde_json::{Value, json};
use tempfile::TempDir;

use crate::support::kafka::Kafka;
use crate::support::nats::Nats;
use crate::support::process::{Process, run};
use crate::support::python;
use bridge::Bridge;

const LIMIT: Duration = Duration::from_secs(120);
const COUNT: u32 = 3000;
const TO_FILE: &str = "file: { path: out.jsonl }";

fn topic(name: &str) -> String {
    Kafka::shared().create_topic(name, 3, &[]);
    name.to_owned()
}

/// A topic with the messages of the seed.
fn filled_topic(name: &str, seed: u32) -> String {
    python::produce(Kafka::shared().brokers(), &topic(name), seed, COUNT, &[], LIMIT);
    name.to_owned()
}

fn from_kafka(topic: &str) -> String {
    format!("kafka: {{ brokers: \"{}\", topics: {topic}, group: {topic} }}", Kafka::shared().brokers())
}

fn to_kafka(topic: &str) -> String {
    format!("kafka: {{ brokers: \"{}\", topic: {topic} }}", Kafka::shared().brokers())
}

fn from_stream(nats: &Nats, stream: &str) -> String {
    format!("jetstream: {{ servers: {}, stream: {stream}, consumer: c, create_consumer: {{}} }}", nats.url())
}

/// The subject is the stream's name.
fn to_stream(nats: &Nats, stream: &str) -> String {
    let create = format!("create_stream: {{ subjects: {stream} }}");
    format!("jetstream: {{ servers: {}, subject: {stream}, stream: {stream}, {create} }}", nats.url())
}

fn from_core(nats: &Nats, subject: &str) -> String {
    format!("nats: {{ servers: {}, subjects: '{subject}' }}", nats.url())
}

fn to_core(nats: &Nats, subject: &str) -> String {
    format!("nats: {{ servers: {}, subject: {subject} }}", nats.url())
}

fn pipeline(name: &str, sources: &[&str], sink: &str) -> String {
    let sources: Vec<String> = sources.iter().map(|source| format!("{{ {source} }}")).collect();
    format!("pipeline: {name}\nsource: [{}]\nsink: {{ {sink} }}\n", sources.join(", "))
}

fn assert_good(found: &Value) {
    assert_eq!(found["good"], true, "{found:#}");
    assert!(found.get("steering").is_none_or(|steering| steering == 0), "{found:#}");
}

fn assert_in_topic(topic: &str, seed: u32) {
    assert_good(&python::verify(Kafka::shared().brokers(), topic, seed, COUNT, &[], LIMIT));
}

fn assert_in_stream(nats: &Nats, stream: &str, seed: u32) {
    let found = python::nats_verify(&nats.url(), stream, seed, COUNT, &[], LIMIT);
    assert_good(&found);
    assert_eq!(found["stored"], COUNT, "{found:#}");
}

fn assert_has_come(reader: Process) {
    assert_good(&reader.finish(LIMIT).json());
}

#[test]
fn kafka_goes_through_a_stream_that_obeys_its_messages_and_back_into_kafka_unchanged() {
    let nats = Nats::start();
    let folder = TempDir::new().unwrap();
    filled_topic("pairs.k-s-k.in", 21);
    nats.create_stream("S", "S");
    let to = pipeline("to", &[&from_kafka("pairs.k-s-k.in")], &to_stream(&nats, "S"));
    let bridge = Bridge::start(folder.path(), &[to]);
    assert_in_stream(&nats, "S", 21);
    bridge.end();
    topic("pairs.k-s-k.out");
    let from = pipeline("from", &[&from_stream(&nats, "S")], &to_kafka("pairs.k-s-k.out"));
    let bridge = Bridge::start(folder.path(), &[from]);
    assert_in_topic("pairs.k-s-k.out", 21);
    bridge.end();
}

#[test]
fn a_stream_that_another_client_has_filled_goes_into_kafka_a_stream_a_file_and_to_who_is_subscribed_unchanged() {
    let nats = Nats::start();
    let folder = TempDir::new().unwrap();
    nats.create_stream("A", "A");
    python::nats_produce(&nats.url(), 22, COUNT, &["--subject", "A"], LIMIT);
    topic("pairs.s-k.out");
    let reader = python::subscribe(&nats.url(), "events", 22, COUNT, LIMIT);
    let sinks = [to_kafka("pairs.s-k.out"), to_stream(&nats, "B"), to_core(&nats, "events"), TO_FILE.to_owned()];
    // Each with a consumer of its own: one is shared out.
    let pipelines: Vec<String> = (1..)
        .zip(&sinks)
        .map(|(number, sink)| {
            let consumer = format!("filter_subjects: A, consumer: c{number}");
            let source = from_stream(&nats, "A").replace("consumer: c", &consumer);
            pipeline(&format!("p{number}"), &[&source], sink)
        })
        .collect();
    let mut bridge = Bridge::start(folder.path(), &pipelines);
    assert_has_come(reader);
    assert_in_topic("pairs.s-k.out", 22);
    assert_in_stream(&nats, "B", 22);
    assert_comes_into_file(&mut bridge, folder.path(), 22);
    bridge.end();
}

#[test]
fn kafka_goes_into_a_file_and_to_who_is_subscribed_unchanged() {
    let nats = Nats::start();
    let folder = TempDir::new().unwrap();
    filled_topic("pairs.k-c.in", 23);
    let reader = python::subscribe(&nats.url(), "events", 23, COUNT, LIMIT);
    let source = from_kafka("pairs.k-c.in");
    let core = pipeline("core", &[&source], &to_core(&nats, "events"));
    let file = pipeline("file", &[&source.replace("group: ", "group: file-")], TO_FILE);
    let mut bridge = Bridge::start(folder.path(), &[core, file]);
    assert_has_come(reader);
    assert_comes_into_file(&mut bridge, folder.path(), 23);
    bridge.end();
}

#[test]
fn what_is_published_goes_into_kafka_a_stream_a_file_and_to_who_is_subscribed_unchanged() {
    let nats = Nats::start();
    let folder = TempDir::new().unwrap();
    topic("pairs.c-k.out");
    let source = from_core(&nats, "raw");
    let pipelines = [
        pipeline("kafka", &[&source], &to_kafka("pairs.c-k.out")),
        pipeline("stream", &[&source], &to_stream(&nats, "S")),
        pipeline("core", &[&source], &to_core(&nats, "clean")),
        pipeline("file", &[&source], TO_FILE),
    ];
    let reader = python::subscribe(&nats.url(), "clean", 24, COUNT, LIMIT);
    let mut bridge = Bridge::start(folder.path(), &pipelines);
    bridge.wait_until_ready();
    python::nats_produce(&nats.url(), 24, COUNT, &["--subject", "raw", "--core"], LIMIT);
    assert_has_come(reader);
    assert_in_topic("pairs.c-k.out", 24);
    assert_in_stream(&nats, "S", 24);
    assert_comes_into_file(&mut bridge, folder.path(), 24);
    bridge.end();
}

#[test]
fn a_file_goes_into_kafka_a_stream_a_file_and_to_who_is_subscribed_unchanged() {
    let nats = Nats::start();
    let folder = TempDir::new().unwrap();
    fs::write(folder.path().join("in.jsonl"), python::lines(25, COUNT, LIMIT)).unwrap();
    topic("pairs.f-k.out");
    let reader = python::subscribe(&nats.url(), "events", 25, COUNT, LIMIT);
    let sinks = [to_kafka("pairs.f-k.out"), to_stream(&nats, "S"), to_core(&nats, "events"), TO_FILE.to_owned()];
    let pipelines: Vec<String> = (1..)
        .zip(&sinks)
        .map(|(number, sink)| pipeline(&format!("p{number}"), &["file: { path: in.jsonl }"], sink))
        .collect();
    Bridge::start(folder.path(), &pipelines).finish();
    assert_has_come(reader);
    assert_in_topic("pairs.f-k.out", 25);
    assert_in_stream(&nats, "S", 25);
    assert_in_file(folder.path(), 25);
}

/// A file has no end: what it holds is looked at when there are as many lines as there were messages.
fn assert_comes_into_file(bridge: &mut Bridge, folder: &Path, seed: u32) {
    let lines = || fs::read(folder.join("out.jsonl")).map_or(0, |text| text.split(|byte| *byte == b'\n').count() - 1);
    bridge.wait_until("every message is a line", |_| lines() >= usize::try_from(COUNT).unwrap());
    assert_in_file(folder, seed);
}

fn assert_in_file(folder: &Path, seed: u32) {
    let file = folder.join("out.jsonl");
    let arguments = ["--seed", &seed.to_string(), "--count", &COUNT.to_string(), "--verify", file.to_str().unwrap()];
    assert_good(&python::client("lines.py", &arguments, LIMIT).json());
}

/// Half of the messages in each of two places, where their order among each other is nobody's promise.
#[test]
fn a_pipeline_has_several_sources_of_a_kind_and_a_process_several_pipelines() {
    let nats = Nats::start();
    let folder = TempDir::new().unwrap();
    let (all, half) = (COUNT.to_string(), (COUNT / 2).to_string());
    let publish = |subject: &str, first: &str, end: &str, more: &[&str]| {
        let mut arguments = vec!["--subject", subject, "--first", first];
        arguments.extend(more);
        python::nats_produce(&nats.url(), 26, end.parse().unwrap(), &arguments, LIMIT);
    };
    for (stream, first, end) in [("A", "0", &half), ("B", &half, &all)] {
        nats.create_stream(stream, stream);
        publish(stream, first, end, &[]);
    }
    let streams = [from_stream(&nats, "A"), from_stream(&nats, "B")];
    let cores = [from_core(&nats, "c.*"), from_core(&nats, "d.>")];
    let pipelines = [
        pipeline("streams", &streams.each_ref().map(String::as_str), &to_stream(&nats, "X")),
        pipeline("cores", &cores.each_ref().map(String::as_str), &to_stream(&nats, "Y")),
    ];
    let mut bridge = Bridge::start(folder.path(), &pipelines);
    bridge.wait_until_ready();
    publish("c.1", "0", &half, &["--core"]);
    publish("d.2.x", &half, &all, &["--core"]);
    for stream in ["X", "Y"] {
        let found = python::nats_verify(&nats.url(), stream, 26, COUNT, &[], LIMIT);
        for fault in ["missing", "duplicates", "changed", "unknown", "steering"] {
            assert_eq!(found[fault], 0, "{stream} {fault}: {found:#}");
        }
    }
    bridge.end();
}

#[test]
fn a_message_that_knows_nothing_of_the_rule_arrives_with_its_subject_as_key_and_the_time_of_its_stream() {
    let nats = Nats::start();
    let folder = TempDir::new().unwrap();
    nats.create_stream("N", "n.*");
    let messages = [
        json!({ "subject": "n.a", "value": "one", "headers": [["b", "2"], ["a", "1"], ["b", "größer"]] }),
        json!({ "subject": "n.b", "value": "" }),
        json!({ "subject": "n.b", "value": "three", "headers": [["Nats-Msg-Id", "mine"]] }),
    ];
    let file = folder.path().join("messages.jsonl");
    fs::write(&file, messages.iter().map(|message| format!("{message}\n")).collect::<String>()).unwrap();
    let arguments = ["--servers", &nats.url(), "--lines", file.to_str().unwrap()];
    assert_eq!(python::client("nats_produce.py", &arguments, LIMIT).json()["sent"], 3);
    topic("pairs.native.out");
    let pipeline = pipeline("p", &[&from_stream(&nats, "N")], &to_kafka("pairs.native.out"));
    let bridge = Bridge::start(folder.path(), &[pipeline]);
    let mut records = python::read(Kafka::shared().brokers(), "pairs.native.out", 3, LIMIT);
    bridge.end();
    let stored = python::nats_read(&nats.url(), "N", 3, LIMIT);
    let place = |record: &Value| stored.iter().position(|message| message["value_b64"] == record["value_b64"]);
    records.sort_by_key(|record| place(record).unwrap());
    // `n.a` and `n.b`; `1`, `2` and `größer`; `mine`.
    let expected = [
        ("bi5h", json!([["a", "MQ=="], ["b", "Mg=="], ["b", "Z3LDtsOfZXI="]])),
        ("bi5i", json!([])),
        ("bi5i", json!([["Nats-Msg-Id", "bWluZQ=="]])),
    ];
    assert_eq!(records.len(), 3);
    for ((record, message), (key, headers)) in records.iter().zip(&stored).zip(expected) {
        assert_eq!((&record["key_b64"], &record["headers"]), (&json!(key), &headers), "{record:#}");
        assert_eq!(record["timestamp_ms"], message["stored_ms"], "{record:#}");
    }
}

#[test]
fn a_profile_of_the_nodes_file_opens_a_server_whose_password_no_pipeline_knows() {
    let nats = Nats::start_guarded();
    let folder = TempDir::new().unwrap();
    fs::write(folder.path().join("in.jsonl"), "{\"key\":\"k\",\"value\":\"v\"}\n").unwrap();
    fs::write(folder.path().join("secret"), "hunter2\n").unwrap();
    let auth = "auth: { user: bridge, password: { file: secret } }";
    let node = format!("brokers: {{ streams: {{ nats: {{ servers: {}, {auth} }} }} }}\n", nats.url());
    fs::write(folder.path().join("portcullis.yaml"), node).unwrap();
    let to = pipeline(
        "to",
        &["file: { path: in.jsonl }"],
        "jetstream: { profile: streams, subject: S, stream: S, create_stream: { subjects: S } }",
    );
    Bridge::start(folder.path(), &[to]).finish();
    assert_eq!(nats.count("S"), 1);
    let from = pipeline(
        "from",
        &["jetstream: { profile: streams, stream: S, consumer: c, create_consumer: {} }"],
        "file: { path: out.jsonl }",
    );
    let mut bridge = Bridge::start(folder.path(), &[from]);
    let out = || fs::read_to_string(folder.path().join("out.jsonl")).unwrap_or_default();
    bridge.wait_until("the line is back", |_| out().contains("\"v\""));
    assert!(!bridge.process.stderr().contains("hunter2"));
    bridge.end();
    let plan = run(folder.path(), &["plan", "p0.yaml", "--format", "json"], LIMIT);
    assert!(plan.stdout.contains("profile streams") && !plan.stdout.contains("hunter2"), "{plan:?}");
    // Whoever edits the pipeline cannot have the password sent to another server.
    let elsewhere = "nats: { servers: nats://127.0.0.1:9, auth: { user: u, password: { file: secret } }, subject: s }";
    fs::write(folder.path().join("p0.yaml"), pipeline("p", &["stdio:"], elsewhere)).unwrap();
    let checked = run(folder.path(), &["check", "p0.yaml"], LIMIT);
    assert_eq!(checked.code(), 2, "{checked:?}");
    assert!(format!("{checked:?}").contains("file.not_listed"), "{checked:?}");
}
