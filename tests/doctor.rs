//! `portcullis doctor` on a real Kafka and a real nats-server: what it says is compared with what the brokers say.

use std::fs;
use std::net::TcpListener;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::time::{Duration, Instant};

use serde_json::Value;
use tempfile::TempDir;

use crate::support::kafka::Kafka;
use crate::support::nats::Nats;
use crate::support::process::{Finished, Process, portcullis};
use crate::support::python;

const LIMIT: Duration = Duration::from_secs(120);

/// From `NAME.in` to `NAME.out`, with dead letters and the audit in topics of the same cluster.
fn folder(name: &str, brokers: &str) -> TempDir {
    folder_with(name, &format!("{{ brokers: \"{brokers}\" }}"), "")
}

fn folder_with(name: &str, cluster: &str, of_sink: &str) -> TempDir {
    let folder = TempDir::new().unwrap();
    let pipeline = format!(
        "pipeline: {name}\nsource: {{ kafka: {{ profile: main, topics: [{name}.in], group: {name} }} }}\n\
         sink: {{ kafka: {{ profile: main, topic: {name}.out{of_sink} }} }}\n\
         dead_letter: {{ kafka: {{ profile: main, topic: {name}.dlq }} }}\n"
    );
    fs::write(folder.path().join("pipeline.yaml"), pipeline).unwrap();
    let node =
        format!("brokers: {{ main: {{ kafka: {cluster} }} }}\naudit: {{ topic: {name}.audit, profile: main }}\n");
    fs::write(folder.path().join("portcullis.yaml"), node).unwrap();
    folder
}

fn doctor(folder: &Path, more: &[&str]) -> Finished {
    Process::start(portcullis(folder).args(["doctor", "pipeline.yaml"]).args(more)).finish(LIMIT)
}

/// Status, check and the whole line of each finding.
fn findings(finished: &Finished) -> Vec<(String, String, String)> {
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let finding = |one: &Value| {
        let advice = one["do"].as_str().map(|advice| format!("; {advice}")).unwrap_or_default();
        let line = format!("{}: {}{advice}", text(&one["what"]), text(&one["found"]));
        (text(&one["status"]), text(&one["check"]), line)
    };
    finished.json()["findings"].as_array().unwrap().iter().map(finding).collect()
}

fn examined(folder: &Path, more: &[&str]) -> (i32, Vec<(String, String, String)>) {
    let finished = doctor(folder, &[&["--format", "json"], more].concat());
    (finished.code(), findings(&finished))
}

fn lines<'a>(findings: &'a [(String, String, String)], status: &str, check: &str) -> Vec<&'a str> {
    let fits = |found: &&(String, String, String)| found.0 == status && found.1 == check;
    findings.iter().filter(fits).map(|(.., line)| line.as_str()).collect()
}

#[test]
fn missing_topics_are_made_as_asked_then_all_is_well_and_a_second_run_changes_nothing() {
    let kafka = Kafka::start();
    let folder = folder("made", kafka.brokers());
    let topics = ["made.in", "made.out", "made.dlq", "made.audit"];

    let (code, before) = examined(folder.path(), &[]);
    assert_eq!(code, 1, "{before:#?}");
    let missing = lines(&before, "fail", "topic.exists");
    assert_eq!(missing.len(), 4, "{before:#?}");
    for (topic, role) in topics.into_iter().zip(["source of", "sink of", "dead letters of", "audit"]) {
        let line = missing.iter().find(|line| line.contains(topic)).unwrap();
        assert!(line.contains(role) && line.contains("doctor --create-topics"), "{line}");
        assert!(!kafka.has_topic(topic), "looking has made {topic}");
    }

    let asked = ["--create-topics", "--partitions", "3", "--retention", "2d", "--dead-letter-retention", "5d"];
    let (code, made) = examined(folder.path(), &asked);
    assert_eq!(code, 0, "{made:#?}");
    assert_eq!(lines(&made, "made", "topic.made").len(), 4, "{made:#?}");
    let day = 24 * 3600 * 1000_i64;
    for (topic, partitions, retention_ms) in
        [("made.in", 3, 2 * day), ("made.out", 3, 2 * day), ("made.dlq", 3, 5 * day), ("made.audit", 1, -1)]
    {
        assert_eq!(kafka.partitions(topic), partitions, "{topic}");
        assert_eq!(kafka.setting(topic, "retention.ms"), retention_ms.to_string(), "{topic}");
        assert_eq!(kafka.setting(topic, "cleanup.policy"), "delete", "{topic}");
        let line = lines(&made, "made", "topic.made").into_iter().find(|line| line.contains(topic)).unwrap().to_owned();
        assert!(line.contains(&format!("made with {partitions} partition")), "{line}");
        assert!(line.contains(&format!("retention.ms={retention_ms}")), "{line}");
    }
    assert_eq!(kafka.setting("made.audit", "retention.bytes"), "-1");

    let (code, after) = examined(folder.path(), &[]);
    assert_eq!((code, lines(&after, "ok", "topic.exists").len()), (0, 4), "{after:#?}");

    let (code, again) = examined(folder.path(), &["--create-topics", "--partitions", "9", "--retention", "1d"]);
    assert_eq!(code, 0, "{again:#?}");
    assert_eq!(lines(&again, "made", "topic.made").len(), 0, "{again:#?}");
    assert_eq!(lines(&again, "kept", "topic.made").len(), 4, "{again:#?}");
    assert_eq!((kafka.partitions("made.in"), kafka.partitions("made.audit")), (3, 1));
    assert_eq!(kafka.setting("made.in", "retention.ms"), (2 * day).to_string());
}

#[test]
fn a_sinks_topic_is_made_with_the_partitions_of_its_source_and_none_for_a_template() {
    let kafka = Kafka::shared();
    kafka.create_topic("like.in", 5, &[]);
    let folder = folder("like", kafka.brokers());
    let (_, found) = examined(folder.path(), &["--create-topics"]);
    assert_eq!(lines(&found, "kept", "topic.made").len(), 1, "{found:#?}");
    assert_eq!((kafka.partitions("like.out"), kafka.partitions("like.dlq")), (5, 5), "{found:#?}");

    let text = fs::read_to_string(folder.path().join("pipeline.yaml")).unwrap();
    let text = text.replace("topic: like.out", "topic: \"like.{{header.to}}\", allow: [\"like.*\"]");
    fs::write(folder.path().join("pipeline.yaml"), text).unwrap();
    let (code, found) = examined(folder.path(), &["--create-topics"]);
    assert_eq!(code, 0, "{found:#?}");
    let skipped = lines(&found, "skip", "topic.made");
    assert!(
        matches!(skipped[..], [line] if line.contains("sink of like") && line.contains("none was made")),
        "{found:#?}"
    );
}

#[test]
fn a_cluster_that_is_away_is_one_line_within_its_time_and_everything_else_is_looked_at() {
    let kafka = Kafka::shared();
    for end in ["in", "dlq", "audit"] {
        kafka.create_topic(&format!("away.{end}"), 1, &[]);
    }
    let folder = folder("away", kafka.brokers());
    // Bound and not listening: whoever connects is refused, and nobody else gets the port.
    let nobody = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let nats = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let text = fs::read_to_string(folder.path().join("pipeline.yaml")).unwrap();
    let text = text.replace("profile: main, topic: away.out", &format!("brokers: \"{nobody}\", topic: away.out"));
    fs::write(folder.path().join("pipeline.yaml"), text).unwrap();
    let other = format!(
        "pipeline: other\nsource: {{ kafka: {{ profile: main, topics: [away.in], group: other }} }}\n\
         sink: {{ nats: {{ servers: \"nats://{nats}\", subject: s }} }}\n"
    );
    fs::write(folder.path().join("other.yaml"), other).unwrap();
    let began = Instant::now();
    let (code, found) = examined(folder.path(), &["other.yaml", "--timeout", "3s"]);
    assert!(began.elapsed() < Duration::from_secs(30), "{:?}", began.elapsed());
    assert_eq!(code, 1, "{found:#?}");
    let away = lines(&found, "fail", "kafka.reachable");
    assert!(
        matches!(away[..], [line] if line.contains(&nobody.to_string()) && line.contains("away.out") && line.contains("refused")),
        "{found:#?}"
    );
    let away = lines(&found, "fail", "nats.reachable");
    assert!(
        matches!(away[..], [line] if line.contains(&nats.to_string()) && line.contains("sink of other")),
        "{found:#?}"
    );
    let fails = found.iter().filter(|(status, ..)| status == "fail").count();
    assert_eq!(fails, 2, "{found:#?}");
    assert_eq!(lines(&found, "ok", "topic.exists").len(), 3, "{found:#?}");
    for check in ["config", "version", "clock", "cache", "limit.files", "limit.cores"] {
        assert!(!lines(&found, "ok", check).is_empty(), "{check} is missing in {found:#?}");
    }
}

#[test]
fn an_audit_topic_that_forgets_fails_and_so_does_a_topic_that_takes_less_than_the_sink_sends() {
    let kafka = Kafka::shared();
    kafka.create_topic("unsafe.in", 1, &[]);
    kafka.create_topic("unsafe.out", 1, &[("max.message.bytes", "500000")]);
    kafka.create_topic("unsafe.dlq", 1, &[("cleanup.policy", "compact")]);
    kafka.create_topic("unsafe.audit", 1, &[("cleanup.policy", "compact,delete"), ("retention.ms", "3600000")]);
    let folder = folder("unsafe", kafka.brokers());
    let (code, found) = examined(folder.path(), &["--create-topics"]);
    assert_eq!(code, 1, "{found:#?}");
    let compacted = lines(&found, "fail", "topic.cleanup");
    assert_eq!(compacted.len(), 2, "{found:#?}");
    assert!(compacted.iter().any(|line| line.contains("unsafe.audit") && line.contains("evidence")), "{compacted:?}");
    assert!(compacted.iter().any(|line| line.contains("unsafe.dlq") && line.contains("dead letter")), "{compacted:?}");
    let small = lines(&found, "fail", "topic.max_message_bytes");
    assert!(
        matches!(small[..], [line] if line.contains("unsafe.out") && line.contains("500000") && line.contains("1000000")),
        "{found:#?}"
    );
    let short = lines(&found, "warn", "topic.retention");
    assert!(matches!(short[..], [line] if line.contains("unsafe.audit") && line.contains("3600000")), "{found:#?}");
    assert_eq!(kafka.setting("unsafe.out", "max.message.bytes"), "500000", "an existing topic was changed");

    let text = fs::read_to_string(folder.path().join("pipeline.yaml")).unwrap();
    let text = text.replace("topic: unsafe.out", "topic: unsafe.out, max_message_bytes: 500000");
    fs::write(folder.path().join("pipeline.yaml"), text).unwrap();
    let (_, found) = examined(folder.path(), &[]);
    assert_eq!(lines(&found, "fail", "topic.max_message_bytes").len(), 0, "{found:#?}");
}

#[test]
fn a_cache_folder_that_others_may_write_fails_with_its_mode() {
    let folder = TempDir::new().unwrap();
    let pipeline = "pipeline: p\nsource: { file: { path: in.jsonl } }\nsink: { file: { path: out.jsonl } }\n";
    fs::write(folder.path().join("pipeline.yaml"), pipeline).unwrap();
    let cache = folder.path().join("portcullis/components");
    let examined = || {
        let mut command = portcullis(folder.path());
        command.env("XDG_CACHE_HOME", folder.path()).args(["doctor", "pipeline.yaml", "--format", "json"]);
        let finished = Process::start(&mut command).finish(LIMIT);
        (finished.code(), findings(&finished))
    };
    let (code, found) = examined();
    assert_eq!((code, lines(&found, "ok", "cache").len()), (0, 1), "{found:#?}");
    fs::set_permissions(&cache, fs::Permissions::from_mode(0o777)).unwrap();
    let (code, found) = examined();
    let failed = lines(&found, "fail", "cache");
    assert_eq!(code, 1, "{found:#?}");
    assert!(matches!(failed[..], [line] if line.contains("777") && line.contains("chmod 700")), "{found:#?}");
}

#[test]
fn the_lines_and_the_json_say_the_same() {
    let kafka = Kafka::shared();
    let folder = folder("same", kafka.brokers());
    let (text, json) = (doctor(folder.path(), &[]), doctor(folder.path(), &["--format", "json"]));
    assert_eq!((text.code(), json.code()), (1, 1), "{text:?}");
    // Free room changes from one to the other.
    let stable = |line: &String| !line.contains("cache ");
    let mut expected: Vec<String> =
        findings(&json).into_iter().map(|(status, _, line)| format!("{status:<4} {line}")).filter(stable).collect();
    let all = json.json();
    assert_eq!((all["ok"].as_bool(), all["fail"].as_u64()), (Some(false), Some(4)), "{all:#}");
    let oks = findings(&json).iter().filter(|(status, ..)| status == "ok").count();
    expected.push(format!("{} fail, {} warn, {oks} ok", all["fail"], all["warn"]));
    let lines: Vec<String> = text.stdout.lines().map(str::to_owned).filter(stable).collect();
    assert_eq!(lines, expected);
}

#[test]
fn a_broken_file_is_a_line_with_its_place_and_the_brokers_are_looked_at_all_the_same() {
    let kafka = Kafka::shared();
    let folder = folder("broken", kafka.brokers());
    let plugin = "plugins: [{ name: none, component: missing.wasm }]\n";
    let text = fs::read_to_string(folder.path().join("pipeline.yaml")).unwrap();
    fs::write(folder.path().join("pipeline.yaml"), text + plugin).unwrap();
    let (code, found) = examined(folder.path(), &[]);
    assert_eq!(code, 1);
    let wrong = lines(&found, "fail", "config");
    assert!(!wrong.is_empty() && wrong.iter().all(|line| line.contains("pipeline.yaml:")), "{found:#?}");
    assert_eq!(lines(&found, "fail", "topic.exists").len(), 4, "{found:#?}");
    let (code, found) = examined(folder.path(), &["--create-topics"]);
    assert_eq!((code, lines(&found, "skip", "topic.made").len()), (1, 1), "{found:#?}");
    assert!(!kafka.has_topic("broken.in"), "a topic was made for a file that is refused");
    fs::write(folder.path().join("portcullis.yaml"), "brokers: [").unwrap();
    let (code, found) = examined(folder.path(), &[]);
    assert_eq!(code, 1);
    assert!(!lines(&found, "fail", "config").is_empty() && !lines(&found, "ok", "version").is_empty(), "{found:#?}");
}

#[test]
fn a_right_that_the_broker_does_not_give_fails_and_one_that_it_gives_is_seen() {
    // Clear text is the administrator; whoever proves a password has what the lists give him.
    let kafka = Kafka::start_with(
        "authorizer.class.name=org.apache.kafka.metadata.authorizer.StandardAuthorizer\nsuper.users=User:ANONYMOUS",
    );
    for end in ["in", "out", "dlq", "audit"] {
        kafka.create_topic(&format!("acl.{end}"), 1, &[]);
    }
    let cluster = format!(
        "{{ brokers: \"{}\", sasl: {{ mechanism: PLAIN, username: bridge, password: {{ env: PASSWORD }} }} }}",
        kafka.sasl_brokers()
    );
    let folder = folder_with("acl", &cluster, "");
    let examined = |password: &str| {
        let mut command = portcullis(folder.path());
        command.env("PASSWORD", password).args(["doctor", "pipeline.yaml", "--format", "json", "--timeout", "20s"]);
        let finished = Process::start(&mut command).finish(LIMIT);
        (finished.code(), findings(&finished))
    };
    let allow = |rights: &[&str]| {
        let rights: Vec<&str> = rights.iter().flat_map(|right| ["--allow", *right]).collect();
        let arguments = [&["--brokers", kafka.brokers(), "--user", "bridge"], &rights[..]].concat();
        let finished = python::client("allow.py", &arguments, LIMIT);
        assert_eq!(finished.code(), 0, "{finished:?}");
    };

    let began = Instant::now();
    let (code, found) = examined("wrong");
    assert_eq!(code, 1);
    let refused = lines(&found, "fail", "kafka.reachable");
    assert!(
        matches!(refused[..], [line] if line.contains("uthentication") && line.contains("as bridge")),
        "{found:#?}"
    );
    assert!(began.elapsed() < Duration::from_secs(15), "a refused password is waited for: {:?}", began.elapsed());
    assert!(found.iter().all(|(.., line)| !line.contains("wrong")), "{found:#?}");

    let (code, found) = examined("right");
    assert_eq!(code, 1);
    let hidden = lines(&found, "fail", "topic.exists");
    assert!(hidden.len() == 4 && hidden.iter().all(|line| line.contains("does not let us see")), "{found:#?}");
    assert_eq!(lines(&found, "fail", "group.rights").len(), 1, "{found:#?}");

    allow(&[
        "topic:acl.in:READ",
        "topic:acl.out:DESCRIBE",
        "topic:acl.dlq:WRITE",
        "topic:acl.audit:WRITE",
        "group:acl:READ",
    ]);
    // The broker's lists reach its authorizer a moment after they were taken.
    let deadline = Instant::now() + LIMIT;
    let (code, found) = loop {
        let (code, found) = examined("right");
        let all_seen =
            lines(&found, "fail", "topic.exists").is_empty() && !lines(&found, "ok", "group.rights").is_empty();
        if all_seen || Instant::now() > deadline {
            break (code, found);
        }
    };
    assert_eq!(code, 1, "{found:#?}");
    let refused = lines(&found, "fail", "topic.rights");
    assert!(matches!(refused[..], [line] if line.contains("acl.out") && line.contains("`Write`")), "{found:#?}");
    assert_eq!(lines(&found, "ok", "topic.rights").len(), 3, "{found:#?}");
    assert_eq!(lines(&found, "ok", "group.rights").len(), 1, "{found:#?}");
    let unseen = lines(&found, "warn", "topic.settings");
    assert!(unseen.len() == 4 && unseen.iter().all(|line| line.contains("cannot be seen")), "{found:#?}");

    allow(&["topic:acl.out:WRITE", "topic:acl.audit:DELETE"]);
    let deadline = Instant::now() + LIMIT;
    let (code, found) = loop {
        let (code, found) = examined("right");
        if code == 0 || Instant::now() > deadline {
            break (code, found);
        }
    };
    assert_eq!(code, 0, "{found:#?}");
    let deletable = lines(&found, "warn", "topic.rights");
    assert!(matches!(deletable[..], [line] if line.contains("acl.audit")), "{found:#?}");
}

#[test]
fn a_broker_that_advertises_an_address_that_nobody_reaches_is_named() {
    // A free port of ours could be another test's a moment later.
    let nobody = "127.0.0.1:1";
    let advertised = format!("advertised.listeners=PLAINTEXT://{nobody},SASL://127.0.0.1:{{{{sasl_port}}}}");
    let kafka = Kafka::start_with(&advertised);
    let folder = folder("advertised", kafka.brokers());
    let (code, found) = examined(folder.path(), &["--timeout", "4s"]);
    assert_eq!(code, 1);
    // librdkafka may go where the broker says that it is before it has answered us.
    let named = [lines(&found, "fail", "kafka.broker"), lines(&found, "fail", "kafka.reachable")].concat();
    assert!(
        matches!(named[..], [line, ..] if line.contains(nobody) && line.contains("advertised.listeners")),
        "{found:#?}"
    );
}

#[test]
fn streams_and_consumers_are_looked_for_and_those_that_the_file_creates_are_left_to_the_start() {
    let nats = Nats::start();
    let folder = TempDir::new().unwrap();
    let pipeline = |source: &str, sink: &str| {
        let url = nats.url();
        let text = format!(
            "pipeline: p\nsource: {{ jetstream: {{ servers: \"{url}\", stream: IN, consumer: c{source} }} }}\n\
             sink: {{ jetstream: {{ servers: \"{url}\", stream: OUT, subject: out.a{sink} }} }}\n"
        );
        fs::write(folder.path().join("pipeline.yaml"), text).unwrap();
    };
    pipeline("", "");
    let (code, found) = examined(folder.path(), &["--create-topics"]);
    assert_eq!(code, 1, "{found:#?}");
    let missing = lines(&found, "fail", "nats.stream");
    assert!(missing.len() == 2 && missing.iter().all(|line| line.contains("create_stream")), "{found:#?}");
    let server = lines(&found, "ok", "nats.reachable");
    assert!(matches!(server[..], [line] if line.contains("nats-server 2.")), "{found:#?}");
    assert_eq!(lines(&found, "ok", "nats.jetstream").len(), 1, "{found:#?}");

    pipeline(
        ", create_stream: { subjects: [in] }, create_consumer: {}",
        ", create_stream: { subjects: [\"out.*\"], storage: memory }",
    );
    let (code, found) = examined(folder.path(), &["--create-topics"]);
    assert_eq!(code, 0, "{found:#?}");
    assert!(lines(&found, "ok", "nats.stream").iter().all(|line| line.contains("at the start")), "{found:#?}");
    assert_eq!(nats.count("IN"), 0);

    let mut bridge = Process::start(portcullis(folder.path()).args([
        "run",
        "pipeline.yaml",
        "--admin",
        "127.0.0.1:0",
        "--audit-file",
        "a.jsonl",
    ]));
    bridge.wait_for_line("created the consumer", LIMIT);
    bridge.wait_until("the sink's stream is there", LIMIT, || {
        let (_, found) = examined(folder.path(), &[]);
        !lines(&found, "ok", "nats.subject").is_empty()
    });
    bridge.signal("TERM");
    assert_eq!(bridge.finish(LIMIT).code(), 0);
    let (code, found) = examined(folder.path(), &[]);
    assert_eq!(code, 0, "{found:#?}");
    assert_eq!(lines(&found, "ok", "nats.consumer").len(), 1, "{found:#?}");
    let memory = lines(&found, "warn", "nats.stream");
    assert!(matches!(memory[..], [line] if line.contains("OUT") && line.contains("in memory")), "{found:#?}");
    assert!(lines(&found, "ok", "clock").iter().any(|line| line.contains("against nats")), "{found:#?}");
    let rights = lines(&found, "ok", "nats.rights");
    assert!(rights.iter().any(|line| line.contains("$JS.ACK.IN.c.>")), "{found:#?}");
}

#[test]
fn a_right_that_depends_on_the_message_is_not_said_to_be_there() {
    let nats = Nats::start();
    let folder = TempDir::new().unwrap();
    let pipeline = format!(
        "pipeline: p\nsource: {{ nats: {{ servers: \"{url}\", subjects: [a.*] }} }}\n\
         sink: {{ jetstream: {{ servers: \"{url}\", subject: \"out.{{{{header.to}}}}\", allow: \"out.*\", stream: OUT, create_stream: {{ subjects: [\"out.*\"] }} }} }}\n",
        url = nats.url()
    );
    fs::write(folder.path().join("pipeline.yaml"), pipeline).unwrap();
    let (code, found) = examined(folder.path(), &[]);
    assert_eq!(code, 0, "{found:#?}");
    let unknown = lines(&found, "skip", "nats.rights");
    assert!(
        matches!(unknown[..], [line] if line.contains("sink of p") && line.contains("publishing was not checked")),
        "{found:#?}"
    );
}

#[test]
fn servers_that_say_nothing_are_asked_at_the_same_time_and_no_longer_than_was_said() {
    const SERVERS: usize = 6;
    // Each takes connections and never says a word.
    let silent: Vec<TcpListener> = (0..SERVERS).map(|_| TcpListener::bind("127.0.0.1:0").unwrap()).collect();
    let folder = TempDir::new().unwrap();
    let mut files = Vec::new();
    for (number, pair) in silent.chunks(2).enumerate() {
        let [one, other] = [0, 1].map(|end| pair[end].local_addr().unwrap());
        let pipeline = format!(
            "pipeline: p{number}\nsource: {{ nats: {{ servers: \"nats://{one}\", subjects: [a], timeout: 60s }} }}\n\
             sink: {{ nats: {{ servers: \"nats://{other}\", subject: b, timeout: 60s }} }}\n"
        );
        files.push(format!("p{number}.yaml"));
        fs::write(folder.path().join(format!("p{number}.yaml")), pipeline).unwrap();
    }
    let began = Instant::now();
    let mut command = portcullis(folder.path());
    command.arg("doctor").args(&files).args(["--format", "json", "--timeout", "4s"]);
    let finished = Process::start(&mut command).finish(LIMIT);
    let took = began.elapsed();
    let found = findings(&finished);
    assert_eq!(lines(&found, "fail", "nats.reachable").len(), SERVERS, "{found:#?}");
    // One after the other they would take 24 s, and as the pipelines say it a minute.
    assert!(took < Duration::from_secs(20), "{took:?}");
}
