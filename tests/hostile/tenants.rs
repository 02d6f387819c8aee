//! What the plugins of a tenant share, how long an instance lives, and what becomes of a plugin that fails too often.

use std::time::{Duration, Instant};

use serde_json::json;

use super::network::probe;
use super::scene::{Scene, budget, counted, plugin};
use crate::support::wait::wait_for;

#[test]
fn two_pipelines_of_a_tenant_share_its_memory() {
    let node = json!({ "tenants": { "a": { "limits": { "memory": "40MiB" } } } });
    let grows = || plugin("grows-memory-by-steps", json!({ "limits": { "memory": "32MiB", "restarts": "1000/s" } }));
    // Side by side, each within its own limit: a mebibyte with each message.
    let source = || counted(28, "40/s", "{{seq}}");
    let ran = Scene::new()
        .node(node)
        .pipeline_from("one", "a", source(), json!({ "lanes": 1 }), grows())
        .pipeline_from("two", "a", source(), json!({ "lanes": 1 }), grows())
        .run();
    let mut letters = ran.letters("one");
    letters.extend(ran.letters("two"));
    assert!(!letters.is_empty() && letters.iter().all(|letter| letter.reason == "memory"), "{letters:#?}");
    let events = ran.events("budget.exceeded");
    assert_eq!(events.len(), letters.len());
    for event in events {
        assert_eq!(
            (&budget(event)["scope"], &event["metadata"]["tenant_uid"]),
            (&json!("tenant"), &json!("a")),
            "{event:#}"
        );
        assert!(
            event["status_detail"].as_str().unwrap().contains("41943040") || budget(event)["limit"] == 40 << 20,
            "{event:#}"
        );
    }
    for pipeline in ["one", "two"] {
        assert!(ran.values(pipeline).len() >= 10, "{pipeline}: a fair part of it each");
    }
}

#[test]
fn a_plugin_that_fails_too_often_is_quarantined_for_a_while_and_then_probed() {
    // Three good messages, then a trap: three losses in less than a second, a second of quarantine, and again.
    let guest = plugin("traps-after-n", json!({ "limits": { "restarts": "2/s" } }));
    let source = counted(70, "20/s", "{{seq}}");
    let mut running = Scene::new().pipeline_from("bad", "a", source, json!({ "lanes": 1 }), guest).start();
    running.neighbour();
    let limit = Duration::from_secs(10);
    // The neighbour's end is told on the same page.
    let mut says = |quarantined: bool| {
        wait_for(limit, || Some(running.ready()).filter(|answer| answer.contains("quarantine") == quarantined))
    };
    let not_ready = says(true).expect("/ready never said that a plugin is quarantined");
    assert!(not_ready.starts_with("HTTP/1.1 503") && not_ready.contains("traps-after-n"), "{not_ready}");
    assert!(says(false).is_some(), "/ready never took it back");
    let ran = running.end();
    assert_eq!(ran.finished.code(), 0);
    let letters = ran.letters("bad");
    let quarantined = letters.iter().filter(|letter| letter.detail.contains("quarantined")).count();
    let trapped = letters.len() - quarantined;
    assert!(trapped >= 4 && quarantined >= 10, "{trapped} {quarantined}");
    assert_eq!(ran.count("plugin.trapped", ""), trapped as u64, "{:#?}", ran.tally());
    assert!(ran.count("plugin.disabled", "") >= 1, "{:#?}", ran.tally());
    assert_eq!(ran.values("bad").len() + letters.len(), 70);
    let last: usize = ran.values("bad").last().unwrap().parse().unwrap();
    let first_quarantined = letters.iter().find(|letter| letter.detail.contains("quarantined")).unwrap();
    assert!(last > first_quarantined.value.parse::<usize>().unwrap() + 10, "after the quarantine messages pass again");
}

#[test]
fn an_instance_lives_for_its_lane_a_batch_or_a_message() {
    const MESSAGES: usize = 600;
    let run = |instance: &str| {
        let ran = Scene::new().bad(plugin("counts", json!({ "instance": instance })), &["count"; MESSAGES]).run();
        let counts: Vec<usize> = ran.letters("bad").iter().map(|letter| letter.detail.parse().unwrap()).collect();
        assert_eq!(counts.len(), MESSAGES, "{instance}");
        counts
    };
    assert_eq!(run("lane"), (1..=MESSAGES).collect::<Vec<_>>());
    assert_eq!(run("message"), [1; MESSAGES], "no message sees what another one left");
    let batches = run("batch");
    assert_eq!(batches[0], 1);
    assert!(batches.windows(2).all(|two| two[1] == 1 || two[1] == two[0] + 1), "{batches:?}");
    assert!(batches.iter().filter(|count| **count == 1).count() >= 2, "a batch is not everything: {batches:?}");
    assert!(batches.iter().any(|count| *count > 1), "a batch is more than a message");
}

#[test]
fn messages_that_wait_together_leave_in_their_order() {
    const MESSAGES: usize = 40;
    let messages: Vec<String> = (0..MESSAGES)
        .map(|number| {
            json!({ "number": number, "ops": [{ "op": "sleep", "ms": if number % 3 == 0 { 300 } else { 30 } }] })
                .to_string()
        })
        .collect();
    let messages: Vec<&str> = messages.iter().map(String::as_str).collect();
    let more = json!({ "limits": { "concurrency": 20, "deadline": "5s" } });
    let begun = Instant::now();
    let ran = Scene::new()
        .pipeline_of("bad", "a", json!({ "lanes": 1, "order": "partition" }), probe(json!([]), more), &messages)
        .run();
    let took = begun.elapsed();
    let numbers: Vec<usize> = ran
        .values("bad")
        .iter()
        .map(|value| {
            let value: serde_json::Value = serde_json::from_str(value).unwrap();
            assert_eq!(value["results"][0]["ok"], true);
            usize::try_from(value["number"].as_u64().unwrap()).unwrap()
        })
        .collect();
    assert_eq!(numbers, (0..MESSAGES).collect::<Vec<_>>(), "{:#?}", ran.letters("bad"));
    assert!(took < Duration::from_secs(4), "one after the other they take five seconds: {took:?}");
}
