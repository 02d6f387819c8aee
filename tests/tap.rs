//! `portcullis tap` on a bridge that runs: what it shows, what it must not, and that nobody waits for it.

use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::net::TcpStream;
use std::path::Path;
use std::time::Duration;

use serde_json::{Value, json};
use tempfile::TempDir;

use crate::dry_run::produce;
use crate::support::kafka::Kafka;
use crate::support::process::{Finished, Process, portcullis};
use crate::support::{guest, guests};

const LIMIT: Duration = Duration::from_secs(120);
const MARK: &str = "hunter2";

/// A bridge of one partition, and where its admin endpoint is.
fn bridge(folder: &Path, name: &str, tap: &str) -> (Process, String) {
    let brokers = Kafka::shared().brokers();
    for end in ["in", "out", "dlq"] {
        Kafka::shared().create_topic(&format!("{name}.{end}"), 1, &[]);
    }
    let pipeline = format!(
        "pipeline: {name}\nsource: {{ kafka: {{ brokers: \"{brokers}\", topics: [{name}.in], group: {name} }} }}\n\
         plugins:\n\
         - {{ name: order, component: {schema}, config: {{ schema: {{ type: object, required: [id] }} }}, limits: {{ deadline: 30s }} }}\n\
         - {{ name: stamp, component: {stamp}, config: {{ headers: {{ append: [{{ name: stamped-by, value: {MARK} }}] }} }}, limits: {{ deadline: 30s }} }}\n\
         sink: {{ kafka: {{ brokers: \"{brokers}\", topic: {name}.out }} }}\ndead_letter: {{ kafka: {{ topic: {name}.dlq }} }}\n",
        schema = guest("json-schema").display(),
        stamp = guest("stamp").display(),
    );
    fs::write(folder.join("pipeline.yaml"), pipeline).unwrap();
    let node = format!(
        "audit: {{ file: audit.jsonl }}\nadmin: {{ listen: \"127.0.0.1:0\"{tap} }}\npipelines_may_name: {{ files: [\"{}/**\"] }}\n",
        guests().display()
    );
    fs::write(folder.join("portcullis.yaml"), node).unwrap();
    let mut bridge = Process::start(portcullis(folder).args(["run", "pipeline.yaml"]));
    let line = bridge.wait_for_line("admin=", LIMIT);
    let address = line.split("admin=").nth(1).unwrap().split_whitespace().next().unwrap().to_owned();
    bridge.wait_for_line("assigned", LIMIT);
    (bridge, address)
}

fn orders(from: usize, count: usize) -> impl Iterator<Item = (String, String)> {
    let order = |number: usize| {
        if number % 10 == 5 { json!({ "no": MARK }) } else { json!({ "id": number, "x": MARK }) }
    };
    (from..from + count).map(move |number| (format!("{MARK}{number}"), order(number).to_string()))
}

fn begin(folder: &Path, address: &str, more: &[&str]) -> Process {
    let arguments = ["tap", "pipeline.yaml", "--format", "json", "--admin", address];
    Process::start(portcullis(folder).args(arguments).args(more))
}

/// One that is open: what comes from now on passes it.
fn open(folder: &Path, address: &str, more: &[&str]) -> Process {
    let mut tap = begin(folder, address, more);
    tap.wait_for_line("{\"tap\"", LIMIT);
    tap
}

fn lines(ended: &Finished) -> Vec<Value> {
    let all: Vec<Value> = ended.stdout.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert!(ended.code() == 0 && all.last().unwrap()["end"].is_object(), "{ended:?}");
    all.into_iter().filter(|line| line["at"].is_string()).collect()
}

/// In ascending order: several lanes have no order among each other.
fn offsets(lines: &[Value]) -> Vec<i64> {
    let mut offsets: Vec<i64> = lines.iter().filter_map(|line| line["position"]["offset"].as_i64()).collect();
    offsets.sort_unstable();
    offsets
}

#[test]
fn a_tap_shows_the_sampled_messages_at_each_place_and_nothing_of_what_they_hold() {
    let folder = TempDir::new().unwrap();
    let (mut bridge, address) = bridge(folder.path(), "tapped", ", tap: headers");
    let tenth = ["--sample", "1/10", "--for", "20s"];
    let tap = |at: &str| open(folder.path(), &address, &[&["--at", at], &tenth[..]].concat());
    let taps = ["source", "stamp", "order", "sink"].map(tap);
    // Four are open.
    let fifth = begin(folder.path(), &address, &["--at", "source"]).finish(LIMIT);
    assert!(fifth.code() == 2 && fifth.stderr.contains("4 taps are open"), "{fifth:?}");
    produce("tapped.in", Some(0), orders(0, 200));
    bridge.wait_until("all have passed", LIMIT, || Kafka::shared().count("tapped.out") == 180);
    let ended = taps.map(|tap| tap.finish(LIMIT));
    let expected: Vec<i64> = (0..200).step_by(10).collect();
    for one in &ended {
        assert!(!one.stdout.contains(MARK), "{one:?}");
    }
    let [source, stamp, order, sink] = ended.map(|ended| lines(&ended));
    assert_eq!(offsets(&source), expected);
    let first = &source[0]["message"];
    assert_eq!((&first["channel"], &first["key_bytes"]), (&json!("tapped.in"), &json!(8)), "{first}");
    assert_eq!(offsets(&order), expected);
    assert!(order.iter().all(|line| line["verdict"] == "pass" && line["fuel"].as_u64() > Some(0)), "{order:#?}");
    assert_eq!(offsets(&stamp), expected);
    assert_eq!(stamp[0]["edits"], json!(["+stamped-by"]));
    let sent: Vec<Value> = sink.iter().filter(|line| line["event"] == "sent").cloned().collect();
    assert_eq!(offsets(&sent), expected);
    assert!(sent.iter().all(|line| line["to"] == "tapped.out" && line["message"]["headers"] == json!(["stamped-by"])));
    let stored: Vec<&Value> = sink.iter().filter(|line| line["event"] == "stored").collect();
    assert_eq!(stored.len(), 20, "{sink:#?}");
    assert_eq!((&stored[0]["id"], &stored[0]["partition"]), (&sent[0]["id"], &json!(0)));
    // What does not pass is seen where it leaves.
    let tap = open(folder.path(), &address, &["--at", "sink", "--limit", "3"]);
    produce("tapped.in", Some(0), orders(5, 1));
    produce("tapped.in", Some(0), orders(6, 1));
    let left = lines(&tap.finish(LIMIT));
    let letter = left.iter().find(|line| line["event"] == "dead_letter").unwrap();
    assert_eq!([&letter["plugin"], &letter["kind"]], [&json!("order"), &json!("rejected")], "{letter}");
    bridge.signal("TERM");
    let ended = bridge.finish(LIMIT);
    assert_eq!(ended.code(), 0, "{ended:?}");
    assert!(ended.stderr.contains("a tap has begun") && ended.stderr.contains("a tap has ended"), "{ended:?}");
    assert!(!ended.stderr.contains(MARK), "{ended:?}");
}

#[test]
fn without_the_nodes_consent_nothing_is_shown_even_if_it_is_asked_for() {
    let folder = TempDir::new().unwrap();
    let (bridge, address) = bridge(folder.path(), "shut", "");
    let refused = begin(folder.path(), &address, &["--at", "source"]).finish(LIMIT);
    assert!(refused.code() == 2 && refused.stderr.contains("admin: { tap: headers }"), "{refused:?}");
    assert!(refused.stderr.contains("403") && refused.stdout.is_empty(), "{refused:?}");
    drop(bridge);
    let folder = TempDir::new().unwrap();
    let (bridge, address) = self::bridge(folder.path(), "ajar", ", tap: headers");
    let refused = begin(folder.path(), &address, &["--at", "sink", "--payload"]).finish(LIMIT);
    assert!(refused.code() == 2 && refused.stderr.contains("admin: { tap: payload }"), "{refused:?}");
    assert!(refused.stderr.contains("403") && refused.stdout.is_empty(), "{refused:?}");
    let refused = begin(folder.path(), &address, &["--at", "stmp"]).finish(LIMIT);
    assert!(refused.code() == 2 && refused.stderr.contains("source, order, stamp, sink"), "{refused:?}");
    // A page in a browser that calls itself by this machine's address.
    let mut stream = TcpStream::connect(&address).unwrap();
    stream.set_read_timeout(Some(LIMIT)).unwrap();
    stream.write_all(b"GET /tap?at=source HTTP/1.0\r\nHost: rebound.example\r\n\r\n").unwrap();
    let mut line = String::new();
    BufReader::new(stream).read_line(&mut line).unwrap();
    assert!(line.contains("403"), "{line}");
    drop(bridge);
}

#[test]
fn with_consent_a_payload_is_shown_as_far_as_it_was_asked_for() {
    let folder = TempDir::new().unwrap();
    let (bridge, address) = bridge(folder.path(), "opened", ", tap: payload");
    let without = open(folder.path(), &address, &["--at", "source", "--limit", "2"]);
    let with = open(folder.path(), &address, &["--at", "sink", "--limit", "1", "--payload", "--bytes", "12"]);
    let text = Process::start(portcullis(folder.path()).args([
        "tap",
        "pipeline.yaml",
        "--admin",
        &address,
        "--at",
        "order",
        "--limit",
        "2",
        "--payload",
    ]));
    let mut text = text;
    text.wait_for_line("tap of opened at order", LIMIT);
    produce("opened.in", Some(0), orders(0, 2));
    let without = without.finish(LIMIT);
    assert!(lines(&without).len() == 2 && !without.stdout.contains(MARK), "{without:?}");
    let with = lines(&with.finish(LIMIT));
    let payload = &with[0]["payload"];
    assert_eq!((&payload["key"], &payload["value"]), (&json!(format!("{MARK}0")), &json!("{\"id")), "{payload}");
    assert_eq!(payload["cut"], true);
    let text = text.finish(LIMIT);
    assert!(text.code() == 0 && text.stdout.contains("opened.in-0@0  order: pass"), "{text:?}");
    assert!(text.stdout.contains(MARK) && text.stdout.contains("2 shown, 0 not shown"), "{text:?}");
    bridge.signal("TERM");
    let ended = bridge.finish(LIMIT);
    // Whoever has looked at data is in the log, and the data is not.
    assert!(ended.stderr.contains("payload=true") && !ended.stderr.contains(MARK), "{ended:?}");
}

#[test]
fn a_reader_that_never_reads_stops_nobody_and_what_it_missed_is_counted() {
    const MESSAGES: usize = 20_000;
    let kafka = Kafka::shared();
    let folder = TempDir::new().unwrap();
    let (mut bridge, address) = bridge(folder.path(), "deaf", ", tap: payload");
    let mut stream = TcpStream::connect(&address).unwrap();
    stream.set_read_timeout(Some(LIMIT)).unwrap();
    let request = format!("GET /tap?at=source&payload=true HTTP/1.0\r\nHost: {address}\r\n\r\n");
    stream.write_all(request.as_bytes()).unwrap();
    let mut reader = BufReader::new(stream);
    let mut line = String::new();
    while !line.contains("\"tap\"") {
        line.clear();
        assert!(reader.read_line(&mut line).unwrap() > 0);
    }
    // From here on nothing is read until everything is done.
    let values = orders(0, MESSAGES).map(|(key, _)| (key, json!({ "id": 1, "x": MARK.repeat(20) }).to_string()));
    produce("deaf.in", Some(0), values);
    bridge.wait_until("every message arrives", LIMIT, || kafka.count("deaf.out") == MESSAGES as i64);
    let (mut shown, mut not_shown) = (0, 0);
    // A machine that takes more than half a minute for it has lost the tap meanwhile: then less is known, and counted.
    let mut complete = false;
    while !complete && {
        line.clear();
        reader.read_line(&mut line).unwrap() > 0
    } {
        let value: Value = serde_json::from_str(&line).unwrap_or_default();
        shown += u64::from(value["at"] == "source");
        not_shown = value["not_shown"].as_u64().unwrap_or(not_shown);
        complete = shown + not_shown == MESSAGES as u64;
    }
    println!("{shown} shown, {not_shown} counted");
    drop(reader);
    bridge.wait_for_line("a tap has ended", LIMIT);
    assert!(not_shown > 1000 && shown + not_shown <= MESSAGES as u64, "{shown} {not_shown}");
    assert!(complete || bridge.stderr().contains("the reader took nothing"), "{shown} {not_shown}");
    // Its place is free again, and so is the path.
    let tap = open(folder.path(), &address, &["--at", "source", "--limit", "1"]);
    produce("deaf.in", Some(0), orders(0, 1));
    assert_eq!(lines(&tap.finish(LIMIT)).len(), 1);
    bridge.signal("TERM");
    assert_eq!(bridge.finish(LIMIT).code(), 0);
}
