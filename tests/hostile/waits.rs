//! Limits over which no call fails: what has to wait for them is in the metrics and in the audit.

use serde_json::{Value, json};

use super::network::{probe, tcp};
use super::scene::{Ran, Scene, budget, counted, plugin};
use super::tenants::shows;
use crate::support::servers::Server;

/// Events of this kind, with their exact number.
fn told(ran: &Ran, kind: &str) -> (Vec<Value>, u64) {
    let of_kind = |event: &&Value| event["status_code"] == kind;
    let events: Vec<Value> = ran.events("budget.exceeded").into_iter().filter(of_kind).cloned().collect();
    (events, ran.count("budget.exceeded", kind))
}

#[test]
fn what_waits_for_its_queue_its_rate_or_its_turn_is_counted_and_told_once_a_second() {
    let decoy = Server::decoy();
    // The second half has to wait for two seconds.
    let send = json!({ "ops": [{ "op": "tcp", "to": decoy.address, "send": "x".repeat(4096) }] }).to_string();
    let rate = json!({ "limits": { "egress_bytes": "1KiB/s", "deadline": "10s" } });
    // Nothing fails over it: a second and a half for all, one at a time.
    let slow = json!({ "ops": [{ "op": "sleep", "ms": 50 }] }).to_string();
    let slow = [slow.as_str(); 30];
    let queue = json!({ "lanes": 1, "order": "partition", "queue": { "messages": 2 } });
    // More lanes than the tenant has turns, each with calls that compute for as long as they may.
    let spins = json!({ "limits": { "fuel": 1_000_000_000_000_u64, "restarts": "1000/s" } });
    let mut running = Scene::new()
        .pipeline_of("rate", "a", json!({ "lanes": 1 }), probe(json!([tcp(decoy.address)]), rate), &[&send])
        .pipeline_of("queue", "a", queue, probe(json!([]), json!({ "name": "slow" })), &slow)
        .pipeline_of("turns", "a", json!({ "lanes": 8 }), plugin("spins-forever", spins), &["spin"; 16])
        // Keeps the process until its metrics were looked at.
        .pipeline_from("stays", "b", counted(1000, "1/s", "k"), json!({}), plugin("touch", json!({})))
        .start();
    running.neighbour();
    let met = |pipeline: &str, plugin: &str, kind: &str, scope: &str| {
        let labels = format!(r#"pipeline="{pipeline}",plugin="{plugin}",kind="{kind}",scope="{scope}""#);
        format!("portcullis_limits_met_total{{{labels}}} ")
    };
    shows(&mut running, &met("rate", "probe", "quota.bytes_out", "plugin"));
    shows(&mut running, &met("queue", "source", "queue.messages", "pipeline"));
    shows(&mut running, &met("turns", "spins-forever", "cpu.share", "tenant"));
    shows(&mut running, r#"portcullis_plugin_turn_wait_nanoseconds_total{pipeline="turns",plugin="spins-forever"} "#);
    running.process.signal("TERM");
    let ran = running.end();
    assert_eq!(ran.finished.code(), 0, "{:?}", ran.finished);
    assert_eq!((ran.values("rate").len(), ran.values("queue").len()), (1, 30), "{:#?}", ran.tally());
    assert_eq!(ran.results("rate").concat()[0]["ok"], true, "{:#?}", ran.results("rate"));

    let (events, times) = told(&ran, "queue.messages");
    assert!(times >= 10 && events.len() <= 6, "{times} times in {} events", events.len());
    for event in &events {
        assert_eq!(event["metadata"]["tenant_uid"], "a", "{event:#}");
        assert_eq!((&budget(event)["scope"], &budget(event)["limit"]), (&json!("pipeline"), &json!(2)), "{event:#}");
    }
    let (events, times) = told(&ran, "quota.bytes_out");
    assert!(times >= 1, "{:#?}", ran.tally());
    assert_eq!((&budget(&events[0])["scope"], &budget(&events[0])["limit"]), (&json!("plugin"), &json!(1024)));
    let (events, times) = told(&ran, "cpu.share");
    assert!(times >= 4, "sixteen calls of a quarter of a second and fewer turns than lanes: {:#?}", ran.tally());
    assert!(events.iter().all(|event| budget(event)["scope"] == "tenant" && event["count"].as_u64() >= Some(1)));
    let of_turns = events.iter().find(|event| event["actor"]["app_name"] == "a/spins-forever").unwrap();
    assert!(of_turns["status_detail"].as_str().unwrap().contains("ms in all for one of"), "{of_turns:#}");
}
