//! What a guest makes the host hold by HTTP, and headers that would have a server do what was not decided.

use std::fs;
use std::time::Duration;

use serde_json::{Value, json};

use super::network::{http, reaching, url};
use super::scene::{Ran, Scene, counted, plugin};
use crate::support::servers::{Server, response};

const HOARDS: [&str; 6] = ["texts", "fields", "bodies", "futures", "trailers", "answers"];
/// 256 resources of at most 192 KiB, as `docs/egress.md` says; buffers of the 64 connections that the guest is allowed here; its
/// own memory.
const MOST_BYTES: u64 = (48 + 64 * 3 / 8 + 16) << 20;

/// Runs the messages one after the other in one instance at a time, and says how much memory the process has had at most.
fn hoarded(messages: &[&str]) -> (u64, Ran) {
    let silent = Server::decoy();
    let large = format!("x: {}\r\n", "y".repeat(28_000));
    let talkative = Server::start(move |_| response("200 OK", &large, "here"));
    let more = json!({
        "config": { "silent": silent.address, "talkative": talkative.address, "count": 4000 },
        "limits": {
            "fuel": 1_000_000_000_000_u64, "deadline": "20s", "host_calls": 10_000_000, "concurrency": 1,
            "connections": 64, "connects": "10000/s", "restarts": "1000/s",
        },
    });
    let guest = reaching("hoards-http", json!([http(&silent), http(&talkative)]), more);
    // Without a third pipeline the process would be gone before it could be asked for its memory.
    let mut running = Scene::new()
        .bad(guest, &[messages, &["ok"]].concat())
        .pipeline_from("open", "b", counted(2, "1/min", "k"), json!({}), plugin("touch-edit", json!({})))
        .start();
    running.neighbour();
    let out = running.path().join("bad-out.jsonl");
    running.process.wait_until("the last message has passed", Duration::from_secs(60), || {
        fs::read(&out).is_ok_and(|bytes| !bytes.is_empty())
    });
    let peak = running.peak_bytes();
    running.process.signal("TERM");
    let ran = running.end();
    assert_eq!(ran.finished.code(), 0);
    (peak, ran)
}

#[test]
fn whatever_a_guest_hoards_by_http_has_its_bound_in_the_hosts_memory() {
    let (quiet, _) = hoarded(&[]);
    let (peak, ran) = hoarded(&HOARDS);
    println!("{} MiB, and {} MiB without", peak >> 20, quiet >> 20);
    let letters = ran.letters("bad");
    let reasons: Vec<_> = letters.iter().map(|letter| (letter.value.as_str(), letter.reason.as_str())).collect();
    assert_eq!(reasons, HOARDS.map(|what| (what, "handles")), "{letters:#?}");
    assert!(peak < quiet + MOST_BYTES, "{} MiB, and {} MiB without", peak >> 20, quiet >> 20);
    assert_eq!(ran.count("budget.exceeded", "handles"), HOARDS.len() as u64, "{:#?}", ran.tally());
    assert_eq!(ran.values("bad"), ["ok"]);
    // However it ended, each request that was allowed has its end.
    assert_eq!(ran.count("http.allowed", ""), ran.count("http.request", ""), "{:#?}", ran.tally());
}

/// The guest sends GET with a header of this name and value.
fn with_header(server: &Server, rule: &Value, name: &str, value: &str) -> Ran {
    let config = json!({ "config": { "url": url(server), "names": [name], "host": value } });
    Scene::new().bad(reaching("overrides-host", json!([rule]), config), &["send"]).run()
}

#[test]
fn a_header_that_changes_the_method_or_path_does_not_leave_under_a_rule_that_restricts_them() {
    let server = Server::start(|_| response("200 OK", "", "here"));
    let methods = json!({ "allow": http(&server), "methods": ["GET"] });
    let paths = json!({ "allow": http(&server), "paths": ["/"] });
    for (rule, name, value) in [
        (&methods, "X-HTTP-Method-Override", "DELETE"),
        (&methods, "x_http_method", "DELETE"),
        (&paths, "X-Original-URL", "/admin"),
        (&paths, "x-forwarded-prefix", "/admin"),
    ] {
        let ran = with_header(&server, rule, name, value);
        let letters = ran.letters("bad");
        assert_eq!((letters.len(), letters[0].code.as_str()), (1, "HTTP-request-denied"), "{name}: {letters:#?}");
        assert_eq!(ran.count("http.denied", "http.forbidden_header"), 1, "{name}: {:#?}", ran.tally());
        ran.assert_nothing_left();
    }
    assert_eq!(server.connections(), 0);
    let any = json!({ "allow": http(&server) });
    assert_eq!(with_header(&server, &any, "x-http-method-override", "DELETE").values("bad"), ["send"]);
    assert_eq!(with_header(&server, &methods, "x-forwarded-for", "10.1.2.3").values("bad"), ["send"]);
    assert_eq!(server.connections(), 2);
}
