//! What wants out: metadata services, names that carry secrets, ports of the host, floods, bombs and servers that do not end.

use std::net::{Ipv4Addr, SocketAddr};
use std::time::Duration;

use serde_json::{Value, json};

use super::scene::{Ran, Scene, budget, counted, plugin};
use crate::support::names::NameServer;
use crate::support::servers::{Answer, Mailbox, Server, response};

/// Everything public, in the widest spelling that there is.
pub(super) fn any_public() -> Value {
    let rules = ["tcp://0.0.0.0/0:*", "tcp://[::/0]:*", "udp://0.0.0.0/0:*", "http://0.0.0.0/0:*", "http://[::/0]:*"];
    rules.map(|allow| json!({ "allow": allow, "dangerous": true })).to_vec().into()
}

/// A guest with these egress rules.
pub(super) fn reaching(guest: &str, egress: Value, more: Value) -> Value {
    let mut plugin = plugin(guest, more);
    plugin["grants"]["egress"] = egress;
    plugin
}

/// The probe, with all that it asks for beside the network.
pub(super) fn probe(egress: Value, more: Value) -> Value {
    let mut plugin = reaching("probe", egress, more);
    plugin["grants"]["clock"] = "precise".into();
    plugin["grants"]["random"] = true.into();
    plugin
}

/// The guest was refused with this code for each of its messages, and told what the audit says of it.
fn refused_with(ran: &Ran, code: &str, messages: usize) {
    let letters = ran.letters("bad");
    assert_eq!(letters.len(), messages, "{letters:#?}\n{:#?}", ran.tally());
    for letter in &letters {
        assert_eq!(
            (letter.reason.as_str(), letter.code.as_str()),
            ("rejected", code),
            "{letters:#?}\n{:#?}",
            ran.tally()
        );
    }
}

#[test]
fn the_metadata_services_are_out_of_reach_in_every_spelling() {
    for egress in [json!([]), any_public()] {
        let guest = reaching("connects-to-metadata", egress, json!({ "limits": { "lookups": "100/s" } }));
        let ran = Scene::new().bad(guest, &["steal", "ok"]).run();
        ran.assert_nothing_left();
        let letters = ran.letters("bad");
        assert_eq!(letters.len(), 1, "{letters:#?}");
        assert_eq!(ran.values("bad"), ["ok"]);
        assert_eq!(
            letters[0].detail.matches(", ").count(),
            11,
            "twelve attempts, twelve refusals: {}",
            letters[0].detail
        );
        let denied = |code| ran.count(code, "");
        assert_eq!(
            denied("net.connect.denied") + denied("dns.denied") + denied("http.denied"),
            12,
            "{:#?}",
            ran.tally()
        );
        assert!(ran.count("net.connect.denied", "addr.metadata") >= 1, "{:#?}", ran.tally());
        let alerts = ran.events.iter().filter(|event| event["status_detail"] == "addr.metadata");
        assert!(
            alerts.clone().count() > 0
                && alerts.clone().all(|event| event["is_alert"] == true && event["severity_id"] == 4)
        );
    }
}

#[test]
fn no_port_of_the_host_is_taken() {
    // The ports are taken already: whoever reached the system would be told so, and not that it is denied.
    let (tcp, udp) = (Server::decoy(), Mailbox::decoy());
    for egress in [json!([]), any_public()] {
        let ran = Scene::new()
            .bad(reaching("listens", egress.clone(), json!({ "config": { "to": tcp.address } })), &["listen"])
            .run();
        refused_with(&ran, "access-denied", 1);
        assert_eq!(ran.count("net.bind.denied", "capability.absent"), 1, "{:#?}", ran.tally());
        let ran = Scene::new()
            .bad(reaching("binds-a-port", egress, json!({ "config": { "to": udp.address } })), &["bind"])
            .run();
        refused_with(&ran, "access-denied", 1);
        assert_eq!(ran.count("net.bind.denied", "capability.absent"), 1, "{:#?}", ran.tally());
        ran.assert_nothing_left();
    }
    assert_eq!((tcp.connections(), udp.seen().len()), (0, 0));
}

#[test]
fn a_secret_in_a_name_does_not_reach_a_name_server() {
    let names = NameServer::start(|_, _| Some(vec![Ipv4Addr::new(93, 184, 216, 34)]));
    let guest = reaching("exfiltrates-by-dns", json!(["https://ok.test"]), json!({}));
    let ran = Scene::new().node(dns(&names)).bad(guest, &["the secret", "another", "ok"]).run();
    assert_eq!(names.queries(), 0, "{:?}", names.asked());
    refused_with(&ran, "permanent-resolver-failure", 2);
    assert_eq!(ran.count("dns.denied", "rule.no_match"), 2, "{:#?}", ran.tally());
    ran.assert_nothing_left();
}

#[test]
fn lookups_without_end_meet_their_rate() {
    let names = NameServer::start(|_, _| Some(vec![Ipv4Addr::new(93, 184, 216, 34)]));
    let guest = reaching(
        "resolves-forever",
        json!(["tcp://*.ok.test:443"]),
        json!({ "config": { "zone": "ok.test" }, "limits": { "deadline": "500ms", "lookups": 5, "host_calls": 1_000_000 } }),
    );
    let ran = Scene::new().node(dns(&names)).bad(guest, &["resolve", "ok"]).run();
    assert!(names.asked().len() <= 8, "five at once and five a second: {:?}", names.asked());
    let letters = ran.letters("bad");
    assert_eq!(letters.len(), 1);
    assert!(["deadline", "fuel", "host_calls"].contains(&letters[0].reason.as_str()), "{letters:#?}");
    assert!(ran.count("dns.denied", "quota.dns") > 100, "{:#?}", ran.tally());
    assert_eq!(ran.count("dns.lookup", "") as usize, names.asked().len(), "{:#?}", ran.tally());
    assert_eq!(budget(ran.budgets()[0])["scope"], "plugin");
}

#[test]
fn an_address_by_itself_is_refused_where_a_name_was_granted() {
    let (names, decoy) = (NameServer::ok_test(), Server::decoy());
    let rule = json!([{ "allow": format!("tcp://ok.test:{}", decoy.port()), "addresses": ["127.0.0.0/8"] }]);
    let guest = reaching("skips-the-name", rule, json!({ "config": { "address": decoy.address } }));
    let ran = Scene::new().node(dns(&names)).bad(guest, &["connect"]).run();
    assert_eq!((decoy.connections(), names.queries()), (0, 0));
    refused_with(&ran, "access-denied", 1);
    assert_eq!(ran.count("net.connect.denied", "dns.unpinned"), 1, "{:#?}", ran.tally());
}

#[test]
fn a_name_that_turns_inside_takes_nobody_there() {
    let outside = Server::decoy();
    let inside = Server::decoy_at((Ipv4Addr::new(127, 0, 0, 2), outside.port()).into());
    // At first the good address comes with one that is inside, later the one that is inside comes alone.
    let names = NameServer::start(|_, before| {
        let inside = Ipv4Addr::new(127, 0, 0, 2);
        Some(if before == 0 { vec![Ipv4Addr::LOCALHOST, inside] } else { vec![inside] })
    });
    let rule = json!([{
        "allow": format!("tcp://ok.test:{}", outside.port()), "addresses": ["127.0.0.1/32"], "ttl": "5s..5s",
    }]);
    let config = json!({ "config": { "name": "ok.test", "port": outside.port(), "inside": "127.0.0.2" } });
    // Six seconds lie between two messages, and an answer holds for five.
    let source = counted(2, "10/min", "{{seq}}");
    let ran = Scene::new()
        .node(dns(&names))
        .pipeline_from("bad", "a", source, json!({ "lanes": 1 }), reaching("rebinds", rule, config))
        .run();
    assert_eq!((inside.connections(), outside.connections()), (0, 1), "{:#?}", ran.letters("bad"));
    let letters = ran.letters("bad");
    let got: Vec<_> =
        letters.iter().map(|letter| (letter.code.as_str(), letter.detail.split(':').next().unwrap())).collect();
    assert_eq!(got, [("access-denied", "the address alone"), ("name-unresolvable", "the name")], "{:#?}", ran.tally());
    assert_eq!((ran.count("net.connect.allowed", ""), ran.count("net.close", "")), (1, 1), "{:#?}", ran.tally());
    assert_eq!(ran.count("net.connect.denied", "addr.loopback"), 1, "{:#?}", ran.tally());
    let lookups = ran.events("dns.lookup");
    assert_eq!(lookups.len(), 2, "{:#?}", ran.tally());
    for lookup in lookups {
        assert!(lookup["firewall_rule"]["match_details"].to_string().contains("dropped:127.0.0.2:"), "{lookup:#}");
    }
}

#[test]
fn datagrams_to_a_resolver_are_refused_before_they_leave() {
    let decoy = Mailbox::decoy();
    let guest = reaching("sends-udp-to-a-resolver", any_public(), json!({ "config": { "to": decoy.address } }));
    let ran = Scene::new().bad(guest, &["secret", "secret"]).run();
    assert_eq!(decoy.seen(), []);
    refused_with(&ran, "access-denied", 2);
    assert_eq!(ran.count("net.udp.denied", "addr.loopback"), 2, "{:#?}", ran.tally());
    let public =
        reaching("sends-udp-to-a-resolver", json!([{ "allow": "udp://0.0.0.0/0:*", "dangerous": true }]), json!({}));
    let ran = Scene::new().bad(public, &["secret"]).run();
    refused_with(&ran, "access-denied", 1);
    assert_eq!(ran.count("net.udp.denied", "rule.dns_port"), 1, "{:#?}", ran.tally());
}

#[test]
fn sockets_that_stay_open_are_bounded_and_end_with_their_instance() {
    let decoy = Server::decoy();
    let guest = reaching(
        "leaves-sockets-open",
        json!([tcp(decoy.address)]),
        json!({ "config": { "to": decoy.address }, "limits": { "connections": 3, "connects": "100/s" } }),
    );
    let ran = Scene::new().bad(guest, &["open"; 6]).run();
    assert_eq!(decoy.connections(), 3);
    assert_eq!(ran.values("bad").len(), 3);
    refused_with(&ran, "new-socket-limit", 3);
    assert_eq!(ran.count("net.connect.denied", "quota.sockets"), 3, "{:#?}", ran.tally());
    assert_eq!((ran.count("net.connect.allowed", ""), ran.count("net.close", "")), (3, 3), "{:#?}", ran.tally());
    assert_eq!(ran.budgets()[0]["status_code"], "quota.sockets");
}

#[test]
fn a_storm_of_connects_that_nobody_finishes_meets_its_limits() {
    let decoy = Server::decoy();
    let guest = reaching(
        "storms-half-open-connects",
        json!([tcp(decoy.address)]),
        json!({ "config": { "to": decoy.address } }),
    );
    let ran = Scene::new().bad(guest, &["storm", "ok"]).run();
    assert!(decoy.connections() <= 8, "{}", decoy.connections());
    refused_with(&ran, "new-socket-limit", 1);
    assert_eq!(ran.letters("bad")[0].detail, "after 8");
    assert_eq!(ran.count("net.connect.allowed", ""), 8, "{:#?}", ran.tally());
    assert_eq!(ran.count("net.close", "") + ran.count("net.connect.failed", ""), 8, "{:#?}", ran.tally());
}

#[test]
fn a_redirect_is_the_guests_to_follow_and_each_step_of_it_is_decided() {
    let server = Server::start(|_| response("302 Found", "location: http://169.254.169.254/latest/meta-data/\r\n", ""));
    let guest = reaching(
        "follows-a-redirect-to-metadata",
        json!([http(&server)]),
        json!({ "config": { "url": url(&server) } }),
    );
    let ran = Scene::new().bad(guest, &["follow"]).run();
    assert_eq!(server.seen().len(), 1);
    refused_with(&ran, "destination-IP-prohibited", 1);
    assert!(ran.letters("bad")[0].detail.starts_with("request 1"), "{:#?}", ran.letters("bad"));
    assert_eq!(
        (ran.count("http.allowed", ""), ran.count("http.denied", "addr.metadata")),
        (1, 1),
        "{:#?}",
        ran.tally()
    );
    assert_eq!(ran.events("http.denied")[0]["is_alert"], true);
}

#[test]
fn the_host_header_is_the_hosts() {
    let server = Server::start(|_| response("200 OK", "", "here"));
    let config = json!({ "config": { "url": url(&server) } });
    let ran = Scene::new().bad(reaching("overrides-host", json!([http(&server)]), config), &["override"]).run();
    assert_eq!(server.connections(), 0);
    let letters = ran.letters("bad");
    assert_eq!((letters.len(), letters[0].reason.as_str()), (1, "rejected"), "{letters:#?}");
    let others = json!({ "config": { "url": url(&server), "names": ["x-forwarded-host", "forwarded", "x-host"] } });
    let ran = Scene::new().bad(reaching("overrides-host", json!([http(&server)]), others), &["override"]).run();
    assert_eq!(ran.values("bad"), ["override"], "{:#?}", ran.letters("bad"));
    let seen = server.seen().join("").to_ascii_lowercase();
    assert_eq!(seen.matches("\r\nhost: ").count(), 1, "{seen}");
    assert!(seen.contains(&format!("\r\nhost: {}\r\n", server.address)), "{seen}");
}

#[test]
fn a_flood_of_headers_does_not_leave() {
    let server = Server::start(|_| response("200 OK", "", ""));
    for count in [129, 10_000, 32_769] {
        let more = json!({ "config": { "url": url(&server), "count": count, "bytes": 1 }, "limits": { "fuel": 100_000_000_000_u64, "deadline": "20s", "host_calls": 10_000_000 } });
        let ran = Scene::new().bad(reaching("floods-headers", json!([http(&server)]), more), &["flood", "ok"]).run();
        assert_eq!(server.connections(), 0);
        let letters = ran.letters("bad");
        assert_eq!(letters.len(), 1, "{:#?}", ran.tally());
        if count < 1000 {
            assert_eq!(letters[0].code, "HTTP-request-header-section-size", "{letters:#?}");
            assert_eq!(ran.count("http.denied", "http.header_limit"), 1, "{:#?}", ran.tally());
        } else {
            assert_eq!(letters[0].reason, "trap", "{letters:#?}");
            assert_eq!(ran.count("plugin.trapped", "trap"), 1, "{:#?}", ran.tally());
        }
        assert_eq!(ran.values("bad"), ["ok"]);
        ran.assert_nothing_left();
    }
}

#[test]
fn a_response_without_an_end_costs_its_guest_and_nobody_else() {
    let server = Server::start(|_| Answer::Bomb);
    let more =
        json!({ "config": { "url": url(&server) }, "limits": { "fuel": 100_000_000_000_u64, "deadline": "20s" } });
    let ran = Scene::new().bad(reaching("reads-a-response-bomb", json!([http(&server)]), more), &["read", "ok"]).run();
    assert!(server.sent() < 128 << 20, "{} bytes", server.sent());
    let letters = ran.letters("bad");
    assert_eq!(letters.len(), 1, "{letters:#?}");
    assert!(letters[0].reason == "memory" || letters[0].code == "HTTP-response-body-size", "{letters:#?}");
    assert_eq!((ran.count("http.allowed", ""), ran.count("http.request", "")), (1, 1), "{:#?}", ran.tally());
    assert_eq!(ran.values("bad"), ["ok"]);
}

#[test]
fn a_response_that_trickles_ends_with_the_deadline() {
    let server = Server::start(|_| Answer::Drip(Duration::from_millis(50)));
    let more = json!({ "config": { "url": url(&server) }, "limits": { "deadline": "700ms" } });
    let ran = Scene::new().bad(reaching("reads-a-response-bomb", json!([http(&server)]), more), &["read", "ok"]).run();
    assert!(server.sent() < 1000, "{}", server.sent());
    ended_with_its_deadline(&ran, "HTTP-response-timeout");
}

#[test]
fn a_body_without_an_end_is_cut_with_the_deadline_and_not_sent_as_a_whole() {
    let server = Server::decoy();
    let more = json!({ "grants": { "clock": "coarse" }, "config": { "authority": server.address, "plain": true, "pause_ms": 20 }, "limits": { "deadline": "700ms" } });
    let ran = Scene::new().bad(reaching("never-ends-its-body", json!([http(&server)]), more), &["send", "ok"]).run();
    let seen = server.seen();
    assert_eq!(seen.len(), 1);
    assert!(!seen[0].contains("\r\n0\r\n"), "the end of a chunked body: {}", seen[0]);
    ended_with_its_deadline(&ran, "closed");
}

/// No request lives longer than its call: whichever of the two is seen to end first, the guest got no answer, and it is known.
fn ended_with_its_deadline(ran: &Ran, code: &str) {
    let letters = ran.letters("bad");
    assert_eq!(letters.len(), 1, "{letters:#?}");
    let by_the_call = letters[0].reason == "deadline";
    assert!(by_the_call || letters[0].code == code, "{letters:#?}");
    assert_eq!(ran.count("budget.exceeded", "deadline"), u64::from(by_the_call), "{:#?}", ran.tally());
    assert_eq!((ran.count("http.allowed", ""), ran.count("http.request", "")), (1, 1), "{:#?}", ran.tally());
    assert_eq!(ran.values("bad"), ["ok"]);
}

/// The node's part that names the name server.
pub(super) fn dns(names: &NameServer) -> Value {
    json!({ "egress": { "dns": { "servers": [names.address()] } } })
}

pub(super) fn tcp(address: SocketAddr) -> String {
    format!("tcp://{address}")
}

pub(super) fn http(server: &Server) -> String {
    format!("http://{}", server.address)
}

pub(super) fn url(server: &Server) -> String {
    format!("http://{}/", server.address)
}
