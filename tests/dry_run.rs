//! `portcullis run --dry-run` on real brokers: what it says, and that nobody could notice it.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;
use std::time::Duration;

use base64::Engine;
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::producer::{BaseProducer, BaseRecord, Producer};
use rdkafka::{ClientConfig, TopicPartitionList};
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::delivery::start;
use crate::support::kafka::Kafka;
use crate::support::nats::Nats;
use crate::support::process::{Finished, Process, portcullis};
use crate::support::servers::{Answer, Server};
use crate::support::wait::wait_for;
use crate::support::{guest, guests, python};

const LIMIT: Duration = Duration::from_secs(120);
/// In every value: what must not be seen without consent.
const MARK: &str = "hunter2";

struct Group {
    consumer: BaseConsumer,
    topic: String,
    partitions: i32,
    name: String,
}

impl Group {
    fn of(name: &str, topic: &str, partitions: i32) -> Self {
        let mut config = ClientConfig::new();
        config.set("bootstrap.servers", Kafka::shared().brokers()).set("group.id", name);
        Self { consumer: config.create().unwrap(), topic: topic.to_owned(), partitions, name: name.to_owned() }
    }

    /// The group's position in each partition; `Invalid` where it has none.
    fn committed(&self) -> Vec<String> {
        let mut list = TopicPartitionList::new();
        list.add_partition_range(&self.topic, 0, self.partitions - 1);
        let committed = wait_for(LIMIT, || self.consumer.committed_offsets(list.clone(), LIMIT).ok()).unwrap();
        committed.elements().iter().map(|element| format!("{:?}", element.offset())).collect()
    }

    /// The group's state and the ids of its members.
    fn members(&self) -> (String, BTreeSet<String>) {
        // The broker of a young cluster is still loading what it knows of groups.
        let asked = || self.consumer.fetch_group_list(Some(&self.name), LIMIT).ok();
        let groups = wait_for(LIMIT, asked).unwrap();
        let group = groups.groups().iter().find(|group| group.name() == self.name);
        group.map_or_else(Default::default, |group| {
            (group.state().to_owned(), group.members().iter().map(|member| member.id().to_owned()).collect())
        })
    }

    /// Every group of the cluster that has to do with a name.
    fn groups(&self) -> BTreeSet<String> {
        let groups = wait_for(LIMIT, || self.consumer.fetch_group_list(None, LIMIT).ok()).unwrap();
        groups.groups().iter().map(|group| group.name().to_owned()).filter(|name| name.contains(&self.name)).collect()
    }
}

/// Sends `key` and `value` pairs, to the partition where there is one.
pub(crate) fn produce(topic: &str, partition: Option<i32>, messages: impl IntoIterator<Item = (String, String)>) {
    let mut config = ClientConfig::new();
    let producer: BaseProducer =
        config.set("bootstrap.servers", Kafka::shared().brokers()).set("linger.ms", "1").create().unwrap();
    for (key, value) in messages {
        let mut record = BaseRecord::to(topic).key(&key).payload(&value);
        record.partition = partition;
        while let Err((_, back)) = producer.send(record) {
            producer.poll(Duration::from_millis(10));
            record = back;
        }
    }
    producer.flush(LIMIT).unwrap();
}

fn topics(name: &str, partitions: i32) {
    for (end, partitions) in [("in", partitions), ("out", 4), ("dlq", 2)] {
        Kafka::shared().create_topic(&format!("{name}.{end}"), partitions, &[]);
    }
}

fn checked(name: &str, more: &str) -> String {
    format!(
        "pipeline: {name}\nsource: {{ kafka: {{ brokers: \"{brokers}\", topics: [{name}.in], group: {name}{more} }} }}\n\
         plugins:\n\
         - {{ name: order, component: {schema}, config: {{ schema: {{ type: object, required: [id] }} }}, limits: {{ deadline: 30s }} }}\n\
         - {{ name: stamp, component: {stamp}, config: {{ headers: {{ append: [{{ name: stamped-by, value: portcullis }}] }} }}, limits: {{ deadline: 30s }} }}\n\
         sink: {{ kafka: {{ brokers: \"{brokers}\", topic: {name}.out }} }}\n\
         dead_letter: {{ kafka: {{ topic: {name}.dlq }} }}\n",
        brokers = Kafka::shared().brokers(),
        schema = guest("json-schema").display(),
        stamp = guest("stamp").display(),
    )
}

fn dry(folder: &Path, more: &[&str]) -> Finished {
    let arguments = ["run", "pipeline.yaml", "--format", "json", "--dry-run"];
    let ended = Process::start(portcullis(folder).args(arguments).args(more)).finish(LIMIT);
    assert_eq!(ended.code(), 0, "{ended:?}");
    ended
}

/// The lines about messages, and the summary.
fn told(ended: &Finished) -> (Vec<Value>, Value) {
    let lines: Vec<Value> = ended.stdout.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert!(lines[0]["dry_run"].is_object(), "{ended:?}");
    let summary = lines.last().unwrap()["summary"].clone();
    assert!(summary.is_object(), "{ended:?}");
    (lines[1..lines.len() - 1].to_vec(), summary)
}

fn order(number: usize) -> (String, String) {
    let value = if number.is_multiple_of(3) { json!({ "no": MARK }) } else { json!({ "id": number, "x": MARK }) };
    (format!("k{number}"), value.to_string())
}

#[test]
fn a_dry_run_says_where_each_message_would_go_and_moves_nothing() {
    let kafka = Kafka::shared();
    topics("dry", 3);
    let folder = TempDir::new().unwrap();
    let pipeline = checked("dry", "");
    // A group that has come a part of the way.
    produce("dry.in", None, (1..3).map(order));
    let mut bridge = start(folder.path(), &pipeline);
    bridge.wait_until("the first have passed", LIMIT, || kafka.count("dry.out") == 2);
    bridge.signal("TERM");
    assert_eq!(bridge.finish(LIMIT).code(), 0);
    fs::remove_file(folder.path().join("audit.jsonl")).unwrap();
    produce("dry.in", None, (3..15).map(order));
    let group = Group::of("dry", "dry.in", 3);
    let state = || (group.committed(), group.members(), group.groups(), kafka.count("dry.out"), kafka.count("dry.dlq"));
    let before = state();

    let ended = dry(folder.path(), &["100", "--wait", "2s"]);
    assert_eq!(state(), before, "nothing has moved");
    let (lines, summary) = told(&ended);
    assert!(!ended.stdout.contains(MARK) && !ended.stderr.contains(MARK), "{ended:?}");
    assert_eq!((&summary["messages"], &summary["sink"], &summary["dead_letter"]), (&json!(12), &json!(8), &json!(4)));
    assert_eq!(summary["ended"], json!(["the source was quiet for 2s"]));
    for line in &lines {
        let destination = &line["destination"];
        if destination["to"] == "sink" {
            assert_eq!(destination["topic"], "dry.out");
            assert_eq!(line["plugins"][1]["edits"], json!(["+stamped-by"]), "{line:#}");
        } else {
            let why = ["to", "topic", "kind", "plugin"].map(|key| destination[key].as_str().unwrap());
            assert_eq!(why, ["dead_letter", "dry.dlq", "rejected", "order"], "{line:#}");
            assert_eq!(line["plugins"].as_array().unwrap().len(), 1, "{line:#}");
            assert_eq!(line["plugins"][0]["code"], destination["code"]);
        }
        assert!(line["plugins"][0]["fuel"].as_u64().unwrap() > 0, "{line:#}");
        assert!(line["source"]["channel"] == "dry.in" && line["message"]["key_bytes"].as_u64() >= Some(2), "{line:#}");
    }
    assert!(!folder.path().join("audit.jsonl").exists() && !folder.path().join("portcullis-audit.jsonl").exists());

    // Asked again it says the same, no more than asked for, with payload where that is asked for.
    let (again, summary) = told(&dry(folder.path(), &["5", "--payload", "--bytes", "8"]));
    assert_eq!((again.len(), &summary["ended"]), (5, &json!(["5 messages were taken"])));
    assert!(again.iter().all(|line| line["payload"]["cut"] == true), "{again:#?}");
    let (with_keys, _) = told(&dry(folder.path(), &["100", "--wait", "2s", "--payload"]));
    let codes: BTreeMap<String, Value> =
        with_keys.iter().map(|line| (key(line), line["destination"].clone())).collect();
    assert_eq!(state(), before, "nothing has moved");

    // What it said is what a run does, partition by partition.
    let mut bridge = start(folder.path(), &pipeline);
    bridge.wait_until("all have left", LIMIT, || kafka.count("dry.out") == 10 && kafka.count("dry.dlq") == 4);
    bridge.signal("TERM");
    assert_eq!(bridge.finish(LIMIT).code(), 0);
    let mut compared = 0;
    for (topic, count) in [("dry.out", 10), ("dry.dlq", 4)] {
        for record in python::read(kafka.brokers(), topic, count, LIMIT) {
            let key = base64::engine::general_purpose::STANDARD.decode(record["key_b64"].as_str().unwrap()).unwrap();
            let Some(said) = codes.get(std::str::from_utf8(&key).unwrap()) else { continue };
            assert_eq!((&said["topic"], &said["partition"]), (&record["topic"], &record["partition"]), "{said}");
            if topic == "dry.dlq" {
                let code = header(&record, "__portcullis.errors.code");
                assert_eq!(said["code"], code, "{record}");
            }
            compared += 1;
        }
    }
    assert_eq!(compared, 12);
}

fn key(line: &Value) -> String {
    line["payload"]["key"].as_str().unwrap().to_owned()
}

fn header(record: &Value, name: &str) -> String {
    let headers = record["headers"].as_array().unwrap();
    let value = headers.iter().find(|header| header[0] == name).unwrap()[1].as_str().unwrap();
    String::from_utf8(base64::engine::general_purpose::STANDARD.decode(value).unwrap()).unwrap()
}

#[test]
fn a_bridge_that_runs_keeps_its_partitions_and_gets_every_message_while_a_dry_run_reads_them_too() {
    let kafka = Kafka::shared();
    topics("beside", 2);
    let folder = TempDir::new().unwrap();
    let mut bridge = start(folder.path(), &checked("beside", ""));
    let group = Group::of("beside", "beside.in", 2);
    bridge.wait_until("it has the partitions", LIMIT, || group.members().0 == "Stable");
    let members = group.members();
    assert_eq!(members.1.len(), 1, "{members:?}");
    let arguments = ["run", "pipeline.yaml", "--dry-run", "40", "--format", "json", "--wait", "60s"];
    let mut trial = Process::start(portcullis(folder.path()).args(arguments));
    trial.wait_for_line("dry_run", LIMIT);
    let mut sent = 0;
    // What comes before it has read the group's positions it does not see.
    bridge.wait_until("the dry run has what it wants", LIMIT, || {
        produce(
            "beside.in",
            None,
            (0..20).map(|number| (format!("k{}", sent + number), json!({ "id": 1 }).to_string())),
        );
        sent += 20;
        trial.status().is_some()
    });
    let ended = trial.finish(LIMIT);
    assert_eq!(ended.code(), 0, "{ended:?}");
    let (lines, _) = told(&ended);
    assert!(lines.len() == 40 && lines.iter().all(|line| line["destination"]["to"] == "sink"), "{lines:#?}");
    bridge.wait_until("all of them arrive", LIMIT, || kafka.count("beside.out") >= sent);
    assert_eq!(group.members(), members, "nobody joined and nobody left");
    let assigned = bridge.stderr().lines().filter(|line| line.contains("assigned")).count();
    assert_eq!(assigned, 2, "each partition once\n{}", bridge.stderr());
    bridge.signal("TERM");
    assert_eq!(bridge.finish(LIMIT).code(), 0);
    assert_eq!(kafka.count("beside.out"), sent, "each of them once");
}

#[test]
fn a_group_that_has_no_position_has_none_after_a_dry_run_from_the_end_either() {
    topics("fresh", 2);
    produce("fresh.in", None, (1..5).map(order));
    let folder = TempDir::new().unwrap();
    fs::write(folder.path().join("pipeline.yaml"), checked("fresh", ", start: latest")).unwrap();
    let (lines, _) = told(&dry(folder.path(), &["10", "--wait", "2s"]));
    assert!(lines.is_empty(), "what is there is not new: {lines:#?}");
    let group = Group::of("fresh", "fresh.in", 2);
    assert_eq!((group.committed(), group.members().0), (vec!["Invalid".to_owned(); 2], String::new()));
}

#[test]
fn what_would_not_begin_fails_as_a_run_would() {
    topics("wrong", 1);
    let folder = TempDir::new().unwrap();
    fs::write(folder.path().join("pipeline.yaml"), checked("wrong", "").replace("wrong.out", "not.there")).unwrap();
    let arguments = ["run", "pipeline.yaml", "--dry-run", "1"];
    let ended = Process::start(portcullis(folder.path()).args(arguments)).finish(LIMIT);
    assert!(ended.code() == 1 && ended.stdout.contains("`not.there`"), "{ended:?}");
    assert!(!Kafka::shared().has_topic("not.there"));
    let ended = Process::start(portcullis(folder.path()).args(["run", "pipeline.yaml", "--payload"])).finish(LIMIT);
    assert!(ended.code() == 2 && ended.stderr.contains("--dry-run"), "{ended:?}");
}

#[test]
fn a_consumer_of_a_stream_and_a_stream_that_is_not_there_stay_as_they_are() {
    let nats = Nats::start();
    let folder = TempDir::new().unwrap();
    let url = nats.url();
    let pipeline = format!(
        "pipeline: p\n\
         source: {{ jetstream: {{ servers: {url}, stream: S, consumer: c, filter_subjects: [s.a, s.b], create_stream: {{ subjects: ['s.*'], retention: work_queue }}, create_consumer: {{}} }} }}\n\
         sink: {{ jetstream: {{ servers: {url}, subject: 'out.{{{{header.to}}}}', allow: 'out.*', stream: T, create_stream: {{ subjects: ['out.*', dlq] }} }} }}\n\
         dead_letter: {{ jetstream: {{ servers: {url}, subject: dlq, stream: T }} }}\n"
    );
    let first = pipeline
        .replace("'out.{{header.to}}', allow: 'out.*', stream: T", "first, stream: F")
        .replace("'out.*', dlq", "first, dlq")
        .replace("subject: dlq, stream: T", "subject: dlq, stream: F");
    let mut bridge = start(folder.path(), &first);
    bridge.wait_until("the stream is there", LIMIT, || nats.store("s.a", &[], b"1"));
    bridge.wait_until("one has passed", LIMIT, || nats.count("F") >= 1);
    bridge.signal("TERM");
    assert_eq!(bridge.finish(LIMIT).code(), 0);
    let passed = nats.consumer("S", "c").ack_floor.stream_sequence;
    for (subject, to) in [("s.a", "eu"), ("s.c", "eu"), ("s.b", "us"), ("s.b", "x.y")] {
        assert!(nats.store(subject, &[("to", to)], MARK.as_bytes()));
    }
    fs::write(folder.path().join("pipeline.yaml"), &pipeline).unwrap();
    let state = || {
        let info = nats.consumer("S", "c");
        (info.delivered.stream_sequence, info.ack_floor.stream_sequence, info.num_ack_pending, info.num_pending)
    };
    let before = (state(), nats.consumers("S"), nats.count("S"));
    let ended = dry(folder.path(), &["10", "--wait", "2s"]);
    assert_eq!((state(), nats.consumers("S"), nats.count("S")), before, "nothing has moved");
    assert_eq!(nats.consumers("T"), None, "the sink's stream was not made");
    let (lines, _) = told(&ended);
    let seen: Vec<(u64, &str, Value)> = (lines.iter())
        .map(|line| {
            let subject = line["message"]["channel"].as_str().unwrap();
            let destination = &line["destination"];
            let to = match destination["to"].as_str().unwrap() {
                "sink" => json!([destination["subject"], destination["stream"]]),
                _ => json!([destination["subject"], destination["kind"]]),
            };
            (line["source"]["offset"].as_u64().unwrap() - passed, subject, to)
        })
        .collect();
    let expected = [
        (1, "s.a", json!(["out.eu", "T"])),
        (3, "s.b", json!(["out.us", "T"])),
        (4, "s.b", json!(["dlq", "sink_rejected"])),
    ];
    let mut seen = seen;
    seen.sort_by_key(|(offset, ..)| *offset);
    assert_eq!(seen, expected, "{lines:#?}");
    assert!(!ended.stdout.contains(MARK));
}

#[test]
fn a_dry_run_takes_nothing_from_a_queue_group() {
    let nats = Nats::start();
    let folder = TempDir::new().unwrap();
    let pipeline = format!(
        "pipeline: p\nsource: {{ nats: {{ servers: {}, subjects: [a.*], queue_group: g }} }}\nsink: {{ file: {{ path: out.jsonl }} }}\n",
        nats.url()
    );
    let mut bridge = start(folder.path(), &pipeline);
    let out = || fs::read_to_string(folder.path().join("out.jsonl")).unwrap_or_default().lines().count();
    let mut early = 0;
    bridge.wait_until("the bridge is subscribed", LIMIT, || {
        nats.publish("a.b", "early");
        early += 1;
        out() > 0
    });
    let arguments = ["run", "pipeline.yaml", "--dry-run", "5", "--format", "json", "--wait", "60s"];
    let mut trial = Process::start(portcullis(folder.path()).args(arguments));
    let mut sent = 0;
    bridge.wait_until("the dry run has what it wants", LIMIT, || {
        nats.publish("a.c", "late");
        sent += 1;
        trial.status().is_some()
    });
    assert_eq!(told(&trial.finish(LIMIT)).0.len(), 5);
    let text = || fs::read_to_string(folder.path().join("out.jsonl")).unwrap_or_default();
    bridge.wait_until("the bridge has every one", LIMIT, || text().matches("late").count() == sent);
    bridge.signal("TERM");
    assert_eq!(bridge.finish(LIMIT).code(), 0);
}

#[test]
fn files_are_read_from_their_position_and_none_is_written() {
    let folder = TempDir::new().unwrap();
    let line = |number: usize| json!({ "key": number.to_string(), "value": number.to_string() }).to_string() + "\n";
    fs::write(folder.path().join("in.jsonl"), (0..4).map(line).collect::<String>()).unwrap();
    let pipeline =
        "pipeline: p\nsource: { file: { path: in.jsonl, position: position } }\nsink: { file: { path: out.jsonl } }\n";
    fs::write(folder.path().join("pipeline.yaml"), pipeline).unwrap();
    let (lines, _) = told(&dry(folder.path(), &["3"]));
    assert_eq!(lines.len(), 3);
    for name in ["position", "out.jsonl", "portcullis-audit.jsonl"] {
        assert!(!folder.path().join(name).exists(), "{name}");
    }
    assert_eq!(start(folder.path(), pipeline).finish(LIMIT).code(), 0);
    let position = fs::read(folder.path().join("position")).unwrap();
    let all = (0..6).map(line).collect::<String>();
    fs::write(folder.path().join("in.jsonl"), all).unwrap();
    let (lines, summary) = told(&dry(folder.path(), &["10", "--payload"]));
    let values: Vec<&Value> = lines.iter().map(|line| &line["payload"]["value"]).collect();
    assert_eq!((json!(values), &summary["ended"]), (json!(["4", "5"]), &json!(["the source has ended"])));
    assert_eq!(fs::read(folder.path().join("position")).unwrap(), position);
    assert_eq!(fs::read_to_string(folder.path().join("out.jsonl")).unwrap().lines().count(), 4);
}

#[test]
fn requests_of_plugins_are_withheld_and_marked_unless_they_are_let_out_with_their_evidence() {
    let body = r#"{"rate":2}"#;
    let head =
        format!("HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: {}\r\n\r\n{body}", body.len());
    let server = Server::start(move |_| Answer::Whole(head.clone()));
    let folder = TempDir::new().unwrap();
    let pipeline = json!({
        "pipeline": "p",
        "source": { "file": { "path": "in.jsonl" } },
        "plugins": [{
            "name": "rates", "component": guest("http-enrich"),
            "config": { "url": format!("http://{}/{{{{/id}}}}", server.address), "take": { "/rate": "/rate" }, "on_error": "reject" },
            "grants": { "egress": [{ "allow": format!("http://{}", server.address) }], "clock": "coarse" },
            "limits": { "restarts": "1/min" },
        }],
        "sink": { "file": { "path": "out.jsonl" } },
        "dead_letter": { "file": { "path": "dead.jsonl" } },
    });
    let line = |number: usize| json!({ "value": json!({ "id": number }).to_string() }).to_string() + "\n";
    fs::write(folder.path().join("in.jsonl"), (0..4).map(line).collect::<String>()).unwrap();
    fs::write(folder.path().join("pipeline.yaml"), pipeline.to_string()).unwrap();
    let node = format!(
        "egress: {{ consent: [127.0.0.0/8] }}\naudit: {{ file: audit.jsonl }}\npipelines_may_name: {{ files: [\"{}/**\"] }}\n",
        guests().display()
    );
    fs::write(folder.path().join("portcullis.yaml"), node).unwrap();
    let ended = dry(folder.path(), &["10"]);
    let (lines, summary) = told(&ended);
    assert_eq!(server.connections(), 0, "nothing has left");
    assert_eq!(lines.len(), 4);
    for line in &lines {
        // No fault of the plugin: it was not let out.
        assert!(line["egress_withheld"].as_u64() >= Some(1), "{line:#}");
        assert_eq!(line["egress_withheld"], line["plugins"][0]["egress_withheld"]);
        assert_ne!(line["destination"]["code"], "quarantined", "{line:#}");
    }
    assert!(summary["egress_withheld"].as_u64() >= Some(4), "{summary}");
    assert!(!folder.path().join("audit.jsonl").exists());
    let text = Process::start(portcullis(folder.path()).args(["run", "pipeline.yaml", "--dry-run", "1"])).finish(LIMIT);
    assert!(text.stdout.contains("--allow-egress") && text.stdout.contains("withheld by this dry run"), "{text:?}");

    let (lines, _) = told(&dry(folder.path(), &["10", "--allow-egress", "--payload"]));
    assert!(server.connections() > 0, "they were let out");
    for line in &lines {
        assert_eq!((&line["destination"]["to"], line.get("egress_withheld")), (&json!("sink"), None), "{line:#}");
        assert!(line["payload"]["value"].as_str().unwrap().contains("\"rate\":2"), "{line:#}");
    }
    let audit = fs::read_to_string(folder.path().join("audit.jsonl")).unwrap();
    assert_eq!(audit.matches("\"http.request\"").count(), 4, "{audit}");
    assert!(audit.contains("plugin.linked") && audit.contains("audit.stop"), "{audit}");
    assert!(!folder.path().join("out.jsonl").exists() && !folder.path().join("dead.jsonl").exists());
}

#[test]
fn what_was_withheld_is_counted_at_the_message_that_asked_also_where_there_are_several_sources() {
    const MESSAGES: usize = 200;
    let folder = TempDir::new().unwrap();
    let pipeline = json!({
        "pipeline": "p",
        "source": [{ "file": { "path": "asks.jsonl" } }, { "file": { "path": "silent.jsonl" } }],
        "plugins": [{
            "name": "rates", "component": guest("http-enrich"),
            "config": { "url": "http://127.0.0.1:1/{{/id}}", "take": { "/rate": "/rate" }, "on_error": "reject" },
            "grants": { "egress": [{ "allow": "http://127.0.0.1:1" }], "clock": "coarse" },
            "limits": { "deadline": "30s" },
        }],
        "sink": { "file": { "path": "out.jsonl" } },
        "dead_letter": { "file": { "path": "dead.jsonl" } },
    });
    let line = |value: Value| json!({ "value": value.to_string() }).to_string() + "\n";
    let write = |name: &str, value: Value| fs::write(folder.path().join(name), line(value).repeat(MESSAGES)).unwrap();
    write("asks.jsonl", json!({ "id": 1 }));
    write("silent.jsonl", json!({ "no": 1 }));
    fs::write(folder.path().join("pipeline.yaml"), pipeline.to_string()).unwrap();
    let node = format!(
        "egress: {{ consent: [127.0.0.0/8] }}\npipelines_may_name: {{ files: [\"{}/**\"] }}\n",
        guests().display()
    );
    fs::write(folder.path().join("portcullis.yaml"), node).unwrap();
    let (lines, summary) = told(&dry(folder.path(), &["1000"]));
    assert_eq!(lines.len(), 2 * MESSAGES, "{summary}");
    let channels: Vec<&str> = lines.iter().map(|line| line["source"]["channel"].as_str().unwrap()).collect();
    assert!(channels.is_sorted(), "one source after the other: {channels:?}");
    for line in &lines {
        let asks = line["source"]["channel"] == "asks.jsonl";
        assert_eq!(line["egress_withheld"].as_u64(), asks.then_some(1), "{line:#}");
    }
    assert_eq!(summary["egress_withheld"], MESSAGES, "{summary}");
}

#[test]
fn a_payload_is_shown_whole_up_to_the_bound_that_a_tap_has_too() {
    let folder = TempDir::new().unwrap();
    let value = "\u{1}".repeat(60_000) + "END";
    fs::write(folder.path().join("in.jsonl"), json!({ "value": value }).to_string() + "\n").unwrap();
    let pipeline = "pipeline: p\nsource: { file: { path: in.jsonl } }\nsink: { file: { path: out.jsonl } }\n";
    fs::write(folder.path().join("pipeline.yaml"), pipeline).unwrap();
    let run = |bytes: &str| {
        let arguments = ["run", "pipeline.yaml", "--dry-run", "1", "--payload", "--bytes", bytes];
        Process::start(portcullis(folder.path()).args(arguments)).finish(LIMIT)
    };
    let whole = run("64KiB");
    assert!(whole.code() == 0 && whole.stdout.contains("END\"}"), "{} bytes", whole.stdout.len());
    let more = run("65KiB");
    assert!(more.code() == 2 && more.stderr.contains("1 to 64KiB"), "{more:?}");
}
