//! W3C trace context through the bridge: carried byte for byte whatever it holds, and told in the log, in dead letters and in
//! the audit only where it is valid.

use std::fs;
use std::path::Path;
use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use portcullis_connector_api::{Bytes, Header, Message};
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::bad_input::send;
use crate::delivery::start;
use crate::evidence::assert_valid;
use crate::support::kafka::Kafka;
use crate::support::nats::Nats;
use crate::support::process::{Finished, Process, portcullis};
use crate::support::{guest, python};

const LIMIT: Duration = Duration::from_secs(120);
const TRACE: &str = "4bf92f3577b34da6a3ce929d0e0e4736";
const SPAN: &str = "00f067aa0ba902b7";
/// Must be in no log, no audit event and no header of the bridge's own.
const FORGED: &str = "FORGED";
const FAILED: &str = "a message has failed";

fn valid() -> String {
    format!("00-{TRACE}-{SPAN}-01")
}

/// What the header may hold: the valid one first, then what has to leave no trace.
fn traceparents(long_bytes: usize) -> Vec<Vec<u8>> {
    let forged_line = format!("{}\n2026-01-01T00:00:00Z ERROR {FORGED} trace_id={TRACE}", valid());
    let long = format!("{}{}", valid(), FORGED.repeat(long_bytes / FORGED.len()));
    let zeros = format!("00-{}-{SPAN}-01", "0".repeat(32));
    [valid(), forged_line, long, valid().to_uppercase(), zeros].into_iter().map(String::into_bytes).collect()
}

/// Two messages for each of them: one that the validator passes and one that it refuses.
fn messages(traceparents: &[Vec<u8>]) -> Vec<Message> {
    let message = |traceparent: &Vec<u8>, value: &'static str| {
        let mut message = Message::new("in");
        message.value = Some(Bytes::from_static(value.as_bytes()));
        message.headers.append(Header::new("z", Some("before")));
        message.headers.append(Header::new("traceparent", Some(traceparent.clone())));
        message.headers.append(Header::new("tracestate", Some("rojo=00f067aa0ba902b7,congo=t61rcWkgMzE")));
        message.headers.append(Header::new("tracestate", None::<Bytes>));
        message
    };
    traceparents.iter().flat_map(|held| [message(held, "{\"id\":\"1\"}"), message(held, "{}")]).collect()
}

/// Headers as the independent client prints them.
fn headers(message: &Message) -> Vec<Value> {
    let header =
        |header: &Header| json!([header.name_str().unwrap(), header.value.as_ref().map(|v| STANDARD.encode(v))]);
    message.headers.iter().map(header).collect()
}

/// The headers that the bridge has added to a dead letter, and those that were there before.
fn parted(letter: &Value) -> (Vec<Value>, Vec<Value>) {
    let all = letter["headers"].as_array().unwrap().clone();
    all.into_iter().partition(|header| header[0].as_str().unwrap().starts_with("__portcullis.errors."))
}

fn trace_id_header(letter: &Value) -> Option<String> {
    let (own, _) = parted(letter);
    let found = own.iter().find(|header| header[0] == "__portcullis.errors.trace-id")?[1].as_str().unwrap().to_owned();
    Some(String::from_utf8(STANDARD.decode(found).unwrap()).unwrap())
}

fn audit(folder: &Path) -> Vec<Value> {
    assert_valid(&folder.join("audit.jsonl"));
    let text = fs::read_to_string(folder.join("audit.jsonl")).unwrap();
    assert!(!text.contains(FORGED));
    text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

fn of_code<'a>(events: &'a [Value], code: &str) -> Vec<&'a Value> {
    events.iter().filter(|event| event["metadata"]["event_code"] == code).collect()
}

fn end(bridge: Process) -> Finished {
    bridge.signal("TERM");
    let ended = bridge.finish(LIMIT);
    assert_eq!(ended.code(), 0, "{}", ended.stderr);
    ended
}

/// Only the line of the one message with a valid header names a trace, and nothing of the others is in the log.
fn assert_one_traced_line(log: &str, failures: usize) {
    let lines: Vec<&str> = log.lines().filter(|line| line.contains(FAILED)).collect();
    assert_eq!(lines.len(), failures, "{log}");
    let traced: Vec<&&str> =
        lines.iter().filter(|line| line.contains("trace_id") || line.contains("span_id")).collect();
    assert_eq!(traced.len(), 1, "{log}");
    assert!(traced[0].contains(&format!("trace_id={TRACE} span_id={SPAN}")), "{}", traced[0]);
    assert_eq!(log.matches(TRACE).count(), 1, "{log}");
    assert!(!log.contains(FORGED) && log.lines().all(|line| line.len() < 4096), "{log}");
}

#[test]
fn kafka_to_kafka_keeps_every_traceparent_and_tells_only_the_valid_one() {
    let kafka = Kafka::shared();
    for end in ["in", "out", "dlq"] {
        kafka.create_topic(&format!("traced.{end}"), 1, &[("max.message.bytes", "4000000")]);
    }
    let traceparents = traceparents(1 << 20);
    let sent = messages(&traceparents);
    send("traced.in", &sent, |settings| settings.max_message_bytes = 4_000_000);
    let folder = TempDir::new().unwrap();
    let pipeline = format!(
        "pipeline: traced\nsource: {{ kafka: {{ brokers: \"{brokers}\", topics: [traced.in] }} }}\n\
         plugins: [{{ name: id, component: {plugin}, limits: {{ deadline: 30s }} }}]\n\
         sink: {{ kafka: {{ brokers: \"{brokers}\", topic: traced.out, max_message_bytes: 4MiB }} }}\n\
         dead_letter: {{ kafka: {{ topic: traced.dlq, max_message_bytes: 4MiB }} }}\n",
        brokers = kafka.brokers(),
        plugin = guest("checks-id").display(),
    );
    let mut bridge = start(folder.path(), &pipeline);
    let passed = python::read(kafka.brokers(), "traced.out", 5, LIMIT);
    let dead = python::read(kafka.brokers(), "traced.dlq", 5, LIMIT);
    bridge.wait_for_line(FAILED, LIMIT);
    let ended = end(bridge);

    assert_eq!((passed.len(), dead.len()), (5, 5));
    for (pair, (passed, dead)) in sent.chunks(2).zip(passed.iter().zip(&dead)) {
        assert_eq!(passed["headers"], Value::from(headers(&pair[0])));
        assert_eq!(parted(dead).1, headers(&pair[1]));
    }
    let ids: Vec<_> = dead.iter().map(trace_id_header).collect();
    assert_eq!(ids, [Some(TRACE.to_owned()), None, None, None, None]);
    assert_one_traced_line(&ended.stderr, 5);
    let events = audit(folder.path());
    let quarantined = of_code(&events, "record.quarantined");
    let uids: Vec<_> = quarantined.iter().filter_map(|event| event["trace"]["uid"].as_str()).collect();
    assert_eq!((quarantined.len(), uids), (5, vec![TRACE]));
}

#[test]
fn through_a_stream_and_back_the_headers_are_the_same_and_what_the_stream_refuses_is_told_with_its_trace() {
    let (kafka, nats) = (Kafka::shared(), Nats::start());
    for (end, most) in [("in", "4000000"), ("back", "1000000"), ("dlq", "1000000")] {
        kafka.create_topic(&format!("traced.stream.{end}"), 1, &[("max.message.bytes", most)]);
    }
    // A NATS server takes less than 64 KiB of headers.
    let mut sent = messages(&traceparents(40_000));
    // Clients of NATS write the name so.
    let mut other_case = Message::new("in");
    other_case.value = Some(Bytes::from_static(b"x"));
    other_case.headers.append(Header::new("Traceparent", Some(valid())));
    sent.push(other_case);
    // More than the server takes.
    let mut large = sent[0].clone();
    large.value = Some(Bytes::from(vec![b'v'; 1_500_000]));
    send("traced.stream.in", &sent, |_| ());
    send("traced.stream.in", &[large], |settings| settings.max_message_bytes = 4_000_000);
    let (brokers, url) = (kafka.brokers(), nats.url());
    let (to, from) = (TempDir::new().unwrap(), TempDir::new().unwrap());
    let mut there = start(
        to.path(),
        &format!(
            "pipeline: there\nlanes: 1\nsource: {{ kafka: {{ brokers: \"{brokers}\", topics: [traced.stream.in] }} }}\n\
             sink: {{ jetstream: {{ servers: {url}, subject: s, stream: S, create_stream: {{ subjects: [s] }} }} }}\n\
             dead_letter: {{ kafka: {{ topic: traced.stream.dlq }} }}\n"
        ),
    );
    let dead = python::read(brokers, "traced.stream.dlq", 1, LIMIT);
    assert_eq!(parted(&dead[0]).1, Vec::<Value>::new(), "too large for the dead letter queue as well");
    assert_eq!(trace_id_header(&dead[0]).as_deref(), Some(TRACE));
    there.wait_until("all but one are in the stream", LIMIT, || nats.count("S") == sent.len() as u64);
    // Any other reader of the stream finds it under its own name.
    let stored = nats.message("S", 1);
    assert_eq!(stored.headers.get("traceparent").map(ToString::to_string), Some(valid()));
    there.wait_for_line(FAILED, LIMIT);
    let ended = end(there);
    assert_one_traced_line(&ended.stderr, 1);
    assert!(ended.stderr.contains("plugin=\"sink\" kind=\"oversize\""), "{}", ended.stderr);

    let back = start(
        from.path(),
        &format!(
            "pipeline: back\nlanes: 1\n\
             source: {{ jetstream: {{ servers: {url}, stream: S, consumer: c, create_consumer: {{}} }} }}\n\
             sink: {{ kafka: {{ brokers: \"{brokers}\", topic: traced.stream.back }} }}\n"
        ),
    );
    let arrived = python::read(brokers, "traced.stream.back", sent.len(), LIMIT);
    end(back);
    assert_eq!(arrived.len(), sent.len());
    for (sent, arrived) in sent.iter().zip(&arrived) {
        assert_eq!(arrived["headers"], Value::from(headers(sent)));
    }
}

/// From `in.jsonl`, with the log as JSON.
fn run_on_lines(folder: &Path, lines: &[Value], plugins: &str) -> Finished {
    fs::write(folder.join("in.jsonl"), lines.iter().map(|line| format!("{line}\n")).collect::<String>()).unwrap();
    let pipeline = format!(
        "pipeline: p\nlanes: 1\nsource: {{ file: {{ path: in.jsonl }} }}\nplugins:\n{plugins}sink: {{ file: {{ path: out.jsonl }} }}\n"
    );
    fs::write(folder.join("pipeline.yaml"), pipeline).unwrap();
    let mut command = portcullis(folder);
    command.args(["run", "pipeline.yaml", "--admin", "127.0.0.1:0", "--audit-file", "audit.jsonl"]);
    Process::start(command.env("PORTCULLIS_LOG__FORMAT", "json")).finish(LIMIT)
}

fn lines_with<'a>(log: &'a [Value], text: &str) -> Vec<&'a Value> {
    log.iter().filter(|line| line["message"].as_str().is_some_and(|message| message.contains(text))).collect()
}

#[test]
fn a_plugins_own_lines_its_fault_and_the_end_of_its_pipeline_name_the_trace_of_the_message() {
    let folder = TempDir::new().unwrap();
    let traced = json!({ "key": "a", "value": "traps", "headers": [["traceparent", valid()]] });
    let lines = [json!({ "key": "a", "value": "ok" }), traced];
    let plugins = format!(
        "  - name: talks\n    component: {}\n    grants: {{ log: info }}\n\
         \x20   limits: {{ log: 2KiB, fuel: 1000000000, deadline: 30s, host_calls: 1000000 }}\n\
         \x20 - name: traps\n    component: {}\n    on: {{ fault: stop }}\n    limits: {{ deadline: 30s }}\n",
        guest("logs-without-end").display(),
        guest("traps").display(),
    );
    let ended = run_on_lines(folder.path(), &lines, &plugins);
    assert_eq!(ended.code(), 1, "{ended:?}");
    let log: Vec<Value> = ended.stderr.lines().filter_map(|line| serde_json::from_str(line).ok()).collect();
    let ids = |line: &Value| (line["trace_id"].as_str() == Some(TRACE), line["span_id"].as_str() == Some(SPAN));
    let spoken = lines_with(&log, "line");
    let (of_traced, of_other): (Vec<&Value>, Vec<&Value>) = spoken.iter().partition(|line| ids(line) == (true, true));
    assert!(!of_traced.is_empty() && !of_other.is_empty(), "{}", ended.stderr);
    assert!(of_other.iter().all(|line| line.get("trace_id").is_none() && line.get("span_id").is_none()));
    for text in [FAILED, "failed"] {
        assert!(lines_with(&log, text).iter().any(|line| ids(line) == (true, true)), "{text}: {}", ended.stderr);
    }
    let events = audit(folder.path());
    let trapped = of_code(&events, "plugin.trapped");
    assert_eq!(trapped.len(), 1);
    assert_eq!(trapped[0]["unmapped"]["trace"], json!({ "uid": TRACE }));
}

#[test]
fn what_a_plugin_asks_of_the_network_during_a_message_is_recorded_with_its_trace() {
    let folder = TempDir::new().unwrap();
    let line = |value: &str, traceparent: String| json!({ "value": value, "headers": [["traceparent", traceparent]] });
    let lines = [line("1", valid()), line("2", format!("{}\n{FORGED}", valid()))];
    // A file ends with its last message, and what is repeated within a second becomes one event: so one plugin a message.
    let plugins = format!(
        "  - name: asks\n    component: {}\n    instance: message\n    grants: {{ egress: [] }}\n    on: {{ reject: drop }}\n    limits: {{ deadline: 30s }}\n",
        guest("connects-to-metadata").display()
    );
    let ended = run_on_lines(folder.path(), &lines, &plugins);
    assert_eq!(ended.code(), 0, "{ended:?}");
    let events = audit(folder.path());
    for (code, place) in [("net.connect.denied", "/unmapped/trace/uid"), ("http.denied", "/trace/uid")] {
        let denied = of_code(&events, code);
        let of = |offset: &str| -> Vec<Option<&Value>> {
            let of_message = |event: &&&Value| {
                event["metadata"]["correlation_uid"].as_str().is_some_and(|source| source.ends_with(offset))
            };
            denied.iter().filter(of_message).map(|event| event.pointer(place)).collect()
        };
        let (first, second) = (of("@0"), denied.len());
        assert!(!first.is_empty() && second > first.len(), "{code}: {denied:#?}");
        assert!(first.iter().all(|uid| *uid == Some(&json!(TRACE))), "{code}: {denied:#?}");
        let traced = denied.iter().filter(|event| event.pointer(place).is_some()).count();
        assert_eq!(traced, first.len(), "{code}: the other message has no valid one");
    }
}
