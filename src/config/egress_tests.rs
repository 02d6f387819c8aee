use std::path::{Path, PathBuf};
use std::time::Duration;

use proptest::prelude::*;

use crate::*;

const VARIABLES: [(&str, &str); 3] = [("TOKEN", "hunter2"), ("HOST", "hidden.example.com"), ("BROKEN", "a\nb")];

/// A pipeline with one plugin; `plugin` are further lines of its entry.
fn load(plugin: &str) -> Result<Plugin, Diagnostics> {
    let head =
        "pipeline: p\nsource: { stdio: {} }\nsink: { stdio: {} }\nplugins:\n  - name: x\n    component: x.wasm\n";
    let pipeline = load_pipeline(Path::new("dir/p.yaml"), format!("{head}{plugin}").as_bytes(), &VARIABLES)?;
    Ok(pipeline.plugins.into_iter().next().unwrap())
}

fn granted(rule: &str) -> Result<EgressGrant, Diagnostics> {
    load(&format!("    grants: {{ egress: [{rule}] }}\n")).map(|plugin| plugin.grants.egress.unwrap())
}

/// Code, line from the one after `component`, and column.
fn errors(plugin: &str) -> Vec<(&'static str, usize, usize)> {
    let found = load(plugin).expect_err(plugin);
    found.iter().map(|d| (d.code.as_str(), d.at.line - 6, d.at.col)).collect()
}

#[test]
fn every_key_of_an_egress_rule_is_read() {
    let plugin = load(
        r#"    grants:
      egress:
        - allow: "https://api.example.com:8443"
          methods: [GET, POST]
          paths: ["/v1/"]
          addresses: ["93.184.216.0/24"]
          ttl: 10s..60s
          ca: ca.pem
          client_cert: { cert: c.pem, key: /k.pem }
          secrets: { authorization: { env: TOKEN, prefix: "Bearer " }, x-api-key: { env: TOKEN } }
        - { allow: "tcp://db.example.com:5432", sni_pin: true }
        - { allow: "udp://93.184.216.34:53", dns_port: true }
        - { allow: "tcp://0.0.0.0/0:443", dangerous: true }
        - https://other.example.com
      egress_mode: observe
"#,
    )
    .unwrap_or_else(|found| panic!("{found}"));
    let egress = plugin.grants.egress.unwrap();
    assert_eq!((egress.at.line, egress.at.col), (9, 9));
    assert_eq!((egress.mode.value, egress.mode.at.as_ref().map(|at| at.line)), (EgressMode::Observe, Some(21)));
    let [api, db, dns, all, other] = egress.rules.as_slice() else { panic!("{egress:?}") };
    assert_eq!(api.rule.methods(), ["GET", "POST"]);
    assert_eq!(api.rule.ttl(), Some((Duration::from_secs(10), Duration::from_secs(60))));
    assert_eq!((api.rule.addresses().len(), api.rule.paths().len()), (1, 1));
    assert_eq!(api.ca.as_ref().map(|ca| ca.value.clone()), Some(PathBuf::from("dir/ca.pem")));
    let cert = api.client_cert.as_ref().unwrap();
    assert_eq!((cert.cert.value.clone(), cert.key.value.clone()), ("dir/c.pem".into(), "/k.pem".into()));
    let secrets: Vec<_> = api.secrets.iter().map(|secret| (secret.name.as_str(), secret.value.expose())).collect();
    assert_eq!(secrets, [("authorization", "Bearer hunter2"), ("x-api-key", "hunter2")]);
    assert_eq!(api.secrets[0].source, SecretSource::Env("TOKEN".into()));
    assert!(db.rule.sni_pin() && dns.rule.dns_port() && all.rule.dangerous());
    assert_eq!(
        other.rule.to_string(),
        granted("{ allow: \"https://other.example.com:443\" }").unwrap().rules[0].rule.to_string()
    );
    assert_eq!((api.at.line, api.at.col, other.at.line, other.at.col), (9, 11, 20, 11));
    assert_eq!((api.place("methods", Some(1)).line, api.place("methods", Some(1)).col), (10, 26));
    assert_eq!((api.place("ttl", None).line, api.place("sni_pin", None).line), (13, 9));
}

#[test]
fn a_present_list_links_the_network_and_an_absent_one_does_not() {
    let empty = load("    grants: { egress: [] }\n").unwrap();
    let grant = empty.grants.egress.unwrap();
    assert!(grant.rules.is_empty() && grant.mode == Setting::default_of(EgressMode::Enforce));
    assert!(load("    grants: { log: info }\n").unwrap().grants.egress.is_none());
    for egress in ["", "{}", "true", "https://api.example.com"] {
        assert_eq!(errors(&format!("    grants: {{ egress: {egress} }}\n"))[0].0, "type.wrong", "{egress}");
    }
}

#[test]
fn egress_raises_the_defaults_of_deadline_and_concurrency() {
    let with = load("    grants: { egress: [] }\n").unwrap().limits;
    assert_eq!((with.deadline.value, with.concurrency.value), (Duration::from_secs(2), 8));
    assert_eq!(
        (with.connections.value, with.connects.to_string(), with.lookups.to_string()),
        (8, "10/s".into(), "5/s".into())
    );
    assert!(with.egress_bytes.is_none() && with.ingress_bytes.is_none());
    let without = load("").unwrap().limits;
    assert_eq!((without.deadline.value, without.concurrency.value), (Duration::from_millis(250), 1));
    let typed = load(
        "    grants: { egress: [] }\n    limits: { deadline: 5s, concurrency: 32, connections: 1024, connects: 100/min, lookups: 7, egress_bytes: 1MiB/s, ingress_bytes: 100 }\n    instance: message\n",
    )
    .unwrap();
    let limits = typed.limits;
    assert_eq!(
        (limits.deadline.value, limits.concurrency.value, limits.connections.value),
        (Duration::from_secs(5), 32, 1024)
    );
    assert_eq!((limits.connects.to_string(), limits.lookups.to_string()), ("100/min".into(), "7/s".into()));
    let bytes = |limit: Option<Located<u64>>| limit.map(|limit| limit.value);
    assert_eq!((bytes(limits.egress_bytes), bytes(limits.ingress_bytes)), (Some(1 << 20), Some(100)));
    assert_eq!(typed.instance.value, Instance::Message);
    assert_eq!(load("    instance: batch\n").unwrap().instance.value, Instance::Batch);
}

#[test]
fn a_bad_limit_of_the_network_is_refused_at_its_place() {
    for (limit, code, col) in [
        ("connections: 0", "value.invalid", 28),
        ("connections: 1025", "value.invalid", 28),
        ("connects: 0/s", "value.invalid", 25),
        ("lookups: fast", "value.invalid", 24),
        ("egress_bytes: 1MB/s", "value.invalid", 29),
        ("egress_bytes: 0", "value.invalid", 29),
        ("ingress_bytes: 1MiB/min", "value.invalid", 30),
        ("ingress_bytes: []", "type.wrong", 30),
        ("instances: 1", "limit.not_enforced", 15),
    ] {
        let plugin = format!("    grants: {{ egress: [] }}\n    limits: {{ {limit} }}\n");
        assert_eq!(errors(&plugin), [(code, 2, col)], "{limit}");
    }
    let all = "    limits: { connections: 1, connects: 1/s, lookups: 1/s, egress_bytes: 1/s, ingress_bytes: 1/s }\n";
    assert_eq!(errors(all).iter().map(|error| error.0).collect::<Vec<_>>(), ["key.conflict"; 5]);
}

#[test]
fn what_is_wrong_with_a_rule_is_said_at_its_field() {
    // The place is where the text after the code first stands in the line.
    for (rule, code, place) in [
        (r#""*""#, "match_all", "\"*"),
        (r#"{ allow: "https://*.com" }"#, "public_suffix", "\"https"),
        (r#"{ allow: "tcp://a.example.com:1", methods: [GET] }"#, "field_not_for_proto", "[GET]"),
        (r#"{ methods: [GET] }"#, "key.missing", "{"),
        ("{ allow: 5 }", "type.wrong", "5"),
        ("[a]", "type.wrong", "[a"),
        (r#"{ allow: "https://a.example.com", metods: [GET] }"#, "key.unknown", "metods"),
        (r#"{ allow: "https://a.example.com", methods: [] }"#, "value.invalid", "[]"),
        (r#"{ allow: "https://a.example.com", methods: [GET, get] }"#, "method_invalid", "get"),
        (r#"{ allow: "https://a.example.com", ttl: 1s..300s }"#, "ttl_invalid", "1s"),
        (r#"{ allow: "https://a.example.com", ttl: 5s..301s }"#, "ttl_invalid", "5s"),
        (r#"{ allow: "https://a.example.com", ttl: long }"#, "ttl_invalid", "long"),
        (
            r#"{ allow: "https://a.example.com", addresses: ["93.184.216.0/24", "93.184.216.1/24"] }"#,
            "cidr_host_bits",
            "\"93.184.216.1/",
        ),
        (r#"{ allow: "https://a.example.com", paths: ["v1"] }"#, "path_invalid", "\"v1"),
        (r#"{ allow: "udp://a.example.com:53", dns_port: "yes" }"#, "type.wrong", "\"yes"),
        (r#"{ allow: "tcp://a.example.com:*" }"#, "port_any", "\"tcp"),
    ] {
        let line = format!("        - {rule}");
        let found = errors(&format!("    grants:\n      egress:\n{line}\n"));
        assert_eq!(found, [(code, 3, line.find(place).unwrap() + 1)], "{rule}");
    }
    let several = "    grants:
      egress:
        - \"https://EXAMPLE.com.\"
        - \"tcp://a.example.com\"
        - { allow: \"https://b.example.com\", sni: true }
";
    assert_eq!(errors(several), [("non_canonical", 3, 11), ("port_missing", 4, 11), ("key.unknown", 5, 45)]);
    let found = granted("\"https://EXAMPLE.com.\"").unwrap_err().render(false);
    assert!(found.contains("https://example.com"), "{found}");
    let found = granted("{ allow: \"https://a.example.com\", metods: [GET] }").unwrap_err().render(false);
    assert!(found.contains("did you mean `methods`?"), "{found}");
}

#[test]
fn what_belongs_to_the_bridges_own_requests_is_refused_on_other_rules() {
    for (rule, code, word) in [
        ("allow: \"tcp://a.example.com:443\", ca: x", "key.conflict", "`ca`"),
        ("allow: \"tls://a.example.com:443\", client_cert: { cert: c, key: k }", "key.conflict", "`client_cert`"),
        ("allow: \"udp://a.example.com:99\", secrets: { a: { env: TOKEN } }", "key.conflict", "`secrets`"),
        ("allow: \"http://a.example.com\", ca: x", "key.conflict", "`ca`"),
        ("allow: \"http://a.example.com\", secrets: { a: { env: TOKEN } }", "key.conflict", "in clear"),
        ("allow: \"https://a.example.com\", client_cert: { cert: c }", "key.missing", "`key`"),
        ("allow: \"https://a.example.com\", secrets: {}", "value.invalid", "without a header"),
        ("allow: \"https://a.example.com\", secrets: [a]", "type.wrong", "is a map"),
        (
            "allow: \"https://a.example.com\", secrets: { Authorization: { env: TOKEN } }",
            "value.invalid",
            "write `authorization`",
        ),
        ("allow: \"https://a.example.com\", secrets: { host: { env: TOKEN } }", "value.invalid", "only the bridge"),
        (
            "allow: \"https://a.example.com\", secrets: { content-length: { env: TOKEN } }",
            "value.invalid",
            "only the bridge",
        ),
        (
            "allow: \"https://a.example.com\", secrets: { transfer-encoding: { env: TOKEN } }",
            "value.invalid",
            "only the bridge",
        ),
        (
            "allow: \"https://a.example.com\", secrets: { \"a b\": { env: TOKEN } }",
            "value.invalid",
            "no name of a header",
        ),
        ("allow: \"https://a.example.com\", secrets: { a: hunter2 }", "type.wrong", "environment or a file"),
        ("allow: \"https://a.example.com\", secrets: { a: { env: NONE } }", "env.missing", "`NONE`"),
        ("allow: \"https://a.example.com\", secrets: { a: { file: none } }", "file.unreadable", "none"),
        ("allow: \"https://a.example.com\", secrets: { a: { prefix: hunter2 } }", "key.conflict", "one place"),
        ("allow: \"https://a.example.com\", secrets: { a: { env: BROKEN } }", "value.invalid", "visible ASCII"),
        (
            "allow: \"https://a.example.com\", secrets: { a: { env: TOKEN, prefix: \" B\" } }",
            "value.invalid",
            "visible ASCII",
        ),
        ("allow: \"https://a.example.com\", secrets: { a: { env: TOKEN, suffix: b } }", "key.unknown", "`suffix`"),
    ] {
        let found = granted(&format!("{{ {rule} }}")).expect_err(rule);
        let all = format!("{}{}{found:?}", found.render(false), found.to_json());
        assert_eq!(found.iter().map(|d| d.code.as_str()).collect::<Vec<_>>(), [code], "{rule}: {all}");
        assert!(all.contains(word) && !all.contains("hunter2"), "{rule}: {all}");
    }
    let clear =
        granted("{ allow: \"http://a.example.com\", dangerous: true, secrets: { a: { env: TOKEN } } }").unwrap();
    assert_eq!(clear.rules[0].secrets[0].value.expose(), "hunter2");
    assert!(!format!("{clear:?}").contains("hunter2"));
}

#[test]
fn a_secret_of_a_rule_is_read_from_a_file_without_its_last_line_break() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("token"), "hunter2\n").unwrap();
    let text = "pipeline: p\nsource: { stdio: }\nsink: { stdio: }\nplugins: [{ name: x, component: x, grants: { egress: [{ allow: \"https://a.example.com\", secrets: { a: { file: token } } }] } }]\n";
    let pipeline = load_pipeline(&folder.path().join("p.yaml"), text.as_bytes(), &NoEnvironment).unwrap();
    let egress = pipeline.plugins[0].grants.egress.as_ref().unwrap();
    assert_eq!(egress.rules[0].secrets[0].value.expose(), "hunter2");
    assert_eq!(egress.rules[0].secrets[0].source, SecretSource::File(folder.path().join("token")));
}

#[test]
fn an_egress_mode_needs_egress() {
    assert_eq!(errors("    grants: { egress_mode: observe }\n"), [("key.conflict", 1, 15)]);
    assert_eq!(errors("    grants: { egress: [], egress_mode: log }\n"), [("value.invalid", 1, 40)]);
}

#[test]
fn what_a_variable_held_is_in_no_error_of_a_rule() {
    let rule = granted("{ allow: \"https://${HOST}\" }").unwrap();
    assert!(rule.rules[0].rule.to_string().contains("hidden.example.com"));
    for rule in [
        "\"tcp://${HOST}\"",
        "{ allow: \"https://a.example.com\", addresses: [\"${HOST}\"] }",
        "{ allow: \"https://*${HOST}\" }",
    ] {
        let found = granted(rule).unwrap_err().render(false);
        assert!(!found.contains("hidden") && found.contains("variables"), "{found}");
    }
}

proptest! {
    #[test]
    fn any_egress_list_is_read_or_refused(rule in "[-a-z0-9{}\\[\\],:\"'/ ${~.&*|>#@%]{0,48}", key in "(allow|methods|paths|addresses|ttl|secrets|ca|client_cert|dangerous)") {
        for egress in [format!("[{rule}]"), format!("[\"{}\"]", rule.replace(['"', '$'], "")), format!("[{{ allow: \"https://a.example.com\", {key}: {rule} }}]")] {
            if let Err(found) = load(&format!("    grants: {{ egress: {egress} }}\n")) {
                prop_assert!(!found.is_empty() && !found.render(true).is_empty());
            }
        }
    }
}
