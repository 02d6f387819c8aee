use std::path::Path;
use std::time::Duration;

use crate::*;

const NODE: &str = "brokers:
  main: { kafka: { brokers: b } }
  streams: { nats: { servers: [nats://n1, tls://n2:4222], auth: { token: { env: TOKEN } }, tls: { ca: ca.pem }, client_name: node, timeout: 2s, domain: hub } }
";

fn node() -> Node {
    load_node(Some((Path::new("conf/n.yaml"), NODE.as_bytes())), &[("TOKEN", "hunter2")], &Flags::new()).unwrap()
}

fn pipeline(source: &str, sink: &str) -> Pipeline {
    let text = format!("pipeline: p\nsource: {{ {source} }}\nsink: {{ {sink} }}\n");
    load_pipeline(Path::new("p.yaml"), text.as_bytes(), &NoEnvironment).unwrap_or_else(|found| panic!("{found}"))
}

#[test]
fn a_connection_has_the_servers_and_secrets_of_its_profile_and_the_rest_of_its_own() {
    let node = node();
    let pipeline = pipeline(
        "nats: { profile: streams, subjects: s }",
        "jetstream: { profile: streams, subject: t, client_name: mine, timeout: 3s }",
    );
    assert!(node.check(&pipeline).is_empty());
    let resolved: Vec<_> =
        nats_connections(&pipeline).map(|connection| node.resolve_nats(connection).unwrap()).collect();
    for connection in &resolved {
        let servers: Vec<_> = connection.servers().iter().map(|server| server.as_str()).collect();
        assert_eq!(servers, ["nats://n1", "tls://n2:4222"]);
        let Some(NatsAuth::Token(token)) = &connection.auth else { panic!() };
        assert_eq!(token.expose(), "hunter2");
        let ca = connection.tls.as_ref().and_then(|tls| tls.files.ca.as_ref()).unwrap();
        assert_eq!(ca.value, Path::new("conf/ca.pem"), "from the folder of the node's file");
    }
    let own = |connection: &NatsConnection| {
        let texts = [&connection.client_name, &connection.domain].map(|text| text.clone().unwrap().value);
        (texts, connection.timeout.clone().unwrap().value)
    };
    assert_eq!(own(&resolved[0]), (["node".into(), "hub".into()], Duration::from_secs(2)));
    assert_eq!(own(&resolved[1]), (["mine".into(), "hub".into()], Duration::from_secs(3)));
    assert!(!format!("{node:?}{resolved:?}").contains("hunter2"));
}

#[test]
fn a_domain_beside_a_profile_is_refused_whether_the_profile_has_one_or_not() {
    let without = NODE.replace(", domain: hub", "");
    assert_ne!(without, NODE);
    let without = load_node(Some((Path::new("n.yaml"), without.as_bytes())), &[("TOKEN", "t")], &Flags::new()).unwrap();
    for domain in ["leaf", "hub"] {
        let named = format!("jetstream: {{ profile: streams, domain: {domain}, stream: S, consumer: c }}");
        let pipeline = pipeline(&named, "stdio:");
        for node in [&node(), &without] {
            let found: Vec<_> = node.check(&pipeline).iter().cloned().collect();
            assert_eq!(found.len(), 1, "{found:?}");
            assert_eq!((found[0].code.as_str(), found[0].at.line, found[0].at.col), ("key.conflict", 2, 50));
            assert!(found[0].message.contains("`domain` beside `profile`"), "{found:?}");
            assert!(node.resolve_nats(nats_connections(&pipeline).next().unwrap()).is_err());
        }
    }
}

#[test]
fn a_profile_that_is_not_declared_or_of_another_kind_is_named_with_its_place() {
    let node = node();
    let kafka = |name: &str| pipeline(&format!("kafka: {{ profile: {name}, topics: t }}"), "stdio:");
    let nats = |name: &str| pipeline("stdio:", &format!("nats: {{ profile: {name}, subject: s }}"));
    for (pipeline, line, col, message, help) in [
        (
            nats("stream"),
            3,
            26,
            "profile `stream` is not declared under `brokers` of conf/n.yaml",
            "declared: streams; did you mean `streams`?",
        ),
        (
            nats("main"),
            3,
            26,
            "profile `main`, declared at conf/n.yaml:2:3, is a Kafka profile, and NATS is needed",
            "of NATS: streams",
        ),
        (
            kafka("streams"),
            2,
            29,
            "profile `streams`, declared at conf/n.yaml:3:3, is a NATS profile, and a Kafka cluster is needed",
            "of a Kafka cluster: main",
        ),
    ] {
        let found: Vec<_> = node.check(&pipeline).iter().cloned().collect();
        assert_eq!(found.len(), 1, "{found:?}");
        assert_eq!((found[0].code.as_str(), found[0].at.line, found[0].at.col), ("profile.unknown", line, col));
        assert_eq!((found[0].message.as_str(), found[0].help.as_deref()), (message, Some(help)));
    }
}
