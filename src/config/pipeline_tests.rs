use std::path::{Path, PathBuf};
use std::time::Duration;

use proptest::prelude::*;

use crate::*;

const MINIMAL: &str = "pipeline: p\nsource: { stdio: {} }\nsink: { stdio: {} }\n";

fn load(text: &str) -> Result<Pipeline, Diagnostics> {
    load_pipeline(Path::new("dir/p.yaml"), text.as_bytes(), &[("PORT", "9092"), ("LANES", "4"), ("SECRET", "hunter2")])
}

/// Code, line, column and help of every error.
fn errors(text: &str) -> Vec<(&'static str, usize, usize, String)> {
    let found = load(text).expect_err(text);
    found.iter().map(|d| (d.code.as_str(), d.at.line, d.at.col, d.help.clone().unwrap_or_default())).collect()
}

/// The errors of a plugin entry, with lines counted from its first.
fn plugin_errors(plugin: &str) -> Vec<(&'static str, usize, usize)> {
    let text = format!("{MINIMAL}plugins:\n  - name: x\n    component: x.wasm\n{plugin}");
    errors(&text).into_iter().map(|(code, line, col, _)| (code, line - 6, col)).collect()
}

/// The single error of a pipeline whose part `find` is replaced.
fn error_of(key: &str, value: &str) -> (&'static str, String, String) {
    let text = format!("{MINIMAL}{key}: {value}\n");
    let found = load(&text).expect_err(&text);
    assert_eq!(found.len(), 1, "{found}");
    let error = found.into_iter().next().unwrap();
    (error.code.as_str(), error.message, error.help.unwrap_or_default())
}

const FULL: &str = r#"
pipeline: orders
tenant: acme
delivery: at_least_once
order: key
lanes: ${LANES}
source:
  - kafka: { brokers: "${BROKERS:-127.0.0.1:9092}", topics: [orders.raw], group: orders, start: latest, on_out_of_range: earliest,
             isolation: read_uncommitted, session_timeout: 30s, group_instance_id: a-1,
             tls: { ca: ca.pem, cert: /c.pem, key: k.pem },
             sasl: { mechanism: SCRAM-SHA-512, username: pc, password: { env: SECRET } },
             librdkafka: { fetch.min.bytes: 1, debug: "cgrp" } }
  - file: { path: in.jsonl, position: in.position }
  - generator: { count: 10, rate: 100, seed: 7, key: "k{{seq}}", value: "", headers: { a: x, b: ~ } }
  - stdio: {}
plugins:
  - name: order-schema
    component: ../plugins/json-schema.wasm
    digest: sha256:0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef
    config: { schema: { type: object, n: [1, -2, 1.5, true, ~, "3"] } }
    on: { reject: drop, fault: stop, retry: { attempts: 5, backoff: 100ms..10s }, drop: allow }
    grants: { log: info, clock: coarse, random: true }
    limits: { deadline: 50ms, fuel: 60000000, memory: 16MiB, output: 2MiB, log: 1KiB, host_calls: 10, handles: 5, restarts: 1/min }
    instance: lane
  - name: stamp
    component: stamp.wasm
sink:
  kafka: { profile: main, topic: "orders.{{key}}", allow: ["orders.*"], compression: zstd, linger: 20ms, max_message_bytes: 2MiB }
dead_letter: { kafka: { topic: orders.dlq } }
queue: { messages: 100, bytes: 1MiB }
window: { messages: 200, bytes: 2MiB }
drain: 5s
"#;

#[test]
fn every_key_of_a_pipeline_is_read() {
    let p = load(FULL).unwrap_or_else(|found| panic!("{found}"));
    assert_eq!((p.name.as_str(), p.name.at.line, p.name.at.col), ("orders", 2, 11));
    assert_eq!(p.lanes.as_ref().map(|lanes| lanes.get()), Some(4));
    let Source::Kafka(kafka) = &p.sources[0].value else { panic!() };
    assert_eq!(
        kafka.connection.cluster,
        Cluster::Brokers(Located::new(
            "127.0.0.1:9092".into(),
            match &kafka.connection.cluster {
                Cluster::Brokers(brokers) => brokers.at.clone(),
                Cluster::Profile(_) => panic!(),
            }
        ))
    );
    assert_eq!(kafka.topics[0].value, "orders.raw");
    assert_eq!((kafka.start.value, kafka.on_out_of_range.value), (Start::Latest, OutOfRange::Earliest));
    let sasl = kafka.connection.sasl.as_ref().unwrap();
    assert_eq!((sasl.mechanism.as_str(), sasl.password.expose()), ("SCRAM-SHA-512", "hunter2"));
    let tls = kafka.connection.tls.as_ref().unwrap();
    assert_eq!(tls.ca.as_ref().map(|ca| ca.value.clone()), Some(PathBuf::from("dir/ca.pem")));
    assert_eq!(tls.cert.as_ref().map(|cert| cert.value.clone()), Some(PathBuf::from("/c.pem")));
    let passed =
        |index: usize| (kafka.connection.librdkafka[index].0.as_str(), kafka.connection.librdkafka[index].1.expose());
    assert_eq!([passed(0), passed(1)], [("fetch.min.bytes", "1"), ("debug", "cgrp")]);
    let Source::Generator(generator) = &p.sources[2].value else { panic!() };
    assert_eq!(generator.headers, [("a".into(), Some("x".into())), ("b".into(), None)]);
    assert_eq!(generator.rate.as_ref().map(|rate| rate.to_string()), Some("100/s".into()));
    assert_eq!(generator.value.as_ref().map(|value| value.as_str()), Some(""));
    let plugin = &p.plugins[0];
    assert_eq!(plugin.component.value, PathBuf::from("dir/../plugins/json-schema.wasm"));
    let config = &plugin.config.as_ref().unwrap().value;
    assert_eq!(config.to_json(), r#"{"schema":{"n":[1,-2,1.5,true,null,"3"],"type":"object"}}"#);
    assert_eq!((plugin.on.reject.value, plugin.on.fault.value), (Disposition::Drop, Disposition::Stop));
    assert!(plugin.on.may_drop.value && plugin.grants.random.is_some());
    assert_eq!(plugin.limits.deadline.value, Duration::from_millis(50));
    assert_eq!((plugin.limits.memory_bytes.value, plugin.limits.restarts.count), (16 << 20, 1));
    assert_eq!(p.plugins[1].on.reject, Setting::default_of(Disposition::DeadLetter));
    let Sink::Kafka(sink) = &p.sink.value else { panic!() };
    assert_eq!((sink.topic.to_string().as_str(), sink.allow.len()), ("orders.{{key}}", 1));
    assert_eq!((p.queue.messages.value, p.window.bytes.value, p.drain.value), (100, 2 << 20, Duration::from_secs(5)));
}

#[test]
fn a_dead_letter_queue_has_the_cluster_of_the_kafka_source() {
    let p = load(FULL).unwrap();
    let (Source::Kafka(source), Some(Sink::Kafka(dead))) = (&p.sources[0].value, p.dead_letter.map(|sink| sink.value))
    else {
        panic!()
    };
    assert_eq!(dead.connection.cluster, source.connection.cluster);
    assert_eq!(dead.connection.sasl, source.connection.sasl);
    assert!(dead.connection.librdkafka.is_empty());
    let other = format!("{MINIMAL}dead_letter: {{ kafka: {{ topic: d }} }}");
    assert_eq!(errors(&other)[0].0, "key.missing");
}

#[test]
fn what_is_not_typed_has_its_default() {
    let p = load(&format!("{MINIMAL}plugins: [{{ name: x, component: x.wasm }}]\n")).unwrap();
    assert_eq!((p.order.value, p.delivery.value), (Order::Key, Delivery::AtLeastOnce));
    assert!(p.lanes.is_none() && p.tenant.is_none() && p.dead_letter.is_none());
    assert_eq!((p.queue.messages.value, p.queue.bytes.value), (10_000, 16 << 20));
    assert_eq!((p.window.messages.value, p.window.bytes.value), (100_000, 64 << 20));
    assert_eq!(p.drain, Setting::default_of(Duration::from_secs(30)));
    let plugin = &p.plugins[0];
    assert_eq!((plugin.on.reject.value, plugin.on.fault.value), (Disposition::Stop, Disposition::Stop));
    assert!(!plugin.on.may_drop.value);
    assert_eq!(plugin.grants, Grants::default());
    assert_eq!(plugin.limits.deadline.value, Duration::from_millis(250));
    assert_eq!((plugin.limits.fuel.value, plugin.limits.memory_bytes.value), (50_000_000, 64 << 20));
    let kafka = load("pipeline: p\nsource: { kafka: { brokers: b, topics: t } }\nsink: { stdio: }\n").unwrap();
    let Source::Kafka(kafka) = &kafka.sources[0].value else { panic!() };
    assert_eq!((kafka.group.as_str(), kafka.start.value), ("p", Start::Earliest));
}

#[test]
fn three_mistakes_give_three_positions_and_three_lists_of_what_is_allowed() {
    let text = "pipeline: p\norder: kee\nsource: { kafka: { brokers: b:1, topic: t, topics: [t] } }\nsink: { stdio: {} }\nplugins:\n  - name: x\n    component: x.wasm\n    on: { fault: dead_letters }\n    limits: { deadline: 50 }\n";
    let found = errors(text);
    let places: Vec<_> = found.iter().map(|(code, line, col, _)| (*code, *line, *col)).collect();
    assert_eq!(
        places,
        [("value.invalid", 2, 8), ("key.unknown", 3, 34), ("value.invalid", 8, 18), ("value.invalid", 9, 25)]
    );
    assert_eq!(found[0].3, "allowed: key, partition, none; did you mean `key`?");
    assert!(found[1].3.starts_with("allowed: brokers, profile, tls") && found[1].3.ends_with("did you mean `topics`?"));
    assert_eq!(found[2].3, "allowed: dead_letter, drop, stop; did you mean `dead_letter`?");
    assert_eq!(found[3].3, "allowed: 1ms to 10m");
}

#[test]
fn an_error_is_shown_with_its_line_a_caret_and_what_is_allowed() {
    let found = load("pipeline: p\norder: kee\nsource: { stdio: {} }\nsink: { stdio: {} }\n").unwrap_err();
    let expected = "dir/p.yaml:2:8: error[value.invalid]: `kee` is not allowed here\n\
                    2 | order: kee\n  |        ^\n  \
                    help: allowed: key, partition, none; did you mean `key`?\n";
    assert_eq!(found.render(false), expected);
    assert!(found.render(true).contains("\x1b[1;31merror[value.invalid]\x1b[0m"));
    assert_eq!(
        found.to_json(),
        serde_json::json!([{ "code": "value.invalid", "file": "dir/p.yaml", "line": 2, "col": 8,
            "message": "`kee` is not allowed here", "help": "allowed: key, partition, none; did you mean `key`?" }])
    );
}

#[test]
fn a_control_character_or_a_long_line_does_not_reach_the_terminal() {
    let long = format!(
        "pipeline: p\nsource: {{ stdio: {{}} }}\nsink: {{ stdio: {{}} }} # {}\n\"{}\\e[2J\": 1\n",
        "x".repeat(99),
        "y".repeat(500)
    );
    let rendered = load(&long).unwrap_err().render(false);
    assert!(!rendered.contains('\x1b') && rendered.lines().all(|line| line.len() < 600), "{rendered}");
}

#[test]
fn bad_input_is_refused_with_its_code_and_place() {
    for (text, code, line, col) in [
        ("", "key.missing", 1, 1),
        ("# only this\n", "key.missing", 1, 1),
        ("---\n", "key.missing", 1, 1),
        ("- a\n", "type.wrong", 1, 1),
        ("pipeline: [p\n", "yaml.syntax", 1, 11),
        ("pipeline: p\n\tsource: x\n", "yaml.syntax", 1, 11),
        ("pipeline: p\npipeline: q\nsource: {stdio: }\nsink: {stdio: }\n", "key.duplicate", 2, 1),
        ("pipeline: ${NONE}\nsource: {stdio: }\nsink: {stdio: }\n", "env.missing", 1, 11),
        ("pipeline: P\nsource: {stdio: }\nsink: {stdio: }\n", "value.invalid", 1, 11),
        ("pipeline: 5\nsource: {stdio: }\nsink: {stdio: }\n", "type.wrong", 1, 11),
        ("pipeline: p\nsource: []\nsink: {stdio: }\n", "value.invalid", 2, 9),
        ("pipeline: p\nsource: {}\nsink: {stdio: }\n", "key.missing", 2, 9),
        ("pipeline: p\nsource: {stdio: }\nsink: {stdio: , file: {path: x}}\n", "key.conflict", 3, 17),
        ("pipeline: p\nsource: {kafkaa: {}}\nsink: {stdio: }\n", "key.unknown", 2, 10),
        ("pipeline: p\nsource: {stdio: }\n", "key.missing", 1, 1),
    ] {
        let found = errors(text);
        let first = found.iter().find(|error| error.0 == code);
        assert_eq!(first.map(|error| (error.1, error.2)), Some((line, col)), "{text}{found:?}");
        assert_eq!(found.len(), 1, "{text}{found:?}");
    }
    let latin = load_pipeline(Path::new("p.yaml"), b"pipeline: caf\xe9\n", &NoEnvironment).unwrap_err();
    assert!(latin.render(false).starts_with("p.yaml:1:14: error[file.encoding]: the byte 0xe9 is not UTF-8\n"));
}

#[test]
fn a_value_of_a_pipeline_key_says_what_is_allowed() {
    for (key, value, code, message, help) in [
        ("delivery", "exactly_once", "setting.not_available", "exactly_once", "at_least_once"),
        ("lanes", "0", "value.invalid", "out of range", "1 to 256"),
        ("lanes", "\"4\"", "type.wrong", "whole number", "without quotes"),
        ("lanes", "many", "type.wrong", "whole number", "1 to 256"),
        ("tenant", "42", "type.wrong", "expected text, found a number", "\"42\""),
        ("queue", "{ messages: 1_000 }", "type.wrong", "1_000", "without `_`"),
        ("queue", "{ bytes: 16MB }", "value.invalid", "no size", "1KiB to 64GiB"),
        ("queue", "5", "type.wrong", "is a map, found a number", "key: value"),
        ("drain", "1d", "value.invalid", "no duration", "0ms to 4m"),
        ("drain", "", "type.wrong", "found nothing", "default"),
        ("audit", "{}", "setting.not_available", "node", "portcullis.yaml"),
        ("plugin", "[]", "key.unknown", "has no key `plugin`", "did you mean `plugins`?"),
        ("plugins", "{}", "type.wrong", "expected a list, found a map", "[a, b]"),
        ("dead_letter", "{ stdio: }", "", "", ""),
    ] {
        if code.is_empty() {
            assert!(load(&format!("{MINIMAL}{key}: {value}\n")).is_ok());
            continue;
        }
        let (found, text, allowed) = error_of(key, value);
        assert_eq!(found, code, "{key}: {value}: {text}");
        assert!(text.contains(message) && allowed.contains(help), "{key}: {value}: {text} / {allowed}");
    }
}

#[test]
fn a_value_of_a_plugin_key_is_refused_at_its_place() {
    for (plugin, code, line, col) in [
        ("    on: { fault: dead_letter }\n", "dead_letter.missing", 1, 18),
        ("    on: { drop: true }\n", "value.invalid", 1, 17),
        ("    on: { retry: { backoff: 10s..1s } }\n", "value.invalid", 1, 29),
        ("    grants: { secrets: {} }\n", "grant.not_available", 1, 15),
        ("    grants: { kv: {} }\n", "grant.not_available", 1, 15),
        ("    grants: { filesystem: / }\n", "grant.not_available", 1, 15),
        ("    grants: { environment: [A] }\n", "grant.not_available", 1, 15),
        ("    grants: { random: false }\n", "value.invalid", 1, 23),
        ("    grants: { clock: exact }\n", "value.invalid", 1, 22),
        ("    grants: [log]\n", "type.wrong", 1, 13),
        ("    limits: { queue: 5 }\n", "limit.not_enforced", 1, 15),
        ("    limits: { instances: 4 }\n", "limit.not_enforced", 1, 15),
        ("    limits: { concurrency: 257 }\n", "value.invalid", 1, 28),
        ("    limits: { egress_bytes: 1MiB/s }\n", "key.conflict", 1, 15),
        ("    limits: { memory: 1KiB }\n", "value.invalid", 1, 23),
        ("    limits: { deadline: 11m }\n", "value.invalid", 1, 25),
        ("    limits: { restarts: 5 }\n", "value.invalid", 1, 25),
        ("    instance: call\n", "value.invalid", 1, 15),
        ("    digest: sha256:00\n", "value.invalid", 1, 13),
        ("    config: { x: .nan }\n", "value.invalid", 1, 18),
        ("    config: { x: { $file: none.json } }\n", "file.unreadable", 1, 27),
        ("  - name: x\n    component: y\n", "name.duplicate", 1, 11),
        ("  - component: y\n", "key.missing", 1, 5),
    ] {
        assert_eq!(plugin_errors(plugin), [(code, line, col)], "{plugin}");
    }
}

#[test]
fn a_value_of_a_kafka_key_is_refused_with_its_code() {
    for (kafka, code) in [
        ("{ brokers: b, topics: [] }", "value.invalid"),
        ("{ brokers: b, topics: [a b] }", "value.invalid"),
        ("{ brokers: b, topics: [^a.*] }", "value.invalid"),
        ("{ brokers: b, topics: [a, a] }", "name.duplicate"),
        ("{ brokers: \"b:x\", topics: [a] }", "value.invalid"),
        ("{ brokers: \"b:1,,c\", topics: [a] }", "value.invalid"),
        ("{ topics: [a] }", "key.missing"),
        ("{ brokers: b, profile: p, topics: [a] }", "key.conflict"),
        ("{ profile: p, tls: {}, topics: [a] }", "key.conflict"),
        ("{ brokers: b, topics: [a], tls: { cert: c } }", "key.conflict"),
        ("{ brokers: b, topics: [a], tls: { verify: false } }", "setting.not_available"),
        ("{ brokers: b, topics: [a], sasl: { mechanism: MD5, username: u, password: p } }", "value.invalid"),
        ("{ brokers: b, topics: [a], sasl: { mechanism: PLAIN, username: u } }", "key.missing"),
        (
            "{ brokers: b, topics: [a], sasl: { mechanism: PLAIN, username: u, password: { env: NONE } } }",
            "env.missing",
        ),
        ("{ brokers: b, topics: [a], sasl: { mechanism: PLAIN, username: u, password: {} } }", "key.conflict"),
        ("{ brokers: b, topics: [a], librdkafka: [a] }", "type.wrong"),
    ] {
        let found = errors(&format!("pipeline: p\nsource: {{ kafka: {kafka} }}\nsink: {{ stdio: }}\n"));
        assert_eq!(found.iter().map(|error| error.0).collect::<Vec<_>>(), [code], "{kafka}");
    }
    for brokers in ["\"[::1]:9092\"", "k1", "\"k1:1, k2:2\"", "[\"k1:1\", k2]"] {
        let text =
            format!("pipeline: p\nsource: {{ kafka: {{ brokers: {brokers}, topics: a }} }}\nsink: {{ stdio: }}\n");
        assert!(load(&text).is_ok(), "{brokers}");
    }
}

#[test]
fn a_topic_that_messages_choose_needs_its_allow_list_and_a_fixed_one_has_none() {
    for (sink, code) in [
        ("sink: { kafka: { brokers: b, topic: \"a.{{key}}\" } }", "key.missing"),
        ("sink: { kafka: { brokers: b, topic: a, allow: [a] } }", "key.conflict"),
        ("sink: { kafka: { brokers: b, topic: \"{{value}}\", allow: [a] } }", "value.invalid"),
        ("sink: { kafka: { brokers: b, topic: \"{{key}}\", allow: [\"a?\"] } }", "value.invalid"),
        (
            "sink: { stdio: }\ndead_letter: { kafka: { brokers: b, topic: \"{{key}}\", allow: [\"*\"] } }",
            "value.invalid",
        ),
    ] {
        let found = errors(&format!("pipeline: p\nsource: {{ stdio: }}\n{sink}\n"));
        assert_eq!(found.iter().map(|error| error.0).collect::<Vec<_>>(), [code], "{sink}");
    }
}

#[test]
fn a_secret_is_in_no_error_and_in_no_debug_output() {
    let source = |sasl: &str| {
        format!("pipeline: p\nsource: {{ kafka: {{ brokers: b, topics: t, sasl: {sasl} }} }}\nsink: {{ stdio: }}\n")
    };
    for sasl in [
        "{ mechanism: MD5, username: u, password: hunter2 }",
        "{ mechanism: PLAIN, username: u, passwort: hunter2 }",
        "{ mechanism: PLAIN, username: u, password: [hunter2] }",
        "{ mechanism: PLAIN, username: u, password: { env: SECRET, file: hunter2 } }",
        "{ mechanism: \"${SECRET}\", username: u, password: x }",
        "hunter2",
    ] {
        let rendered = load(&source(sasl)).unwrap_err();
        let all = format!("{}{}{rendered:?}", rendered.render(false), rendered.to_json());
        assert!(!all.replace("file: hunter2", "").contains("hunter2"), "{all}");
    }
    for password in ["hunter2", "\"${SECRET}\"", "{ env: SECRET }"] {
        let pipeline = load(&source(&format!("{{ mechanism: PLAIN, username: u, password: {password} }}"))).unwrap();
        assert!(!format!("{pipeline:?}").contains("hunter2"));
    }
    let config =
        format!("{MINIMAL}plugins: [{{ name: x, component: x, config: {{ key: \"${{SECRET}}\" }} }}]\nlanes: x\n");
    assert!(!format!("{:?}", load(&config)).contains("hunter2"));
    let levels = format!("{MINIMAL}order: ${{SECRET}}\nlanes: ${{SECRET}}\ndrain: ${{SECRET}}\n");
    assert!(!load(&levels).unwrap_err().render(false).contains("hunter2"));
}

#[test]
fn a_file_in_a_config_is_inlined_from_the_folder_of_the_pipeline_file() {
    let folder = tempfile::tempdir().unwrap();
    let write = |name: &str, text: &str| std::fs::write(folder.path().join(name), text).unwrap();
    write("a.json", r#"{"type": "object", "x": "${NONE}"}"#);
    write("b.yaml", "list: [1, { $file: a.json }]\n");
    write("bad.json", "{\n  \"a\": }");
    write("bad.yaml", "a: [\n");
    write("text.txt", "x");
    write("password", "hunter2\n");
    let load = |text: &str| load_pipeline(&folder.path().join("p.yaml"), text.as_bytes(), &NoEnvironment);
    let plugin = |config: &str| load(&format!("{MINIMAL}plugins: [{{ name: x, component: x, config: {config} }}]\n"));
    let json = |config: &str| plugin(config).unwrap().plugins[0].config.as_ref().unwrap().to_json();
    assert_eq!(json("{ schema: { $file: a.json } }"), r#"{"schema":{"type":"object","x":"${NONE}"}}"#);
    assert_eq!(json("{ $file: b.yaml }"), r#"{"list":[1,{"$file":"a.json"}]}"#);
    assert_eq!(json("{ a: { $file: x, b: 1 } }"), r#"{"a":{"$file":"x","b":1}}"#);
    let found = plugin("[{ $file: bad.json }, { $file: bad.yaml }, { $file: text.txt }]").unwrap_err();
    assert_eq!(found.len(), 3, "{found}");
    assert!(found.render(false).contains("bad.json:2:8: not JSON"), "{found}");
    let sasl = "{ mechanism: PLAIN, username: u, password: { file: password } }";
    let pipeline = load(&format!(
        "pipeline: p\nsource: {{ kafka: {{ brokers: b, topics: t, sasl: {sasl} }} }}\nsink: {{ stdio: }}\n"
    ));
    let Source::Kafka(kafka) = &pipeline.unwrap().sources[0].value.clone() else { panic!() };
    assert_eq!(kafka.connection.sasl.as_ref().unwrap().password.expose(), "hunter2");
}

#[test]
fn what_may_be_kept_of_a_config_is_what_was_typed() {
    let config = |text: &str| {
        let pipeline = load(&format!("{MINIMAL}plugins: [{{ name: x, component: x, config: {text} }}]\n")).unwrap();
        pipeline.plugins[0].config.clone().unwrap().value
    };
    let found = config(r#"{ a: ["x-${SECRET}", 2], b: "$$", c: { d: 1, n: ~ } }"#);
    assert_eq!(found.to_json(), r#"{"a":["x-hunter2",2],"b":"$","c":{"d":1,"n":null}}"#);
    assert_eq!(found.to_typed_json(), r#"{"a":["x-${SECRET}",2],"b":"$$","c":{"d":1,"n":null}}"#);
    let plain = config("{ c: { d: 1 } }");
    assert_eq!(plain.to_typed_json(), plain.to_json());
}

#[test]
fn a_file_that_is_absent_or_too_large_is_named() {
    let folder = tempfile::tempdir().unwrap();
    let absent = read_pipeline(&folder.path().join("none.yaml"), &NoEnvironment).unwrap_err();
    assert!(absent.render(false).contains("none.yaml: error[file.unreadable]"));
    let large = folder.path().join("large.yaml");
    std::fs::write(&large, "#".repeat((1 << 20) + 1)).unwrap();
    assert!(read_pipeline(&large, &NoEnvironment).unwrap_err().render(false).contains("error[file.too_large]"));
}

#[test]
fn the_pipelines_that_ship_are_read() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../pipelines");
    let mut read = 0;
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.extension().is_some_and(|extension| extension == "yaml") {
            read_pipeline(&path, &[("REDACT_KEY", "what nobody ships")]).unwrap_or_else(|found| panic!("{found}"));
            read += 1;
        }
    }
    assert!(read > 0);
}

proptest! {
    #[test]
    fn a_pipeline_with_any_value_in_any_place_is_read_or_refused(line in 0..40_usize, value in "[-a-z0-9{}\\[\\],:\"' ${~.&*|>#\n]{0,24}") {
        let mut lines: Vec<String> = FULL.lines().map(str::to_owned).collect();
        if let Some(line) = lines.get_mut(line) {
            let key = line.split_once(": ").map_or("", |(key, _)| key).to_owned();
            *line = format!("{key}: {value}");
        }
        if let Err(found) = load(&lines.join("\n")) {
            prop_assert!(!found.is_empty() && !found.render(true).is_empty());
        }
    }
}
