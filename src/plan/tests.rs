use portcullis_config::NoEnvironment;

use super::*;

const PIPELINE: &str =
    "pipeline: p\nsource: { file: { path: in.jsonl } }\nsink: { file: { path: out.jsonl } }\nplugins: []\n";

fn options(node_file: Option<&Path>) -> Options<'_> {
    Options {
        environment: &NoEnvironment,
        node_file,
        flags: Flags::new(),
        instead: None,
        no_cache: true,
        lock: LockUse::Ignore,
        consent: Vec::new(),
    }
}

/// The digest of a plan whose files are exchanged between reading and resolving.
fn digest(folder: &Path, exchange: impl FnOnce()) -> String {
    let options = options(None);
    let typed = read(&[folder.join("p.yaml")], &options).unwrap_or_else(|refusal| panic!("{}", refusal.diagnostics));
    exchange();
    let plan = typed.resolve(&options).unwrap_or_else(|refusal| panic!("{}", refusal.diagnostics));
    plan.digest()
}

#[test]
fn the_digest_is_of_the_bytes_that_were_parsed_and_not_of_what_lies_there_later() {
    let folder = tempfile::tempdir().unwrap();
    let write = |name: &str, text: &str| std::fs::write(folder.path().join(name), text).unwrap();
    write("p.yaml", PIPELINE);
    write("portcullis.yaml", "log: { level: info }\n");
    let parsed = digest(folder.path(), || {});
    for (name, text) in [("p.yaml", PIPELINE), ("portcullis.yaml", "log: { level: info }\n")] {
        let other = format!("{text}# another\n");
        assert_eq!(digest(folder.path(), || write(name, &other)), parsed, "{name}");
        assert_ne!(digest(folder.path(), || {}), parsed, "{name}");
        write(name, text);
    }
}

#[test]
fn a_file_of_the_node_that_cannot_be_read_is_not_taken_for_none() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("p.yaml"), PIPELINE).unwrap();
    std::os::unix::fs::symlink("nowhere", folder.path().join("portcullis.yaml")).unwrap();
    let refused = read(&[folder.path().join("p.yaml")], &options(None)).err().unwrap();
    assert_eq!(refused.diagnostics.iter().next().unwrap().code.as_str(), "file.unreadable");
}

/// What a connector needs as a source, sink and dead letter queue.
const CONNECTORS: [(&str, [&str; 3]); 6] = [
    ("kafka", ["{ brokers: k, topics: t }", "{ brokers: k, topic: u }", "{ brokers: k, topic: d }"]),
    (
        "jetstream",
        [
            "{ servers: nats://n, stream: S, consumer: c }",
            "{ servers: nats://n, subject: s, stream: T }",
            "{ servers: nats://n, subject: d, stream: D }",
        ],
    ),
    ("nats", ["{ servers: nats://n, subjects: a }", "{ servers: nats://n, subject: b }", ""]),
    ("file", ["{ path: in }", "{ path: out }", "{ path: dead }"]),
    ("stdio", ["{}", "{}", "{}"]),
    ("generator", ["{ value: x }", "", ""]),
];

#[test]
fn every_connector_that_the_schema_offers_passes_a_check() {
    let schema = portcullis_config::schema(portcullis_config::SchemaOf::Pipeline);
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("p.yaml");
    for (place, definition) in ["source", "sink", "dead_letter"].iter().enumerate() {
        let offered = schema["$defs"][definition]["properties"].as_object().unwrap();
        assert!(offered.len() > 3, "{offered:?}");
        for connector in offered.keys() {
            let known = CONNECTORS.iter().find(|(name, _)| name == connector);
            let (_, values) = known.unwrap_or_else(|| panic!("`{connector}` is offered and no check of it is known"));
            let end = format!("{{ {connector}: {} }}", values[place]);
            let mut ends = ["{ stdio: }".to_owned(), "{ stdio: }".to_owned(), "{ stdio: }".to_owned()];
            ends[place] = end;
            let [source, sink, letters] = ends;
            let text = format!("pipeline: p\nsource: {source}\nsink: {sink}\ndead_letter: {letters}\n");
            std::fs::write(&file, &text).unwrap();
            let options = options(None);
            let typed =
                read(std::slice::from_ref(&file), &options).unwrap_or_else(|refusal| panic!("{}", refusal.diagnostics));
            typed.resolve(&options).unwrap_or_else(|refusal| panic!("{text}{}", refusal.diagnostics));
        }
    }
}

/// The budgets of a part of a plan by name, with their origins.
fn origins(budgets: &serde_json::Value) -> std::collections::BTreeMap<&str, &str> {
    let all = budgets.as_array().unwrap().iter();
    all.map(|budget| (budget["name"].as_str().unwrap(), budget["origin"].as_str().unwrap())).collect()
}

#[test]
fn a_plan_names_every_limit_of_a_tenant_and_of_the_node_and_every_budget_of_a_connector_with_its_origin() {
    let folder = tempfile::tempdir().unwrap();
    let write = |name: &str, text: &str| std::fs::write(folder.path().join(name), text).unwrap();
    let limits = "memory: 1GiB, connections: 9, connects: 10/s, lookups: 11/s, egress_bytes: 1MiB/s, ingress_bytes: 2MiB/s, log_rate: 1MiB/s, restarts: 9/min, queue: { messages: 100, bytes: 1MiB }";
    write(
        "portcullis.yaml",
        &format!("limits: {{ {limits} }}\ntenants: {{ t: {{ limits: {{ {limits}, cpu_share: 3 }} }} }}\n"),
    );
    write(
        "p.yaml",
        "pipeline: p\ntenant: t\nlanes: 3\nqueue: { messages: 10, bytes: 1KiB }\n\
         source: { jetstream: { servers: nats://n, stream: S, consumer: c, window: { messages: 7 } } }\n\
         sink: { jetstream: { servers: nats://n, subject: s, stream: T, ack_timeout: 9s } }\n\
         dead_letter: { kafka: { brokers: k, topic: d, queue: { messages: 8 } } }\n",
    );
    let node_file = folder.path().join("portcullis.yaml");
    let options = options(Some(&node_file));
    let typed =
        read(&[folder.path().join("p.yaml")], &options).unwrap_or_else(|refusal| panic!("{}", refusal.diagnostics));
    let plan = typed.resolve(&options).unwrap_or_else(|refusal| panic!("{}", refusal.diagnostics));
    let plan = serde_json::to_value(plan.describe()).unwrap();
    let schema = portcullis_config::schema(portcullis_config::SchemaOf::Node);
    for (definition, found) in
        [("node_limits", &plan["node"]["limits"]), ("tenant_limits", &plan["node"]["tenants"][0]["limits"])]
    {
        let found = origins(found);
        for key in schema["$defs"][definition]["properties"].as_object().unwrap().keys() {
            let names: &[&str] = if key == "queue" { &["queue.messages", "queue.bytes"] } else { &[key] };
            for name in names {
                assert!(found.get(name).is_some_and(|origin| origin.contains("portcullis.yaml:")), "{name}: {found:?}");
            }
        }
    }
    let pipeline = &plan["pipelines"][0];
    for (found, name, typed) in [
        (&pipeline["budgets"], "lanes", true),
        (&pipeline["budgets"], "drain", false),
        (&pipeline["sources"][0]["budgets"], "window.messages", true),
        (&pipeline["sources"][0]["budgets"], "window.bytes", false),
        (&pipeline["sources"][0]["budgets"], "heartbeat", false),
        (&pipeline["sink"]["budgets"], "window.messages", false),
        (&pipeline["sink"]["budgets"], "ack_timeout", true),
        (&pipeline["dead_letter"]["budgets"], "queue.messages", true),
        (&pipeline["dead_letter"]["budgets"], "queue.bytes", false),
    ] {
        let origin = origins(found).get(name).copied().unwrap_or_else(|| panic!("{name}: {found}"));
        assert_eq!(origin.contains("p.yaml:"), typed, "{name}: {origin}");
        assert_eq!(origin == "default", !typed, "{name}: {origin}");
    }
}

#[test]
fn a_plan_names_every_limit_of_a_plugin() {
    let text = "pipeline: p\nsource: { stdio: }\nsink: { stdio: }\n".to_owned()
        + "plugins: [{ name: a, component: a.wasm, grants: { egress: [\"https://a.example.com\"] }, limits: {} }]\ndead_letter: { stdio: }\n";
    let pipeline = portcullis_config::load_pipeline(Path::new("p.yaml"), text.as_bytes(), &NoEnvironment);
    let pipeline = pipeline.unwrap_or_else(|found| panic!("{found}"));
    let budgets = serde_json::to_value(description::of_plugin(&pipeline.plugins[0].limits, true)).unwrap();
    let found = origins(&budgets);
    let schema = portcullis_config::schema(portcullis_config::SchemaOf::Pipeline);
    for key in schema["$defs"]["limits"]["properties"].as_object().unwrap().keys() {
        assert!(found.contains_key(key.as_str()), "{key}: {found:?}");
    }
}
