//! `portcullis explain` and `portcullis grants suggest`: no component is needed, and nothing is asked of any network.

use std::fs;
use std::path::Path;
use std::time::Duration;

use serde_json::{Value, json};
use tempfile::TempDir;

use crate::support::names::NameServer;
use crate::support::process::{Finished, run};

const LIMIT: Duration = Duration::from_secs(60);

/// The rules of the plugin begin at line 8.
const PIPELINE: &str = r#"pipeline: orders
source: { kafka: { brokers: "10.9.8.7:9092,broker.example.com:9093", topics: [in], group: g } }
plugins:
  - name: rates
    component: not-built.wasm
    grants:
      egress:
        - { allow: "https://api.example.com", methods: [GET], paths: [/v1/] }
        - { allow: "tcp://db.example.com:5432" }
        - { allow: "tcp://10.9.8.0/24:1-65535", dangerous: true }
  - name: plain
    component: not-built.wasm
sink: { file: { path: out.jsonl, format: jsonl } }
"#;

fn folder(pipeline: &str) -> TempDir {
    let folder = TempDir::new().unwrap();
    fs::write(folder.path().join("pipeline.yaml"), pipeline).unwrap();
    folder
}

fn explain(folder: &Path, more: &[&str]) -> Finished {
    let arguments: Vec<&str> = ["explain", "pipeline.yaml", "--plugin", "rates"].iter().chain(more).copied().collect();
    run(folder, &arguments, LIMIT)
}

fn decided(folder: &Path, request: &str, more: &[&str]) -> Value {
    let arguments: Vec<&str> = ["--format", "json", "--request", request].iter().chain(more).copied().collect();
    let ended = explain(folder, &arguments);
    assert_eq!(ended.code(), 0, "{ended:?}");
    ended.json()
}

fn steps(decided: &Value) -> Vec<&str> {
    decided["steps"].as_array().unwrap().iter().map(|step| step["verdict"].as_str().unwrap()).collect()
}

#[test]
fn a_granted_request_names_the_rule_and_its_line() {
    let folder = folder(PIPELINE);
    let decided =
        decided(folder.path(), "GET https://api.example.com/v1/x", &["--answer", "93.184.216.34", "--expect", "allow"]);
    assert_eq!((&decided["decision"], &decided["reason"]), (&json!("allow"), &Value::Null), "{decided:#}");
    assert_eq!(decided["rule"]["uid"], "egress[0]");
    assert_eq!(decided["rule"]["text"], "https://api.example.com");
    assert_eq!(decided["rule"]["at"], "pipeline.yaml:8:11");
    assert_eq!(steps(&decided), ["passed"; 7]);
    assert!(decided["policy_version"].as_str().unwrap().starts_with("sha256:"));
    let text = explain(folder.path(), &["--request", "GET https://api.example.com/v1/x"]);
    for piece in [
        "decision  allow",
        "egress[0] `https://api.example.com` at pipeline.yaml:8:11",
        "was not looked up",
        "6 allow rules",
    ] {
        assert!(text.stdout.contains(piece), "{piece} is missing in\n{}", text.stdout);
    }
}

#[test]
fn a_wrong_port_names_the_rule_that_missed_and_the_grant_that_would_allow_it() {
    let folder = folder(PIPELINE);
    for more in [&[][..], &["--answer", "93.184.216.34"]] {
        let decided = decided(folder.path(), "tcp://db.example.com:5433", more);
        assert_eq!(
            (&decided["decision"], &decided["reason"], &decided["step"]),
            (&json!("deny"), &json!("rule.port"), &json!(6))
        );
        assert_eq!(
            (&decided["nearest"]["uid"], &decided["nearest"]["at"]),
            (&json!("egress[1]"), &json!("pipeline.yaml:9:11"))
        );
        assert_eq!(decided["nearest"]["why"], "it is for port 5432");
        assert_eq!(decided["smallest_grant"], r#"- { allow: "tcp://db.example.com:5433" }"#);
        assert_eq!(decided["guest_code"], "access-denied");
    }
}

#[test]
fn a_wrong_path_is_refused_before_anything_is_looked_up() {
    let folder = folder(PIPELINE);
    let decided = decided(folder.path(), "GET https://api.example.com/v2/x?q=1", &["--expect", "deny"]);
    assert_eq!((&decided["reason"], &decided["guest_code"]), (&json!("http.path"), &json!("HTTP-request-denied")));
    assert_eq!(decided["nearest"]["why"], "its paths are /v1/");
    assert_eq!(
        decided["smallest_grant"],
        r#"- { allow: "https://api.example.com", methods: ["GET"], paths: ["/v2/x"] }"#
    );
    assert_eq!(decided["stages"].as_array().unwrap().len(), 1);
}

#[test]
fn a_name_that_resolves_to_a_private_address_is_refused_at_its_answer() {
    let folder = folder(PIPELINE);
    for (request, code, grant) in [
        (
            "GET https://api.example.com/v1/x",
            "destination-IP-prohibited",
            r#"- { allow: "https://api.example.com", methods: ["GET"], paths: ["/v1/x"], addresses: ["10.1.2.3/32"] }"#,
        ),
        (
            "tcp://db.example.com:5432",
            "name-unresolvable",
            r#"- { allow: "tcp://db.example.com:5432", addresses: ["10.1.2.3/32"] }"#,
        ),
    ] {
        let decided = decided(folder.path(), request, &["--answer", "10.1.2.3"]);
        assert_eq!((&decided["reason"], &decided["step"]), (&json!("addr.private"), &json!(4)), "{decided:#}");
        assert_eq!((&decided["guest_code"], &decided["smallest_grant"]), (&json!(code), &json!(grant)));
        assert_eq!(decided["answers"], json!({ "source": "assumed", "addresses": ["10.1.2.3"] }));
        assert_eq!(steps(&decided)[3], "refused");
    }
}

#[test]
fn another_spelling_of_a_loopback_address_is_no_name_and_no_address() {
    let folder = folder(PIPELINE);
    for (request, code) in [
        ("resolve 0x7f.1", "permanent-resolver-failure"),
        ("tcp://0x7f.1:80", "permanent-resolver-failure"),
        ("GET http://0x7f.1/", "HTTP-request-URI-invalid"),
    ] {
        let decided = decided(folder.path(), request, &[]);
        assert_eq!((&decided["reason"], &decided["step"]), (&json!("name.numeric"), &json!(1)), "{decided:#}");
        assert_eq!((&decided["guest_code"], &decided["smallest_grant"]), (&json!(code), &Value::Null));
    }
}

#[test]
fn the_brokers_own_address_is_refused_although_a_rule_names_its_range() {
    let folder = folder(PIPELINE);
    let other = decided(folder.path(), "tcp://10.9.8.6:9092", &[]);
    assert_eq!(other["decision"], "allow", "the rule is good for others: {other:#}");
    for request in ["tcp://10.9.8.7:9092", "tcp://broker.example.com:9093"] {
        let pipeline = PIPELINE.replace("tcp://db.example.com:5432", "tcp://broker.example.com:9093");
        fs::write(folder.path().join("pipeline.yaml"), pipeline).unwrap();
        let decided = decided(folder.path(), request, &[]);
        assert_eq!((&decided["reason"], &decided["step"]), (&json!("addr.self"), &json!(3)), "{decided:#}");
        assert_eq!(decided["smallest_grant"], Value::Null, "no grant lifts it");
    }
}

#[test]
fn a_broker_on_loopback_is_refused_at_every_loopback_address() {
    let rule = "{ allow: \"tcp://127.0.0.0/8:9092,9093\" }";
    let pipeline = PIPELINE
        .replace("10.9.8.7:9092,broker.example.com:9093", "localhost:9092")
        .replace("{ allow: \"tcp://db.example.com:5432\" }", rule);
    let folder = folder(&pipeline);
    fs::write(folder.path().join("portcullis.yaml"), "egress: { consent: [\"127.0.0.0/8\"] }\n").unwrap();
    for (request, reason) in [
        ("tcp://127.0.0.1:9092", json!("addr.self")),
        ("tcp://127.0.0.2:9092", json!("addr.self")),
        ("tcp://127.0.0.2:9093", Value::Null),
    ] {
        assert_eq!(decided(folder.path(), request, &[])["reason"], reason, "{request}");
    }
}

#[test]
fn addresses_that_the_ceiling_does_not_name_are_refused_at_their_place_and_the_line_that_is_suggested_is_enough() {
    let rule = "{ allow: \"https://api.example.com\", addresses: [\"93.184.216.0/24\", \"10.1.0.0/16\"] }";
    let pipeline = PIPELINE.replace("{ allow: \"https://api.example.com\", methods: [GET], paths: [/v1/] }", rule);
    let folder = folder(&pipeline);
    let node = |lines: &str| {
        let text = format!(
            "ceilings: {{ egress: [\"https://*.example.com\", \"tcp://*:*\", \"tcp://10.9.8.0/24:*\"{lines}] }}\n"
        );
        fs::write(folder.path().join("portcullis.yaml"), text).unwrap();
    };
    node("");
    let request = "GET https://api.example.com/v1/x";
    let ended = explain(folder.path(), &["--request", request]);
    assert_eq!(ended.code(), 2, "{ended:?}");
    let place = format!("pipeline.yaml:8:{}: error[grant_above_ceiling]", 11 + rule.find("\"10.1.0.0").unwrap());
    for piece in [place.as_str(), "addr.private", "\"https://10.1.0.0/16\" to `ceilings.egress`"] {
        assert!(ended.stderr.contains(piece), "{piece} is missing in\n{}", ended.stderr);
    }
    node(", \"https://10.1.0.0/16\"");
    assert_eq!(decided(folder.path(), request, &["--answer", "10.1.2.3"])["decision"], "allow");
    assert_eq!(decided(folder.path(), request, &["--answer", "10.2.2.3"])["reason"], "addr.private");
}

#[test]
fn an_operators_deny_is_named_with_its_line_and_no_grant_is_suggested() {
    let folder = folder(PIPELINE);
    fs::write(folder.path().join("portcullis.yaml"), "egress:\n  deny:\n    - \"*.example.com:5433\"\n").unwrap();
    let decided = decided(folder.path(), "tcp://db.example.com:5433", &["--answer", "93.184.216.34"]);
    assert_eq!(
        (&decided["reason"], &decided["smallest_grant"]),
        (&json!("rule.operator_deny"), &Value::Null),
        "{decided:#}"
    );
    assert_eq!(decided["rule"]["at"], "portcullis.yaml:3:7");
}

#[test]
fn a_plugin_without_an_egress_grant_has_no_network_and_is_told_the_grant() {
    let folder = folder(PIPELINE);
    let arguments =
        ["explain", "pipeline.yaml", "--plugin", "plain", "--request", "udp://ntp.example.com:123", "--format", "json"];
    let decided = run(folder.path(), &arguments, LIMIT).json();
    assert_eq!(
        (&decided["decision"], &decided["reason"]),
        (&json!("deny"), &json!("capability.absent")),
        "{decided:#}"
    );
    assert_eq!(decided["smallest_grant"], r#"- { allow: "udp://ntp.example.com:123" }"#);
    assert!(decided["notes"][0].as_str().unwrap().contains("nothing is linked"), "{decided:#}");
}

#[test]
fn requests_of_a_file_are_decided_one_by_one_and_an_expectation_sets_the_exit_code() {
    let folder = folder(PIPELINE);
    let lines =
        "\"tcp://db.example.com:5432\"\n\n{\"request\":\"tcp://db.example.com:5432\",\"answers\":[\"127.0.0.1\"]}\n";
    fs::write(folder.path().join("requests.jsonl"), lines).unwrap();
    let all = ["--requests", "requests.jsonl", "--format", "json"];
    let ended = explain(folder.path(), &all);
    assert_eq!(ended.code(), 0, "{ended:?}");
    let decisions: Vec<String> = ended
        .stdout
        .lines()
        .map(|line| serde_json::from_str::<Value>(line).unwrap()["decision"].as_str().unwrap().to_owned())
        .collect();
    assert_eq!(decisions, ["allow", "deny"]);
    for (expected, request, code) in
        [("allow", "5432", 0), ("deny", "5432", 1), ("deny", "5433", 0), ("allow", "5433", 1)]
    {
        let request = format!("tcp://db.example.com:{request}");
        assert_eq!(explain(folder.path(), &["--request", &request, "--expect", expected]).code(), code, "{request}");
    }
}

#[test]
fn what_cannot_be_read_is_refused_with_what_is_allowed() {
    let folder = folder(PIPELINE);
    let path = folder.path();
    fs::write(path.join("requests.jsonl"), "\"tcp://db.example.com:5432\"\n{\"ask\":1}\n\"nonsense\"\n").unwrap();
    for (more, pieces) in [
        (&["--request", "example.com"][..], &["--request: error[value.invalid]", "`resolve NAME`"][..]),
        (&["--requests", "requests.jsonl"], &["requests.jsonl:2: error", "requests.jsonl:3: error"]),
        (&["--requests", "missing.jsonl"], &["missing.jsonl: error[file.unreadable]"]),
    ] {
        let ended = explain(path, more);
        assert_eq!((ended.code(), ended.stdout.as_str()), (2, ""), "{ended:?}");
        for piece in pieces {
            assert!(ended.stderr.contains(piece), "{piece} is missing in\n{}", ended.stderr);
        }
    }
    let other = run(path, &["explain", "pipeline.yaml", "--plugin", "other", "--request", "resolve a.test"], LIMIT);
    assert_eq!((other.code(), other.stderr.contains("there is: `rates`, `plain`")), (2, true), "{other:?}");
    fs::write(path.join("pipeline.yaml"), PIPELINE.replace("https://api.example.com", "https://*")).unwrap();
    assert_eq!(explain(path, &["--request", "resolve a.test"]).code(), 2, "the same mistakes as `check`");
}

#[test]
fn only_with_resolve_are_the_configured_name_servers_asked_and_only_for_names_that_are_granted() {
    let servers = NameServer::start(|name, _| (name == "db.example.com").then(|| vec!["10.1.2.3".parse().unwrap()]));
    // A broker's name would be looked up the way the Kafka client does it, outside of this test.
    let folder = folder(&PIPELINE.replace(",broker.example.com:9093", ""));
    let node = format!("egress: {{ dns: {{ servers: [\"{}\"] }} }}\n", servers.address());
    fs::write(folder.path().join("portcullis.yaml"), node).unwrap();
    let request = "tcp://db.example.com:5432";
    assert_eq!(decided(folder.path(), request, &[])["answers"], json!({ "source": "none", "addresses": [] }));
    assert_eq!(decided(folder.path(), "tcp://other.example.com:5432", &["--resolve"])["reason"], "rule.no_match");
    assert_eq!(servers.asked(), Vec::<String>::new(), "a query is a way out");
    let found = decided(folder.path(), request, &["--resolve"]);
    assert_eq!(found["answers"], json!({ "source": "name_servers", "addresses": ["10.1.2.3"] }), "{found:#}");
    assert_eq!((&found["reason"], &found["guest_code"]), (&json!("addr.private"), &json!("name-unresolvable")));
    assert_eq!(servers.asked(), ["db.example.com"]);
    let missing = decided(folder.path(), "GET https://api.example.com/v1/", &["--resolve"]);
    assert_eq!((&missing["reason"], &missing["step"]), (&json!("dns.failed"), &Value::Null), "{missing:#}");
    assert_eq!((&missing["guest_code"], &missing["smallest_grant"]), (&json!("DNS-error"), &Value::Null));
}

/// What the audit of a run in observe mode holds of an HTTP request.
fn http_event(path: &str) -> Value {
    json!({
        "metadata": { "event_code": "http.allowed" },
        "actor": { "app_name": "rates", "invoked_by": "pipeline/orders" },
        "dst_endpoint": { "hostname": "api.example.com", "ip": "93.184.216.34", "port": 443 },
        "http_request": { "http_method": "GET", "url": { "scheme": "https", "path": path } },
        "unmapped": { "egress_mode": "observe", "would_deny": "rule.no_match" },
    })
}

#[test]
fn the_grants_that_are_suggested_from_an_audit_file_allow_what_was_recorded() {
    let folder = folder(PIPELINE);
    let connect = json!({
        "metadata": { "event_code": "net.connect.allowed" },
        "actor": { "app_name": "rates", "invoked_by": "pipeline/orders" },
        "dst_endpoint": { "hostname": "db.example.com", "ip": "10.1.2.3", "port": 5432 },
    });
    let denied = json!({
        "metadata": { "event_code": "net.connect.denied" }, "status_detail": "addr.metadata", "count": 3,
        "actor": { "app_name": "rates", "invoked_by": "pipeline/orders" },
        "dst_endpoint": { "ip": "169.254.169.254", "port": 80 },
    });
    let clock = json!({
        "metadata": { "event_code": "host.call" }, "count": 12, "api": { "operation": "wasi:clocks/wall-clock.now" },
        "actor": { "app_name": "rates", "invoked_by": "pipeline/orders" },
    });
    let events = [http_event("/v1/EUR"), http_event("/v1/USD"), connect, denied, clock];
    // The last line is one that is being written.
    let text: String = events.iter().map(|event| format!("{event}\n")).chain(["{\"metad".to_owned()]).collect();
    fs::write(folder.path().join("audit.jsonl"), text).unwrap();
    let suggest = |more: &[&str]| {
        let arguments: Vec<&str> =
            ["grants", "suggest", "--audit", "audit.jsonl"].iter().chain(more).copied().collect();
        let ended = run(folder.path(), &arguments, LIMIT);
        assert_eq!(ended.code(), 0, "{ended:?}");
        ended
    };
    let yaml = suggest(&["--pipeline", "orders"]).stdout;
    for piece in [
        "name: \"rates\"",
        "# not granted: 3 of net.connect.denied (addr.metadata)",
        "# 2 let through by observe mode (rule.no_match)",
        r#"- { allow: "https://api.example.com", methods: ["GET"], paths: ["/v1/EUR", "/v1/USD"] }"#,
        r#"- { allow: "tcp://db.example.com:5432", addresses: ["10.1.2.3/32"] }"#,
        "clock: coarse  # 12 calls",
    ] {
        assert!(yaml.contains(piece), "{piece} is missing in\n{yaml}");
    }
    let json = suggest(&["--format", "json"]).json();
    assert_eq!(json[0]["grants"]["egress"].as_array().unwrap().len(), 2, "{json:#}");
    assert!(suggest(&["--plugin", "other"]).stdout.contains("[]"));

    // As it was printed, two blanks further in.
    let grants: Vec<&str> = yaml.lines().skip_while(|line| *line != "  grants:").collect();
    let grants: String = grants.iter().map(|line| format!("  {line}\n")).collect();
    let (head, tail) = PIPELINE.split_once("    grants:\n").unwrap();
    let (_, tail) = tail.split_once("  - name: plain").unwrap();
    fs::write(folder.path().join("pipeline.yaml"), format!("{head}{grants}  - name: plain{tail}")).unwrap();
    for (request, answer, decision) in [
        ("GET https://api.example.com/v1/EUR", "93.184.216.34", "allow"),
        ("GET https://api.example.com/v1/GBP", "93.184.216.34", "deny"),
        ("tcp://db.example.com:5432", "10.1.2.3", "allow"),
        ("tcp://db.example.com:5432", "10.1.2.4", "deny"),
    ] {
        assert_eq!(
            decided(folder.path(), request, &["--answer", answer])["decision"],
            decision,
            "{request} at {answer}"
        );
    }
    fs::write(folder.path().join("audit.jsonl"), "{}\nnonsense\n").unwrap();
    let refused = run(folder.path(), &["grants", "suggest", "--audit", "audit.jsonl"], LIMIT);
    assert_eq!((refused.code(), refused.stderr.contains("audit.jsonl:2: error")), (2, true), "{refused:?}");
}

#[test]
fn a_refusal_has_a_sentence_and_one_for_the_bridges_own_endpoint_says_which() {
    let folder = folder(PIPELINE);
    fs::write(folder.path().join("portcullis.yaml"), "brokers: { main: { kafka: { brokers: \"10.9.8.1:9094\" } } }\n")
        .unwrap();
    for (request, endpoint) in [
        ("tcp://10.9.8.7:9092", "10.9.8.7:9092 is a Kafka broker of pipeline `orders` (pipeline.yaml:2:"),
        ("tcp://10.9.8.1:9094", "10.9.8.1:9094 is a Kafka broker of profile `main` (portcullis.yaml:1:"),
        ("GET http://127.0.0.1:9464/metrics", "127.0.0.1:9464 is the admin endpoint (the default)"),
    ] {
        let decided = decided(folder.path(), request, &[]);
        assert_eq!(decided["reason"], "addr.self", "{request}: {decided:#}");
        assert!(decided["own_endpoint"].as_str().unwrap_or_default().contains(endpoint), "{request}: {decided:#}");
    }
    let text = explain(folder.path(), &["--request", "tcp://0x7f.1:80"]);
    for piece in ["deny: name.numeric", "because   the text is a number that some programs read as an address"] {
        assert!(text.stdout.contains(piece), "{piece} is missing in\n{}", text.stdout);
    }
}
