//! What the plugins of a tenant share, how long an instance lives, and what becomes of a plugin that fails too often.

use std::fs;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use serde_json::{Value, json};

use super::network::{http, probe, reaching};
use super::scene::{Running, Scene, budget, counted, plugin};
use crate::support::servers::{Answer, Server, response};
use crate::support::wait::{wait_for, wait_until};

const LIMIT: Duration = Duration::from_secs(20);

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
    let events = ran.budgets();
    assert_eq!(events.len(), letters.len());
    for event in events {
        // The tenant's limit with the tenant's name on it, and not the plugin's own 32 MiB.
        assert_eq!(
            (&budget(event)["scope"], &budget(event)["limit"], &event["metadata"]["tenant_uid"]),
            (&json!("tenant"), &json!(40 << 20), &json!("a")),
            "{event:#}"
        );
    }
    for pipeline in ["one", "two"] {
        assert!(ran.values(pipeline).len() >= 10, "{pipeline}: a fair part of it each");
    }
}

/// Four losses, then each plugin's next one is one too many for their tenant, whoever had the four.
#[test]
fn two_plugins_of_a_tenant_share_its_restarts() {
    let node = json!({ "tenants": { "a": { "limits": { "restarts": "4/min" } } } });
    let lane = || json!({ "lanes": 1 });
    let messages = ["x"; 10];
    let ran = Scene::new()
        .node(node)
        .pipeline_of("one", "a", lane(), plugin("traps", json!({ "name": "one" })), &messages)
        .pipeline_of("two", "a", lane(), plugin("traps", json!({ "name": "two" })), &messages)
        .run();
    assert_eq!((ran.count("plugin.trapped", ""), ran.count("plugin.disabled", "")), (6, 2), "{:#?}", ran.tally());
    let events = ran.budgets();
    assert_eq!(events.len(), 2, "{:#?}", ran.tally());
    for event in events {
        assert_eq!(
            (&event["status_code"], &budget(event)["scope"], &budget(event)["limit"], &event["metadata"]["tenant_uid"]),
            (&json!("restarts"), &json!("tenant"), &json!(4), &json!("a")),
            "{event:#}"
        );
    }
    for pipeline in ["one", "two"] {
        let letters = ran.letters(pipeline);
        let turned_away = letters.iter().filter(|letter| letter.code == "quarantined").count();
        assert!(letters.len() == 10 && turned_away >= 5, "{pipeline}: {letters:#?}");
    }
}

/// So that a tenant's message waits less behind another tenant's computing plugin. Linux tells slices since 6.12.
#[test]
fn threads_of_a_process_that_tenants_share_have_short_slices() {
    let mut running = Scene::new().bad(plugin("counts", json!({})), &["1"]).start();
    running.admin();
    let short = |name: &str| wait_for(LIMIT, || Some(running.slices_ms(name)).filter(|slices| !slices.is_empty()));
    if std::fs::read_to_string("/proc/self/sched").is_ok_and(|text| text.contains("se.slice")) {
        for name in ["lane0:neighbour", "in0:neighbour", "line-sink", "portcullis-epoc"] {
            let slices = short(name).unwrap_or_else(|| panic!("no thread {name}"));
            assert!(slices.iter().all(|slice| *slice == 0.1), "{name}: {slices:?}");
        }
    }
    running.neighbour();
    assert_eq!(running.end().finished.code(), 0);
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
    shows(&mut running, r#"portcullis_plugin_quarantined{pipeline="bad",plugin="traps-after-n"} 1"#);
    shows(&mut running, r#"kind="trap",code="quarantined"} "#);
    let ran = running.end();
    assert_eq!(ran.finished.code(), 0);
    let letters = ran.letters("bad");
    let quarantined = letters.iter().filter(|letter| letter.detail.contains("quarantined")).count();
    assert_eq!(letters.iter().filter(|letter| letter.code == "quarantined").count(), quarantined, "{letters:#?}");
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
fn ready_takes_a_quarantine_back_when_its_window_is_over_and_not_only_when_a_message_has_passed() {
    // None ever passes: the two sources lose two instances at once, then nothing comes for two seconds after the window.
    let guest = plugin("traps", json!({ "limits": { "restarts": "1/s" } }));
    let source = json!({ "generator": { "count": 10, "rate": "20/min", "key": "{{seq}}", "value": "trap" } });
    let source = json!([source.clone(), source]);
    let mut running = Scene::new().pipeline_from("bad", "a", source, json!({ "lanes": 1 }), guest).start();
    running.neighbour();
    for quarantined in [true, false, true] {
        let says = wait_until(LIMIT, || running.ready().contains("quarantine") == quarantined);
        assert!(says, "/ready never said that quarantined is {quarantined}: {}", running.ready());
    }
}

#[test]
fn keys_that_wait_for_an_api_that_hangs_hold_up_no_other_key() {
    const HANGING: usize = 50;
    const MESSAGES: usize = 300;
    let heals = Arc::new(AtomicBool::new(false));
    let healed = Arc::clone(&heals);
    let server = Server::start(move |head| {
        let number: usize = head.split(['/', ' ']).find_map(|piece| piece.parse().ok()).unwrap();
        let hangs = number < HANGING && !healed.load(Ordering::SeqCst);
        if hangs { Answer::Silence } else { response("200 OK", "", r#"{"found":true}"#) }
    });
    let more = json!({
        "grants": { "clock": "coarse" },
        "config": {
            "url": format!("http://{}/{{{{/id}}}}", server.address), "take": { "/found": "/found" },
            "timeout_ms": 300, "on_error": "retry",
        },
        "on": { "retry": { "attempts": 1000, "backoff": "100ms..200ms" } },
        "limits": { "connects": "10000/s", "connections": 64, "deadline": "5s" },
    });
    let value = r#"{"id": {{seq}}}"#;
    let source = json!({ "generator": { "count": MESSAGES, "rate": "60/s", "key": "{{seq}}", "value": value } });
    let guest = reaching("http-enrich", json!([http(&server)]), more);
    // Beside it a message that was at its source nine seconds ago.
    let stamp_ms = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_millis() as u64 - 9000;
    let stamped = json!({ "value": "old", "timestamp_ms": stamp_ms }).to_string() + "\n";
    let stamped_source = json!({ "file": { "path": "stamped.jsonl", "format": "jsonl" } });
    let mut running = Scene::new()
        .write("stamped.jsonl", &stamped)
        .pipeline_from("stamped", "a", stamped_source, json!({}), plugin("touch", json!({})))
        .pipeline_from("bad", "a", source, json!({ "lanes": 1 }), guest)
        .start();
    running.neighbour();
    shows(&mut running, &format!(r#"portcullis_messages_total{{pipeline="bad",outcome="received"}} {MESSAGES}"#));
    let came = Instant::now();
    let out = running.path().join("bad-out.jsonl");
    let arrived = || fs::read_to_string(&out).unwrap_or_default().matches('\n').count();
    assert!(wait_until(LIMIT, || arrived() >= MESSAGES - HANGING), "{} messages of other keys arrived", arrived());
    let took = came.elapsed();
    assert!(took < Duration::from_secs(3), "a round of calls takes 300 ms, and the last message waited {took:?}");
    shows(&mut running, r#"portcullis_parked_messages{pipeline="bad",source="0",lane="0"} 50"#);
    tells_of_time_and_room(&mut running);
    heals.store(true, Ordering::SeqCst);
    let ran = running.end();
    assert_eq!(ran.finished.code(), 0, "{:?}", ran.finished);
    assert_eq!((ran.values("bad").len(), ran.letters("bad").len()), (MESSAGES, 0));
}

/// Of the pipelines of the test above, while its API hangs.
fn tells_of_time_and_room(running: &mut Running) {
    shows(running, r#"portcullis_latency_seconds_bucket{pipeline="stamped",le="5"} 0"#);
    shows(running, r#"portcullis_latency_seconds_bucket{pipeline="stamped",le="60"} 1"#);
    shows(running, r#"portcullis_plugin_call_fuel_count{pipeline="stamped",plugin="touch"} 1"#);
    let page = metrics(running);
    let value = |name: &str| -> f64 {
        let line = page.lines().find_map(|line| line.strip_prefix(name));
        line.unwrap_or_else(|| panic!("no {name} in\n{page}")).trim().parse().unwrap()
    };
    let oldest = value(r#"portcullis_oldest_unfinished_seconds{pipeline="bad",source="0"}"#);
    assert!((3.0..60.0).contains(&oldest), "the keys that hang are {oldest} s old");
    let memory = value(r#"portcullis_plugin_memory_bytes{pipeline="bad",plugin="http-enrich"}"#);
    assert!((1e6..64e6 * 8.0).contains(&memory), "eight instances of {memory} bytes");
    assert_eq!(value(r#"portcullis_plugin_memory_bytes{pipeline="stamped",plugin="touch"}"#), 0.0, "its lanes ended");
}

#[test]
fn what_is_counted_is_in_the_audit_each_second_also_while_a_slice_of_slow_calls_is_in_work() {
    let slow = json!({ "ops": [{ "op": "now" }, { "op": "sleep", "ms": 500 }] }).to_string();
    let slow = [slow.as_str(); 16];
    let plugin = |name: &str, concurrency: usize| {
        probe(json!([]), json!({ "name": name, "limits": { "concurrency": concurrency, "deadline": "5s" } }))
    };
    let more = || json!({ "lanes": 1 });
    let mut running = Scene::new()
        .pipeline_of("alone", "a", more(), plugin("probe-alone", 1), &slow)
        .pipeline_of("together", "a", more(), plugin("probe-together", 2), &slow)
        .start();
    running.neighbour();
    let path = running.path().to_owned();
    for pipeline in ["alone", "together"] {
        let is_told = |line: &str| line.contains("host.call") && line.contains(&format!("probe-{pipeline}"));
        let told = || fs::read_to_string(path.join("audit.jsonl")).unwrap_or_default().lines().any(is_told);
        assert!(wait_until(LIMIT, told), "{pipeline}: no host call was told");
        let out = fs::read_to_string(path.join(format!("{pipeline}-out.jsonl"))).unwrap_or_default();
        assert_eq!(out, "", "{pipeline}: told only after the slice, whose messages leave together");
    }
    let ran = running.end();
    assert_eq!((ran.values("alone").len(), ran.values("together").len()), (16, 16));
    // Nothing is told twice for being told early: each message asks the wall clock once.
    let wall = |event: &&&Value| event["api"]["operation"] == "wasi:clocks/wall-clock.now";
    let calls =
        ran.events("host.call").iter().filter(wall).map(|event| event["count"].as_u64().unwrap_or(1)).sum::<u64>();
    assert_eq!(calls, 32, "{:#?}", ran.events("host.call"));
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
fn messages_of_a_key_keep_their_order_through_two_plugins_that_wait_and_ask_for_retries() {
    const MESSAGES: usize = 300;
    const KEYS: usize = 5;
    // Every third answer or so is "later", whichever message asks.
    let asked = AtomicUsize::new(0);
    let server =
        Server::start(move |_| match asked.fetch_add(1, Ordering::SeqCst).wrapping_mul(2_654_435_761) >> 7 & 3 {
            0 => response("503 Service Unavailable", "", ""),
            _ => response("200 OK", "", r#"{"found":true}"#),
        });
    let stage = |name: &str| {
        let more = json!({
            "name": name,
            "grants": { "clock": "coarse" },
            "config": {
                "url": format!("http://{}/{name}/{{{{/id}}}}", server.address), "take": { "/found": format!("/{name}") },
                "on_error": "retry",
            },
            "on": { "retry": { "attempts": 1000, "backoff": "1ms..20ms" } },
            "limits": { "connects": "10000/s", "connections": 64, "deadline": "5s" },
        });
        reaching("http-enrich", json!([http(&server)]), more)
    };
    let line = |id: usize| {
        json!({ "key": (id % KEYS).to_string(), "value": json!({ "id": id }).to_string() }).to_string() + "\n"
    };
    let source = json!({ "file": { "path": "keyed.jsonl", "format": "jsonl" } });
    let chain = json!({ "lanes": 1, "plugins": [stage("first"), stage("second")] });
    let ran = Scene::new()
        .write("keyed.jsonl", &(0..MESSAGES).map(line).collect::<String>())
        .pipeline_from("bad", "a", source, chain, Value::Null)
        .run();
    let mut next: Vec<usize> = (0..KEYS).collect();
    for value in ran.values("bad") {
        let value: Value = serde_json::from_str(&value).unwrap();
        assert_eq!((&value["first"], &value["second"]), (&json!(true), &json!(true)));
        let id = usize::try_from(value["id"].as_u64().unwrap()).unwrap();
        assert_eq!(id, next[id % KEYS], "out of the order of its key");
        next[id % KEYS] += KEYS;
    }
    assert_eq!(next.iter().map(|next| next / KEYS).sum::<usize>(), MESSAGES, "{:#?}", ran.letters("bad"));
    let requests = server.seen().join("").matches("GET /").count();
    assert!(requests > 2 * MESSAGES, "{requests} requests: none was asked for again");
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

/// Waits until `/metrics` shows a piece of text.
pub(super) fn shows(running: &mut Running, piece: &str) {
    let mut page = String::new();
    let is_shown = wait_until(LIMIT, || {
        page = metrics(running);
        page.contains(piece)
    });
    assert!(is_shown, "no {piece} in\n{page}");
}

fn metrics(running: &mut Running) -> String {
    let mut stream = TcpStream::connect(running.admin()).unwrap();
    stream.set_read_timeout(Some(LIMIT)).unwrap();
    stream.write_all(b"GET /metrics HTTP/1.1\r\nhost: admin\r\nconnection: close\r\n\r\n").unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    answer
}
