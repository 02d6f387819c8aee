//! Mistakes, one in a file that is good without it.

use std::collections::BTreeMap;
use std::fs;

use serde_json::Value;
use tempfile::TempDir;

use super::{Kind, LIMIT, check, document, verdicts};

const PIPELINE: &str = r#"
pipeline: base
order: key
lanes: 2
source:
  kafka: { brokers: "127.0.0.1:9092", topics: [a, b], group: base, start: earliest, session_timeout: 30s }
plugins:
  - name: stamp
    component: "${GUESTS}/stamp.wasm"
    on: { reject: dead_letter, fault: drop, retry: { attempts: 3, backoff: 100ms..1s } }
    limits: { deadline: 1s, memory: 64MiB, restarts: 5/min }
  - name: rates
    component: "${GUESTS}/http-enrich.wasm"
    config: { url: "https://rates.example.com/v1/x", take: { /a: /b } }
    grants:
      clock: coarse
      egress:
        - { allow: "https://rates.example.com", methods: [GET], paths: ["/v1/"], ttl: 5s..60s }
    limits: { connections: 4, connects: 10/s, egress_bytes: 1MiB/s }
sink:
  jetstream:
    servers: ["nats://127.0.0.1:4222"]
    auth: { user: bridge, password: secret }
    subject: "a.{{key}}"
    allow: ["a.*"]
    stream: A
    create_stream: { subjects: ["a.>"], replicas: 1, duplicate_window: 2m }
dead_letter:
  kafka: { topic: a.dlq, compression: zstd }
queue: { messages: 100, bytes: 1MiB }
drain: 10s
"#;

/// What is typed instead of what, and the code of `check`.
type Mistake = (&'static str, &'static str, &'static str);

const IN_A_PIPELINE: &[Mistake] = &[
    // Unknown keys, at each depth.
    ("order: key", "ordering: key", "key.unknown"),
    ("group: base", "groups: base", "key.unknown"),
    ("deadline: 1s", "dead_line: 1s", "key.unknown"),
    ("clock: coarse", "kv: true", "grant.not_available"),
    ("methods: [GET]", "verbs: [GET]", "key.unknown"),
    ("duplicate_window: 2m", "dupe_window: 2m", "key.unknown"),
    ("drain: 10s", "audit: { file: x }", "setting.not_available"),
    // What must be there.
    ("pipeline: base\n", "", "key.missing"),
    ("component: \"${GUESTS}/stamp.wasm\"", "digest: \"${D:-x}\"", "key.missing"),
    ("topics: [a, b], ", "", "key.missing"),
    ("servers: [\"nats://127.0.0.1:4222\"]", "domain: hub", "key.missing"),
    ("    stream: A\n", "", "key.missing"),
    ("brokers: \"127.0.0.1:9092\", ", "", "key.missing"),
    ("allow: [\"a.*\"]", "domain: hub", "key.missing"),
    // Types.
    ("pipeline: base", "pipeline: 7", "type.wrong"),
    ("lanes: 2", "lanes: two", "type.wrong"),
    ("lanes: 2", "lanes: \"2\"", "type.wrong"),
    ("topics: [a, b]", "topics: {}", "type.wrong"),
    ("source:\n  kafka", "source: kafka\nx:\n  kafka", "type.wrong"),
    ("limits: { deadline: 1s, memory: 64MiB, restarts: 5/min }", "limits: 64MiB", "type.wrong"),
    ("plugins:\n", "plugins: stamp\nrest:\n", "type.wrong"),
    // Words.
    ("order: key", "order: keys", "value.invalid"),
    ("order: key", "delivery: exactly_once", "setting.not_available"),
    ("start: earliest", "start: beginning", "value.invalid"),
    ("fault: drop", "fault: ignore", "value.invalid"),
    ("clock: coarse", "clock: exact", "value.invalid"),
    ("clock: coarse", "random: false", "value.invalid"),
    ("compression: zstd", "compression: brotli", "value.invalid"),
    // One of two, both or none.
    ("topics: [a, b]", "topics: [a, b], profile: main", "key.conflict"),
    ("user: bridge", "token: t, user: bridge", "key.conflict"),
    ("user: bridge, ", "", "key.conflict"),
    ("topic: a.dlq", "topic: a.dlq, tls: {}", "key.conflict"),
    ("  kafka: { topic: a.dlq", "  file: { path: x }\n  kafka: { topic: a.dlq", "key.conflict"),
    ("subject: \"a.{{key}}\"", "subject: a.b", "key.conflict"),
    ("limits: { deadline: 1s", "limits: { connections: 4, deadline: 1s", "key.conflict"),
    (
        "- { allow: \"https://rates.example.com\", methods: [GET], paths: [\"/v1/\"]",
        "- { allow: \"tls://rates.example.com\", secrets: { a: { env: GUESTS } }",
        "key.conflict",
    ),
    (
        "      egress:\n        - { allow: \"https://rates.example.com\", methods: [GET], paths: [\"/v1/\"], ttl: 5s..60s }",
        "      egress_mode: enforce",
        "key.conflict",
    ),
    // Numbers, sizes, durations and rates.
    ("lanes: 2", "lanes: 0", "value.invalid"),
    ("lanes: 2", "lanes: 257", "value.invalid"),
    ("attempts: 3", "attempts: -1", "value.invalid"),
    ("memory: 64MiB", "memory: -1", "value.invalid"),
    ("memory: 64MiB", "memory: 64MB", "value.invalid"),
    ("memory: 64MiB", "memory: 1.5GiB", "value.invalid"),
    ("deadline: 1s", "deadline: 1", "value.invalid"),
    ("deadline: 1s", "deadline: 1sec", "value.invalid"),
    ("drain: 10s", "drain: 1m30s", "value.invalid"),
    ("backoff: 100ms..1s", "backoff: 100ms-1s", "value.invalid"),
    ("restarts: 5/min", "restarts: 5", "value.invalid"),
    ("connects: 10/s", "connects: 0/s", "value.invalid"),
    ("egress_bytes: 1MiB/s", "egress_bytes: fast", "value.invalid"),
    ("messages: 100", "messages: 0", "value.invalid"),
    ("replicas: 1", "replicas: 6", "value.invalid"),
    // Names and addresses.
    ("pipeline: base", "pipeline: Base", "value.invalid"),
    ("topics: [a, b]", "topics: [a b]", "value.invalid"),
    ("topics: [a, b]", "topics: []", "value.invalid"),
    ("topics: [a, b]", "topics: [a, a]", "name.duplicate"),
    ("topic: a.dlq", "topic: \"a.{{key}}\"", "value.invalid"),
    ("brokers: \"127.0.0.1:9092\"", "brokers: \"kafka://127.0.0.1:9092\"", "value.invalid"),
    ("nats://127.0.0.1:4222", "127.0.0.1:4222", "value.invalid"),
    ("nats://127.0.0.1:4222", "nats://bridge:secret@127.0.0.1:4222", "value.invalid"),
    ("subject: \"a.{{key}}\"", "subject: \"a.{{value}}\"", "value.invalid"),
    ("subjects: [\"a.>\"]", "subjects: [\"a.>.b\"]", "value.invalid"),
    ("    stream: A\n", "    stream: A.B\n", "value.invalid"),
    ("name: stamp", "name: stamp\n    digest: sha256:0", "value.invalid"),
    // Rules of egress.
    ("allow: \"https://rates.example.com\"", "allow: rates.example.com", "scheme_unknown"),
    ("allow: \"https://rates.example.com\"", "allow: \"ftp://rates.example.com\"", "scheme_unknown"),
    (
        "- { allow: \"https://rates.example.com\", methods: [GET], paths: [\"/v1/\"]",
        "- { allow: \"tcp://rates.example.com\"",
        "port_missing",
    ),
    ("methods: [GET]", "methods: [get]", "method_invalid"),
    ("methods: [GET]", "methods: [CONNECT]", "method_invalid"),
    ("paths: [\"/v1/\"]", "paths: [\"v1/\"]", "path_invalid"),
    ("ttl: 5s..60s", "ttl: soon", "ttl_invalid"),
    // Where it leads.
    ("dead_letter:\n  kafka: { topic: a.dlq, compression: zstd }\n", "", "dead_letter.missing"),
    (
        "  kafka: { topic: a.dlq, compression: zstd }",
        "  nats: { servers: \"nats://n\", subject: s }",
        "connector.not_available",
    ),
    (
        "  kafka: { brokers: \"127.0.0.1:9092\", topics: [a, b], group: base, start: earliest, session_timeout: 30s }",
        "  file: { path: in.jsonl }",
        "key.missing",
    ),
];

const NODE: &str = r#"
mode: development
brokers:
  main: { kafka: { brokers: "127.0.0.1:9092", sasl: { mechanism: PLAIN, username: bridge, password: secret } } }
audit: { topic: portcullis.audit, profile: main, mode: buffered, deadline: 5s }
admin: { listen: "127.0.0.1:0" }
cache: { enabled: true }
log: { format: text, level: info }
egress: { dns: { servers: ["10.0.0.2:53"], timeout: 5s }, deny: ["tcp://10.0.0.0/8:22"], consent: ["127.0.0.1/32"] }
ceilings: { egress: ["https://*.example.com"], clock: coarse, random: false, log: info }
limits: { memory: 1GiB, connections: 100 }
tenants:
  acme: { limits: { memory: 512MiB, cpu_share: 2 }, deny: ["https://private.example.com"] }
  globex:
pipelines_may_name: { env: [], files: ["../plugins/**"] }
"#;

const IN_A_NODE: &[Mistake] = &[
    ("mode: development", "modes: development", "key.unknown"),
    ("admin: { listen", "admin: { port: 1, listen", "key.unknown"),
    ("cpu_share: 2", "cpu: 2", "key.unknown"),
    ("limits: { memory: 1GiB", "limits: { cpu_share: 2, memory: 1GiB", "key.conflict"),
    ("username: bridge, ", "", "key.missing"),
    ("enabled: true", "enabled: maybe", "type.wrong"),
    ("deny: [\"tcp://10.0.0.0/8:22\"]", "deny: \"tcp://10.0.0.0/8:22\"", "type.wrong"),
    (
        "ceilings: { egress: [\"https://*.example.com\"]",
        "ceilings: { egress: [{ allow: \"https://a.example.com\" }]",
        "type.wrong",
    ),
    ("connections: 100", "connections: many", "type.wrong"),
    ("mode: development", "mode: prod", "value.invalid"),
    ("mode: buffered", "mode: strict", "setting.not_available"),
    ("level: info", "level: verbose", "value.invalid"),
    ("mechanism: PLAIN", "mechanism: plain", "value.invalid"),
    ("profile: main", "profile: main, file: audit.jsonl", "key.conflict"),
    ("profile: main", "profile: main, brokers: \"k:9092\"", "key.conflict"),
    ("password: secret", "password: { env: A, file: b }", "key.conflict"),
    ("listen: \"127.0.0.1:0\"", "listen: localhost", "value.invalid"),
    ("timeout: 5s", "timeout: 5", "value.invalid"),
    ("memory: 512MiB", "memory: -1", "value.invalid"),
    ("cpu_share: 2", "cpu_share: 0", "value.invalid"),
    ("consent: [\"127.0.0.1/32\"]", "consent: []", "value.invalid"),
    ("  main: {", "  Main: {", "value.invalid"),
    ("  acme: {", "  Acme: {", "value.invalid"),
    ("topic: portcullis.audit", "topic: \"portcullis audit\"", "value.invalid"),
];

fn with(base: &str, (from, to, _): &Mistake) -> String {
    assert!(base.contains(from), "{from}");
    base.replacen(from, to, 1)
}

/// The good file is accepted and no other.
fn refused_by_the_schema(kind: Kind, base: &str, mistakes: &[Mistake]) {
    let documents: Vec<Value> = [base.to_owned()]
        .into_iter()
        .chain(mistakes.iter().map(|mistake| with(base, mistake)))
        .map(|text| document(&text))
        .collect();
    let verdicts = verdicts(kind, &documents);
    assert_eq!(verdicts[0]["valid"], true, "{:#}", verdicts[0]);
    let let_through: Vec<&Mistake> = mistakes
        .iter()
        .zip(&verdicts[1..])
        .filter(|(_, verdict)| verdict["valid"] == true)
        .map(|(mistake, _)| mistake)
        .collect();
    assert!(
        let_through.is_empty(),
        "the schema lets through {} of {}: {let_through:#?}",
        let_through.len(),
        mistakes.len()
    );
}

/// The codes by file.
fn codes(found: &str) -> BTreeMap<String, Vec<String>> {
    let found: Vec<Value> = serde_json::from_str(found).unwrap_or_else(|error| panic!("{error}: {found}"));
    let mut codes: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for one in &found {
        let text = |name: &str| one[name].as_str().unwrap().to_owned();
        codes.entry(text("file")).or_default().push(text("code"));
    }
    codes
}

#[test]
fn mistakes_in_a_pipeline_that_check_refuses_are_refused_by_the_schema() {
    let folder = TempDir::new().unwrap();
    let name = |number: usize| format!("{number:03}.yaml");
    fs::write(folder.path().join("base.yaml"), PIPELINE).unwrap();
    let checked = check(folder.path(), &["base.yaml"]).finish(LIMIT);
    assert_eq!(checked.code(), 0, "{checked:?}");
    for (number, mistake) in IN_A_PIPELINE.iter().enumerate() {
        fs::write(folder.path().join(name(number)), with(PIPELINE, mistake)).unwrap();
    }
    fs::remove_file(folder.path().join("base.yaml")).unwrap();
    let checked = check(folder.path(), &["."]).finish(LIMIT);
    assert_eq!(checked.code(), 2, "{checked:?}");
    let found = codes(&checked.stdout);
    for (number, mistake) in IN_A_PIPELINE.iter().enumerate() {
        let found = found.iter().find(|(file, _)| file.ends_with(&name(number))).map(|(_, codes)| codes.as_slice());
        let found = found.unwrap_or_default();
        assert!(found.iter().any(|code| code == mistake.2), "{mistake:?}: {found:?}");
    }
    refused_by_the_schema(Kind::Pipeline, PIPELINE, IN_A_PIPELINE);
}

#[test]
fn mistakes_in_the_nodes_file_that_check_refuses_are_refused_by_the_schema() {
    let folder = TempDir::new().unwrap();
    fs::write(folder.path().join("pipeline.yaml"), "pipeline: p\ntenant: acme\nsource: { stdio: }\nsink: { stdio: }\n")
        .unwrap();
    let node = |text: String| {
        fs::write(folder.path().join("portcullis.yaml"), text).unwrap();
        check(folder.path(), &["pipeline.yaml"]).finish(LIMIT)
    };
    let checked = node(NODE.to_owned());
    assert_eq!(checked.code(), 0, "{checked:?}");
    for mistake in IN_A_NODE {
        let checked = node(with(NODE, mistake));
        assert_eq!(checked.code(), 2, "{mistake:?}: {checked:?}");
        let found = codes(&checked.stdout);
        assert!(found.values().flatten().any(|code| code == mistake.2), "{mistake:?}: {found:?}");
    }
    refused_by_the_schema(Kind::Node, NODE, IN_A_NODE);
}
