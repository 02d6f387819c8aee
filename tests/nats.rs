//! NATS through the bridge, on a real server: what a stream has afterwards, and what comes back out of it.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;
use std::time::Duration;

use serde_json::{Value, json};
use tempfile::TempDir;

use crate::delivery::start;
use crate::support::kafka::Kafka;
use crate::support::nats::Nats;
use crate::support::process::{Process, portcullis, run};
use crate::support::{guest, python};

const LIMIT: Duration = Duration::from_secs(120);

/// From `in.jsonl` into the stream `S`.
fn into_stream(nats: &Nats, more: &str) -> String {
    let url = nats.url();
    format!(
        "pipeline: p\nsource: {{ file: {{ path: in.jsonl }} }}\n\
         sink: {{ jetstream: {{ servers: {url}, subject: s, stream: S, create_stream: {{ subjects: [s, dlq] }} }} }}\n{more}"
    )
}

fn write(folder: &Path, name: &str, text: &str) {
    fs::write(folder.join(name), text).unwrap();
}

fn run_to_its_end(folder: &Path, pipeline: &str) {
    let ended = start(folder, pipeline).finish(LIMIT);
    assert_eq!(ended.code(), 0, "{}", ended.stderr);
}

/// Key, value and headers of each line.
fn parts(text: &str) -> Vec<Vec<Value>> {
    let parts = |line: &str| {
        let mut line: Value = serde_json::from_str(line).unwrap();
        ["key", "key_b64", "value", "value_b64", "headers"].map(|part| line[part].take()).to_vec()
    };
    text.lines().map(parts).collect()
}

#[test]
fn binary_headers_nulls_and_keys_come_out_of_a_stream_as_they_went_in() {
    let nats = Nats::start();
    let folder = TempDir::new().unwrap();
    let input = [
        json!({ "key": "a", "value": "text", "headers": [["h", "1"], ["h", null], ["e", ""], ["bin", { "b64": "AP8=" }]] }),
        json!({ "key": "a", "value": null, "headers": [["Nats-Rollup", "all"], ["Portcullis-Key", "x"], ["z", "1"], ["a", "2"]] }),
        json!({ "key_b64": "AP8=", "value_b64": "/wA=" }),
        json!({ "value": null }),
        json!({ "key": "", "value": "" }),
        json!({ "key": "k.*.> \u{e9}", "value": "x\r\ny" }),
    ];
    let input: String = input.iter().map(|line| format!("{line}\n")).collect();
    write(folder.path(), "in.jsonl", &input);
    run_to_its_end(folder.path(), &into_stream(&nats, "lanes: 1\n"));
    assert_eq!(nats.count("S"), 6);
    let back = format!(
        "pipeline: q\nlanes: 1\nsource: {{ jetstream: {{ servers: {}, stream: S, consumer: c, create_consumer: {{}} }} }}\nsink: {{ file: {{ path: out.jsonl }} }}\n",
        nats.url()
    );
    let mut bridge = start(folder.path(), &back);
    let out = || fs::read_to_string(folder.path().join("out.jsonl")).unwrap_or_default();
    bridge.wait_until("all lines are out", LIMIT, || out().lines().count() == 6);
    bridge.signal("TERM");
    assert_eq!(bridge.finish(LIMIT).code(), 0);
    assert_eq!(parts(&out()), parts(&input));
    let consumer = nats.consumer("S", "c");
    assert_eq!((consumer.num_ack_pending, consumer.ack_floor.stream_sequence), (0, 6), "{consumer:?}");
}

#[test]
fn a_file_that_is_sent_again_after_a_kill_is_in_the_stream_once() {
    const LINES: u64 = 30_000;
    let nats = Nats::start();
    let folder = TempDir::new().unwrap();
    let line = |number: u64| json!({ "key": (number % 10).to_string(), "value": number.to_string() }).to_string();
    write(folder.path(), "in.jsonl", &(0..LINES).map(|number| line(number) + "\n").collect::<String>());
    let pipeline = into_stream(&nats, "");
    let mut bridge = start(folder.path(), &pipeline);
    bridge.wait_until("a part has arrived", LIMIT, || nats.count("S") >= 2000);
    bridge.kill9();
    assert!(nats.count("S") < LINES, "the kill came after the last line");
    // Without a position the second run sends all of them.
    run_to_its_end(folder.path(), &pipeline);
    assert_eq!(nats.count("S"), LINES);
    let ids: BTreeSet<String> = [1, 2, LINES].map(|at| id(&nats, at)).into();
    assert_eq!(ids.len(), 3);
    assert!(ids.iter().all(|id| id.starts_with("portcullis/p/") && id.contains("in.jsonl")), "{ids:?}");
}

fn id(nats: &Nats, at: u64) -> String {
    nats.message("S", at).headers.get("Nats-Msg-Id").unwrap().to_string()
}

#[test]
fn a_file_that_is_written_anew_is_not_taken_for_the_old_one() {
    let nats = Nats::start();
    let folder = TempDir::new().unwrap();
    for (value, stored) in [("old", 1), ("old", 1), ("new", 2)] {
        write(folder.path(), "in.jsonl", &format!("{}\n", json!({ "key": "k", "value": value })));
        run_to_its_end(folder.path(), &into_stream(&nats, ""));
        assert_eq!(nats.count("S"), stored, "{value}");
    }
}

#[test]
fn a_dead_letter_is_in_its_stream_once_however_often_its_message_comes() {
    let nats = Nats::start();
    let folder = TempDir::new().unwrap();
    write(folder.path(), "in.jsonl", &format!("{}\n", json!({ "key": "k", "value": "v", "headers": [["h", "1"]] })));
    let plugins = format!(
        "plugins: [{{ name: reject, component: {} }}]\ndead_letter: {{ jetstream: {{ servers: {}, subject: dlq, stream: S }} }}\n",
        guest("echo-reason").display(),
        nats.url()
    );
    for _ in 0..2 {
        run_to_its_end(folder.path(), &into_stream(&nats, &plugins));
        assert_eq!(nats.count("S"), 1);
    }
    let letter = nats.message("S", 1);
    assert_eq!((letter.subject.as_str(), &letter.payload[..]), ("dlq", &b"v"[..]));
    let header = |name: &str| letter.headers.get(name).map(ToString::to_string);
    assert_eq!(header("h").as_deref(), Some("1"));
    assert_eq!(header("__portcullis.errors.stage").as_deref(), Some("plugin"), "{:?}", letter.headers);
    // What was a dead letter may pass later: that is another message.
    run_to_its_end(folder.path(), &into_stream(&nats, ""));
    assert_eq!(nats.count("S"), 2);
}

#[test]
fn core_nats_goes_through_the_bridge_and_what_it_counts_is_a_metric() {
    let nats = Nats::start();
    let folder = TempDir::new().unwrap();
    let url = nats.url();
    let pipeline = format!(
        "pipeline: p\nsource: {{ nats: {{ servers: {url}, subjects: [a.*, b.>], queue_group: g }} }}\n\
         sink: {{ nats: {{ servers: {url}, subject: 'out.{{{{key}}}}', allow: 'out.*' }} }}\n\
         dead_letter: {{ file: {{ path: dead.jsonl }} }}\n"
    );
    let mut out = nats.subscribe("out.*");
    let mut bridge = start(folder.path(), &pipeline.replace("queue_group: g", "queue_group: g, key: 'null'"));
    let dead = || fs::read_to_string(folder.path().join("dead.jsonl")).unwrap_or_default();
    // Who is not subscribed yet does not get it: sent until one arrives. Without a key the subject has no token for it.
    bridge.wait_until("one is refused by the sink", LIMIT, || {
        nats.publish("b.c.d", "1");
        !dead().is_empty()
    });
    assert!(dead().contains("sink_rejected"), "{}", dead());
    bridge.signal("TERM");
    assert_eq!(bridge.finish(LIMIT).code(), 0);
    let fixed = pipeline.replace("'out.{{key}}', allow: 'out.*'", "out.all");
    let mut bridge = start(folder.path(), &fixed);
    let mut arrived = None;
    bridge.wait_until("one arrives", LIMIT, || {
        nats.publish("a.b", "2");
        arrived = nats.come(&mut out);
        arrived.is_some()
    });
    let arrived = arrived.unwrap();
    assert_eq!((arrived.subject.as_str(), &arrived.payload[..]), ("out.all", &b"2"[..]));
    let line = bridge.wait_for_line("admin=", LIMIT);
    let address = line.split("admin=").nth(1).unwrap().split_whitespace().next().unwrap().to_owned();
    let told = "portcullis_connector_events_total{pipeline=\"p\",end=\"sink\",event=\"connects\"} 1";
    bridge.wait_until("the sink's connection is counted", LIMIT, || metrics(&address).contains(told));
    bridge.signal("TERM");
    assert_eq!(bridge.finish(LIMIT).code(), 0);
}

pub(crate) fn metrics(address: &str) -> String {
    ask(address, "/metrics")
}

/// The answer of a bridge's admin listener, with its head.
pub(crate) fn ask(address: &str, path: &str) -> String {
    use std::io::{Read, Write};
    let mut stream = std::net::TcpStream::connect(address).unwrap();
    write!(stream, "GET {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n").unwrap();
    let mut text = String::new();
    stream.read_to_string(&mut text).unwrap();
    text
}

#[test]
fn a_check_says_what_each_pair_promises() {
    let folder = TempDir::new().unwrap();
    let stream = "jetstream: { servers: nats://n, subject: s, stream: S }";
    let kafka = "kafka: { brokers: k, topics: t }";
    for (source, sink, promised) in [
        (kafka, stream, "effectively once"),
        ("jetstream: { servers: nats://m, stream: T, consumer: c }", stream, "effectively once"),
        ("file: { path: in }", stream, "effectively once"),
        (kafka, "jetstream: { servers: nats://n, subject: s }", "at least once"),
        ("generator: { count: 1, value: x }", stream, "at least once"),
        (
            "jetstream: { servers: nats://m, stream: T, consumer: c }",
            "kafka: { brokers: k, topic: t }",
            "at least once",
        ),
        (kafka, "nats: { servers: nats://n, subject: s }", "at most once"),
        ("nats: { servers: nats://m, subjects: a }", stream, "at most once"),
    ] {
        write(folder.path(), "p.yaml", &format!("pipeline: p\nsource: {{ {source} }}\nsink: {{ {sink} }}\n"));
        let checked = run(folder.path(), &["check", "p.yaml"], LIMIT);
        assert_eq!(checked.code(), 0, "{checked:?}");
        assert!(checked.stdout.contains(&format!("pipeline p, {promised}")), "{source} {sink}: {checked:?}");
    }
}

#[test]
fn messages_choose_neither_the_dead_letters_nor_a_way_back() {
    let folder = TempDir::new().unwrap();
    let letters = "dead_letter: { jetstream: { servers: nats://n, subject: dlq, stream: D } }";
    for (pipeline, place) in [
        (format!("source: {{ stdio: }}\nsink: {{ nats: {{ servers: nats://n, subject: dlq }} }}\n{letters}\n"), "p.yaml:3:45"),
        (
            "source: { nats: { servers: nats://n, subjects: '>' } }\nsink: { nats: { servers: nats://n, subject: s } }\n".to_owned(),
            "p.yaml:3:45",
        ),
    ] {
        write(folder.path(), "p.yaml", &format!("pipeline: p\n{pipeline}"));
        let checked = run(folder.path(), &["check", "p.yaml"], LIMIT);
        assert_ne!(checked.code(), 0, "{checked:?}");
        assert!(checked.stderr.contains(place) || checked.stdout.contains(place), "{checked:?}");
    }
}

#[test]
fn a_stream_that_is_read_again_after_a_kill_is_in_the_next_stream_once() {
    const LINES: u64 = 20_000;
    let nats = Nats::start();
    let folder = TempDir::new().unwrap();
    write(
        folder.path(),
        "in.jsonl",
        &(0..LINES).map(|number| format!("{{\"value\":\"{number}\"}}\n")).collect::<String>(),
    );
    run_to_its_end(folder.path(), &into_stream(&nats, ""));
    let url = nats.url();
    // The shortest wait that there is: what the killed bridge had in work comes again soon.
    let on = format!(
        "pipeline: on\nsource: {{ jetstream: {{ servers: {url}, stream: S, consumer: c, create_consumer: {{ ack_wait: 3s }} }} }}\n\
         sink: {{ jetstream: {{ servers: {url}, subject: t, stream: T, create_stream: {{ subjects: t }} }} }}\n"
    );
    let mut bridge = start(folder.path(), &on);
    bridge.wait_until("a part has arrived", LIMIT, || nats.count("T") >= 1000);
    bridge.kill9();
    assert!(nats.count("T") < LINES, "the kill came after the last message");
    let mut bridge = start(folder.path(), &on);
    let is_done = || {
        let consumer = nats.consumer("S", "c");
        consumer.num_ack_pending == 0 && consumer.num_pending == 0
    };
    bridge.wait_until("everything is acknowledged", LIMIT, is_done);
    bridge.signal("TERM");
    assert_eq!(bridge.finish(LIMIT).code(), 0);
    assert_eq!(nats.count("T"), LINES);
}

#[test]
fn kafka_goes_through_a_stream_into_kafka_unchanged_although_the_bridge_is_killed() {
    const MESSAGES: u32 = 40_000;
    let (nats, kafka) = (Nats::start(), Kafka::shared());
    let brokers = kafka.brokers();
    for end in ["in", "out"] {
        kafka.create_topic(&format!("streamed.{end}"), 4, &[]);
    }
    python::produce(brokers, "streamed.in", 11, MESSAGES, &[], LIMIT);
    let folder = TempDir::new().unwrap();
    let url = nats.url();
    // A killed member keeps its partitions for so long; the broker allows no less.
    let to = format!(
        "pipeline: to\nsource: {{ kafka: {{ brokers: \"{brokers}\", topics: streamed.in, session_timeout: 6s }} }}\n\
         sink: {{ jetstream: {{ servers: {url}, subject: s, stream: S, create_stream: {{ subjects: s, duplicate_window: 10m }} }} }}\n"
    );
    let mut bridge = start(folder.path(), &to);
    bridge.wait_until("a part has arrived", LIMIT, || nats.count("S") >= 5000);
    bridge.kill9();
    assert!(nats.count("S") < MESSAGES.into(), "the kill came after the last message");
    let mut bridge = start(folder.path(), &to);
    bridge.wait_until("all have arrived", LIMIT, || nats.count("S") >= MESSAGES.into());
    let line = bridge.wait_for_line("admin=", LIMIT);
    let address = line.split("admin=").nth(1).unwrap().split_whitespace().next().unwrap().to_owned();
    let unfinished = "portcullis_unfinished_messages{pipeline=\"to\",source=\"0\"} 0";
    bridge.wait_until("nothing is in work", LIMIT, || metrics(&address).contains(unfinished));
    bridge.signal("TERM");
    assert_eq!(bridge.finish(LIMIT).code(), 0);
    assert_eq!(nats.count("S"), u64::from(MESSAGES), "each message is stored once");
    let from = format!(
        "pipeline: from\nlanes: 1\nsource: {{ jetstream: {{ servers: {url}, stream: S, consumer: c, create_consumer: {{}} }} }}\n\
         sink: {{ kafka: {{ brokers: \"{brokers}\", topic: streamed.out }} }}\n"
    );
    let bridge = start(folder.path(), &from);
    let found = python::verify(brokers, "streamed.out", 11, MESSAGES, &[], LIMIT);
    assert_eq!(found["good"], true, "{found:#}");
    bridge.signal("TERM");
    assert_eq!(bridge.finish(LIMIT).code(), 0);
}

#[test]
fn a_password_of_nats_is_in_no_output() {
    let folder = TempDir::new().unwrap();
    write(folder.path(), "secret", "hunter2\n");
    let auth = "auth: { user: u, password: { file: secret } }";
    let pipeline = format!(
        "pipeline: p\nsource: {{ nats: {{ servers: nats://127.0.0.1:9, {auth}, subjects: a }} }}\nsink: {{ nats: {{ servers: nats://127.0.0.1:9, {auth}, subject: b }} }}\n"
    );
    write(folder.path(), "p.yaml", &pipeline);
    for command in ["check", "plan"] {
        let ended = run(folder.path(), &[command, "p.yaml"], LIMIT);
        assert_eq!(ended.code(), 0, "{ended:?}");
        assert!(!format!("{ended:?}").contains("hunter2"), "{ended:?}");
    }
    let mut bridge: Process = Process::start(portcullis(folder.path()).args([
        "run",
        "p.yaml",
        "--admin",
        "127.0.0.1:0",
        "--audit-file",
        "audit.jsonl",
        "--log",
        "debug",
    ]));
    bridge.wait_for_line("cannot be reached", LIMIT);
    bridge.signal("TERM");
    let ended = bridge.finish(LIMIT);
    assert!(!format!("{ended:?}").contains("hunter2"), "{ended:?}");
}
