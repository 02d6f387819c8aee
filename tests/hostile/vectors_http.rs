//! Vectors about HTTP and TLS.

use std::time::Duration;

use serde_json::{Value, json};

use super::network::{dns, http, probe, reaching, url};
use super::scene::Scene;
use crate::support::names::NameServer;
use crate::support::servers::{Server, response};
use crate::support::tls::{Authority, TlsServer, der};

fn get(scheme: &str, authority: &str, path: &str, headers: Value) -> Value {
    json!({ "op": "http", "method": "GET", "scheme": scheme, "authority": authority, "path": path, "headers": headers, "read": 100 })
}

fn message(ops: &[Value]) -> String {
    json!({ "ops": ops }).to_string()
}

#[test]
fn f04_no_variant_of_the_host_header_leaves() {
    let server = Server::start(|_| response("200 OK", "", ""));
    let authority = server.address.to_string();
    let variants = [
        json!([["host", "evil.test"]]),
        json!([["HOST", "evil.test"]]),
        json!([["Host ", "evil.test"]]),
        json!([[" host", "evil.test"]]),
        json!([["host\t", "evil.test"]]),
        json!([["host:", "evil.test"]]),
        json!([[":authority", "evil.test"]]),
        json!([["host", authority], ["host", "evil.test"]]),
        json!([["x", "y\r\nhost: evil.test"]]),
        json!([["transfer-encoding", "chunked"]]),
        json!([["connection", "host"]]),
    ];
    let ops: Vec<Value> = variants.into_iter().map(|headers| get("http", &authority, "/", headers)).collect();
    let ran = Scene::new().bad(probe(json!([http(&server)]), json!({})), &[&message(&ops)]).run();
    assert_eq!(server.seen(), Vec::<String>::new());
    let results = ran.results("bad").concat();
    for (op, result) in ops.iter().zip(&results) {
        assert!(
            ["setter", "HTTP-request-denied"].contains(&result["code"].as_str().unwrap_or_default()),
            "{op} {result}"
        );
    }
    let requests = results.iter().filter(|result| result["code"] != "setter").count();
    assert_eq!(ran.count("http.denied", "http.forbidden_header"), requests as u64, "{:#?}", ran.tally());
}

#[test]
fn f16_no_proxy_is_used_whatever_the_environment_or_the_answer_says() {
    let (proxy, names) = (Server::decoy(), NameServer::ok_test());
    let server = Server::start(|_| {
        response("407 Proxy Authentication Required", "proxy-authenticate: Basic realm=\"x\"\r\n", "")
    });
    let authority = format!("ok.test:{}", server.port());
    let mut scene = Scene::new().node(dns(&names));
    for name in ["http_proxy", "HTTP_PROXY", "https_proxy", "HTTPS_PROXY", "all_proxy", "ALL_PROXY"] {
        scene = scene.env(name, format!("http://{}", proxy.address));
    }
    let rule = json!([{ "allow": format!("http://{authority}"), "addresses": ["127.0.0.0/8"] }]);
    let op = get("http", &authority, "/", json!([]));
    let ran = scene.bad(probe(rule, json!({})), &[&message(&[op])]).run();
    assert_eq!((proxy.connections(), server.connections()), (0, 1));
    let results = ran.results("bad").concat();
    assert_eq!((&results[0]["ok"], &results[0]["status"]), (&json!(true), &json!(407)), "{results:?}");
    let request = ran.events("http.request")[0];
    assert_eq!(
        request["dst_endpoint"],
        json!({ "hostname": "ok.test", "ip": "127.0.0.1", "port": server.port() }),
        "{request:#}"
    );
}

#[test]
fn f19_more_headers_than_a_map_can_hold_cost_their_guest_alone() {
    let server = Server::start(|_| response("200 OK", "", ""));
    let config = json!({
        "config": { "url": url(&server), "count": 32_769, "bytes": 0 },
        "limits": { "fuel": 100_000_000_000_u64, "deadline": "20s", "host_calls": 10_000_000 },
    });
    let ran = Scene::new().bad(reaching("floods-headers", json!([http(&server)]), config), &["flood", "ok"]).run();
    assert_eq!(server.connections(), 0);
    let letters = ran.letters("bad");
    assert_eq!(letters.len(), 1, "{letters:#?}");
    assert!(letters[0].reason == "rejected" || letters[0].reason == "trap", "{letters:#?}");
    assert_eq!(ran.values("bad"), ["ok"]);
    assert!(!ran.finished.stderr.contains("panicked"), "{}", ran.finished.stderr);
}

#[test]
fn f22_a_body_that_is_never_written_is_cut_and_its_connection_given_back() {
    let server = Server::decoy();
    let more = json!({
        "grants": { "clock": "coarse" },
        "config": { "authority": server.address, "plain": true, "pause_ms": Duration::from_secs(3600).as_millis() },
        "limits": { "deadline": "600ms", "connections": 1, "concurrency": 1 },
    });
    let ran = Scene::new().bad(reaching("never-ends-its-body", json!([http(&server)]), more), &["send", "send"]).run();
    assert_eq!(server.connections(), 2, "the second one got the only place that there is");
    let letters = ran.letters("bad");
    assert!(letters.len() == 2 && letters.iter().all(|letter| letter.reason == "deadline"), "{letters:#?}");
    assert_eq!(ran.count("budget.exceeded", "deadline"), 2, "{:#?}", ran.tally());
    assert_eq!((ran.count("http.allowed", ""), ran.count("http.request", "")), (2, 2), "{:#?}", ran.tally());
    assert_eq!(ran.count("http.request", "time.request_body"), 2, "{:#?}", ran.tally());
    assert_eq!(ran.count("budget.exceeded", "time.request_body"), 2, "{:#?}", ran.tally());
    assert_eq!(ran.count("http.denied", ""), 0, "{:#?}", ran.tally());
}

/// Two tenants who ask the same server, each in its own way.
struct Two {
    names: NameServer,
    server: TlsServer,
    scene: Scene,
    authority: String,
}

fn two(clients: [&Authority; 2]) -> Two {
    let (names, issuer) = (NameServer::ok_test(), Authority::new("servers"));
    let server = TlsServer::start(&issuer, &clients);
    let scene = Scene::new().node(dns(&names)).write("ca.pem", &issuer.pem());
    let authority = format!("ok.test:{}", server.port);
    Two { names, server, scene, authority }
}

fn rule(authority: &str, more: Value) -> Value {
    let mut rule = json!({ "allow": format!("https://{authority}"), "addresses": ["127.0.0.0/8"], "ca": "ca.pem" });
    rule.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    json!([rule])
}

#[test]
fn g08_a_client_certificate_and_a_session_stay_with_the_tenant_who_has_them() {
    let clients = Authority::new("clients");
    let (certificate, key) = clients.issue("a.test");
    let Two { names: _names, server, scene, authority } = two([&clients, &clients]);
    let scene = scene.write("a.pem", &certificate).write("a.key", &key);
    let of_a = rule(&authority, json!({ "client_cert": { "cert": "a.pem", "key": "a.key" } }));
    let a = message(&[get("https", &authority, "/a", json!([]))]);
    // After A was there and has left its session and its connection behind, were they anybody's.
    let b = message(&[json!({ "op": "sleep", "ms": 500 }), get("https", &authority, "/b", json!([]))]);
    let ran = scene
        .bad(probe(of_a, json!({})), &[&a, &a, &a])
        .pipeline_of("other", "b", json!({ "lanes": 1 }), probe(rule(&authority, json!({})), json!({})), &[&b])
        .run();
    let visits = server.visits();
    let own = der(&certificate);
    let of = |path: &str| visits.iter().filter(|visit| visit.requests.contains(path)).collect::<Vec<_>>();
    assert!(
        !of("GET /a ").is_empty() && of("GET /a ").iter().all(|visit| visit.client.as_ref() == Some(&own)),
        "{visits:#?}"
    );
    let [visit] = of("GET /b ")[..] else { panic!("{visits:#?}\n{:#?}", ran.tally()) };
    assert!(visit.client.is_none() && !visit.resumed && !visit.requests.contains("GET /a "), "{visits:#?}");
    for result in [ran.results("bad").concat(), ran.results("other").concat()].concat() {
        assert_eq!(result["ok"], true, "{result}");
    }
    for event in ran.events("http.request") {
        assert_eq!(event["tls"]["version"], "1.3", "{event:#}");
        let tenant = if event["http_request"]["url"]["path"] == "/a" { "a" } else { "b" };
        assert_eq!(event["metadata"]["tenant_uid"], tenant, "{event:#}");
    }
}

#[test]
fn i02_two_tenants_share_no_connection_to_the_same_host() {
    let (of_a, of_b) = (Authority::new("clients of a"), Authority::new("clients of b"));
    let Two { names: _names, server, mut scene, authority } = two([&of_a, &of_b]);
    let mut certificates = Vec::new();
    for (tenant, issuer) in [("a", &of_a), ("b", &of_b)] {
        let (certificate, key) = issuer.issue(&format!("{tenant}.test"));
        scene = scene.write(&format!("{tenant}.pem"), &certificate).write(&format!("{tenant}.key"), &key);
        certificates.push(der(&certificate));
    }
    let plugin = |tenant: &str| {
        let client = json!({ "client_cert": { "cert": format!("{tenant}.pem"), "key": format!("{tenant}.key") } });
        probe(rule(&authority, client), json!({ "limits": { "concurrency": 1 } }))
    };
    let ask = |tenant: &str| message(&[get("https", &authority, &format!("/{tenant}"), json!([]))]);
    let (a, b) = (ask("a"), ask("b"));
    let ran = scene
        .bad(plugin("a"), &[&a, &a])
        .pipeline_of("other", "b", json!({ "lanes": 1 }), plugin("b"), &[&b, &b])
        .run();
    let visits = server.visits();
    assert_eq!(visits.len(), 2, "one connection each, used twice: {visits:#?}\n{:#?}", ran.tally());
    for (path, certificate) in ["GET /a ", "GET /b "].into_iter().zip(&certificates) {
        let visit = visits.iter().find(|visit| visit.requests.contains(path)).unwrap();
        assert_eq!(
            (visit.requests.matches(path).count(), visit.requests.matches("GET ").count()),
            (2, 2),
            "{visits:#?}"
        );
        assert_eq!(visit.client.as_ref(), Some(certificate));
    }
    let connections: std::collections::BTreeSet<_> =
        ran.events("http.request").iter().map(|event| event["connection_info"]["uid"].to_string()).collect();
    assert_eq!(connections.len(), 2, "{connections:?}");
}
