use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::*;

const FULL: &str = r#"
egress:
  dns: { servers: ["10.0.0.2:53", "fd00::2"], timeout: 2s }
  tls: { roots: roots.pem }
  deny: ["tcp://10.0.0.0/8:22"]
  consent: ["127.0.0.0/8", "::1", "169.254.169.254/32"]
  observe: true
ceilings: { egress: ["https://*.example.com:443", "tcp://10.1.0.0/16:5432"], clock: precise, random: true, log: debug }
limits: { memory: 1GiB, connections: 100, connects: 50/s, lookups: 20/s, egress_bytes: 10MiB/s, ingress_bytes: 20MiB/s, log_rate: 8KiB/s, restarts: 50/min, queue: { messages: 5000, bytes: 32MiB } }
tenants:
  acme:
    ceilings: { egress: ["https://*.example.com:443"], clock: coarse, random: false, log: warn }
    limits: { memory: 32MiB, cpu_share: 2, connections: 4, connects: 60/min, lookups: 1/s, egress_bytes: 1MiB/s, ingress_bytes: 1MiB/s, log_rate: 4KiB/s, restarts: 3/min, queue: { messages: 100, bytes: 1MiB } }
    deny: ["https://private.example.com"]
  other: {}
  third:
"#;

fn load(text: &str) -> Result<Node, Diagnostics> {
    load_node(Some((Path::new("conf/portcullis.yaml"), text.as_bytes())), &NoEnvironment, &Flags::new())
}

fn node(text: &str) -> Node {
    load(text).unwrap_or_else(|found| panic!("{found}"))
}

fn errors(text: &str) -> Vec<(&'static str, usize, usize)> {
    load(text).expect_err(text).iter().map(|d| (d.code.as_str(), d.at.line, d.at.col)).collect()
}

fn pipeline(tenant: &str, plugin: &str) -> Pipeline {
    let text = format!(
        "pipeline: p\ntenant: {tenant}\nsource: {{ stdio: }}\nsink: {{ stdio: }}\nplugins:\n  - name: x\n    component: x\n{plugin}"
    );
    load_pipeline(Path::new("p.yaml"), text.as_bytes(), &NoEnvironment).unwrap_or_else(|found| panic!("{found}"))
}

/// Code, line from the one after `component`, and column of what the node says about a plugin.
fn checked(node: &Node, tenant: &str, plugin: &str) -> Vec<(&'static str, usize, usize)> {
    node.check(&pipeline(tenant, plugin)).iter().map(|d| (d.code.as_str(), d.at.line - 7, d.at.col)).collect()
}

#[test]
fn every_key_of_the_levels_is_read() {
    let node = node(FULL);
    let servers: Vec<String> = node.egress.dns.servers.iter().map(|server| server.to_string()).collect();
    assert_eq!(servers, ["10.0.0.2:53", "[fd00::2]:53"]);
    assert_eq!(node.egress.dns.timeout.value, Duration::from_secs(2));
    assert_eq!(node.egress.tls.roots.value, Roots::File(PathBuf::from("conf/roots.pem")));
    let consent: Vec<String> = node.egress.consent.iter().map(|network| network.to_string()).collect();
    assert_eq!(consent, ["127.0.0.0/8", "::1/128", "169.254.169.254/32"]);
    assert!(node.egress.observe.value && node.egress.deny.len() == 1);
    assert_eq!(node.ceilings.egress.as_ref().map(Vec::len), Some(2));
    assert_eq!(node.limits.queue.messages.as_ref().map(|messages| messages.value), Some(5000));
    let acme = &node.tenants["acme"];
    assert_eq!((acme.at.line, acme.at.col, acme.cpu_share(), acme.deny.len()), (11, 3, 2, 1));
    assert_eq!(acme.ceilings.clock.as_ref().map(|clock| clock.value), Some(Some(Clock::Coarse)));
    assert_eq!(acme.ceilings.random.as_ref().map(|random| random.value), Some(false));
    assert_eq!(acme.ceilings.log.as_ref().map(|log| log.value), Some(Some(PluginLogLevel::Warn)));
    let other = &node.tenants["other"];
    assert!(other.ceilings == Ceilings::default() && other.limits == LevelLimits::default() && other.cpu_share() == 1);
}

#[test]
fn without_the_keys_nothing_is_bounded_and_nothing_is_consented_to() {
    let node = node("");
    assert!(node.egress.dns.servers.is_empty() && node.egress.consent.is_empty() && !node.egress.observe.value);
    assert_eq!(node.egress.dns.timeout, Setting::default_of(Duration::from_secs(5)));
    assert_eq!(node.egress.tls.roots, Setting::default_of(Roots::System));
    assert!(node.ceilings == Ceilings::default() && node.limits == LevelLimits::default());
    let plugin = "    grants: { egress: [\"https://a.example.com\"], clock: precise, random: true, log: debug }\n";
    assert!(checked(&node, "any", plugin).is_empty());
}

#[test]
fn a_bad_value_of_a_level_is_refused_at_its_place() {
    for (text, code, line, col) in [
        ("egress: []\n", "type.wrong", 1, 9),
        ("egress: { dns: { servers: [] } }\n", "value.invalid", 1, 27),
        ("egress: { dns: { servers: [dns.example.com] } }\n", "value.invalid", 1, 28),
        ("egress: { dns: { servers: [\"10.0.0.2:0\"] } }\n", "value.invalid", 1, 28),
        ("egress: { dns: { timeout: 2m } }\n", "value.invalid", 1, 27),
        ("egress: { dns: { server: [10.0.0.2] } }\n", "key.unknown", 1, 18),
        ("egress: { deny: tcp }\n", "type.wrong", 1, 17),
        ("egress: { consent: [\"10.0.0.0/8\"] }\n", "value.invalid", 1, 21),
        ("egress: { consent: [\"0.0.0.0/0\"] }\n", "value.invalid", 1, 21),
        ("egress: { consent: [\"126.0.0.0/7\"] }\n", "value.invalid", 1, 21),
        ("egress: { consent: [\"127.0.0.1/8\"] }\n", "value.invalid", 1, 21),
        ("egress: { consent: [localhost] }\n", "value.invalid", 1, 21),
        ("egress: { observe: yes }\n", "type.wrong", 1, 20),
        ("ceilings: { clock: exact }\n", "value.invalid", 1, 20),
        ("ceilings: { egress: x }\n", "type.wrong", 1, 21),
        ("ceilings: { kv: x }\n", "key.unknown", 1, 13),
        ("limits: { cpu_share: 1 }\n", "key.conflict", 1, 11),
        ("limits: { connections: 0 }\n", "value.invalid", 1, 24),
        ("limits: { restarts: 5 }\n", "value.invalid", 1, 21),
        ("tenants: { acme: { limits: { cpu_share: 1001 } } }\n", "value.invalid", 1, 41),
        ("tenants: { acme: { limits: { deadline: 1s } } }\n", "key.unknown", 1, 30),
        ("tenants: { acme: { ceiling: {} } }\n", "key.unknown", 1, 20),
        ("tenants: { Acme: {} }\n", "value.invalid", 1, 12),
        ("tenants: [acme]\n", "type.wrong", 1, 10),
    ] {
        assert_eq!(errors(text), [(code, line, col)], "{text}");
    }
}

#[test]
fn a_rule_of_a_level_is_refused_under_the_policys_name() {
    for (text, slug, col) in [
        ("ceilings: { egress: [\"https://*example.com\"] }\n", "wildcard_partial", 22),
        ("egress: { deny: [\"tcp://0x7f000001:80\"] }\n", "address_noncanonical", 18),
        ("tenants: { a: { deny: [\"tcp://10.1.2.3/8:22\"] } }\n", "cidr_host_bits", 24),
    ] {
        assert_eq!(errors(text), [(slug, 1, col)], "{text}");
    }
}

#[test]
fn a_tenant_cannot_have_more_than_its_node() {
    let text = "\
limits: { memory: 1GiB, connections: 10, connects: 1/s, lookups: 60/min, egress_bytes: 1MiB/s, ingress_bytes: 1MiB/s, log_rate: 1KiB/s, queue: { messages: 10, bytes: 1KiB }, restarts: 60/h }
ceilings: { egress: [\"https://*.example.com:443\"], clock: coarse, random: false, log: warn }
tenants:
  a:
    limits: { memory: 2GiB, connections: 11, connects: 61/min, lookups: 2/s, egress_bytes: 2MiB/s, ingress_bytes: 2MiB/s, log_rate: 2KiB/s, queue: { messages: 11, bytes: 2KiB }, restarts: 2/min }
    ceilings: { egress: [\"https://*.example.org:443\"], clock: precise, random: true, log: info }
  b:
    limits: { memory: 1GiB, connections: 10, connects: 60/min, lookups: 1/s, egress_bytes: 1MiB/s, ingress_bytes: 1MiB/s, log_rate: 1KiB/s, queue: { messages: 10, bytes: 1KiB }, restarts: 1/min }
    ceilings: { egress: [\"https://api.example.com:443\"], clock: none, random: false, log: none }
";
    let found = load(text).unwrap_err();
    let codes: Vec<_> = found.iter().map(|d| (d.code.as_str(), d.at.line)).collect();
    let limits = std::iter::repeat_n(("limit.above_ceiling", 5), 10);
    assert_eq!(codes, limits.chain(std::iter::repeat_n(("grant_above_ceiling", 6), 4)).collect::<Vec<_>>());
    let first = found.iter().next().unwrap();
    assert_eq!((first.at.col, first.message.as_str()), (23, "`memory` 2GiB is above the 1GiB of the node"));
    assert_eq!(first.help.as_deref(), Some("allowed: up to 1GiB (conf/portcullis.yaml:1:19)"));
}

#[test]
fn a_plugin_cannot_have_more_than_its_tenant_and_its_node() {
    let node = node(FULL);
    let plugin = "    grants: { egress: [], clock: precise, random: true, log: info }
    limits: { memory: 33MiB, connections: 5, connects: 2/s, lookups: 2/s, egress_bytes: 2MiB/s, ingress_bytes: 21MiB/s }
";
    let mut found = checked(&node, "acme", plugin);
    found.sort_by_key(|error| (error.1, error.2));
    let grants = [("grant_above_ceiling", 1, 34), ("grant_above_ceiling", 1, 51), ("grant_above_ceiling", 1, 62)];
    assert_eq!(found[..3], grants);
    // The last one is above the node's too.
    assert_eq!(found[3..].iter().map(|error| error.0).collect::<Vec<_>>(), ["limit.above_ceiling"; 7]);
    assert_eq!((found[3].2, found[9].2), (23, 112));
    assert_eq!(
        checked(&node, "other", plugin).iter().map(|error| error.0).collect::<Vec<_>>(),
        ["limit.above_ceiling"]
    );
    let within = "    grants: { egress: [], clock: coarse, log: error }\n    limits: { memory: 32MiB, connections: 4, connects: 60/min, lookups: 1/s }\n";
    assert!(checked(&node, "acme", within).is_empty());
    let mut queued = pipeline("acme", "queue: { messages: 101, bytes: 1MiB }\n");
    assert_eq!(
        node.check(&queued).iter().map(|d| d.message.clone()).collect::<Vec<_>>(),
        ["`queue.messages` 101 is above the 100 of tenant `acme`"]
    );
    queued.tenant = None;
    assert_eq!(node.check(&queued).iter().map(|d| d.code.as_str()).collect::<Vec<_>>(), ["tenant.unknown"]);
}

#[test]
fn a_default_is_lowered_to_the_level_above_and_nothing_is_raised() {
    let node = node(FULL);
    let plain = pipeline("acme", "    grants: { egress: [] }\n");
    let limits = node.limits_of(&plain, &plain.plugins[0]);
    assert_eq!((limits.memory_bytes.value, limits.connections.value), (32 << 20, 4));
    assert_eq!((limits.connects.to_string(), limits.lookups.to_string()), ("60/min".into(), "1/s".into()));
    assert_eq!(limits.egress_bytes.map(|bytes| bytes.value), Some(1 << 20));
    assert_eq!(limits.log_rate_bytes_s.value, 4 << 10);
    // A lower rate over a longer time would let a plugin lose more at once than its default does.
    assert_eq!(limits.restarts.to_string(), "5/min");
    assert_eq!(limits.memory_bytes.at.map(|at| at.line), Some(13));
    let queue = node.queue_of(&plain);
    assert_eq!((queue.messages.value, queue.bytes.value), (100, 1 << 20));
    let low = pipeline("other", "    grants: { egress: [] }\n    limits: { memory: 1MiB, egress_bytes: 1KiB/s }\n");
    let limits = node.limits_of(&low, &low.plugins[0]);
    assert_eq!((limits.memory_bytes.value, limits.egress_bytes.map(|bytes| bytes.value)), (1 << 20, Some(1024)));
    assert_eq!((limits.connections.value, limits.connects.to_string()), (8, "10/s".into()));
    assert_eq!(node.queue_of(&low).messages.value, 5000);
}

#[test]
fn the_rules_of_a_plugin_are_held_against_denies_ceilings_and_each_other() {
    let node = node(FULL);
    let egress = |rules: &str| format!("    grants:\n      egress:\n{rules}");
    for (tenant, rule, slugs) in [
        ("acme", "        - \"https://a.example.com\"\n", vec![]),
        ("acme", "        - \"https://a.example.org\"\n", vec!["grant_above_ceiling"]),
        ("acme", "        - \"tcp://10.1.2.0/24:5432\"\n", vec!["grant_above_ceiling"]),
        ("other", "        - \"tcp://10.1.2.0/24:5432\"\n", vec![]),
        ("acme", "        - \"https://private.example.com\"\n", vec!["grant_overridden_by_deny"]),
        ("other", "        - \"https://private.example.com\"\n", vec![]),
    ] {
        let found = checked(&node, tenant, &egress(rule));
        assert_eq!(found, slugs.into_iter().map(|slug| (slug, 3, 11)).collect::<Vec<_>>(), "{tenant} {rule}");
    }
    let twice = egress("        - \"https://a.example.com\"\n        - { allow: \"https://a.example.com:443\" }\n");
    assert_eq!(checked(&node, "other", &twice), [("rule_duplicate", 4, 20)]);
}

#[test]
fn a_rule_that_the_node_refuses_says_what_it_ran_into_and_where() {
    let node = node(FULL);
    let shown =
        |rule: &str| node.check(&pipeline("acme", &format!("    grants: {{ egress: [\"{rule}\"] }}\n"))).render(false);
    let denied = shown("https://private.example.com");
    assert!(
        denied.contains("(conf/portcullis.yaml:5:10)") && denied.contains("(conf/portcullis.yaml:14:12)"),
        "{denied}"
    );
    let above = shown("https://a.example.org");
    assert!(above.contains("https://*.example.com (conf/portcullis.yaml:8:22)"), "{above}");
    assert!(above.contains("; and within: https://*.example.com (conf/portcullis.yaml:12:26)"), "{above}");
    let text = "pipeline: p\ntenant: acme\nsource: { stdio: }\nsink: { stdio: }\nplugins: [{ name: x, component: x, grants: { egress: [\"https://${HOST}\"] } }]\n";
    let hidden = load_pipeline(Path::new("p.yaml"), text.as_bytes(), &[("HOST", "hidden.example.org")]).unwrap();
    let shown = node.check(&hidden).render(false);
    assert!(shown.contains("grant_above_ceiling") && !shown.contains("hidden"), "{shown}");
}

#[test]
fn observe_mode_needs_the_nodes_consent_and_no_production() {
    let observe = "    grants: { egress: [], egress_mode: observe }\n";
    assert!(checked(&node("egress: { observe: true }\n"), "a", observe).is_empty());
    for text in ["", "egress: { observe: false }\n"] {
        assert_eq!(checked(&node(text), "a", observe), [("observe.not_allowed", 1, 40)]);
    }
    let production = "mode: production\nbrokers: { m: { kafka: { brokers: b } } }\naudit: { topic: a, profile: m }\n";
    assert_eq!(errors(&format!("{production}egress: {{ observe: true }}\n")), [("production.refused", 4, 20)]);
    let digest = format!("    digest: sha256:{}\n{observe}", "0".repeat(64));
    assert_eq!(checked(&node(production), "a", &digest), [("production.refused", 2, 40)]);
}

#[test]
fn a_variable_reaches_the_levels() {
    let variables = [
        ("PORTCULLIS_EGRESS__OBSERVE", "true"),
        ("PORTCULLIS_EGRESS__DNS__SERVERS", "10.0.0.3"),
        ("PORTCULLIS_TENANTS__ACME__LIMITS__MEMORY", "1GiB"),
        ("PORTCULLIS_LIMITS__CONNECTS", "9"),
    ];
    let node = load_node(None, &variables, &Flags::new()).unwrap_or_else(|found| panic!("{found}"));
    assert_eq!(node.egress.dns.servers[0].to_string(), "10.0.0.3:53");
    assert_eq!(node.tenants["acme"].limits.memory_bytes.as_ref().map(|memory| memory.value), Some(1 << 30));
    assert_eq!(node.limits.connects.map(|connects| connects.to_string()), Some("9/s".into()));
    assert!(node.egress.observe.value);
}
