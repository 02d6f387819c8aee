//! Two tenants in one process.

use std::fs;

use serde_json::{Value, json};

use super::copy::{Copy, records, topics};

/// A value that needs more memory than globex has: each item is a list of its own to the plugin.
fn greedy(id: u32) -> String {
    format!("{{\"id\":{id},\"x\":[{}]}}", vec!["[0]"; 20_000].join(","))
}

fn budget(plan: &Value, pipeline: &str, name: &str) -> (String, String) {
    let pipeline = plan["pipelines"].as_array().unwrap().iter().find(|one| one["pipeline"] == pipeline).unwrap();
    let budgets = pipeline["plugins"][0]["budgets"].as_array().unwrap();
    let budget = budgets.iter().find(|budget| budget["name"] == name).unwrap();
    (budget["value"].as_str().unwrap().to_owned(), budget["origin"].as_str().unwrap().to_owned())
}

#[test]
pub(super) fn each_tenant_has_its_own_topics_and_its_own_ceiling() {
    for tenant in ["acme", "globex"] {
        topics(
            &["orders", "orders.checked", "orders.dlq"]
                .map(|end| format!("{tenant}.{end}"))
                .each_ref()
                .map(String::as_str),
            1,
        );
    }
    let copy = Copy::new();
    let plan = copy.ended("plan", "two-tenants", &["--format", "json"]).json();
    assert_eq!(budget(&plan, "acme-orders", "memory"), ("64MiB".to_owned(), "default".to_owned()));
    let (memory, origin) = budget(&plan, "globex-orders", "memory");
    assert_eq!((memory.as_str(), origin.contains("two-tenants/portcullis.yaml:")), ("4MiB", true), "{origin}");

    let mut input = String::new();
    for tenant in ["acme", "globex"] {
        let values =
            [format!("{{\"id\":1,\"of\":\"{tenant}\"}}"), greedy(2), format!("{{\"id\":3,\"of\":\"{tenant}\"}}")];
        for value in values {
            input += &format!("{}\n", json!({ "channel": format!("{tenant}.orders"), "key": tenant, "value": value }));
        }
    }
    fs::write(copy.path("in.jsonl"), input).unwrap();
    copy.send("in.jsonl");
    let bridge = copy.run("two-tenants");
    let values = |topic: &str, count| -> Vec<String> {
        let records = records(topic, count);
        records.into_iter().map(|record| String::from_utf8(record.value.unwrap()).unwrap()).collect()
    };
    let of = |tenant: &str, id: u32| format!("{{\"id\":{id},\"of\":\"{tenant}\"}}");
    assert_eq!(values("acme.orders.checked", 3), [of("acme", 1), greedy(2), of("acme", 3)]);
    assert_eq!(values("globex.orders.checked", 2), [of("globex", 1), of("globex", 3)]);
    let letter = &records("globex.orders.dlq", 1)[0];
    assert_eq!((letter.error("reason"), letter.value.as_deref()), ("memory", Some(greedy(2).as_bytes())));
    assert!(letter.error("message").contains("4194304"), "{letter:#?}");
    let told = copy.end(bridge);
    assert!(told.contains("budget.exceeded"), "{told}");
    assert_eq!(records("acme.orders.dlq", 0), []);
}

#[test]
fn a_pipeline_cannot_raise_what_its_tenant_has() {
    let copy = Copy::new();
    let ask = |tenant: &str, from: &str, to: &str| {
        let path = copy.path(&format!("two-tenants/{tenant}.yaml"));
        let text = fs::read_to_string(&path).unwrap();
        assert!(text.contains(from), "{from}");
        fs::write(&path, text.replace(from, to)).unwrap();
        let ended = copy.ended("check", "two-tenants", &["--format", "json"]);
        fs::write(&path, text).unwrap();
        ended
    };
    let component = "component: ../../plugins/json-schema.wasm\n";
    let grant = format!("{component}    grants: {{ egress: [\"https://api.acme.example\"] }}\n");
    assert_eq!(ask("acme", component, &grant).code(), 0);
    for (from, to, code) in [
        (component, grant, "grant_above_ceiling"),
        (component, format!("{component}    grants: {{ clock: coarse }}\n"), "grant_above_ceiling"),
        (component, format!("{component}    limits: {{ memory: 64MiB }}\n"), "limit.above_ceiling"),
        ("tenant: globex\n", "tenant: initech\n".to_owned(), "tenant.unknown"),
        ("topic: globex.orders.checked", "topic: \"${HOME}\"".to_owned(), "env.not_listed"),
    ] {
        let refused = ask("globex", from, &to);
        assert_eq!(refused.code(), 2, "{to}: {refused:?}");
        assert!(refused.stdout.contains(code), "{to}: {code} is missing in {}", refused.stdout);
    }
}
