//! Vectors about what may be used up, and about configuration.

use std::fs;
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::time::Duration;

use serde_json::{Value, json};

use super::network::{dns, probe, reaching, tcp};
use super::scene::{Scene, budget, plugin};
use crate::support::names::NameServer;
use crate::support::servers::Server;

#[test]
fn b46_a_grant_that_the_operator_denies_is_refused_at_its_place() {
    let rule = json!(["tcp://169.254.169.254:80"]);
    let node = json!({ "egress": { "deny": ["169.254.0.0/16"], "consent": ["169.254.169.254/32"] } });
    let ran = Scene::new().node(node).bad(probe(rule, json!({})), &["any"]).refused();
    let error = &ran.finished.stderr;
    assert!(error.contains("error[grant_overridden_by_deny]") && error.contains("bad.yaml:"), "{error}");
    assert_eq!(ran.count("config.rejected", "grant_overridden_by_deny"), 1, "{:#?}", ran.tally());
}

#[test]
fn d19_ten_thousand_lookups_cost_one_query_and_are_all_accounted_for() {
    const LOOKUPS: usize = 10_000;
    let names = NameServer::ok_test();
    let ops: Vec<Value> = (0..LOOKUPS / 4).map(|_| json!({ "op": "resolve", "name": "ok.test" })).collect();
    let message = json!({ "ops": ops }).to_string();
    let rule = json!([{ "allow": "tcp://ok.test:443", "addresses": ["127.0.0.0/8"] }]);
    let more = json!({
        "limits": { "deadline": "20s", "fuel": 100_000_000_000_u64, "output": "8MiB", "host_calls": 10_000_000, "concurrency": 1 },
    });
    let ran = Scene::new().node(dns(&names)).bad(probe(rule, more), &[message.as_str(); 4]).run();
    assert_eq!((names.asked(), names.queries() <= 4), (vec!["ok.test".to_owned()], true), "{}", names.queries());
    let results = ran.results("bad").concat();
    let of = |code: &str| results.iter().filter(|result| result["code"] == code).count();
    let (good, limited) =
        (results.iter().filter(|result| result["ok"] == true).count(), of("temporary-resolver-failure"));
    assert_eq!(good + limited, LOOKUPS);
    assert!(good >= 50 && limited > LOOKUPS / 2, "{good} {limited}");
    assert!(ran.count("budget.exceeded", "quota.dns") >= 1, "{:#?}", ran.tally());
    assert_eq!(ran.count("dns.denied", "quota.dns"), limited as u64, "{:#?}", ran.tally());
    let calls = ran
        .events("host.call")
        .into_iter()
        .filter(|event| event["api"]["operation"].as_str().unwrap().ends_with("from memory"));
    let cached: u64 = calls.map(|event| event["count"].as_u64().unwrap()).sum();
    assert_eq!(
        ran.count("dns.lookup", "") + cached,
        good as u64,
        "answers from memory are counted: {:#?}",
        ran.tally()
    );
}

/// A port whose queue is full: the system drops what asks for a connection, as a host that is not there does.
fn black_hole() -> (TcpListener, Vec<TcpStream>, SocketAddr) {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let address = listener.local_addr().unwrap();
    let connect = || TcpStream::connect_timeout(&address, Duration::from_millis(100)).ok();
    let waiting: Vec<TcpStream> = std::iter::from_fn(connect).take(10_000).collect();
    assert!(waiting.len() < 10_000, "the queue has no end");
    (listener, waiting, address)
}

#[test]
fn h03_connects_into_nothing_give_their_place_back_and_are_rate_limited() {
    let (_listener, _waiting, nowhere) = black_hole();
    let ops: Vec<Value> = (0..40).map(|_| json!({ "op": "tcp", "to": nowhere, "wait_ms": 5 })).collect();
    let more = json!({ "limits": { "connections": 2, "connects": 10, "deadline": "10s" } });
    let ran = Scene::new().bad(probe(json!([tcp(nowhere)]), more), &[&json!({ "ops": ops }).to_string()]).run();
    let results = ran.results("bad").concat();
    let timeouts = results.iter().filter(|result| result["code"] == "timeout").count();
    assert!((10..=20).contains(&timeouts), "ten at once and ten a second: {timeouts} {results:?}");
    assert_eq!(ran.count("net.connect.allowed", ""), timeouts as u64, "{:#?}", ran.tally());
    assert_eq!(ran.count("net.close", "") + ran.count("net.connect.failed", ""), timeouts as u64, "{:#?}", ran.tally());
    assert_eq!(ran.count("net.connect.denied", "quota.sockets"), 0, "each gave its place back: {:#?}", ran.tally());
    assert_eq!(ran.count("net.connect.denied", "quota.connect_rate"), 40 - timeouts as u64, "{:#?}", ran.tally());
    assert!(ran.count("budget.exceeded", "quota.connect_rate") >= 1, "{:#?}", ran.tally());
}

#[test]
fn h06_a_tenant_at_its_ceiling_takes_nothing_from_another() {
    let decoy = Server::decoy();
    let node = json!({ "limits": { "connections": 6 }, "tenants": { "a": { "limits": { "connections": 3 } } } });
    let opens = |wait_ms: u64, count: u64| {
        json!({ "ops": [
            { "op": "sleep", "ms": wait_ms },
            { "op": "open-sockets", "count": count, "to": decoy.address },
            { "op": "sleep", "ms": 1500 },
        ] })
        .to_string()
    };
    // Each of the tenant's two plugins is within its own limit; together they are not within the tenant's.
    let asks = |connections: u64| {
        probe(json!([tcp(decoy.address)]), json!({ "limits": { "deadline": "6s", "connections": connections } }))
    };
    let ran = Scene::new()
        .node(node)
        .bad(asks(2), &[&opens(1, 2)])
        .pipeline_of("second", "a", json!({}), asks(2), &[&opens(500, 2)])
        .pipeline_of("other", "b", json!({}), asks(3), &[&opens(900, 3)])
        .run();
    assert_eq!(decoy.connections(), 2 + 1 + 3);
    let opened = |pipeline: &str| {
        let result = ran.results(pipeline).concat()[1].clone();
        (result["opened"].clone(), result["code"].clone())
    };
    assert_eq!(opened("bad").0, json!(2));
    assert_eq!(opened("second"), (json!(1), json!("new-socket-limit")));
    assert_eq!(opened("other").0, json!(3));
    let events = ran.budgets();
    assert!(!events.is_empty());
    for event in events {
        assert_eq!(
            (&event["metadata"]["tenant_uid"], &event["status_code"]),
            (&json!("a"), &json!("quota.sockets")),
            "{event:#}"
        );
        assert_eq!((&budget(event)["scope"], &budget(event)["limit"]), (&json!("tenant"), &json!(3)), "{event:#}");
    }
}

#[test]
fn h09_a_gibibyte_for_one_host_call_is_refused_before_it_is_copied() {
    let guest = reaching("passes-a-gigabyte", json!([]), json!({ "limits": { "deadline": "20s" } }));
    let mut running = Scene::new().bad(guest, &["pass", "ok"]).start();
    let dead = running.path().join("bad-dead.jsonl");
    running.process.wait_until("the message is dead lettered", Duration::from_secs(20), || {
        fs::read(&dead).is_ok_and(|bytes| !bytes.is_empty())
    });
    let peak = running.peak_bytes();
    running.neighbour();
    let ran = running.end();
    assert_eq!(ran.finished.code(), 0);
    assert!(peak < 400 << 20, "{} MiB", peak >> 20);
    let letters = ran.letters("bad");
    assert_eq!((letters.len(), letters[0].reason.as_str()), (1, "output"), "{letters:#?}");
    assert!(letters[0].detail.contains("in one host call"), "{letters:#?}");
    assert_eq!(ran.count("budget.exceeded", "output"), 1, "{:#?}", ran.tally());
    assert_eq!(ran.values("bad"), ["ok"]);
}

#[test]
fn h12_a_flood_of_log_lines_is_cut_counted_and_cannot_pass_for_the_operators_own() {
    let logs = plugin(
        "logs-without-end",
        json!({ "grants": { "log": "info" }, "limits": { "deadline": "10s", "fuel": 100_000_000_000_u64, "host_calls": 5000 } }),
    );
    let prints = plugin(
        "writes-stdout",
        json!({ "grants": { "log": "info" }, "limits": { "deadline": "1s", "fuel": 100_000_000_000_u64, "host_calls": 5000 } }),
    );
    let ran = Scene::new()
        .bad(logs, &["once", "forever", "once"])
        .pipeline_of("prints", "a", json!({ "lanes": 1 }), prints, &["once", "forever", "ok"])
        .run();
    let output = ran.finished.stdout.clone() + &ran.finished.stderr;
    assert!(output.len() < 2 << 20, "{} bytes", output.len());
    assert!(!output.contains('\x1b') && !output.contains('\r'), "a terminal would obey");
    assert!(!output.lines().any(|line| line.starts_with('{') || line.starts_with("line")), "a line of its own");
    let reasons = |pipeline: &str| ran.letters(pipeline).iter().map(|letter| letter.reason.clone()).collect::<Vec<_>>();
    assert_eq!((reasons("bad"), reasons("prints")), (vec!["host_calls".to_owned()], vec!["host_calls".to_owned()]));
    assert_eq!((ran.values("bad").len(), ran.values("prints").len()), (2, 2));
    assert!(ran.events.len() < 60, "{:#?}", ran.tally());
    assert!(ran.count("budget.exceeded", "log.bytes") >= 2, "what was cut is told: {:#?}", ran.tally());
}

#[test]
fn a_flood_of_log_lines_over_many_messages_meets_the_rate_of_its_plugin() {
    // Each call stays within its own 64 KiB: together they would be 6 MiB.
    let logs = plugin(
        "logs-without-end",
        json!({ "grants": { "log": "info" }, "limits": { "deadline": "10s", "log_rate": "4KiB/s" } }),
    );
    let ran = Scene::new().bad(logs, &["once"; 100]).run();
    assert_eq!(ran.values("bad").len(), 100, "the messages pass");
    let written: usize = ran.finished.stderr.lines().filter(|line| line.contains("logs")).map(str::len).sum();
    let allowed = 4 * 1024 * 60;
    assert!(written < allowed * 2, "{written} bytes, escapes and names of fields included");
    let of_rate = ran.budgets().into_iter().filter(|event| event["status_code"] == "log.bytes");
    let scopes: Vec<String> = of_rate.map(|event| event["unmapped"]["budget"]["scope"].to_string()).collect();
    assert!(scopes.iter().any(|scope| scope == "\"plugin\""), "{scopes:?}");
}

#[test]
fn h15_a_recursion_without_an_end_meets_the_stack() {
    let guest = plugin("recurses-without-end", json!({ "limits": { "fuel": 100_000_000_000_u64, "deadline": "10s" } }));
    let ran = Scene::new().bad(guest, &["ok", "recurse", "ok"]).run();
    let letters = ran.letters("bad");
    assert_eq!((letters.len(), letters[0].reason.as_str()), (1, "stack"), "{letters:#?}");
    assert_eq!(ran.count("budget.exceeded", "stack") + ran.count("plugin.trapped", "stack"), 1, "{:#?}", ran.tally());
    assert_eq!(ran.values("bad"), ["ok", "ok"]);
}

#[test]
fn i05_an_instance_of_one_tenant_never_serves_another() {
    let ran = Scene::new()
        .bad(plugin("counts", json!({})), &["a"; 5])
        .pipeline_of("other", "b", json!({ "lanes": 1 }), plugin("counts", json!({})), &["b"; 5])
        .run();
    for pipeline in ["bad", "other"] {
        let counts: Vec<String> = ran.letters(pipeline).into_iter().map(|letter| letter.detail).collect();
        assert_eq!(counts, ["1", "2", "3", "4", "5"], "{pipeline}: an instance of its own from its first message on");
    }
    let linked: Vec<_> = ran
        .events("plugin.linked")
        .into_iter()
        .filter(|event| event["app"]["name"].as_str().unwrap().ends_with("/counts"))
        .collect();
    assert_eq!(linked.len(), 2);
    let tenants: Vec<_> = linked.iter().map(|event| event["metadata"]["tenant_uid"].as_str().unwrap()).collect();
    assert!(tenants.contains(&"a") && tenants.contains(&"b"), "{tenants:?}");
    assert_eq!(ran.count("plugin.stopped", ""), 3, "{:#?}", ran.tally());
}
