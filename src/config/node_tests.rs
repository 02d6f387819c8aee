use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::*;

const FULL: &str = r#"
mode: production
brokers:
  main: { kafka: { brokers: "k1:9093,k2:9093", tls: { ca: ca.pem }, sasl: { mechanism: SCRAM-SHA-512, username: pc, password: { env: KAFKA_PASSWORD } }, librdkafka: { a: 1, b: 2 } } }
  local: { kafka: { brokers: "127.0.0.1:${PORT}" } }
  streams: { nats: { servers: [nats://n1, tls://n2:4222], auth: { credentials: bridge.creds }, tls: { ca: ca.pem }, client_name: node, timeout: 2s, domain: hub } }
audit: { topic: portcullis.audit, profile: main, mode: buffered, on_unavailable: pause, deadline: 10s }
tenants:
  acme: {}
  other:
admin: { listen: 127.0.0.1:0, tap: headers }
cache: { dir: cache, enabled: false }
log: { format: json, level: warn }
"#;

const ENVIRONMENT: [(&str, &str); 2] = [("KAFKA_PASSWORD", "hunter2"), ("PORT", "9092")];

fn load(text: &str) -> Result<Node, Diagnostics> {
    load_node(Some((Path::new("conf/portcullis.yaml"), text.as_bytes())), &ENVIRONMENT, &Flags::new())
}

fn layered<const N: usize>(text: &str, variables: [(&str, &str); N], flags: &Flags) -> Result<Node, Diagnostics> {
    load_node(Some((Path::new("conf/portcullis.yaml"), text.as_bytes())), &variables, flags)
}

fn errors(text: &str) -> Vec<(&'static str, usize, usize)> {
    load(text).expect_err(text).iter().map(|d| (d.code.as_str(), d.at.line, d.at.col)).collect()
}

#[test]
fn every_key_of_the_node_is_read() {
    let node = load(FULL).unwrap_or_else(|found| panic!("{found}"));
    assert_eq!((node.mode.value, node.mode.at.as_ref().map(|at| (at.line, at.col))), (Mode::Production, Some((2, 7))));
    assert_eq!(node.profiles["main"].at.line, 4);
    let main = node.profiles["main"].kafka().unwrap();
    assert_eq!(main.sasl.as_ref().unwrap().password.expose(), "hunter2");
    let ca = main.tls.as_ref().and_then(|tls| tls.ca.clone()).unwrap();
    assert_eq!(ca.value, PathBuf::from("conf/ca.pem"));
    let Some(AuditTarget::Topic(topic)) = node.audit.target.as_ref().map(|target| &target.value) else { panic!() };
    assert_eq!((topic.topic.as_str(), node.audit.deadline.value), ("portcullis.audit", Duration::from_secs(10)));
    assert_eq!(node.resolve(&topic.connection).unwrap().sasl, main.sasl);
    assert_eq!(node.tenants.keys().collect::<Vec<_>>(), ["acme", "other"]);
    assert_eq!((node.admin.listen.port(), node.admin.tap.value), (0, TapLevel::Headers));
    assert_eq!((node.cache.enabled.value, node.cache.dir.unwrap().value), (false, PathBuf::from("conf/cache")));
    assert_eq!((node.log.format.value, node.log.level.value), (LogFormat::Json, LogLevel::Warn));
    assert!(!format!("{:?}", node.profiles).contains("hunter2"));
}

#[test]
fn without_a_file_everything_has_its_default() {
    for node in [load_node(None, &NoEnvironment, &Flags::new()).unwrap(), load("").unwrap(), load("# none\n").unwrap()]
    {
        assert_eq!(node.mode, Setting::default_of(Mode::Development));
        assert_eq!((node.admin.listen.to_string().as_str(), node.admin.tap.value), ("127.0.0.1:9464", TapLevel::Off));
        assert!(node.audit.target.is_none() && node.tenants.is_empty() && node.cache.enabled.value);
        assert_eq!(node.log.level.value, LogLevel::Info);
    }
}

#[test]
fn a_flag_is_over_a_variable_and_a_variable_over_the_file() {
    let variables = [("PORTCULLIS_ADMIN__LISTEN", "127.0.0.1:2"), ("PORTCULLIS_LOG__LEVEL", "error"), ("OTHER", "x")];
    let flags = Flags::new().with("--listen", "admin.listen", "127.0.0.1:3");
    let node =
        layered("admin: { listen: 127.0.0.1:1 }\nlog: { level: debug, format: json }\n", variables, &flags).unwrap();
    assert_eq!(node.admin.listen.value.port(), 3);
    assert_eq!(node.admin.listen.at.map(|at| at.to_string()), Some("--listen".into()));
    assert_eq!((node.log.level.value, node.log.format.value), (LogLevel::Error, LogFormat::Json));
    assert_eq!(node.log.level.at.map(|at| at.to_string()), Some("PORTCULLIS_LOG__LEVEL".into()));
    assert_eq!(node.log.format.at.map(|at| at.to_string()), Some("conf/portcullis.yaml:2:30".into()));
}

#[test]
fn a_variable_reaches_every_kind_of_value() {
    let variables = [
        ("PORTCULLIS_BROKERS__MAIN__KAFKA__BROKERS", "k1:1"),
        ("PORTCULLIS_BROKERS__MAIN__KAFKA__SASL", "{ mechanism: PLAIN, username: 5x, password: \"$${x}\" }"),
        ("PORTCULLIS_BROKERS__MAIN__KAFKA__CLIENT_ID", "12345"),
        ("PORTCULLIS_CACHE__ENABLED", "false"),
        ("PORTCULLIS_CACHE__DIR", "c"),
        ("PORTCULLIS_AUDIT__TOPIC", "audit"),
        ("PORTCULLIS_AUDIT__PROFILE", "main"),
    ];
    let node = layered("", variables, &Flags::new()).unwrap_or_else(|found| panic!("{found}"));
    let main = node.profiles["main"].kafka().unwrap();
    assert_eq!(main.client_id.as_ref().map(|id| id.as_str()), Some("12345"));
    assert_eq!(main.sasl.as_ref().map(|sasl| sasl.password.expose()), Some("$${x}"), "no variables in variables");
    assert_eq!(
        node.cache.dir.as_ref().map(|dir| dir.value.clone()),
        Some(PathBuf::from("c")),
        "from the shell's folder"
    );
    assert!(
        !node.cache.enabled.value && matches!(node.audit.target, Some(Located { value: AuditTarget::Topic(_), .. }))
    );
}

#[test]
fn an_error_of_a_variable_or_flag_names_it_and_shows_no_value() {
    let variables = [
        ("PORTCULLIS_ADMIN__LISTEN", "hunter2"),
        ("PORTCULLIS_LOGS__LEVEL", "debug"),
        ("PORTCULLIS_AUDIT", "{ hunter2"),
    ];
    let flags = Flags::new().with("--mode", "mode", "hunter2").with("--cache", "cache", "hunter2");
    let found = layered("log: { level: loud }\n", variables, &flags).unwrap_err();
    let places: Vec<_> = found.iter().map(|d| format!("{} {}", d.at, d.code)).collect();
    assert_eq!(
        places,
        [
            "--cache type.wrong",
            "--mode value.invalid",
            "PORTCULLIS_ADMIN__LISTEN value.invalid",
            "PORTCULLIS_AUDIT yaml.syntax",
            "PORTCULLIS_LOGS__LEVEL key.unknown",
            "conf/portcullis.yaml:1:15 value.invalid"
        ]
    );
    assert!(!found.render(false).contains("hunter2"), "{found}");
    assert!(found.render(false).contains("PORTCULLIS_ADMIN__LISTEN: error[value.invalid]: "));
}

#[test]
fn the_variables_that_kubernetes_sets_for_a_service_are_not_settings() {
    let variables = [
        ("PORTCULLIS_SERVICE_HOST", "10.0.0.1"),
        ("PORTCULLIS_SERVICE_PORT_ADMIN", "9464"),
        ("PORTCULLIS_PORT", "tcp://10.0.0.1:9464"),
        ("PORTCULLIS_PORT_9464_TCP_ADDR", "10.0.0.1"),
    ];
    assert!(layered("", variables, &Flags::new()).is_ok());
    assert!(layered("", [("PORTCULLIS_ADMIN__", "x")], &Flags::new()).is_err());
}

#[test]
fn an_upper_layers_audit_target_replaces_the_lower_ones() {
    let file =
        |node: Result<Node, Diagnostics>| match node.unwrap_or_else(|f| panic!("{f}")).audit.target.unwrap().value {
            AuditTarget::File(path) => path.display().to_string(),
            AuditTarget::Topic(topic) => format!("topic {}", topic.topic.value),
        };
    let topic = "brokers: { m: { kafka: { brokers: b } } }\naudit: { topic: a, profile: m, deadline: 1s }\n";
    let flags = Flags::new().with("--audit-file", "audit.file", "x.jsonl");
    assert_eq!(file(layered(topic, [], &flags)), "x.jsonl");
    assert_eq!(file(layered("audit: { file: a.jsonl }\n", [], &flags)), "x.jsonl");
    let variables = [("PORTCULLIS_AUDIT__TOPIC", "b"), ("PORTCULLIS_AUDIT__BROKERS", "k:1")];
    assert_eq!(file(layered("audit: { file: a.jsonl }\n", variables, &Flags::new())), "topic b");
    assert_eq!(file(layered(topic, variables, &Flags::new())), "topic b");
    assert_eq!(errors("audit: { file: a, topic: b, brokers: c }\n"), [("key.conflict", 1, 10)]);
}

#[test]
fn bad_input_is_refused_with_its_code_and_place() {
    for (text, code, line, col) in [
        ("[]\n", "type.wrong", 1, 1),
        ("mode: prod\n", "value.invalid", 1, 7),
        ("mode: production\n", "production.refused", 1, 7),
        ("mode: production\naudit: { file: x }\n", "production.refused", 1, 7),
        (
            "audit: { topic: a, profile: mian }\nbrokers: { main: { kafka: { brokers: b } } }\n",
            "profile.unknown",
            1,
            29,
        ),
        ("audit: { topic: a }\n", "key.missing", 1, 8),
        ("audit: { profile: a }\n", "key.conflict", 1, 10),
        ("audit: { file: a, mode: strict }\n", "setting.not_available", 1, 25),
        ("audit: { file: a, on_unavailable: shutdown }\n", "setting.not_available", 1, 35),
        ("admin: { listen: localhost }\n", "value.invalid", 1, 18),
        ("brokers: { Main: { kafka: { brokers: b } } }\n", "value.invalid", 1, 12),
        ("brokers: { main: { kafka: { profile: b } } }\n", "key.missing", 1, 27),
        ("brokers: { main: { kafka: { brokers: b }, nats: { servers: nats://n } } }\n", "key.conflict", 1, 43),
        ("brokers: { main: { jetstream: { servers: nats://n } } }\n", "key.conflict", 1, 20),
        ("brokers: { main: {} }\n", "key.missing", 1, 18),
        ("brokers: { main: { nats: {} } }\n", "key.missing", 1, 26),
        ("brokers: { main: { nats: { servers: n } } }\n", "value.invalid", 1, 37),
        ("brokers: { main: { nats: { servers: nats://n, profile: x } } }\n", "key.unknown", 1, 47),
        ("brokers: { main: { nats: { servers: nats://n, auth: {} } } }\n", "key.conflict", 1, 53),
        (
            "audit: { topic: a, profile: main }\nbrokers: { main: { nats: { servers: nats://n } } }\n",
            "profile.unknown",
            1,
            29,
        ),
        ("adminn: {}\n", "key.unknown", 1, 1),
        ("log: { level: \"${NONE}\" }\n", "env.missing", 1, 16),
        ("log: {}\nlog: {}\n", "key.duplicate", 2, 1),
    ] {
        let found = errors(text);
        assert_eq!(found.first(), Some(&(code, line, col)), "{text}{found:?}");
    }
}

#[test]
fn a_pipeline_is_checked_against_its_node() {
    let node = load(FULL).unwrap();
    let pipeline = |tenant: &str, profile: &str, digest: &str| {
        let text = format!(
            "pipeline: p\n{tenant}\nsource: {{ kafka: {{ profile: {profile}, topics: t, client_id: me, librdkafka: {{ b: 3 }} }} }}\nsink: {{ stdio: }}\nplugins: [{{ name: x, component: x{digest} }}]\n"
        );
        load_pipeline(Path::new("p.yaml"), text.as_bytes(), &NoEnvironment).unwrap()
    };
    let digest = format!(", digest: \"sha256:{}\"", "0".repeat(64));
    let codes = |pipeline: &Pipeline| node.check(pipeline).iter().map(|d| d.code.as_str()).collect::<Vec<_>>();
    let good = pipeline("tenant: acme", "main", &digest);
    assert!(codes(&good).is_empty());
    assert_eq!(
        codes(&pipeline("tenant: acmee", "mian", "")),
        ["tenant.unknown", "profile.unknown", "production.refused"]
    );
    assert_eq!(codes(&pipeline("", "main", &digest)), ["tenant.unknown"]);
    let found = node.check(&pipeline("tenant: acmee", "mian", ""));
    assert!(
        found.render(false).contains("did you mean `acme`?") && found.render(false).contains("did you mean `main`?")
    );
    let Source::Kafka(kafka) = &good.sources[0].value else { panic!() };
    let resolved = node.resolve(&kafka.connection).unwrap();
    let passed: Vec<_> = resolved.librdkafka.iter().map(|(key, value)| (key.as_str(), value.expose())).collect();
    assert_eq!(passed, [("a", "1"), ("b", "3")]);
    assert_eq!(resolved.client_id.map(|id| id.value), Some("me".into()));
    assert!(resolved.sasl.is_some() && matches!(resolved.cluster, Cluster::Brokers(_)));
}

#[test]
fn the_nodes_file_is_the_named_one_else_the_one_beside_the_pipeline() {
    let folder = tempfile::tempdir().unwrap();
    let pipeline = folder.path().join("p.yaml");
    assert_eq!(discover_node(None, Some(&pipeline)), None);
    std::fs::write(folder.path().join(NODE_FILE), "").unwrap();
    assert_eq!(discover_node(None, Some(&pipeline)), Some(folder.path().join(NODE_FILE)));
    assert_eq!(discover_node(Some(Path::new("x")), Some(&pipeline)), Some(PathBuf::from("x")));
    assert!(read_node(discover_node(None, Some(&pipeline)).as_deref(), &NoEnvironment, &Flags::new()).is_ok());
    assert!(read_node(Some(&folder.path().join("none")), &NoEnvironment, &Flags::new()).is_err());
}
