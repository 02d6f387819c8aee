//! Bad input and bad surroundings on a real Kafka: a clear word, nothing lost, and what ran keeps running.

use std::fs;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use base64::Engine;
use portcullis_connector_api::{Batch, Budget, Bytes, Confirm, Fate, Header, Message, Sink, Source, Token};
use portcullis_connector_kafka::{Connection, KafkaSink, KafkaSource, SinkSettings, SourceSettings, TopicRule};
use serde_json::Value;
use tempfile::TempDir;

use crate::delivery::start;
use crate::evidence::assert_valid;
use crate::support::broker::Broker;
use crate::support::kafka::{Kafka, libs};
use crate::support::process::{Process, portcullis, run};
use crate::support::{guest, python, wait};

const LIMIT: Duration = Duration::from_secs(120);

fn pass_through(brokers: &str, name: &str, more: &str) -> String {
    format!(
        "pipeline: {name}\nsource: {{ kafka: {{ brokers: \"{brokers}\", topics: [{name}.in] }} }}\n\
         sink: {{ kafka: {{ brokers: \"{brokers}\", topic: {name}.out }} }}\n\
         dead_letter: {{ kafka: {{ topic: {name}.dlq }} }}\n{more}"
    )
}

fn topics(name: &str) {
    for end in ["in", "out", "dlq"] {
        Kafka::shared().create_topic(&format!("{name}.{end}"), 1, &[]);
    }
}

/// Sends messages that no other client lets through.
pub(crate) fn send(topic: &str, messages: &[Message], settings: impl Fn(&mut SinkSettings)) {
    #[derive(Default)]
    struct Fates(Mutex<Vec<Fate>>);
    impl Confirm for Fates {
        fn confirm(&self, _: Token, fate: Fate) {
            self.0.lock().unwrap().push(fate);
        }
    }
    let fates = Arc::new(Fates::default());
    let connection = Connection::plain(Kafka::shared().brokers());
    let mut sink_settings = SinkSettings::new(connection, TopicRule::Fixed(topic.to_owned()));
    settings(&mut sink_settings);
    let sink = KafkaSink::new(sink_settings, fates.clone()).unwrap();
    for (number, message) in (0..).zip(messages) {
        sink.send(message, Token(number)).unwrap();
    }
    assert!(wait::wait_until(LIMIT, || fates.0.lock().unwrap().len() == messages.len()));
    let fates = fates.0.lock().unwrap();
    assert!(fates.iter().all(|fate| matches!(fate, Fate::Stored(_))), "{fates:?}");
}

/// Reads one record with our own source: no other client takes such header names.
fn last_record(topic: &str) -> Message {
    let settings = SourceSettings::new(
        Connection::plain(Kafka::shared().brokers()),
        format!("{topic}.reader"),
        vec![topic.to_owned()],
    );
    let mut source = KafkaSource::new(settings).unwrap();
    let mut batch = Batch::default();
    let budget = Budget { messages: 10, bytes: 1 << 20 };
    let found = wait::wait_for(LIMIT, || {
        source.poll(budget, Duration::from_millis(100), &mut batch).unwrap();
        batch.records.pop()
    });
    Box::new(source).close(Duration::from_secs(10)).unwrap();
    found.unwrap().message
}

fn value(record: &Value) -> Option<Vec<u8>> {
    let text = record["value_b64"].as_str()?;
    Some(base64::engine::general_purpose::STANDARD.decode(text).unwrap())
}

fn header(record: &Value, name: &str) -> Option<String> {
    let headers = record["headers"].as_array()?;
    let text = headers.iter().find(|header| header[0] == name)?[1].as_str()?;
    Some(String::from_utf8(base64::engine::general_purpose::STANDARD.decode(text).unwrap()).unwrap())
}

fn reason(record: &Value, name: &str) -> Option<String> {
    header(record, &format!("__portcullis.errors.{name}"))
}

#[test]
fn a_broker_that_cannot_be_reached_is_waited_for_and_the_bridge_recovers_when_it_comes() {
    let mut broker = Broker::start(&libs(), None).unwrap();
    let brokers = broker.address();
    let kafka = Kafka::of(&brokers);
    for end in ["in", "out", "dlq"] {
        kafka.create_topic(&format!("later.{end}"), 1, &[]);
    }
    python::produce(&brokers, "later.in", 5, 1000, &["--values", "json"], LIMIT);
    broker.stop().unwrap();
    let folder = TempDir::new().unwrap();
    let mut bridge = start(folder.path(), &pass_through(&brokers, "later", ""));
    bridge.wait_for_line("not ready", LIMIT);
    broker.restart().unwrap();
    let found = python::verify(&brokers, "later.out", 5, 1000, &["--values", "json"], LIMIT);
    assert_eq!(found["good"], true, "{found:#}");
    // And once more in the middle of the run.
    broker.kill9().unwrap();
    bridge.wait_for_line("pipeline/later/", LIMIT);
    broker.restart().unwrap();
    python::produce(&brokers, "later.in", 5, 2000, &["--values", "json", "--first", "1000"], LIMIT);
    let found = python::verify(&brokers, "later.out", 5, 2000, &["--values", "json", "--allow-duplicates"], LIMIT);
    assert_eq!((&found["missing"], &found["disorder"]), (&0.into(), &0.into()), "{found:#}");
    bridge.signal("TERM");
    assert_eq!(bridge.finish(LIMIT).code(), 0);
    assert_valid(&folder.path().join("audit.jsonl"));
}

#[test]
fn wrong_credentials_end_the_pipeline_with_the_cause_and_the_right_ones_work() {
    let mut broker = Broker::start(&libs(), None).unwrap();
    let kafka = Kafka::of(&broker.address());
    for end in ["in", "out", "dlq"] {
        kafka.create_topic(&format!("secret.{end}"), 1, &[]);
    }
    python::produce(&broker.address(), "secret.in", 6, 100, &["--values", "json"], LIMIT);
    let node = format!(
        "brokers: {{ main: {{ kafka: {{ brokers: \"{}\", sasl: {{ mechanism: PLAIN, username: bridge, password: {{ env: BRIDGE_PASSWORD }} }} }} }} }}\n",
        broker.sasl_address(),
    );
    let pipeline = pass_through("", "secret", "").replace("brokers: \"\"", "profile: main");
    let folder = TempDir::new().unwrap();
    fs::write(folder.path().join("portcullis.yaml"), node).unwrap();
    fs::write(folder.path().join("pipeline.yaml"), pipeline).unwrap();
    let arguments = ["run", "pipeline.yaml", "--admin", "127.0.0.1:0", "--audit-file", "audit.jsonl"];
    let wrong =
        Process::start(portcullis(folder.path()).args(arguments).env("BRIDGE_PASSWORD", "hunter2")).finish(LIMIT);
    assert_eq!(wrong.code(), 1, "{wrong:?}");
    assert!(wrong.stderr.to_lowercase().contains("authentication"), "{}", wrong.stderr);
    assert!(!wrong.stderr.contains("hunter2"), "{}", wrong.stderr);
    let right = Process::start(portcullis(folder.path()).args(arguments).env("BRIDGE_PASSWORD", "right"));
    let found = python::verify(&broker.address(), "secret.out", 6, 100, &["--values", "json"], LIMIT);
    assert_eq!(found["good"], true, "{found:#}");
    right.signal("TERM");
    assert_eq!(right.finish(LIMIT).code(), 0);
    broker.stop().unwrap();
}

#[test]
fn an_unknown_topic_is_named_and_not_created() {
    let kafka = Kafka::shared();
    kafka.create_topic("half.in", 1, &[]);
    kafka.create_topic("half.dlq", 1, &[]);
    let folder = TempDir::new().unwrap();
    let bridge = start(folder.path(), &pass_through(kafka.brokers(), "half", ""));
    let ended = bridge.finish(LIMIT);
    assert_eq!(ended.code(), 1, "{ended:?}");
    assert!(ended.stderr.contains("half.out"), "{}", ended.stderr);
    assert!(!kafka.has_topic("half.out"));
    kafka.create_topic("half.out", 1, &[]);
    let bridge = start(folder.path(), &pass_through(kafka.brokers(), "half", "").replace("half.in", "nowhere.in"));
    let ended = bridge.finish(LIMIT);
    assert_eq!(ended.code(), 1, "{ended:?}");
    assert!(ended.stderr.contains("nowhere.in"), "{}", ended.stderr);
    assert!(!kafka.has_topic("nowhere.in"));
}

#[test]
fn what_dev_refuses_is_in_its_audit_topic() {
    let kafka = Kafka::shared();
    let folder = TempDir::new().unwrap();
    let plugins = format!("plugins: [{{ name: clock, component: {} }}]\n", guest("asks-the-clock").display());
    fs::write(folder.path().join("pipeline.yaml"), pass_through("127.0.0.1:1", "refused", &plugins)).unwrap();
    let ended = run(folder.path(), &["dev", "pipeline.yaml", "--brokers", kafka.brokers()], LIMIT);
    assert_eq!(ended.code(), 2, "{ended:?}");
    assert!(ended.stderr.contains("error[import.denied]"), "{}", ended.stderr);
    let count = usize::try_from(kafka.count("portcullis.audit")).unwrap();
    let events: Vec<Value> = python::read(kafka.brokers(), "portcullis.audit", count, LIMIT)
        .iter()
        .map(|record| serde_json::from_slice(&value(record).unwrap()).unwrap())
        .collect();
    let rejected = events.iter().find(|event| event["metadata"]["event_code"] == "plugin.rejected");
    assert!(
        rejected.is_some_and(|event| event["status_code"] == "import.denied"),
        "{count} events: {events:#?}\n{}",
        ended.stderr
    );
    assert!(!kafka.has_topic("refused.in"), "nothing else was made");
}

#[test]
fn a_missing_audit_topic_is_named_and_nothing_starts() {
    let kafka = Kafka::shared();
    topics("unaudited");
    let folder = TempDir::new().unwrap();
    fs::write(folder.path().join("pipeline.yaml"), pass_through(kafka.brokers(), "unaudited", "")).unwrap();
    let node = format!(
        "audit: {{ topic: unaudited.audit, brokers: \"{}\" }}\nadmin: {{ listen: \"127.0.0.1:0\" }}\n",
        kafka.brokers()
    );
    fs::write(folder.path().join("portcullis.yaml"), node).unwrap();
    let ended = run(folder.path(), &["run", "pipeline.yaml"], LIMIT);
    assert_eq!(ended.code(), 2, "{ended:?}");
    assert!(ended.stderr.contains("unaudited.audit"), "{}", ended.stderr);
    assert!(!kafka.has_topic("unaudited.audit"));
}

#[test]
fn a_message_larger_than_the_sink_takes_is_dead_lettered_and_without_its_value_where_that_is_too_large_too() {
    let kafka = Kafka::shared();
    kafka.create_topic("large.in", 1, &[("max.message.bytes", "4000000")]);
    kafka.create_topic("large.out", 1, &[]);
    kafka.create_topic("large.dlq", 1, &[("max.message.bytes", "1500000")]);
    let message = |bytes: usize| {
        let mut message = Message::new("large.in");
        message.key = Some(Bytes::from_static(b"key"));
        message.value = Some(Bytes::from(vec![b'v'; bytes]));
        message
    };
    send("large.in", &[message(10), message(1_200_000), message(3_000_000), message(20)], |settings| {
        settings.max_message_bytes = 4_000_000;
    });
    let folder = TempDir::new().unwrap();
    let pipeline = pass_through(kafka.brokers(), "large", "")
        .replace("topic: large.dlq", "topic: large.dlq, max_message_bytes: 2MiB");
    let bridge = start(folder.path(), &pipeline);
    let passed = python::read(kafka.brokers(), "large.out", 2, LIMIT);
    assert_eq!(passed.iter().map(|record| value(record).unwrap().len()).collect::<Vec<_>>(), [10, 20]);
    let dead = python::read(kafka.brokers(), "large.dlq", 2, LIMIT);
    assert_eq!(dead.len(), 2, "{dead:#?}");
    let whole = dead.iter().find(|record| value(record).is_some()).unwrap();
    assert_eq!((value(whole).unwrap().len(), reason(whole, "reason").as_deref()), (1_200_000, Some("oversize")));
    let cut = dead.iter().find(|record| value(record).is_none()).unwrap();
    assert_eq!(reason(cut, "truncated").as_deref(), Some("true"));
    assert!(reason(cut, "timestamp").is_some(), "{cut:#}");
    assert_eq!(reason(cut, "value.bytes").as_deref(), Some("3000000"));
    let digest = "0274806610a946c8b9157d4cf7c0e77d90469aed80dd4ec2f8c43b81823dca34";
    assert_eq!(reason(cut, "value.sha256").as_deref(), Some(digest));
    bridge.signal("TERM");
    assert_eq!(bridge.finish(LIMIT).code(), 0);
    assert_valid(&folder.path().join("audit.jsonl"));
}

#[test]
fn a_header_name_that_is_not_utf8_is_a_decode_fault_with_its_bytes_and_the_next_message_passes() {
    let kafka = Kafka::shared();
    topics("names");
    let mut odd = Message::new("names.in");
    odd.key = Some(Bytes::from_static(b"k"));
    odd.value = Some(Bytes::from_static(b"odd"));
    odd.headers.append(Header::new(Bytes::from_static(b"\xff\xfe"), Some("x")));
    let mut plain = Message::new("names.in");
    plain.value = Some(Bytes::from_static(b"plain"));
    send("names.in", &[odd, plain], |_| ());
    let folder = TempDir::new().unwrap();
    let bridge = start(folder.path(), &pass_through(kafka.brokers(), "names", ""));
    let passed = python::read(kafka.brokers(), "names.out", 1, LIMIT);
    assert_eq!(value(&passed[0]).unwrap(), b"plain");
    assert!(wait::wait_until(LIMIT, || kafka.count("names.dlq") == 1));
    let letter = last_record("names.dlq");
    assert_eq!((letter.key.as_deref(), letter.value.as_deref()), (Some(&b"k"[..]), Some(&b"odd"[..])));
    assert_eq!(letter.headers.as_slice()[0], Header::new(Bytes::from_static(b"\xff\xfe"), Some("x")));
    bridge.signal("TERM");
    assert_eq!(bridge.finish(LIMIT).code(), 0);
    assert_valid(&folder.path().join("audit.jsonl"));
    let audit = fs::read_to_string(folder.path().join("audit.jsonl")).unwrap();
    assert!(audit.lines().any(|line| line.contains("record.quarantined") && line.contains("decode")), "{audit}");
}

#[test]
fn a_value_of_a_mebibyte_and_a_thousand_headers_pass_unchanged() {
    let kafka = Kafka::shared();
    for end in ["in", "out", "dlq"] {
        kafka.create_topic(&format!("wide.{end}"), 1, &[("max.message.bytes", "4000000")]);
    }
    let mut message = Message::new("wide.in");
    message.value = Some(Bytes::from((0..1 << 20).map(|n| (n % 251) as u8).collect::<Vec<u8>>()));
    for number in 0..1000 {
        message.headers.append(Header::new(format!("h{}", number % 7), Some(format!("{number}"))));
    }
    send("wide.in", std::slice::from_ref(&message), |settings| settings.max_message_bytes = 4_000_000);
    let folder = TempDir::new().unwrap();
    let plugins = format!("plugins: [{{ name: touch, component: {} }}]\n", guest("touch").display());
    let pipeline = pass_through(kafka.brokers(), "wide", &plugins)
        .replace("topic: wide.out", "topic: wide.out, max_message_bytes: 4MiB");
    let bridge = start(folder.path(), &pipeline);
    let passed = python::read(kafka.brokers(), "wide.out", 1, LIMIT);
    assert_eq!(value(&passed[0]).as_deref(), message.value.as_deref());
    let names: Vec<&str> =
        passed[0]["headers"].as_array().unwrap().iter().map(|header| header[0].as_str().unwrap()).collect();
    let sent: Vec<&str> = message.headers.iter().map(|header| header.name_str().unwrap()).collect();
    assert_eq!(names, sent);
    bridge.signal("TERM");
    assert_eq!(bridge.finish(LIMIT).code(), 0);
    assert_valid(&folder.path().join("audit.jsonl"));
}
